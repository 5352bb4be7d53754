// Which node of the cluster zone a name is, without looking at the query type: existence is decided here once, so that
// NXDOMAIN and NODATA never depend on what is asked (RFC 2308, RFC 8020; kubernetes/dns specification 1.1.0 §2).
// Pure but for reading the zone. Called by answer.ts, explain.ts and the transfer.

import { canonicalIP, formatIP, parseIP } from '../../api/address.ts';
import type { ServiceZone, Zone } from './zone.ts';

/** Why a name does not exist; worded for people by `reasonText`. */
export type Absence = 'shape' | 'namespace' | 'service' | 'notReady' | 'endpoint' | 'port' | 'pod' | 'podsDisabled' | 'externalName' | 'unknown';

export type Node =
  | { readonly kind: 'apex' } | { readonly kind: 'nameServer' } | { readonly kind: 'version' }
  /** An empty non-terminal: exists, has no records. */
  | { readonly kind: 'empty'; readonly service: ServiceZone | undefined }
  | { readonly kind: 'service'; readonly service: ServiceZone }
  | { readonly kind: 'endpoint'; readonly service: ServiceZone; readonly host: string }
  | { readonly kind: 'port'; readonly service: ServiceZone; readonly port: string; readonly protocol: string }
  | { readonly kind: 'zonal'; readonly service: ServiceZone; readonly zoneName: string; readonly isPinned: boolean }
  | { readonly kind: 'pod'; readonly address: string }
  | { readonly kind: 'reverse'; readonly ip: string; readonly services: readonly ServiceZone[] }
  | { readonly kind: 'absent'; readonly why: Absence; readonly service: ServiceZone | undefined; readonly namespace: string; readonly name: string };

const apex: Node = Object.freeze({ kind: 'apex' });
const nameServer: Node = Object.freeze({ kind: 'nameServer' });
const version: Node = Object.freeze({ kind: 'version' });
const empty: Node = Object.freeze({ kind: 'empty', service: undefined });
const badShape: Node = Object.freeze({ kind: 'absent', why: 'shape', service: undefined, namespace: '', name: '' });

function absent(why: Absence, namespace: string, name = '', service?: ServiceZone): Node {
  return { kind: 'absent', why, service, namespace, name };
}

/** The node at the name whose labels left of the zone are `labels`, leftmost first, lower case. */
export function findNode(zone: Zone, labels: readonly string[]): Node {
  const count = labels.length;
  if (count === 0) return apex;
  switch (labels[count - 1]) {
    case 'svc': return count === 1 ? empty : findBelowServices(zone, labels, count);
    case 'pod': return count === 1 ? empty : findPod(zone, labels, count);
    case 'dns': return count === 1 ? empty : count === 2 && labels[0] === 'ns' ? nameServer : badShape;
    case 'dns-version': return count === 1 ? version : badShape;
    default: return badShape;
  }
}

function findBelowServices(zone: Zone, labels: readonly string[], count: number): Node {
  const namespace = labels[count - 2] ?? '';
  if (!zone.namespaces.has(namespace)) return absent(zone.isSynced || zone.staleSinceMs > 0 ? 'namespace' : 'unknown', namespace);
  if (count === 2) return empty;
  const name = labels[count - 3] ?? '';
  const service = zone.services.get(`${namespace}/${name}`);
  if (service === undefined) return absent(zone.isSynced || zone.staleSinceMs > 0 ? 'service' : 'unknown', namespace, name);
  const { records } = service;
  if (records.kind === 'external') return count === 3 ? { kind: 'service', service } : absent('externalName', namespace, name, service);
  if (records.kind === 'headless' && records.endpoints.length === 0) return absent('notReady', namespace, name, service);
  if (count === 3) return { kind: 'service', service };
  return findBelowService(zone, service, labels, count);
}

function findBelowService(zone: Zone, service: ServiceZone, labels: readonly string[], count: number): Node {
  const { namespace, name } = service.records;
  const nearest = labels[count - 4] ?? '';
  if (nearest.startsWith('_')) {
    if (nearest === '_zone' && zone.options.isZonal) return findZonal(service, labels, count);
    const protocol = nearest.slice(1);
    if (count === 4) return hasPort(service, undefined, protocol) ? { kind: 'empty', service } : absent('port', namespace, name, service);
    const label = labels[count - 5] ?? '';
    if (count !== 5 || !label.startsWith('_')) return absent('port', namespace, name, service);
    const port = label.slice(1);
    return hasPort(service, port, protocol) ? { kind: 'port', service, port, protocol } : absent('port', namespace, name, service);
  }
  if (count !== 4) return badShapeBelow(service);
  return service.hosts.has(nearest) ? { kind: 'endpoint', service, host: nearest } : absent('endpoint', namespace, name, service);
}

function badShapeBelow(service: ServiceZone): Node { return absent('shape', service.records.namespace, service.records.name, service); }

/** Whether a named port exists: of the Service, or of the slices when there is no cluster address. `port` undefined = any. */
function hasPort({ records }: ServiceZone, port: string | undefined, protocol: string): boolean {
  const sets = records.kind === 'cluster' ? [records.ports] : records.portSets;
  return sets.some((set) => set.some((item) => item.name !== '' && (port === undefined || item.name === port) && item.protocol.toLowerCase() === protocol));
}

/** `zone.pin._zone.svc.ns.svc` and `….prefer.…`; the zone text may span labels. Only for headless Services. */
function findZonal(service: ServiceZone, labels: readonly string[], count: number): Node {
  const directive = labels[count - 5];
  if (service.records.kind !== 'headless' || (directive !== undefined && directive !== 'pin' && directive !== 'prefer')) return badShapeBelow(service);
  if (directive === undefined || count === 5) return { kind: 'empty', service };
  return { kind: 'zonal', service, zoneName: labels.slice(0, count - 5).join('.'), isPinned: directive === 'pin' };
}

function findPod(zone: Zone, labels: readonly string[], count: number): Node {
  const namespace = labels[count - 2] ?? '';
  const { podsMode } = zone.options;
  if (podsMode === 'disabled') return absent('podsDisabled', namespace);
  if (!zone.namespaces.has(namespace)) return absent(zone.isSynced || zone.staleSinceMs > 0 ? 'namespace' : 'unknown', namespace);
  if (count === 2) return empty;
  if (count > 3) return badShape;
  const address = addressOfLabel(labels[0] ?? '');
  if (address === undefined) return absent('pod', namespace, labels[0]);
  if (podsMode === 'verified' && !zone.podByAddress.has(`${namespace} ${address}`)) {
    return absent(zone.isSynced || zone.staleSinceMs > 0 ? 'pod' : 'unknown', namespace, labels[0]);
  }
  return { kind: 'pod', address };
}

/** Three dashes and no double one are an IPv4 address, anything else is tried as IPv6. */
function addressOfLabel(label: string): string | undefined {
  const parts = label.split('-');
  return canonicalIP(parts.length === 4 && !label.includes('--') ? parts.join('.') : parts.join(':'));
}

/** Address of a complete reverse name (labels leftmost first, whole name), canonical; undefined when it is none. */
export function addressOfReverseName(labels: readonly string[]): string | undefined {
  const count = labels.length;
  if (labels[count - 1] !== 'arpa') return undefined;
  if (labels[count - 2] === 'in-addr' && count === 6) {
    const text = `${labels[3]}.${labels[2]}.${labels[1]}.${labels[0]}`;
    return canonicalIP(text);
  }
  if (labels[count - 2] !== 'ip6' || count !== 34) return undefined;
  const bytes = new Uint8Array(16);
  for (let index = 0; index < 32; index++) {
    const nibble = labels[index] ?? '';
    if (!/^[0-9a-f]$/.test(nibble)) return undefined;
    const at = 15 - (index >> 1);
    bytes[at] = (bytes[at] ?? 0) | (Number.parseInt(nibble, 16) << ((index & 1) * 4));
  }
  return formatIP(bytes);
}

/** Reverse name labels of an address, for explain and tools. */
export function reverseLabels(ip: string): string[] {
  const address = parseIP(ip);
  if (address === undefined) return [];
  if (address.bytes.length === 4) return [...[...address.bytes].reverse().map(String), 'in-addr', 'arpa'];
  const labels: string[] = [];
  for (const octet of [...address.bytes].reverse()) labels.push((octet & 15).toString(16), (octet >> 4).toString(16));
  return [...labels, 'ip6', 'arpa'];
}

/** One sentence on why a name does not exist, for the Extended DNS Error and `explain`. */
export function reasonText(node: Node): string {
  if (node.kind !== 'absent') return node.kind === 'empty' ? 'nothing is stored at this name, only below it' : 'the name exists, not with this type';
  const { namespace, name, service } = node;
  switch (node.why) {
    case 'shape': return 'no name of this form exists in the cluster zone';
    case 'namespace': return `no Namespace ${namespace}`;
    case 'service': return `no Service ${name} in Namespace ${namespace}`;
    case 'notReady': return `Service ${namespace}/${name} exists, 0 of ${service?.records.endpointCount ?? 0} endpoints ready`;
    case 'endpoint': return `Service ${namespace}/${name} has no ready endpoint of this name`;
    case 'port': return `Service ${namespace}/${name} has no such named port`;
    case 'externalName': return `Service ${namespace}/${name} is an ExternalName: nothing exists below it`;
    case 'pod': return `no Pod with this address in Namespace ${namespace}`;
    case 'podsDisabled': return 'pod names are switched off';
    case 'unknown': return 'the list of Services was not received yet';
  }
}
