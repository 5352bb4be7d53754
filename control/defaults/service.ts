// Defaults of Service, Endpoints, EndpointSlice and IngressClass. Called by `defaults`.
// Source: kubernetes pkg/apis/core/v1/defaults.go SetDefaults_Service, pkg/apis/discovery/v1, pkg/apis/networking/v1.

import type { Fields } from './fill.ts';
import { fieldsOf, fill, listOf, maybeFields } from './fill.ts';

/** Seconds that ClientIP affinity lasts when not set. */
const affinitySeconds = 10_800;

/** Fills a Service's spec. clusterIP, nodePort and families are the allocator's job. */
export function setServiceDefaults(object: Fields): void {
  const spec = fieldsOf(object, 'spec');
  fill(spec, 'sessionAffinity', 'None');
  if (spec['sessionAffinity'] === 'None') delete spec['sessionAffinityConfig'];
  if (spec['sessionAffinity'] === 'ClientIP') {
    const client = fieldsOf(fieldsOf(spec, 'sessionAffinityConfig'), 'clientIP');
    fill(client, 'timeoutSeconds', affinitySeconds);
  }
  fill(spec, 'type', 'ClusterIP');
  for (const port of listOf(spec, 'ports')) {
    fill(port, 'protocol', 'TCP');
    if (port['targetPort'] === 0) delete port['targetPort'];
    fill(port, 'targetPort', port['port']);
  }
  const type = spec['type'];
  const externalIPs = spec['externalIPs'];
  const isExternal = type === 'NodePort' || type === 'LoadBalancer' || (type === 'ClusterIP' && Array.isArray(externalIPs) && externalIPs.length > 0);
  if (isExternal) fill(spec, 'externalTrafficPolicy', 'Cluster');
  if (type === 'ClusterIP' || type === 'NodePort' || type === 'LoadBalancer') fill(spec, 'internalTrafficPolicy', 'Cluster');
  if (type === 'LoadBalancer') fill(spec, 'allocateLoadBalancerNodePorts', true);
  const balancer = fieldsOf(fieldsOf(object, 'status'), 'loadBalancer');
  if (type === 'LoadBalancer') for (const ingress of listOf(balancer, 'ingress')) if (typeof ingress['ip'] === 'string' && ingress['ip'] !== '') fill(ingress, 'ipMode', 'VIP');
}

/**
 * Keeps `clusterIP` and `clusterIPs` in step where the client set or changed only one of them, as the registry does before
 * allocation. `old` is the stored Service on an update.
 */
export function normalizeClusterIPs(object: Fields, old?: Fields): void {
  const spec = fieldsOf(object, 'spec');
  const oldSpec = maybeFields(old, 'spec');
  const ip = (spec['clusterIP'] ?? '') as string;
  const ips = Array.isArray(spec['clusterIPs']) ? spec['clusterIPs'] as string[] : [];
  if (oldSpec === undefined) {
    if (ip !== '' && ips.length === 0) spec['clusterIPs'] = [ip];
    return;
  }
  const oldIP = (oldSpec['clusterIP'] ?? '') as string;
  const oldIPs = Array.isArray(oldSpec['clusterIPs']) ? oldSpec['clusterIPs'] as string[] : [];
  if (oldIP !== '' && ip === '') {
    // Clearing clusterIP clears clusterIPs too, unless the client set those itself.
    if (sameList(ips, oldIPs)) delete spec['clusterIPs'];
    return;
  }
  if (oldIP !== ip && sameList(ips, oldIPs)) spec['clusterIPs'] = [ip];
}

function sameList(a: readonly string[], b: readonly string[]): boolean { return a.length === b.length && a.every((item, index) => item === b[index]); }

/** Endpoints: ports are TCP. */
export function setEndpointsDefaults(object: Fields): void {
  for (const subset of listOf(object, 'subsets')) for (const port of listOf(subset, 'ports')) fill(port, 'protocol', 'TCP');
}

/** EndpointSlice: port names are "", protocols TCP. */
export function setSliceDefaults(object: Fields): void {
  for (const port of listOf(object, 'ports')) {
    fill(port, 'name', '');
    fill(port, 'protocol', 'TCP');
  }
}

/** IngressClass: parameters are cluster-wide. */
export function setIngressClassDefaults(object: Fields): void {
  const parameters = maybeFields(maybeFields(object, 'spec'), 'parameters');
  if (parameters !== undefined) fill(parameters, 'scope', 'Cluster');
}
