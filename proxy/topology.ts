// Which endpoints of a ServicePort this node may use: the one pure function that every engine and the L7 balancers
// share. Called by proxier (plans) and explain; the packet paths of each result are listed in nftables/README.md.
//
//   cluster set: ready endpoints that pass topology hints; none ready: all that serve while terminating (no hints).
//   local set:   ready endpoints of this node; none: those of this node that serve while terminating (KEP-1669).
//
// The two fall back independently, so a node may serve external traffic from its last terminating Pod while ClusterIP
// traffic already goes to ready Pods elsewhere. Not ready and not terminating is never used.
// Source: kubernetes pkg/proxy/topology.go, KEP-1669, KEP-2433, KEP-3685, KEP-4444.

import type { Endpoint, ServiceInfo, ServicePort } from '../api/services.ts';
import type { IPFamily } from '../api/types.ts';

/** This node as topology sees it; an empty name makes nothing local, an absent zone never gets same-zone. */
export interface NodeTopology { readonly name: string; readonly zone?: string | undefined }

export type TopologyMode = 'none' | 'same-node' | 'same-zone';

/** `local` and `cluster` are filled only where `usesLocal` / `usesCluster` says that some path needs them. */
export interface Selection {
  readonly cluster: readonly Endpoint[];
  readonly local: readonly Endpoint[];
  /** Some endpoint anywhere is usable; false means refuse (not drop). */
  readonly hasAny: boolean;
  readonly usesCluster: boolean;
  readonly usesLocal: boolean;
  readonly mode: TopologyMode;
}

const none: readonly Endpoint[] = Object.freeze([]);

/** Selects the candidate sets of one port and family on one node. O(endpoints). */
export function selectEndpoints(info: ServiceInfo, port: ServicePort, family: IPFamily, node: NodeTopology): Selection {
  const endpoints = distinct(port.endpoints[family], node.name);
  const isExternal = isExternallyAccessible(info, port);
  const usesCluster = !info.internalPolicyLocal || isExternal;
  const usesLocal = info.internalPolicyLocal || (info.externalPolicyLocal && isExternal);
  const ready = endpoints.filter((endpoint) => endpoint.ready);
  const terminating = endpoints.filter((endpoint) => !endpoint.ready && endpoint.serving && endpoint.terminating);
  const mode = topologyMode(ready, node);
  return {
    cluster: usesCluster ? clusterSet(ready, terminating, mode, node) : none,
    local: usesLocal ? localSet(ready, terminating, node) : none,
    hasAny: ready.length > 0 || terminating.length > 0,
    usesCluster, usesLocal, mode,
  };
}

/** True when a NodePort, external IP or load-balancer address leads to the port; these need the short circuit. */
export function isExternallyAccessible(info: ServiceInfo, port: ServicePort): boolean {
  return port.nodePort !== 0 || info.externalIPs.length > 0 || info.loadBalancerIPs.length > 0;
}

/** An endpoint is local when its nodeName is this node's; an empty node name has nothing local. */
export function isLocal(endpoint: Endpoint, nodeName: string): boolean {
  return nodeName !== '' && endpoint.nodeName === nodeName;
}

function clusterSet(ready: readonly Endpoint[], terminating: readonly Endpoint[], mode: TopologyMode, node: NodeTopology): readonly Endpoint[] {
  if (ready.length === 0) return terminating;
  if (mode === 'none') return ready;
  if (mode === 'same-node') return ready.filter((endpoint) => endpoint.hintNodes?.includes(node.name));
  const zone = node.zone ?? '';
  return ready.filter((endpoint) => endpoint.hintZones?.includes(zone));
}

function localSet(ready: readonly Endpoint[], terminating: readonly Endpoint[], node: NodeTopology): readonly Endpoint[] {
  const local = ready.filter((endpoint) => isLocal(endpoint, node.name));
  return local.length > 0 ? local : terminating.filter((endpoint) => isLocal(endpoint, node.name));
}

/** All ready endpoints must carry a hint and one must name this node (or zone); a single one without switches it off. */
function topologyMode(ready: readonly Endpoint[], node: NodeTopology): TopologyMode {
  if (ready.length === 0) return 'none';
  const zone = node.zone ?? '';
  let isNodeHinted = node.name !== '';
  let isZoneHinted = zone !== '';
  let hasNode = false;
  let hasZone = false;
  for (const endpoint of ready) {
    if (endpoint.hintNodes === undefined || endpoint.hintNodes.length === 0) isNodeHinted = false;
    else if (endpoint.hintNodes.includes(node.name)) hasNode = true;
    if (endpoint.hintZones === undefined || endpoint.hintZones.length === 0) isZoneHinted = false;
    else if (endpoint.hintZones.includes(zone)) hasZone = true;
  }
  if (isNodeHinted && hasNode) return 'same-node';
  return isZoneHinted && hasZone ? 'same-zone' : 'none';
}

/** One copy per ip:port (it may stand in several slices while it moves); the local copy wins, then the ready one. */
function distinct(endpoints: readonly Endpoint[], nodeName: string): readonly Endpoint[] {
  if (endpoints.length < 2) return endpoints;
  const byAddress = new Map<string, Endpoint>();
  for (const endpoint of endpoints) {
    const key = `${endpoint.ip} ${endpoint.port}`;
    const present = byAddress.get(key);
    if (present === undefined || isBetter(endpoint, present, nodeName)) byAddress.set(key, endpoint);
  }
  return byAddress.size === endpoints.length ? endpoints : [...byAddress.values()];
}

function isBetter(candidate: Endpoint, present: Endpoint, nodeName: string): boolean {
  const candidateLocal = isLocal(candidate, nodeName);
  if (candidateLocal !== isLocal(present, nodeName)) return candidateLocal;
  return candidate.ready && !present.ready;
}
