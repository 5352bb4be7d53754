// Mirrors hand-written Endpoints into EndpointSlices, so that what reads only slices serves them too: Services without
// a selector whose Endpoints are not marked to be skipped.
// Source: kubernetes pkg/controller/endpointslicemirroring, KEP-752.

import { canonicalIP, familyOf } from '../../../api/address.ts';
import { isNotFound } from '../../../api/errors.ts';
import type { Informer } from '../../../api/informer.ts';
import { annotations, labels, objectKey } from '../../../api/meta.ts';
import { apiVersionOf, resources } from '../../../api/resources.ts';
import type { EndpointAddress, Endpoints, EndpointSlice, EndpointSubset, IPFamily, SliceEndpoint, SlicePort } from '../../../api/types.ts';
import type { Controller, ControllerContext } from '../context.ts';
import { OwnWrites } from '../own-writes.ts';
import { WorkQueue } from '../work-queue.ts';
import { portsKey } from './pod-endpoint.ts';
import { planSlices, type EndpointGroup, type NewSlice } from './slice-plan.ts';

export const mirrorManager = 'endpointslicemirroring-controller.k8s.io';
/** Addresses mirrored per subset and family. */
const perSubsetMax = 1_000;
const families: readonly IPFamily[] = ['IPv4', 'IPv6'];

export class MirroringController implements Controller {
  readonly name = 'endpointslice-mirroring';
  readonly queues: readonly WorkQueue[];
  readonly #context: ControllerContext;
  readonly #queue: WorkQueue;
  readonly #endpoints: Informer<Endpoints>;
  readonly #slices: OwnWrites<EndpointSlice>;
  readonly #unsubscribe: (() => void)[];

  constructor(context: ControllerContext) {
    this.#context = context;
    const { clock, log, informers, config } = context;
    this.#endpoints = informers.for<Endpoints>(resources.endpoints);
    this.#slices = new OwnWrites(informers.endpointSlices, 'mirroredServiceSlices', mirroredService);
    this.#queue = new WorkQueue({ name: this.name, clock, log, concurrency: config.concurrency, sync: (key) => this.#sync(key) });
    this.queues = [this.#queue];
    this.#unsubscribe = [
      this.#endpoints.onChange(({ key }) => this.#queue.add(key)),
      informers.services.onChange(({ key }) => this.#queue.add(key)),
      informers.endpointSlices.onChange(({ object }) => { for (const key of mirroredService(object)) this.#queue.add(key); }),
    ];
  }

  start(): void {
    for (const key of this.#endpoints.store.keys()) this.#queue.add(key);
    for (const slice of this.#context.informers.endpointSlices.store.values()) for (const key of mirroredService(slice)) this.#queue.add(key);
    this.#queue.start();
  }

  stop(): void {
    for (const end of this.#unsubscribe) end();
    this.#slices.stop();
    this.#queue.stop();
  }

  async #sync(key: string): Promise<void> {
    const endpoints = this.#endpoints.store.get(key);
    const service = this.#context.informers.services.store.get(key);
    const existing = this.#slices.list(key).filter((slice) => slice.metadata.deletionTimestamp === undefined);
    const isMirrored = endpoints !== undefined && endpoints.metadata.deletionTimestamp === undefined && service !== undefined && service.spec?.type !== 'ExternalName'
      && Object.keys(service.spec?.selector ?? {}).length === 0 && mayMirror(endpoints);
    if (!isMirrored) { await Promise.all(existing.map((slice) => this.#remove(slice))); return; }
    const sliceLabels = labelsFor(endpoints);
    const create: NewSlice[] = [];
    const update: EndpointSlice[] = [];
    const remove: EndpointSlice[] = [];
    for (const family of families) {
      const plan = planSlices({ family, groups: groupsOf(endpoints, family), existing: existing.filter((slice) => slice.addressType === family), endpointsMax: this.#context.config.endpointsPerSliceMax, labels: sliceLabels, hasPlaceholder: false });
      create.push(...plan.create);
      update.push(...plan.update);
      remove.push(...plan.remove);
    }
    await Promise.all([...create.map((slice) => this.#create(endpoints, slice, sliceLabels)), ...update.map((slice) => this.#update(endpoints, slice))]);
    await Promise.all(remove.map((slice) => this.#remove(slice)));
  }

  async #create(endpoints: Endpoints, slice: NewSlice, sliceLabels: Record<string, string>): Promise<void> {
    const { name, namespace, uid } = endpoints.metadata;
    const object = {
      apiVersion: apiVersionOf(resources.endpointslices), kind: 'EndpointSlice',
      metadata: {
        generateName: `${name}-`, ...(namespace === undefined ? {} : { namespace }), labels: sliceLabels, annotations: annotationsFor(endpoints),
        ownerReferences: [{ apiVersion: 'v1', kind: 'Endpoints', name, uid: uid ?? '', controller: true, blockOwnerDeletion: true }],
      },
      addressType: slice.addressType, endpoints: [...slice.endpoints], ports: [...slice.ports],
    };
    this.#slices.wrote(await this.#context.client.create<EndpointSlice>(resources.endpointslices, namespace, object as unknown as EndpointSlice));
  }

  async #update(endpoints: Endpoints, slice: EndpointSlice): Promise<void> {
    this.#slices.wrote(await this.#context.client.update<EndpointSlice>(resources.endpointslices, { ...slice, metadata: { ...slice.metadata, annotations: annotationsFor(endpoints) } }));
  }

  async #remove(slice: EndpointSlice): Promise<void> {
    try {
      await this.#context.client.delete(resources.endpointslices, slice.metadata.namespace, slice.metadata.name, { preconditions: { uid: slice.metadata.uid } });
    } catch (error) { if (!isNotFound(error)) throw error; }
    this.#slices.removed(slice);
  }
}

function mirroredService(slice: EndpointSlice): string[] {
  const { labels: own, namespace } = slice.metadata;
  const service = own?.[labels.serviceName];
  return own?.[labels.sliceManagedBy] === mirrorManager && service !== undefined ? [objectKey({ metadata: { name: service, ...(namespace === undefined ? {} : { namespace }) } })] : [];
}

function mayMirror(endpoints: Endpoints): boolean {
  return endpoints.metadata.labels?.[labels.skipMirror] !== 'true' && endpoints.metadata.annotations?.[annotations.leader] === undefined;
}

function labelsFor(endpoints: Endpoints): Record<string, string> {
  const { [labels.headless]: _headless, [labels.skipMirror]: _skip, ...own } = endpoints.metadata.labels ?? {};
  return { ...own, [labels.serviceName]: endpoints.metadata.name, [labels.sliceManagedBy]: mirrorManager };
}

function annotationsFor(endpoints: Endpoints): Record<string, string> {
  const { [annotations.lastApplied]: _applied, ...own } = endpoints.metadata.annotations ?? {};
  return own;
}

/** Subsets with the same ports are one group; addresses beyond the limit of a subset are left out. */
export function groupsOf(endpoints: Endpoints, family: IPFamily): EndpointGroup[] {
  const groups = new Map<string, { ports: SlicePort[]; endpoints: SliceEndpoint[] }>();
  for (const subset of endpoints.subsets ?? []) {
    const all = addressesOf(subset).filter(([address]) => canonicalIP(address.ip) !== undefined && familyOf(address.ip) === family).slice(0, perSubsetMax);
    if (all.length === 0) continue;
    const ports = (subset.ports ?? []).map((port): SlicePort => ({ name: port.name ?? '', port: port.port, protocol: port.protocol ?? 'TCP', ...(port.appProtocol === undefined ? {} : { appProtocol: port.appProtocol }) }));
    let group = groups.get(portsKey(ports));
    if (group === undefined) groups.set(portsKey(ports), group = { ports, endpoints: [] });
    for (const [address, ready] of all) group.endpoints.push(endpointOf(address, ready));
  }
  return [...groups.values()];
}

function addressesOf(subset: EndpointSubset): [EndpointAddress, boolean][] {
  return [...(subset.addresses ?? []).map((address): [EndpointAddress, boolean] => [address, true]), ...(subset.notReadyAddresses ?? []).map((address): [EndpointAddress, boolean] => [address, false])];
}

function endpointOf(address: EndpointAddress, ready: boolean): SliceEndpoint {
  const { ip, hostname, nodeName, targetRef } = address;
  return { addresses: [ip], conditions: { ready }, ...(hostname === undefined ? {} : { hostname }), ...(nodeName === undefined ? {} : { nodeName }), ...(targetRef === undefined ? {} : { targetRef }) };
}
