// The userspace engine with real threads for tests: plans are written down in short form, endpoints are real servers.

import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { systemClock } from '../../../api/clock.ts';
import { silentLog, type Log } from '../../../api/log.ts';
import type { Endpoint } from '../../../api/services.ts';
import { WorkerPool } from '../../../api/workers.ts';
import type { PortPlan, ServicePlan, UserspaceBackendOptions } from '../../../proxy/backend.ts';
import { UserspaceBackend } from '../../../proxy/userspace/backend.ts';
import { endpoint } from '../../lib/builders.ts';

export interface Engine { pool: WorkerPool; backend: UserspaceBackend; apply(...plans: ServicePlan[]): Promise<string[]>; remove(key: string): Promise<void>; stop(drainMs?: number): Promise<void> }

export async function startEngine(options: Partial<UserspaceBackendOptions> & { threads?: number; logger?: Log } = {}): Promise<Engine> {
  const pool = new WorkerPool({ name: 'test', count: options.threads ?? 2, clock: systemClock, log: options.logger ?? silentLog, modules: { userspace: { url: new URL('../../../proxy/userspace/worker.ts', import.meta.url) } } });
  await pool.start();
  const backend = new UserspaceBackend({
    channel: pool.channel('userspace'), scope: 'all', nodePorts: { kernel: [], loopback: ['127.0.0.1'] }, bind: '127.0.0.1', nodeName: 'n1', nodeIPs: ['127.0.0.1'], clusterCIDRs: [],
    clock: systemClock, log: silentLog, ...options,
  });
  await backend.start();
  return {
    pool, backend,
    apply: async (...plans) => (await backend.sync({ isFull: false, services: new Map(plans.map((plan) => [plan.key, plan])) })).failures.map((failure) => failure.reason),
    remove: async (key) => { await backend.sync({ isFull: false, services: new Map([[key, undefined]]) }); },
    stop: async (drainMs = 0) => { await backend.stop({ isCleanup: true, drainMs }); await pool.stop(drainMs); },
  };
}

let nextAddress = 10;
/** An address of 127.96.0.0/16 that no other test of this process uses. */
export function freshVIP(): string {
  nextAddress += 1;
  return `127.96.${(process.pid % 200) + 1}.${nextAddress}`;
}

/** A Service with one port, ready endpoints in both sets unless said otherwise. */
export function plan(clusterIP: string, endpoints: readonly (Endpoint | AddressInfo)[], port: Partial<PortPlan> = {}, annotations: Record<string, string> = {}): ServicePlan {
  const set = endpoints.map((each) => ('ip' in each ? each : endpoint(each.address, each.port, { nodeName: 'n1' })));
  const name = port.name ?? `svc-${clusterIP.replaceAll('.', '-')}`;
  const one: PortPlan = {
    key: `default/${name}::${port.protocol ?? 'TCP'}`, namespace: 'default', name, portName: '', family: 'IPv4', protocol: 'TCP', port: 8000, nodePort: 0, appProtocol: undefined,
    clusterIP, externalIPs: [], loadBalancerIPs: [], sourceRanges: [], isInternalLocal: false, isExternalLocal: false, affinityTimeoutSeconds: 0,
    cluster: set, local: set, hasAny: set.length > 0, serving: set.map((each) => each.ip), ...port,
  };
  return { key: `default/${name}`, info: { service: { metadata: { name, namespace: 'default', annotations } } } as never, ports: [one] };
}

export interface Echo { server: Server; address: AddressInfo; name: string; sockets: Set<Socket>; close(): void }

/** A TCP server that says its name, then echoes. */
export async function startEcho(name: string, onSocket?: (socket: Socket) => void, host = '127.0.0.1', port = 0): Promise<Echo> {
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => {});
    if (onSocket !== undefined) { onSocket(socket); return; }
    socket.write(`${name}\n`);
    socket.pipe(socket);
  });
  await new Promise<void>((resolve) => { server.listen(port, host, resolve); });
  return { server, address: server.address() as AddressInfo, name, sockets, close: () => { server.close(); for (const socket of sockets) socket.destroy(); } };
}

export async function startUdpEcho(name: string): Promise<{ socket: UdpSocket; address: AddressInfo }> {
  const socket = createSocket('udp4');
  socket.on('message', (bytes, from) => { socket.send(`${name} ${bytes.toString()}`, from.port, from.address); });
  await new Promise<void>((resolve) => { socket.bind(0, '127.0.0.1', resolve); });
  return { socket, address: socket.address() };
}

/** Connects, reads the first line (the endpoint's name), closes. Rejects with the socket's error. */
export function ask(host: string, port = 8000, from?: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, ...(from === undefined ? {} : { localAddress: from }) });
    let text = '';
    socket.on('data', (data) => { text += data.toString(); if (text.includes('\n')) { socket.destroy(); resolve(text.split('\n')[0] as string); } });
    socket.on('error', reject);
    socket.on('close', () => reject(new Error('closed without an answer')));
  });
}
