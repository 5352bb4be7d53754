// Bounded cache of upstream answers, whole messages by question, so that nothing in an additional section can ever answer
// another name. Two parts with own limits: a flood of names that do not exist cannot push out answers that do. Entries
// stay beyond their TTL for as long as they may be served stale (RFC 8767). Called by forwarder.ts.

import type { UpstreamAnswer } from '../wire/response.ts';

export interface CacheEntry {
  readonly answer: UpstreamAnswer;
  readonly storedMs: number;
  readonly expiresMs: number;
  readonly size: number;
  hitCount: number;
  isRefreshing: boolean;
}

export interface CacheLimits { positiveEntriesMax: number; negativeEntriesMax: number; bytesMax: number; staleMsMax: number }

export const cacheLimits: CacheLimits = Object.freeze({
  positiveEntriesMax: 10_000, negativeEntriesMax: 10_000, bytesMax: 32 * 1024 * 1024, staleMsMax: 3_600_000,
});

export class AnswerCache {
  readonly #limits: CacheLimits;
  readonly #positive = new Map<string, CacheEntry>();
  readonly #negative = new Map<string, CacheEntry>();
  #bytes = 0;
  evictionCount = 0;

  constructor(limits: Partial<CacheLimits> = {}) { this.#limits = { ...cacheLimits, ...limits }; }

  get positiveCount(): number { return this.#positive.size; }
  get negativeCount(): number { return this.#negative.size; }
  get bytes(): number { return this.#bytes; }

  /** The entry, fresh or stale; entries too old to serve are removed. Moves it to the young end. */
  get(key: string, nowMs: number): CacheEntry | undefined {
    const map = this.#positive.has(key) ? this.#positive : this.#negative;
    const entry = map.get(key);
    if (entry === undefined) return undefined;
    map.delete(key);
    if (nowMs >= entry.expiresMs + this.#limits.staleMsMax) {
      this.#bytes -= entry.size;
      return undefined;
    }
    map.set(key, entry);
    return entry;
  }

  set(key: string, answer: UpstreamAnswer, nowMs: number): void {
    this.#remove(this.#positive, key);
    this.#remove(this.#negative, key);
    if (answer.ttlSeconds <= 0) return;
    const size = answer.template.body.length + key.length * 2 + 300;
    const map = answer.isNegative ? this.#negative : this.#positive;
    map.set(key, { answer, storedMs: nowMs, expiresMs: nowMs + answer.ttlSeconds * 1000, size, hitCount: 0, isRefreshing: false });
    this.#bytes += size;
    const entriesMax = answer.isNegative ? this.#limits.negativeEntriesMax : this.#limits.positiveEntriesMax;
    while (map.size > entriesMax || this.#bytes > this.#limits.bytesMax) {
      if (!this.#evictOldest(map) && !this.#evictOldest(map === this.#positive ? this.#negative : this.#positive)) return;
    }
  }

  clear(): void {
    this.#positive.clear();
    this.#negative.clear();
    this.#bytes = 0;
  }

  #evictOldest(map: Map<string, CacheEntry>): boolean {
    for (const key of map.keys()) {
      this.#remove(map, key);
      this.evictionCount += 1;
      return true;
    }
    return false;
  }

  #remove(map: Map<string, CacheEntry>, key: string): void {
    const entry = map.get(key);
    if (entry === undefined) return;
    map.delete(key);
    this.#bytes -= entry.size;
  }
}
