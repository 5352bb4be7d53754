// The addresses that Services of type LoadBalancer get, and which Service has which ports of which address. An address
// goes to one Service as long as there are enough; when the pool is used up, Services whose ports differ share one.
// Pure state, driven by ./load-balancers.ts.

import { canonicalIP, formatIP, parseCIDR, parseIP } from '../../../api/address.ts';
import { NetloomError } from '../../../api/errors.ts';
import type { IPFamily } from '../../../api/types.ts';

interface Span { readonly family: IPFamily; readonly from: bigint; readonly to: bigint; cursor: bigint }
/** `protocol/port` of every Service port. */
export type PortSet = ReadonlySet<string>;

export class AddressPool {
  readonly #spans: Span[];
  readonly #holders = new Map<string, Map<string, PortSet>>();

  /** Entries: `10.0.0.5`, `10.0.0.0/28`, `10.0.0.5-10.0.0.9`, `fd00::1`. Throws ConfigInvalid. */
  constructor(entries: readonly string[]) { this.#spans = entries.map(parseSpan); }

  get isEmpty(): boolean { return this.#spans.length === 0; }
  get usedCount(): number { return this.#holders.size; }
  has(family: IPFamily): boolean { return this.#spans.some((span) => span.family === family); }

  contains(ip: string): boolean {
    const address = parseIP(ip);
    const value = address === undefined ? 0n : toBigInt(address.bytes);
    return address !== undefined && this.#spans.some((span) => span.family === address.family && value >= span.from && value <= span.to);
  }

  /** Takes note of what a Service holds already. */
  hold(ip: string, key: string, ports: PortSet): void {
    const canonical = canonicalIP(ip) ?? ip;
    const holders = this.#holders.get(canonical);
    if (holders === undefined) this.#holders.set(canonical, new Map([[key, ports]])); else holders.set(key, ports);
  }

  /** Lets go of what the Service holds, all or one address. Returns whether there was anything. */
  free(key: string, ip?: string): boolean {
    let hadAny = false;
    for (const [each, holders] of [...this.#holders]) {
      if ((ip !== undefined && each !== ip) || !holders.delete(key)) continue;
      hadAny = true;
      if (holders.size > 0) continue;
      this.#holders.delete(each);
      const value = toBigInt(parseIP(each)?.bytes ?? new Uint8Array(4));
      for (const span of this.#spans) if (value >= span.from && value < span.cursor) span.cursor = value;
    }
    return hadAny;
  }

  /** Whether nobody else's ports are in the way. */
  mayHold(ip: string, key: string, ports: PortSet): boolean {
    for (const [other, taken] of this.#holders.get(canonicalIP(ip) ?? ip) ?? []) if (other !== key && [...ports].some((port) => taken.has(port))) return false;
    return true;
  }

  /** An unused address of the family, else one that can be shared; undefined when there is none. */
  pick(family: IPFamily, key: string, ports: PortSet): string | undefined {
    for (const span of this.#spans) {
      if (span.family !== family) continue;
      for (; span.cursor <= span.to; span.cursor++) {
        const ip = toText(span.cursor, family);
        if (!this.#holders.has(ip)) return ip;
      }
    }
    for (const [ip] of this.#holders) if (this.contains(ip) && (ip.includes(':') ? 'IPv6' : 'IPv4') === family && this.mayHold(ip, key, ports)) return ip;
    return undefined;
  }
}

function parseSpan(entry: string): Span {
  const bad = (): NetloomError => new NetloomError('ConfigInvalid', `"${entry}" is not an address, range or CIDR`, { source: 'config', hint: 'write 10.0.0.5, 10.0.0.5-10.0.0.9 or 10.0.0.0/28' });
  if (entry.includes('/')) {
    const cidr = parseCIDR(entry);
    if (cidr === undefined) throw bad();
    const from = toBigInt(cidr.bytes);
    const to = from + (1n << BigInt(cidr.bytes.length * 8 - cidr.prefixLength)) - 1n;
    // Network and broadcast address of an IPv4 network with room to spare are left out.
    const isTrimmed = cidr.family === 'IPv4' && cidr.prefixLength < 31;
    const first = isTrimmed ? from + 1n : from;
    return { family: cidr.family, from: first, to: isTrimmed ? to - 1n : to, cursor: first };
  }
  const [low = '', high = low] = entry.split('-').map((part) => part.trim());
  const [a, b] = [parseIP(low), parseIP(high)];
  if (a === undefined || b === undefined || a.family !== b.family || toBigInt(a.bytes) > toBigInt(b.bytes)) throw bad();
  return { family: a.family, from: toBigInt(a.bytes), to: toBigInt(b.bytes), cursor: toBigInt(a.bytes) };
}

function toBigInt(bytes: Uint8Array): bigint {
  let value = 0n;
  for (const byte of bytes) value = (value << 8n) | BigInt(byte);
  return value;
}

function toText(value: bigint, family: IPFamily): string {
  const bytes = new Uint8Array(family === 'IPv4' ? 4 : 16);
  let rest = value;
  for (let index = bytes.length - 1; index >= 0; index--) { bytes[index] = Number(rest & 255n); rest >>= 8n; }
  return formatIP(bytes);
}
