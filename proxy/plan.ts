// The engine-neutral plan of one Service on one node: ServiceInfo and this node's topology in, addresses and candidate
// endpoints per port and family out. Pure. Called by proxier in the plan phase and by `explain`.

import { familyOf } from '../api/address.ts';
import type { Endpoint, ServiceInfo, ServicePort } from '../api/services.ts';
import type { IPFamily } from '../api/types.ts';
import type { PortPlan, ServicePlan } from './backend.ts';
import type { NodeTopology } from './topology.ts';
import { selectEndpoints } from './topology.ts';

/** Undefined when the Service is not for a proxy: headless, ExternalName, or handed to another proxy by label. */
export function planService(info: ServiceInfo, node: NodeTopology, families: readonly IPFamily[]): ServicePlan | undefined {
  if (!info.isProxied) return undefined;
  const ports: PortPlan[] = [];
  for (const family of families) {
    if (!info.clusterIPs.some((ip) => familyOf(ip) === family)) continue;
    for (const port of info.ports) ports.push(planPort(info, port, family, node));
  }
  return { key: info.key, info, ports };
}

function planPort(info: ServiceInfo, port: ServicePort, family: IPFamily, node: NodeTopology): PortPlan {
  const ofFamily = (ips: readonly string[]): string[] => ips.filter((ip) => familyOf(ip) === family);
  const selection = selectEndpoints(info, port, family, node);
  return {
    key: port.key, namespace: port.namespace, name: port.name, portName: port.portName, family,
    protocol: port.protocol, port: port.port, nodePort: port.nodePort, appProtocol: port.appProtocol,
    clusterIP: ofFamily(info.clusterIPs)[0], externalIPs: ofFamily(info.externalIPs), loadBalancerIPs: ofFamily(info.loadBalancerIPs),
    sourceRanges: info.sourceRanges, isInternalLocal: info.internalPolicyLocal, isExternalLocal: info.externalPolicyLocal,
    affinityTimeoutSeconds: info.affinityTimeoutSeconds,
    cluster: selection.cluster, local: selection.local, hasAny: selection.hasAny,
    serving: port.protocol === 'UDP' ? servingAddresses(port.endpoints[family]) : [],
  };
}

function servingAddresses(endpoints: readonly Endpoint[]): string[] {
  return [...new Set(endpoints.filter((endpoint) => endpoint.serving).map((endpoint) => endpoint.ip))];
}
