// Metrics of the Ingress controller, collected when somebody asks: counters come out of the workers' shared memory, labels
// from the objects that exist now, so label sets go away with their objects and their number is bounded.

import { Counter, Gauge, Histogram, type Registry } from '../api/prom-metrics.ts';
import { column, durationBuckets, limitNames, rowOffset, total } from './counters.ts';

export interface MetricSource {
  workers(): readonly Float64Array[];
  rows(): Iterable<{ row: number; object: string; service: string }>;
  objectCount(): number; hostCount(): number;
  tableAgeSeconds(): number;
  certificates(): Iterable<readonly [string, number]>;
}

/** Registers all metrics; returns what observes the time from an object's change to its routes being live. */
export function registerIngressMetrics(registry: Registry, source: MetricSource): { observeLive(seconds: number): void } {
  const registers = [registry];
  const sum = (index: number): number => source.workers().reduce((value, values) => value + values[index]!, 0);
  new Counter({ name: 'netloom_ingress_requests_total', help: 'Requests by Ingress, Service and status class', labelNames: ['ingress', 'service', 'code'], registers, collect() {
    this.reset();
    for (const { row, object, service } of allRows(source)) for (let index = 0; index < 5; index++) {
      const value = sum(rowOffset(row) + index);
      if (value > 0) this.inc({ ingress: object, service, code: `${index + 1}xx` }, value);
    }
  } });
  const perRow = (name: string, help: string, at: number): void => {
    new Counter({ name, help, labelNames: ['ingress', 'service'], registers, collect() {
      this.reset();
      for (const { row, object, service } of allRows(source)) this.inc({ ingress: object, service }, sum(rowOffset(row) + at));
    } });
  };
  perRow('netloom_ingress_request_bytes_total', 'Request body bytes', column.requestBytes);
  perRow('netloom_ingress_response_bytes_total', 'Response body bytes', column.responseBytes);
  perRow('netloom_ingress_retries_total', 'Tries on another endpoint or connection', column.retries);
  const gauge = (name: string, help: string, read: () => number): void => { new Gauge({ name, help, registers, collect() { this.set(read()); } }); };
  gauge('netloom_ingress_connections', 'Open client connections', () => sum(total.connections));
  gauge('netloom_ingress_upstream_connections', 'Open connections to endpoints', () => sum(total.upstreams));
  gauge('netloom_ingress_tunnels', 'Open upgraded connections', () => sum(total.tunnels));
  gauge('netloom_ingress_objects', 'Ingress objects served', () => source.objectCount());
  gauge('netloom_ingress_hosts', 'Hosts in the route table', () => source.hostCount());
  gauge('netloom_ingress_route_table_age_seconds', 'Age of the route table in the slowest worker since its last change', () => source.tableAgeSeconds());
  new Counter({ name: 'netloom_ingress_connections_accepted_total', help: 'Client connections accepted', registers, collect() { this.reset(); this.inc(sum(total.accepted)); } });
  new Counter({ name: 'netloom_ingress_tls_handshake_failures_total', help: 'TLS handshakes that failed', registers, collect() { this.reset(); this.inc(sum(total.handshakeFailures)); } });
  new Counter({ name: 'netloom_ingress_limited_total', help: 'Requests, connections and retries stopped by a limit', labelNames: ['limit'], registers, collect() {
    this.reset();
    for (const [index, limit] of limitNames.entries()) this.inc({ limit }, sum(total.limited + index));
  } });
  new Gauge({ name: 'netloom_ingress_certificate_expiry_timestamp_seconds', help: 'End of validity of each certificate in use', labelNames: ['secret'], registers, collect() {
    this.reset();
    for (const [secret, ms] of source.certificates()) this.set({ secret }, ms / 1_000);
  } });
  registerDurations(registry, source, sum);
  const live = new Histogram({ name: 'netloom_ingress_object_to_live_seconds', help: 'From the change of an object to its routes being live in every worker', buckets: [...durationBuckets], registers });
  return { observeLive: (seconds) => live.observe(seconds) };
}

function* allRows(source: MetricSource): Iterable<{ row: number; object: string; service: string }> {
  yield { row: 0, object: '', service: '' };
  yield* source.rows();
}

/** prom-client's Histogram cannot be set from ready-made buckets: this gives the registry the same shape. */
function registerDurations(registry: Registry, source: MetricSource, sum: (index: number) => number): void {
  const name = 'netloom_ingress_request_duration_seconds';
  const help = 'Time from the request head to the end of the answer';
  const get = (): unknown => {
    const values: { labels: Record<string, string | number>; value: number; metricName: string }[] = [];
    for (const { row, object, service } of allRows(source)) {
      const labels = { ingress: object, service };
      let count = 0;
      for (let bucket = 0; bucket <= durationBuckets.length; bucket++) {
        count += sum(rowOffset(row) + column.buckets + bucket);
        values.push({ labels: { le: durationBuckets[bucket] ?? '+Inf', ...labels }, value: count, metricName: `${name}_bucket` });
      }
      values.push({ labels, value: sum(rowOffset(row) + column.durationSum) / 1_000, metricName: `${name}_sum` }, { labels, value: count, metricName: `${name}_count` });
    }
    return { name, help, type: 'histogram', aggregator: 'sum', values };
  };
  registry.registerMetric({ name, help, get, getForPromString: get, reset() { /* read from shared memory */ } } as never);
}
