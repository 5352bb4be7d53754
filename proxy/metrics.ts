// Metrics of the sync loop under kube-proxy's names, so that dashboards made for it go on working, and of the engines.
// Called by proxier; prom-client's door in this folder. Label values: ip_family, traffic_policy, protocol family only.
// Source: kubernetes pkg/proxy/metrics.

import { Counter, Gauge, Histogram, type Registry } from '../api/prom-metrics.ts';

/** The registry that metrics are added to, for callers that may not import prom-client. */
export type MetricsRegistry = Registry;

/** Services with a label of their own in one scrape. */
const serviceLabelsMax = 4_096;

/** 1 ms doubled 14 times. */
const syncBuckets = Array.from({ length: 15 }, (_unused, index) => 0.001 * 2 ** index);
const programmingBuckets = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, ...range(1, 59, 1), ...range(60, 115, 5), ...range(120, 300, 30)];

function range(from: number, to: number, step: number): number[] {
  const list: number[] = [];
  for (let value = from; value <= to; value += step) list.push(value);
  return list;
}

/** Read at scrape time. */
export interface ProxyMetricsSource {
  readonly pendingCount: number;
  readonly serviceCount: number;
  readonly failedCount: number;
  readonly elementCount: number;
  readonly driftCount: number;
  readonly conntrackDeletedCount: number;
  dropping(policy: 'internal' | 'external'): number;
  /** Totals of the kernel engine by Service; undefined without it. */
  kernelCounters?(): Promise<ReadonlyMap<string, { connections: number; refused: number }>[]>;
}

export class ProxyMetrics {
  readonly #sync: Histogram;
  readonly #full: Histogram;
  readonly #partial: Histogram;
  readonly #programming: Histogram;
  readonly #lastSync: Gauge;
  readonly #lastQueued: Gauge;
  readonly #changes: Counter;
  readonly #failures: Counter;
  readonly #operations: Counter;

  constructor(registry: Registry, source: ProxyMetricsSource) {
    const registers = [registry];
    const seconds = (name: string, help: string, buckets: number[]): Histogram => new Histogram({ name: `kubeproxy_${name}`, help, buckets, registers });
    this.#sync = seconds('sync_proxy_rules_duration_seconds', 'time of one sync', syncBuckets);
    this.#full = seconds('sync_full_proxy_rules_duration_seconds', 'time of one full sync', syncBuckets);
    this.#partial = seconds('sync_partial_proxy_rules_duration_seconds', 'time of one partial sync', syncBuckets);
    this.#programming = seconds('network_programming_duration_seconds', 'from the change of an endpoint to its rule', programmingBuckets);
    this.#lastSync = new Gauge({ name: 'kubeproxy_sync_proxy_rules_last_timestamp_seconds', help: 'wall time of the last sync that succeeded', registers });
    this.#lastQueued = new Gauge({ name: 'kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds', help: 'wall time when a sync was last asked for', registers });
    this.#changes = new Counter({ name: 'kubeproxy_sync_proxy_rules_service_changes_total', help: 'Services whose joined state changed', registers });
    this.#failures = new Counter({ name: 'kubeproxy_sync_proxy_rules_nftables_sync_failures_total', help: 'syncs that applied nothing', registers });
    this.#operations = new Counter({ name: 'netloom_proxy_operations_total', help: 'element operations and listener changes made', registers });
    const gauges: [string, string, () => number][] = [
      ['kubeproxy_sync_proxy_rules_service_changes_pending', 'Services that wait for a sync', () => source.pendingCount],
      ['kubeproxy_sync_proxy_rules_endpoint_changes_pending', 'Services with endpoint changes that wait for a sync', () => source.pendingCount],
      ['netloom_proxy_services', 'Services known', () => source.serviceCount],
      ['netloom_proxy_services_failed', 'Services not wholly applied', () => source.failedCount],
      ['netloom_proxy_nftables_elements', 'map elements in the kernel', () => source.elementCount],
      ['netloom_proxy_drift_repairs_total', 'times that rules changed by others were restored', () => source.driftCount],
      ['kubeproxy_conntrack_reconciler_deleted_entries_total', 'UDP flows removed since their endpoint no longer serves', () => source.conntrackDeletedCount],
    ];
    for (const [name, help, read] of gauges) new Gauge({ name, help, registers, collect() { this.set(read()); } });
    for (const [column, help] of [['connections', 'new connections to addresses of a Service, seen by the kernel rules'], ['refused', 'connections refused by the kernel rules, since the Service has no endpoint']] as const) {
      new Counter({
        name: `netloom_proxy_kernel_${column}_total`, help, labelNames: ['service'], registers,
        async collect() {
          this.reset();
          let labels = 0;
          for (const totals of await source.kernelCounters?.() ?? []) for (const [service, count] of totals) {
            if (count[column] > 0 && labels++ < serviceLabelsMax) this.inc({ service }, count[column]);
          }
        },
      });
    }
    new Gauge({
      name: 'kubeproxy_sync_proxy_rules_no_local_endpoints_total', help: 'Services that drop traffic for want of a local endpoint', labelNames: ['traffic_policy'], registers,
      collect() { for (const policy of ['internal', 'external'] as const) this.set({ traffic_policy: policy }, source.dropping(policy)); },
    });
  }

  queued(wallMs: number): void { this.#lastQueued.set(wallMs / 1000); }
  failed(): void { this.#failures.inc(); }

  synced(durationMs: number, isFull: boolean, changeCount: number, operationCount: number, wallMs: number): void {
    this.#sync.observe(durationMs / 1000);
    (isFull ? this.#full : this.#partial).observe(durationMs / 1000);
    this.#changes.inc(changeCount);
    this.#operations.inc(operationCount);
    this.#lastSync.set(wallMs / 1000);
  }

  programmed(durationMs: number): void { this.#programming.observe(Math.max(0, durationMs) / 1000); }
}
