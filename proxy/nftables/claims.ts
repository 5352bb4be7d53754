// Who has which address and port. Two Services of a healthy API server never claim the same one, but external IPs may
// be shared by mistake and other API servers may be less careful: the older Service (then the smaller key) has it, the
// other is told and gets it when it becomes free. Decided before elements are planned, so that elements of two
// Services never mix. Called by engine; pure data, O(addresses of the Services that change).

import type { PortPlan } from '../backend.ts';
import { targetIdsOf } from './elements.ts';

export class Claims {
  readonly #owners = new Map<string, string>();
  /** All claimants of targets that have more than one. */
  readonly #contested = new Map<string, Set<string>>();
  readonly #targets = new Map<string, readonly string[]>();
  readonly #ranks = new Map<string, string>();

  /** Services with claims. */
  keys(): IterableIterator<string> { return this.#targets.keys(); }

  owns(key: string, target: string): boolean { return this.#owners.get(target) === key; }

  /** The owner of a target that this Service claims in vain; undefined when it has all it wants. */
  winnerOver(key: string): string | undefined {
    for (const target of this.#targets.get(key) ?? []) {
      const owner = this.#owners.get(target);
      if (owner !== undefined && owner !== key) return owner;
    }
    return undefined;
  }

  /** Sets what a Service claims in one family; adds to `disturbed` the other Services that win or lose by it. */
  update(key: string, rank: string, ports: readonly PortPlan[], disturbed: Set<string>): void {
    const targets = ports.flatMap(targetIdsOf);
    const kept = new Set(targets);
    const isSameRank = this.#ranks.get(key) === rank;
    for (const target of this.#targets.get(key) ?? []) if (!kept.has(target) || !isSameRank) this.#withdraw(key, target, disturbed);
    if (targets.length === 0) { this.#targets.delete(key); this.#ranks.delete(key); return; }
    this.#ranks.set(key, rank);
    this.#targets.set(key, targets);
    for (const target of targets) this.#claim(key, target, disturbed);
  }

  #claim(key: string, target: string, disturbed: Set<string>): void {
    const owner = this.#owners.get(target);
    if (owner === undefined) { this.#owners.set(target, key); return; }
    if (owner === key) return;
    const claimants = this.#contested.get(target) ?? new Set([owner]);
    claimants.add(key);
    this.#contested.set(target, claimants);
    if (this.#rankOf(key) >= this.#rankOf(owner)) return;
    this.#owners.set(target, key);
    disturbed.add(owner);
  }

  #withdraw(key: string, target: string, disturbed: Set<string>): void {
    const claimants = this.#contested.get(target);
    claimants?.delete(key);
    if (claimants !== undefined && claimants.size <= 1) this.#contested.delete(target);
    if (this.#owners.get(target) !== key) return;
    this.#owners.delete(target);
    let best: string | undefined;
    for (const other of claimants ?? []) if (best === undefined || this.#rankOf(other) < this.#rankOf(best)) best = other;
    if (best === undefined) return;
    this.#owners.set(target, best);
    disturbed.add(best);
  }

  #rankOf(key: string): string { return `${this.#ranks.get(key) ?? ''} ${key}`; }

  clear(): void { for (const map of [this.#owners, this.#contested, this.#targets, this.#ranks]) map.clear(); }
}
