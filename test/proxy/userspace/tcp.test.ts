// The userspace TCP path with real threads and sockets on loopback.

import { connect, type Socket } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { endpoint } from '../../lib/builders.ts';
import { waitFor } from '../../lib/wait-for.ts';
import { ask, freshVIP, plan, startEcho, startEngine, type Echo, type Engine } from './harness.ts';

let engine: Engine;
const echoes: Echo[] = [];
async function echo(name: string, onSocket?: (socket: Socket) => void): Promise<Echo> {
  const made = await startEcho(name, onSocket);
  echoes.push(made);
  return made;
}
beforeAll(async () => { engine = await startEngine(); });
afterEach(() => { for (const each of echoes.splice(0)) each.close(); });
afterAll(() => engine.stop());

const names = async (vip: string, count: number, port = 8000): Promise<Set<string>> => new Set(await Promise.all(Array.from({ length: count }, () => ask(vip, port))));

test('connections reach every endpoint, and counters see them', async () => {
  const vip = freshVIP();
  const [a, b] = [await echo('a'), await echo('b')];
  const made = plan(vip, [a.address, b.address]);
  expect(await engine.apply(made)).toEqual([]);
  expect([...await names(vip, 40)].sort()).toEqual(['a', 'b']);
  expect(engine.backend.counter(made.key, 'accepted')).toBe(40);
  await waitFor(() => engine.backend.counter(made.key, 'active') === 0);
});

test('a client that ends its side first still gets the answer (half-close both ways)', async () => {
  const vip = freshVIP();
  const server = await echo('late', (socket) => { let text = ''; socket.on('data', (data) => { text += data.toString(); }); socket.on('end', () => socket.end(`got ${text}`)); });
  await engine.apply(plan(vip, [server.address]));
  const answer = await new Promise<string>((resolve, reject) => {
    const socket = connect({ host: vip, port: 8000, allowHalfOpen: true }, () => socket.end('question'));
    let text = '';
    socket.on('data', (data) => { text += data.toString(); });
    socket.on('end', () => resolve(text));
    socket.on('error', reject);
  });
  expect(answer).toBe('got question');
});

test('bytes arrive whole and in order in both directions while the reader is slow, within bounded memory', async () => {
  const vip = freshVIP();
  const total = 24 * 1024 * 1024;
  const server = await echo('bulk', (socket) => { socket.pipe(socket); });
  await engine.apply(plan(vip, [server.address]));
  const socket = connect({ host: vip, port: 8000 });
  let sent = 0;
  let received = 0;
  let isWrong = false;
  const pump = (): void => {
    while (sent < total) {
      const block = Buffer.alloc(65_536);
      for (let index = 0; index < block.length; index += 4) block.writeUInt32LE((sent + index) >>> 0, index);
      sent += block.length;
      if (!socket.write(block)) return;
    }
  };
  socket.on('drain', pump);
  await new Promise<void>((resolve, reject) => {
    let rest = Buffer.alloc(0);
    socket.on('data', (data: Buffer) => {
      const bytes = Buffer.concat([rest, data]);
      const whole = bytes.length - (bytes.length % 4);
      for (let index = 0; index < whole; index += 4096) if (bytes.readUInt32LE(index - (index % 4)) !== ((received + index) >>> 0)) isWrong = true;
      received += whole;
      rest = bytes.subarray(whole);
      if (received >= total) { socket.destroy(); resolve(); }
      // A reader that stops now and then.
      if (received % 5 === 0) { socket.pause(); setImmediate(() => socket.resume()); }
    });
    socket.on('error', reject);
    pump();
  });
  expect(received).toBe(total);
  expect(isWrong).toBe(false);
});

test('no endpoint: the listener is closed and connections are refused; with an endpoint it is back', async () => {
  const vip = freshVIP();
  const a = await echo('a');
  await engine.apply(plan(vip, [a.address]));
  expect(await ask(vip)).toBe('a');
  await engine.apply(plan(vip, []));
  await expect(ask(vip)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  await engine.apply(plan(vip, [a.address]));
  expect(await ask(vip)).toBe('a');
  await engine.remove(plan(vip, []).key);
  await expect(ask(vip)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
});

test('a dead endpoint costs no connection: another is tried and it is avoided afterwards', async () => {
  const vip = freshVIP();
  const [a, dead] = [await echo('a'), await echo('dead')];
  dead.close();
  const made = plan(vip, [dead.address, a.address]);
  await engine.apply(made);
  expect([...await names(vip, 60)]).toEqual(['a']);
  await names(vip, 20);
  // One failed connect per thread at most, plus those that were on the way at the same time.
  expect(engine.backend.counter(made.key, 'connectFailed')).toBeLessThan(60);
  const before = engine.backend.counter(made.key, 'connectFailed');
  await names(vip, 20);
  expect(engine.backend.counter(made.key, 'connectFailed')).toBe(before);
});

test('all endpoints dead: the client is reset, not left hanging', async () => {
  const vip = freshVIP();
  const dead = await echo('dead');
  dead.close();
  await engine.apply(plan(vip, [dead.address]));
  await expect(ask(vip)).rejects.toMatchObject({ code: 'ECONNRESET' });
});

test('established connections stay on their endpoint when it leaves the candidates', async () => {
  const vip = freshVIP();
  const [a, b] = [await echo('a'), await echo('b')];
  await engine.apply(plan(vip, [a.address]));
  const socket = connect({ host: vip, port: 8000 });
  let text = '';
  socket.on('data', (data) => { text += data.toString(); });
  await waitFor(() => text === 'a\n');
  await engine.apply(plan(vip, [b.address]));
  expect(await ask(vip)).toBe('b');
  socket.write('still here');
  await waitFor(() => text.endsWith('still here'));
  socket.destroy();
});

test('a client that resets resets its endpoint, and the other way round', async () => {
  const vip = freshVIP();
  const codes: string[] = [];
  const server = await echo('a', (socket) => { socket.write('a\n'); socket.on('error', (error: NodeJS.ErrnoException) => codes.push(error.code ?? '')); socket.resume(); });
  await engine.apply(plan(vip, [server.address]));
  const socket = connect({ host: vip, port: 8000 });
  await new Promise((resolve) => { socket.once('data', resolve); });
  socket.resetAndDestroy();
  await waitFor(() => codes.includes('ECONNRESET'));
  const second = connect({ host: vip, port: 8000 });
  second.on('error', (error: NodeJS.ErrnoException) => codes.push(`client ${error.code}`));
  await new Promise((resolve) => { second.once('data', resolve); });
  for (const each of server.sockets) each.resetAndDestroy();
  await waitFor(() => codes.includes('client ECONNRESET'));
});

test('internal policy Local uses the local set; external policy Local the local set for strangers and the cluster set for this host', async () => {
  const [a, b] = [await echo('local'), await echo('remote')];
  const local = endpoint('127.0.0.1', a.address.port);
  const remote = endpoint('127.0.0.1', b.address.port);
  const vip = freshVIP();
  await engine.apply(plan(vip, [], { cluster: [local, remote], local: [local], isInternalLocal: true }));
  expect([...await names(vip, 20)]).toEqual(['local']);
  const external = freshVIP();
  await engine.apply(plan(freshVIP(), [], { name: 'ext', externalIPs: [external], cluster: [remote], local: [], isExternalLocal: true }));
  expect(await ask(external)).toBe('remote');
});

test('load balancer source ranges let only listed sources in; others are reset', async () => {
  const a = await echo('a');
  const vip = freshVIP();
  const made = plan(freshVIP(), [a.address], { name: 'ranges', loadBalancerIPs: [vip], sourceRanges: ['127.0.0.7/32'] });
  await engine.apply(made);
  expect(await ask(vip, 8000, '127.0.0.7')).toBe('a');
  await expect(ask(vip, 8000, '127.0.0.8')).rejects.toMatchObject({ code: 'ECONNRESET' });
  expect(engine.backend.counter(made.key, 'refused')).toBe(1);
});

test('an address held by another process is reported for its Service only, and served once it is free', async () => {
  const [a, vip] = [await echo('a'), freshVIP()];
  const holder = await startEcho('holder', undefined, vip, 8000);
  const other = freshVIP();
  const failures = await engine.apply(plan(vip, [a.address]), plan(other, [a.address]));
  expect(failures).toEqual([`cannot listen on ${vip}:8000: another process holds it`]);
  expect(await ask(other)).toBe('a');
  holder.close();
  expect(await engine.apply(plan(vip, [a.address]))).toEqual([]);
  expect(await ask(vip)).toBe('a');
});

test('two Services that want one address: the first has it, the second is reported and gets it afterwards', async () => {
  const [a, b, shared] = [await echo('a'), await echo('b'), freshVIP()];
  const first = plan(freshVIP(), [a.address], { name: 'first', externalIPs: [shared] });
  const second = plan(freshVIP(), [b.address], { name: 'second', externalIPs: [shared] });
  expect(await engine.apply(first, second)).toEqual([`${shared}:8000 is already served for default/first`]);
  expect(await ask(shared)).toBe('a');
  await engine.remove('default/first');
  expect(await ask(shared)).toBe('b');
});

test('a connection over its maximal age is ended', async () => {
  const [a, vip] = [await echo('a'), freshVIP()];
  await engine.apply(plan(vip, [a.address], {}, { 'netloom.dev/max-connection-age-seconds': '0.2' }));
  const socket = connect({ host: vip, port: 8000 });
  socket.resume();
  await new Promise((resolve) => { socket.on('close', resolve); });
});

describe('PROXY protocol', () => {
  test.each(['v1', 'v2'])('out, %s: the endpoint learns the client', async (version) => {
    const vip = freshVIP();
    let header = Buffer.alloc(0);
    const a = await echo('a', (socket) => { socket.on('data', (data: Buffer) => { header = Buffer.concat([header, data]); if (header.includes('hi')) socket.end('a\n'); }); });
    await engine.apply(plan(vip, [a.address], {}, { 'netloom.dev/proxy-protocol': version }));
    const socket = connect({ host: vip, port: 8000, localAddress: '127.0.0.9' }, () => socket.write('hi'));
    await new Promise((resolve) => { socket.on('data', resolve); });
    if (version === 'v1') expect(header.toString()).toMatch(new RegExp(`^PROXY TCP4 127.0.0.9 ${vip} \\d+ 8000\\r\\nhi$`));
    else expect(header.subarray(16, 24).toString('hex')).toBe(Buffer.from([127, 0, 0, 9, ...vip.split('.').map(Number)]).toString('hex'));
    socket.destroy();
  });
  test('in: a header of a listed peer is taken off, however it is cut; a broken one is reset; others send none', async () => {
    const vip = freshVIP();
    const a = await echo('a', (socket) => { socket.on('data', (data) => socket.write(`<${data.toString()}>\n`)); });
    await engine.apply(plan(vip, [a.address], {}, { 'netloom.dev/accept-proxy-protocol-from': '127.0.0.1/32' }));
    const send = (from: string, parts: string[]): Promise<string> => new Promise((resolve, reject) => {
      const socket = connect({ host: vip, port: 8000, localAddress: from, noDelay: true }, () => {
        const next = (): void => { const part = parts.shift(); if (part !== undefined) { socket.write(part); setImmediate(next); } };
        next();
      });
      let text = '';
      socket.on('data', (data) => { text += data.toString(); if (text.endsWith('>\n')) { socket.destroy(); resolve(text); } });
      socket.on('error', reject);
    });
    expect(await send('127.0.0.1', ['PRO', 'XY TCP4 192.0.2.1 192.0.2.2 1 2\r', '\nhello'])).toBe('<hello>\n');
    expect(await send('127.0.0.5', ['plain'])).toBe('<plain>\n');
    await expect(send('127.0.0.1', ['GET / HTTP/1.1\r\n'])).rejects.toMatchObject({ code: 'ECONNRESET' });
  });
});

test('a thread that dies comes back with its listeners; the other goes on serving meanwhile', async () => {
  const [a, vip] = [await echo('a'), freshVIP()];
  await engine.apply(plan(vip, [a.address]));
  const [victim] = engine.pool.threads();
  await victim?.terminate();
  expect(await ask(vip)).toBe('a');
  await waitFor(() => engine.pool.readyCount === 2);
  expect([...await names(vip, 20)]).toEqual(['a']);
});

test('drain: an open connection may finish, new ones are refused', async () => {
  const own = await startEngine({ threads: 1 });
  const [a, vip] = [await echo('a'), freshVIP()];
  await own.apply(plan(vip, [a.address]));
  const socket = connect({ host: vip, port: 8000 });
  let text = '';
  socket.on('data', (data) => { text += data.toString(); });
  await waitFor(() => text === 'a\n');
  const stopped = own.stop(3_000);
  await waitFor(() => ask(vip).then(() => false, (error: NodeJS.ErrnoException) => error.code === 'ECONNREFUSED'));
  socket.write('last words');
  await waitFor(() => text.endsWith('last words'));
  socket.end();
  await stopped;
});
