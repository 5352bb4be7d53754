// Addresses of one Service range: which are taken and by whom, explicit and random picks with bands. Pure state,
// driven by ./service-allocation.ts. Offsets count usable addresses: 0 is the first after the network address.
// Source: kubernetes pkg/registry/core/service/ipallocator, KEP-3070 (reserved static range).

import { formatIP, parseIP, type Cidr } from '../../api/address.ts';
import type { IPFamily } from '../../api/types.ts';

/** Host bits beyond this are not used: offsets stay exact numbers. */
const hostBitsMax = 40;
/** Random picks before a scan; at half full that is one failure in 65,536. */
const randomTriesMax = 16;

export class IPRange {
  readonly family: IPFamily;
  readonly cidr: Cidr;
  /** Count of usable addresses. */
  readonly size: number;
  /** Count of addresses at the start that dynamic picks leave for last. */
  readonly staticBandSize: number;
  readonly #holders = new Map<number, string>();
  readonly #random: () => number;

  constructor(cidr: Cidr, random: () => number = Math.random) {
    this.cidr = cidr;
    this.family = cidr.family;
    const hostBits = Math.min(hostBitsMax, cidr.bytes.length * 8 - cidr.prefixLength);
    this.size = Math.max(0, 2 ** hostBits - (cidr.family === 'IPv4' ? 2 : 1));
    this.staticBandSize = staticBandOfIPs(this.size);
    this.#random = random;
  }

  get usedCount(): number { return this.#holders.size; }
  get freeCount(): number { return this.size - this.#holders.size; }

  /** Position of the address, or undefined when it cannot be given out. */
  offsetOf(ip: string): number | undefined {
    const address = parseIP(ip);
    if (address === undefined || !this.cidr.contains(ip)) return undefined;
    let value = 0;
    for (let index = 0; index < address.bytes.length; index++) value = value * 256 + ((address.bytes[index] ?? 0) - (this.cidr.bytes[index] ?? 0));
    const offset = value - 1;
    return offset >= 0 && offset < this.size ? offset : undefined;
  }

  /** Canonical text of the address at the offset. */
  at(offset: number): string {
    const bytes = Uint8Array.from(this.cidr.bytes);
    let carry = offset + 1;
    for (let index = bytes.length - 1; index >= 0 && carry > 0; index--) {
      carry += bytes[index] ?? 0;
      bytes[index] = carry % 256;
      carry = Math.floor(carry / 256);
    }
    return formatIP(bytes);
  }

  holder(offset: number): string | undefined { return this.#holders.get(offset); }
  hold(offset: number, holder: string): void { this.#holders.set(offset, holder); }
  entries(): IterableIterator<[number, string]> { return this.#holders.entries(); }

  /** Frees the address if this holder has it. */
  free(offset: number, holder: string): void { if (this.#holders.get(offset) === holder) this.#holders.delete(offset); }

  /** A free offset from the upper band, else from the lower; undefined when the range is full. */
  pick(): number | undefined { return pickFree(this.size, this.staticBandSize, (offset) => !this.#holders.has(offset), this.#random); }
}

/** First min(max(16, size/16), 256) addresses; none in a range of 16 or fewer. */
export function staticBandOfIPs(size: number): number {
  return size <= 16 ? 0 : Math.min(Math.max(16, Math.floor(size / 16)), 256);
}

/** Random free position in [band, size), then in [0, band). O(1) while the range is not nearly full. */
export function pickFree(size: number, band: number, isFree: (offset: number) => boolean, random: () => number): number | undefined {
  return pickWithin(band, size, isFree, random) ?? pickWithin(0, band, isFree, random);
}

function pickWithin(from: number, to: number, isFree: (offset: number) => boolean, random: () => number): number | undefined {
  const span = to - from;
  if (span <= 0) return undefined;
  let start = 0;
  for (let attempt = 0; attempt < randomTriesMax; attempt++) {
    start = from + Math.floor(random() * span);
    if (isFree(start)) return start;
  }
  for (let step = 0; step < span; step++) {
    const offset = from + ((start - from + step) % span);
    if (isFree(offset)) return offset;
  }
  return undefined;
}
