// The agent's metrics, read at scrape time from the running state.

import { Gauge, type Registry } from '../api/prom-metrics.ts';
import type { PodRunner } from './pods/pod-runner.ts';

export interface AgentMetricsSource { pods: () => Iterable<PodRunner>; leaseAgeSeconds: () => number }

export function registerAgentMetrics(registry: Registry, source: AgentMetricsSource): void {
  new Gauge({
    name: 'netloom_agent_pods', help: 'Pods that run on this node', registers: [registry],
    collect() { this.set([...source.pods()].length); },
  });
  new Gauge({
    name: 'netloom_agent_container_restarts', help: 'sum of container restarts of the Pods that run on this node', registers: [registry],
    collect() { this.set([...source.pods()].reduce((sum, runner) => sum + runner.restartCount, 0)); },
  });
  new Gauge({
    name: 'netloom_agent_lease_age_seconds', help: 'time since the node lease was renewed', registers: [registry],
    collect() { this.set(source.leaseAgeSeconds()); },
  });
}
