// The StatefulSet controller: Pods with stable names, made and removed in order. Volumes are not handled: a process
// keeps its data where its command says.
// Source: kubernetes pkg/controller/statefulset/stateful_set_control.go.

import { resources } from '../../../api/resources.ts';
import type { Pod } from '../../../api/types.ts';
import type { Controller, ControllerContext } from '../context.ts';
import { isPodReady, isPodTerminal } from '../endpoints/pod-endpoint.ts';
import type { WorkQueue } from '../work-queue.ts';
import { isActive, isAvailable } from './pod-control.ts';
import { revisionHashLabel, Revisions } from './revisions.ts';
import type { StatefulSet } from './types.ts';
import { WorkloadBase } from './workload-base.ts';

export class StatefulSetController implements Controller {
  readonly name = 'statefulset';
  readonly queues: readonly WorkQueue[];
  readonly #context: ControllerContext;
  readonly #base: WorkloadBase<StatefulSet>;
  readonly #revisions: Revisions;

  constructor(context: ControllerContext) {
    this.#context = context;
    this.#base = new WorkloadBase<StatefulSet>(context, this.name, resources.statefulsets, (key) => this.#sync(key));
    this.#revisions = new Revisions(context, resources.statefulsets);
    this.queues = [this.#base.queue];
  }

  start(): void { this.#base.start(); }
  stop(): void { this.#revisions.stop(); this.#base.stop(); }

  async #sync(key: string): Promise<void> {
    const set = this.#base.objects.store.get(key);
    if (set === undefined || set.metadata.deletionTimestamp !== undefined) return;
    await this.#base.pods.claim(set, set.spec?.selector);
    const updateHash = await this.#revisions.current(set);
    const oldHash = typeof set.status?.['currentRevision'] === 'string' ? set.status['currentRevision'].slice(set.metadata.name.length + 1) : updateHash;
    await this.#move(set, updateHash);
    const pods = this.#base.pods.podsOf(set);
    const isDone = pods.filter(isActive).length === (set.spec?.replicas ?? 1) && pods.every((pod) => pod.metadata.labels?.[revisionHashLabel] === updateHash && isPodReady(pod));
    const currentHash = isDone ? updateHash : oldHash;
    await this.#revisions.trim(set, new Set([updateHash, currentHash, ...pods.map((pod) => pod.metadata.labels?.[revisionHashLabel] ?? '')]));
    await this.#writeStatus(set, pods, currentHash, updateHash);
  }

  /** One step of the way: what is missing, lowest first; what is too much, highest first; then what is old, highest first. */
  async #move(set: StatefulSet, hash: string): Promise<void> {
    const isOrdered = set.spec?.podManagementPolicy !== 'Parallel';
    const start = set.spec?.ordinals?.start ?? 0;
    const isOnDelete = set.spec?.updateStrategy?.type === 'OnDelete';
    const partition = set.spec?.updateStrategy?.rollingUpdate?.partition ?? 0;
    const byOrdinal = new Map(this.#base.pods.podsOf(set).map((pod) => [ordinalOf(set, pod), pod]));
    const wanted = Array.from({ length: set.spec?.replicas ?? 1 }, (_, index) => start + index);
    for (const ordinal of wanted) {
      const pod = byOrdinal.get(ordinal);
      if (pod === undefined) await this.#create(set, ordinal, hash);
      else if (isPodTerminal(pod) && pod.metadata.deletionTimestamp === undefined) await this.#base.pods.remove(set, pod);
      if (pod !== undefined && isHealthy(set, pod, this.#context.clock.nowMs())) continue;
      // A Pod of an old template that never became ready would block its own mending: it is replaced.
      if (pod !== undefined && isActive(pod) && pod.metadata.labels?.[revisionHashLabel] !== hash && ordinal - start >= partition && !isOnDelete) await this.#base.pods.remove(set, pod);
      if (isOrdered) return;
    }
    const surplus = [...byOrdinal].filter(([ordinal]) => !wanted.includes(ordinal)).sort(([a], [b]) => b - a);
    for (const [, pod] of surplus) {
      if (pod.metadata.deletionTimestamp === undefined) await this.#base.pods.remove(set, pod);
      if (isOrdered) return;
    }
    if (isOnDelete) return;
    for (const ordinal of wanted.filter((each) => each - start >= partition).reverse()) {
      const pod = byOrdinal.get(ordinal);
      if (pod === undefined) return;
      if (pod.metadata.labels?.[revisionHashLabel] !== hash && isActive(pod)) { await this.#base.pods.remove(set, pod); return; }
      if (!isHealthy(set, pod, this.#context.clock.nowMs())) return;
    }
  }

  async #create(set: StatefulSet, ordinal: number, hash: string): Promise<void> {
    const name = `${set.metadata.name}-${ordinal}`;
    const labels = { 'statefulset.kubernetes.io/pod-name': name, 'apps.kubernetes.io/pod-index': String(ordinal), [revisionHashLabel]: hash };
    const subdomain = set.spec?.serviceName;
    await this.#base.pods.create(set, set.spec?.template ?? {}, { name, labels }, { hostname: name, ...(subdomain === undefined || subdomain === '' ? {} : { subdomain }) });
  }

  async #writeStatus(set: StatefulSet, pods: readonly Pod[], currentHash: string, updateHash: string): Promise<void> {
    const active = pods.filter(isActive);
    const nowMs = this.#context.clock.nowMs();
    const ofHash = (hash: string): number => active.filter((pod) => pod.metadata.labels?.[revisionHashLabel] === hash).length;
    await this.#base.writeStatus(set, set.status ?? {}, {
      replicas: active.length, readyReplicas: active.filter(isPodReady).length, availableReplicas: active.filter((pod) => isAvailable(pod, set.spec?.minReadySeconds ?? 0, nowMs)).length,
      currentReplicas: ofHash(currentHash), updatedReplicas: ofHash(updateHash), currentRevision: `${set.metadata.name}-${currentHash}`, updateRevision: `${set.metadata.name}-${updateHash}`,
      observedGeneration: set.metadata.generation ?? 0, collisionCount: 0,
    });
  }
}

function isHealthy(set: StatefulSet, pod: Pod, nowMs: number): boolean {
  return isActive(pod) && isAvailable(pod, set.spec?.minReadySeconds ?? 0, nowMs);
}

function ordinalOf(set: StatefulSet, pod: Pod): number {
  const suffix = pod.metadata.name.slice(set.metadata.name.length + 1);
  return /^\d+$/.test(suffix) ? Number(suffix) : -1;
}
