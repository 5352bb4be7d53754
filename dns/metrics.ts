// Prometheus metrics of the DNS server: the threads count in shared memory, this file turns the cells into series when
// they are collected. Names keep CoreDNS's meaning behind the netloom_dns_ prefix, so that dashboards carry over.
// Called by dns/server.ts.

import { Counter, Gauge, Histogram, type Registry } from '../api/prom-metrics.ts';
import { cells, countedRcodes, countedTypes, durationBuckets, durationStart, families, protocols, readHistogram, sides, sizeBuckets } from './counters.ts';
import type { DnsStatus } from './server.ts';

export interface DnsMetricsOptions { threadCount: number; restartCount(): number; status(): Promise<DnsStatus> }

/** Programming latency in seconds: 1 ms to about 1,000 s, doubling (CoreDNS's buckets). */
const programmingBuckets: readonly number[] = Array.from({ length: 20 }, (_, index) => 0.001 * 2 ** index);

/** Counters taken over as they are: cell, metric name, help. */
const plainCounters: readonly (readonly [keyof typeof cells, string, string])[] = [
  ['drops', 'packets_dropped_total', 'Packets that deserve no reply: too short, or replies themselves.'],
  ['rateLimited', 'replies_limited_total', 'UDP replies held back from sources over their rate.'],
  ['truncated', 'replies_truncated_total', 'Replies with TC set.'],
  ['panics', 'panics_total', 'Queries that failed inside.'],
  ['sendErrors', 'send_errors_total', 'Replies that the system refused to send.'],
  ['connectionsRefused', 'connections_refused_total', 'TCP, TLS and HTTPS connections over a limit or broken in the handshake.'],
  ['autopath', 'autopath_success_total', 'Queries whose search path was walked by the server.'],
  ['searchWaste', 'search_path_misses_total', 'Queries for names that only a search list can have made.'],
  ['hotHits', 'compiled_answers_total', 'Queries answered from the table of compiled answers.'],
  ['cacheMisses', 'cache_misses_total', 'Lookups of outside names that were not cached.'],
  ['cacheStale', 'cache_served_stale_total', 'Expired answers served because upstreams failed.'],
  ['cachePrefetches', 'cache_prefetch_total', 'Cached answers renewed before they expired.'],
  ['cacheEvictions', 'cache_evictions_total', 'Cached answers removed to make room.'],
  ['forwardRefused', 'forward_max_concurrent_rejects_total', 'Queries refused because too many waited for upstreams.'],
];

const plainGauges: readonly (readonly [keyof typeof cells, string, string])[] = [
  ['cacheBytes', 'cache_bytes', 'Memory of the cache of outside names.'],
  ['forwardInFlight', 'forward_in_flight', 'Questions that wait for upstreams.'],
  ['services', 'services', 'Services in the zone.'],
  ['hotEntries', 'compiled_answer_entries', 'Answers in the compiled table.'],
  ['tcpConnections', 'tcp_connections', 'Open TCP and TLS connections.'],
];

export class DnsMetrics {
  readonly #options: DnsMetricsOptions;
  readonly #rows: (Float64Array | undefined)[] = [];
  /** Sums of threads that have ended: counters never go back. */
  readonly #past: Float64Array = new Float64Array(cells.total);
  readonly #programming: Histogram<'service_kind'>;

  constructor(options: DnsMetricsOptions) {
    this.#options = options;
    this.#programming = new Histogram({
      name: 'netloom_dns_programming_duration_seconds', help: 'Time from the cause of a change (endpoint trigger, else the watch event) until it is answered.',
      labelNames: ['service_kind'], buckets: [...programmingBuckets], registers: [],
    });
  }

  /** A thread (re)started with these counters. */
  setThread(index: number, buffer: SharedArrayBuffer): void {
    const old = this.#rows[index];
    if (old !== undefined) for (const [cell, value] of old.entries()) this.#past[cell] = (this.#past[cell] ?? 0) + value;
    this.#rows[index] = new Float64Array(buffer);
  }

  observeProgramming(kind: string, seconds: number): void { this.#programming.observe({ service_kind: kind }, seconds); }

  /** Sum of one cell over all threads, past ones included for counters. */
  value(cell: number, isGauge = false): number {
    return this.#rows.reduce((sum, row) => sum + (row?.[cell] ?? 0), isGauge ? 0 : (this.#past[cell] ?? 0));
  }

  /** The few numbers that status shows. */
  counts(): DnsStatus['counts'] {
    const responses = (rcode: (typeof countedRcodes)[number]): number => sides.reduce((sum, _, side) => sum + this.value(cells.responses + side * countedRcodes.length + countedRcodes.indexOf(rcode)), 0);
    return {
      queries: countedRcodes.reduce((sum, rcode) => sum + responses(rcode), 0), nxdomain: responses('NXDOMAIN'), servfail: responses('SERVFAIL'), refused: responses('REFUSED'),
      searchPathMisses: this.value(cells.searchWaste), autopath: this.value(cells.autopath),
      cacheHits: this.value(cells.cacheHits) + this.value(cells.cacheDenialHits), servedStale: this.value(cells.cacheStale),
    };
  }

  register(registry: Registry): void {
    registry.registerMetric(this.#programming);
    const registers = [registry];
    for (const [cell, name, help] of plainCounters) counterOf(`netloom_dns_${name}`, help, registers, (metric) => metric.inc(this.value(cells[cell])));
    for (const [cell, name, help] of plainGauges) {
      const metric: Gauge = new Gauge({ name: `netloom_dns_${name}`, help, registers, collect: () => metric.set(this.value(cells[cell], true)) });
    }
    counterOf('netloom_dns_thread_restarts_total', 'DNS threads restarted after a fault.', registers, (metric) => metric.inc(this.#options.restartCount()));
    this.#registerRequests(registers);
    this.#registerResponses(registers);
    this.#registerCache(registers);
    this.#registerUpstreams(registers);
    for (const [side, name] of sides.entries()) {
      registerHistogram(registers, `netloom_dns_${name === 'forward' ? 'forward_' : ''}request_duration_seconds`, 'Time to answer, of a sample of one in 16 where answers come from memory.', durationBuckets, () => this.#histogram(durationStart(side), durationBuckets));
    }
    registerHistogram(registers, 'netloom_dns_request_size_bytes', 'Size of queries.', sizeBuckets, () => this.#histogram(cells.requestSizes, sizeBuckets));
    registerHistogram(registers, 'netloom_dns_response_size_bytes', 'Size of replies.', sizeBuckets, () => this.#histogram(cells.responseSizes, sizeBuckets));
  }

  #histogram(start: number, buckets: readonly number[]): ReturnType<typeof readHistogram> {
    const row = Float64Array.from({ length: buckets.length + 3 }, (_, index) => this.value(start + index));
    return readHistogram(row, 0, buckets);
  }

  #registerRequests(registers: Registry[]): void {
    counterOf('netloom_dns_requests_total', 'Queries by transport, address family and type.', registers, (metric) => {
      let cell = cells.requests;
      for (const proto of protocols) for (const family of families) for (const type of countedTypes) {
        const value = this.value(cell++);
        if (value > 0) metric.inc({ proto, family, type }, value);
      }
    }, ['proto', 'family', 'type']);
  }

  #registerResponses(registers: Registry[]): void {
    counterOf('netloom_dns_responses_total', 'Replies by response code, for cluster names and for others.', registers, (metric) => {
      let cell = cells.responses;
      for (const zone of sides) for (const rcode of countedRcodes) {
        const value = this.value(cell++);
        if (value > 0) metric.inc({ zone, rcode }, value);
      }
    }, ['zone', 'rcode']);
  }

  #registerCache(registers: Registry[]): void {
    counterOf('netloom_dns_cache_hits_total', 'Outside names answered from the cache.', registers, (metric) => {
      metric.inc({ type: 'success' }, this.value(cells.cacheHits));
      metric.inc({ type: 'denial' }, this.value(cells.cacheDenialHits));
    }, ['type']);
    const entries: Gauge<'type'> = new Gauge({
      name: 'netloom_dns_cache_entries', help: 'Answers in the cache of outside names.', labelNames: ['type'], registers,
      collect: () => {
        entries.set({ type: 'success' }, this.value(cells.cacheEntries, true));
        entries.set({ type: 'denial' }, this.value(cells.cacheDenialEntries, true));
      },
    });
  }

  #registerUpstreams(registers: Registry[]): void {
    const latency: Gauge<'to'> = new Gauge({ name: 'netloom_dns_forward_latency_seconds', help: 'Smoothed answer time of each upstream.', labelNames: ['to'], registers });
    const failures: Gauge<'to'> = new Gauge({ name: 'netloom_dns_forward_failures', help: 'Failed queries of each upstream since start.', labelNames: ['to'], registers });
    const up: Gauge<'to'> = new Gauge({
      name: 'netloom_dns_forward_up', help: '1 when the upstream is used, 0 when it is down or leads back here.', labelNames: ['to'], registers,
      collect: async () => {
        for (const upstream of (await this.#options.status()).upstreams) {
          up.set({ to: upstream.name }, upstream.isDown || upstream.isLoop ? 0 : 1);
          latency.set({ to: upstream.name }, upstream.latencyMs / 1000);
          failures.set({ to: upstream.name }, upstream.failureCount);
        }
      },
    });
  }
}

/** A counter that is filled anew at each collection. */
function counterOf<L extends string = never>(name: string, help: string, registers: Registry[], fill: (metric: Counter<L>) => void, labelNames: readonly L[] = []): void {
  const metric: Counter<L> = new Counter<L>({
    name, help, labelNames: [...labelNames], registers,
    collect: () => {
      metric.reset();
      fill(metric);
    },
  });
}

/** A histogram whose buckets are given, not observed: prom-client has no way to set them, so a metric of its shape is registered. */
function registerHistogram(registers: Registry[], name: string, help: string, buckets: readonly number[], read: () => ReturnType<typeof readHistogram>): void {
  const get = async (): Promise<object> => {
    const { counts, sum, count } = read();
    let running = 0;
    const values = counts.map((value, index) => {
      running += value;
      return { labels: { le: buckets[index] ?? '+Inf' }, value: running, metricName: `${name}_bucket` };
    });
    return { name, help, type: 'histogram', aggregator: 'sum', values: [...values, { labels: {}, value: sum, metricName: `${name}_sum` }, { labels: {}, value: count, metricName: `${name}_count` }] };
  };
  const metric = { name, help, type: 'histogram', aggregator: 'sum', get, reset: () => {} };
  for (const registry of registers) registry.registerMetric(metric as unknown as Histogram);
}
