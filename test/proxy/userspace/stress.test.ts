// The userspace engine under trouble: all endpoints replaced under load, threads killed under load, no files left.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import { waitFor } from '../../lib/wait-for.ts';
import { ask, freshVIP, plan, startEcho, startEngine, type Echo } from './harness.ts';

const isSoak = process.env['NETLOOM_SOAK'] === '1';

/** New connections one after the other in `lanes` lanes until stopped; counts what failed. */
function load(vip: string, lanes: number): { progress(): Promise<unknown>; stop(): Promise<{ done: number; failures: string[] }> } {
  let isStopped = false;
  let done = 0;
  const failures: string[] = [];
  const work = Promise.all(Array.from({ length: lanes }, async () => {
    while (!isStopped) await ask(vip).then(() => { done += 1; }, (error: NodeJS.ErrnoException) => failures.push(error.code ?? error.message));
  }));
  const progress = (): Promise<unknown> => { const goal = done + lanes; return waitFor(() => done >= goal); };
  return { progress, stop: async () => { isStopped = true; await work; return { done, failures }; } };
}

test('rolling replacement of all endpoints under load: no failed connection', async () => {
  const engine = await startEngine();
  const vip = freshVIP();
  let echoes: Echo[] = await Promise.all(Array.from({ length: 5 }, (_, index) => startEcho(`old${index}`)));
  await engine.apply(plan(vip, echoes.map((each) => each.address)));
  const running = load(vip, 8);
  for (let round = 0; round < (isSoak ? 20 : 2); round++) {
    for (let index = 0; index < echoes.length; index++) {
      const next = await startEcho(`new${round}-${index}`);
      const old = echoes[index] as Echo;
      echoes = echoes.with(index, next);
      await engine.apply(plan(vip, echoes.map((each) => each.address)));
      // A Pod that ends gracefully serves what it has, then stops listening.
      old.server.close();
      await running.progress();
    }
  }
  const { done, failures } = await running.stop();
  expect(failures).toEqual([]);
  expect(done).toBeGreaterThan(70);
  for (const each of echoes) each.close();
  await engine.stop();
});

test('endpoints that stop listening without notice, with connections in their queue: these go to another endpoint as long as nothing was said', async () => {
  const engine = await startEngine();
  const vip = freshVIP();
  const echoes = await Promise.all(Array.from({ length: 4 }, (_, index) => startEcho(`e${index}`)));
  await engine.apply(plan(vip, echoes.map((each) => each.address)));
  const running = load(vip, 4);
  for (const each of echoes.slice(0, 3)) {
    each.server.close();
    await waitFor(async () => (await Promise.all(Array.from({ length: 10 }, () => ask(vip)))).every((name) => name !== each.name));
  }
  const { failures } = await running.stop();
  expect(failures).toEqual([]);
  for (const each of echoes) each.close();
  await engine.stop();
});

test('threads killed under load: nobody is refused, only connections of the dead thread fail, and it comes back', async () => {
  const engine = await startEngine({ threads: 2 });
  const vip = freshVIP();
  const echo = await startEcho('a');
  await engine.apply(plan(vip, [echo.address]));
  const running = load(vip, 8);
  for (let round = 0; round < (isSoak ? 20 : 4); round++) {
    const before = engine.backend.replayCount;
    await engine.pool.threads()[round % 2]?.terminate();
    await waitFor(() => engine.backend.replayCount > before);
  }
  const { done, failures } = await running.stop();
  expect(failures.filter((code) => code === 'ECONNREFUSED')).toEqual([]);
  expect(failures.length).toBeLessThan(8 * (isSoak ? 20 : 4) + 1);
  expect(done).toBeGreaterThan(50);
  echo.close();
  await engine.stop();
});

test('with 128 files: clients beyond the limit are reset, nothing crashes, and all is well once they left', async () => {
  const vip = freshVIP();
  const echo = await startEcho('a');
  const child = spawn('sh', ['-c', `ulimit -n 128; exec "${process.execPath}" "${join(import.meta.dirname, 'engine-process.ts')}" ${vip} ${echo.address.port}`], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout as Readable, 'data');
  const sockets: Socket[] = [];
  let answered = 0;
  let ended = 0;
  for (let index = 0; index < 300; index++) {
    const socket = connect({ host: vip, port: 8000 });
    socket.once('data', () => { answered += 1; });
    socket.on('error', () => {});
    socket.once('close', () => { ended += 1; });
    sockets.push(socket);
  }
  await waitFor(() => answered + ended >= 300);
  expect(answered).toBeGreaterThan(20);
  expect(answered).toBeLessThan(60);
  expect(child.exitCode).toBeNull();
  for (const socket of sockets) socket.destroy();
  await waitFor(() => ask(vip).then((name) => name === 'a'));
  child.kill('SIGKILL');
  echo.close();
});

test('many connections opened and closed leave neither memory nor counts behind', async () => {
  const engine = await startEngine({ threads: 1 });
  const vip = freshVIP();
  const echo = await startEcho('a');
  const made = plan(vip, [echo.address]);
  await engine.apply(made);
  const count = isSoak ? 100_000 : 2_000;
  for (let index = 0; index < count; index += 20) await Promise.all(Array.from({ length: 20 }, () => ask(vip)));
  await waitFor(() => engine.backend.counter(made.key, 'active') === 0);
  expect(engine.backend.counter(made.key, 'accepted')).toBe(count);
  await waitFor(() => echo.sockets.size === 0);
  echo.close();
  await engine.stop();
});
