// The DNS thread: builds the zone from the main thread's messages, opens the listeners when told to, and drains them at
// the end. Listening starts only after the first state, so that a successor that shares the port never answers from an
// empty table. Started by api/workers.ts as channel "dns"; the main side is dns/server.ts.

import { parseCIDR } from '../api/address.ts';
import type { WorkerContext, WorkerSide } from '../api/workers.ts';
import { AddressList, RateLimiter } from './engine/access.ts';
import { cells, Counters } from './counters.ts';
import { Engine } from './engine/engine.ts';
import { Forwarder } from './forward/forwarder.ts';
import type { UpstreamAddress } from './forward/upstream.ts';
import { HostTable } from './engine/hosts.ts';
import { Listeners, type ListenAddress, type ListenPlan } from './listeners.ts';
import { SlowPath } from './engine/slow-path.ts';
import { TopNames, type NameCount } from './engine/top-names.ts';
import { Transfer } from './engine/transfer.ts';
import { CookieJar } from './wire/cookies.ts';
import type { ZoneMessage } from './zone/records.ts';
import { Zone, type ZoneOptions } from './zone/zone.ts';

/** Start data of the thread; plain values only. */
export interface DnsWorkerData {
  readonly zone: ZoneOptions;
  readonly upstreams: readonly UpstreamAddress[];
  /** `[name key, upstreams]`. */
  readonly stubDomains: readonly (readonly [string, readonly UpstreamAddress[]])[];
  readonly hostLines: readonly string[];
  readonly hostSearch: readonly string[];
  readonly recursionFrom: readonly string[];
  readonly transferTo: readonly string[];
  /** Networks that outside names may not point into; empty = no check. */
  readonly blockedAnswers: readonly string[];
  readonly repliesPerSecond: number;
  readonly cookieSecret: Uint8Array;
  readonly isAutopathOn: boolean;
  readonly isStaleServed: boolean;
  readonly udpLimit: number;
}

export type DnsRequest = ZoneMessage | { readonly type: 'listen'; readonly plan: ListenPlan } | { readonly type: 'describe'; readonly sequence: number }
  /** A loop probe came in at some thread: the one that sent it drops its upstream. */
  | { readonly type: 'probeSeen'; readonly key: string };

/** State of one upstream, for status and metrics. */
export interface UpstreamState {
  readonly name: string; readonly isDown: boolean; readonly isLoop: boolean; readonly latencyMs: number; readonly queryCount: number; readonly failureCount: number; readonly mismatchCount: number;
}

export type DnsReport =
  | { readonly type: 'probeSeen'; readonly key: string }
  | { readonly type: 'counters'; readonly buffer: SharedArrayBuffer }
  | { readonly type: 'applied'; readonly sequence: number }
  | { readonly type: 'listening'; readonly addresses: readonly ListenAddress[]; readonly tls: readonly ListenAddress[]; readonly https: readonly ListenAddress[] }
  | { readonly type: 'failed'; readonly code: string; readonly text: string; readonly address: string; readonly port: number }
  | { readonly type: 'described'; readonly sequence: number; readonly topNames: readonly NameCount[]; readonly upstreams: readonly UpstreamState[]; readonly heapBytes: number };

const topNamesShown = 50;
const gaugePeriodMs = 1_000;

/** Builds everything of the thread and wires it together. */
function build(context: WorkerContext, data: DnsWorkerData, counters: Counters): { zone: Zone; engine: Engine; forwarder: Forwarder; topNames: TopNames } {
  const { clock, log } = context;
  const zone = new Zone(data.zone);
  const blocked = data.blockedAnswers.map(parseCIDR).filter((network) => network !== undefined);
  const forwarder = new Forwarder({
    upstreams: data.upstreams, stubDomains: new Map(data.stubDomains), isStaleServed: data.isStaleServed, clock, log,
    onForeignProbe: context.count === 1 ? undefined : (key) => context.post({ type: 'probeSeen', key } satisfies DnsReport),
    isAddressBlocked: blocked.length === 0 ? undefined : (address) => blocked.some((network) => isInside(address, network.bytes, network.prefixLength)),
  });
  const recursionFrom = new AddressList(data.recursionFrom);
  const topNames = new TopNames();
  const slowPath = new SlowPath({
    zone, forwarder, hosts: new HostTable(data.hostLines), recursionFrom, hostSearch: data.hostSearch, isAutopathOn: data.isAutopathOn,
    onSearchWaste: () => counters.add(cells.searchWaste), onAutopath: () => counters.add(cells.autopath), monotonicMs: () => clock.monotonicMs(),
  });
  const engine = new Engine({
    zone, slowPath, transfer: new Transfer(zone, new AddressList(data.transferTo)), cookies: new CookieJar(data.cookieSecret),
    limiter: new RateLimiter(data.repliesPerSecond), trusted: recursionFrom, counters, topNames, isRecursive: forwarder.isEnabled, udpLimit: data.udpLimit, clock, log,
  });
  return { zone, engine, forwarder, topNames };
}

export function startWorker(context: WorkerContext): WorkerSide {
  const data = context.data as DnsWorkerData;
  const counters = new Counters();
  const { zone, engine, forwarder, topNames } = build(context, data, counters);
  const report = (message: DnsReport): void => context.post(message);
  const listeners = new Listeners(engine, context.clock);
  const publishGauges = (): void => {
    engine.tick();
    copyGauges(counters, zone, forwarder);
    counters.cells[cells.tcpConnections] = listeners.connectionCount;
    counters.cells[cells.sendErrors] = listeners.sendErrorCount;
  };
  const timer = context.clock.every(gaugePeriodMs, publishGauges);

  const listen = async (plan: ListenPlan): Promise<void> => {
    try {
      const bound = await listeners.open(plan);
      forwarder.start();
      report({ type: 'listening', ...bound });
    } catch (error) {
      const { code = '', message, address = '', port = 0 } = error as NodeJS.ErrnoException & { address?: string; port?: number };
      report({ type: 'failed', code, text: message, address, port });
    }
  };

  report({ type: 'counters', buffer: counters.buffer });
  return {
    receive(message): void {
      const request = message as DnsRequest;
      if (request.type === 'listen') void listen(request.plan);
      else if (request.type === 'probeSeen') forwarder.noteProbe(request.key);
      else if (request.type === 'barrier') report({ type: 'applied', sequence: request.sequence });
      else if (request.type === 'describe') {
        publishGauges();
        report({ type: 'described', sequence: request.sequence, topNames: topNames.top(topNamesShown), upstreams: forwarder.upstreams.map(stateOf), heapBytes: heapBytes() });
      } else zone.apply(request);
    },
    async stop(drainMs): Promise<void> {
      await listeners.drain(drainMs, () => forwarder.flightCount === 0);
      forwarder.stop();
      timer.cancel();
    },
  };
}

function copyGauges(counters: Counters, zone: Zone, forwarder: Forwarder): void {
  const row = counters.cells;
  row[cells.cacheHits] = forwarder.hitCount;
  row[cells.cacheDenialHits] = forwarder.denialHitCount;
  row[cells.cacheMisses] = forwarder.missCount;
  row[cells.cacheStale] = forwarder.staleCount;
  row[cells.cachePrefetches] = forwarder.prefetchCount;
  row[cells.cacheEvictions] = forwarder.cache.evictionCount;
  row[cells.cacheEntries] = forwarder.cache.positiveCount;
  row[cells.cacheDenialEntries] = forwarder.cache.negativeCount;
  row[cells.cacheBytes] = forwarder.cache.bytes;
  row[cells.forwardRefused] = forwarder.refusedCount;
  row[cells.forwardInFlight] = forwarder.flightCount;
  row[cells.services] = zone.services.size;
  row[cells.hotEntries] = zone.hotCount;
}

function stateOf(upstream: Forwarder['upstreams'][number]): UpstreamState {
  const { name, isDown, isLoop, latencyMs, queryCount, failureCount, mismatchCount } = upstream;
  return { name, isDown, isLoop, latencyMs, queryCount, failureCount, mismatchCount };
}

function heapBytes(): number {
  const { heapTotal, external } = process.memoryUsage();
  return heapTotal + external;
}

function isInside(address: Uint8Array, network: Uint8Array, prefixLength: number): boolean {
  if (address.length !== network.length) return false;
  for (let bit = 0; bit < prefixLength; bit += 8) {
    const keep = Math.min(8, prefixLength - bit);
    const mask = (0xff << (8 - keep)) & 0xff;
    if (((address[bit >> 3] ?? 0) & mask) !== ((network[bit >> 3] ?? 0) & mask)) return false;
  }
  return true;
}
