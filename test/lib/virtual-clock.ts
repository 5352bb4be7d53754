// A clock that tests move by hand. Timers run in order of their time; between them every promise that can settle does.

import type { Clock, TimerHandle } from '../../api/clock.ts';

interface Timer { atMs: number; order: number; callback: () => void; periodMs: number | undefined }

export class VirtualClock implements Clock {
  #nowMs = 0;
  #order = 0;
  readonly #epochMs: number;
  readonly #timers = new Set<Timer>();

  constructor(epochMs = Date.parse('2026-01-01T00:00:00Z')) { this.#epochMs = epochMs; }

  nowMs(): number { return this.#epochMs + this.#nowMs; }
  monotonicMs(): number { return this.#nowMs; }
  get timerCount(): number { return this.#timers.size; }

  after(delayMs: number, callback: () => void): TimerHandle { return this.#add(delayMs, callback, undefined); }
  every(periodMs: number, callback: () => void): TimerHandle { return this.#add(periodMs, callback, periodMs); }

  #add(delayMs: number, callback: () => void, periodMs: number | undefined): TimerHandle {
    const timer: Timer = { atMs: this.#nowMs + Math.max(0, delayMs), order: this.#order++, callback, periodMs };
    this.#timers.add(timer);
    return { cancel: () => { this.#timers.delete(timer); } };
  }

  /** Runs every timer that is due within the time, with pending promises settled in between. */
  async advance(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms;
    await settle();
    for (;;) {
      let next: Timer | undefined;
      for (const timer of this.#timers) if (timer.atMs <= endMs && (next === undefined || timer.atMs < next.atMs || (timer.atMs === next.atMs && timer.order < next.order))) next = timer;
      if (next === undefined) break;
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      if (next.periodMs === undefined) this.#timers.delete(next); else next.atMs += next.periodMs;
      next.callback();
      await settle();
    }
    this.#nowMs = endMs;
  }

  /** Jumps without running timers in between, as a machine that slept does; they run late. */
  jump(ms: number): void { this.#nowMs += ms; }
}

/** Lets promise chains and immediates run out. */
export async function settle(rounds = 20): Promise<void> {
  for (let round = 0; round < rounds; round++) await new Promise<void>((resolve) => { setImmediate(resolve); });
}
