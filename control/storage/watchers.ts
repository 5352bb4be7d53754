// The watchers of one kind. A watcher is a position in the history, not a queue: while it keeps up, each batch of events
// goes to it as it is applied; once it pauses (its client reads slowly) it costs no memory and later continues from the
// history. One that falls behind too far is ended with Expired, never skipped over an event.
// Fed by ./kind-cache.ts; the callbacks are the API server's watch streams.

import type { TurnQueue } from './turn-queue.ts';
import type { OnEvents, OnWatchEnd, StorageLimits, StoreWatch } from './store.ts';
import { expired } from './stored.ts';
import type { StoredChange } from './stored.ts';

/** What a watcher reads when it is not at the head. */
export interface WatchSource {
  readonly resource: string;
  /** Revision that the store has applied. */
  readonly headRevision: number;
  readonly floor: number;
  countAfter(revision: number): number;
  after(revision: number, max: number): StoredChange[];
}

/** Delivers events to the watchers of one kind by scope: everything, one namespace ('ns/'), or one key. */
export class Watchers {
  readonly #source: WatchSource;
  readonly #limits: StorageLimits;
  readonly #turns: TurnQueue;
  readonly #scopes = new Map<string, Set<Watcher>>();
  #count = 0;
  slowClosedCount = 0;

  constructor(source: WatchSource, limits: StorageLimits, turns: TurnQueue) {
    this.#source = source;
    this.#limits = limits;
    this.#turns = turns;
  }

  get count(): number { return this.#count; }

  add(revision: number, scope: string, onEvents: OnEvents, onEnd: OnWatchEnd): Watcher {
    const watcher = new Watcher(this, this.#source, this.#limits, this.#turns, scope, revision, onEvents, onEnd);
    let scoped = this.#scopes.get(scope);
    if (scoped === undefined) this.#scopes.set(scope, scoped = new Set());
    scoped.add(watcher);
    this.#count += 1;
    return watcher;
  }

  remove(watcher: Watcher): void {
    const scoped = this.#scopes.get(watcher.scope);
    if (scoped?.delete(watcher) !== true) return;
    this.#count -= 1;
    if (scoped.size === 0) this.#scopes.delete(watcher.scope);
  }

  /** Hands one applied batch to everyone concerned; the array is shared. O(events + concerned watchers). */
  deliver(events: readonly StoredChange[]): void {
    const all = this.#scopes.get('');
    if (all !== undefined) for (const watcher of all) watcher.deliver(events);
    if (this.#scopes.size === (all === undefined ? 0 : 1)) return;
    for (const [scope, scopedEvents] of this.#split(events)) {
      for (const watcher of this.#scopes.get(scope) ?? []) watcher.deliver(scopedEvents);
    }
  }

  #split(events: readonly StoredChange[]): Map<string, StoredChange[]> {
    const byScope = new Map<string, StoredChange[]>();
    for (const event of events) {
      const slash = event.key.indexOf('/');
      this.#file(byScope, event.key, event);
      if (slash >= 0) this.#file(byScope, event.key.slice(0, slash + 1), event);
    }
    return byScope;
  }

  #file(byScope: Map<string, StoredChange[]>, scope: string, event: StoredChange): void {
    if (!this.#scopes.has(scope)) return;
    const filed = byScope.get(scope);
    if (filed === undefined) byScope.set(scope, [event]); else filed.push(event);
  }

  /** Closes the paused watchers that the history is about to leave behind. */
  endLaggards(): void {
    for (const scoped of this.#scopes.values()) for (const watcher of scoped) watcher.endIfLate();
  }

  endAll(error?: Error): void {
    for (const scoped of [...this.#scopes.values()]) for (const watcher of [...scoped]) watcher.end(error);
  }
}

/** One watch: `live` gets batches as they come, otherwise it reads on from its position. */
export class Watcher implements StoreWatch {
  readonly scope: string;
  readonly #owner: Watchers;
  readonly #source: WatchSource;
  readonly #limits: StorageLimits;
  readonly #onEvents: OnEvents;
  readonly #onEnd: OnWatchEnd;
  readonly #turns: TurnQueue;
  readonly #catchUp = (): void => this.catchUp();
  #position: number;
  #state: 'catchingUp' | 'paused' | 'live' | 'ended' = 'catchingUp';

  constructor(owner: Watchers, source: WatchSource, limits: StorageLimits, turns: TurnQueue, scope: string, revision: number, onEvents: OnEvents, onEnd: OnWatchEnd) {
    this.#owner = owner;
    this.#source = source;
    this.#limits = limits;
    this.scope = scope;
    this.#position = revision;
    this.#onEvents = onEvents;
    this.#onEnd = onEnd;
    this.#turns = turns;
    turns.push(this.#catchUp);
  }

  get revision(): number {
    return this.#state === 'live' ? Math.max(this.#position, this.#source.headRevision) : this.#position;
  }

  resume(): void {
    if (this.#state !== 'paused') return;
    this.#state = 'catchingUp';
    this.#turns.push(this.#catchUp);
  }

  stop(): void {
    this.#state = 'ended';
    this.#owner.remove(this);
  }

  end(error?: Error): void {
    if (this.#state === 'ended') return;
    this.stop();
    this.#onEnd(error);
  }

  deliver(events: readonly StoredChange[]): void {
    if (this.#state !== 'live') return;
    const first = events[0] as StoredChange;
    const last = events[events.length - 1] as StoredChange;
    // A watch may be asked to begin at a revision that is still to come; what lies before it must not be shown.
    const wanted = first.revision > this.#position ? events : events.filter((event) => event.revision > this.#position);
    if (wanted.length === 0) return;
    this.#position = last.revision;
    this.#hand(wanted);
  }

  /** One slice of history; then the next in a later turn, or live. */
  catchUp(): void {
    if (this.#state !== 'catchingUp') return;
    if (this.#position < this.#source.floor) return this.#endLate();
    let slice: StoredChange[];
    try {
      slice = this.#source.after(this.#position, this.#limits.watchBatchMax);
    } catch (error) {
      return this.end(error as Error);
    }
    const last = slice.at(-1);
    if (last === undefined) {
      this.#position = Math.max(this.#position, this.#source.headRevision);
      this.#state = 'live';
      return;
    }
    this.#position = last.revision;
    const wanted = this.scope === '' ? slice : slice.filter((event) => this.#isWanted(event));
    if (wanted.length > 0) this.#hand(wanted);
    if (this.#isCatchingUp()) this.#turns.push(this.#catchUp);
  }

  /** A callback that throws costs its own watch only. */
  #hand(events: readonly StoredChange[]): void {
    try {
      if (this.#onEvents(events) === false && this.#state !== 'ended') this.#state = 'paused';
    } catch (error) {
      this.end(error as Error);
    }
  }

  endIfLate(): void {
    if (this.#state !== 'paused' && this.#state !== 'catchingUp') return;
    if (this.#position < this.#source.floor || (this.#state === 'paused' && this.#source.countAfter(this.#position) > this.#limits.watchLagMax)) this.#endLate();
  }

  #endLate(): void {
    this.#owner.slowClosedCount += 1;
    this.end(expired(this.#source.resource, this.#position, this.#source.floor));
  }

  // A callback may have stopped or paused the watch; the compiler cannot see that #state changed meanwhile.
  #isCatchingUp(): boolean { return this.#state === 'catchingUp'; }

  #isWanted(event: StoredChange): boolean {
    return this.scope.endsWith('/') ? event.key.startsWith(this.scope) : event.key === this.scope;
  }
}
