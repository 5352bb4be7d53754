// Who may ask for what: recursion only for addresses of the allow list, and a limit on UDP replies to anybody else, so
// that this server cannot be used to flood a forged source (RRL with TC slip: a real client comes back over TCP or with
// a cookie). Called by dns/engine/engine.ts.

import { parseCIDR, parseIP, type Cidr } from '../../api/address.ts';

/** Loopback, private, carrier-grade, link-local and unique-local networks. */
export const defaultAllowFrom: readonly string[] = Object.freeze([
  '127.0.0.0/8', '10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', '169.254.0.0/16', '::1/128', 'fc00::/7', 'fe80::/10',
]);

const rememberedMax = 10_000;
const bucketCount = 4_096;

/** Matches addresses against networks and remembers the verdict per address (bounded). */
export class AddressList {
  readonly #networks: readonly Cidr[];
  readonly #verdicts = new Map<string, boolean>();

  constructor(networks: readonly string[]) {
    this.#networks = networks.map(parseCIDR).filter((network) => network !== undefined);
  }

  has(address: string): boolean {
    const known = this.#verdicts.get(address);
    if (known !== undefined) return known;
    const plain = address.startsWith('::ffff:') && address.includes('.') ? address.slice(7) : address.replace(/%.*$/, '');
    const verdict = this.#networks.some((network) => network.contains(plain));
    if (this.#verdicts.size >= rememberedMax) this.#verdicts.clear();
    this.#verdicts.set(address, verdict);
    return verdict;
  }
}

/** Token buckets for source networks (/24 and /56), in a fixed table: collisions only make it stricter. */
export class RateLimiter {
  readonly #perSecond: number;
  readonly #tokens: Float64Array = new Float64Array(bucketCount);
  readonly #lastMs: Float64Array = new Float64Array(bucketCount);
  #slipCount = 0;

  /** `perSecond` 0 = no limit. */
  constructor(perSecond: number) {
    this.#perSecond = perSecond;
    this.#tokens.fill(perSecond);
  }

  /** 'send', 'drop', or 'slip' (every second one over the limit): an empty reply with TC. */
  check(address: string, nowMs: number): 'send' | 'drop' | 'slip' {
    if (this.#perSecond === 0) return 'send';
    const index = bucketOf(address);
    const elapsedMs = nowMs - (this.#lastMs[index] ?? 0);
    this.#lastMs[index] = nowMs;
    const tokens = Math.min(this.#perSecond, (this.#tokens[index] ?? 0) + (elapsedMs * this.#perSecond) / 1000);
    if (tokens >= 1) {
      this.#tokens[index] = tokens - 1;
      return 'send';
    }
    this.#tokens[index] = tokens;
    this.#slipCount += 1;
    return this.#slipCount % 2 === 0 ? 'slip' : 'drop';
  }
}

function bucketOf(address: string): number {
  const bytes = parseIP(address.replace(/%.*$/, ''))?.bytes;
  if (bytes === undefined) return 0;
  let hash = 0x811c9dc5;
  for (let index = 0; index < (bytes.length === 4 ? 3 : 7); index++) hash = Math.imul(hash ^ (bytes[index] ?? 0), 0x01000193);
  return (hash >>> 0) % bucketCount;
}
