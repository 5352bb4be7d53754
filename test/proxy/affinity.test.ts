// The ClientIP table in shared memory: sliding time-out, one view for all threads, bounded.

import { expect, test } from 'vitest';
import { AffinityTable, createAffinityMemory, endpointHashOf, startAffinityClock } from '../../proxy/affinity.ts';
import type { Clock } from '../../api/clock.ts';

/** A clock that is moved by hand. */
function manualClock(): Clock & { advance(ms: number): void } {
  let nowMs = 0;
  const timers: { periodMs: number; nextMs: number; callback: () => void }[] = [];
  return {
    nowMs: () => nowMs, monotonicMs: () => nowMs, after: () => ({ cancel() {} }),
    every: (periodMs, callback) => { const timer = { periodMs, nextMs: nowMs + periodMs, callback }; timers.push(timer); return { cancel() { timers.splice(timers.indexOf(timer), 1); } }; },
    advance(ms) {
      const end = nowMs + ms;
      for (;;) {
        const next = timers.filter((each) => each.nextMs <= end).sort((a, b) => a.nextMs - b.nextMs)[0];
        if (next === undefined) break;
        nowMs = next.nextMs;
        next.nextMs += next.periodMs;
        next.callback();
      }
      nowMs = end;
    },
  };
}

test('an entry is found by every table over the memory, per port and client', () => {
  const memory = createAffinityMemory(1_024);
  const [a, b] = [new AffinityTable(memory), new AffinityTable(memory)];
  const hash = endpointHashOf('10.0.0.1', 80);
  a.set('ns/svc:http:TCP', '192.0.2.1', hash, 10);
  expect(b.find('ns/svc:http:TCP', '192.0.2.1', 10)).toBe(hash);
  expect(b.find('ns/svc:http:TCP', '192.0.2.2', 10)).toBe(0);
  expect(b.find('ns/svc:other:TCP', '192.0.2.1', 10)).toBe(0);
  b.set('ns/svc:http:TCP', '192.0.2.1', 12345, 10);
  expect(a.find('ns/svc:http:TCP', '192.0.2.1', 10)).toBe(12345);
  expect(a.count()).toBe(1);
});

test('each use renews the time-out; without use it ends', () => {
  const memory = createAffinityMemory(1_024);
  const clock = manualClock();
  startAffinityClock(memory, clock);
  const table = new AffinityTable(memory);
  table.set('p', 'c', 7, 3);
  for (let step = 0; step < 5; step++) {
    clock.advance(2_500);
    expect(table.find('p', 'c', 3)).toBe(7);
  }
  clock.advance(3_100);
  expect(table.find('p', 'c', 3)).toBe(0);
});

test('a restart of the clock on the same memory goes on from where it was', () => {
  const memory = createAffinityMemory(64);
  const clock = manualClock();
  const timer = startAffinityClock(memory, clock);
  clock.advance(10_000);
  timer.cancel();
  const table = new AffinityTable(memory);
  table.set('p', 'c', 7, 5);
  startAffinityClock(memory, clock);
  clock.advance(4_000);
  expect(table.find('p', 'c', 5)).toBe(7);
});

test('the table never grows: with more clients than slots the ones that expire first go', () => {
  const memory = createAffinityMemory(256);
  const table = new AffinityTable(memory);
  for (let index = 0; index < 5_000; index++) table.set('p', `10.${index >> 8}.${index & 255}.1`, 1 + index, 100);
  expect(table.count()).toBeLessThanOrEqual(256);
  const last = Array.from({ length: 100 }, (_, back) => 4_999 - back).filter((index) => table.find('p', `10.${index >> 8}.${index & 255}.1`, 100) === 1 + index);
  expect(last.length).toBeGreaterThan(50);
});
