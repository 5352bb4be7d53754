// Which Services select which Pods, and which of them a change concerns. Pods are indexed under every label pair of
// theirs, Services under the one pair of their selector that fewest Services share, so that neither an endpoint flip
// nor ten thousand Services in one namespace cost a walk over all of them.
// Fed by informer events; tells its listeners only that a Service is dirty. Shared by the EndpointSlice and the
// Endpoints controller.

import type { Clock } from '../../../api/clock.ts';
import type { SharedInformers } from '../../../api/informer.ts';
import { labels, objectKey } from '../../../api/meta.ts';
import type { KubeObject, Node, Pod, Service } from '../../../api/types.ts';
import { conditionOf } from './pod-endpoint.ts';

/** `triggerMs` is the time of the change that led here, as far as it is known. */
export type ServiceDirtyListener = (serviceKey: string, triggerMs: number | undefined) => void;

type LabelMap = Readonly<Record<string, string>>;
const noKeys: ReadonlySet<string> = new Set();

export class ServiceMatcher {
  readonly #informers: SharedInformers;
  readonly #clock: Clock;
  readonly #podsByPair = new Map<string, Set<string>>();
  readonly #podsByNode = new Map<string, Set<string>>();
  readonly #servicesByPair = new Map<string, Set<string>>();
  /** The pair under which a Service is indexed. */
  readonly #pairOfService = new Map<string, string>();
  readonly #listeners = new Set<ServiceDirtyListener>();
  readonly #unsubscribe: (() => void)[];

  constructor(informers: SharedInformers, clock: Clock) {
    this.#informers = informers;
    this.#clock = clock;
    for (const service of informers.services.store.values()) this.#indexService(service);
    for (const pod of informers.pods.store.values()) this.#indexPod(pod);
    this.#unsubscribe = [
      informers.services.onChange(({ type, key, object, old }) => this.#onService(key, type === 'delete' ? undefined : object, old)),
      informers.pods.onChange(({ type, object, old }) => this.#onPod(type === 'delete' ? undefined : object, old)),
      informers.nodes.onChange(({ type, object, old }) => this.#onNode(type === 'delete' ? undefined : object, old)),
    ];
  }

  stop(): void { for (const end of this.#unsubscribe) end(); }

  onDirty(listener: ServiceDirtyListener): () => void {
    this.#listeners.add(listener);
    return () => { this.#listeners.delete(listener); };
  }

  /** Pods whose labels have every pair of the Service's selector. An absent or empty selector selects nothing. */
  podsOf(service: Service): Pod[] {
    const selector = Object.entries(service.spec?.selector ?? {});
    if (selector.length === 0) return [];
    const namespace = service.metadata.namespace ?? '';
    let fewest: ReadonlySet<string> | undefined;
    for (const [key, value] of selector) {
      const keys = this.#podsByPair.get(pairOf(namespace, key, value)) ?? noKeys;
      if (fewest === undefined || keys.size < fewest.size) fewest = keys;
    }
    const pods: Pod[] = [];
    for (const key of fewest ?? noKeys) {
      const pod = this.#informers.pods.store.get(key);
      if (pod !== undefined && hasPairs(pod.metadata.labels, selector)) pods.push(pod);
    }
    return pods;
  }

  /** Keys of the Services that select a Pod with these labels. */
  servicesOf(namespace: string, podLabels: LabelMap | undefined): string[] {
    const found: string[] = [];
    for (const [key, value] of Object.entries(podLabels ?? {})) {
      for (const serviceKey of this.#servicesByPair.get(pairOf(namespace, key, value)) ?? noKeys) {
        const selector = this.#informers.services.store.get(serviceKey)?.spec?.selector;
        if (selector !== undefined && hasPairs(podLabels, Object.entries(selector))) found.push(serviceKey);
      }
    }
    return found;
  }

  #onService(key: string, service: Service | undefined, old: Service | undefined): void {
    this.#dropService(key);
    if (service !== undefined) this.#indexService(service);
    this.#tell(key, service === undefined ? undefined : old === undefined ? this.#timeOf(service.metadata.creationTimestamp) : this.#clock.nowMs());
  }

  #onPod(pod: Pod | undefined, old: Pod | undefined): void {
    const isRelabelled = pod === undefined || old === undefined || JSON.stringify(pod.metadata.labels) !== JSON.stringify(old.metadata.labels);
    if (isRelabelled && old !== undefined) this.#dropPod(old);
    if (isRelabelled && pod !== undefined) this.#indexPod(pod);
    if (pod !== undefined && old?.spec?.nodeName !== pod.spec?.nodeName) addTo(this.#podsByNode, pod.spec?.nodeName ?? '', objectKey(pod));
    if (pod !== undefined && old !== undefined && !isRelabelled && isSameForEndpoints(pod, old)) return;
    const keys = new Set(pod === undefined ? [] : this.servicesOf(pod.metadata.namespace ?? '', pod.metadata.labels));
    if (old !== undefined && isRelabelled) for (const key of this.servicesOf(old.metadata.namespace ?? '', old.metadata.labels)) keys.add(key);
    if (keys.size === 0) return;
    const triggerMs = pod === undefined ? this.#clock.nowMs() : this.#timeOf(pod.metadata.deletionTimestamp === undefined ? conditionOf(pod, 'Ready')?.lastTransitionTime : undefined);
    for (const key of keys) this.#tell(key, triggerMs);
  }

  #onNode(node: Node | undefined, old: Node | undefined): void {
    const zone = (each: Node | undefined): string | undefined => each?.metadata.labels?.[labels.zone];
    if (node !== undefined && old !== undefined && zone(node) === zone(old)) return;
    const keys = new Set<string>();
    for (const podKey of this.#podsByNode.get((node ?? old)?.metadata.name ?? '') ?? noKeys) {
      const pod = this.#informers.pods.store.get(podKey);
      if (pod !== undefined) for (const key of this.servicesOf(pod.metadata.namespace ?? '', pod.metadata.labels)) keys.add(key);
    }
    for (const key of keys) this.#tell(key, undefined);
  }

  /** API times have whole seconds: within that second, the time at which the change was seen says more. */
  #timeOf(text: string | undefined): number {
    const nowMs = this.#clock.nowMs();
    const ms = text === undefined ? Number.NaN : Date.parse(text);
    return Number.isNaN(ms) || nowMs - ms < 1_000 ? nowMs : ms;
  }

  #tell(key: string, triggerMs: number | undefined): void { for (const listener of this.#listeners) listener(key, triggerMs); }

  #indexService(service: Service): void {
    const namespace = service.metadata.namespace ?? '';
    let best: string | undefined;
    for (const [key, value] of Object.entries(service.spec?.selector ?? {})) {
      const pair = pairOf(namespace, key, value);
      if (best === undefined || (this.#servicesByPair.get(pair)?.size ?? 0) < (this.#servicesByPair.get(best)?.size ?? 0)) best = pair;
    }
    if (best === undefined) return;
    addTo(this.#servicesByPair, best, objectKey(service));
    this.#pairOfService.set(objectKey(service), best);
  }

  #dropService(key: string): void {
    const pair = this.#pairOfService.get(key);
    if (pair === undefined) return;
    removeFrom(this.#servicesByPair, pair, key);
    this.#pairOfService.delete(key);
  }

  #indexPod(pod: Pod): void {
    for (const pair of pairsOf(pod)) addTo(this.#podsByPair, pair, objectKey(pod));
    if (pod.spec?.nodeName !== undefined) addTo(this.#podsByNode, pod.spec.nodeName, objectKey(pod));
  }

  #dropPod(pod: Pod): void {
    for (const pair of pairsOf(pod)) removeFrom(this.#podsByPair, pair, objectKey(pod));
    if (pod.spec?.nodeName !== undefined) removeFrom(this.#podsByNode, pod.spec.nodeName, objectKey(pod));
  }
}

function pairOf(namespace: string, key: string, value: string): string { return `${namespace}/${key}=${value}`; }
function pairsOf(object: KubeObject): string[] { return Object.entries(object.metadata.labels ?? {}).map(([key, value]) => pairOf(object.metadata.namespace ?? '', key, value)); }

function hasPairs(podLabels: LabelMap | undefined, pairs: readonly [string, string][]): boolean {
  for (const [key, value] of pairs) if (podLabels === undefined || !Object.hasOwn(podLabels, key) || podLabels[key] !== value) return false;
  return pairs.length > 0;
}

function addTo(map: Map<string, Set<string>>, key: string, value: string): void {
  const set = map.get(key);
  if (set === undefined) map.set(key, new Set([value])); else set.add(value);
}

function removeFrom(map: Map<string, Set<string>>, key: string, value: string): void {
  const set = map.get(key);
  set?.delete(value);
  if (set?.size === 0) map.delete(key);
}

/** Whether nothing that an endpoint shows has changed; container statuses and heartbeats change all the time. */
function isSameForEndpoints(pod: Pod, old: Pod): boolean {
  return pod.metadata.uid === old.metadata.uid && pod.metadata.deletionTimestamp === old.metadata.deletionTimestamp && pod.status?.phase === old.status?.phase
    && pod.status?.podIP === old.status?.podIP && JSON.stringify(pod.status?.podIPs) === JSON.stringify(old.status?.podIPs)
    && pod.spec?.nodeName === old.spec?.nodeName && conditionOf(pod, 'Ready')?.status === conditionOf(old, 'Ready')?.status;
}
