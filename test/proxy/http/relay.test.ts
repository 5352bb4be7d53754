// Behaviour of one exchange over time: upgrades, Expect, early answers, aborts, backpressure, timeouts, retries, drain.

import http from 'node:http';
import net from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { startRelay, talk, type Relay } from './raw.ts';

const open: { close(): unknown }[] = [];
afterEach(async () => { for (const item of open.splice(0)) await item.close(); });

async function backend(handler: (socket: net.Socket, head: string) => void): Promise<{ port: number; server: net.Server; sockets: Set<net.Socket> }> {
  const sockets = new Set<net.Socket>();
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
    let text = '';
    socket.on('data', (bytes) => {
      text += bytes.toString('latin1');
      const end = text.indexOf('\r\n\r\n');
      if (end < 0) return;
      const head = text.slice(0, end + 4);
      text = text.slice(end + 4);
      handler(socket, head);
    });
  });
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  open.push({ close: () => { for (const socket of sockets) socket.destroy(); server.close(); } });
  return { port: (server.address() as net.AddressInfo).port, server, sockets };
}

async function relayTo(ports: readonly number[], timeouts = {}, more = {}): Promise<Relay> {
  const relay = await startRelay([['a.test', '/', ports]], timeouts, more);
  open.push(relay);
  return relay;
}

const ok = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';
const get = Buffer.from('GET / HTTP/1.1\r\nHost: a.test\r\n\r\n');
const first = { isDone: ({ answers }: { answers: { isWhole: boolean }[] }) => answers[0]?.isWhole === true };
const until = async (isTrue: () => boolean, timeoutMs = 3_000): Promise<void> => {
  const endMs = performance.now() + timeoutMs;
  while (!isTrue()) { if (performance.now() > endMs) throw new Error('did not become true'); await new Promise((resolve) => { setImmediate(resolve); }); }
};
const freePort = async (): Promise<number> => {
  const server = net.createServer();
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => { server.close(resolve); });
  return port;
};

test('WebSocket: 101, early bytes of both sides, echo, half-close', async () => {
  const { port } = await backend((socket, head) => {
    expect(head).toContain('Connection: Upgrade\r\nUpgrade: websocket\r\n');
    socket.removeAllListeners('data');
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\nearly-from-server');
    socket.on('data', (bytes) => socket.write(bytes));
    socket.on('end', () => socket.end('bye'));
  });
  const relay = await relayTo([port]);
  const socket = net.connect({ port: relay.port, host: '127.0.0.1', allowHalfOpen: true });
  let text = '';
  socket.on('data', (bytes) => { text += bytes.toString('latin1'); });
  socket.write('GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: abc\r\n\r\nearly-from-client');
  await until(() => text.includes('early-from-server') && text.includes('early-from-client'));
  expect(text).toMatch(/^HTTP\/1\.1 101 [^]*Sec-WebSocket-Accept: x/);
  socket.write('ping');
  await until(() => text.endsWith('ping'));
  socket.end();
  await until(() => text.endsWith('bye'));
});

test('a refused upgrade is a normal answer and the connection goes on', async () => {
  const { port } = await backend((socket) => socket.write('HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n'));
  const relay = await relayTo([port]);
  const result = await talk(relay.port, Buffer.from(`GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n${get.toString()}`), { isDone: ({ answers }) => answers.length === 2 && answers[1]!.isWhole });
  expect(result.answers.map((answer) => [answer.status, answer.body])).toEqual([[403, 'no'], [403, 'no']]);
});

test('Upgrade to anything but websocket is not passed on', async () => {
  const { port } = await backend((socket, head) => { expect(head).not.toMatch(/upgrade/i); socket.write(ok); });
  const relay = await relayTo([port]);
  expect((await talk(relay.port, Buffer.from('GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n'), first)).answers[0]?.status).toBe(200);
});

test('Expect: 100-continue: the backend\'s 100 is relayed, then the body goes', async () => {
  let body = '';
  const { port } = await backend((socket, head) => {
    expect(head).toContain('Expect: 100-continue\r\n');
    socket.removeAllListeners('data');
    socket.write('HTTP/1.1 100 Continue\r\n\r\n');
    socket.on('data', (bytes) => { body += bytes.toString(); if (body === 'hello') socket.write(ok); });
  });
  const relay = await relayTo([port]);
  const socket = net.connect({ port: relay.port, host: '127.0.0.1' });
  let text = '';
  socket.on('data', (bytes) => { text += bytes.toString('latin1'); });
  socket.write('POST / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n');
  await until(() => text.startsWith('HTTP/1.1 100 Continue\r\n\r\n'));
  socket.write('hello');
  await until(() => text.endsWith('ok'));
  socket.destroy();
});

test('Expect: 100-continue with a refusal: the client gets it without sending the body', async () => {
  const { port } = await backend((socket) => socket.write('HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n'));
  const relay = await relayTo([port]);
  const result = await talk(relay.port, Buffer.from('POST / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n'), first);
  expect(result.answers[0]?.status).toBe(413);
  expect(result.text).toContain('Connection: close');
});

test('an early final answer is relayed while the upload is stopped', async () => {
  const { port } = await backend((socket) => { socket.pause(); socket.write('HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno'); });
  const relay = await relayTo([port]);
  const result = await talk(relay.port, Buffer.concat([Buffer.from('POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10000000\r\n\r\n'), Buffer.alloc(2_000_000)]), first);
  expect([result.answers[0]?.status, result.answers[0]?.body]).toEqual([401, 'no']);
});

test('a client that goes away cancels the upstream request', async () => {
  let isCancelled = false;
  const { port, sockets } = await backend((socket) => { socket.on('end', () => { isCancelled = true; }); });
  const relay = await relayTo([port]);
  const socket = net.connect({ port: relay.port, host: '127.0.0.1' });
  socket.write(get);
  await until(() => sockets.size === 1);
  socket.destroy();
  await until(() => isCancelled, 1_000);
});

test('a half-closed client still gets an answer that comes soon', async () => {
  const { port } = await backend((socket) => { setTimeout(() => socket.write(ok), 50); });
  const relay = await relayTo([port]);
  expect((await talk(relay.port, get, { isHalfClosed: true })).answers[0]?.body).toBe('ok');
});

test('a slow reader stops the backend: memory stays bounded', async () => {
  let written = 0;
  const { port } = await backend((socket) => {
    socket.write('HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n');
    const block = Buffer.alloc(65_536);
    const pump = (): void => { while (written < 104_857_600 && !socket.destroyed) { written += block.length; if (!socket.write(block)) { socket.once('drain', pump); return; } } };
    pump();
  });
  const relay = await relayTo([port], { writeStallMs: 700 });
  const socket = net.connect({ port: relay.port, host: '127.0.0.1' });
  socket.on('error', () => {});
  socket.pause();
  socket.write(get);
  let last = -1;
  await until(() => { const isStill = written > 0 && written === last; last = written; return isStill; });
  const before = written;
  // Closed by the stall timeout, and nothing more was taken from the backend meanwhile.
  const start = performance.now();
  await until(() => relay.engine.connectionCount === 0, 3_000);
  expect(performance.now() - start).toBeLessThan(2_500);
  expect(written - before).toBeLessThan(16_000_000);
  socket.destroy();
});

test('a large body passes whole in both directions', async () => {
  const server = http.createServer((request, response) => { response.setHeader('Content-Type', 'x/y'); request.pipe(response); });
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  open.push({ close: () => { server.closeAllConnections(); server.close(); } });
  const relay = await relayTo([(server.address() as net.AddressInfo).port]);
  const body = Buffer.alloc(8_000_000, 'abcdefghij');
  for (const headers of [{ 'Content-Length': body.length }, { 'Transfer-Encoding': 'chunked' }]) {
    const reply = await new Promise<Buffer>((resolve, reject) => {
      const request = http.request({ port: relay.port, host: '127.0.0.1', method: 'POST', headers: { Host: 'a.test', ...headers } }, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () => resolve(Buffer.concat(chunks)));
        response.on('error', reject);
      });
      request.on('error', reject);
      request.end(body);
    });
    expect(reply.equals(body)).toBe(true);
  }
});

test('the timeouts of the phases are told apart', async () => {
  const { port } = await backend(() => {});
  const relay = await relayTo([port], { responseMs: 120, headMs: 150, bodyIdleMs: 150, keepAliveMs: 100 });
  const timed = async (bytes: string): Promise<[number | undefined, number]> => {
    const start = performance.now();
    const result = await talk(relay.port, Buffer.from(bytes), first);
    return [result.answers[0]?.status, performance.now() - start];
  };
  const [response, responseMs] = await timed(get.toString());
  expect(response).toBe(504);
  expect(responseMs).toBeGreaterThanOrEqual(119);
  expect(responseMs).toBeLessThan(1_000);
  const [head, headMs] = await timed('GET / HTTP/1.1\r\nHost');
  expect(head).toBe(408);
  expect(headMs).toBeLessThan(1_000);
  expect((await timed('POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhe'))[0]).toBe(408);
});

test('a failed connect goes to another endpoint, also for POST with its body', async () => {
  const { port } = await backend((socket) => socket.write(ok));
  const relay = await relayTo([await freePort(), port]);
  for (let index = 0; index < 10; index++) {
    const result = await talk(relay.port, Buffer.from('POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello'), first);
    expect(result.answers[0]?.status).toBe(200);
  }
});

test('no endpoint can be reached: 502; none exists: 503', async () => {
  expect((await talk((await relayTo([await freePort()])).port, get, first)).answers[0]?.status).toBe(502);
  const result = await talk((await relayTo([])).port, get, first);
  expect(result.answers[0]?.status).toBe(503);
  expect(result.text).toContain('Retry-After: 1');
});

test('a connection lost without a byte is tried again for GET, never for POST', async () => {
  let count = 0;
  const { port } = await backend((socket) => { count += 1; if (count % 2 === 1) socket.destroy(); else socket.write(ok); });
  const relay = await relayTo([port, port]);
  const second = await backend((socket) => socket.write(ok));
  const relayTwo = await relayTo([port, second.port]);
  expect((await talk(relayTwo.port, get, first)).answers[0]?.status).toBe(200);
  count = 0;
  expect((await talk(relay.port, Buffer.from('POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n'), first)).answers[0]?.status).toBe(502);
});

test('the retry budget ends a storm of retries', async () => {
  const limited: string[] = [];
  const { port } = await backend((socket) => socket.destroy());
  const other = await backend((socket) => socket.destroy());
  const relay = await relayTo([port, other.port], {}, { observer: { done() {}, retried() {}, gauge() {}, limited: (name: string) => { limited.push(name); } } });
  for (let index = 0; index < 60; index++) await talk(relay.port, get, first);
  expect(limited.length).toBeGreaterThan(5);
});

test('drain: idle connections close, answers under way carry Connection: close, close() waits for them', async () => {
  let release: (() => void) | undefined;
  const { port } = await backend((socket) => { release = () => socket.write(ok); });
  const relay = await relayTo([port]);
  const idle = net.connect({ port: relay.port, host: '127.0.0.1' });
  await until(() => relay.engine.connectionCount === 1);
  const busy = talk(relay.port, get, first);
  await until(() => release !== undefined);
  const closed = relay.engine.close(5_000);
  await until(() => relay.engine.connectionCount === 1);
  release!();
  const result = await busy;
  expect(result.answers[0]?.status).toBe(200);
  expect(result.text).toContain('Connection: close');
  await closed;
  idle.destroy();
});

test('connections per source are limited', async () => {
  const { port } = await backend((socket) => socket.write(ok));
  const relay = await relayTo([port], {}, { connectionsPerSourceMax: 3 });
  const held = Array.from({ length: 3 }, () => net.connect({ port: relay.port, host: '127.0.0.1' }));
  await until(() => relay.engine.connectionCount === 3);
  expect((await talk(relay.port, get)).answers).toEqual([]);
  for (const socket of held) socket.destroy();
  await until(() => relay.engine.connectionCount === 0);
  expect((await talk(relay.port, get, first)).answers[0]?.status).toBe(200);
});

test('trusted peers: X-Forwarded-* are continued, others are replaced', async () => {
  const heads: string[] = [];
  const { port } = await backend((socket, head) => { heads.push(head); socket.write(ok); });
  const relay = await relayTo([port], {}, { isTrusted: (ip: string) => ip === '127.0.0.1' });
  await talk(relay.port, Buffer.from('GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\nX-Request-ID: abc\r\ntraceparent: 00-1-2-03\r\n\r\n'), first);
  expect(heads[0]).toContain('X-Forwarded-For: 203.0.113.7, 127.0.0.1\r\nX-Forwarded-Proto: https\r\n');
  expect(heads[0]).toContain('X-Request-ID: abc\r\n');
  expect(heads[0]).toContain('traceparent: 00-1-2-03\r\n');
});

test('slow heads do not hold others up', async () => {
  const { port } = await backend((socket) => socket.write(ok));
  const relay = await relayTo([port], { headMs: 400 });
  const slow = Array.from({ length: 300 }, () => {
    const socket = net.connect({ port: relay.port, host: '127.0.0.1' });
    socket.on('error', () => {});
    socket.write('GET / HTTP/1.1\r\nHost: a.te');
    return socket;
  });
  await until(() => relay.engine.connectionCount >= 300);
  const times: number[] = [];
  for (let index = 0; index < 100; index++) {
    const start = performance.now();
    expect((await talk(relay.port, get, first)).answers[0]?.status).toBe(200);
    times.push(performance.now() - start);
  }
  times.sort((a, b) => a - b);
  expect(times[95]).toBeLessThan(100);
  await until(() => relay.engine.connectionCount === 0, 4_000);
  for (const socket of slow) socket.destroy();
});
