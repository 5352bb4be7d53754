// What the kernel programs share: the real proxier over a world fed by hand, a backend on an address of the namespace,
// and the rate of new TCP connections to a place. Runs inside a network namespace made for it.

import { once } from 'node:events';
import { join } from 'node:path';
import { systemClock } from '../../../api/clock.ts';
import { silentLog } from '../../../api/log.ts';
import type { Node } from '../../../api/types.ts';
import { Proxier } from '../../../proxy/proxier.ts';
import { stopChild } from '../../lib/contender.ts';
import { runLoad } from '../../lib/load.ts';
import { defaultPlan } from '../../lib/plan.ts';
import { pinSelf, spawnPinned } from '../../lib/proc.ts';
import { makeSlice, serviceAddress, type World } from '../../lib/world.ts';

/** The only endpoint that answers; it stands behind Service 0. */
export const endpointIP = '10.244.250.2';
export interface Backend { port: number; stop(): Promise<void> }

/** Client, server and their kernel work share one core: connections per second is then what one connection costs. */
export async function startBackend(core: number): Promise<Backend> {
  pinSelf(core);
  const child = spawnPinned(core, process.execPath, [join(import.meta.dirname, '../../peers/programs/backend.ts'), endpointIP], { stdio: ['ignore', 'pipe', 'inherit'] });
  if (child.stdout === null) throw new Error('no output of the backends');
  const [line] = await once(child.stdout, 'data') as [Buffer];
  return { port: (JSON.parse(line.toString('utf8')) as { tcp: number }).tcp, stop: () => stopChild(child) };
}

/** Puts the real backend behind one Service. */
export function serveWith(world: World, index: number, port: number): void { world.slices.apply(makeSlice(index, [endpointIP], port)); }

export function makeProxier(world: World): Proxier {
  world.nodes.apply({ apiVersion: 'v1', kind: 'Node', metadata: { name: 'n1' } } as Node);
  return new Proxier({ view: world.view, nodes: world.nodes.as(), nodeName: 'n1', nodeIPs: [endpointIP], mode: 'nftables', bind: '0.0.0.0', isOwnedTableVanishing: true, serviceCIDRs: ['10.96.0.0/15'], clusterCIDRs: ['10.128.0.0/9'], clock: systemClock, log: silentLog });
}

/** New connections with one small exchange each, per second. Throws when an answer is missing. */
export async function connectionRate(host: string, port: number, durationMs: number): Promise<number> {
  const plan = { ...defaultPlan, protocol: 'tcp' as const, host, port, connections: 16, requestsPerConnection: 1, payload: 'x'.repeat(64), durationMs, timeoutMs: 3_000 };
  const result = await runLoad(plan);
  if (result.count === 0 || result.errorCount > 0) throw new Error(`${host}:${port}: ${result.count} answers, errors ${JSON.stringify(result.errors)}`);
  return result.perSecond;
}

/** Several measurements of connections per second; their median. Alternate over turns of the same list. */
export async function medianRates(places: readonly { host: string; port: number }[], durationMs: number, rounds: number): Promise<number[]> {
  const rates = places.map(() => [] as number[]);
  const first = places[0];
  if (first !== undefined) await connectionRate(first.host, first.port, durationMs);
  const turns = [...places.entries()];
  for (let round = 0; round < rounds; round++) {
    for (const [index, { host, port }] of round % 2 === 0 ? turns : [...turns].reverse()) rates[index]?.push(await connectionRate(host, port, durationMs));
  }
  return rates.map((values) => percentile(values, 0.5));
}

/** Connections per second through Service `index` and, beside it in turns, past the rules to its endpoint. */
export async function compareWithDirect(index: number, port: number, durationMs: number, rounds: number): Promise<{ service: number; direct: number }> {
  const [service = 0, direct = 0] = await medianRates([{ host: serviceAddress(index), port: 80 }, { host: endpointIP, port }], durationMs, rounds);
  return { service, direct };
}

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => { setTimeout(resolve, ms); });
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
}
