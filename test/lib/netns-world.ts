// A small network of namespaces for kernel tests: this node (with the proxy), two Pods on it, a second node with Pods,
// and an off-cluster client. Everything is made by the test and removed by it; addresses exist inside only.
//
//   self 10.244.1.2 ─┐                       ┌─ other: node n2 192.168.0.2, Pods 10.244.2.2, 10.244.2.3
//   pod  10.244.1.250 ─┤ node n1 192.168.0.1 ├
//   second 10.244.1.3 ─┘                       └─ ext: 203.0.113.2, 203.0.113.3 (default route of the node)

import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { ConnectAnswer, ConnectRequest, WorkerRequest } from './netns-worker.ts';

export type Place = 'node' | 'self' | 'second' | 'pod' | 'other' | 'ext';
const places: readonly Place[] = ['node', 'self', 'second', 'pod', 'other', 'ext'];

interface Link { readonly place: Place; readonly addresses: readonly string[]; readonly gateways: readonly [v4: string, v6: string]; readonly routes: readonly string[] }
const links: readonly Link[] = [
  { place: 'self', addresses: ['10.244.1.2', 'fd00:244:1::2'], gateways: ['10.244.1.1', 'fd00:244:1::1'], routes: [] },
  { place: 'second', addresses: ['10.244.1.3', 'fd00:244:1::3'], gateways: ['10.244.1.1', 'fd00:244:1::1'], routes: [] },
  { place: 'pod', addresses: ['10.244.1.250', 'fd00:244:1::250'], gateways: ['10.244.1.1', 'fd00:244:1::1'], routes: [] },
  { place: 'other', addresses: ['192.168.0.2', '10.244.2.2', '10.244.2.3', 'fd00:192::2', 'fd00:244:2::2'], gateways: ['192.168.0.1', 'fd00:192::1'], routes: [] },
  { place: 'ext', addresses: ['203.0.113.2', '203.0.113.3', 'fd00:203::2', 'fd00:203::3'], gateways: ['203.0.113.1', 'fd00:203::1'], routes: ['default'] },
];
const nodeAddresses: Readonly<Record<string, readonly string[]>> = {
  self: ['10.244.1.1', 'fd00:244:1::1'], second: ['fd00:244:1::1'], pod: ['fd00:244:1::1'], other: ['192.168.0.1', 'fd00:192::1'], ext: ['203.0.113.1', 'fd00:203::1'],
};

/** One namespace and the worker process in it. */
export class NetnsHost {
  readonly namespace: string;
  #child: ChildProcess | undefined;
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  #nextId = 1;

  constructor(namespace: string) { this.namespace = namespace; }

  async start(): Promise<void> {
    const ready = Promise.withResolvers<unknown>();
    this.#waiting.set(0, ready);
    const child = spawn('ip', ['netns', 'exec', this.namespace, process.execPath, join(import.meta.dirname, 'netns-worker.ts')], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'], env: { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` } });
    this.#child = child;
    child.on('message', (message: { id: number; result?: unknown; error?: string }) => {
      const waiter = this.#waiting.get(message.id);
      this.#waiting.delete(message.id);
      if (message.error === undefined) waiter?.resolve(message.result); else waiter?.reject(new Error(message.error));
    });
    child.on('exit', () => { for (const waiter of this.#waiting.values()) waiter.reject(new Error(`the worker in ${this.namespace} ended`)); this.#waiting.clear(); });
    await ready.promise;
  }

  get pid(): number | undefined { return this.#child?.pid; }

  ask<T = unknown>(request: WorkerRequest): Promise<T> {
    const id = this.#nextId++;
    const waiter = Promise.withResolvers<unknown>();
    this.#waiting.set(id, waiter);
    this.#child?.send({ id, request });
    return waiter.promise as Promise<T>;
  }

  connect(requests: ConnectRequest[], concurrency = 8): Promise<ConnectAnswer[]> { return this.ask<ConnectAnswer[]>({ do: 'connect', requests, concurrency }); }

  /** Runs a program inside the namespace and returns its output. */
  exec(file: string, ...args: string[]): string { return execFileSync('ip', ['netns', 'exec', this.namespace, file, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }); }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => { child.once('exit', resolve); });
    child.kill(signal);
    await ended;
    this.#child = undefined;
  }
}

export class NetnsWorld {
  readonly #prefix = `nl-test-${randomBytes(3).toString('hex')}`;
  readonly hosts: Readonly<Record<Place, NetnsHost>>;

  constructor() {
    this.hosts = Object.fromEntries(places.map((place) => [place, new NetnsHost(`${this.#prefix}-${place}`)])) as Record<Place, NetnsHost>;
  }

  /** Makes namespaces, links and routes, starts the workers and the echo servers. */
  async start(withWorkers: readonly Place[] = places): Promise<void> {
    const lines: string[] = [];
    const namespace = (place: Place): string => this.hosts[place].namespace;
    for (const place of places) execFileSync('ip', ['netns', 'add', namespace(place)]);
    for (const { place, addresses, gateways, routes } of links) {
      lines.push(`link add ${place} netns ${namespace('node')} type veth peer name eth0 netns ${namespace(place)}`);
      execFileSync('ip', ['-batch', '-'], { input: `${lines.splice(0).join('\n')}\n` });
      const inside = ['link set lo up', 'link set eth0 up', ...addresses.map((ip) => `addr add ${ip}/${ip.includes(':') ? '128 nodad' : '32'} dev eth0`)];
      inside.push(`route add ${gateways[0]}/32 dev eth0 src ${addresses[0]}`, `route add default via ${gateways[0]} dev eth0`, `route add ${gateways[1]}/128 dev eth0`, `route add default via ${gateways[1]} dev eth0`);
      execFileSync('ip', ['-n', namespace(place), '-batch', '-'], { input: `${inside.join('\n')}\n` });
      const here = [`link set ${place} up`, ...(nodeAddresses[place] ?? []).map((ip) => `addr add ${ip}/${ip.includes(':') ? '128 nodad' : '32'} dev ${place}`)];
      for (const ip of addresses) here.push(`route add ${ip}/${ip.includes(':') ? 128 : 32} dev ${place} src ${ip.includes(':') ? 'fd00:192::1' : '192.168.0.1'}`);
      execFileSync('ip', ['-n', namespace('node'), '-batch', '-', ...[]], { input: `link set lo up\n${here.filter((line) => !line.includes('route add')).join('\n')}\n` });
      this.#routes.push(...here.filter((line) => line.includes('route add')), ...(routes.length > 0 ? [`route add default via ${addresses[0]} dev ${place} src 192.168.0.1`, `route add default via fd00:203::2 dev ${place} src fd00:192::1`] : []));
    }
    execFileSync('ip', ['-n', namespace('node'), '-batch', '-'], { input: `${this.#routes.join('\n')}\n` });
    for (const setting of ['net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1', 'net.ipv4.icmp_ratelimit=0', 'net.ipv6.icmp.ratelimit=0']) this.hosts.node.exec('sysctl', '-qw', setting);
    await Promise.all(withWorkers.map((place) => this.hosts[place].start()));
    await Promise.all(withWorkers.flatMap((place) => this.#servers(place)));
  }

  readonly #routes: string[] = [];

  #servers(place: Place): Promise<unknown>[] {
    const host = this.hosts[place];
    if (place === 'node') return [host.ask({ do: 'listen', ip: '192.168.0.1', port: 8080, protocol: 'TCP' })];
    if (place !== 'self' && place !== 'second' && place !== 'other') return [];
    const ips = (links.find((link) => link.place === place)?.addresses ?? []).filter((ip) => ip.includes('244'));
    return ips.flatMap((ip) => [
      host.ask({ do: 'listen', ip, port: 8080, protocol: 'TCP' }), host.ask({ do: 'listen', ip, port: 8443, protocol: 'TCP' }), host.ask({ do: 'listen', ip, port: 8080, protocol: 'UDP' }),
    ]);
  }

  async stop(): Promise<void> {
    await Promise.all(Object.values(this.hosts).map((host) => host.kill()));
    for (const host of Object.values(this.hosts)) try { execFileSync('ip', ['netns', 'delete', host.namespace], { stdio: 'ignore' }); } catch { /* was never made */ }
  }
}
