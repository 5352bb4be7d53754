// The work queue: no lost marks, one run per key at a time, backoff on a virtual clock. And the overlay of own writes.

import { expect, test } from 'vitest';
import { silentLog } from '../../../api/log.ts';
import { WorkQueue } from '../../../control/controllers/work-queue.ts';
import { settle, VirtualClock } from '../../lib/virtual-clock.ts';

function make(sync: (key: string) => Promise<void> | void, more: Partial<ConstructorParameters<typeof WorkQueue>[0]> = {}): { queue: WorkQueue; clock: VirtualClock } {
  const clock = new VirtualClock();
  const queue = new WorkQueue({ name: 'test', clock, log: silentLog, sync, random: () => 0.5, ...more });
  return { queue, clock };
}

test('marks before start are kept, marks of one turn are one run', async () => {
  const runs: string[] = [];
  const { queue } = make((key) => { runs.push(key); });
  queue.add('a'); queue.add('b'); queue.add('a');
  await settle();
  expect(runs).toEqual([]);
  queue.start();
  await settle();
  expect(runs).toEqual(['a', 'b']);
});

test('a mark during the run of its key brings it round again, never at the same time', async () => {
  let running = 0;
  let most = 0;
  let runs = 0;
  const gate = Promise.withResolvers<void>();
  const { queue } = make(async () => { running += 1; runs += 1; most = Math.max(most, running); await gate.promise; running -= 1; });
  queue.start();
  queue.add('a');
  await settle();
  queue.add('a'); queue.add('a');
  await settle();
  expect(runs).toBe(1);
  gate.resolve();
  await queue.whenIdle();
  expect([runs, most]).toEqual([2, 1]);
});

test('different keys run side by side up to the limit', async () => {
  let running = 0;
  let most = 0;
  const gate = Promise.withResolvers<void>();
  const { queue } = make(async () => { running += 1; most = Math.max(most, running); await gate.promise; running -= 1; }, { concurrency: 3 });
  queue.start();
  for (let index = 0; index < 10; index++) queue.add(`k${index}`);
  await settle();
  expect(running).toBe(3);
  gate.resolve();
  await queue.whenIdle();
  expect([most, queue.doneCount]).toEqual([3, 10]);
});

test('a failing key comes back with doubling delay, and at once when it is marked; success forgets the failures', async () => {
  let isBroken = true;
  const at: number[] = [];
  const { queue, clock } = make(() => { at.push(clock.monotonicMs()); if (isBroken) throw new Error('broken'); }, { retryMsMin: 10, retryMsMax: 50 });
  queue.start();
  queue.add('a');
  await clock.advance(200);
  expect(at).toEqual([0, 10, 30, 70, 120, 170]);
  expect(queue.failingCount).toBe(1);
  isBroken = false;
  queue.add('a');
  await settle();
  expect([at.length, queue.failingCount]).toEqual([7, 0]);
  await clock.advance(1_000);
  expect(at.length).toBe(7);
});

test('of several delays of one key the earliest counts', async () => {
  const at: number[] = [];
  const { queue, clock } = make(() => { at.push(clock.monotonicMs()); });
  queue.start();
  queue.addAfter('a', 100); queue.addAfter('a', 30); queue.addAfter('a', 60);
  await clock.advance(500);
  expect(at).toEqual([30]);
});

test('after stop nothing runs and no timer is left', async () => {
  let runs = 0;
  const { queue, clock } = make(() => { runs += 1; });
  queue.start();
  queue.addAfter('a', 10);
  queue.add('b');
  queue.stop();
  queue.add('c');
  await clock.advance(100);
  expect([runs, clock.timerCount]).toEqual([0, 0]);
});

test('a key that marks itself again without end leaves the event loop its turns', async () => {
  let runs = 0;
  const { queue } = make(() => { runs += 1; queue.add('a'); });
  queue.start();
  queue.add('a');
  const turns: number[] = [];
  for (let turn = 0; turn < 20; turn++) {
    await new Promise((resolve) => { setImmediate(resolve); });
    turns.push(runs);
  }
  queue.stop();
  expect(runs).toBeGreaterThan(5);
  expect(Math.max(...turns.map((count, index) => count - (turns[index - 1] ?? 0)))).toBeLessThanOrEqual(2);
});
