// The program that tests start inside network namespaces: echo servers, clients, and a Service proxy, all driven over
// the IPC channel of child_process. Not a test itself. See netns-world.ts for the other end.

import { createSocket } from 'node:dgram';
import { connect, createServer, type Socket } from 'node:net';
import { Registry } from 'prom-client';
import { systemClock } from '../../api/clock.ts';
import { createLog, silentLog } from '../../api/log.ts';
import type { EndpointSlice, Node, Pod, Service } from '../../api/types.ts';
import type { WorkerChannel } from '../../api/workers.ts';
import { WorkerPool } from '../../api/workers.ts';
import type { ProxierOptions } from '../../proxy/proxier.ts';
import { Proxier } from '../../proxy/proxier.ts';
import { FakeCluster } from './fake-informer.ts';

export interface ConnectRequest { protocol: 'TCP' | 'UDP'; from?: string; to: string; port: number; timeoutMs: number; sourcePort?: number }
/** `answer`: 'endpointIP endpointPort sourceIP'; `error`: errno name or TIMEOUT. */
export interface ConnectAnswer { answer?: string; error?: string; durationMs: number }
export type WorkerRequest =
  | { do: 'listen'; ip: string; port: number; protocol: 'TCP' | 'UDP' }
  | { do: 'connect'; requests: ConnectRequest[]; concurrency: number }
  | { do: 'proxy'; options: Partial<ProxierOptions> & { nodeName: string; isOwnedTableVanishing: boolean }; hasWorkers?: boolean }
  | { do: 'apply'; objects: (Service | EndpointSlice | Node | Pod)[]; removeServices?: string[]; removeSlices?: string[]; isWaiting?: boolean }
  | { do: 'failures' } | { do: 'differences' } | { do: 'metrics' } | { do: 'events' } | { do: 'health' }
  | { do: 'stop'; isCleanup: boolean }
  | { do: 'load'; requests: ConnectRequest[]; concurrency: number } | { do: 'load-end' };

let cluster = new FakeCluster();
let proxier: Proxier | undefined;
const events: { service: string; reason: string; message: string }[] = [];

function listen(ip: string, port: number, protocol: 'TCP' | 'UDP'): Promise<void> {
  const plain = (address: string | undefined): string => (address ?? '').replace(/^::ffff:/, '');
  if (protocol === 'TCP') {
    const server = createServer((socket) => {
      socket.on('error', () => { socket.destroy(); });
      socket.end(`${plain(socket.localAddress)} ${port} ${plain(socket.remoteAddress)}`);
    });
    return new Promise((resolve) => { server.listen({ host: ip, port, backlog: 4096 }, resolve); });
  }
  const socket = createSocket({ type: ip.includes(':') ? 'udp6' : 'udp4', reuseAddr: true });
  socket.on('message', (_message, peer) => { socket.send(`${ip} ${port} ${plain(peer.address)}`, peer.port, peer.address); });
  return new Promise((resolve) => { socket.bind(port, ip, resolve); });
}

function connectOnce(request: ConnectRequest): Promise<ConnectAnswer> {
  const startedMs = performance.now();
  return new Promise((resolve) => {
    const finish = (result: { answer?: string; error?: string }, close: () => void): void => { close(); resolve({ ...result, durationMs: performance.now() - startedMs }); };
    if (request.protocol === 'TCP') connectTcp(request, finish); else connectUdp(request, finish);
  });
}

type Finish = (result: { answer?: string; error?: string }, close: () => void) => void;

function connectTcp(request: ConnectRequest, finish: Finish): void {
  const socket: Socket = connect({ host: request.to, port: request.port, ...(request.from === undefined ? {} : { localAddress: request.from }) });
  const timer = setTimeout(() => { finish({ error: 'TIMEOUT' }, () => socket.destroy()); }, request.timeoutMs);
  let text = '';
  socket.on('data', (chunk) => { text += chunk.toString(); });
  socket.on('end', () => { clearTimeout(timer); finish({ answer: text }, () => socket.destroy()); });
  socket.on('error', (error: NodeJS.ErrnoException) => { clearTimeout(timer); finish({ error: error.code ?? 'ERROR' }, () => socket.destroy()); });
}

function connectUdp(request: ConnectRequest, finish: Finish): void {
  const socket = createSocket(request.to.includes(':') ? 'udp6' : 'udp4');
  const close = (): void => { try { socket.close(); } catch { /* closed already */ } };
  const timer = setTimeout(() => { finish({ error: 'TIMEOUT' }, close); }, request.timeoutMs);
  socket.on('message', (message) => { clearTimeout(timer); finish({ answer: message.toString() }, close); });
  socket.on('error', (error: NodeJS.ErrnoException) => { clearTimeout(timer); finish({ error: error.code ?? 'ERROR' }, close); });
  socket.bind({ port: request.sourcePort ?? 0, ...(request.from === undefined ? {} : { address: request.from }) }, () => {
    socket.connect(request.port, request.to, () => { socket.send('?'); });
  });
}

async function connectAll(requests: readonly ConnectRequest[], concurrency: number): Promise<ConnectAnswer[]> {
  const answers = new Array<ConnectAnswer>(requests.length);
  let next = 0;
  await Promise.all(Array.from({ length: Math.min(concurrency, requests.length) }, async () => {
    for (let index = next++; index < requests.length; index = next++) {
      const request = requests[index];
      if (request !== undefined) answers[index] = await connectOnce(request);
    }
  }));
  return answers;
}

let isLoading = false;
let load: Promise<{ count: number; errors: Record<string, number>; reached: Record<string, number> }> | undefined;

/** Connects round and round until told to end; counts answers by endpoint and failures by kind. */
async function runLoad(requests: readonly ConnectRequest[], concurrency: number): Promise<{ count: number; errors: Record<string, number>; reached: Record<string, number> }> {
  const result = { count: 0, errors: {} as Record<string, number>, reached: {} as Record<string, number> };
  isLoading = true;
  await Promise.all(Array.from({ length: concurrency }, async (_unused, lane) => {
    for (let index = lane; isLoading; index++) {
      const request = requests[index % requests.length];
      if (request === undefined) return;
      const { answer, error } = await connectOnce(request);
      result.count += 1;
      if (error !== undefined) result.errors[error] = (result.errors[error] ?? 0) + 1;
      else { const endpoint = (answer ?? '').split(' ')[0] ?? ''; result.reached[endpoint] = (result.reached[endpoint] ?? 0) + 1; }
    }
  }));
  return result;
}

async function startProxy(options: Partial<ProxierOptions> & { nodeName: string; isOwnedTableVanishing: boolean }, hasWorkers: boolean): Promise<unknown> {
  if (proxier !== undefined) await proxier.stop();
  cluster = proxier === undefined ? cluster : new FakeCluster();
  proxier = new Proxier({
    view: cluster.view, nodes: cluster.nodes.informer, pods: cluster.pods.informer, ...(hasWorkers ? { workers: await startWorkers() } : {}), clock: systemClock, log: createLog({ level: process.env['NETLOOM_TEST_LOG'] === undefined ? 'error' : 'debug' }), isSysctlOn: false,
    eventRecorder: ({ service, reason, message }) => { events.push({ service: service.key, reason, message }); }, ...options,
  });
  await proxier.start();
  return proxier.health();
}

async function readMetrics(): Promise<string> {
  const registry = new Registry();
  proxier?.registerMetrics(registry);
  return registry.metrics();
}

async function startWorkers(): Promise<WorkerChannel> {
  const pool = new WorkerPool({ name: 'data', count: 1, modules: { userspace: { url: new URL('../../proxy/userspace/worker.ts', import.meta.url) } }, log: silentLog, clock: systemClock });
  await pool.start();
  return pool.channel('userspace');
}

async function apply(request: Extract<WorkerRequest, { do: 'apply' }>): Promise<number> {
  const startedMs = performance.now();
  for (const key of request.removeServices ?? []) cluster.services.remove(key);
  for (const key of request.removeSlices ?? []) cluster.slices.remove(key);
  cluster.apply(...request.objects);
  if (request.isWaiting !== false) await proxier?.whenIdle();
  return performance.now() - startedMs;
}

async function handle(request: WorkerRequest): Promise<unknown> {
  switch (request.do) {
    case 'listen': return listen(request.ip, request.port, request.protocol);
    case 'connect': return connectAll(request.requests, request.concurrency);
    case 'proxy': return startProxy(request.options, request.hasWorkers === true);
    case 'apply': return apply(request);
    case 'failures': return Object.fromEntries(proxier?.failures ?? []);
    case 'differences': return proxier?.compareWithKernel();
    case 'metrics': return readMetrics();
    case 'events': return events;
    case 'health': return proxier?.health();
    case 'stop': await proxier?.stop({ isCleanup: request.isCleanup, drainMs: 0 }); proxier = undefined; return undefined;
    case 'load': load = runLoad(request.requests, request.concurrency); return undefined;
    case 'load-end': isLoading = false; return load;
    default: throw new Error('unknown request');
  }
}

process.on('message', ({ id, request }: { id: number; request: WorkerRequest }) => {
  handle(request).then(
    (result) => { process.send?.({ id, result: result ?? null }); },
    (error: unknown) => { process.send?.({ id, error: error instanceof Error ? error.message : String(error) }); },
  );
});
process.on('disconnect', () => { process.exit(0); });
process.send?.({ id: 0, result: 'ready' });
