// The recent events of one kind, oldest first, bounded by age and count with a hard limit on count and bytes. One ring
// per kind, so that churn of Leases never costs the watchers of Services their history.
// Filled by ./kind-cache.ts; read by watches that resume and by lists at an older revision.

import type { StorageLimits } from './store.ts';
import type { StoredChange } from './stored.ts';

/** Bytes that an event costs beside its JSON text: wrappers, array slots, two versions. */
const eventOverheadBytes = 300;

/** Appends in revision order and forgets from the old end. */
export class History {
  #events: (StoredChange | undefined)[] = [];
  #start = 0;
  #bytes = 0;
  #floor: number;
  readonly #limits: StorageLimits;

  /** `floor`: complete for every revision above it. */
  constructor(limits: StorageLimits, floor: number) {
    this.#limits = limits;
    this.#floor = floor;
  }

  get floor(): number { return this.#floor; }
  get count(): number { return this.#events.length - this.#start; }
  get bytes(): number { return this.#bytes; }

  push(event: StoredChange): void {
    this.#events.push(event);
    this.#bytes += event.object.json().length + eventOverheadBytes;
  }

  /** Forgets everything: history begins anew above `floor`. */
  reset(floor: number): void {
    this.#events = [];
    this.#start = 0;
    this.#bytes = 0;
    this.#floor = floor;
  }

  /** Forgets what age, count and bytes no longer allow. Amortised O(1) per event. */
  trim(nowMs: number): void {
    const limits = this.#limits;
    while (this.count > 0) {
      const oldest = this.#events[this.#start] as StoredChange;
      const isOver = this.count > limits.historyCountMax || this.#bytes > limits.historyBytesMax;
      if (!isOver && (this.count <= limits.historyCountMin || nowMs - oldest.atMs < limits.historyAgeMs)) break;
      this.#drop(oldest);
    }
    if (this.#start > 1024 && this.#start * 2 > this.#events.length) {
      this.#events = this.#events.slice(this.#start);
      this.#start = 0;
    }
  }

  #drop(oldest: StoredChange): void {
    this.#events[this.#start++] = undefined;
    this.#bytes -= oldest.object.json().length + eventOverheadBytes;
    this.#floor = oldest.revision;
  }

  /** Events after `revision`, at most `max` of them, never cutting a transaction in two. */
  after(revision: number, max: number = Infinity): StoredChange[] {
    const from = this.#indexAfter(revision);
    let end = Math.min(this.#events.length, from + max);
    while (end < this.#events.length && this.#events[end]?.revision === this.#events[end - 1]?.revision) end += 1;
    return this.#events.slice(from, end) as StoredChange[];
  }

  /** How many events follow this revision. O(log n). */
  countAfter(revision: number): number { return this.#events.length - this.#indexAfter(revision); }

  *[Symbol.iterator](): IterableIterator<StoredChange> {
    for (let index = this.#start; index < this.#events.length; index++) yield this.#events[index] as StoredChange;
  }

  #indexAfter(revision: number): number {
    let low = this.#start;
    let high = this.#events.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#events[middle] as StoredChange).revision <= revision) low = middle + 1; else high = middle;
    }
    return low;
  }
}
