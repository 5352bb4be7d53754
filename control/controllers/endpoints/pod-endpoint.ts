// What a Pod looks like as an endpoint of a Service: whether it is one at all, its address, ports and conditions. Pure.
// Source: kubernetes staging/src/k8s.io/endpointslice/{utils.go,reconciler.go}, pkg/api/v1/endpoints.

import { familyOf, isLinkLocal, isLoopback, isMulticast, isUnspecified, type Cidr } from '../../../api/address.ts';
import { labels } from '../../../api/meta.ts';
import type { Condition, Container, IPFamily, Node, Pod, Service, ServicePortSpec, SliceEndpoint, SlicePort } from '../../../api/types.ts';

export function conditionOf(object: { status?: { conditions?: Condition[] } }, type: string): Condition | undefined {
  return object.status?.conditions?.find((condition) => condition.type === type);
}

export function isPodReady(pod: Pod): boolean { return conditionOf(pod, 'Ready')?.status === 'True'; }
export function isPodTerminal(pod: Pod): boolean { return pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed'; }

/** Finished Pods and Pods without an address are no endpoints. */
export function mayBeEndpoint(pod: Pod, isTerminatingIncluded: boolean): boolean {
  if (isPodTerminal(pod)) return false;
  if ((pod.status?.podIP ?? '') === '' && (pod.status?.podIPs?.length ?? 0) === 0) return false;
  return isTerminatingIncluded || pod.metadata.deletionTimestamp === undefined;
}

/** The Pod's address of the family. */
export function podIPOf(pod: Pod, family: IPFamily): string | undefined {
  for (const { ip } of pod.status?.podIPs ?? []) if (familyOf(ip) === family) return ip;
  const ip = pod.status?.podIP;
  return ip !== undefined && ip !== '' && familyOf(ip) === family ? ip : undefined;
}

/** Has no cluster IP of its own: headless, or not served by proxies at all. */
export function isWithoutClusterIP(service: Service): boolean {
  const ip = service.spec?.clusterIP;
  return ip === undefined || ip === '' || ip === 'None';
}

/** Families that a Service has endpoints in; before allocation the family of its address. */
export function familiesOf(service: Service): readonly IPFamily[] {
  const { ipFamilies, clusterIP } = service.spec ?? {};
  if (ipFamilies !== undefined && ipFamilies.length > 0) return ipFamilies;
  return [clusterIP !== undefined && clusterIP.includes(':') ? 'IPv6' : 'IPv4'];
}

/** The number behind a Service port on this Pod; undefined when the Pod has no port of that name. */
export function resolvePort(pod: Pod, port: ServicePortSpec): number | undefined {
  const target = port.targetPort;
  if (target === undefined || target === '' || target === 0) return port.port;
  if (typeof target === 'number') return target;
  const protocol = port.protocol ?? 'TCP';
  for (const container of containersWithPorts(pod)) for (const each of container.ports ?? []) if (each.name === target && (each.protocol ?? 'TCP') === protocol) return each.containerPort;
  return undefined;
}

function* containersWithPorts(pod: Pod): Iterable<Container> {
  yield* pod.spec?.containers ?? [];
  for (const container of pod.spec?.initContainers ?? []) if (container.restartPolicy === 'Always') yield container;
}

/** The Service's ports as this Pod has them; ports that it does not have are left out. */
export function endpointPorts(service: Service, pod: Pod): SlicePort[] {
  const ports: SlicePort[] = [];
  for (const port of service.spec?.ports ?? []) {
    const number = resolvePort(pod, port);
    if (number !== undefined) ports.push({ name: port.name ?? '', port: number, protocol: port.protocol ?? 'TCP', ...(port.appProtocol === undefined ? {} : { appProtocol: port.appProtocol }) });
  }
  return ports;
}

/** Equal texts mean equal port lists. */
export function portsKey(ports: readonly SlicePort[]): string {
  return ports.map((port) => `${port.name ?? ''}/${port.protocol ?? 'TCP'}/${port.port ?? ''}/${port.appProtocol ?? ''}`).sort().join(',');
}

/** hostname counts only in the subdomain that is the Service. */
export function hostnameIn(service: Service, pod: Pod): string | undefined {
  const { hostname, subdomain } = pod.spec ?? {};
  return hostname !== undefined && hostname !== '' && subdomain === service.metadata.name ? hostname : undefined;
}

/** The endpoint of a Pod, without hints. */
export function sliceEndpoint(service: Service, pod: Pod, node: Node | undefined, ip: string): SliceEndpoint {
  const serving = isPodReady(pod);
  const terminating = pod.metadata.deletionTimestamp !== undefined;
  const { namespace, name, uid } = pod.metadata;
  const nodeName = pod.spec?.nodeName;
  const zone = node?.metadata.labels?.[labels.zone];
  const hostname = hostnameIn(service, pod);
  return {
    addresses: [ip],
    conditions: { ready: service.spec?.publishNotReadyAddresses === true || (serving && !terminating), serving, terminating },
    ...(hostname === undefined ? {} : { hostname }),
    targetRef: { kind: 'Pod', ...(namespace === undefined ? {} : { namespace }), name, ...(uid === undefined ? {} : { uid }) },
    ...(nodeName === undefined || nodeName === '' ? {} : { nodeName }),
    ...(zone === undefined || zone === '' ? {} : { zone }),
  };
}

/**
 * Whether traffic may be sent to what a Pod says its address is. Loopback only inside the Pod range of a node without
 * root, or when it is the node's own address (hostNetwork).
 * Source: CVE-2021-25737.
 */
export function isUsableAddress(ip: string, node: Node | undefined, podRanges: readonly Cidr[]): boolean {
  if (isUnspecified(ip) || isLinkLocal(ip) || isMulticast(ip)) return false;
  return !isLoopback(ip) || podRanges.some((range) => range.contains(ip)) || (node?.status?.addresses ?? []).some(({ address }) => address === ip);
}
