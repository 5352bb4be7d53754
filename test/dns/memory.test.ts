// Size and speed of the DNS thread's table at 10,000 Services with 100,000 endpoints, and its bounds under a flood of
// names: the table of compiled answers and the caches stop growing.

import { createSocket } from 'node:dgram';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { systemClock } from '../../api/clock.ts';
import type { KubeObject } from '../../api/types.ts';
import { decode } from './decode.ts';
import { makeWorld, queryBytes, startServer, udpExchange, type Running } from './lib.ts';

const serviceCount = 10_000;
const perService = 10;
let running: Running;
let startMs = 0;

beforeAll(async () => {
  const objects: KubeObject[] = Array.from({ length: 20 }, (_, index) => ({ kind: 'Namespace', metadata: { name: `ns${index}` } }));
  for (let index = 0; index < serviceCount; index++) {
    const namespace = `ns${index % 20}`;
    const name = `service-${index}`;
    const clusterIP = index % 2 === 0 ? 'None' : `10.96.${index >> 8}.${index & 255}`;
    objects.push({ kind: 'Service', metadata: { name, namespace }, spec: { clusterIP, clusterIPs: [clusterIP], ports: [{ name: 'http', port: 80 }] } } as KubeObject);
    objects.push({
      kind: 'EndpointSlice', addressType: 'IPv4', metadata: { name: `${name}-1`, namespace, labels: { 'kubernetes.io/service-name': name } }, ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
      endpoints: Array.from({ length: perService }, (_, each) => { const id = index * perService + each; return { addresses: [`10.${128 + (id >> 16)}.${(id >> 8) & 255}.${id & 255}`], conditions: { ready: true }, hostname: `pod-${id}` }; }),
    } as KubeObject);
  }
  const world = makeWorld(objects);
  const started = performance.now();
  running = await startServer(world);
  startMs = performance.now() - started;
});
afterAll(async () => { await running.server.stop(0); });

/** Sends every packet, at most `window` unanswered at a time, and counts the replies. */
async function ask(packets: Iterable<Buffer>, window = 64): Promise<number> {
  const socket = createSocket('udp4');
  await new Promise<void>((resolve) => { socket.bind(0, '127.0.0.1', resolve); });
  const iterator = packets[Symbol.iterator]();
  let replies = 0;
  let open = 0;
  const done = Promise.withResolvers<void>();
  const next = (): void => {
    const item = iterator.next();
    if (item.done === true) { if (open === 0) done.resolve(); return; }
    open += 1;
    socket.send(item.value, running.port, '127.0.0.1');
  };
  socket.on('message', () => { replies += 1; open -= 1; next(); });
  for (let count = 0; count < window; count++) next();
  const timer = systemClock.after(20_000, () => done.resolve(), true);
  await done.promise;
  timer.cancel();
  socket.close();
  return replies;
}

describe('10,000 Services, 100,000 endpoints', () => {
  test('the thread needs at most 200 MB, also after every Service, endpoint and address was asked for', async () => {
    const fresh = (await running.server.status()).heapBytes;
    expect(fresh).toBeLessThan(200 * 1024 * 1024);
    function* everything(): Generator<Buffer> {
      for (let index = 0; index < serviceCount; index++) {
        const name = `service-${index}.ns${index % 20}.svc.cluster.local`;
        yield queryBytes(name, 1);
        yield queryBytes(name, 28);
        yield queryBytes(`_http._tcp.${name}`, 33);
        yield queryBytes(`pod-${index * perService}.${name}`, 1);
      }
    }
    expect(await ask(everything())).toBe(serviceCount * 4);
    const used = (await running.server.status()).heapBytes;
    expect(used).toBeLessThan(200 * 1024 * 1024);
    process.stderr.write(`DNS thread: ${Math.round(fresh / 1e6)} MB fresh, ${Math.round(used / 1e6)} MB after every Service was asked for; start ${Math.round(startMs)} ms\n`);
  });

  test('a flood of 30,000 names that do not exist leaves nothing behind', async () => {
    const before = (await running.server.status()).heapBytes;
    function* flood(): Generator<Buffer> { for (let index = 0; index < 30_000; index++) yield queryBytes(`x${index}.ns1.svc.cluster.local`, 1); }
    expect(await ask(flood())).toBe(30_000);
    expect((await running.server.status()).heapBytes - before).toBeLessThan(60 * 1024 * 1024);
  });

  test('one change among them is answered in a few milliseconds', async () => {
    const times: number[] = [];
    for (let round = 0; round < 50; round++) {
      const ip = `10.97.0.${round + 1}`;
      const started = performance.now();
      running.apply({ kind: 'Service', metadata: { name: 'service-1', namespace: 'ns1' }, spec: { clusterIP: ip, clusterIPs: [ip], ports: [{ name: 'http', port: 80 }] } } as KubeObject);
      while (decode(await udpExchange(running.port, queryBytes('service-1.ns1.svc.cluster.local', 1)) as Buffer).answers[0]?.data !== ip) expect(performance.now() - started).toBeLessThan(1_000);
      times.push(performance.now() - started);
    }
    times.sort((a, b) => a - b);
    expect(times[25]).toBeLessThan(20);
  });
});
