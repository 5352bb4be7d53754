// Change without loss: constant load while routes change, endpoints are replaced, certificates rotate, workers die and
// a second controller takes over. NETLOOM_SOAK=1 runs the full sizes.

import http from 'node:http';
import net from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { ApiClient } from '../../api/client.ts';
import { systemClock } from '../../api/clock.ts';
import { SharedInformers } from '../../api/informer.ts';
import { silentLog } from '../../api/log.ts';
import { ServiceView } from '../../api/services.ts';
import { WorkerPool } from '../../api/workers.ts';
import { IngressController } from '../../ingress/controller.ts';
import { directChannel, World } from './world.ts';

const isSoak = process.env['NETLOOM_SOAK'] !== undefined;
const routeChanges = isSoak ? 1_000 : 200;
const rolls = isSoak ? 20 : 6;
const cleanups: (() => unknown)[] = [];
afterEach(async () => { for (const clean of cleanups.splice(0).reverse()) await clean(); });

interface Load { failures: string[]; count: number; stop(): Promise<void> }

/** `width` clients in closed loop, alternately on kept and on new connections. */
function startLoad(port: number, host: string, width = 8): Load {
  const load: Load = { failures: [], count: 0, stop: async () => { isStopped = true; await Promise.all(loops); agent.destroy(); } };
  let isStopped = false;
  const agent = new http.Agent({ keepAlive: true, maxSockets: width });
  const once = (useAgent: boolean): Promise<void> => new Promise((resolve) => {
    const request = http.get({ host: '127.0.0.1', port, path: '/x', headers: { Host: host }, agent: useAgent ? agent : false }, (response) => {
      response.resume();
      if (response.statusCode !== 200) load.failures.push(`${response.statusCode} ${String(response.headers['netloom-reason'])}`);
      response.on('end', () => { load.count += 1; resolve(); });
      response.on('error', (error) => { load.failures.push(`answer: ${error.message}`); resolve(); });
    });
    request.on('error', (error: NodeJS.ErrnoException) => {
      // A kept connection that the server closes while idle is the client's to try again (RFC 9112 §9.3.1).
      if (error.code === 'ECONNRESET' && (request as http.ClientRequest & { reusedSocket: boolean }).reusedSocket) { resolve(); return; }
      load.failures.push(`request: ${error.message}`);
      resolve();
    });
  });
  const loops = Array.from({ length: width }, async (_, index) => {
    while (!isStopped) { await once(index % 2 === 0); await new Promise((resolve) => { setImmediate(resolve); }); }
  });
  return load;
}

const backend = async (): Promise<{ server: http.Server; port: number; stop(): void }> => {
  const server = http.createServer((_request, response) => { setImmediate(() => response.end('ok')); });
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  const { port } = server.address() as net.AddressInfo;
  // Drains like a good citizen on SIGTERM: no new connections, the open ones finish.
  return { server, port, stop: () => { server.close(); server.closeIdleConnections(); } };
};

test(`no request fails during ${routeChanges} route changes and ${rolls} replacements of endpoints; a WebSocket lives on`, async () => {
  const world = new World();
  cleanups.push(() => world.stop());
  let current: Awaited<ReturnType<typeof backend>>[] = await Promise.all([backend(), backend(), backend()]);
  cleanups.push(() => { for (const one of current) { one.server.closeAllConnections(); one.server.close(); } });
  const apply = (): void => world.applyService('t/app', current.map(({ port }) => ({ ip: '127.0.0.1', port })));
  apply();
  const echo = net.createServer((socket) => { socket.once('data', () => { socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n'); socket.on('data', (bytes) => socket.write(bytes)); }); socket.on('error', () => {}); });
  await new Promise<void>((resolve) => { echo.listen(0, '127.0.0.1', resolve); });
  cleanups.push(() => { echo.close(); });
  world.applyService('t/ws', [{ ip: '127.0.0.1', port: (echo.address() as net.AddressInfo).port }]);
  world.ingress('t/main', [['load.test', '/', 'app'], ['ws.test', '/', 'ws']]);
  await world.start();
  const socket = net.connect({ port: world.controller.httpPort, host: '127.0.0.1' });
  cleanups.push(() => socket.destroy());
  let received = '';
  socket.on('data', (bytes) => { received += bytes.toString(); });
  socket.write('GET / HTTP/1.1\r\nHost: ws.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
  await world.until(() => received, (text) => text.includes('101'));
  const load = startLoad(world.controller.httpPort, 'load.test');
  for (let change = 0; change < routeChanges; change++) {
    world.ingress(`t/x${change % 20}`, [[`h${change % 40}.test`, change % 3 === 0 ? '/a' : '/', 'app'], ['load.test', `/other${change % 5}`, 'ws']]);
    if (change % 7 === 0) world.api.delete('ingresses', 't', `x${(change + 3) % 20}`);
    if (change % Math.ceil(routeChanges / rolls) === 0) {
      const leaving = current[0]!;
      current = [...current.slice(1), await backend()];
      apply();
      // Endpoints drain a while after they left the slice, as Pods do.
      const seen = load.count;
      await world.until(() => load.count, (count) => count > seen + 40);
      leaving.stop();
    }
    await new Promise((resolve) => { setImmediate(resolve); });
  }
  const seen = load.count;
  await world.until(() => load.count, (count) => count > seen + 200);
  await load.stop();
  expect(load.failures).toEqual([]);
  expect(load.count).toBeGreaterThan(routeChanges);
  socket.write('still here');
  await world.until(() => received, (text) => text.endsWith('still here'));
});

test('endpoints killed without warning: GET requests still succeed on another endpoint', async () => {
  const world = new World();
  cleanups.push(() => world.stop());
  const all = await Promise.all([backend(), backend(), backend(), backend()]);
  cleanups.push(() => { for (const one of all) { one.server.closeAllConnections(); one.server.close(); } });
  world.applyService('t/app', all.map(({ port }) => ({ ip: '127.0.0.1', port })));
  world.ingress('t/main', [['load.test', '/', 'app']]);
  await world.start();
  const load = startLoad(world.controller.httpPort, 'load.test');
  for (const victim of all.slice(0, 2)) {
    const seen = load.count;
    await world.until(() => load.count, (count) => count > seen + 200);
    victim.server.close();
    victim.server.closeAllConnections();
  }
  const seen = load.count;
  await world.until(() => load.count, (count) => count > seen + 300);
  await load.stop();
  expect(load.failures).toEqual([]);
});

test('a second controller on the same port takes over without a failed request', async () => {
  const world = new World();
  cleanups.push(() => world.stop());
  const one = await backend();
  cleanups.push(() => { one.server.closeAllConnections(); one.server.close(); });
  world.applyService('t/app', [{ ip: '127.0.0.1', port: one.port }]);
  world.ingress('t/main', [['load.test', '/', 'app']]);
  await world.start();
  const { httpPort, httpsPort } = world.controller;
  const load = startLoad(httpPort, 'load.test');
  await world.until(() => load.count, (count) => count > 100);
  const informers = new SharedInformers(new ApiClient(world.api), { clock: systemClock, log: silentLog });
  const { channel, side } = await directChannel(silentLog);
  const second = new IngressController({
    informers, view: new ServiceView(informers), client: new ApiClient(world.api), controllerName: 'netloom.dev/ingress', className: 'netloom', httpPort, httpsPort, bind: '127.0.0.1',
    workers: channel, publishAddresses: ['127.0.0.1'], clock: systemClock, log: silentLog,
  });
  await second.start();
  cleanups.push(async () => { await second.stop(); await side.stop(0); informers.stop(); });
  await world.stopServing(2_000);
  const seen = load.count;
  await world.until(() => load.count, (count) => count > seen + 200);
  await load.stop();
  expect(load.failures.filter((text) => !text.includes('ECONNRESET'))).toEqual([]);
  expect(load.failures.length).toBeLessThanOrEqual(1);
});

test('real worker threads: routes reach every worker, a killed worker comes back with its listeners', async () => {
  const world = new World();
  const one = await backend();
  cleanups.push(() => { one.server.closeAllConnections(); one.server.close(); });
  world.applyService('t/app', [{ ip: '127.0.0.1', port: one.port }]);
  world.ingressClass('netloom');
  world.ingress('t/main', [['load.test', '/', 'app']]);
  const informers = new SharedInformers(new ApiClient(world.api), { clock: systemClock, log: silentLog });
  const pool = new WorkerPool({ name: 'data', count: 2, log: silentLog, clock: systemClock, modules: { ingress: { url: new URL('../../ingress/worker.ts', import.meta.url) } } });
  await pool.start();
  cleanups.push(() => pool.stop(0));
  const controller = world.controller = new IngressController({
    informers, view: new ServiceView(informers), client: new ApiClient(world.api), controllerName: 'netloom.dev/ingress', className: 'netloom', httpPort: 0, httpsPort: 0, bind: '127.0.0.1',
    workers: pool.channel('ingress'), publishAddresses: ['127.0.0.1'], clock: systemClock, log: silentLog,
  });
  await controller.start();
  cleanups.push(async () => { await controller.stop(); informers.stop(); });
  const status = async (): Promise<number> => (await world.request({ host: 'load.test' })).status;
  for (let index = 0; index < 20; index++) await world.until(status, (code) => code === 200);
  await pool.threads()[0]!.terminate();
  await world.until(() => pool.readyCount, (count) => count === 2, 10_000);
  let good = 0;
  await world.until(async () => { good = (await status()) === 200 ? good + 1 : 0; return good; }, (count) => count >= 20, 10_000);
});
