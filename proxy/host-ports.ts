// Host ports of Pods on this node, told to the engines as if they were Services: `hostPort` is served where NodePorts
// are, or on `hostIP` alone, and leads to the one Pod with the client's source kept. Called by proxier for the Pods that
// the agent runs; pure. Source: PodSpec containers[].ports[] of the Kubernetes API, CNI portmap plug-in.

import { canonicalIP, familyOf, isLoopback, isUnspecified } from '../api/address.ts';
import { objectKey } from '../api/meta.ts';
import type { Endpoint } from '../api/services.ts';
import { joinService } from '../api/services.ts';
import type { IPFamily, Pod } from '../api/types.ts';
import type { PortPlan, ServicePlan } from './backend.ts';

const prefix = 'pod:';

/** Plan key of a Pod's host ports; never equal to a Service's key. */
export function hostPortKey(pod: Pod): string { return prefix + objectKey(pod); }
export function podKeyOf(planKey: string): string | undefined { return planKey.startsWith(prefix) ? planKey.slice(prefix.length) : undefined; }

/** Whether a Pod has host ports that this node must serve now. */
export function hasHostPorts(pod: Pod, nodeName: string): boolean {
  return pod.spec?.nodeName === nodeName && pod.spec.hostNetwork !== true && pod.status?.phase !== 'Succeeded' && pod.status?.phase !== 'Failed'
    && (pod.status?.podIPs?.length ?? (pod.status?.podIP === undefined ? 0 : 1)) > 0
    && pod.spec.containers.some((container) => container.ports?.some((port) => port.hostPort !== undefined && port.hostPort > 0) === true);
}

/** Undefined when there is nothing to serve. */
export function planHostPorts(pod: Pod, nodeName: string, families: readonly IPFamily[]): ServicePlan | undefined {
  if (!hasHostPorts(pod, nodeName)) return undefined;
  const key = hostPortKey(pod);
  const ips = (pod.status?.podIPs?.map((item) => item.ip) ?? [pod.status?.podIP ?? '']).flatMap((ip) => canonicalIP(ip) ?? []);
  const ports: PortPlan[] = [];
  for (const container of pod.spec?.containers ?? []) for (const port of container.ports ?? []) {
    if (port.hostPort === undefined || port.hostPort === 0) continue;
    const hostIP = port.hostIP === undefined || isUnspecified(port.hostIP) ? undefined : canonicalIP(port.hostIP);
    for (const family of families) {
      const ip = ips.find((address) => familyOf(address) === family);
      if (ip === undefined || (hostIP !== undefined && familyOf(hostIP) !== family)) continue;
      const endpoint: Endpoint = { ip, port: port.containerPort, nodeName, zone: undefined, hostname: undefined, ready: true, serving: true, terminating: false, hintZones: undefined, hintNodes: undefined, podKey: objectKey(pod) };
      const isAnywhere = hostIP === undefined || isLoopback(hostIP);
      ports.push({
        key: `${key}:${port.hostPort}:${port.protocol ?? 'TCP'}`, namespace: pod.metadata.namespace ?? '', name: pod.metadata.name, portName: port.name ?? '', family,
        protocol: port.protocol ?? 'TCP', port: port.hostPort, nodePort: isAnywhere ? port.hostPort : 0, appProtocol: undefined, clusterIP: undefined,
        externalIPs: isAnywhere || hostIP === undefined ? [] : [hostIP], loadBalancerIPs: [], sourceRanges: [], isInternalLocal: false, isExternalLocal: true,
        affinityTimeoutSeconds: 0, cluster: [endpoint], local: [endpoint], hasAny: true, serving: [ip],
      });
    }
  }
  const info = joinService(key, { apiVersion: 'v1', kind: 'Pod', metadata: pod.metadata, spec: {} }, new Map());
  return { key, info, ports };
}
