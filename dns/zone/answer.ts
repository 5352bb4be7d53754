// Node → records: compiles the answer of one name and type. Answers that hang on one Service alone are remembered in the
// zone's hot table. Called by dns/engine/engine.ts when the hot table has no entry; next: wire/reply.ts.
// Source: kubernetes/dns specification 1.1.0 §2; RFC 2308 (negative answers), RFC 8482 (ANY), RFC 2782 (SRV).

import { parseIP } from '../../api/address.ts';
import { extendedErrors, rcodes, rrTypes } from '../wire/constants.ts';
import { negativeTemplate, type AnswerBuilder, type ExtendedError, type Template } from '../wire/builder.ts';
import { nameKey, prefixKey } from '../wire/names.ts';
import { reasonText, type Node } from './find.ts';
import type { EndpointRecord, PortRecord } from './records.ts';
import { hostOf, type ServiceZone, type Zone } from './zone.ts';

/** Version of the Kubernetes DNS schema that `dns-version` announces. */
export const schemaVersion = '1.1.0';
const schemaTtlSeconds = 28_800;
const dnsPort = 53;

/** What the compiled records mean for the rest of the reply. */
export type Outcome =
  | { readonly kind: 'records'; readonly rotateSize: number }
  /** The last record added is a CNAME to this name key: go on there. */
  | { readonly kind: 'alias'; readonly target: string }
  | { readonly kind: 'none' };

const none: Outcome = Object.freeze({ kind: 'none' });
const fixed: Outcome = Object.freeze({ kind: 'records', rotateSize: 0 });
const fourOctets: Outcome = Object.freeze({ kind: 'records', rotateSize: 16 });
const sixteenOctets: Outcome = Object.freeze({ kind: 'records', rotateSize: 28 });

/** Adds the records of `node` for `qtype` under `owner` to the builder. */
export function addRecords(zone: Zone, node: Node, owner: string, qtype: number, builder: AnswerBuilder): Outcome {
  if (qtype === rrTypes.ANY) return addAny(zone, node, owner, builder);
  switch (node.kind) {
    case 'service': return addService(zone, node.service, owner, qtype, builder);
    case 'endpoint': return addAddresses(zone, owner, qtype, (node.service.hosts.get(node.host) ?? []).map((item) => item[0]), builder);
    case 'port': return qtype === rrTypes.SRV ? addSrv(zone, node.service, owner, builder, node.port, node.protocol) : none;
    case 'zonal': return addZonal(zone, node.service, owner, qtype, builder, node.zoneName, node.isPinned);
    case 'pod': return addAddresses(zone, owner, qtype, [node.address], builder);
    case 'reverse': return qtype === rrTypes.PTR ? addPointers(zone, owner, node.ip, node.services, builder) : none;
    case 'apex': return addApex(zone, owner, qtype, builder);
    case 'nameServer': return addAddresses(zone, owner, qtype, serverAddresses(zone), builder);
    case 'version':
      if (qtype !== rrTypes.TXT) return none;
      builder.addText(owner, schemaTtlSeconds, schemaVersion);
      return fixed;
    case 'empty': case 'absent': return none;
  }
}

/** One RRset is enough for ANY (RFC 8482 §4.1), so that it amplifies nothing. */
function addAny(zone: Zone, node: Node, owner: string, builder: AnswerBuilder): Outcome {
  for (const type of [rrTypes.CNAME, rrTypes.A, rrTypes.AAAA, rrTypes.SRV, rrTypes.PTR, rrTypes.TXT, rrTypes.SOA]) {
    if (type !== rrTypes.CNAME && node.kind === 'service' && node.service.records.kind === 'external') break;
    const outcome = addRecords(zone, node, owner, type, builder);
    if (builder.recordCount > 0) return outcome;
  }
  return none;
}

function addService(zone: Zone, service: ServiceZone, owner: string, qtype: number, builder: AnswerBuilder): Outcome {
  const { records } = service;
  if (records.kind === 'external') return addAlias(zone, service, owner, qtype, builder);
  if (qtype === rrTypes.SRV) return addSrv(zone, service, owner, builder, undefined, undefined);
  if (records.kind === 'cluster') return addAddresses(zone, owner, qtype, records.clusterIPs, builder);
  return addAddresses(zone, owner, qtype, records.endpoints.map((item) => item[0]), builder);
}

function addAlias(zone: Zone, service: ServiceZone, owner: string, qtype: number, builder: AnswerBuilder): Outcome {
  const { externalName } = service.records;
  const target = nameKey(externalName);
  // An address is no host name: a CNAME to it would leak one query to the root for each lookup.
  if (target === undefined || target.length < 3 || parseIP(externalName.replace(/\.$/, '')) !== undefined) return none;
  builder.addName(owner, rrTypes.CNAME, zone.options.ttlSeconds, target);
  return qtype === rrTypes.CNAME ? fixed : { kind: 'alias', target };
}

function addAddresses(zone: Zone, owner: string, qtype: number, addresses: readonly string[], builder: AnswerBuilder): Outcome {
  if (qtype !== rrTypes.A && qtype !== rrTypes.AAAA) return none;
  const size = qtype === rrTypes.A ? 4 : 16;
  const seen = new Set<string>();
  for (const ip of addresses) {
    if (ip.includes(':') !== (size === 16) || seen.has(ip)) continue;
    seen.add(ip);
    const bytes = parseIP(ip)?.bytes;
    if (bytes?.length !== size || builder.isFull) continue;
    builder.addAddress(owner, zone.options.ttlSeconds, bytes);
  }
  return seen.size === 0 ? none : size === 4 ? fourOctets : sixteenOctets;
}

interface ServiceTarget { readonly port: number; readonly target: string; readonly addresses: readonly string[] }

/** `port` and `protocol` undefined = every port, as SRV on the bare Service name lists them. */
function addSrv(zone: Zone, service: ServiceZone, owner: string, builder: AnswerBuilder, port: string | undefined, protocol: string | undefined): Outcome {
  const targets = service.records.kind === 'cluster' ? clusterTargets(zone, service, port, protocol) : endpointTargets(zone, service, service.records.endpoints, port, protocol);
  return addTargets(zone, owner, targets, builder);
}

function addTargets(zone: Zone, owner: string, targets: readonly ServiceTarget[], builder: AnswerBuilder): Outcome {
  if (targets.length === 0) return none;
  const ttl = zone.options.ttlSeconds;
  const weight = Math.max(1, Math.floor(100 / targets.length));
  for (const item of targets) if (!builder.isFull) builder.addSrv(owner, ttl, weight, item.port, item.target);
  builder.beginAdditional();
  const done = new Set<string>();
  for (const { target, addresses } of targets) {
    if (done.has(target)) continue;
    done.add(target);
    for (const ip of addresses) {
      const bytes = parseIP(ip)?.bytes;
      if (bytes !== undefined && !builder.isFull) builder.addAddress(target, ttl, bytes);
    }
  }
  return fixed;
}

function isWanted(item: PortRecord, port: string | undefined, protocol: string | undefined): boolean {
  return port === undefined || (item.name === port && item.name !== '' && item.protocol.toLowerCase() === protocol);
}

function clusterTargets(zone: Zone, { records }: ServiceZone, port: string | undefined, protocol: string | undefined): ServiceTarget[] {
  const target = zone.name(records.name, records.namespace, 'svc');
  return records.ports.filter((item) => isWanted(item, port, protocol)).map((item) => ({ port: item.port, target, addresses: records.clusterIPs }));
}

function endpointTargets(zone: Zone, service: ServiceZone, endpoints: readonly EndpointRecord[], port: string | undefined, protocol: string | undefined): ServiceTarget[] {
  const { records, hosts } = service;
  const base = zone.name(records.name, records.namespace, 'svc');
  const targets = new Map<string, ServiceTarget>();
  for (const endpoint of endpoints) {
    const host = hostOf(endpoint);
    for (const item of records.portSets[endpoint[2]] ?? []) {
      const id = `${host} ${item.port}`;
      if (!isWanted(item, port, protocol) || targets.has(id)) continue;
      targets.set(id, { port: item.port, target: prefixKey(host, base), addresses: [...new Set((hosts.get(host) ?? []).map((each) => each[0]))] });
    }
  }
  return [...targets.values()];
}

function addZonal(zone: Zone, service: ServiceZone, owner: string, qtype: number, builder: AnswerBuilder, zoneName: string, isPinned: boolean): Outcome {
  const inZone = service.records.endpoints.filter((endpoint) => endpoint[3].toLowerCase() === zoneName);
  const chosen = inZone.length === 0 && !isPinned ? service.records.endpoints : inZone;
  if (qtype === rrTypes.SRV) return addTargets(zone, owner, endpointTargets(zone, service, chosen, undefined, undefined), builder);
  return addAddresses(zone, owner, qtype, chosen.map((endpoint) => endpoint[0]), builder);
}

/** A cluster address wins over endpoints; an endpoint has one name per Service that selects it. */
function addPointers(zone: Zone, owner: string, ip: string, services: readonly ServiceZone[], builder: AnswerBuilder): Outcome {
  const targets = new Set<string>();
  for (const { records } of services) if (records.clusterIPs.includes(ip)) targets.add(zone.name(records.name, records.namespace, 'svc'));
  if (targets.size === 0) {
    for (const { records } of services) {
      const base = zone.name(records.name, records.namespace, 'svc');
      for (const endpoint of records.endpoints) if (endpoint[0] === ip) targets.add(prefixKey(hostOf(endpoint), base));
    }
  }
  for (const target of targets) if (!builder.isFull) builder.addName(owner, rrTypes.PTR, zone.options.ttlSeconds, target);
  return targets.size === 0 ? none : fixed;
}

function addApex(zone: Zone, owner: string, qtype: number, builder: AnswerBuilder): Outcome {
  const ttl = zone.options.ttlSeconds;
  if (qtype === rrTypes.SOA) {
    builder.addSoa(owner, Math.min(ttl, 300), zone.name('ns', 'dns'), zone.name('hostmaster'), zone.serial, ttl);
    return fixed;
  }
  if (qtype !== rrTypes.NS) return none;
  const servers = nameServers(zone);
  for (const { target } of servers) builder.addName(owner, rrTypes.NS, ttl, target);
  builder.beginAdditional();
  for (const { target, addresses } of servers) {
    for (const ip of addresses) {
      const bytes = parseIP(ip)?.bytes;
      if (bytes !== undefined) builder.addAddress(target, ttl, bytes);
    }
  }
  return fixed;
}

/** The Services that lead to this server, else `ns.dns` with its own addresses. */
export function nameServers(zone: Zone): { target: string; addresses: readonly string[] }[] {
  const found = new Map<string, readonly string[]>();
  for (const ip of zone.options.ownAddresses) {
    for (const { records } of zone.ownersOf(ip)) {
      // The same address may serve other things: only a Service with the DNS port leads to this server.
      if (!records.ports.some((item) => item.port === dnsPort)) continue;
      const base = zone.name(records.name, records.namespace, 'svc');
      if (records.kind === 'cluster') found.set(base, records.clusterIPs);
      else for (const endpoint of records.endpoints) if (endpoint[0] === ip) found.set(prefixKey(hostOf(endpoint), base), [ip]);
    }
  }
  if (found.size === 0) return [{ target: zone.name('ns', 'dns'), addresses: zone.options.ownAddresses }];
  return [...found].map(([target, addresses]) => ({ target, addresses }));
}

function serverAddresses(zone: Zone): string[] { return [...new Set(nameServers(zone).flatMap(({ addresses }) => addresses))]; }

/** The Service on which the whole answer of this node hangs; undefined when it must not be remembered. */
export function serviceOf(node: Node): ServiceZone | undefined {
  switch (node.kind) {
    case 'service': return node.service.records.kind === 'external' ? undefined : node.service;
    case 'endpoint': case 'port': return node.service;
    default: return undefined;
  }
}

/** The reply to a name that is absent, or has nothing of the type. `soaStart` = where the zone begins in the question name. */
export function negativeAnswer(zone: Zone, node: Node, soaStart: number, isReasonWanted: boolean): Template {
  if (node.kind === 'absent' && node.why === 'unknown') {
    return negativeTemplate({ rcode: rcodes.SERVFAIL, soaStart: -1, error: { code: extendedErrors.notReady, text: reasonText(node) } });
  }
  const rcode = node.kind === 'absent' ? rcodes.NXDOMAIN : rcodes.NOERROR;
  return negativeTemplate({ rcode, soaStart, error: isReasonWanted ? negativeReason(zone, node) : undefined, isAuthoritative: true });
}

function negativeReason(zone: Zone, node: Node): ExtendedError {
  const code = zone.staleSinceMs === 0 ? extendedErrors.other : node.kind === 'absent' ? extendedErrors.staleNxdomain : extendedErrors.staleAnswer;
  return { code, text: reasonText(node) };
}
