// UDP sessions and ClientIP affinity of the userspace engine, with real threads and sockets.

import { createSocket, type Socket } from 'node:dgram';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { endpoint } from '../../lib/builders.ts';
import { waitFor } from '../../lib/wait-for.ts';
import { ask, freshVIP, plan, startEcho, startEngine, startUdpEcho, type Echo, type Engine } from './harness.ts';

let engine: Engine;
const open: { close(): unknown }[] = [];
beforeAll(async () => { engine = await startEngine(); });
afterEach(() => { for (const each of open.splice(0)) each.close(); });
afterAll(() => engine.stop());

async function udpEcho(name: string): Promise<Awaited<ReturnType<typeof startUdpEcho>>> {
  const made = await startUdpEcho(name);
  open.push(made.socket);
  return made;
}
async function echo(name: string): Promise<Echo> {
  const made = await startEcho(name);
  open.push(made);
  return made;
}
function client(): Socket {
  const socket = createSocket('udp4');
  open.push(socket);
  return socket;
}
/** Sends until an answer comes (datagrams may be lost while an endpoint changes). */
function askUdp(socket: Socket, vip: string, text: string): Promise<string> {
  return new Promise((resolve) => {
    const timer = setInterval(() => socket.send(text, 8000, vip), 50);
    socket.once('message', (bytes) => { clearInterval(timer); resolve(bytes.toString()); });
    socket.send(text, 8000, vip);
  });
}

test('a flow stays on one endpoint; several flows spread; answers come from the Service address', async () => {
  const [a, b, vip] = [await udpEcho('a'), await udpEcho('b'), freshVIP()];
  await engine.apply(plan(vip, [a.address, b.address], { protocol: 'UDP' }));
  const first = client();
  const answers = [await askUdp(first, vip, '1'), await askUdp(first, vip, '2'), await askUdp(first, vip, '3')];
  expect(new Set(answers.map((each) => each[0])).size).toBe(1);
  const names = await Promise.all(Array.from({ length: 20 }, async () => (await askUdp(client(), vip, 'x'))[0]));
  expect(new Set(names).size).toBe(2);
  const connected = client();
  await new Promise<void>((resolve) => { connected.connect(8000, vip, resolve); });
  connected.send('only answers of the peer arrive');
  await new Promise((resolve) => { connected.once('message', resolve); });
});

test('when its endpoint stops serving, the next datagram of a flow goes to another; without any it gets none', async () => {
  const [a, b, vip] = [await udpEcho('a'), await udpEcho('b'), freshVIP()];
  await engine.apply(plan(vip, [a.address], { protocol: 'UDP' }));
  const flow = client();
  expect(await askUdp(flow, vip, 'x')).toBe('a x');
  const moved = endpoint('127.0.0.1', b.address.port);
  // Both echoes share 127.0.0.1, so the address stays in `serving`: name another to mean "a is gone".
  await engine.apply(plan(vip, [moved], { protocol: 'UDP', serving: [] }));
  expect(await askUdp(flow, vip, 'y')).toBe('b y');
});

test('an endpoint that refuses is left at the next datagram', async () => {
  const [a, vip] = [await udpEcho('a'), freshVIP()];
  const dead = await startUdpEcho('dead');
  const { port } = dead.address;
  dead.socket.close();
  await engine.apply(plan(vip, [endpoint('127.0.0.1', port), a.address], { protocol: 'UDP' }));
  expect(await askUdp(client(), vip, 'x')).toBe('a x');
});

test('ClientIP affinity: one client one endpoint over all threads and addresses of the port; others elsewhere', async () => {
  const [a, b, c] = [await echo('a'), await echo('b'), await echo('c')];
  const [vip, external] = [freshVIP(), freshVIP()];
  await engine.apply(plan(vip, [a.address, b.address, c.address], { affinityTimeoutSeconds: 60, externalIPs: [external] }));
  const of = async (from: string): Promise<Set<string>> => new Set([...await Promise.all(Array.from({ length: 12 }, () => ask(vip, 8000, from))), await ask(external, 8000, from)]);
  const seen = new Set<string>();
  for (let index = 1; index <= 12; index++) {
    const names = await of(`127.0.1.${index}`);
    expect(names.size).toBe(1);
    seen.add([...names][0] as string);
  }
  expect(seen.size).toBeGreaterThan(1);
});

test('affinity: adding endpoints moves nobody, losing the endpoint moves to another and stays there', async () => {
  const [a, b, c] = [await echo('a'), await echo('b'), await echo('c')];
  const vip = freshVIP();
  const port = { affinityTimeoutSeconds: 60 };
  await engine.apply(plan(vip, [a.address], port));
  expect(await ask(vip)).toBe('a');
  await engine.apply(plan(vip, [a.address, b.address, c.address], port));
  for (let index = 0; index < 10; index++) expect(await ask(vip)).toBe('a');
  await engine.apply(plan(vip, [b.address, c.address], port));
  const next = await ask(vip);
  expect(['b', 'c']).toContain(next);
  await engine.apply(plan(vip, [a.address, b.address, c.address], port));
  for (let index = 0; index < 10; index++) expect(await ask(vip)).toBe(next);
});

test('affinity ends after its time-out and survives the death of a thread', async () => {
  const [a, b] = [await echo('a'), await echo('b')];
  const vip = freshVIP();
  await engine.apply(plan(vip, [a.address], { affinityTimeoutSeconds: 60 }));
  await ask(vip, 8000, '127.0.2.1');
  await engine.apply(plan(vip, [a.address, b.address], { affinityTimeoutSeconds: 60 }));
  await engine.pool.threads()[0]?.terminate();
  await waitFor(() => engine.pool.readyCount === 2);
  for (let index = 0; index < 10; index++) expect(await ask(vip, 8000, '127.0.2.1')).toBe('a');
  const short = freshVIP();
  // The second set has only b: once the entry is over, the client goes where the hash says, which may be either; so
  // what is proven is that the table does not hold it.
  await engine.apply(plan(short, [a.address], { affinityTimeoutSeconds: 1, name: 'short' }));
  await ask(short, 8000, '127.0.2.2');
  const held = engine.backend.affinityCount();
  await waitFor(() => engine.backend.affinityCount() < held, { timeoutMs: 3_000 });
});
