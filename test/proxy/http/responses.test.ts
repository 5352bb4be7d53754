// Hostile and unusual backend answers: responses.cases.json lists what the client may get. After each case a request on
// another connection gets its own answer, never left-over bytes of this one.

import { readFileSync } from 'node:fs';
import net from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { expand, Origin, startRelay, talk, type RawPart, type RawResult, type Relay } from './raw.ts';

interface Outcome { kind: 'error' | 'forward' | 'abort'; status?: number | number[]; body?: string; absent?: string[]; present?: Record<string, string>; has?: string[]; interim?: number[]; containing?: string }
interface Case { id: string; cls: string; title: string; raw: string | RawPart[]; close_after: boolean; segments?: number; late?: { ms: number; raw: string }; outcomes: Outcome[] }
const { cases } = JSON.parse(readFileSync(new URL('./responses.cases.json', import.meta.url), 'utf8')) as { cases: Case[] };

let current: Case | undefined;
let lateSent: Promise<void> = Promise.resolve();
const sockets = new Set<net.Socket>();
const hostile = net.createServer((socket) => {
  sockets.add(socket);
  socket.on('error', () => {});
  socket.on('close', () => sockets.delete(socket));
  let text = '';
  socket.on('data', (bytes) => {
    text += bytes.toString('latin1');
    const end = text.indexOf('\r\n\r\n');
    if (end < 0) return;
    const isCanary = text.startsWith('GET /canary');
    text = text.slice(end + 4);
    if (isCanary || current === undefined) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\ncanary');
    else void answer(socket, current);
  });
});

async function answer(socket: net.Socket, item: Case): Promise<void> {
  const bytes = expand(item.raw);
  const step = item.segments ?? bytes.length;
  for (let start = 0; start < bytes.length; start += step) {
    socket.write(bytes.subarray(start, start + step));
    if (item.segments !== undefined) await new Promise((resolve) => { setImmediate(resolve); });
  }
  if (item.close_after) socket.end();
  const { late } = item;
  if (late !== undefined) lateSent = new Promise((resolve) => {
    // The engine must drop the idle connection because of these bytes.
    socket.once('close', () => resolve());
    setTimeout(() => { socket.write(late.raw); }, late.ms);
  });
}

let relay: Relay;
const origin = new Origin();
beforeAll(async () => {
  await new Promise<void>((resolve) => { hostile.listen(0, '127.0.0.1', resolve); });
  relay = await startRelay([['a.test', '/', [(hostile.address() as net.AddressInfo).port]], ['b.test', '/', [await origin.listen()]]], { responseMs: 700, streamIdleMs: 700 });
});
afterAll(async () => { await relay.close(); origin.close(); hostile.close(); for (const socket of sockets) socket.destroy(); });

function fits(outcome: Outcome, result: RawResult): boolean {
  const [first] = result.answers;
  if (outcome.kind === 'abort') return result.isClosed && (first === undefined || !first.isWhole);
  if (first === undefined || !first.isWhole || result.answers.length !== 1) return false;
  if (outcome.kind === 'error') return (outcome.status as number[]).includes(first.status);
  const value = (name: string): string | undefined => first.lines.find((line) => line.toLowerCase().startsWith(`${name}:`))?.slice(name.length + 1).trim();
  return first.status === outcome.status && first.body === outcome.body
    && (outcome.absent ?? []).every((name) => value(name) === undefined)
    && (outcome.has ?? []).every((name) => value(name) !== undefined)
    && Object.entries(outcome.present ?? {}).every(([name, want]) => value(name) === want)
    && (outcome.interim === undefined || JSON.stringify(outcome.interim) === JSON.stringify(result.interim))
    && (outcome.containing === undefined || first.lines.join('\n').includes(outcome.containing));
}

describe.each(Object.entries(Object.groupBy(cases, (item) => item.cls)))('%s', (_cls, group) => {
  test.each(group!.map((item) => [`${item.id} ${item.title}`, item] as const))('%s', async (_name, item) => {
    current = item;
    const result = await talk(relay.port, Buffer.from('GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n'), { isDone: ({ answers }) => answers[0]?.isWhole === true });
    const context = JSON.stringify({ answers: result.answers, interim: result.interim, isClosed: result.isClosed });
    expect(item.outcomes.some((outcome) => fits(outcome, result)), context).toBe(true);
    expect(result.answers.flatMap((one) => one.faults), context).toEqual([]);
    expect(result.text).not.toContain('POISON');
    await lateSent;
    current = undefined;
    for (let index = 0; index < 2; index++) {
      const after = await talk(relay.port, Buffer.from('GET /canary HTTP/1.1\r\nHost: a.test\r\n\r\n'), { isDone: ({ answers }) => answers[0]?.isWhole === true });
      expect(after.answers[0]?.body).toBe('canary');
    }
  });
});

test('a chunked answer reaches an HTTP/1.0 client plain and closed', async () => {
  current = { id: '', cls: '', title: '', raw: 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n', close_after: false, outcomes: [] };
  const result = await talk(relay.port, Buffer.from('GET /x HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n'));
  expect(result.isClosed).toBe(true);
  expect(result.text).not.toMatch(/transfer-encoding/i);
  expect(result.text.endsWith('\r\n\r\nok')).toBe(true);
});

test('HEAD keeps the Content-Length of the absent body', async () => {
  current = { id: '', cls: '', title: '', raw: 'HTTP/1.1 200 OK\r\nContent-Length: 55\r\n\r\n', close_after: false, outcomes: [] };
  const result = await talk(relay.port, Buffer.from('HEAD /x HTTP/1.1\r\nHost: a.test\r\n\r\n'), { methods: ['HEAD'], isDone: ({ answers }) => answers[0]?.isWhole === true });
  expect(result.text).toContain('Content-Length: 55\r\n');
  expect(result.answers[0]?.status).toBe(200);
});

test('trailers are passed on to a client that takes them', async () => {
  current = { id: '', cls: '', title: '', raw: 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 9\r\nSet-Cookie: no=1\r\n\r\n', close_after: false, outcomes: [] };
  const result = await talk(relay.port, Buffer.from('GET /x HTTP/1.1\r\nHost: a.test\r\nTE: trailers\r\nConnection: TE\r\n\r\n'), { isDone: ({ answers }) => answers[0]?.isWhole === true });
  expect(result.text.endsWith('0\r\nX-Sum: 9\r\n\r\n')).toBe(true);
});
