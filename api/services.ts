// The one view of Services joined with their EndpointSlices that proxy, DNS and Ingress share. Watch events only mark
// a Service dirty; the joined ServiceInfo is built when somebody asks for it and kept until the next event.
// Which objects count: spec of kube-proxy (KEP-752 EndpointSlice, KEP-1669 terminating endpoints, KEP-4444 hints).
// Next on the path: proxy/topology.ts, dns/zone.ts, ingress/routes.ts.

import { canonicalIP, familyOf } from './address.ts';
import type { Informer } from './informer.ts';
import { annotations, labels, objectKey } from './meta.ts';
import type { EndpointSlice, IPFamily, Protocol, Service, ServicePortSpec, SliceEndpoint } from './types.ts';

/** One usable address of a ServicePort. Conditions have their defaults applied: ready nil = true, serving nil = ready, terminating nil = false. */
export interface Endpoint {
  readonly ip: string; readonly port: number;
  readonly nodeName: string | undefined; readonly zone: string | undefined; readonly hostname: string | undefined;
  readonly ready: boolean; readonly serving: boolean; readonly terminating: boolean;
  readonly hintZones: readonly string[] | undefined; readonly hintNodes: readonly string[] | undefined;
  /** 'namespace/name' of the Pod behind it, when known. */
  readonly podKey: string | undefined;
}

/** Everything (rules, affinity, endpoints) is per ServicePort, never per Service. `key` is 'namespace/name:portName:PROTOCOL'. */
export interface ServicePort {
  readonly key: string; readonly serviceKey: string; readonly namespace: string; readonly name: string;
  readonly portName: string; readonly protocol: Protocol; readonly port: number;
  /** 0 = none. */
  readonly nodePort: number;
  readonly appProtocol: string | undefined; readonly targetPort: number | string | undefined;
  readonly endpoints: { readonly [family in IPFamily]: readonly Endpoint[] };
}

export interface ServiceInfo {
  readonly key: string; readonly service: Service;
  readonly isHeadless: boolean; readonly isExternalName: boolean;
  /** Whether a Service proxy handles it: has a ClusterIP, is not ExternalName, and no label gives it to another proxy. */
  readonly isProxied: boolean;
  /** Canonical addresses of both families. */
  readonly clusterIPs: readonly string[]; readonly externalIPs: readonly string[];
  /** status.loadBalancer addresses whose ipMode is VIP or unset. */
  readonly loadBalancerIPs: readonly string[];
  /** loadBalancerSourceRanges, trimmed; empty = everybody. */
  readonly sourceRanges: readonly string[];
  readonly internalPolicyLocal: boolean; readonly externalPolicyLocal: boolean;
  /** ClientIP affinity timeout; 0 = no affinity. */
  readonly affinityTimeoutSeconds: number;
  /** 0 = none. */
  readonly healthCheckNodePort: number;
  readonly ports: readonly ServicePort[];
  readonly slices: ReadonlyMap<string, EndpointSlice>;
}

export type DirtyListener = (serviceKey: string, triggerTimeMs: number | undefined) => void;

export interface ServiceViewOptions {
  /** Value of service.kubernetes.io/service-proxy-name that this node's proxy answers to; default none. */
  proxyName?: string | undefined;
  /** This node: of two copies of one address the local one wins. */
  nodeName?: string | undefined;
}

const noSlices: ReadonlyMap<string, EndpointSlice> = new Map();

export class ServiceView {
  readonly #services: Informer<Service>;
  readonly #slices: Informer<EndpointSlice>;
  readonly #options: ServiceViewOptions;
  readonly #slicesByService = new Map<string, Map<string, EndpointSlice>>();
  readonly #built = new Map<string, ServiceInfo>();
  readonly #listeners = new Set<DirtyListener>();

  constructor(informers: { services: Informer<Service>; endpointSlices: Informer<EndpointSlice> }, options: ServiceViewOptions = {}) {
    this.#services = informers.services;
    this.#slices = informers.endpointSlices;
    this.#options = options;
    for (const slice of this.#slices.store.values()) this.#indexSlice(slice);
    this.#services.onChange(({ key }) => this.#mark(key, undefined));
    this.#slices.onChange(({ type, object, old }) => {
      const oldKey = old === undefined ? undefined : serviceKeyOf(old);
      if (old !== undefined) this.#unindexSlice(old);
      if (type !== 'delete') this.#indexSlice(object);
      const key = serviceKeyOf(object);
      if (oldKey !== undefined && oldKey !== key) this.#mark(oldKey, undefined);
      if (key !== undefined) this.#mark(key, triggerTime(object, old));
    });
  }

  get size(): number { return this.#services.store.size; }
  /** Both lists were received whole once: before that no rule may be written. */
  get hasSynced(): boolean { return this.#services.hasSynced && this.#slices.hasSynced; }
  async whenSynced(): Promise<void> { await Promise.all([this.#services.whenSynced(), this.#slices.whenSynced()]); }

  /** Calls back with each Service key whose joined state may have changed, in event order. Must only mark. */
  onDirty(listener: DirtyListener): () => void {
    this.#listeners.add(listener);
    return () => { this.#listeners.delete(listener); };
  }

  /** The joined state; undefined when the Service does not exist. The same object is returned until something changes. */
  get(key: string): ServiceInfo | undefined {
    const present = this.#built.get(key);
    if (present !== undefined) return present;
    const service = this.#services.store.get(key);
    if (service === undefined) return undefined;
    const info = joinService(key, service, this.#slicesByService.get(key) ?? noSlices, this.#options);
    this.#built.set(key, info);
    return info;
  }

  keys(): IterableIterator<string> { return this.#services.store.keys(); }

  *values(): Iterable<ServiceInfo> {
    for (const key of this.#services.store.keys()) {
      const info = this.get(key);
      if (info !== undefined) yield info;
    }
  }

  #mark(key: string, triggerTimeMs: number | undefined): void {
    this.#built.delete(key);
    for (const listener of this.#listeners) listener(key, triggerTimeMs);
  }

  #indexSlice(slice: EndpointSlice): void {
    const key = serviceKeyOf(slice);
    if (key === undefined) return;
    const slices = this.#slicesByService.get(key);
    if (slices === undefined) this.#slicesByService.set(key, new Map([[slice.metadata.name, slice]]));
    else slices.set(slice.metadata.name, slice);
  }

  #unindexSlice(slice: EndpointSlice): void {
    const key = serviceKeyOf(slice);
    if (key === undefined) return;
    const slices = this.#slicesByService.get(key);
    slices?.delete(slice.metadata.name);
    if (slices?.size === 0) this.#slicesByService.delete(key);
  }
}

function serviceKeyOf(slice: EndpointSlice): string | undefined {
  const name = slice.metadata.labels?.[labels.serviceName];
  return name === undefined || name === '' ? undefined : `${slice.metadata.namespace}/${name}`;
}

function triggerTime(slice: EndpointSlice, old: EndpointSlice | undefined): number | undefined {
  const text = slice.metadata.annotations?.[annotations.lastChangeTriggerTime];
  if (text === undefined || text === old?.metadata.annotations?.[annotations.lastChangeTriggerTime]) return undefined;
  const time = Date.parse(text);
  return Number.isNaN(time) ? undefined : time;
}

function isForThisProxy(objectLabels: Record<string, string> | undefined, proxyName: string | undefined): boolean {
  const given = objectLabels?.[labels.proxyName];
  return given === proxyName && objectLabels?.[labels.headless] === undefined;
}

/** Joins one Service with its slices. Pure; O(endpoints × ports). */
export function joinService(key: string, service: Service, slices: ReadonlyMap<string, EndpointSlice>, options: ServiceViewOptions = {}): ServiceInfo {
  const spec = service.spec ?? {};
  const clusterIPs = canonicalAll((spec.clusterIPs?.length ?? 0) > 0 ? spec.clusterIPs : [spec.clusterIP ?? '']);
  const isExternalName = spec.type === 'ExternalName';
  const isHeadless = !isExternalName && clusterIPs.length === 0;
  const isVisible = isForThisProxy(service.metadata.labels, options.proxyName);
  const isExternal = spec.type === 'NodePort' || spec.type === 'LoadBalancer' || (spec.externalIPs?.length ?? 0) > 0;
  return Object.freeze({
    key, service, isHeadless, isExternalName,
    isProxied: isVisible && clusterIPs.length > 0 && !isExternalName,
    clusterIPs, externalIPs: canonicalAll(spec.externalIPs),
    loadBalancerIPs: spec.type === 'LoadBalancer'
      ? canonicalAll(service.status?.loadBalancer?.ingress?.filter((item) => item.ipMode === undefined || item.ipMode === 'VIP').map((item) => item.ip ?? ''))
      : [],
    sourceRanges: spec.type === 'LoadBalancer' ? (spec.loadBalancerSourceRanges ?? []).map((range) => range.trim()) : [],
    internalPolicyLocal: spec.internalTrafficPolicy === 'Local',
    externalPolicyLocal: isExternal && spec.externalTrafficPolicy === 'Local',
    affinityTimeoutSeconds: spec.sessionAffinity === 'ClientIP' ? (spec.sessionAffinityConfig?.clientIP?.timeoutSeconds ?? 10_800) : 0,
    healthCheckNodePort: spec.type === 'LoadBalancer' && spec.externalTrafficPolicy === 'Local' ? (spec.healthCheckNodePort ?? 0) : 0,
    ports: (spec.ports ?? []).map((port) => joinPort(key, service, port, slices, options)),
    slices,
  });
}

function canonicalAll(addresses: readonly string[] | undefined): string[] {
  const result: string[] = [];
  for (const address of addresses ?? []) {
    const canonical = readAddress(address);
    if (canonical !== undefined && !result.includes(canonical)) result.push(canonical);
  }
  return result;
}

/** Canonical text. Kubernetes reads old spellings with blanks or leading zeros as decimal: 010.0.0.1 is 10.0.0.1. */
function readAddress(address: string): string | undefined {
  const canonical = canonicalIP(address);
  if (canonical !== undefined) return canonical;
  const text = address.trim();
  return canonicalIP(text.includes(':') ? text : text.replace(/(^|\.)0+(?=\d)/g, '$1'));
}

function joinPort(serviceKey: string, service: Service, port: ServicePortSpec, slices: ReadonlyMap<string, EndpointSlice>, options: ServiceViewOptions): ServicePort {
  const protocol = port.protocol ?? 'TCP';
  const portName = port.name ?? '';
  const found: { [family in IPFamily]: Map<string, Endpoint> } = { IPv4: new Map(), IPv6: new Map() };
  for (const slice of slices.values()) {
    if (slice.addressType === 'FQDN' || slice.metadata.labels?.[labels.proxyName] !== options.proxyName) continue;
    for (const slicePort of slice.ports ?? []) {
      if (slicePort.name !== portName || (slicePort.protocol ?? 'TCP') !== protocol || slicePort.port === undefined || slicePort.port === null || slicePort.port === 0) continue;
      for (const endpoint of slice.endpoints ?? []) addEndpoint(found, slice.addressType, endpoint, slicePort.port, options.nodeName);
    }
  }
  return Object.freeze({
    key: `${serviceKey}:${portName}:${protocol}`, serviceKey, namespace: service.metadata.namespace ?? '', name: service.metadata.name,
    portName, protocol, port: port.port, nodePort: port.nodePort ?? 0, appProtocol: port.appProtocol, targetPort: port.targetPort,
    endpoints: Object.freeze({ IPv4: [...found.IPv4.values()], IPv6: [...found.IPv6.values()] }),
  });
}

function addEndpoint(found: { [family in IPFamily]: Map<string, Endpoint> }, family: IPFamily, raw: SliceEndpoint, port: number, thisNode: string | undefined): void {
  const ip = readAddress(raw.addresses[0] ?? '');
  if (ip === undefined || familyOf(ip) !== family) return;
  const endpoint: Endpoint = {
    ip, port, nodeName: raw.nodeName, zone: raw.zone, hostname: raw.hostname,
    ready: raw.conditions?.ready ?? true, serving: raw.conditions?.serving ?? true, terminating: raw.conditions?.terminating ?? false,
    hintZones: raw.hints?.forZones?.map((zone) => zone.name), hintNodes: raw.hints?.forNodes?.map((node) => node.name),
    podKey: raw.targetRef?.kind === 'Pod' && raw.targetRef.name !== undefined ? objectKey({ metadata: { name: raw.targetRef.name, namespace: raw.targetRef.namespace ?? '' } }) : undefined,
  };
  const id = `${ip} ${port}`;
  const present = found[family].get(id);
  if (present === undefined || (endpoint.nodeName !== undefined && endpoint.nodeName === thisNode)) found[family].set(id, endpoint);
}
