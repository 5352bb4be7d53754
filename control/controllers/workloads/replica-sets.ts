// The ReplicaSet controller: as many Pods as asked for, made from one template.
// Source: kubernetes pkg/controller/replicaset.

import { formatTime } from '../../../api/clock.ts';
import { isConflict, isNotFound } from '../../../api/errors.ts';
import type { Informer } from '../../../api/informer.ts';
import { objectKey, selectorFromLabelSelector } from '../../../api/meta.ts';
import { resources } from '../../../api/resources.ts';
import type { Condition, Pod } from '../../../api/types.ts';
import type { Controller, ControllerContext } from '../context.ts';
import { isPodReady } from '../endpoints/pod-endpoint.ts';
import { WorkQueue } from '../work-queue.ts';
import { availableInMs, byDispensability, isActive, isAvailable, PodControl } from './pod-control.ts';
import type { ReplicaSet } from './types.ts';

/** Pods made or taken away in one run. */
const burst = 500;

export class ReplicaSetController implements Controller {
  readonly name = 'replicaset';
  readonly queues: readonly WorkQueue[];
  readonly #context: ControllerContext;
  readonly #queue: WorkQueue;
  readonly #sets: Informer<ReplicaSet>;
  readonly #pods: PodControl;
  readonly #unsubscribe: (() => void)[];

  constructor(context: ControllerContext) {
    this.#context = context;
    const { clock, log, informers, config } = context;
    this.#sets = informers.for<ReplicaSet>(resources.replicasets);
    this.#sets.store.addIndex('namespace', (set) => [set.metadata.namespace ?? '']);
    this.#pods = new PodControl(context, resources.replicasets);
    this.#queue = new WorkQueue({ name: this.name, clock, log, concurrency: config.concurrency, sync: (key) => this.#sync(key) });
    this.queues = [this.#queue];
    this.#unsubscribe = [
      this.#sets.onChange(({ key }) => this.#queue.add(key)),
      this.#pods.watchOwners((key) => this.#queue.add(key), (pod) => this.#markAdopters(pod)),
    ];
  }

  start(): void {
    for (const key of this.#sets.store.keys()) this.#queue.add(key);
    this.#queue.start();
  }

  stop(): void {
    for (const end of this.#unsubscribe) end();
    this.#pods.stop();
    this.#queue.stop();
  }

  #markAdopters(pod: Pod): void {
    for (const set of this.#sets.store.byIndex('namespace', pod.metadata.namespace ?? '')) {
      const selector = selectorFromLabelSelector(set.spec?.selector ?? {});
      if (!selector.isEmpty && selector.matches(pod.metadata.labels)) this.#queue.add(objectKey(set));
    }
  }

  async #sync(key: string): Promise<void> {
    const set = this.#sets.store.get(key);
    if (set === undefined) return;
    let failure: Error | undefined;
    let pods = (await this.#pods.claim(set, set.spec?.selector)).filter(isActive);
    if (set.metadata.deletionTimestamp === undefined) {
      try {
        await this.#scale(set, pods);
      } catch (error) { failure = error as Error; }
      pods = this.#pods.podsOf(set).filter(isActive);
    }
    await this.#writeStatus(set, pods, failure);
    if (failure !== undefined) throw failure;
  }

  async #scale(set: ReplicaSet, pods: readonly Pod[]): Promise<void> {
    const missing = (set.spec?.replicas ?? 1) - pods.length;
    if (missing > 0) { await this.#pods.createMany(set, set.spec?.template ?? {}, Math.min(missing, burst)); return; }
    if (missing === 0) return;
    const perNode = new Map<string, number>();
    for (const pod of pods) perNode.set(pod.spec?.nodeName ?? '', (perNode.get(pod.spec?.nodeName ?? '') ?? 0) + 1);
    const order = byDispensability(this.#context.clock.nowMs(), (pod) => perNode.get(pod.spec?.nodeName ?? '') ?? 0);
    await Promise.all([...pods].sort(order).slice(0, Math.min(-missing, burst)).map((pod) => this.#pods.remove(set, pod)));
  }

  async #writeStatus(set: ReplicaSet, pods: readonly Pod[], failure: Error | undefined): Promise<void> {
    const { clock, client } = this.#context;
    const minReady = set.spec?.minReadySeconds ?? 0;
    const nowMs = clock.nowMs();
    const templateLabels = Object.entries(set.spec?.template?.metadata?.labels ?? {});
    const status: NonNullable<ReplicaSet['status']> = {
      replicas: pods.length,
      fullyLabeledReplicas: pods.filter((pod) => templateLabels.every(([name, value]) => pod.metadata.labels?.[name] === value)).length,
      readyReplicas: pods.filter(isPodReady).length,
      availableReplicas: pods.filter((pod) => isAvailable(pod, minReady, nowMs)).length,
      ...(set.metadata.generation === undefined ? {} : { observedGeneration: set.metadata.generation }),
      conditions: failureConditions(set.status?.conditions ?? [], failure, formatTime(nowMs)),
    };
    const waits = pods.filter(isPodReady).map((pod) => availableInMs(pod, minReady, nowMs)).filter((ms) => ms > 0);
    if (waits.length > 0) this.#queue.addAfter(objectKey(set), Math.min(...waits) + 1);
    if (isSameStatus(set.status ?? {}, status)) return;
    try {
      await client.patch(resources.replicasets, set.metadata.namespace, set.metadata.name, { metadata: { uid: set.metadata.uid }, status: { ...status, conditions: status.conditions?.length === 0 ? null : status.conditions } }, { type: 'merge', subresource: 'status' });
    } catch (error) { if (!isNotFound(error) && !isConflict(error)) throw error; }
  }
}

function failureConditions(old: readonly Condition[], failure: Error | undefined, now: string): Condition[] {
  const others = old.filter((each) => each.type !== 'ReplicaFailure');
  if (failure === undefined) return others;
  const known = old.find((each) => each.type === 'ReplicaFailure' && each.message === failure.message);
  return [...others, known ?? { type: 'ReplicaFailure', status: 'True', reason: 'FailedCreate', message: failure.message, lastTransitionTime: now }];
}

function isSameStatus(a: NonNullable<ReplicaSet['status']>, b: NonNullable<ReplicaSet['status']>): boolean {
  const numbers = ['replicas', 'fullyLabeledReplicas', 'readyReplicas', 'availableReplicas', 'observedGeneration'] as const;
  return numbers.every((name) => (a[name] ?? 0) === (b[name] ?? 0)) && JSON.stringify(a.conditions ?? []) === JSON.stringify(b.conditions ?? []);
}
