// Work in small pieces that must not hold up the event loop together: runs what waits until a few milliseconds are used
// up, the rest in the next turn. Used for watchers that read history, of which hundreds may come at once after a restart.

import type { Clock } from '../../api/clock.ts';

/** Time that the pieces may take in one turn of the event loop. */
const turnMs = 8;

/** First in, first out. */
export class TurnQueue {
  readonly #clock: Clock;
  #waiting: (() => void)[] = [];
  #isScheduled = false;

  constructor(clock: Clock) { this.#clock = clock; }

  push(piece: () => void): void {
    this.#waiting.push(piece);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => this.#run());
  }

  #run(): void {
    this.#isScheduled = false;
    const pieces = this.#waiting;
    this.#waiting = [];
    const endMs = this.#clock.monotonicMs() + turnMs;
    let done = 0;
    while (done < pieces.length && (done === 0 || this.#clock.monotonicMs() < endMs)) (pieces[done++] as () => void)();
    if (done < pieces.length) this.#waiting = [...pieces.slice(done), ...this.#waiting];
    if (this.#waiting.length > 0) this.#schedule();
  }
}
