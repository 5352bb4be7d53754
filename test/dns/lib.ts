// Helpers of the DNS tests: stand-ins for informers, objects from case data, raw UDP and TCP exchanges, and query bytes
// written by hand so that no code under test takes part in asking.

import { createSocket } from 'node:dgram';
import { connect } from 'node:net';
import { systemClock } from '../../api/clock.ts';
import type { Informer, InformerEvent, InformerListener } from '../../api/informer.ts';
import { silentLog } from '../../api/log.ts';
import { objectKey } from '../../api/meta.ts';
import { ServiceView } from '../../api/services.ts';
import { ObjectStore } from '../../api/store.ts';
import type { EndpointSlice, KubeObject, Namespace, Pod, Service } from '../../api/types.ts';
import type { DnsServerOptions } from '../../dns/config.ts';
import { DnsServer } from '../../dns/server.ts';

/** Behaves like a synced Informer whose watch is driven by the test. */
export class FakeInformer<T extends KubeObject> {
  readonly store = new ObjectStore<T>();
  hasSynced = false;
  lastContactMs = 0;
  failureCount = 0;
  readonly #listeners = new Set<InformerListener<T>>();
  readonly #synced = Promise.withResolvers<void>();

  sync(): this { this.hasSynced = true; this.#synced.resolve(); return this; }
  whenSynced(): Promise<void> { return this.#synced.promise; }
  onChange(listener: InformerListener<T>): () => void { this.#listeners.add(listener); return () => { this.#listeners.delete(listener); }; }
  set(object: T): void {
    const key = objectKey(object);
    const old = this.store.set(key, object);
    this.#emit({ type: old === undefined ? 'add' : 'update', key, object, old });
  }
  delete(key: string): void {
    const old = this.store.delete(key);
    if (old !== undefined) this.#emit({ type: 'delete', key, object: old, old });
  }
  #emit(event: InformerEvent<T>): void { for (const listener of this.#listeners) listener(event); }
  as(): Informer<T> { return this as unknown as Informer<T>; }
}

export interface World {
  services: FakeInformer<Service>; slices: FakeInformer<EndpointSlice>; namespaces: FakeInformer<Namespace>; pods: FakeInformer<Pod>; view: ServiceView;
  apply(object: KubeObject): void;
}

export function makeWorld(objects: readonly KubeObject[] = [], isSynced = true): World {
  const services = new FakeInformer<Service>();
  const slices = new FakeInformer<EndpointSlice>();
  const namespaces = new FakeInformer<Namespace>();
  const pods = new FakeInformer<Pod>();
  const byKind: Record<string, FakeInformer<never>> = { Service: services as never, EndpointSlice: slices as never, Namespace: namespaces as never, Pod: pods as never };
  const view = new ServiceView({ services: services.as(), endpointSlices: slices.as() });
  const world: World = { services, slices, namespaces, pods, view, apply: (object) => byKind[object.kind ?? '']?.set(object as never) };
  for (const object of objects) world.apply(object);
  if (isSynced) for (const informer of [services, slices, namespaces, pods]) informer.sync();
  return world;
}

export interface Running extends World { server: DnsServer; port: number; address: string }

export async function startServer(world: World, options: Partial<DnsServerOptions> = {}): Promise<Running> {
  const server = new DnsServer({
    view: world.view, namespaces: world.namespaces.as(), pods: world.pods.as(), listen: [{ address: '127.0.0.1', port: 0 }], upstreams: [],
    clock: systemClock, log: silentLog, ...options,
  });
  await server.start();
  const bound = server.addresses[0];
  return { ...world, server, port: bound?.port ?? 0, address: bound?.address ?? '' };
}

/** Query bytes: header with RD, one question, optional OPT. */
export function queryBytes(name: string, type: number, options: { id?: number; udpSize?: number; flags?: number; qclass?: number; isDnssecOk?: boolean; edns?: Buffer } = {}): Buffer {
  const labels = name.split('.').filter((label) => label !== '');
  const parts: Buffer[] = [];
  const header = Buffer.alloc(12);
  header.writeUInt16BE(options.id ?? 0x1234, 0);
  header.writeUInt16BE(options.flags ?? 0x0100, 2);
  header.writeUInt16BE(1, 4);
  parts.push(header);
  for (const label of labels) parts.push(Buffer.from([Buffer.byteLength(label, 'latin1')]), Buffer.from(label, 'latin1'));
  const tail = Buffer.alloc(5);
  tail.writeUInt16BE(type, 1);
  tail.writeUInt16BE(options.qclass ?? 1, 3);
  parts.push(tail);
  if (options.udpSize !== undefined || options.edns !== undefined) {
    const data = options.edns ?? Buffer.alloc(0);
    const opt = Buffer.alloc(11);
    opt.writeUInt16BE(41, 1);
    opt.writeUInt16BE(options.udpSize ?? 1232, 3);
    if (options.isDnssecOk === true) opt[7] = 0x80;
    opt.writeUInt16BE(data.length, 9);
    parts.push(opt, data);
    header.writeUInt16BE(1, 10);
  }
  return Buffer.concat(parts);
}

/** Sends one datagram; the reply, or undefined after `timeoutMs`. */
export function udpExchange(port: number, bytes: Buffer, timeoutMs = 3_000, address = '127.0.0.1'): Promise<Buffer | undefined> {
  return new Promise((resolve) => {
    const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
    const timer = systemClock.after(timeoutMs, () => { socket.close(); resolve(undefined); }, true);
    socket.on('message', (reply) => { timer.cancel(); socket.close(); resolve(reply); });
    socket.on('error', () => { timer.cancel(); socket.close(); resolve(undefined); });
    socket.send(bytes, port, address);
  });
}

/** Sends raw pieces over one TCP connection and collects whole reply frames until the server closes or `count` came. */
export function tcpExchange(port: number, pieces: readonly Buffer[], options: { count?: number; gapMs?: number; halfClose?: boolean; timeoutMs?: number; address?: string } = {}): Promise<{ replies: Buffer[]; isClosed: boolean }> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: options.address ?? '127.0.0.1', allowHalfOpen: true });
    let data: Buffer = Buffer.alloc(0);
    const replies: Buffer[] = [];
    const finish = (isClosed: boolean): void => { timer.cancel(); socket.destroy(); resolve({ replies, isClosed }); };
    const timer = systemClock.after(options.timeoutMs ?? 3_000, () => finish(false), true);
    socket.on('data', (chunk: Buffer) => {
      data = Buffer.concat([data, chunk]);
      while (data.length >= 2 && data.length >= 2 + data.readUInt16BE(0)) {
        replies.push(data.subarray(2, 2 + data.readUInt16BE(0)));
        data = data.subarray(2 + data.readUInt16BE(0));
      }
      if (options.count !== undefined && replies.length >= options.count) finish(false);
    });
    socket.on('end', () => finish(true));
    socket.on('error', () => finish(true));
    const sendNext = (index: number): void => {
      const piece = pieces[index];
      if (piece === undefined) { if (options.halfClose === true) socket.end(); return; }
      socket.write(piece);
      if ((options.gapMs ?? 0) > 0) systemClock.after(options.gapMs ?? 0, () => sendNext(index + 1), true);
      else sendNext(index + 1);
    };
    socket.on('connect', () => sendNext(0));
  });
}

export function frame(bytes: Buffer): Buffer {
  const prefix = Buffer.alloc(2);
  prefix.writeUInt16BE(bytes.length);
  return Buffer.concat([prefix, bytes]);
}
