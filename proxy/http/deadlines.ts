// Timeouts to the millisecond at the cost of linking two list nodes: one first-in-first-out list per distinct
// duration, one clock timer for the earliest of them all. A connection owns one Deadline and moves it from phase to
// phase. Cheaper than a timer per request; used by every connection of the HTTP engine.

import type { Clock, TimerHandle } from '../../api/clock.ts';

/** What a deadline belongs to; called once when it passes. */
export interface DeadlineOwner { onDeadline(): void }

export class Deadline {
  readonly owner: DeadlineOwner;
  atMs = 0;
  list: DeadlineList | undefined = undefined;
  previous: Deadline | undefined = undefined;
  next: Deadline | undefined = undefined;
  constructor(owner: DeadlineOwner) { this.owner = owner; }
}

interface DeadlineList { readonly durationMs: number; first: Deadline | undefined; last: Deadline | undefined }

export class Deadlines {
  readonly #clock: Clock;
  readonly #lists = new Map<number, DeadlineList>();
  #timer: TimerHandle | undefined;
  #timerAtMs = Infinity;
  #isClosed = false;

  constructor(clock: Clock) { this.#clock = clock; }

  /** (Re)starts the deadline, `durationMs` from `nowMs`; 0 or Infinity switches it off. O(1). */
  start(deadline: Deadline, durationMs: number, nowMs: number): void {
    if (deadline.list !== undefined) unlink(deadline);
    if (durationMs <= 0 || durationMs === Infinity || this.#isClosed) return;
    let list = this.#lists.get(durationMs);
    if (list === undefined) {
      list = { durationMs, first: undefined, last: undefined };
      this.#lists.set(durationMs, list);
    }
    deadline.atMs = nowMs + durationMs;
    deadline.list = list;
    deadline.previous = list.last;
    if (list.last === undefined) list.first = deadline; else list.last.next = deadline;
    list.last = deadline;
    if (deadline.atMs < this.#timerAtMs) this.#arm(deadline.atMs);
  }

  stop(deadline: Deadline): void { if (deadline.list !== undefined) unlink(deadline); }

  close(): void {
    this.#isClosed = true;
    this.#timer?.cancel();
    this.#lists.clear();
  }

  #arm(atMs: number): void {
    this.#timer?.cancel();
    this.#timerAtMs = atMs;
    this.#timer = this.#clock.after(Math.max(1, Math.ceil(atMs - this.#clock.monotonicMs())), () => this.#run());
  }

  #run(): void {
    this.#timer = undefined;
    this.#timerAtMs = Infinity;
    const nowMs = this.#clock.monotonicMs();
    let nextMs = Infinity;
    for (const list of this.#lists.values()) {
      for (;;) {
        const deadline = list.first;
        if (deadline === undefined) break;
        if (deadline.atMs > nowMs) {
          if (deadline.atMs < nextMs) nextMs = deadline.atMs;
          break;
        }
        unlink(deadline);
        deadline.owner.onDeadline();
      }
    }
    if (nextMs < this.#timerAtMs && !this.#isClosed) this.#arm(nextMs);
  }
}

function unlink(deadline: Deadline): void {
  const list = deadline.list!;
  if (deadline.previous === undefined) list.first = deadline.next; else deadline.previous.next = deadline.next;
  if (deadline.next === undefined) list.last = deadline.previous; else deadline.next.previous = deadline.previous;
  deadline.previous = undefined;
  deadline.next = undefined;
  deadline.list = undefined;
}
