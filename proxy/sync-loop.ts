// When to sync: the first change after a pause at once, later ones gathered for at least `periodMsMin`, a failed sync
// again after a growing delay and whole. One sync at a time. Called by proxier, which supplies what a sync does; knows
// nothing about Services.

import type { Clock, TimerHandle } from '../api/clock.ts';

export interface SyncLoopOptions {
  readonly clock: Clock;
  /** Shortest time between the starts of two syncs. */
  readonly periodMsMin: number;
  /** Delay of the first retry after a failure; doubles up to `retryMsMax`. */
  readonly retryMsMin: number;
  readonly retryMsMax: number;
  /** Rejects when nothing could be applied: it is called again, with `isFull`. */
  readonly sync: (isFull: boolean) => Promise<void>;
}

export class SyncLoop {
  readonly #options: SyncLoopOptions;
  #timer: TimerHandle | undefined;
  #isQueued = false;
  #isRunning = false;
  #isStopped = false;
  #isFull = false;
  #lastStartMs = Number.NEGATIVE_INFINITY;
  #failureCount = 0;
  #idle: (() => void)[] = [];

  constructor(options: SyncLoopOptions) { this.#options = options; }

  /** Asks for a sync. Returns at once; never runs inside the caller's stack. */
  request(isFull: boolean): void {
    if (this.#isStopped) return;
    this.#isFull ||= isFull;
    if (this.#isQueued) return;
    this.#isQueued = true;
    if (!this.#isRunning) this.#schedule();
  }

  /** Resolves when nothing is queued or running. */
  whenIdle(): Promise<void> {
    if (!this.#isQueued && !this.#isRunning) return Promise.resolve();
    return new Promise((resolve) => { this.#idle.push(resolve); });
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#timer?.cancel();
    this.#isQueued = false;
    if (this.#isRunning) await this.whenIdle();
    else this.#settle();
  }

  #schedule(): void {
    const { clock, periodMsMin, retryMsMin, retryMsMax } = this.#options;
    const backoffMs = this.#failureCount === 0 ? 0 : Math.min(retryMsMax, retryMsMin * 2 ** (this.#failureCount - 1));
    const waitMs = this.#lastStartMs + Math.max(periodMsMin, backoffMs) - clock.monotonicMs();
    if (waitMs <= 0) setImmediate(() => { void this.#run(); });
    else this.#timer = clock.after(waitMs, () => { void this.#run(); });
  }

  async #run(): Promise<void> {
    if (this.#isStopped) return;
    const isFull = this.#isFull;
    this.#isQueued = false;
    this.#isRunning = true;
    this.#isFull = false;
    this.#lastStartMs = this.#options.clock.monotonicMs();
    try {
      await this.#options.sync(isFull);
      this.#failureCount = 0;
    } catch {
      this.#failureCount += 1;
      this.#isFull = true;
      this.#isQueued = !this.#isStopped;
    }
    this.#isRunning = false;
    if (this.#isQueued && !this.#isStopped) this.#schedule();
    else this.#settle();
  }

  #settle(): void {
    const waiters = this.#idle;
    this.#idle = [];
    for (const resolve of waiters) resolve();
  }
}
