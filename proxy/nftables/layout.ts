// Names, numbers and key forms of the rule set: the contract between the static rules (program), the elements that
// change (elements), the kernel door (netlink) and the packet tracer of the tests. README.md explains the program.
//
// One scratch register, the connection's mark, carries a connection through the chains; it is 0 again when its first
// packet leaves postrouting or input. Its three forms:
//   descriptor  1 0 F kkk tttttt ------ lllllll ccccccc   value of `vips` and `nodeports`: what the address leads to
//   choice      1 M --------------------------- L iiiiiiiiiiiiii   random index i into the cluster or local (L) set
//   affinity    1 M L ppppppppppppppppp ssssssssssss       sticky choice: pool p (a ServicePort), slot s
// M = masquerade on the way out, F = source ranges apply, k = kind, t = timeout class, l / c = tier of the local /
// cluster set. Keys hold marks in host byte order, everything else in network order, each part padded to 4 bytes.

import { parseIP, parseIPv4 } from '../../api/address.ts';
import type { IPFamily, Protocol } from '../../api/types.ts';

export const tableName = 'netloom';

export const marks = Object.freeze({
  ours: 0x80000000, masquerade: 0x40000000, firewall: 0x20000000,
  kindMask: 0x1c000000, kindShift: 26, timeoutMask: 0x03f00000, timeoutShift: 20,
  clusterTierMask: 0x7f, localTierMask: 0x3f80, localTierShift: 7,
  choiceMask: 0x7fff, choiceLocal: 0x4000,
  affinityLocal: 0x20000000, poolMask: 0x1ffff000, poolShift: 12, slotMask: 0xfff, affinityKeyMask: 0x3fffffff,
});

/** What an address leads to. */
export const kinds = Object.freeze({ reject: 1, internalCluster: 2, internalLocal: 3, externalCluster: 4, externalLocal: 5 });

/** Most endpoints per candidate set, per affinity port, affinity ports, and distinct affinity timeouts. */
export const limits = Object.freeze({ endpointsMax: 16_384, slotsMax: 4096, poolsMax: 131_072, timeoutClassesMax: 63, affinityEntriesMax: 262_144 });

/**
 * Moduli of the random choice: exact to 16, then eight per octave. A set of n endpoints uses the smallest tier >= n;
 * an index past the end is drawn again, so the choice stays uniform while endpoints come and go without new chains.
 */
export const tiers: readonly number[] = makeTiers();

function makeTiers(): readonly number[] {
  const list = [0];
  for (let count = 1; count <= 16; count++) list.push(count);
  for (let octave = 16; octave < limits.endpointsMax; octave *= 2) for (let step = 1; step <= 8; step++) list.push(octave + (octave / 8) * step);
  return Object.freeze(list);
}

/** Index into `tiers` of the smallest tier that holds `count` endpoints; 0 for none. */
export function tierOf(count: number): number {
  if (count <= 16) return count;
  let low = 17;
  let high = tiers.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((tiers[middle] ?? 0) >= count) high = middle; else low = middle + 1;
  }
  return low;
}

/** `key` and `data` are nft type names; `data` undefined = a plain set; `isCounted` = each element counts its lookups. The index is the element's set number. */
export interface SetLayout { readonly name: string; readonly key: string; readonly data: string | undefined; readonly isInterval: boolean; readonly isCounted: boolean }

const address = 'ADDR';
const port = 'inet_proto . inet_service';

/** Set numbers, in the order of `setLayouts`. */
export const sets = Object.freeze({
  vips: 0, nodeports: 1, vipEndpoints: 2, nodeportEndpoints: 3, vipPools: 4, nodeportPools: 5, vipPicks: 6, nodeportPicks: 7,
  affinityEndpoints: 8, clusterIPs: 9, hairpin: 10, sources: 11,
});

/** `ADDR` stands for the family's address type. */
export const setLayouts: readonly SetLayout[] = Object.freeze([
  { name: 'vips', key: `${address} . ${port}`, data: 'mark', isInterval: false, isCounted: true },
  { name: 'nodeports', key: port, data: 'mark', isInterval: false, isCounted: true },
  { name: 'vip-endpoints', key: `mark . ${address} . ${port}`, data: `${address} . inet_service`, isInterval: false, isCounted: false },
  { name: 'nodeport-endpoints', key: `mark . ${port}`, data: `${address} . inet_service`, isInterval: false, isCounted: false },
  { name: 'vip-pools', key: `${address} . ${port}`, data: 'mark', isInterval: false, isCounted: false },
  { name: 'nodeport-pools', key: port, data: 'mark', isInterval: false, isCounted: false },
  { name: 'vip-picks', key: `mark . ${address} . ${port}`, data: 'mark', isInterval: false, isCounted: false },
  { name: 'nodeport-picks', key: `mark . ${port}`, data: 'mark', isInterval: false, isCounted: false },
  { name: 'affinity-endpoints', key: 'mark', data: `${address} . inet_service`, isInterval: false, isCounted: false },
  { name: 'cluster-ips', key: address, data: undefined, isInterval: false, isCounted: false },
  { name: 'hairpin', key: `${address} . ${address}`, data: undefined, isInterval: false, isCounted: false },
  { name: 'sources', key: `${address} . ${port} . ${address}`, data: undefined, isInterval: true, isCounted: false },
]);

export const protocolNumbers: Readonly<Record<Protocol, number>> = Object.freeze({ TCP: 6, UDP: 17, SCTP: 132 });

/** nft's word for the family, its netlink number and address type. */
export function familyWords(family: IPFamily): { table: 'ip' | 'ip6'; number: 2 | 10; address: string; addressBytes: 4 | 16; icmp: string } {
  return family === 'IPv4'
    ? { table: 'ip', number: 2, address: 'ipv4_addr', addressBytes: 4, icmp: 'icmp' }
    : { table: 'ip6', number: 10, address: 'ipv6_addr', addressBytes: 16, icmp: 'icmpv6' };
}

// ---- key parts: one character per octet (latin1), which is compact in memory and cheap to hash and to encode ----

/** A mark as four octets in host order. */
export function markPart(value: number): string {
  return String.fromCharCode(value & 255, (value >>> 8) & 255, (value >>> 16) & 255, (value >>> 24) & 255);
}

export function readMark(text: string, offset: number): number {
  return (text.charCodeAt(offset) | (text.charCodeAt(offset + 1) << 8) | (text.charCodeAt(offset + 2) << 16) | (text.charCodeAt(offset + 3) << 24)) >>> 0;
}

/** Octets of an address; undefined when it is not one of the family. */
export function addressPart(ip: string, family: IPFamily): string | undefined {
  if (family === 'IPv4') {
    const value = parseIPv4(ip);
    return value === undefined ? undefined : String.fromCharCode((value >>> 24) & 255, (value >>> 16) & 255, (value >>> 8) & 255, value & 255);
  }
  const parsed = parseIP(ip);
  return parsed?.family === family ? String.fromCharCode(...parsed.bytes) : undefined;
}

export function protocolPart(protocol: Protocol): string { return `${String.fromCharCode(protocolNumbers[protocol])}\0\0\0`; }

export function portPart(number: number): string { return `${String.fromCharCode(number >> 8, number & 255)}\0\0`; }
