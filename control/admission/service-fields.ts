// What a write of a Service means for the fields that the server may have filled in itself: which no longer apply when
// the type changes, which are carried over when the client left them out, and which IP families it ends up with. Pure;
// the allocator (./service-allocation.ts) runs these first.
// Source: kubernetes pkg/registry/core/service/strategy.go (dropTypeDependentFields, patchAllocatedValues),
// storage/alloc.go (initIPFamilyFields).

import { familyOf } from '../../api/address.ts';
import type { IPFamily, Service, ServiceSpec } from '../../api/types.ts';

export const hasClusterIPs = (spec: ServiceSpec): boolean => spec.type !== 'ExternalName';
export const hasNodePorts = (spec: ServiceSpec): boolean => spec.type === 'NodePort' || (spec.type === 'LoadBalancer' && spec.allocateLoadBalancerNodePorts !== false);
export const hasHealthCheckPort = (spec: ServiceSpec): boolean => spec.type === 'LoadBalancer' && spec.externalTrafficPolicy === 'Local';
export const isHeadless = (spec: ServiceSpec): boolean => spec.clusterIPs?.[0] === 'None' || spec.clusterIP === 'None';
const hasExternalPolicy = (spec: ServiceSpec): boolean => spec.type === 'NodePort' || spec.type === 'LoadBalancer' || (spec.type === 'ClusterIP' && (spec.externalIPs?.length ?? 0) > 0);

/** Wipes what the old type needed and the new one does not, where the client did not touch it. Changes `spec`. */
export function dropTypeDependentFields(spec: ServiceSpec, old: ServiceSpec): void {
  if (hasClusterIPs(old) && !hasClusterIPs(spec)) {
    if (isSame(spec.clusterIPs, old.clusterIPs) && (spec.clusterIP ?? '') === (old.clusterIP ?? '')) { delete spec.clusterIP; delete spec.clusterIPs; }
    if (isSame(spec.ipFamilies, old.ipFamilies)) delete spec.ipFamilies;
    if (spec.ipFamilyPolicy === old.ipFamilyPolicy) delete spec.ipFamilyPolicy;
    if (spec.internalTrafficPolicy === old.internalTrafficPolicy) delete spec.internalTrafficPolicy;
  }
  if (hasNodePorts(old) && !hasNodePorts(spec) && hasSameNodePorts(spec, old)) for (const port of spec.ports ?? []) delete port.nodePort;
  if (hasHealthCheckPort(old) && !hasHealthCheckPort(spec) && spec.healthCheckNodePort === old.healthCheckNodePort) delete spec.healthCheckNodePort;
  if (old.type === 'LoadBalancer' && spec.type !== 'LoadBalancer') {
    if (spec.allocateLoadBalancerNodePorts === old.allocateLoadBalancerNodePorts) delete spec.allocateLoadBalancerNodePorts;
    if (spec.loadBalancerClass === old.loadBalancerClass) delete spec.loadBalancerClass;
  }
  if (hasExternalPolicy(old) && !hasExternalPolicy(spec) && spec.externalTrafficPolicy === old.externalTrafficPolicy) delete spec.externalTrafficPolicy;
}

/** Fills in addresses and ports that the client left out, from what the Service already has. Changes `spec`. */
export function patchAllocatedValues(spec: ServiceSpec, old: ServiceSpec): void {
  if (hasClusterIPs(old) && hasClusterIPs(spec)) {
    if ((spec.clusterIP ?? '') === '' && old.clusterIP !== undefined) spec.clusterIP = old.clusterIP;
    if ((spec.clusterIPs?.length ?? 0) === 0 && spec.clusterIP === old.clusterIP && old.clusterIPs !== undefined) spec.clusterIPs = [...old.clusterIPs];
  }
  if (hasNodePorts(old) && hasNodePorts(spec)) patchNodePorts(spec, old);
  if (hasHealthCheckPort(old) && hasHealthCheckPort(spec) && (spec.healthCheckNodePort ?? 0) === 0 && old.healthCheckNodePort !== undefined) spec.healthCheckNodePort = old.healthCheckNodePort;
}

function patchNodePorts(spec: ServiceSpec, old: ServiceSpec): void {
  const oldPorts = nodePortsOf(old);
  const used = new Set([...nodePortsOf(spec)].filter((port) => oldPorts.has(port)));
  const byName = new Map((old.ports ?? []).map((port) => [port.name ?? '', port.nodePort ?? 0]));
  for (const port of spec.ports ?? []) {
    const known = byName.get(port.name ?? '') ?? 0;
    if ((port.nodePort ?? 0) !== 0 || known === 0 || used.has(known)) continue;
    port.nodePort = known;
    used.add(known);
  }
}

/** The node ports of a spec, without the health check port. */
export function nodePortsOf(spec: ServiceSpec): Set<number> {
  const ports = new Set<number>();
  for (const { nodePort } of spec.ports ?? []) if (nodePort !== undefined && nodePort !== 0) ports.add(nodePort);
  return ports;
}

function hasSameNodePorts(spec: ServiceSpec, old: ServiceSpec): boolean {
  const before = nodePortsOf(old);
  for (const port of nodePortsOf(spec)) if (!before.has(port)) return false;
  return true;
}

export interface FamilyProblem { field: string; value: unknown; message: string }

/**
 * Settles ipFamilies and ipFamilyPolicy of a Service that has cluster IPs. `clusterFamilies` starts with the primary
 * one. Changes `spec`; returns what cannot be met.
 */
export function settleFamilies(spec: ServiceSpec, old: ServiceSpec | undefined, clusterFamilies: readonly IPFamily[]): FamilyProblem[] {
  if (old !== undefined && hasClusterIPs(old)) {
    if (isUntouchedPreferDual(spec, old)) return [];
    carryFamilies(spec, old);
  }
  const problems: FamilyProblem[] = [];
  const families = [...(spec.ipFamilies ?? [])];
  const ips = (spec.clusterIPs ?? []).filter((ip) => ip !== 'None');
  ips.forEach((ip, index) => {
    if (index < families.length) return;
    const family = familyOf(ip);
    if (clusterFamilies.includes(family)) families.push(family);
    else problems.push({ field: `spec.clusterIPs[${index}]`, value: spec.clusterIPs, message: `${family} is not configured on this cluster` });
  });
  if (problems.length > 0) return problems;
  if (isHeadless(spec) && Object.keys(spec.selector ?? {}).length === 0) { settleSelectorless(spec, families, clusterFamilies); return []; }
  if (spec.ipFamilyPolicy === undefined || spec.ipFamilyPolicy === 'SingleStack') {
    if (ips.length > 1) problems.push({ field: 'spec.ipFamilyPolicy', value: spec.ipFamilyPolicy ?? 'SingleStack', message: 'must be RequireDualStack or PreferDualStack when multiple clusterIPs are specified' });
    else if (families.length > 1) problems.push({ field: 'spec.ipFamilyPolicy', value: spec.ipFamilyPolicy ?? 'SingleStack', message: 'must be RequireDualStack or PreferDualStack when multiple ipFamilies are specified' });
    if (problems.length > 0) return problems;
  }
  spec.ipFamilyPolicy ??= 'SingleStack';
  if (families.length === 0) families.push(clusterFamilies[0] ?? 'IPv4');
  if (spec.ipFamilyPolicy !== 'SingleStack' && families.length === 1) {
    const other = clusterFamilies.find((family) => family !== families[0]);
    if (other !== undefined) families.push(other);
  }
  spec.ipFamilies = families;
  return [];
}

/** Headless and without selector: whoever writes the endpoints decides, so both families are allowed on any cluster. */
function settleSelectorless(spec: ServiceSpec, families: IPFamily[], clusterFamilies: readonly IPFamily[]): void {
  if (families.length === 0) families.push(clusterFamilies[0] ?? 'IPv4');
  spec.ipFamilyPolicy ??= families.length > 1 || spec.ipFamilies === undefined || spec.ipFamilies.length === 0 ? 'RequireDualStack' : 'SingleStack';
  if (spec.ipFamilyPolicy !== 'SingleStack' && families.length === 1) families.push(families[0] === 'IPv4' ? 'IPv6' : 'IPv4');
  spec.ipFamilies = families;
}

/** An update keeps policy and families it does not name; going back to SingleStack gives up an untouched second one. */
function carryFamilies(spec: ServiceSpec, old: ServiceSpec): void {
  if (spec.ipFamilyPolicy === undefined && old.ipFamilyPolicy !== undefined) spec.ipFamilyPolicy = old.ipFamilyPolicy;
  if ((spec.ipFamilies?.length ?? 0) === 0 && old.ipFamilies !== undefined) spec.ipFamilies = [...old.ipFamilies];
  if (spec.ipFamilyPolicy !== 'SingleStack' || old.ipFamilyPolicy === 'SingleStack') return;
  if ((spec.clusterIPs?.length ?? 0) > 1 && isSame(spec.clusterIPs, old.clusterIPs)) spec.clusterIPs = spec.clusterIPs?.slice(0, 1) ?? [];
  if ((spec.ipFamilies?.length ?? 0) > 1 && isSame(spec.ipFamilies, old.ipFamilies)) spec.ipFamilies = spec.ipFamilies?.slice(0, 1) ?? [];
}

/** PreferDualStack Services are not upgraded behind their owner's back when the cluster gains a family. */
function isUntouchedPreferDual(spec: ServiceSpec, old: ServiceSpec): boolean {
  return spec.ipFamilyPolicy === 'PreferDualStack' && old.ipFamilyPolicy === 'PreferDualStack'
    && (old.ipFamilies?.length ?? 0) > 0 && isSame(spec.ipFamilies, old.ipFamilies) && isSame(spec.clusterIPs, old.clusterIPs);
}

function isSame(a: readonly unknown[] | undefined, b: readonly unknown[] | undefined): boolean {
  const [x, y] = [a ?? [], b ?? []];
  return x.length === y.length && x.every((item, index) => item === y[index]);
}

/** Clears status.loadBalancer of a Service that is no longer of type LoadBalancer. Returns the Service to store. */
export function dropLoadBalancerStatus(service: Service): Service {
  if (service.spec?.type === 'LoadBalancer' || (service.status?.loadBalancer?.ingress?.length ?? 0) === 0) return service;
  return { ...service, status: { ...service.status, loadBalancer: {} } };
}
