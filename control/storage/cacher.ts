// The whole state in memory: one KindCache per resource and the revision that it stands at. Every driver feeds it with
// committed events in revision order; every read and watch is served from it.
// Path: driver commits → Cacher.apply → watchers → the API server's streams.

import type { Clock, TimerHandle } from '../../api/clock.ts';
import type { KindStats, ListOptions, ListPage, OnEvents, OnWatchEnd, StorageLimits, Stored, StoreWatch, WatchOptions } from './store.ts';
import { KindCache } from './kind-cache.ts';
import type { OlderHistory } from './kind-cache.ts';
import { storeClosed } from './stored.ts';
import type { StoredChange, StoredObject } from './stored.ts';
import { TurnQueue } from './turn-queue.ts';

/** How often unused parsed objects are dropped and history is trimmed. */
const sweepPeriodMs = 10_000;

export interface CacherOptions { clock: Clock; limits: StorageLimits; older?: OlderHistory }

/** Keeps objects, history and watchers of all kinds. */
export class Cacher {
  readonly #clock: Clock;
  readonly #limits: StorageLimits;
  readonly #older: OlderHistory | undefined;
  readonly #turns: TurnQueue;
  readonly #kinds = new Map<string, KindCache>();
  readonly #waiters = new Set<{ revision: number; resolve: (isReached: boolean) => void; timer: TimerHandle }>();
  readonly #sweeper: TimerHandle;
  readonly #head = (): number => this.#revision;
  #revision = 0;
  #floor = 0;
  #isClosed = false;

  constructor(options: CacherOptions) {
    this.#clock = options.clock;
    this.#turns = new TurnQueue(options.clock);
    this.#limits = options.limits;
    this.#older = options.older;
    this.#sweeper = this.#clock.every(sweepPeriodMs, () => this.sweep());
  }

  get revision(): number { return this.#revision; }

  /** Sets where the loaded state stands; history of every kind begins there. Call before the first `load`. */
  begin(revision: number, floor: number = revision): void {
    this.#revision = revision;
    this.#floor = floor;
  }

  /** Replaces the whole state after a gap in the events: every watch ends with Expired and lists again. */
  replace(objects: Iterable<readonly [string, StoredObject]>, revision: number): void {
    this.begin(revision);
    for (const kind of this.#kinds.values()) kind.reset(revision);
    for (const [resource, stored] of objects) this.load(resource, stored);
    this.#wakeReached();
  }

  load(resource: string, stored: StoredObject): void { this.kind(resource).load(stored); }

  kind(resource: string): KindCache {
    let kind = this.#kinds.get(resource);
    if (kind === undefined) this.#kinds.set(resource, kind = new KindCache(resource, this.#limits, this.#floor, this.#head, this.#turns, this.#older));
    return kind;
  }

  /** Applies committed events in revision order, then tells the watchers; `revision` is where the store stands after. */
  apply(events: readonly StoredChange[], revision: number): void {
    const byKind = new Map<KindCache, StoredChange[]>();
    for (const event of events) {
      const kind = this.kind(event.resource);
      kind.apply(event);
      const filed = byKind.get(kind);
      if (filed === undefined) byKind.set(kind, [event]); else filed.push(event);
    }
    this.#revision = Math.max(this.#revision, revision);
    const nowMs = this.#clock.monotonicMs();
    for (const [kind, kindEvents] of byKind) {
      kind.watchers.deliver(kindEvents);
      kind.trim(nowMs);
    }
    this.#wakeReached();
  }

  #wakeReached(): void {
    for (const waiter of this.#waiters) if (waiter.revision <= this.#revision) this.#wake(waiter, true);
  }

  get(resource: string, key: string): StoredObject | undefined { return this.#kinds.get(resource)?.get(key); }
  list(resource: string, options: ListOptions = {}): ListPage { return this.kind(resource).list(options); }
  count(resource: string): number { return this.#kinds.get(resource)?.size ?? 0; }
  resources(): string[] { return [...this.#kinds.values()].filter((kind) => kind.size > 0).map((kind) => kind.resource).sort(); }
  values(resource: string): Iterable<Stored> { return this.kind(resource).values(); }

  watch(resource: string, fromRevision: number, onEvents: OnEvents, onEnd: OnWatchEnd, options: WatchOptions = {}): StoreWatch {
    if (this.#isClosed) throw storeClosed();
    return this.kind(resource).watch(fromRevision, options.prefix ?? '', onEvents, onEnd);
  }

  waitFor(revision: number, timeoutMs: number): Promise<boolean> {
    if (revision <= this.#revision) return Promise.resolve(true);
    if (this.#isClosed) return Promise.resolve(false);
    return new Promise((resolve) => {
      const waiter = { revision, resolve, timer: this.#clock.after(timeoutMs, () => this.#wake(waiter, false), true) };
      this.#waiters.add(waiter);
    });
  }

  #wake(waiter: { resolve: (isReached: boolean) => void; timer: TimerHandle; revision: number }, isReached: boolean): void {
    waiter.timer.cancel();
    this.#waiters.delete(waiter);
    waiter.resolve(isReached);
  }

  /** Ages history and lets unused parsed objects go. */
  sweep(): void {
    const nowMs = this.#clock.monotonicMs();
    for (const kind of this.#kinds.values()) {
      kind.trim(nowMs);
      kind.cool();
    }
  }

  stats(): { objectCount: number; watcherCount: number; slowWatchersClosedCount: number; kinds: Record<string, KindStats> } {
    const kinds: Record<string, KindStats> = {};
    let objectCount = 0;
    let watcherCount = 0;
    let slowWatchersClosedCount = 0;
    for (const kind of this.#kinds.values()) {
      kinds[kind.resource] = kind.stats();
      objectCount += kind.size;
      watcherCount += kind.watchers.count;
      slowWatchersClosedCount += kind.watchers.slowClosedCount;
    }
    return { objectCount, watcherCount, slowWatchersClosedCount, kinds };
  }

  /** Ends every watch, with the error if there is one, and fails all waiters. Reads go on from the last state. */
  close(error?: Error): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#sweeper.cancel();
    for (const kind of this.#kinds.values()) kind.watchers.endAll(error);
    for (const waiter of this.#waiters) this.#wake(waiter, false);
  }
}
