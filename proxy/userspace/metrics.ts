// Metrics of the userspace engine, summed over its threads at scrape time.

import { Counter, Gauge, type Registry } from '../../api/prom-metrics.ts';
import type { UserspaceBackend } from './backend.ts';
import type { Column } from './counters.ts';

/** Services with a label of their own in one scrape; a bound for label values. */
const servicesMax = 4_096;

export function registerUserspaceMetrics(registry: Registry, backend: UserspaceBackend): void {
  const table: [Column, string, string][] = [
    ['accepted', 'netloom_proxy_connections_total', 'connections and UDP sessions taken, by Service'],
    ['bytesIn', 'netloom_proxy_received_bytes_total', 'bytes from clients, by Service'],
    ['bytesOut', 'netloom_proxy_sent_bytes_total', 'bytes from endpoints, by Service'],
    ['refused', 'netloom_proxy_refused_total', 'connections refused by a limit, a source range, or for want of an endpoint'],
    ['connectFailed', 'netloom_proxy_connect_failures_total', 'failed connects to endpoints'],
    ['retried', 'netloom_proxy_retries_total', 'connects tried again on another endpoint'],
    ['reset', 'netloom_proxy_resets_total', 'connections that ended with a reset'],
  ];
  for (const [column, name, help] of table) {
    new Counter({
      name, help, labelNames: ['service'], registers: [registry],
      collect() {
        this.reset();
        let count = 0;
        for (const service of backend.serviceKeys()) {
          if (++count > servicesMax) break;
          this.inc({ service }, backend.counter(service, column) ?? 0);
        }
      },
    });
  }
  new Gauge({
    name: 'netloom_proxy_connections_active', help: 'open connections and UDP sessions', registers: [registry],
    collect() { let sum = 0; for (const service of backend.serviceKeys()) sum += backend.counter(service, 'active') ?? 0; this.set(sum); },
  });
  new Gauge({ name: 'netloom_proxy_affinity_entries', help: 'clients with session affinity that are remembered', registers: [registry], collect() { this.set(backend.affinityCount()); } });
}
