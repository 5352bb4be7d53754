// Decides when each request goes out and measures it from the moment at which it should have gone out, so that a slow
// target cannot slow the clock (no coordinated omission). Slots are the places a request can be in flight: a
// connection, a stream, a query id. With a busy target the due requests wait, and that waiting is latency.

import { performance, type RecordableHistogram } from 'node:perf_hooks';
import { makeHistogram, record } from './histogram.ts';
import type { LoadPlan } from './plan.ts';

/** One request at a time. `send` starts it; the driver reports back through Pacer.done or Pacer.fail. */
export interface Slot { intendedMs: number; isBusy: boolean; deadlineMs: number; send(): void; abort(): void }

export interface Tally { count: number; bytes: number; errors: Record<string, number>; statuses: Record<string, number>; distribution: Record<string, number>; windowErrors: number }

const distributionMax = 64;

export class Pacer {
  readonly tally: Tally = { count: 0, bytes: 0, errors: {}, statuses: {}, distribution: {}, windowErrors: 0 };
  window: RecordableHistogram = makeHistogram();
  readonly lag: RecordableHistogram = makeHistogram();
  readonly #plan: LoadPlan;
  readonly #slots: Slot[] = [];
  readonly #idle: Slot[] = [];
  #startMs = 0;
  #measureFromMs = 0;
  #endMs = 0;
  #issued = 0;
  #inFlight = 0;
  #isStopped = false;
  #finish: (() => void) | undefined;
  readonly #pause = new Int32Array(new SharedArrayBuffer(4));

  constructor(plan: LoadPlan) { this.#plan = plan; }

  /** A slot that is ready to send. */
  add(slot: Slot): void { this.#slots.push(slot); this.free(slot); }

  /** Runs until the time is over and everything in flight is answered or timed out. */
  run(): Promise<void> {
    this.#startMs = performance.now();
    this.#measureFromMs = this.#startMs + this.#plan.warmupMs;
    this.#endMs = this.#measureFromMs + this.#plan.durationMs;
    const timer = setInterval(() => this.#expire(), 50);
    return new Promise<void>((resolve) => {
      this.#finish = () => { clearInterval(timer); resolve(); };
      if (this.#plan.rate === 0) { for (const slot of this.#idle.splice(0)) this.#start(slot, performance.now()); setTimeout(() => this.stop(), Math.max(0, this.#endMs - performance.now())); } else this.#tick();
    });
  }

  get elapsedMs(): number { return Math.max(0, Math.min(performance.now(), this.#endMs) - this.#measureFromMs); }
  /** Due by now and not sent yet. */
  get backlog(): number { return this.#plan.rate === 0 ? 0 : Math.max(0, this.#due(Math.min(performance.now(), this.#endMs)) - this.#issued); }

  stop(): void {
    if (this.#isStopped) return;
    this.#isStopped = true;
    this.#endMs = Math.min(this.#endMs, performance.now());
    if (this.#inFlight === 0) this.#finish?.();
  }

  done(slot: Slot, bytes: number, status: string, key: string): void {
    const now = performance.now();
    this.#release(slot);
    if (slot.intendedMs < this.#measureFromMs) return;
    record(this.window, now - slot.intendedMs);
    const { tally } = this;
    tally.count += 1;
    tally.bytes += bytes;
    if (status !== '') tally.statuses[status] = (tally.statuses[status] ?? 0) + 1;
    if (key !== '') {
      const name = key in tally.distribution || Object.keys(tally.distribution).length < distributionMax ? key : 'others';
      tally.distribution[name] = (tally.distribution[name] ?? 0) + 1;
    }
  }

  /** A request that got no proper answer; it counts as an error, not in the latencies. */
  fail(slot: Slot, kind: string): void {
    if (!slot.isBusy) return;
    this.#release(slot);
    this.tally.errors[kind] = (this.tally.errors[kind] ?? 0) + 1;
    this.tally.windowErrors += 1;
  }

  /** The slot may send again. */
  free(slot: Slot): void {
    if (this.#isStopped || this.#startMs === 0) { this.#idle.push(slot); return; }
    if (this.#plan.rate === 0) { this.#start(slot, performance.now()); return; }
    if (this.#issued < this.#due(performance.now())) this.#start(slot, this.#intended(this.#issued++));
    else this.#idle.push(slot);
  }

  #release(slot: Slot): void {
    slot.isBusy = false;
    this.#inFlight -= 1;
    if (this.#isStopped && this.#inFlight === 0) this.#finish?.();
  }

  /** Requests whose time has come: the first is due at the start itself. */
  #due(now: number): number { return Math.floor(((now - this.#startMs) * this.#plan.rate) / 1_000) + 1; }
  #intended(index: number): number { return this.#startMs + (index * 1_000) / this.#plan.rate; }

  #start(slot: Slot, intendedMs: number): void {
    slot.intendedMs = intendedMs;
    slot.isBusy = true;
    slot.deadlineMs = performance.now() + this.#plan.timeoutMs;
    this.#inFlight += 1;
    slot.send();
  }

  /**
   * Open loop: turns with the event loop, since a timer of 1 ms would be seen in the latencies. Between two requests it
   * sleeps for at most 100 us, so that a backend on the same core gets its share.
   */
  #tick(): void {
    if (this.#isStopped) return;
    const now = performance.now();
    if (now >= this.#endMs) { this.stop(); return; }
    const due = this.#due(now);
    while (this.#issued < due && this.#idle.length > 0) {
      const intended = this.#intended(this.#issued++);
      if (intended >= this.#measureFromMs) record(this.lag, now - intended);
      const slot = this.#idle.shift();
      if (slot !== undefined) this.#start(slot, intended);
    }
    const untilNext = this.#intended(this.#issued) - performance.now();
    if (untilNext > 0.05) Atomics.wait(this.#pause, 0, 0, Math.min(0.1, untilNext));
    setImmediate(() => this.#tick());
  }

  #expire(): void {
    const now = performance.now();
    for (const slot of this.#slots) if (slot.isBusy && now > slot.deadlineMs) { slot.abort(); this.fail(slot, 'timeout'); }
    if (this.#isStopped && this.#inFlight <= 0) this.#finish?.();
  }
}
