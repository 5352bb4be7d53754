// Services with appProtocol http and h2c are balanced per request, not per connection.

import { Agent, createServer, get, type Server } from 'node:http';
import { connect as connectHttp2, createServer as createHttp2, type Http2Server } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { freshVIP, plan, startEngine, type Engine } from './harness.ts';

let engine: Engine;
const servers: (Server | Http2Server)[] = [];
beforeAll(async () => { engine = await startEngine(); });
afterEach(() => { for (const server of servers.splice(0)) server.close(); });
afterAll(() => engine.stop());

async function listen(server: Server | Http2Server): Promise<AddressInfo> {
  servers.push(server);
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  return server.address() as AddressInfo;
}

test('appProtocol http: the requests of one kept connection reach all endpoints', async () => {
  const vip = freshVIP();
  const addresses = await Promise.all(['a', 'b', 'c'].map((name) => listen(createServer((_request, response) => { response.end(name); }))));
  const made = plan(vip, addresses, { appProtocol: 'http' });
  await engine.apply(made);
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const ask = (): Promise<string> => new Promise((resolve, reject) => {
    get({ host: vip, port: 8000, agent }, (response) => { let text = ''; response.on('data', (data: Buffer) => { text += data.toString(); }); response.on('end', () => resolve(text)); }).on('error', reject);
  });
  const names = new Set<string>();
  for (let index = 0; index < 30; index++) names.add(await ask());
  agent.destroy();
  expect([...names].sort()).toEqual(['a', 'b', 'c']);
  expect(engine.backend.counter(made.key, 'accepted')).toBe(1);
});

test('appProtocol kubernetes.io/h2c: the streams of one HTTP/2 connection reach all endpoints', async () => {
  const vip = freshVIP();
  const addresses = await Promise.all(['a', 'b'].map((name) => listen(createHttp2((_request, response) => { response.end(name); }))));
  await engine.apply(plan(vip, addresses, { appProtocol: 'kubernetes.io/h2c' }));
  const session = connectHttp2(`http://${vip}:8000`);
  const ask = (): Promise<string> => new Promise((resolve, reject) => {
    const stream = session.request({ ':path': '/' });
    let text = '';
    stream.on('data', (data: Buffer) => { text += data.toString(); });
    stream.on('end', () => resolve(text));
    stream.on('error', reject);
  });
  const names = new Set<string>();
  for (let index = 0; index < 20; index++) names.add(await ask());
  session.destroy();
  expect([...names].sort()).toEqual(['a', 'b']);
});

test('endpoints that change are used by open connections at their next request', async () => {
  const vip = freshVIP();
  const [a, b] = await Promise.all(['a', 'b'].map((name) => listen(createServer((_request, response) => { response.end(name); })))) as [AddressInfo, AddressInfo];
  await engine.apply(plan(vip, [a], { appProtocol: 'http' }));
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const ask = (): Promise<string> => new Promise((resolve, reject) => {
    get({ host: vip, port: 8000, agent }, (response) => { let text = ''; response.on('data', (data: Buffer) => { text += data.toString(); }); response.on('end', () => resolve(text)); }).on('error', reject);
  });
  expect(await ask()).toBe('a');
  await engine.apply(plan(vip, [b], { appProtocol: 'http' }));
  expect(await ask()).toBe('b');
  agent.destroy();
});
