// One bad endpoint among ten (R28) and load shedding (R27): counts on a virtual clock, then a loop that really stalls.

import net from 'node:net';
import { afterAll, expect, test } from 'vitest';
import { systemClock } from '../../../api/clock.ts';
import { Backend, type Endpoint } from '../../../proxy/http/endpoints.ts';
import { LoadGuard } from '../../../proxy/http/load-guard.ts';
import { Origin, startRelay, talk } from './raw.ts';

const closers: (() => unknown)[] = [];
afterAll(async () => { for (const close of closers) await close(); });

function seeded(seed: number): () => number {
  let state = seed;
  return () => { state = (Math.imul(state, 1664525) + 1013904223) >>> 0; return state / 2 ** 32; };
}

/** 100 requests a second for `seconds`; `serve` says how an endpoint behaves. Counts of requests to the bad one per phase. */
function run(backend: Backend, fromMs: number, toMs: number, serve: (endpoint: Endpoint, nowMs: number) => { ms: number; isFault: boolean }): { all: number; bad: number } {
  const pending: { atMs: number; endpoint: Endpoint; ms: number; isFault: boolean }[] = [];
  const random = seeded(11);
  const counts = { all: 0, bad: 0 };
  for (let nowMs = fromMs; nowMs < toMs; nowMs += 10) {
    for (let index = pending.length - 1; index >= 0; index--) {
      const item = pending[index]!;
      if (item.atMs > nowMs) continue;
      pending.splice(index, 1);
      item.endpoint.outstanding -= 1;
      if (item.isFault) item.endpoint.noteFault(false, nowMs); else item.endpoint.noteSuccess(item.ms);
    }
    const endpoint = backend.pick(undefined, nowMs, random)!;
    const { ms, isFault } = serve(endpoint, nowMs);
    endpoint.outstanding += 1;
    pending.push({ atMs: nowMs + ms, endpoint, ms, isFault });
    counts.all += 1;
    if (endpoint === backend.endpoints[0]) counts.bad += 1;
  }
  for (const item of pending) item.endpoint.outstanding -= 1;
  return counts;
}
const ten = (): Backend => new Backend('t/app:80', { protocol: 'http', tls: undefined, endpoints: Array.from({ length: 10 }, (_, index) => ({ ip: `127.0.0.${index + 1}`, port: 80 })) });

test('one of ten that answers 500 gets under 1 % of the requests after 2 s, and its share again once it is well', () => {
  const backend = ten();
  const isBad = (endpoint: Endpoint): boolean => endpoint === backend.endpoints[0];
  const bad = (endpoint: Endpoint): { ms: number; isFault: boolean } => ({ ms: 5, isFault: isBad(endpoint) });
  run(backend, 0, 2_000, bad);
  const after = run(backend, 2_000, 32_000, bad);
  expect(after.bad / after.all).toBeLessThan(0.01);
  run(backend, 32_000, 65_000, () => ({ ms: 5, isFault: false }));
  const well = run(backend, 65_000, 75_000, () => ({ ms: 5, isFault: false }));
  expect(well.bad / well.all).toBeGreaterThan(0.07);
});

test('one of ten that takes 5 s gets under 1 % of the requests after 2 s, and its share again once it is quick', () => {
  const backend = ten();
  const slow = (endpoint: Endpoint): { ms: number; isFault: boolean } => ({ ms: endpoint === backend.endpoints[0] ? 5_000 : 5, isFault: false });
  run(backend, 0, 2_000, slow);
  const after = run(backend, 2_000, 32_000, slow);
  expect(after.bad / after.all).toBeLessThan(0.01);
  run(backend, 32_000, 50_000, () => ({ ms: 5, isFault: false }));
  const well = run(backend, 50_000, 60_000, () => ({ ms: 5, isFault: false }));
  expect(well.bad / well.all).toBeGreaterThan(0.07);
});

test('a failed connect ejects at once; with all endpoints ejected requests still go out', () => {
  const backend = ten();
  backend.endpoints[0]!.noteFault(true, 0);
  for (let index = 0; index < 100; index++) expect(backend.pick(undefined, 500, Math.random)).not.toBe(backend.endpoints[0]);
  for (const endpoint of backend.endpoints) endpoint.noteFault(true, 0);
  expect(backend.pick(undefined, 500, Math.random)).toBeDefined();
});

test('one late turn is not overload; two in a row shed a growing share, which falls back when the loop is on time', () => {
  let nowMs = 0;
  let callback: (() => void) | undefined;
  const guard = new LoadGuard({ nowMs: () => nowMs, monotonicMs: () => nowMs, after: (_delayMs: number, run: () => void) => { callback = run; return { cancel: () => {} }; }, every: () => ({ cancel: () => {} }) } as never, { delayMsMax: 100 });
  const tick = (atMs: number): void => { nowMs = atMs; const run = callback; callback = undefined; run?.(); };
  expect(guard.mustShed(nowMs)).toBe(false);
  tick(500);
  expect(guard.share).toBe(0);
  expect(guard.mustShed(nowMs)).toBe(false);
  tick(1_000);
  expect(guard.share).toBeGreaterThan(0.7);
  const shed = Array.from({ length: 100 }, () => guard.mustShed(nowMs)).filter(Boolean).length;
  expect(shed).toBeGreaterThan(70);
  expect(shed).toBeLessThan(97);
  for (let step = 1; step <= 10; step++) tick(1_000 + step * 50);
  expect(guard.share).toBe(0);
  expect(guard.mustShed(nowMs)).toBe(false);
});

test('a loop that stalls again and again answers 503 with Retry-After and counts it; afterwards all is served', async () => {
  const origin = new Origin();
  const limited: string[] = [];
  const relay = await startRelay([['a.test', '/', [await origin.listen()]]], {}, { load: { delayMsMax: 20 }, observer: { done() {}, retried() {}, gauge() {}, limited: (name) => { limited.push(name); } } });
  closers.push(() => relay.close(), () => origin.close());
  const bytes = Buffer.from('GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n');
  let isBusy = true;
  const stall = (): void => {
    const endMs = systemClock.monotonicMs() + 120;
    while (systemClock.monotonicMs() < endMs) { /* keeps the thread */ }
    if (isBusy) setImmediate(() => setImmediate(stall));
  };
  let shed: Awaited<ReturnType<typeof talk>> | undefined;
  stall();
  for (let round = 0; round < 20 && shed === undefined; round++) {
    const results = await Promise.all(Array.from({ length: 10 }, () => talk(relay.port, bytes, { quietMs: 10_000 })));
    shed = results.find((result) => result.answers[0]?.status === 503);
  }
  isBusy = false;
  expect(shed?.answers[0]?.lines).toEqual(expect.arrayContaining(['Retry-After: 1', 'netloom-reason: overloaded']));
  expect(limited).toContain('overload');
  while (relay.engine.loadGuard.share > 0) await talk(relay.port, bytes);
  const results = await Promise.all(Array.from({ length: 5 }, () => talk(relay.port, bytes)));
  expect(results.map((result) => result.answers[0]?.status)).toEqual([200, 200, 200, 200, 200]);
});

test('near the connection limit new connections are told 503 and closed; those that were there go on', async () => {
  const origin = new Origin();
  const relay = await startRelay([['a.test', '/', [await origin.listen()]]], {}, { connectionsMax: 20, load: { delayMsMax: 0 } });
  closers.push(() => relay.close(), () => origin.close());
  const keep = Buffer.from('GET / HTTP/1.1\r\nHost: a.test\r\n\r\n');
  const held = Array.from({ length: 19 }, () => net.connect({ port: relay.port, host: '127.0.0.1' }));
  while (relay.engine.connectionCount < 19) await new Promise((resolve) => { setImmediate(resolve); });
  const excess = await talk(relay.port, keep);
  expect([excess.answers[0]?.status, excess.isClosed]).toEqual([503, true]);
  expect(excess.answers[0]?.lines).toEqual(expect.arrayContaining(['Retry-After: 1', 'Connection: close']));
  const answered = new Promise<string>((resolve) => { held[0]!.once('data', (chunk) => resolve(chunk.toString())); });
  held[0]!.write(keep);
  expect(await answered).toMatch(/^HTTP\/1\.1 200 /);
  for (const socket of held) socket.destroy();
});

test('Forwarded is sent when switched on, with what the client claimed taken out', async () => {
  const origin = new Origin();
  const port = await origin.listen();
  const relay = await startRelay([['a.test', '/', [port]]], {}, { isForwardedOn: true });
  const off = await startRelay([['a.test', '/', [port]]]);
  closers.push(() => relay.close(), () => off.close(), () => origin.close());
  const bytes = Buffer.from('GET / HTTP/1.1\r\nHost: a.test:80\r\nForwarded: for=6.6.6.6\r\nConnection: close\r\n\r\n');
  await talk(relay.port, bytes);
  await talk(off.port, bytes);
  const forwarded = origin.seen.map((request) => request.lines.filter((line) => /^forwarded:/i.test(line)));
  expect(forwarded).toEqual([['Forwarded: for=127.0.0.1;proto=http;host="a.test:80"'], []]);
});
