// Attacks on an engine over sockets: HTTP/2 control-frame floods with raw frames (P-15), and clients that are slow or say
// nothing (R16, R17). Each must end by the engine's own limits while another client is served all the time.
// NETLOOM_SOAK=1 uses 5,000 slow clients instead of 400.

import http2 from 'node:http2';
import net from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Origin, startRelay, talk, type Relay } from './raw.ts';

const slowCount = process.env['NETLOOM_SOAK'] === undefined ? 400 : 5_000;
const origin = new Origin();
let relay: Relay;
let originPort = 0;
const request = Buffer.from('GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n');
const tick = (): Promise<void> => new Promise((resolve) => { setImmediate(resolve); });

beforeAll(async () => {
  originPort = await origin.listen();
  relay = await startRelay([['a.test', '/', [originPort]]], {}, { load: { delayMsMax: 0 } });
});
afterAll(async () => { await relay.close(); origin.close(); });

const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
function frame(type: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}
/** :method GET, :scheme http, :path /, :authority a.test; static table and one literal. */
const headers = Buffer.concat([Buffer.from([0x82, 0x86, 0x84, 0x41, 6]), Buffer.from('a.test')]);

/** Sends a burst over and over until the server closes; counts bytes it took. Reads nothing when `isDeaf`. */
async function flood(port: number, burst: Buffer, burstsMax: number, isDeaf = false, next?: (index: number) => Buffer): Promise<{ isClosed: boolean; sent: number }> {
  const socket = net.connect({ port, host: '127.0.0.1' });
  const state = { isClosed: false, sent: 0 };
  socket.on('error', () => {});
  socket.on('close', () => { state.isClosed = true; });
  if (isDeaf) socket.pause(); else socket.resume();
  socket.write(Buffer.concat([preface, frame(4, 0, 0)]));
  while (relay.engine.connectionCount === 0) await tick();
  for (let index = 0; index < burstsMax && !state.isClosed && !socket.destroyed; index++) {
    const bytes = next?.(index) ?? burst;
    state.sent += bytes.length;
    socket.write(bytes);
    await tick();
    if (isDeaf && relay.engine.connectionCount === 0) state.isClosed = true;
  }
  for (let round = 0; round < 2_000 && !state.isClosed && !isDeaf; round++) await tick();
  socket.destroy();
  return state;
}

/** Another client's requests while `attack` runs: all must be answered 200. */
async function during<T>(attack: Promise<T>): Promise<T> {
  let isOver = false;
  void attack.finally(() => { isOver = true; });
  let count = 0;
  do {
    const result = await talk(relay.port, request, { quietMs: 5_000 });
    expect(result.answers[0]?.status).toBe(200);
    count += 1;
  } while (!isOver);
  expect(count).toBeGreaterThan(0);
  return attack;
}

test('a flood of PING, with and without reading the answers, does not stop others and queues a bounded amount', async () => {
  const burst = Buffer.concat(Array.from({ length: 500 }, () => frame(6, 0, 0, Buffer.alloc(8))));
  const before = process.memoryUsage.rss();
  await during(flood(relay.port, burst, 200));
  // Answers that nobody reads pile up: the session must end, not grow.
  expect((await flood(relay.port, burst, 2_000, true)).isClosed).toBe(true);
  expect(process.memoryUsage.rss() - before).toBeLessThan(200 * 1_048_576);
});

test('a flood of SETTINGS does not stop others', async () => {
  const burst = Buffer.concat(Array.from({ length: 500 }, () => frame(4, 0, 0, Buffer.from([0, 3, 0, 0, 0, 100]))));
  await during(flood(relay.port, burst, 200));
  expect((await flood(relay.port, burst, 2_000, true)).isClosed).toBe(true);
});

test('SETTINGS with more entries than allowed, and header blocks that never end (CONTINUATION), close the connection', async () => {
  const many = frame(4, 0, 0, Buffer.concat(Array.from({ length: 200 }, () => Buffer.from([0, 3, 0, 0, 0, 100]))));
  expect((await during(flood(relay.port, many, 5))).isClosed).toBe(true);
  const field = Buffer.concat([Buffer.from([0, 4]), Buffer.from('x-aa'), Buffer.from([0x7f, 0x81, 0x1e]), Buffer.alloc(4_096, 97)]);
  const result = await during(flood(relay.port, Buffer.alloc(0), 20_000, false, (index) => (index === 0 ? frame(1, 0, 1, headers) : frame(9, 0, 1, field))));
  expect(result.isClosed).toBe(true);
  expect(result.sent).toBeLessThan(4 * 1_048_576);
});

test('empty CONTINUATION frames without end close the connection', async () => {
  const burst = Buffer.concat(Array.from({ length: 100 }, () => frame(9, 0, 1)));
  const result = await during(flood(relay.port, burst, 2_000, false, (index) => (index === 0 ? frame(1, 0, 1, headers) : burst)));
  expect(result.isClosed).toBe(true);
});

test('rapid reset with raw frames closes the connection within its budget', async () => {
  const result = await during(flood(relay.port, Buffer.alloc(0), 1_000, false, (index) => Buffer.concat(Array.from({ length: 100 }, (_, step) => {
    const stream = (index * 100 + step) * 2 + 1;
    return Buffer.concat([frame(1, 5, stream, headers), frame(3, 0, stream, Buffer.from([0, 0, 0, 8]))]);
  }))));
  expect(result.isClosed).toBe(true);
});

test('a good HTTP/2 client is served after all of that', async () => {
  const session = http2.connect(`http://127.0.0.1:${relay.port}`);
  const status = await new Promise((resolve, reject) => {
    const stream = session.request({ ':path': '/', ':authority': 'a.test' });
    stream.on('response', (fields) => resolve(fields[':status']));
    stream.on('error', reject);
    stream.resume();
  });
  session.destroy();
  expect(status).toBe(200);
});

test('slowloris, half-open and never-reading clients are closed by their timeouts, hold little, and do not stop others', async () => {
  const big = net.createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n');
      const fill = (): void => { while (socket.writable && socket.write(Buffer.alloc(65_536))) { /* until full */ } };
      socket.on('drain', fill);
      fill();
    });
  });
  await new Promise<void>((resolve) => { big.listen(0, '127.0.0.1', resolve); });
  const slow = await startRelay([['a.test', '/', [originPort]], ['big.test', '/', [(big.address() as net.AddressInfo).port]]], { headMs: 4_000, bodyIdleMs: 4_000, keepAliveMs: 4_000, writeStallMs: 4_000 }, { load: { delayMsMax: 0 } });
  const starts = ['GET / HTTP/1.1\r\nHost: a.te', '', 'POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100\r\n\r\nabc', 'POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab', 'GET / HTTP/1.1\r\nHost: a.test\r\n\r\n'];
  const readers = Math.min(50, slowCount / 8);
  const before = process.memoryUsage.rss();
  let closed = 0;
  const sockets: net.Socket[] = [];
  for (let index = 0; index < slowCount; index++) {
    const socket = net.connect({ port: slow.port, host: '127.0.0.1' });
    socket.on('error', () => {});
    socket.on('close', () => { closed += 1; });
    if (index < readers) socket.pause(); else socket.resume();
    socket.write(index < readers ? 'GET / HTTP/1.1\r\nHost: big.test\r\n\r\n' : starts[index % starts.length]!);
    sockets.push(socket);
    // The listener's queue is short: never more than a batch waits in it.
    if (index % 50 === 49) await Promise.all(sockets.slice(-50).map((item) => (item.connecting ? new Promise((resolve) => { item.once('connect', resolve); }) : undefined)));
  }
  let served = 0;
  let most = 0;
  const peak = (): void => { most = Math.max(most, process.memoryUsage.rss() - before); };
  while (slow.engine.connectionCount > 0 && served < 1_000_000) {
    const result = await talk(slow.port, request, { quietMs: 20_000 });
    expect(result.answers[0]?.status).toBe(200);
    served += 1;
    peak();
    // Others come at a pace of their own: as fast as they can, their own garbage would be what is measured.
    await new Promise((resolve) => { setTimeout(resolve, 5); });
    // The connection of this very request goes a little later.
    for (let round = 0; round < 20 && slow.engine.connectionCount <= 1; round++) await tick();
  }
  expect(slow.engine.connectionCount).toBe(0);
  expect(served).toBeGreaterThan(10);
  // 64 KiB per connection and direction, both ends being in this process.
  expect(most / slowCount).toBeLessThan(4 * 65_536 + (64 * 1_048_576) / slowCount);
  for (const socket of sockets) socket.resume();
  while (closed < slowCount) await tick();
  await slow.close();
  big.close();
}, 60_000);
