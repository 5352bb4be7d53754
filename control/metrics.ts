// The control plane's metrics: requests, limits, watches, the store. Names follow kube-apiserver's after our prefix.
// Numbers are kept by the parts themselves and read when they are scraped.

import { Counter, Gauge, Registry } from '../api/prom-metrics.ts';
import type { ApiServer } from './server/api-server.ts';
import type { Audit } from './server/audit.ts';
import type { Listener } from './server/http/listener.ts';
import type { Limiter } from './server/limits.ts';
import { durationBuckets, type RequestCounters } from './server/observer.ts';
import type { WatchSet } from './server/verbs/watch-set.ts';
import type { Storage } from './storage/store.ts';

export interface MeasuredParts { storage: Storage; counters: RequestCounters; limiter: Limiter; watches: WatchSet; listener: Listener; server: ApiServer; audit: Audit }

/** Adds the control plane's metrics to a registry. */
export function registerControlMetrics(registry: Registry, parts: MeasuredParts): void {
  registerRequests(registry, parts);
  registerStore(registry, parts.storage);
  gauge(registry, 'netloom_control_watches', 'Open watches', () => parts.watches.count);
  gauge(registry, 'netloom_control_connections', 'Open TLS connections', () => parts.listener.connectionCount);
  gauge(registry, 'netloom_control_requests_in_flight', 'Requests being worked on', () => parts.server.inFlightCount);
  gauge(registry, 'netloom_control_audit_dropped_lines', 'Audit lines dropped because the disk was too slow', () => parts.audit.droppedCount);
}

function registerRequests(registry: Registry, { counters, limiter }: MeasuredParts): void {
  const labelNames = ['verb', 'resource', 'code'] as const;
  new Counter({
    name: 'netloom_control_requests_total', help: 'Requests answered, by verb, resource and HTTP status', labelNames: [...labelNames], registers: [registry],
    collect(): void {
      this.reset();
      for (const { verb, resource, code, count } of counters.series()) this.inc({ verb, resource, code }, count);
    },
  });
  new Gauge({
    name: 'netloom_control_request_duration_seconds_sum', help: 'Time spent on requests', labelNames: [...labelNames], registers: [registry],
    collect(): void {
      for (const { verb, resource, code, sumSeconds } of counters.series()) this.set({ verb, resource, code }, sumSeconds);
    },
  });
  new Gauge({
    name: 'netloom_control_request_duration_seconds_bucket', help: 'Requests that took at most le seconds, all kinds together', labelNames: ['le'], registers: [registry],
    collect(): void {
      const totals = new Array<number>(durationBuckets.length).fill(0);
      for (const { buckets } of counters.series()) for (const [index, count] of buckets.entries()) totals[index] = (totals[index] ?? 0) + count;
      let running = 0;
      for (const [index, bound] of durationBuckets.entries()) this.set({ le: bound }, running += totals[index] ?? 0);
    },
  });
  new Counter({
    name: 'netloom_control_requests_refused_total', help: 'Requests refused with 429, by limit', labelNames: ['limit'], registers: [registry],
    collect(): void {
      this.reset();
      for (const [limit, count] of Object.entries(limiter.refused)) this.inc({ limit }, count);
    },
  });
}

function registerStore(registry: Registry, storage: Storage): void {
  gauge(registry, 'netloom_control_store_revision', 'Revision of the last write', () => storage.revision);
  gauge(registry, 'netloom_control_store_pending_writes', 'Writes that wait for a commit', () => storage.stats().pendingWriteCount);
  gauge(registry, 'netloom_control_store_commit_p99_seconds', 'Durable part of a commit, p99 of the last 1,024', () => storage.stats().commitMsP99 / 1000);
  gauge(registry, 'netloom_control_store_wal_bytes', 'Bytes in the write-ahead log', () => storage.stats().walBytes);
  gauge(registry, 'netloom_control_store_file_bytes', 'Bytes in the store file', () => storage.stats().fileBytes);
  gauge(registry, 'netloom_control_store_writable', '1 while the store takes writes', () => (storage.stats().isWritable ? 1 : 0));
  gauge(registry, 'netloom_control_store_slow_watchers_closed', 'Watchers closed because they fell behind the history', () => storage.stats().slowWatchersClosedCount);
  new Gauge({
    name: 'netloom_control_objects', help: 'Objects in the store, by resource', labelNames: ['resource'], registers: [registry],
    collect(): void { for (const [resource, kind] of Object.entries(storage.stats().kinds)) this.set({ resource }, kind.objectCount); },
  });
}

function gauge(registry: Registry, name: string, help: string, read: () => number): void {
  new Gauge({ name, help, registers: [registry], collect(): void { this.set(read()); } });
}

/** The text of /metrics of a control plane on its own. */
export async function renderMetrics(control: { registerMetrics(registry: Registry): void }): Promise<string> {
  const registry = new Registry();
  control.registerMetrics(registry);
  return registry.metrics();
}
