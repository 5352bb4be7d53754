// Who a peer is: a process of this host or a Pod (they get the cluster set), or somebody off-cluster (for whom a Local
// policy holds), and whether it may connect at all. One per data thread.

import { parseCIDR, type Cidr } from '../../api/address.ts';

const cacheMax = 4_096;

export class Peers {
  readonly #hostAddresses: ReadonlySet<string>;
  readonly #clusterCIDRs: readonly Cidr[];
  readonly #isInside = new Map<string, boolean>();

  constructor(hostAddresses: readonly string[], clusterCIDRs: readonly string[]) {
    this.#hostAddresses = new Set(hostAddresses);
    this.#clusterCIDRs = parseRanges(clusterCIDRs);
  }

  /** Whether some range holds an address of this host: its processes may then come from the address they go to. */
  isHostIn(ranges: readonly Cidr[]): boolean { return ranges.some((range) => [...this.#hostAddresses].some((address) => !address.startsWith('127.') && range.contains(address))); }

  isOfHost(ip: string): boolean { return ip.startsWith('127.') || ip === '::1' || this.#hostAddresses.has(ip); }

  /** A process of this host or a Pod of the cluster. Cached. */
  isOfCluster(ip: string): boolean {
    if (ip.startsWith('127.')) return true;
    let known = this.#isInside.get(ip);
    if (known === undefined) {
      known = this.isOfHost(ip) || this.#clusterCIDRs.some((range) => range.contains(ip));
      if (this.#isInside.size >= cacheMax) this.#isInside.clear();
      this.#isInside.set(ip, known);
    }
    return known;
  }
}

export function parseRanges(texts: readonly string[]): Cidr[] {
  return texts.flatMap((text) => { const range = parseCIDR(text); return range === undefined ? [] : [range]; });
}

/** True for an empty list, which lets everybody in; a list whose entries are all unreadable lets nobody in. */
export function isInRanges(texts: readonly string[], ranges: readonly Cidr[], ip: string): boolean {
  return texts.length === 0 || ranges.some((range) => range.contains(ip));
}
