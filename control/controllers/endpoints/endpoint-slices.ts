// The EndpointSlice controller: Services with a selector get slices that list their Pods, within a few milliseconds of
// a readiness flip. Path: Pod status written → informer → ./service-matcher.ts marks the Service → this file computes
// the endpoints (./pod-endpoint.ts), their hints (./hints.ts) and the packing (./slice-plan.ts) → slices written.
// Source: kubernetes pkg/controller/endpointslice, KEP-752.

import { parseCIDR, type Cidr } from '../../../api/address.ts';
import { isConflict, isNotFound } from '../../../api/errors.ts';
import { annotations, labels, objectKey } from '../../../api/meta.ts';
import { apiVersionOf, resources } from '../../../api/resources.ts';
import type { EndpointSlice, IPFamily, Node, Pod, Service, SliceEndpoint } from '../../../api/types.ts';
import type { Controller, ControllerContext } from '../context.ts';
import { OwnWrites } from '../own-writes.ts';
import { WorkQueue } from '../work-queue.ts';
import { isTopologyAuto, setHints, zoneShares } from './hints.ts';
import { endpointPorts, familiesOf, isUsableAddress, isWithoutClusterIP, mayBeEndpoint, podIPOf, portsKey, sliceEndpoint } from './pod-endpoint.ts';
import type { ServiceMatcher } from './service-matcher.ts';
import { planSlices, type EndpointGroup, type NewSlice } from './slice-plan.ts';

export const sliceManager = 'endpointslice-controller.k8s.io';
const reservedLabels: readonly string[] = [labels.serviceName, labels.sliceManagedBy, labels.headless];

/** A Service whose selector matches no Pod for this long gets a Warning. */
const noPodsWarnMs = 15_000;
/** Warnings of this kind in one window of `noPodsWindowMs`: thousands of empty Services are somebody's plan. */
const noPodsWarningsMax = 100;
const noPodsWindowMs = 600_000;

export class EndpointSliceController implements Controller {
  readonly name = 'endpointslice';
  readonly queues: readonly WorkQueue[];
  readonly #context: ControllerContext;
  readonly #matcher: ServiceMatcher;
  readonly #queue: WorkQueue;
  readonly #slices: OwnWrites<EndpointSlice>;
  /** Oldest change that is not yet in a slice. */
  readonly #triggers = new Map<string, number>();
  readonly #emptySince = new Map<string, number>();
  #warnings = { sinceMs: 0, count: 0 };
  readonly #podRanges: readonly Cidr[];
  readonly #unsubscribe: (() => void)[];

  constructor(context: ControllerContext, matcher: ServiceMatcher) {
    this.#context = context;
    this.#podRanges = context.config.podCIDRs.map((text) => parseCIDR(text)).filter((cidr) => cidr !== undefined);
    this.#matcher = matcher;
    const { clock, log, informers, config } = context;
    this.#queue = new WorkQueue({ name: this.name, clock, log, concurrency: config.concurrency, sync: (key) => this.#sync(key) });
    this.queues = [this.#queue];
    this.#slices = new OwnWrites(informers.endpointSlices, 'managedServiceSlices', managedService);
    this.#unsubscribe = [
      matcher.onDirty((key, triggerMs) => this.#mark(key, triggerMs)),
      informers.endpointSlices.onChange(({ object, old }) => {
        for (const key of new Set([...managedService(object), ...(old === undefined ? [] : managedService(old))])) this.#queue.add(key);
      }),
      informers.nodes.onChange(({ object, old, type }) => { if (type !== 'update' || nodeKey(object) !== nodeKey(old)) this.#markTopologyAuto(); }),
    ];
  }

  start(): void {
    for (const key of this.#context.informers.services.store.keys()) this.#queue.add(key);
    for (const slice of this.#context.informers.endpointSlices.store.values()) for (const key of managedService(slice)) this.#queue.add(key);
    this.#queue.start();
  }

  stop(): void {
    for (const end of this.#unsubscribe) end();
    this.#slices.stop();
    this.#queue.stop();
  }

  #mark(key: string, triggerMs: number | undefined): void {
    const known = this.#triggers.get(key);
    if (triggerMs !== undefined && (known === undefined || triggerMs < known)) this.#triggers.set(key, triggerMs);
    this.#queue.add(key);
  }

  #markTopologyAuto(): void {
    for (const [key, service] of this.#context.informers.services.store.entries()) if (isTopologyAuto(service)) this.#queue.add(key);
  }

  async #sync(key: string): Promise<void> {
    const service = this.#context.informers.services.store.get(key);
    const triggerMs = this.#triggers.get(key);
    const existing = this.#slices.list(key).filter((slice) => slice.metadata.deletionTimestamp === undefined);
    const isWanted = service !== undefined && service.spec?.type !== 'ExternalName';
    if (!isWanted) {
      this.#emptySince.delete(key);
      await Promise.all(existing.map((slice) => this.#remove(slice)));
    } else if (Object.keys(service.spec?.selector ?? {}).length > 0) await this.#reconcile(key, service, existing, triggerMs);
    if (this.#triggers.get(key) === triggerMs) this.#triggers.delete(key);
  }

  async #reconcile(key: string, service: Service, existing: readonly EndpointSlice[], triggerMs: number | undefined): Promise<void> {
    const pods = this.#matcher.podsOf(service);
    this.#warnWhenEmpty(key, service, pods.length);
    const families = familiesOf(service);
    const sliceLabels = labelsFor(service);
    const create: NewSlice[] = [];
    const update: EndpointSlice[] = [];
    const remove = existing.filter((slice) => !families.includes(slice.addressType as IPFamily));
    for (const family of families) {
      const plan = planSlices({
        family, groups: this.#groups(service, pods, family), existing: existing.filter((slice) => slice.addressType === family),
        endpointsMax: this.#context.config.endpointsPerSliceMax, labels: sliceLabels, hasPlaceholder: true,
      });
      create.push(...plan.create);
      update.push(...plan.update);
      remove.push(...plan.remove);
    }
    const trigger = triggerMs === undefined ? undefined : new Date(triggerMs).toISOString();
    try {
      // What is added or changed comes before what is removed, so that an endpoint that moves is never missing.
      await Promise.all([...create.map((slice) => this.#create(service, slice, sliceLabels, trigger)), ...update.map((slice) => this.#update(slice, trigger))]);
      await Promise.all(remove.map((slice) => this.#remove(slice)));
    } catch (error) {
      if (!isConflict(error) && !isNotFound(error)) this.#context.events.record(resources.services, service, 'Warning', 'FailedToUpdateEndpointSlices', `Error updating Endpoint Slices for Service ${key}: ${(error as Error).message}`);
      throw error;
    }
  }

  #groups(service: Service, pods: readonly Pod[], family: IPFamily): EndpointGroup[] {
    const groups = new Map<string, { ports: EndpointGroup['ports']; endpoints: SliceEndpoint[] }>();
    const all: SliceEndpoint[] = [];
    for (const pod of pods) {
      if (!mayBeEndpoint(pod, true)) continue;
      const ip = podIPOf(pod, family);
      const node = this.#nodeOf(pod);
      if (ip === undefined || (node === undefined && (pod.spec?.nodeName ?? '') !== '' && service.spec?.publishNotReadyAddresses !== true)) continue;
      if (!isUsableAddress(ip, node, this.#podRanges)) { this.#refuse(service, pod, ip); continue; }
      const ports = endpointPorts(service, pod);
      const key = portsKey(ports);
      let group = groups.get(key);
      if (group === undefined) groups.set(key, group = { ports, endpoints: [] });
      const endpoint = sliceEndpoint(service, pod, node, ip);
      group.endpoints.push(endpoint);
      all.push(endpoint);
    }
    setHints(service, all, () => zoneShares(this.#context.informers.nodes.store.values()));
    return [...groups.values()];
  }

  /** One Pod with an impossible address must not take the others of its Service along. */
  #refuse(service: Service, pod: Pod, ip: string): void {
    this.#context.events.record(resources.pods, pod, 'Warning', 'UnusableAddress', `${ip} cannot be an endpoint of Service ${objectKey(service)}: it is loopback, link-local, unspecified or multicast`);
  }

  #nodeOf(pod: Pod): Node | undefined { return this.#context.informers.nodes.store.get(pod.spec?.nodeName ?? ''); }

  /** A selector that matches nothing is the commonest reason for a dead Service: say so once it has lasted. */
  #warnWhenEmpty(key: string, service: Service, podCount: number): void {
    const { clock, events } = this.#context;
    if (podCount > 0) { this.#emptySince.delete(key); return; }
    const since = this.#emptySince.get(key);
    if (since === undefined) {
      this.#emptySince.set(key, clock.monotonicMs());
      this.#queue.addAfter(key, noPodsWarnMs);
    } else if (since >= 0 && clock.monotonicMs() - since >= noPodsWarnMs) {
      this.#emptySince.set(key, -1);
      if (clock.monotonicMs() - this.#warnings.sinceMs > noPodsWindowMs) this.#warnings = { sinceMs: clock.monotonicMs(), count: 0 };
      this.#warnings.count += 1;
      if (this.#warnings.count > noPodsWarningsMax) return;
      const selector = Object.entries(service.spec?.selector ?? {}).map(([name, value]) => `${name}=${value}`).join(',');
      events.record(resources.services, service, 'Warning', 'NoMatchingPods', `Service ${key} selects no endpoints: no Pod in ${service.metadata.namespace ?? ''} has the labels ${selector}`);
    } else if (since >= 0) this.#queue.addAfter(key, noPodsWarnMs - (clock.monotonicMs() - since));
  }

  async #create(service: Service, slice: NewSlice, sliceLabels: Record<string, string>, trigger: string | undefined): Promise<void> {
    const { name, namespace, uid } = service.metadata;
    const object = {
      metadata: {
        generateName: `${name}-`, ...(namespace === undefined ? {} : { namespace }), labels: sliceLabels,
        ...(trigger === undefined ? {} : { annotations: { [annotations.lastChangeTriggerTime]: trigger } }),
        ownerReferences: [{ apiVersion: 'v1', kind: 'Service', name, uid: uid ?? '', controller: true, blockOwnerDeletion: true }],
      },
      addressType: slice.addressType, endpoints: [...slice.endpoints], ports: [...slice.ports],
      apiVersion: apiVersionOf(resources.endpointslices), kind: 'EndpointSlice',
    };
    this.#slices.wrote(await this.#context.client.create<EndpointSlice>(resources.endpointslices, namespace, object as unknown as EndpointSlice));
  }

  async #update(slice: EndpointSlice, trigger: string | undefined): Promise<void> {
    const { [annotations.lastChangeTriggerTime]: _old, ...others } = slice.metadata.annotations ?? {};
    const next = trigger === undefined ? others : { ...others, [annotations.lastChangeTriggerTime]: trigger };
    this.#slices.wrote(await this.#context.client.update<EndpointSlice>(resources.endpointslices, { ...slice, metadata: { ...slice.metadata, annotations: next } }));
  }

  async #remove(slice: EndpointSlice): Promise<void> {
    try {
      await this.#context.client.delete(resources.endpointslices, slice.metadata.namespace, slice.metadata.name, { preconditions: { uid: slice.metadata.uid } });
    } catch (error) { if (!isNotFound(error)) throw error; }
    this.#slices.removed(slice);
  }
}

/** The Service whose slices this controller manages: index values of a slice. */
function managedService(slice: EndpointSlice): string[] {
  const { labels: own, namespace } = slice.metadata;
  const service = own?.[labels.serviceName];
  return own?.[labels.sliceManagedBy] === sliceManager && service !== undefined ? [objectKey({ metadata: { name: service, ...(namespace === undefined ? {} : { namespace }) } })] : [];
}

/** The Service's own labels and the three that this controller sets. */
export function labelsFor(service: Service): Record<string, string> {
  const own: Record<string, string> = {};
  for (const [name, value] of Object.entries(service.metadata.labels ?? {})) if (!reservedLabels.includes(name)) own[name] = value;
  own[labels.serviceName] = service.metadata.name;
  own[labels.sliceManagedBy] = sliceManager;
  if (isWithoutClusterIP(service)) own[labels.headless] = '';
  return own;
}

function nodeKey(node: Node | undefined): string {
  return `${node?.metadata.labels?.[labels.zone]} ${node?.status?.allocatable?.['cpu']} ${node?.status?.conditions?.find((each) => each.type === 'Ready')?.status}`;
}
