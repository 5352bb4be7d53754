// The cost of a request among 1, 100 and 10,000 routes: three processes of netloom that differ only in their Ingress
// objects, loaded in turns with the order reversed each round, asking for the last route.

import { resources } from '../../api/resources.ts';
import type { ApiClient } from '../../api/client.ts';
import type { KubeObject } from '../../api/types.ts';
import { makeBed } from '../lib/bed.ts';
import { runLoad } from '../lib/load.ts';
import { defaultPlan, type LoadPlan } from '../lib/plan.ts';
import { cpuMsOf, pinSelf } from '../lib/proc.ts';
import { median } from '../lib/report.ts';
import { netloom, type NetloomRunning } from '../peers/netloom.ts';
import type { SystemContext, SystemRow } from '../system-rows.ts';

const pathsPerIngress = 10;

interface Target { count: number; running: NetloomRunning; plan: LoadPlan; cpu: number[]; p50: number[]; p99: number[] }

export const routesRow: SystemRow = {
  name: 'routes', title: 'Ingress request among 1, 100 and 10,000 routes', goal: 'the same per request, +-5 %', isHeavy: false,
  missing: () => undefined,
  async measure(context: SystemContext) {
    const { isSmoke, isQuick } = context;
    const { bed, stop } = await makeBed();
    const targets: Target[] = [];
    try {
      pinSelf(bed.loadCore);
      for (const count of isSmoke ? [1, 20] : [1, 100, 10_000]) {
        const running = await netloom('ingress').start(bed, 'http-routes') as NetloomRunning;
        const host = `host-${Math.ceil(count / pathsPerIngress) - 1}.example`;
        const plan: LoadPlan = { ...defaultPlan, host: running.host, port: running.port, serverName: host, path: `/part-${(count - 1) % pathsPerIngress}/items`, connections: 16, rate: isSmoke ? 200 : 3_000, durationMs: isSmoke ? 150 : isQuick ? 700 : 1_500 };
        targets.push({ count, running, plan, cpu: [], p50: [], p99: [] });
        await addRoutes(running.client, count);
        await answers(plan);
      }
      for (const target of targets) await runLoad({ ...target.plan, rate: 0, durationMs: isSmoke ? 50 : 1_000 });
      for (let round = 0; round < (isSmoke ? 1 : isQuick ? 3 : 5); round++) for (const target of round % 2 === 0 ? targets : [...targets].reverse()) await measure(target);
    } finally {
      for (const target of targets) await target.running.stop();
      await stop();
    }
    const base = median(targets[0]?.cpu ?? []);
    return Object.fromEntries(targets.flatMap(({ count, cpu, p50, p99 }) => {
      const name = `${count.toLocaleString('en')} routes`;
      return [[`${name}: CPU us per request`, `${median(cpu).toFixed(1)} (${((median(cpu) / base - 1) * 100).toFixed(1)} %)`], [`${name}: p50 / p99 ms at 3,000/s`, `${median(p50).toFixed(2)} / ${median(p99).toFixed(2)}`]];
    }));
  },
};

async function measure(target: Target): Promise<void> {
  const before = cpuMsOf(target.running.pid);
  const result = await runLoad(target.plan);
  if (result.errorCount > 0 || (result.statuses['200'] ?? 0) !== result.count) throw new Error(`${target.count} routes: ${JSON.stringify(result.errors)} ${JSON.stringify(result.statuses)}`);
  target.cpu.push(((cpuMsOf(target.running.pid) - before) * 1_000) / result.count);
  target.p50.push(result.latencyMs.p50);
  target.p99.push(result.latencyMs.p99);
}

async function addRoutes(client: ApiClient, count: number): Promise<void> {
  const hosts = Math.ceil(count / pathsPerIngress);
  let next = 0;
  await Promise.all(Array.from({ length: 16 }, async () => {
    for (let host = next++; host < hosts; host = next++) {
      const paths = Array.from({ length: Math.min(pathsPerIngress, count - host * pathsPerIngress) }, (_, index) => ({ path: `/part-${index}/items`, pathType: 'Prefix', backend: { service: { name: 'web', port: { number: 80 } } } }));
      await client.create(resources.ingresses, 'bench', { apiVersion: 'networking.k8s.io/v1', kind: 'Ingress', metadata: { name: `routes-${host}`, namespace: 'bench' }, spec: { rules: [{ host: `host-${host}.example`, http: { paths } }] } } as unknown as KubeObject);
    }
  }));
}

/** Waits until the last route answers 200. */
async function answers(plan: LoadPlan): Promise<void> {
  const deadline = performance.now() + 30_000;
  for (;;) {
    const once = await runLoad({ ...plan, connections: 1, rate: 0, durationMs: 1, timeoutMs: 2_000 });
    if ((once.statuses['200'] ?? 0) > 0) return;
    if (performance.now() > deadline) throw new Error(`the last route does not answer: ${JSON.stringify(once.statuses)}`);
    await new Promise((resolve) => { setTimeout(resolve, 50); });
  }
}
