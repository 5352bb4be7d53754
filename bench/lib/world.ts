// Services and EndpointSlices made by the thousand, and an informer fed by hand, so that one component can be measured
// with its real view and without an API server. Service number i has address 10.96+ (16 bits of i) and `perService`
// endpoints in 10.128.0.0/9; both depend on i alone.

import { objectKey } from '../../api/meta.ts';
import { ObjectStore } from '../../api/store.ts';
import { ServiceView } from '../../api/services.ts';
import type { Informer, InformerListener } from '../../api/informer.ts';
import type { EndpointSlice, KubeObject, Namespace, Node, Service } from '../../api/types.ts';

/** Stands where an informer stands: objects are put in, listeners run as they do in the real one. */
export class HandInformer<T extends KubeObject> {
  readonly store: ObjectStore<T> = new ObjectStore<T>();
  readonly hasSynced = true;
  readonly lastContactMs = 0;
  readonly failureCount = 0;
  readonly #listeners = new Set<InformerListener<T>>();

  whenSynced(): Promise<void> { return Promise.resolve(); }
  onChange(listener: InformerListener<T>): () => void { this.#listeners.add(listener); return () => { this.#listeners.delete(listener); }; }
  apply(object: T): void {
    const key = objectKey(object);
    const old = this.store.set(key, object);
    for (const listener of this.#listeners) listener({ type: old === undefined ? 'add' : 'update', key, object, old });
  }
  as(): Informer<T> { return this as unknown as Informer<T>; }
}

/** What a Service proxy and a DNS server watch, filled with `count` Services. */
export class World {
  readonly services = new HandInformer<Service>();
  readonly slices = new HandInformer<EndpointSlice>();
  readonly namespaces = new HandInformer<Namespace>();
  readonly nodes = new HandInformer<Node>();
  readonly view: ServiceView = new ServiceView({ services: this.services.as(), endpointSlices: this.slices.as() });

  constructor(count = 0, perService = 3) {
    this.namespaces.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'bench' } } as Namespace);
    for (let index = 0; index < count; index++) this.add(index, perService);
  }

  add(index: number, perService = 3): void {
    this.services.apply(makeService(index));
    this.slices.apply(makeSlice(index, Array.from({ length: perService }, (_, number) => endpointAddress(index, number))));
  }
}

export const serviceAddress = (index: number): string => `10.${96 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}`;
export function endpointAddress(index: number, number: number): string {
  const at = index * 16 + number;
  return `10.${128 + ((at >> 16) & 127)}.${(at >> 8) & 255}.${at & 255}`;
}

export function makeService(index: number, address: string = serviceAddress(index)): Service {
  return {
    apiVersion: 'v1', kind: 'Service', metadata: { namespace: 'bench', name: `svc-${index}`, uid: `00000000-0000-4000-8000-${String(index).padStart(12, '0')}`, resourceVersion: '1', creationTimestamp: '2026-01-01T00:00:00Z' },
    spec: { type: 'ClusterIP', clusterIP: address, clusterIPs: [address], ipFamilies: ['IPv4'], ports: [{ name: 'http', port: 80, protocol: 'TCP' }] },
  } as Service;
}

export function makeSlice(index: number, addresses: readonly string[], port = 8080): EndpointSlice {
  return {
    apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', addressType: 'IPv4', metadata: { namespace: 'bench', name: `svc-${index}-1`, resourceVersion: '1', labels: { 'kubernetes.io/service-name': `svc-${index}` } },
    ports: [{ name: 'http', port, protocol: 'TCP' }], endpoints: addresses.map((address) => ({ addresses: [address], conditions: { ready: true } })),
  } as unknown as EndpointSlice;
}
