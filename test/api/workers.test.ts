// Worker threads come back after a throw with their state replayed, and the others go on.

import { afterEach, expect, test } from 'vitest';
import { systemClock } from '../../api/clock.ts';
import { silentLog } from '../../api/log.ts';
import { WorkerPool } from '../../api/workers.ts';
import { waitFor } from '../lib/wait-for.ts';

const url = new URL('./fixtures/echo-worker.ts', import.meta.url);
let pool: WorkerPool | undefined;
afterEach(async () => { await pool?.stop(100); pool = undefined; });

test('messages arrive in order at every worker and stop lets them finish', async () => {
  pool = new WorkerPool({ name: 'echo', count: 2, modules: { echo: { url, data: 'given' } }, log: silentLog, clock: systemClock });
  await pool.start();
  const answers: { index: number; message: unknown }[] = [];
  const channel = pool.channel('echo');
  channel.onMessage((index, message) => answers.push({ index, message }));
  channel.broadcast('a');
  channel.send(1, 'b');
  const ofSecond = (): unknown[] => answers.filter(({ index }) => index === 1).map(({ message }) => message);
  await waitFor(() => ofSecond().length === 2);
  expect(ofSecond()).toEqual([{ seen: ['a'], data: 'given' }, { seen: ['a', 'b'], data: 'given' }]);
  await pool.stop(100);
  expect(answers.filter(({ message }) => message === 'bye')).toHaveLength(2);
  pool = undefined;
});

test('a worker that throws is restarted, its owner replays the state, and the other worker is left alone', async () => {
  pool = new WorkerPool({ name: 'echo', count: 2, modules: { echo: { url } }, log: silentLog, clock: systemClock });
  await pool.start();
  const channel = pool.channel('echo');
  const starts: number[] = [];
  const answers: { index: number; message: unknown }[] = [];
  channel.onMessage((index, message) => answers.push({ index, message }));
  channel.onStart((index) => { starts.push(index); channel.send(index, `state for ${index}`); });
  await waitFor(() => answers.length === 2);
  channel.send(0, 'throw');
  await waitFor(() => starts.length === 3, { what: 'a restart' });
  expect(starts).toEqual([0, 1, 0]);
  await waitFor(() => answers.length === 3);
  expect(answers[2]).toEqual({ index: 0, message: { seen: ['state for 0'], data: undefined } });
  expect(pool.restartTotal).toBe(1);
});

test('a module that cannot be loaded fails the start', async () => {
  pool = new WorkerPool({ name: 'bad', count: 1, modules: { bad: { url: new URL('./fixtures/none.ts', import.meta.url) } }, log: silentLog, clock: systemClock });
  await expect(pool.start()).rejects.toThrow();
});
