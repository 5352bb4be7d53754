// From the shared Service view to what the DNS thread needs of a Service. Pure: the main thread calls it for each Service
// that a watch event marked dirty and posts the result. Names and addresses are checked again here, so that a bad object
// gives no record instead of a bad packet; only ready endpoints count (ready nil = true; serving and terminating are not
// looked at). Source: kubernetes/dns specification 1.1.0 §2.1, §2.4; discovery.k8s.io/v1 EndpointSlice.

import { canonicalIP, familyOf } from '../../api/address.ts';
import { isDnsLabel, splitKey } from '../../api/meta.ts';
import type { ServiceInfo } from '../../api/services.ts';
import type { EndpointSlice, SlicePort } from '../../api/types.ts';
import type { EndpointRecord, PortRecord, ServiceRecords } from '../zone/records.ts';

const portName = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;

/** The records of one Service; undefined when its name cannot stand in DNS. O(endpoints). */
export function planService(info: ServiceInfo): ServiceRecords | undefined {
  const { namespace, name } = splitKey(info.key);
  if (!isDnsLabel(namespace) || !isDnsLabel(name)) return undefined;
  const kind = info.isExternalName ? 'external' : info.isHeadless ? 'headless' : 'cluster';
  const portSets: PortRecord[][] = [];
  const endpoints: EndpointRecord[] = [];
  let endpointCount = 0;
  if (kind !== 'external') {
    const seen = new Set<string>();
    for (const slice of info.slices.values()) endpointCount += planSlice(slice, portSets, endpoints, seen);
  }
  return {
    namespace, name, kind,
    clusterIPs: kind === 'cluster' ? info.clusterIPs : [],
    externalName: kind === 'external' ? (info.service.spec?.externalName ?? '') : '',
    ports: (info.service.spec?.ports ?? []).map((port) => ({ name: cleanPortName(port.name), protocol: port.protocol ?? 'TCP', port: port.port })),
    portSets, endpoints, endpointCount,
  };
}

/** Adds the slice's ready endpoints and returns how many it has in all. */
function planSlice(slice: EndpointSlice, portSets: PortRecord[][], endpoints: EndpointRecord[], seen: Set<string>): number {
  if (slice.addressType === 'FQDN') return 0;
  const portSet = portSetIndex(portSets, slice.ports ?? []);
  for (const endpoint of slice.endpoints ?? []) {
    if (endpoint.conditions?.ready === false) continue;
    const hostname = endpoint.hostname !== undefined && isDnsLabel(endpoint.hostname) ? endpoint.hostname : '';
    for (const address of endpoint.addresses) {
      const ip = canonicalIP(address);
      if (ip === undefined || familyOf(ip) !== slice.addressType) continue;
      const id = `${ip} ${hostname} ${portSet}`;
      if (seen.has(id)) continue;
      seen.add(id);
      endpoints.push([ip, hostname, portSet, endpoint.zone ?? '']);
    }
  }
  return slice.endpoints?.length ?? 0;
}

function portSetIndex(portSets: PortRecord[][], ports: readonly SlicePort[]): number {
  const set: PortRecord[] = [];
  for (const port of ports) {
    if (port.port === undefined || port.port === null) continue;
    set.push({ name: cleanPortName(port.name ?? ''), protocol: port.protocol ?? 'TCP', port: port.port });
  }
  const text = JSON.stringify(set);
  const present = portSets.findIndex((other) => JSON.stringify(other) === text);
  return present >= 0 ? present : portSets.push(set) - 1;
}

function cleanPortName(name: string | undefined): string { return name !== undefined && portName.test(name) ? name : ''; }
