// Pods of a workload: which ones it owns (and may adopt or has to let go), making them from a template, taking them
// away. Shared by the workload controllers.
// Source: kubernetes pkg/controller/controller_utils.go, controller_ref_manager.go.

import { hasCode, isNotFound } from '../../../api/errors.ts';
import { objectKey, selectorFromLabelSelector } from '../../../api/meta.ts';
import { apiVersionOf, resources, type ResourceRef } from '../../../api/resources.ts';
import type { KubeObject, LabelSelector, ObjectMeta, OwnerReference, Pod } from '../../../api/types.ts';
import type { ControllerContext } from '../context.ts';
import { conditionOf, isPodReady, isPodTerminal } from '../endpoints/pod-endpoint.ts';
import { OwnWrites } from '../own-writes.ts';
import type { PodTemplate } from './types.ts';

const createBatchMax = 32;

/** The owner that controls the object. */
export function controllerOf(object: KubeObject): OwnerReference | undefined { return object.metadata.ownerReferences?.find((owner) => owner.controller === true); }

/** A reference that makes `owner` the controller. */
export function controllerRef(resource: ResourceRef, owner: KubeObject): OwnerReference {
  return { apiVersion: apiVersionOf(resource), kind: resource.kind, name: owner.metadata.name, uid: owner.metadata.uid ?? '', controller: true, blockOwnerDeletion: true };
}

export function isActive(pod: Pod): boolean { return !isPodTerminal(pod) && pod.metadata.deletionTimestamp === undefined; }

/** Ready for at least that long. */
export function isAvailable(pod: Pod, minReadySeconds: number, nowMs: number): boolean {
  return isPodReady(pod) && availableInMs(pod, minReadySeconds, nowMs) <= 0;
}

/** Time until a ready Pod counts as available. */
export function availableInMs(pod: Pod, minReadySeconds: number, nowMs: number): number {
  if (minReadySeconds <= 0) return 0;
  const since = Date.parse(conditionOf(pod, 'Ready')?.lastTransitionTime ?? '');
  return Number.isNaN(since) ? 0 : since + minReadySeconds * 1000 - nowMs;
}

export class PodControl {
  readonly #context: ControllerContext;
  readonly #resource: ResourceRef;
  readonly #pods: OwnWrites<Pod>;

  /** `resource` is the kind of the owners. */
  constructor(context: ControllerContext, resource: ResourceRef) {
    this.#context = context;
    this.#resource = resource;
    this.#pods = new OwnWrites(context.informers.pods, 'controllerUid', (pod) => [controllerOf(pod)?.uid ?? `orphan ${pod.metadata.namespace ?? ''}`]);
  }

  stop(): void { this.#pods.stop(); }

  /** The owner's Pods as they are after every write made here. */
  podsOf(owner: KubeObject): Pod[] { return this.#pods.list(owner.metadata.uid ?? ''); }

  /** Adopts matching Pods without controller and lets go of those that no longer match. */
  async claim(owner: KubeObject, selector: LabelSelector | undefined): Promise<Pod[]> {
    const matcher = selectorFromLabelSelector(selector ?? {});
    if (matcher.isEmpty) return this.podsOf(owner);
    for (const pod of this.podsOf(owner)) if (!matcher.matches(pod.metadata.labels) && pod.metadata.deletionTimestamp === undefined) await this.#setOwners(pod, (pod.metadata.ownerReferences ?? []).filter((each) => each.uid !== owner.metadata.uid));
    if (owner.metadata.deletionTimestamp === undefined) {
      for (const pod of this.#pods.list(`orphan ${owner.metadata.namespace ?? ''}`)) {
        if (matcher.matches(pod.metadata.labels) && isActive(pod)) await this.#setOwners(pod, [...(pod.metadata.ownerReferences ?? []), controllerRef(this.#resource, owner)]);
      }
    }
    return this.podsOf(owner).filter((pod) => matcher.matches(pod.metadata.labels));
  }

  async #setOwners(pod: Pod, owners: OwnerReference[]): Promise<void> {
    try {
      const written = await this.#context.client.patch<Pod>(resources.pods, pod.metadata.namespace, pod.metadata.name, { metadata: { uid: pod.metadata.uid, resourceVersion: pod.metadata.resourceVersion, ownerReferences: owners.length === 0 ? null : owners } }, { type: 'merge' });
      this.#pods.wrote(written);
    } catch (error) { if (!isNotFound(error)) throw error; }
  }

  /** Makes `count` Pods: first one, then twice as many each time, so that a broken template fails once and not a hundred times. */
  async createMany(owner: KubeObject, template: PodTemplate, count: number, more: (index: number) => Partial<ObjectMeta> = () => ({})): Promise<void> {
    for (let done = 0, batch = 1; done < count; batch = Math.min(createBatchMax, batch * 2)) {
      const size = Math.min(batch, count - done);
      await Promise.all(Array.from({ length: size }, (_, index) => this.create(owner, template, more(done + index))));
      done += size;
    }
  }

  async create(owner: KubeObject, template: PodTemplate, more: Partial<ObjectMeta> = {}, spec: Partial<Pod['spec']> = {}): Promise<Pod | undefined> {
    const { client, events } = this.#context;
    const { namespace } = owner.metadata;
    const metadata = {
      ...(template.metadata?.annotations === undefined ? {} : { annotations: template.metadata.annotations }),
      ...(template.metadata?.finalizers === undefined ? {} : { finalizers: template.metadata.finalizers }),
      ...(more.name === undefined ? { generateName: generatePrefix(owner.metadata.name) } : {}), ...more,
      labels: { ...template.metadata?.labels, ...more.labels }, ...(namespace === undefined ? {} : { namespace }), ownerReferences: [controllerRef(this.#resource, owner)],
    };
    try {
      const pod = await client.create<Pod>(resources.pods, namespace, { metadata: metadata as ObjectMeta, spec: { ...template.spec, ...spec } as NonNullable<Pod['spec']> });
      this.#pods.wrote(pod);
      events.record(this.#resource, owner, 'Normal', 'SuccessfulCreate', `Created pod: ${pod.metadata.name}`);
      return pod;
    } catch (error) {
      if (hasCode(error, 'Forbidden') && (error.details?.causes ?? []).some((cause) => cause.reason === 'NamespaceTerminating')) return undefined;
      events.record(this.#resource, owner, 'Warning', 'FailedCreate', `Error creating: ${(error as Error).message}`);
      throw error;
    }
  }

  async remove(owner: KubeObject, pod: Pod, options: Record<string, unknown> = {}): Promise<void> {
    const { client, events } = this.#context;
    try {
      const answer = await client.delete(resources.pods, pod.metadata.namespace, pod.metadata.name, { ...options, preconditions: { uid: pod.metadata.uid } });
      if (answer.kind === 'Pod') this.#pods.wrote(answer as Pod); else this.#pods.removed(pod);
      events.record(this.#resource, owner, 'Normal', 'SuccessfulDelete', `Deleted pod: ${pod.metadata.name}`);
    } catch (error) {
      if (isNotFound(error)) { this.#pods.removed(pod); return; }
      if (hasCode(error, 'Conflict')) return;
      throw error;
    }
  }

  /** Calls back with the key of the owner whenever one of its Pods, or a Pod that it might adopt, changes. */
  watchOwners(onOwner: (key: string) => void, onOrphan: (pod: Pod) => void): () => void {
    return this.#context.informers.pods.onChange(({ object, old, type }) => {
      for (const pod of old === undefined ? [object] : [object, old]) {
        const owner = controllerOf(pod);
        if (owner?.kind === this.#resource.kind) onOwner(objectKey({ metadata: { name: owner.name, ...(pod.metadata.namespace === undefined ? {} : { namespace: pod.metadata.namespace }) } }));
        else if (owner === undefined && type !== 'delete' && pod === object) onOrphan(pod);
      }
    });
  }
}

/** Generated names keep the owner's name in front as far as it fits. */
export function generatePrefix(name: string): string { return `${name}-`; }

/** Order in which surplus Pods go: those that serve least, and cost least to lose, first. */
export function byDispensability(nowMs: number, nodeLoad: (pod: Pod) => number): (a: Pod, b: Pod) => number {
  const phaseRank = (pod: Pod): number => (pod.status?.phase === 'Running' ? 2 : pod.status?.phase === 'Unknown' ? 1 : 0);
  const cost = (pod: Pod): number => Number(pod.metadata.annotations?.['controller.kubernetes.io/pod-deletion-cost'] ?? 0) || 0;
  const time = (text: string | undefined): number => Date.parse(text ?? '') || nowMs;
  const restarts = (pod: Pod): number => Math.max(0, ...(pod.status?.containerStatuses ?? []).map((each) => each.restartCount));
  const keys: ((pod: Pod) => number)[] = [
    (pod) => ((pod.spec?.nodeName ?? '') === '' ? 0 : 1), phaseRank, (pod) => (isPodReady(pod) ? 1 : 0), cost, (pod) => -nodeLoad(pod),
    (pod) => -time(conditionOf(pod, 'Ready')?.lastTransitionTime), (pod) => -restarts(pod), (pod) => -time(pod.metadata.creationTimestamp),
  ];
  return (a, b) => {
    for (const key of keys) { const difference = key(a) - key(b); if (difference !== 0) return difference; }
    return a.metadata.name < b.metadata.name ? -1 : 1;
  };
}
