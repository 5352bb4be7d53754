// Everything about one kind in memory: the present objects in key order, the recent history, the watchers.
// One per resource inside ./cacher.ts. Lists at an older revision undo the events after it.

import type { KindStats, ListOptions, ListPage, OnEvents, OnWatchEnd, StorageLimits } from './store.ts';
import { History } from './history.ts';
import { expired, tooLarge } from './stored.ts';
import type { StoredChange, StoredObject } from './stored.ts';
import type { TurnQueue } from './turn-queue.ts';
import { Watchers } from './watchers.ts';
import type { Watcher, WatchSource } from './watchers.ts';

/** History that is no longer in memory but still on disk. */
export interface OlderHistory {
  /** Complete for every revision of this kind above it. */
  floorOf(resource: string): number;
  /** The first `max` events with `after` < revision <= `upTo`, never cutting a transaction in two. */
  read(resource: string, after: number, upTo: number, max: number): StoredChange[];
}

/** Objects, history and watchers of one kind. */
export class KindCache implements WatchSource {
  readonly resource: string;
  readonly history: History;
  readonly watchers: Watchers;
  readonly #objects = new Map<string, StoredObject>();
  #keys: string[] = [];
  #isSorted = true;
  readonly #head: () => number;
  readonly #older: OlderHistory | undefined;
  #overlay: { revision: number; head: number; past: Map<string, StoredObject | undefined> } | undefined;

  constructor(resource: string, limits: StorageLimits, floor: number, head: () => number, turns: TurnQueue, older: OlderHistory | undefined) {
    this.resource = resource;
    this.history = new History(limits, floor);
    this.watchers = new Watchers(this, limits, turns);
    this.#head = head;
    this.#older = older;
  }

  get headRevision(): number { return this.#head(); }
  get floor(): number { return Math.min(this.history.floor, this.#older?.floorOf(this.resource) ?? Infinity); }
  get size(): number { return this.#objects.size; }
  get(key: string): StoredObject | undefined { return this.#objects.get(key); }
  values(): IterableIterator<StoredObject> { return this.#objects.values(); }
  countAfter(revision: number): number { return this.history.countAfter(revision); }

  /** Events after `revision`, at most about `max`, from disk where memory no longer has them. */
  after(revision: number, max: number): StoredChange[] {
    const floor = this.history.floor;
    if (revision >= floor || this.#older === undefined) return this.history.after(revision, max);
    const older = this.#older.read(this.resource, revision, floor, max);
    return older.length > 0 ? older : this.history.after(floor, max);
  }

  /** Adds an object at load time, without an event. */
  load(stored: StoredObject): void {
    this.#objects.set(stored.key, stored);
    this.#keys.push(stored.key);
    this.#isSorted = false;
  }

  /** Forgets objects and history; watches end with Expired, since what they would have seen next is lost. */
  reset(floor: number): void {
    this.#objects.clear();
    this.#keys = [];
    this.#overlay = undefined;
    this.history.reset(floor);
    this.watchers.endAll(expired(this.resource, floor - 1, floor));
  }

  /** Applies changes in revision order. Watchers hear of them by `watchers.deliver`, once the whole batch is applied. */
  apply(event: StoredChange): void {
    if (event.type === 'DELETED') {
      if (this.#objects.delete(event.key) && this.#isSorted) this.#keys.splice(lowerBound(this.#keys, event.key), 1);
    } else {
      if (!this.#objects.has(event.key)) this.#insertKey(event.key);
      this.#objects.set(event.key, event.object);
    }
    this.history.push(event);
  }

  #insertKey(key: string): void {
    const last = this.#keys.at(-1);
    if (last === undefined || last < key) this.#keys.push(key);
    else this.#sortedKeys().splice(lowerBound(this.#keys, key), 0, key);
  }

  #sortedKeys(): string[] {
    if (!this.#isSorted) {
      this.#keys = [...this.#objects.keys()].sort(compareKeys);
      this.#isSorted = true;
    }
    return this.#keys;
  }

  list(options: ListOptions): ListPage {
    const head = this.headRevision;
    const revision = options.atRevision ?? head;
    if (revision > head) throw tooLarge(revision, head);
    const past = revision < head ? this.#pastAt(revision, head) : undefined;
    const keys = past === undefined ? this.#sortedKeys() : this.#keysWith(past);
    const prefix = options.prefix ?? '';
    const end = prefix === '' ? keys.length : lowerBound(keys, `${prefix}\uffff`);
    let index = lowerBound(keys, prefix);
    if (options.continueKey !== undefined && options.continueKey >= prefix) index = Math.max(index, upperBound(keys, options.continueKey));
    const limit = options.limit === undefined || options.limit <= 0 ? Infinity : options.limit;
    const items: StoredObject[] = [];
    for (; index < end && items.length < limit; index++) {
      const key = keys[index] as string;
      items.push((past?.has(key) === true ? past.get(key) : this.#objects.get(key)) as StoredObject);
    }
    const last = items.at(-1);
    return index < end && last !== undefined ? { items, revision, nextKey: last.key, remaining: end - index } : { items, revision };
  }

  /** Sorted keys of the state at which `past` was. Most writes are updates, which leave the keys as they are. */
  #keysWith(past: ReadonlyMap<string, StoredObject | undefined>): string[] {
    for (const [key, stored] of past) if ((stored !== undefined) !== this.#objects.has(key)) return mergedKeys(this.#sortedKeys(), past);
    return this.#sortedKeys();
  }

  /** What each key touched after `revision` was at that revision; undefined where it did not exist. */
  #pastAt(revision: number, head: number): Map<string, StoredObject | undefined> {
    if (this.#overlay?.revision === revision && this.#overlay.head === head) return this.#overlay.past;
    const past = new Map<string, StoredObject | undefined>();
    this.#requireHistory(revision);
    for (let at = revision; ;) {
      const events = this.after(at, Infinity);
      for (const event of events) if (!past.has(event.key)) past.set(event.key, event.previous);
      const last = events.at(-1);
      if (last === undefined) break;
      at = last.revision;
    }
    this.#overlay = { revision, head, past };
    return past;
  }

  #requireHistory(revision: number): void {
    if (revision < this.floor) throw expired(this.resource, revision, this.floor);
  }

  watch(revision: number, scope: string, onEvents: OnEvents, onEnd: OnWatchEnd): Watcher {
    this.#requireHistory(revision);
    return this.watchers.add(revision, scope, onEvents, onEnd);
  }

  /** Forgets old events, ends watchers that were left behind. */
  trim(nowMs: number): void {
    this.history.trim(nowMs);
    this.#overlay = undefined;
    this.watchers.endLaggards();
  }

  /** Drops parsed forms and bytes that nobody used since the last call. O(objects). */
  cool(): void {
    for (const stored of this.#objects.values()) stored.cool();
    for (const event of this.history) event.cool();
  }

  stats(): KindStats {
    return { objectCount: this.#objects.size, historyCount: this.history.count, historyBytes: this.history.bytes, floorRevision: this.floor, watcherCount: this.watchers.count };
  }
}

const compareKeys = (a: string, b: string): number => a < b ? -1 : a > b ? 1 : 0;

/** Index of the first key that is not below `key`. */
function lowerBound(keys: readonly string[], key: string): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((keys[middle] as string) < key) low = middle + 1; else high = middle;
  }
  return low;
}

function upperBound(keys: readonly string[], key: string): number {
  const index = lowerBound(keys, key);
  return keys[index] === key ? index + 1 : index;
}

function mergedKeys(present: readonly string[], past: ReadonlyMap<string, StoredObject | undefined>): string[] {
  const keys = present.filter((key) => !past.has(key));
  for (const [key, stored] of past) if (stored !== undefined) keys.push(key);
  return keys.sort(compareKeys);
}
