// The server-side walk of a Pod's search list, made safe: which Namespace a client is in comes from our own Pod table,
// names inside the cluster are decided by existence (the same for every type), and for names outside one verdict per
// client and name is kept, so that A and AAAA never disagree and end a stub resolver's search. Called by slow-path.ts.

import { rcodes } from '../wire/constants.ts';
import { joinKey, nameOctetsMax } from '../wire/names.ts';
import type { Zone } from '../zone/zone.ts';

const decisionMs = 30_000;
const decisionsMax = 10_000;

/** What a resolver tries after `base.ns.svc.Z`, in order: inside the zone, then the host's domains and the name itself. */
export function nextNames(base: readonly string[], zone: Zone, hostSearch: readonly string[]): { inside: string[]; outside: string[] } {
  const fits = (key: string): boolean => key.length <= nameOctetsMax;
  return {
    inside: [zone.name(...base, 'svc'), zone.name(...base)].filter(fits),
    outside: [...hostSearch.map((suffix) => joinKey(base, suffix)), joinKey(base, '\0')].filter(fits),
  };
}

/** First verdict per client and name wins until it is 30 s old. Bounded. */
export class AutopathDecisions {
  readonly #entries = new Map<string, { verdict: 'exists' | 'absent'; untilMs: number }>();
  readonly #monotonicMs: () => number;

  constructor(monotonicMs: () => number) { this.#monotonicMs = monotonicMs; }

  decide(key: string, rcode: number): 'exists' | 'absent' {
    const nowMs = this.#monotonicMs();
    const known = this.#entries.get(key);
    if (known !== undefined && nowMs < known.untilMs) return known.verdict;
    // A failure is no verdict: the plain answer is true, and the client goes on by itself.
    if (rcode !== rcodes.NOERROR && rcode !== rcodes.NXDOMAIN) return 'absent';
    const verdict = rcode === rcodes.NOERROR ? 'exists' : 'absent';
    if (this.#entries.size >= decisionsMax) this.#entries.clear();
    this.#entries.set(key, { verdict, untilMs: nowMs + decisionMs });
    return verdict;
  }
}
