// Sheds load when the thread cannot keep up (R27): how late a timer runs tells how long requests wait for the event loop.
// While that is over the bound twice in a row, a growing share of new requests is answered 503 at once, so that the others stay quick;
// the share falls back as soon as the loop is on time. No timer runs while no request comes. Called by engine.ts.

import type { Clock } from '../../api/clock.ts';

export interface LoadLimits {
  /** Milliseconds that the event loop may be late; 0 = never shed. */
  readonly delayMsMax: number;
}
export const loadLimits: LoadLimits = Object.freeze({ delayMsMax: 250 });

const tickMs = 50;
const shareMax = 0.95;
const relaxation = 0.5;

export class LoadGuard {
  /** Share of new requests that are refused, 0 to 0.95. */
  share = 0;
  readonly #clock: Clock;
  readonly #delayMsMax: number;
  #isArmed = false;
  #hasSeen = false;
  #credit = 0;
  #dueMs = 0;
  /** Late measurements in a row: one alone is a pause (garbage, a busy machine), not too much work. */
  #lateCount = 0;

  constructor(clock: Clock, limits: LoadLimits) {
    this.#clock = clock;
    this.#delayMsMax = limits.delayMsMax;
  }

  /** Counts one new request; true = refuse it. Spread evenly, without chance. */
  mustShed(nowMs: number): boolean {
    this.#hasSeen = true;
    if (!this.#isArmed) this.#arm(nowMs);
    // The timer itself is late while the loop is: what is due already counts.
    else if (nowMs - this.#dueMs > this.#delayMsMax && this.#delayMsMax > 0) this.#weigh(nowMs);
    if (this.share === 0) return false;
    this.#credit += this.share;
    if (this.#credit < 1) return false;
    this.#credit -= 1;
    return true;
  }

  #arm(nowMs: number): void {
    if (this.#delayMsMax <= 0) return;
    this.#isArmed = true;
    this.#hasSeen = false;
    this.#dueMs = nowMs + tickMs;
    this.#clock.after(tickMs, () => this.#tick());
  }

  #tick(): void {
    const nowMs = this.#clock.monotonicMs();
    this.#isArmed = false;
    this.#weigh(nowMs);
    if (this.#hasSeen || this.share > 0) this.#arm(nowMs);
  }

  /** Aims at the share that would bring the delay down to the bound. */
  #weigh(nowMs: number): void {
    const lateMs = nowMs - this.#dueMs;
    if (lateMs > this.#delayMsMax) {
      this.#dueMs = nowMs;
      this.#lateCount += 1;
      if (this.#lateCount < 2) return;
      if (this.share === 0) this.#credit = 1;
      this.share = Math.min(shareMax, 1 - (1 - this.share) * (this.#delayMsMax / lateMs));
    } else {
      this.#lateCount = 0;
      this.share *= relaxation;
      if (this.share < 0.01) this.share = 0;
    }
  }
}
