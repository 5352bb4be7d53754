// Metrics of the controllers and of address allocation. Queue names after client-go's workqueue metrics, allocator names
// after kube-apiserver's. Read when scraped; there are none of a controller on a server that does not lead.

import { Counter, Gauge, type Registry } from '../../api/prom-metrics.ts';
import type { ServiceAllocator } from '../admission/service-allocation.ts';
import type { RunningControllers } from './manager.ts';

export interface MeasuredControllers {
  /** Undefined while another server leads. */
  controllers: () => RunningControllers | undefined;
  allocator: ServiceAllocator;
}

/** Adds the metrics to a registry. */
export function registerControllerMetrics(registry: Registry, { controllers, allocator }: MeasuredControllers): void {
  registerQueues(registry, controllers);
  const registers = [registry];
  new Gauge({
    name: 'netloom_control_clusterip_allocated_ips', help: 'Cluster IPs in use, by range', labelNames: ['cidr'], registers,
    collect(): void { for (const range of allocator.ranges.values()) this.set({ cidr: range.cidr.toString() }, range.usedCount); },
  });
  new Gauge({
    name: 'netloom_control_clusterip_available_ips', help: 'Cluster IPs left, by range', labelNames: ['cidr'], registers,
    collect(): void { for (const range of allocator.ranges.values()) this.set({ cidr: range.cidr.toString() }, range.freeCount); },
  });
  new Gauge({ name: 'netloom_control_nodeport_allocated_ports', help: 'Node ports in use', registers, collect(): void { this.set(allocator.ports.usedCount); } });
  new Gauge({ name: 'netloom_control_nodeport_available_ports', help: 'Node ports left', registers, collect(): void { this.set(allocator.ports.size - allocator.ports.usedCount); } });
  new Counter({
    name: 'netloom_control_events_dropped_total', help: 'Events that were not recorded because of a limit', registers,
    collect(): void { this.reset(); this.inc(controllers()?.events.droppedCount ?? 0); },
  });
  new Counter({
    name: 'netloom_control_swept_objects_total', help: 'Objects and history removed by housekeeping', labelNames: ['sweep'], registers,
    collect(): void { this.reset(); for (const [sweep, count] of Object.entries(controllers()?.sweeps?.removedCounts ?? {})) this.inc({ sweep }, count); },
  });
}

function registerQueues(registry: Registry, controllers: MeasuredControllers['controllers']): void {
  const common = { labelNames: ['name'], registers: [registry] };
  const stats = (): ReturnType<RunningControllers['stats']> => controllers()?.stats() ?? [];
  new Gauge({ ...common, name: 'netloom_control_workqueue_depth', help: 'Keys that wait or are being worked on, by controller', collect(): void { for (const { name, depth } of stats()) this.set({ name }, depth); } });
  new Gauge({ ...common, name: 'netloom_control_workqueue_delayed', help: 'Keys that wait for their time, by controller', collect(): void { for (const { name, delayed } of stats()) this.set({ name }, delayed); } });
  new Gauge({ ...common, name: 'netloom_control_workqueue_failing', help: 'Keys whose last run failed, by controller', collect(): void { for (const { name, failing } of stats()) this.set({ name }, failing); } });
  new Counter({ ...common, name: 'netloom_control_workqueue_runs_total', help: 'Runs of a key, by controller', collect(): void { this.reset(); for (const { name, done } of stats()) this.inc({ name }, done); } });
}
