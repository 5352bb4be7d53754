// A data thread of the userspace engine: keeps listeners as the main side plans them and hands what arrives to the TCP
// relay, the UDP sessions or the HTTP engine. Every thread listens on every address (reusePort), the kernel spreads
// connections. Messages: messages.ts. After a restart the main side replays everything.

import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import net from 'node:net';
import type { Cidr } from '../../api/address.ts';
import type { WorkerContext, WorkerSide } from '../../api/workers.ts';
import { AffinityTable } from '../affinity.ts';
import { HttpFront } from './http.ts';
import { Limits } from './limits.ts';
import type { InitMessage, ListenFailure, ListenSpec, SyncMessage, ToWorker } from './messages.ts';
import { isInRanges, parseRanges, Peers } from './peers.ts';
import { ServedPort, type PortShared } from './port.ts';
import { TcpEngine, tcpLimits } from './tcp.ts';
import { UdpEngine, udpLimits } from './udp.ts';
import { resetHandle, type TcpHandle } from './wire.ts';
import { rawWires } from './wire-raw.ts';
import { socketWires } from './wire-socket.ts';

interface Listener { readonly spec: ListenSpec; close(): void }
interface Served { readonly port: ServedPort; readonly listeners: Map<string, Listener>; readonly http: HttpFront | undefined }

const backlog = 4_096;

export function startWorker(context: WorkerContext): WorkerSide {
  const worker = new UserspaceWorker(context);
  return { receive: (message) => worker.receive(message as ToWorker), stop: (drainMs) => worker.stop(drainMs) };
}

class UserspaceWorker {
  readonly #context: WorkerContext;
  /** Addresses of Services that this thread listens on, with the number of listeners. */
  readonly #ownAddresses = new Map<string, number>();
  readonly #served = new Map<string, Served>();
  #shared: (PortShared & { limits: Limits }) | undefined;
  #tcp: TcpEngine | undefined;
  #udp: UdpEngine | undefined;
  #timers: { cancel(): void }[] = [];
  #work: Promise<void> = Promise.resolve();

  constructor(context: WorkerContext) { this.#context = context; }

  receive(message: ToWorker): void {
    if (message.type === 'init') this.#init(message);
    else this.#work = this.#work.then(() => this.#sync(message));
  }

  async stop(drainMs: number): Promise<void> {
    await this.#work;
    for (const served of this.#served.values()) for (const listener of served.listeners.values()) listener.close();
    await Promise.all([
      this.#tcp?.close(drainMs, (delayMs, callback) => { this.#context.clock.after(delayMs, callback, true); }),
      ...[...this.#served.values()].map((served) => served.http?.close(drainMs)),
    ]);
    this.#udp?.close();
    for (const timer of this.#timers) timer.cancel();
  }

  #init(message: InitMessage): void {
    const { clock, count } = this.#context;
    const peers = new Peers(message.hostAddresses, message.clusterCIDRs);
    const limits = new Limits(peers, { countMax: Math.ceil(message.connectionsMax / count), perSourceMax: Math.ceil(message.connectionsPerSourceMax / count) });
    const nowMs = (): number => clock.monotonicMs();
    this.#shared = { affinity: new AffinityTable(message.affinity), counters: new Float64Array(message.counters), peers, random: Math.random, limits };
    const tcp = this.#tcp = new TcpEngine({ limits, nowMs, random: Math.random, wires: (message.mayUseRawWires ? rawWires() : undefined) ?? socketWires() });
    const udp = this.#udp = new UdpEngine({ nowMs, sessionsMax: Math.ceil(message.sessionsMax / count) });
    this.#timers = [
      clock.every(tcpLimits.sweepMs, () => tcp.sweepPending()), clock.every(tcpLimits.slowSweepMs, () => tcp.sweepOld()), clock.every(udpLimits.sweepMs, () => udp.sweep()),
    ];
  }

  async #sync(message: SyncMessage): Promise<void> {
    const failures: ListenFailure[] = [];
    let operations = 0;
    const opening: Promise<void>[] = [];
    const keep = new Set(message.ports.map((spec) => spec.key));
    for (const [key, served] of this.#served) {
      if (!message.removed.includes(key) && !(message.isFull && !keep.has(key))) continue;
      operations += this.#remove(key, served);
    }
    for (const spec of message.ports) {
      const served = this.#take(spec);
      const wanted = new Map(spec.listeners.map((each) => [listenKey(each), each]));
      for (const [key, listener] of served.listeners) {
        if (wanted.has(key)) continue;
        listener.close();
        served.listeners.delete(key);
        operations += 1;
      }
      for (const [key, listener] of wanted) {
        if (served.listeners.has(key)) continue;
        operations += 1;
        opening.push(this.#open(served, listener).then((opened) => { served.listeners.set(key, opened); }, (error: NodeJS.ErrnoException) => {
          failures.push({ service: spec.service, address: `${listener.address}:${listener.port}`, reason: error.code ?? error.message });
        }));
      }
    }
    await Promise.all(opening);
    this.#context.post({ type: 'applied', id: message.id, operations, failures });
  }

  #take(spec: SyncMessage['ports'][number]): Served {
    const nowMs = this.#context.clock.monotonicMs();
    let served = this.#served.get(spec.key);
    if (served !== undefined && (served.port.spec.l7 !== spec.l7 || served.port.spec.protocol !== spec.protocol)) {
      this.#remove(spec.key, served);
      served = undefined;
    }
    if (served === undefined) {
      const port = new ServedPort(spec, this.#shared as PortShared, nowMs);
      served = { port, listeners: new Map(), http: spec.l7 === undefined ? undefined : new HttpFront(port, this.#shared as PortShared & { limits: Limits }, this.#context) };
      this.#served.set(spec.key, served);
      return served;
    }
    served.port.update(spec, nowMs);
    served.http?.update();
    if (spec.protocol === 'UDP') this.#udp?.reconcile(served.port);
    return served;
  }

  #remove(key: string, served: Served): number {
    for (const listener of served.listeners.values()) listener.close();
    this.#served.delete(key);
    this.#udp?.closePort(served.port);
    served.port.update({ ...served.port.spec, cluster: [], local: [], serving: [] }, this.#context.clock.monotonicMs());
    void served.http?.close(tcpLimits.removedMsMax);
    return served.listeners.size;
  }

  #open(served: Served, spec: ListenSpec): Promise<Listener> {
    return served.port.spec.protocol === 'UDP' ? this.#openUdp(served, spec) : this.#openTcp(served, spec);
  }

  #openTcp(served: Served, spec: ListenSpec): Promise<Listener> {
    const { port, http } = served;
    const tcp = this.#tcp as TcpEngine;
    const isAllowed = this.#admission(spec);
    const headerRanges = parseRanges(port.spec.proxyProtocolFrom);
    const mayExpectHeader = headerRanges.length === 0 ? (): boolean => false : (ip: string): boolean => headerRanges.some((range) => range.contains(ip));
    const server = net.createServer({ noDelay: true, allowHalfOpen: true });
    // A NodePort listener on all addresses also hears the Services' own addresses, where that number is not served.
    const isWildcard = spec.address === '0.0.0.0' || spec.address === '::';
    const isElsewhere = (address: string): boolean => isWildcard && this.#ownAddresses.has(address);
    if (http !== undefined) server.on('connection', (socket) => { if (isElsewhere(socket.localAddress ?? '')) socket.resetAndDestroy(); else http.accept(socket, spec, isAllowed); });
    return new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host: spec.address, port: spec.port, reusePort: true, backlog, ipv6Only: spec.address.includes(':') }, () => {
        server.removeListener('error', reject);
        server.on('error', () => {});
        // Past net.Server's own path: sockets are made once, in the form that the relay needs.
        const handle = (server as unknown as { _handle: { onconnection: (error: number, handle: TcpHandle) => void } })._handle;
        const name = { address: '', port: 0 };
        if (http === undefined) handle.onconnection = (error, accepted) => {
          if (error !== 0) return;
          if (isWildcard && accepted.getsockname(name) === 0 && isElsewhere(name.address)) resetHandle(accepted);
          else tcp.accept(accepted, port, spec, isAllowed, mayExpectHeader);
        };
        if (!isWildcard) this.#ownAddresses.set(spec.address, (this.#ownAddresses.get(spec.address) ?? 0) + 1);
        resolve({ spec, close: () => { server.close(); if (!isWildcard) this.#forget(spec.address); } });
      });
    });
  }

  #forget(address: string): void {
    const count = this.#ownAddresses.get(address) ?? 0;
    if (count > 1) this.#ownAddresses.set(address, count - 1);
    else this.#ownAddresses.delete(address);
  }

  #openUdp(served: Served, spec: ListenSpec): Promise<Listener> {
    const isAllowed = this.#admission(spec);
    const isV6 = spec.address.includes(':');
    const socket: UdpSocket = createSocket({ type: isV6 ? 'udp6' : 'udp4', reusePort: true, ipv6Only: isV6 });
    socket.on('message', (bytes, from) => {
      if (isAllowed(from.address)) this.#udp?.onDatagram(socket, spec, served.port, bytes, from);
      else served.port.count('refused');
    });
    return new Promise((resolve, reject) => {
      socket.once('error', reject);
      socket.bind(spec.port, spec.address, () => {
        socket.removeListener('error', reject);
        socket.on('error', () => {});
        resolve({ spec, close: () => { socket.close(); } });
      });
    });
  }

  #admission(spec: ListenSpec): (ip: string) => boolean {
    const peers = (this.#shared as PortShared).peers;
    const ranges: readonly Cidr[] = parseRanges(spec.sourceRanges);
    const isInside = (ip: string): boolean => !spec.isHostOnly || ip === spec.address || peers.isOfCluster(ip);
    if (spec.sourceRanges.length === 0) return spec.isHostOnly ? isInside : () => true;
    const mayHost = peers.isHostIn(ranges);
    return (ip) => (isInRanges(spec.sourceRanges, ranges, ip) || (mayHost && ip === spec.address)) && isInside(ip);
  }
}

const listenKey = (spec: ListenSpec): string => `${spec.address} ${spec.port} ${spec.candidates} ${spec.isHostOnly} ${spec.sourceRanges.join(',')}`;
