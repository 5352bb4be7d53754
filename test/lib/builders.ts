// Short builders of API objects for tests: only what a case is about has to be written.

import type { Endpoint } from '../../api/services.ts';
import type { EndpointSlice, Service, ServicePortSpec, SliceEndpoint, SlicePort } from '../../api/types.ts';

let uidCount = 0;
const nextUid = (): string => `00000000-0000-4000-8000-${String(++uidCount).padStart(12, '0')}`;

/** A Service `namespace/name` (namespace `default` when left out) with port 80/TCP unless given. */
export function service(key: string, spec: Partial<NonNullable<Service['spec']>> = {}, metadata: Partial<Service['metadata']> = {}): Service {
  const [namespace, name] = key.includes('/') ? (key.split('/') as [string, string]) : ['default', key];
  const ports: ServicePortSpec[] = [{ name: '', port: 80, protocol: 'TCP' }];
  return { apiVersion: 'v1', kind: 'Service', metadata: { namespace, name, uid: nextUid(), resourceVersion: '1', creationTimestamp: '2026-01-01T00:00:00Z', ...metadata }, spec: { type: 'ClusterIP', ports, ...spec } };
}

/** An EndpointSlice of a Service; each endpoint is an address or a SliceEndpoint. */
export function slice(serviceKey: string, endpoints: (string | SliceEndpoint)[], options: { name?: string; ports?: SlicePort[]; addressType?: EndpointSlice['addressType']; annotations?: Record<string, string>; labels?: Record<string, string> } = {}): EndpointSlice {
  const [namespace, name] = serviceKey.includes('/') ? (serviceKey.split('/') as [string, string]) : ['default', serviceKey];
  return {
    apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', addressType: options.addressType ?? 'IPv4',
    metadata: { namespace, name: options.name ?? `${name}-1`, uid: nextUid(), resourceVersion: '1', labels: { 'kubernetes.io/service-name': name, ...options.labels }, ...(options.annotations === undefined ? {} : { annotations: options.annotations }) },
    ports: options.ports ?? [{ name: '', port: 8080, protocol: 'TCP' }],
    endpoints: endpoints.map((item) => (typeof item === 'string' ? { addresses: [item], conditions: { ready: true } } : item)),
  };
}

/** A ready endpoint as the Service view gives it. */
export function endpoint(ip: string, port = 8080, more: Partial<Endpoint> = {}): Endpoint {
  return { ip, port, nodeName: undefined, zone: undefined, hostname: undefined, ready: true, serving: true, terminating: false, hintZones: undefined, hintNodes: undefined, podKey: undefined, ...more };
}
