// Runs `sync(key)` for keys that were marked dirty: each key at most once at a time, a mark during its run brings it
// round again, a failure brings it back with growing delay, and nothing marked is ever forgotten.
// Used by every controller. Marks come from informer listeners and must stay cheap.
// Source: the contract of client-go util/workqueue (delaying, rate limited).

import type { Clock, TimerHandle } from '../../api/clock.ts';
import { isConflict } from '../../api/errors.ts';
import type { Log } from '../../api/log.ts';

export interface WorkQueueOptions {
  name: string; clock: Clock; log: Log;
  sync: (key: string) => Promise<void> | void;
  /** Keys worked on at a time, default 8. */
  concurrency?: number;
  /** First and largest delay after failures; defaults 10 ms and 60 s. */
  retryMsMin?: number; retryMsMax?: number;
  random?: () => number;
}

/** After this many failures in a row a key is reported as a warning, once. */
const failuresToWarn = 5;
/** A conflict only means that somebody was faster: come back at once-ish. */
const conflictRetryMs = 5;

export class WorkQueue {
  readonly #options: Required<WorkQueueOptions>;
  readonly #dirty = new Set<string>();
  readonly #running = new Set<string>();
  readonly #timers = new Map<string, { timer: TimerHandle; atMs: number }>();
  readonly #failures = new Map<string, number>();
  readonly #idleWaiters: (() => void)[] = [];
  #isScheduled = false;
  #isStarted = false;
  #isStopped = false;
  #doneCount = 0;

  constructor(options: WorkQueueOptions) {
    this.#options = { concurrency: 8, retryMsMin: 10, retryMsMax: 60_000, random: Math.random, ...options };
  }

  /** Keys that wait or run, without those on a timer. */
  get depth(): number { return this.#dirty.size + this.#running.size; }
  get delayedCount(): number { return this.#timers.size; }
  get failingCount(): number { return this.#failures.size; }
  get doneCount(): number { return this.#doneCount; }
  get name(): string { return this.#options.name; }

  /** Marks a key; an earlier timer of the key is made pointless and dropped. */
  add(key: string): void {
    if (this.#isStopped) return;
    this.#cancelTimer(key);
    this.#dirty.add(key);
    this.#schedule();
  }

  /** Marks the key after a delay; of several timers the earliest counts. */
  addAfter(key: string, delayMs: number): void {
    if (this.#isStopped || this.#dirty.has(key)) return;
    if (delayMs <= 0) { this.add(key); return; }
    const atMs = this.#options.clock.monotonicMs() + delayMs;
    const known = this.#timers.get(key);
    if (known !== undefined && known.atMs <= atMs) return;
    known?.timer.cancel();
    const timer = this.#options.clock.after(delayMs, () => { this.#timers.delete(key); this.add(key); });
    this.#timers.set(key, { timer, atMs });
  }

  /** Until then marks are only collected. */
  start(): void { this.#isStarted = true; this.#schedule(); }

  /** Running keys finish; nothing starts any more. */
  stop(): void {
    this.#isStopped = true;
    for (const { timer } of this.#timers.values()) timer.cancel();
    this.#timers.clear();
    this.#dirty.clear();
    this.#tellIdle();
  }

  /** Resolves when nothing waits or runs; keys on a timer do not count. */
  whenIdle(): Promise<void> {
    return this.depth === 0 ? Promise.resolve() : new Promise((resolve) => { this.#idleWaiters.push(resolve); });
  }

  #cancelTimer(key: string): void {
    this.#timers.get(key)?.timer.cancel();
    this.#timers.delete(key);
  }

  /**
   * Marks of one turn of the event loop are collected, so that a burst of events is one run. Always a new turn: a key
   * that marks itself again for ever must not keep the server from its sockets.
   */
  #schedule(): void {
    if (this.#isScheduled || !this.#isStarted || this.#isStopped) return;
    this.#isScheduled = true;
    setImmediate(() => { this.#isScheduled = false; this.#fill(); });
  }

  #fill(): void {
    for (const key of this.#dirty) {
      if (this.#running.size >= this.#options.concurrency || this.#isStopped) return;
      if (this.#running.has(key)) continue;
      this.#dirty.delete(key);
      void this.#run(key);
    }
  }

  async #run(key: string): Promise<void> {
    this.#running.add(key);
    try {
      await this.#options.sync(key);
      this.#failures.delete(key);
    } catch (error) {
      this.#onFailure(key, error);
    } finally {
      this.#running.delete(key);
      this.#doneCount += 1;
      if (this.#dirty.size > 0) this.#schedule();
      else this.#tellIdle();
    }
  }

  #onFailure(key: string, error: unknown): void {
    if (this.#isStopped) return;
    const count = (this.#failures.get(key) ?? 0) + 1;
    this.#failures.set(key, count);
    const { retryMsMin, retryMsMax, random, log, name } = this.#options;
    const base = isConflict(error) && count < 3 ? conflictRetryMs : Math.min(retryMsMax, retryMsMin * 2 ** Math.min(count - 1, 30));
    log[count === failuresToWarn ? 'warn' : 'debug']('sync failed, will be tried again', { controller: name, key, failures: count, err: error });
    if (!this.#dirty.has(key)) this.addAfter(key, base * (0.75 + random() / 2));
  }

  #tellIdle(): void { if (this.depth === 0) for (const resolve of this.#idleWaiters.splice(0)) resolve(); }
}
