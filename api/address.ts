// IP addresses and CIDRs: one strict reading for admission, planning and matching, so that no two parts of netloom
// read an address differently. IPv4 octets have no leading zeros; IPv6 text is RFC 4291, printed as RFC 5952.
// Called by admission, allocators, the Service view, the kernel planner and DNS.

import type { IPFamily } from './types.ts';

/** `bytes` has 4 or 16 octets in network order. */
export interface IPAddress { readonly family: IPFamily; readonly bytes: Uint8Array }

/** Strict dotted decimal as an unsigned 32-bit integer; undefined for anything else, leading zeros included. */
export function parseIPv4(text: string): number | undefined {
  let value = 0;
  let octet = -1;
  let dots = 0;
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (code === 46) {
      if (octet < 0 || dots === 3) return undefined;
      value = value * 256 + octet;
      octet = -1;
      dots += 1;
    } else if (code >= 48 && code <= 57) {
      if (octet === 0) return undefined;
      octet = (octet < 0 ? 0 : octet * 10) + (code - 48);
      if (octet > 255) return undefined;
    } else return undefined;
  }
  return dots === 3 && octet >= 0 ? value * 256 + octet : undefined;
}

export function formatIPv4(value: number): string {
  return `${(value >>> 24) & 255}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}`;
}

/** Either family; zones (`%eth0`) are refused. */
export function parseIP(text: string): IPAddress | undefined {
  const v4 = parseIPv4(text);
  if (v4 !== undefined) return { family: 'IPv4', bytes: Uint8Array.of(v4 >>> 24, (v4 >>> 16) & 255, (v4 >>> 8) & 255, v4 & 255) };
  const bytes = parseIPv6(text);
  return bytes === undefined ? undefined : { family: 'IPv6', bytes };
}

function parseIPv6(text: string): Uint8Array | undefined {
  if (text.length < 2 || text.length > 45 || !text.includes(':')) return undefined;
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const head = parseGroups(halves[0] ?? '', halves.length === 1);
  const tail = halves.length === 2 ? parseGroups(halves[1] ?? '', true) : [];
  if (head === undefined || tail === undefined) return undefined;
  const missing = 8 - head.length - tail.length;
  if (halves.length === 1 ? missing !== 0 : missing < 1) return undefined;
  const groups = [...head, ...new Array<number>(missing).fill(0), ...tail];
  const bytes = new Uint8Array(16);
  for (let index = 0; index < 8; index++) {
    bytes[index * 2] = (groups[index] ?? 0) >>> 8;
    bytes[index * 2 + 1] = (groups[index] ?? 0) & 255;
  }
  return bytes;
}

function parseGroups(text: string, mayEndInIPv4: boolean): number[] | undefined {
  if (text === '') return [];
  const groups: number[] = [];
  const parts = text.split(':');
  for (const [index, part] of parts.entries()) {
    if (part.includes('.')) {
      const v4 = parseIPv4(part);
      if (v4 === undefined || !mayEndInIPv4 || index !== parts.length - 1) return undefined;
      groups.push(v4 >>> 16, v4 & 0xffff);
    } else if (/^[0-9a-fA-F]{1,4}$/.test(part)) groups.push(Number.parseInt(part, 16));
    else return undefined;
  }
  return groups.length <= 8 ? groups : undefined;
}

/** RFC 5952 text for 16 octets, dotted decimal for 4. */
export function formatIP(bytes: Uint8Array): string {
  if (bytes.length === 4) return `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}`;
  const groups: number[] = [];
  for (let index = 0; index < 16; index += 2) groups.push(((bytes[index] ?? 0) << 8) | (bytes[index + 1] ?? 0));
  let bestStart = -1;
  let bestLength = 1;
  for (let start = 0; start < 8; start++) {
    let length = 0;
    while (start + length < 8 && groups[start + length] === 0) length += 1;
    if (length > bestLength) { bestStart = start; bestLength = length; }
  }
  if (bestStart === 0 && bestLength === 5 && groups[5] === 0xffff) return `::ffff:${bytes[12]}.${bytes[13]}.${bytes[14]}.${bytes[15]}`;
  const text = (from: number, to: number): string => groups.slice(from, to).map((group) => group.toString(16)).join(':');
  return bestStart < 0 ? text(0, 8) : `${text(0, bestStart)}::${text(bestStart + bestLength, 8)}`;
}

/** The one spelling under which an address is stored and compared; undefined when it is not an address. */
export function canonicalIP(text: string): string | undefined {
  // Strict dotted decimal has one spelling only.
  if (parseIPv4(text) !== undefined) return text;
  const address = parseIP(text);
  return address === undefined ? undefined : formatIP(address.bytes);
}

export function familyOf(ip: string): IPFamily { return ip.includes(':') ? 'IPv6' : 'IPv4'; }

/** A network. `base` is the canonical text of the network address with host bits cleared. */
export interface Cidr {
  readonly family: IPFamily; readonly base: string; readonly bytes: Uint8Array; readonly prefixLength: number;
  contains(ip: string): boolean;
  toString(): string;
}

/** Parses `address/length`; host bits may be set and are cleared. */
export function parseCIDR(text: string): Cidr | undefined {
  const slash = text.indexOf('/');
  if (slash < 0 || !/^(0|[1-9]\d{0,2})$/.test(text.slice(slash + 1))) return undefined;
  const address = parseIP(text.slice(0, slash));
  const prefixLength = Number(text.slice(slash + 1));
  if (address === undefined || prefixLength > address.bytes.length * 8) return undefined;
  const { family } = address;
  const bytes = mask(address.bytes, prefixLength);
  const base = formatIP(bytes);
  return Object.freeze({
    family, base, bytes, prefixLength,
    contains(ip: string): boolean {
      const other = parseIP(ip);
      return other !== undefined && other.family === family && isSamePrefix(bytes, other.bytes, prefixLength);
    },
    toString: (): string => `${base}/${prefixLength}`,
  });
}

function mask(bytes: Uint8Array, prefixLength: number): Uint8Array {
  const masked = Uint8Array.from(bytes);
  for (let index = 0; index < masked.length; index++) {
    const keep = Math.max(0, Math.min(8, prefixLength - index * 8));
    masked[index] = (masked[index] ?? 0) & (0xff << (8 - keep)) & 0xff;
  }
  return masked;
}

function isSamePrefix(a: Uint8Array, b: Uint8Array, prefixLength: number): boolean {
  const whole = prefixLength >> 3;
  for (let index = 0; index < whole; index++) if (a[index] !== b[index]) return false;
  const rest = prefixLength & 7;
  return rest === 0 || (((a[whole] ?? 0) ^ (b[whole] ?? 0)) & (0xff << (8 - rest)) & 0xff) === 0;
}

const loopback = [parseCIDR('127.0.0.0/8'), parseCIDR('::1/128'), parseCIDR('::ffff:127.0.0.0/104')];
const linkLocal = [parseCIDR('169.254.0.0/16'), parseCIDR('fe80::/10')];
const multicast = [parseCIDR('224.0.0.0/4'), parseCIDR('ff00::/8')];

export function isLoopback(ip: string): boolean { return loopback.some((cidr) => cidr?.contains(ip)); }
export function isLinkLocal(ip: string): boolean { return linkLocal.some((cidr) => cidr?.contains(ip)); }
export function isMulticast(ip: string): boolean { return multicast.some((cidr) => cidr?.contains(ip)); }
export function isUnspecified(ip: string): boolean { const canonical = canonicalIP(ip); return canonical === '0.0.0.0' || canonical === '::'; }
