// Starts the controllers of one control plane on shared informers and stops them again. All informers list first, then
// all controllers start, so that none acts on half a view. With a shared store only the leader calls this.
// Called by control/start.ts.

import type { ApiClient } from '../../api/client.ts';
import type { Clock } from '../../api/clock.ts';
import type { SharedInformers } from '../../api/informer.ts';
import type { Log } from '../../api/log.ts';
import type { Service } from '../../api/types.ts';
import { resources } from '../../api/resources.ts';
import type { AllocationConflict } from '../admission/service-allocation.ts';
import type { Storage } from '../storage/store.ts';
import { Sweeps } from '../sweeps.ts';
import { defaultControllersConfig, type ControllersConfig } from './config.ts';
import type { Controller, ControllerContext } from './context.ts';
import { GarbageCollector } from './cleanup/garbage-collector.ts';
import { NamespaceController } from './cleanup/namespaces.ts';
import { EndpointSliceController } from './endpoints/endpoint-slices.ts';
import { EndpointsController } from './endpoints/endpoints-objects.ts';
import { MirroringController } from './endpoints/mirroring.ts';
import { ServiceMatcher } from './endpoints/service-matcher.ts';
import { EventRecorder } from './events.ts';
import { LoadBalancerController } from './loadbalancer/load-balancers.ts';
import { EvictionController } from './nodes/eviction.ts';
import { NodeLifecycleController } from './nodes/lifecycle.ts';
import { PodCidrController } from './nodes/pod-cidrs.ts';
import { Scheduler } from './nodes/scheduler.ts';
import { CronJobController } from './workloads/cron-jobs.ts';
import { DaemonSetController } from './workloads/daemon-sets.ts';
import { DeploymentController } from './workloads/deployments.ts';
import { JobController } from './workloads/jobs.ts';
import { ReplicaSetController } from './workloads/replica-sets.ts';
import { StatefulSetController } from './workloads/stateful-sets.ts';

export interface ControllersOptions {
  client: ApiClient; informers: SharedInformers; clock: Clock; log: Log;
  config: Partial<ControllersConfig>;
  /** For housekeeping; without it nothing expires. */
  storage?: Storage | undefined;
  random?: () => number;
}

export interface RunningControllers {
  /** Resolves when every controller has started on a whole view. */
  whenSynced(): Promise<void>;
  /** Resolves when no controller has anything to do; for tests and start-up. */
  whenIdle(): Promise<void>;
  health(): { ok: boolean; detail?: string };
  /** Depth, failures and work done of every queue, for metrics. */
  stats(): { name: string; depth: number; delayed: number; failing: number; done: number }[];
  readonly events: EventRecorder;
  readonly sweeps: Sweeps | undefined;
  /** Records an Event on every Service that holds an address or port of another; give it to `admission.onConflicts`. */
  reportConflicts(conflicts: readonly AllocationConflict[]): void;
  stop(): void;
}

/** A queue this deep counts as unhealthy. */
const depthMax = 50_000;

export function startControllers(options: ControllersOptions): RunningControllers {
  const { client, informers, clock } = options;
  const log = options.log.with({ component: 'controllers' });
  const random = options.random ?? Math.random;
  const events = new EventRecorder({ client, clock, log, component: 'netloom-controllers' });
  const context: ControllerContext = { client, informers, clock, log, events, random, config: { ...defaultControllersConfig, ...options.config } };
  const matcher = new ServiceMatcher(informers, clock);
  const sweeps = options.storage === undefined ? undefined : new Sweeps({ storage: options.storage, clock, log, eventTtlMs: context.config.eventTtlMs });
  const controllers: readonly Controller[] = makeControllers(context, matcher);
  let isSynced = false;
  let isStopped = false;
  const synced = informers.whenSynced().then(() => {
    if (isStopped) return;
    isSynced = true;
    for (const controller of controllers) controller.start();
    sweeps?.start();
    log.debug('controllers run', { count: controllers.length });
  });
  const queues = controllers.flatMap((controller) => controller.queues);
  return {
    events,
    sweeps,
    reportConflicts(conflicts) { for (const conflict of conflicts) reportConflict(events, informers.services.store.get(conflict.serviceKey), conflict); },
    whenSynced: () => synced,
    async whenIdle() {
      await synced;
      for (;;) {
        await Promise.all(queues.map((queue) => queue.whenIdle()));
        if (queues.every((queue) => queue.depth === 0)) return;
      }
    },
    health() {
      if (!isSynced) return { ok: false, detail: 'controllers have not seen all objects yet' };
      const deep = queues.find((queue) => queue.depth > depthMax);
      return deep === undefined ? { ok: true } : { ok: false, detail: `${deep.name} has ${deep.depth} keys waiting` };
    },
    stats: () => queues.map((queue) => ({ name: queue.name, depth: queue.depth, delayed: queue.delayedCount, failing: queue.failingCount, done: queue.doneCount })),
    stop() {
      isStopped = true;
      sweeps?.stop();
      for (const controller of controllers) controller.stop();
      matcher.stop();
      events.stop();
    },
  };
}

const conflictReasons: Readonly<Record<AllocationConflict['kind'], [reason: string, words: string]>> = {
  ip: ['ClusterIPAlreadyAllocated', 'is held by another Service'], ipOutside: ['ClusterIPOutOfRange', 'is not within the Service range'],
  port: ['PortAlreadyAllocated', 'is held by another Service'], portOutside: ['PortOutOfRange', 'is not within the node port range'],
};

function reportConflict(events: EventRecorder, service: Service | undefined, conflict: AllocationConflict): void {
  const [reason, words] = conflictReasons[conflict.kind];
  if (service !== undefined) events.record(resources.services, service, 'Warning', reason, `${conflict.kind.startsWith('ip') ? 'Cluster IP' : 'Port'} ${conflict.value} ${words}; please recreate the Service`);
}

function makeControllers(context: ControllerContext, matcher: ServiceMatcher): Controller[] {
  return [
    new NamespaceController(context),
    new NodeLifecycleController(context),
    new PodCidrController(context),
    new Scheduler(context),
    new EvictionController(context),
    new EndpointSliceController(context, matcher),
    new EndpointsController(context, matcher),
    new MirroringController(context),
    new LoadBalancerController(context),
    new GarbageCollector(context),
    new ReplicaSetController(context),
    new DeploymentController(context),
    new DaemonSetController(context),
    new StatefulSetController(context),
    new JobController(context),
    new CronJobController(context),
  ];
}
