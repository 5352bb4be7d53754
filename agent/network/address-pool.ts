// Hands out Pod addresses from the node's podCIDR. The search goes round the range, so that a freed address rests as
// long as possible before another Pod gets it: connections of the old owner should never meet the new one.

import { formatIPv4, parseIPv4 } from '../../api/address.ts';
import { NetloomError } from '../../api/errors.ts';

/** IPv4 only. The first address is the gateway; network and broadcast addresses are never given. */
export class AddressPool {
  readonly gateway: string;
  readonly #first: number;
  readonly #count: number;
  readonly #used = new Set<number>();
  #next = 0;

  /** Throws ConfigInvalid when `podCIDR` is not an IPv4 range with room for at least one Pod. */
  constructor(podCIDR: string) {
    const [base, length] = podCIDR.split('/');
    const start = parseIPv4(base ?? '');
    const prefix = Number(length);
    if (start === undefined || !Number.isInteger(prefix) || prefix < 8 || prefix > 30) {
      throw new NetloomError('ConfigInvalid', `pod range ${podCIDR} is not an IPv4 range between /8 and /30`, { source: 'config' });
    }
    const size = 2 ** (32 - prefix);
    const network = Math.floor(start / size) * size;
    this.gateway = formatIPv4(network + 1);
    this.#first = network + 2;
    this.#count = size - 3;
  }

  get usedCount(): number { return this.#used.size; }
  get size(): number { return this.#count; }

  /** O(1) unless the range is nearly full. Throws ServiceUnavailable when it is. */
  take(): string {
    for (let step = 0; step < this.#count; step++) {
      const index = (this.#next + step) % this.#count;
      if (this.#used.has(index)) continue;
      this.#used.add(index);
      this.#next = (index + 1) % this.#count;
      return formatIPv4(this.#first + index);
    }
    throw new NetloomError('ServiceUnavailable', `all ${this.#count} Pod addresses of this node are in use`, { source: 'kernel', hint: 'give the node a larger --pod-cidr' });
  }

  release(ip: string): void {
    const value = parseIPv4(ip);
    if (value !== undefined) this.#used.delete(value - this.#first);
  }
}
