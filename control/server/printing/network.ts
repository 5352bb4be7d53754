// Columns of Service, Endpoints, EndpointSlice, Ingress, IngressClass, NetworkPolicy and Lease.
// Source: kubernetes/kubernetes pkg/printers/internalversion/printers.go.

import { age, firstFew, formatLabels, formatSelector, none } from './cells.ts';
import { printer, type CellContext, type Loose, type Printer } from './columns.ts';

const ageOf = (object: Loose, context: CellContext): string => age(object.metadata.creationTimestamp, context.nowMs);
const endpointsShownMax = 3;

export const networkPrinters: Readonly<Record<string, Printer>> = {
  services: printer('Name, Type, Cluster-IP, External-IP, Port(s), Age, *Selector', serviceCells),
  endpoints: printer('Name, Endpoints, Age', (endpoints, context) => [endpoints.metadata.name, endpointsCell(endpoints), ageOf(endpoints, context)]),
  'endpointslices.discovery.k8s.io': printer('Name, AddressType, Ports, Endpoints, Age', sliceCells),
  'ingresses.networking.k8s.io': printer('Name, Class, Hosts, Address, Ports, Age', ingressCells),
  'ingressclasses.networking.k8s.io': printer('Name, Controller, Parameters, Age', ingressClassCells),
  'networkpolicies.networking.k8s.io': printer('Name, Pod-Selector, Age', (policy, context) => [policy.metadata.name, formatSelector(policy.spec?.podSelector), ageOf(policy, context)]),
  'leases.coordination.k8s.io': printer('Name, Holder, Age', (lease, context) => [lease.metadata.name, lease.spec?.holderIdentity ?? '', ageOf(lease, context)]),
};

function serviceCells(service: Loose, context: CellContext): unknown[] {
  const { spec = {} } = service;
  const clusterIP = spec.type === 'ExternalName' ? none : (spec.clusterIPs?.[0] ?? spec.clusterIP ?? '');
  const ports = (spec.ports ?? []).map((port: Loose) => `${port.port}${port.nodePort > 0 ? `:${port.nodePort}` : ''}/${port.protocol}`).join(',');
  return [service.metadata.name, spec.type ?? '', clusterIP === '' ? none : clusterIP, externalIPs(service), ports === '' ? none : ports, ageOf(service, context), formatLabels(spec.selector)];
}

function externalIPs(service: Loose): string {
  const { spec = {} } = service;
  const own: string[] = spec.externalIPs ?? [];
  if (spec.type === 'ExternalName') return spec.externalName ?? none;
  if (spec.type !== 'LoadBalancer') return own.length === 0 ? none : own.join(',');
  const given = loadBalancerAddresses(service);
  const all = [...given, ...own];
  return all.length === 0 ? '<pending>' : all.join(',');
}

function loadBalancerAddresses(object: Loose): string[] {
  return [...new Set<string>((object.status?.loadBalancer?.ingress ?? []).map((item: Loose) => item.ip || item.hostname || '').filter((text: string) => text !== ''))];
}

function endpointsCell(endpoints: Loose): string {
  const list: string[] = [];
  for (const subset of endpoints.subsets ?? []) {
    if ((subset.ports ?? []).length === 0) for (const address of subset.addresses ?? []) list.push(address.ip);
    for (const port of subset.ports ?? []) for (const address of subset.addresses ?? []) list.push(address.ip.includes(':') ? `[${address.ip}]:${port.port}` : `${address.ip}:${port.port}`);
  }
  return firstFew(list, endpointsShownMax, none);
}

function sliceCells(slice: Loose, context: CellContext): unknown[] {
  const ports = (slice.ports ?? []).map((port: Loose) => (port.port === undefined || port.port === null ? '*' : String(port.port)));
  const addresses = (slice.endpoints ?? []).flatMap((endpoint: Loose) => endpoint.addresses ?? []);
  return [slice.metadata.name, slice.addressType ?? '', firstFew(ports, endpointsShownMax, '<unset>'), firstFew(addresses, endpointsShownMax, '<unset>'), ageOf(slice, context)];
}

function ingressCells(ingress: Loose, context: CellContext): unknown[] {
  const hosts = (ingress.spec?.rules ?? []).map((rule: Loose) => rule.host ?? '').filter((host: string) => host !== '');
  const shown = hosts.length === 0 ? '*' : firstFew(hosts, 3, '*');
  const addresses = loadBalancerAddresses(ingress);
  return [ingress.metadata.name, ingress.spec?.ingressClassName ?? none, shown, addresses.join(','), (ingress.spec?.tls ?? []).length > 0 ? '80, 443' : '80', ageOf(ingress, context)];
}

function ingressClassCells(item: Loose, context: CellContext): unknown[] {
  const parameters = item.spec?.parameters;
  const text = parameters === undefined || parameters === null ? none : `${parameters.kind}${parameters.apiGroup === undefined ? '' : `.${parameters.apiGroup}`}/${parameters.name}`;
  return [item.metadata.name, item.spec?.controller ?? '', text, ageOf(item, context)];
}
