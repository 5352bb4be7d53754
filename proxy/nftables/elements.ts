// Turns the plan of one Service into map elements: the pure half of every sync. The answer depends on the plan and on
// the elements that are already there (`previous`): an endpoint keeps its index and its affinity slot while it lives,
// so that replacing one of a thousand endpoints changes two elements and moves no other client. Called by the engine,
// the property tests and the tracer; diff compares the result with the mirror.

import { isLinkLocal, isLoopback, isMulticast, isUnspecified, parseCIDR } from '../../api/address.ts';
import type { Endpoint } from '../../api/services.ts';
import type { IPFamily } from '../../api/types.ts';
import type { PortPlan } from '../backend.ts';
import { addressPart, kinds, limits, markPart, marks, portPart, protocolPart, readMark, sets, tierOf } from './layout.ts';

/** Set number as one character, then the key's octets: the identity of an element. Data is octets, '' in plain sets. */
export type ElementMap = Map<string, string>;

export interface ElementContext {
  readonly family: IPFamily;
  readonly nodeName: string;
  /** Addresses of this node: a source range that holds one also lets the VIPs themselves in. */
  readonly nodeIPs: readonly string[];
  /** What the kernel holds now for this Service's keys. */
  previous(id: string): string | undefined;
  /** All elements that this Service has now; undefined after a restart, when only `previous` knows. */
  readonly own: ReadonlyMap<string, string> | undefined;
  /** Whether the Service has this address and port (claims); the parts of others are left out. */
  owns(target: string): boolean;
  /** The affinity pool of a ServicePort; `present` = the one its addresses have in the kernel. Undefined when all are taken. */
  poolOf(portKey: string, present: number | undefined): number | undefined;
  /** Class of an affinity timeout, 1…63. */
  timeoutClass(seconds: number): number;
}

/** `problems` are sentences for the Service's Event: parts of it that the kernel cannot serve and that were left out. */
export interface ElementPlan { readonly elements: ElementMap; readonly problems: string[] }

interface Target { readonly key: string; readonly isNodePort: boolean; readonly isExternal: boolean; readonly isRestricted: boolean; readonly address: string }

/** Plans all ports of one family. O(addresses × endpoints). */
export function planElements(ports: readonly PortPlan[], context: ElementContext): ElementPlan {
  const elements: ElementMap = new Map();
  const problems: string[] = [];
  for (const port of ports) if (port.family === context.family) planPort(port, context, elements, problems);
  return { elements, problems };
}

/** The identity of an element. */
export function elementId(set: number, key: string): string { return String.fromCharCode(set) + key; }

function planPort(port: PortPlan, context: ElementContext, elements: ElementMap, problems: string[]): void {
  const cluster = usable(port.cluster, port, context, problems);
  const local = usable(port.local, port, context, problems);
  const hasAny = cluster.length > 0 || local.length > 0 || (port.hasAny && port.cluster.length === 0);
  const targets = targetsOf(port).filter((target) => context.owns(targetId(target)));
  const timeout = port.affinityTimeoutSeconds > 0 && hasAny ? context.timeoutClass(port.affinityTimeoutSeconds) : 0;
  for (const target of targets) {
    const kind = kindOf(port, target.isExternal, hasAny, cluster.length);
    const descriptor = marks.ours | (kind << marks.kindShift) | (timeout << marks.timeoutShift) | (target.isRestricted ? marks.firewall : 0)
      | (tierOf(local.length) << marks.localTierShift) | tierOf(cluster.length);
    elements.set(targetId(target), markPart(descriptor));
    if (target.isRestricted) addSources(port, target, context, elements, problems);
  }
  if (port.clusterIP !== undefined) elements.set(elementId(sets.clusterIPs, addressPart(port.clusterIP, context.family) ?? ''), '');
  if (timeout > 0) planAffinity(port, targets, cluster, local, context, elements, problems);
  else planChoices(targets, cluster, local, context, elements);
  for (const endpoint of [...port.cluster, ...port.local]) addHairpin(endpoint, context, elements);
}

function kindOf(port: PortPlan, isExternal: boolean, hasAny: boolean, clusterCount: number): number {
  if (!hasAny) return kinds.reject;
  if (isExternal) return port.isExternalLocal ? kinds.externalLocal : clusterCount === 0 ? kinds.reject : kinds.externalCluster;
  if (port.isInternalLocal) return kinds.internalLocal;
  return clusterCount === 0 ? kinds.reject : kinds.internalCluster;
}

/** Identities of the descriptors that a port claims: what `claims` decides about. */
export function targetIdsOf(port: PortPlan): string[] { return targetsOf(port).map(targetId); }

function targetId(target: Target): string { return elementId(target.isNodePort ? sets.nodeports : sets.vips, target.key); }

/** Every address under which the port is served. Keys hold no mark: a choice's mark goes in front. */
function targetsOf(port: PortPlan): Target[] {
  const suffix = protocolPart(port.protocol) + portPart(port.port);
  const targets: Target[] = [];
  const add = (ip: string, isExternal: boolean, isRestricted: boolean): void => {
    const address = addressPart(ip, port.family);
    if (address !== undefined) targets.push({ key: address + suffix, isNodePort: false, isExternal, isRestricted, address });
  };
  if (port.clusterIP !== undefined) add(port.clusterIP, false, false);
  for (const ip of port.externalIPs) add(ip, true, false);
  for (const ip of port.loadBalancerIPs) add(ip, true, port.sourceRanges.length > 0);
  if (port.nodePort !== 0) targets.push({ key: protocolPart(port.protocol) + portPart(port.nodePort), isNodePort: true, isExternal: true, isRestricted: false, address: '' });
  return targets;
}

/** Endpoints as octets `address . port`. Never loopback, link-local or multicast, whoever wrote the slice (CVE-2021-25737). */
function usable(endpoints: readonly Endpoint[], port: PortPlan, context: ElementContext, problems: string[]): string[] {
  const result: string[] = [];
  for (const endpoint of endpoints) {
    const address = addressPart(endpoint.ip, context.family);
    if (address === undefined || isForbidden(endpoint.ip)) {
      problems.push(`endpoint ${endpoint.ip} of port ${port.port}/${port.protocol} is a loopback, link-local or multicast address: not used`);
    } else if (!(endpoint.port > 0 && endpoint.port < 65_536)) problems.push(`endpoint ${endpoint.ip} has the impossible port ${endpoint.port}: not used`);
    else result.push(address + portPart(endpoint.port));
  }
  const most = port.affinityTimeoutSeconds > 0 ? limits.slotsMax : limits.endpointsMax;
  if (result.length <= most) return result;
  problems.push(`port ${port.port}/${port.protocol} has ${result.length} endpoints, only ${most} are used`);
  return result.slice(0, most);
}

function isForbidden(ip: string): boolean {
  return isLoopback(ip) || isLinkLocal(ip) || isMulticast(ip) || isUnspecified(ip);
}

function planChoices(targets: readonly Target[], cluster: readonly string[], local: readonly string[], context: ElementContext, elements: ElementMap): void {
  for (const isLocal of [false, true]) {
    const wanted = isLocal ? local : cluster;
    for (const target of targets) {
      if (wanted.length === 0 || !isUsed(target, isLocal, elements)) continue;
      const set = target.isNodePort ? sets.nodeportEndpoints : sets.vipEndpoints;
      const idOf = (index: number): string => elementId(set, markPart(index | (isLocal ? marks.choiceLocal : 0)) + target.key);
      const order = keepIndexes(wanted, (index) => context.previous(idOf(index)));
      for (const [index, data] of order.entries()) elements.set(idOf(index), data);
    }
  }
}

/** Whether the address's kind ever looks at this candidate set: elements nobody reads are not written. */
function isUsed(target: Target, isLocal: boolean, elements: ElementMap): boolean {
  const descriptor = readMark(elements.get(targetId(target)) ?? '', 0);
  const kind = (descriptor & marks.kindMask) >>> marks.kindShift;
  if (kind === kinds.reject) return false;
  if (isLocal) return kind === kinds.internalLocal || kind === kinds.externalLocal;
  return kind !== kinds.internalLocal;
}

/** Gives each wanted value an index 0…n-1, keeping the ones that stand right and filling holes with the rest. */
export function keepIndexes(wanted: readonly string[], previous: (index: number) => string | undefined): string[] {
  const left = new Set(wanted);
  const order = new Array<string | undefined>(left.size);
  for (let index = 0; index < order.length; index++) {
    const present = previous(index);
    if (present !== undefined && left.delete(present)) order[index] = present;
  }
  const rest = left.values();
  return Array.from(order, (value) => value ?? rest.next().value ?? '');
}

function planAffinity(port: PortPlan, targets: readonly Target[], cluster: readonly string[], local: readonly string[], context: ElementContext, elements: ElementMap, problems: string[]): void {
  if (targets.length === 0) return;
  const pool = context.poolOf(port.key, previousPool(targets, context));
  if (pool === undefined) {
    problems.push(`session affinity of port ${port.port}/${port.protocol} is off: all ${limits.poolsMax} affinity pools are in use`);
    for (const target of targets) dropTimeout(target, elements);
    planChoices(targets, cluster, local, context, elements);
    return;
  }
  const slots = assignSlots([...new Set([...cluster, ...local])], pool, context);
  const endpointId = (slot: number, isLocal: boolean): string => elementId(sets.affinityEndpoints, markPart((isLocal ? marks.affinityLocal : 0) | (pool << marks.poolShift) | slot));
  const poolMark = markPart(marks.ours | (pool << marks.poolShift));
  for (const target of targets) elements.set(elementId(target.isNodePort ? sets.nodeportPools : sets.vipPools, target.key), poolMark);
  for (const isLocal of [false, true]) {
    const wanted = isLocal ? local : cluster;
    for (const data of wanted) elements.set(endpointId(slots.get(data) ?? 0, isLocal), data);
    const picks = wanted.map((data) => markPart(marks.ours | (pool << marks.poolShift) | (slots.get(data) ?? 0)));
    for (const target of targets) {
      if (!isUsed(target, isLocal, elements)) continue;
      const set = target.isNodePort ? sets.nodeportPicks : sets.vipPicks;
      const idOf = (index: number): string => elementId(set, markPart(index | (isLocal ? marks.choiceLocal : 0)) + target.key);
      for (const [index, data] of keepIndexes(picks, (at) => context.previous(idOf(at))).entries()) elements.set(idOf(index), data);
    }
  }
}

function dropTimeout(target: Target, elements: ElementMap): void {
  const id = targetId(target);
  elements.set(id, markPart(readMark(elements.get(id) ?? '\0\0\0\0', 0) & ~marks.timeoutMask));
}

function previousPool(targets: readonly Target[], context: ElementContext): number | undefined {
  for (const target of targets) {
    const data = context.previous(elementId(target.isNodePort ? sets.nodeportPools : sets.vipPools, target.key));
    if (data !== undefined) return (readMark(data, 0) & marks.poolMask) >>> marks.poolShift;
  }
  return undefined;
}

/** A living endpoint keeps its slot; a new one takes the next number after the highest, so that no old entry means it. */
function assignSlots(wanted: readonly string[], pool: number, context: ElementContext): Map<string, number> {
  const slots = new Map<string, number>();
  const left = new Set(wanted);
  const taken = new Set<number>();
  let next = 0;
  for (const [slot, data] of presentSlots(pool, context)) {
    next = Math.max(next, slot + 1);
    if (left.delete(data)) { slots.set(data, slot); taken.add(slot); }
  }
  for (const data of left) {
    while (taken.has(next % limits.slotsMax)) next += 1;
    slots.set(data, next % limits.slotsMax);
    taken.add(next % limits.slotsMax);
    next += 1;
  }
  return slots;
}

function* presentSlots(pool: number, context: ElementContext): Generator<[slot: number, data: string]> {
  if (context.own !== undefined) {
    for (const [id, data] of context.own) {
      if (id.charCodeAt(0) !== sets.affinityEndpoints) continue;
      const mark = readMark(id, 1);
      if ((mark & marks.poolMask) >>> marks.poolShift === pool) yield [mark & marks.slotMask, data];
    }
    return;
  }
  for (let slot = 0; slot < limits.slotsMax; slot++) {
    const mark = (pool << marks.poolShift) | slot;
    const data = context.previous(elementId(sets.affinityEndpoints, markPart(mark))) ?? context.previous(elementId(sets.affinityEndpoints, markPart(marks.affinityLocal | mark)));
    if (data !== undefined) yield [slot, data];
  }
}

/** A Pod that reaches itself must see another source than its own address, or its answer never comes back through us. */
function addHairpin(endpoint: Endpoint, context: ElementContext, elements: ElementMap): void {
  if (endpoint.nodeName !== undefined && endpoint.nodeName !== context.nodeName) return;
  const address = addressPart(endpoint.ip, context.family);
  if (address !== undefined && !isForbidden(endpoint.ip)) elements.set(elementId(sets.hairpin, address + address), '');
}

/** Interval elements carry the range's last key as data. An unreadable range lets nobody in. */
function addSources(port: PortPlan, target: Target, context: ElementContext, elements: ElementMap, problems: string[]): void {
  const ranges: [string, string][] = [];
  let isNodeAllowed = false;
  for (const text of port.sourceRanges) {
    const cidr = parseCIDR(text);
    if (cidr === undefined) problems.push(`source range ${JSON.stringify(text)} is not a CIDR: it lets nobody in`);
    else if (cidr.family === context.family) {
      ranges.push(rangeOf(cidr.bytes, cidr.prefixLength));
      isNodeAllowed ||= context.nodeIPs.some((ip) => cidr.contains(ip));
    }
  }
  if (isNodeAllowed) ranges.push([target.address, target.address]);
  for (const [first, last] of disjoint(ranges)) elements.set(elementId(sets.sources, target.key + first), target.key + last);
}

function rangeOf(base: Uint8Array, prefixLength: number): [string, string] {
  const last = Uint8Array.from(base, (octet, index) => octet | (0xff >> Math.max(0, Math.min(8, prefixLength - index * 8))));
  return [String.fromCharCode(...base), String.fromCharCode(...last)];
}

/** CIDRs either nest or are apart; the kernel refuses overlaps, so only the outermost stay. */
function disjoint(ranges: readonly [string, string][]): [string, string][] {
  const result: [string, string][] = [];
  for (const range of [...ranges].sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : a[1] > b[1] ? -1 : 1))) {
    const last = result.at(-1);
    if (last === undefined || range[0] > last[1]) result.push(range);
  }
  return result;
}
