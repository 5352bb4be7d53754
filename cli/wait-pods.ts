// Waits, for a bounded time, until the Pods of applied workloads are ready, so that the printed curl lines work.

import { systemClock } from '../api/clock.ts';
import { selectorFromLabelSelector } from '../api/meta.ts';
import type { LabelSelector, Pod } from '../api/types.ts';
import type { AppliedObject } from './manifests.ts';
import type { Stack } from './stack.ts';

const waitMs = 10_000;
interface Workload { namespace: string; replicas: number; matches: (pod: Pod) => boolean }

/** Resolves when all wanted Pods are ready, or after 10 s with how many are. Event driven. */
export function waitForPods(stack: Stack, applied: readonly AppliedObject[]): Promise<{ ready: number; wanted: number }> {
  const workloads = applied.flatMap(({ object }) => workloadOf(object as never));
  const wanted = workloads.reduce((sum, workload) => sum + workload.replicas, 0);
  const informers = stack.informers;
  if (wanted === 0 || informers === undefined) return Promise.resolve({ ready: 0, wanted });
  const pods = informers.pods;
  const view = stack.view;
  const count = (): number => {
    const all = [...pods.store.values()].filter(isReady);
    return workloads.reduce((sum, workload) => sum + Math.min(workload.replicas, all.filter((pod) => pod.metadata.namespace === workload.namespace && workload.matches(pod)).length), 0);
  };
  const isServed = (): boolean => {
    for (const info of view?.values() ?? []) {
      if (info.service.spec?.selector === undefined || info.ports.length === 0) continue;
      const selector = info.service.spec.selector;
      const hasPods = workloads.some((workload) => workload.namespace === info.service.metadata.namespace && workload.matches({ metadata: { name: '', labels: selector } } as Pod));
      if (hasPods && !info.ports.some((port) => port.endpoints.IPv4.some((endpoint) => endpoint.ready))) return false;
    }
    return true;
  };
  return new Promise((resolve) => {
    const unsubscribe: (() => void)[] = [];
    const finish = (): void => { timer.cancel(); for (const stop of unsubscribe) stop(); resolve({ ready: count(), wanted }); };
    const check = (): void => { if (count() >= wanted && isServed()) finish(); };
    const timer = systemClock.after(waitMs, finish, true);
    unsubscribe.push(pods.onChange(check));
    if (view !== undefined) unsubscribe.push(view.onDirty(() => setImmediate(check)));
    check();
  });
}

function workloadOf(object: { kind?: string; metadata: Pod['metadata']; spec?: { replicas?: number; selector?: LabelSelector } }): Workload[] {
  const namespace = object.metadata.namespace ?? 'default';
  if (object.kind === 'Pod') return [{ namespace, replicas: 1, matches: (pod) => pod.metadata.name === object.metadata.name }];
  if ((object.kind !== 'Deployment' && object.kind !== 'ReplicaSet') || object.spec?.selector === undefined) return [];
  const selector = selectorFromLabelSelector(object.spec.selector);
  return [{ namespace, replicas: object.spec.replicas ?? 1, matches: (pod) => selector.matches(pod.metadata.labels) }];
}

function isReady(pod: Pod): boolean {
  return pod.metadata.deletionTimestamp === undefined && (pod.status?.conditions?.some((condition) => condition.type === 'Ready' && condition.status === 'True') ?? false);
}
