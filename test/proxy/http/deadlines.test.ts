// Deadlines on a virtual clock: exact to the millisecond, in order, cheap to move.

import { expect, test } from 'vitest';
import type { Clock } from '../../../api/clock.ts';
import { Deadline, Deadlines } from '../../../proxy/http/deadlines.ts';

class VirtualClock implements Clock {
  ms = 0;
  timers: { atMs: number; callback: () => void; isCancelled: boolean }[] = [];
  nowMs(): number { return this.ms; }
  monotonicMs(): number { return this.ms; }
  after(delayMs: number, callback: () => void): { cancel(): void } {
    const timer = { atMs: this.ms + delayMs, callback, isCancelled: false };
    this.timers.push(timer);
    return { cancel: () => { timer.isCancelled = true; } };
  }
  every(): { cancel(): void } { return { cancel: () => {} }; }
  advance(ms: number): void {
    const end = this.ms + ms;
    for (;;) {
      this.timers = this.timers.filter((timer) => !timer.isCancelled).sort((a, b) => a.atMs - b.atMs);
      const next = this.timers[0];
      if (next === undefined || next.atMs > end) break;
      this.timers.shift();
      this.ms = next.atMs;
      next.callback();
    }
    this.ms = end;
  }
}

test('each deadline fires once, at its millisecond, whatever the order of starting', () => {
  const clock = new VirtualClock();
  const deadlines = new Deadlines(clock);
  const fired: [string, number][] = [];
  const make = (name: string): Deadline => new Deadline({ onDeadline: () => fired.push([name, clock.ms]) });
  const [a, b, c, d] = [make('a'), make('b'), make('c'), make('d')];
  deadlines.start(a, 250, clock.ms);
  deadlines.start(b, 30, clock.ms);
  clock.advance(10);
  deadlines.start(c, 30, clock.ms);
  deadlines.start(d, 5, clock.ms);
  clock.advance(1_000);
  expect(fired).toEqual([['d', 15], ['b', 30], ['c', 40], ['a', 250]]);
});

test('a moved or stopped deadline does not fire at its old time', () => {
  const clock = new VirtualClock();
  const deadlines = new Deadlines(clock);
  const fired: number[] = [];
  const one = new Deadline({ onDeadline: () => fired.push(clock.ms) });
  deadlines.start(one, 100, clock.ms);
  for (let step = 0; step < 10; step++) { clock.advance(50); deadlines.start(one, 100, clock.ms); }
  expect(fired).toEqual([]);
  clock.advance(100);
  expect(fired).toEqual([600]);
  deadlines.start(one, 100, clock.ms);
  deadlines.stop(one);
  deadlines.start(one, 0, clock.ms);
  clock.advance(1_000);
  expect(fired).toEqual([600]);
});

test('a deadline may start another one from its callback', () => {
  const clock = new VirtualClock();
  const deadlines = new Deadlines(clock);
  const fired: number[] = [];
  const one: Deadline = new Deadline({ onDeadline: () => { fired.push(clock.ms); if (fired.length < 3) deadlines.start(one, 10, clock.ms); } });
  deadlines.start(one, 10, clock.ms);
  clock.advance(100);
  expect(fired).toEqual([10, 20, 30]);
});
