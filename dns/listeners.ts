// All listeners of one DNS thread: opens what is planned (UDP and TCP on one port, TLS and HTTPS where asked), and drains
// them in the order that loses nothing: UDP leaves the port first, then replies under way are waited for, then streams end.
// Called by dns/worker.ts.

import { createSocket } from 'node:dgram';
import { createServer, isIPv6, type AddressInfo } from 'node:net';
import { networkInterfaces } from 'node:os';
import { isLinkLocal, isUnspecified } from '../api/address.ts';
import type { Clock } from '../api/clock.ts';
import type { Engine } from './engine/engine.ts';
import { DohListener } from './transport/doh.ts';
import { TcpListener, type TcpLimits } from './transport/tcp.ts';
import { UdpListener } from './transport/udp.ts';

export interface ListenAddress { readonly address: string; readonly port: number }

export interface ListenPlan {
  /** UDP and TCP. */
  readonly addresses: readonly ListenAddress[];
  /** UDP and TCP where it may be: left out when it cannot be opened. */
  readonly optional: readonly ListenAddress[];
  /** DNS over TLS and over HTTPS; need `certificate`. */
  readonly tls: readonly ListenAddress[];
  readonly https: readonly ListenAddress[];
  readonly certificate: { readonly certPem: string; readonly keyPem: string } | undefined;
  readonly tcpLimits: Partial<TcpLimits>;
}

export interface BoundAddresses { readonly addresses: readonly ListenAddress[]; readonly tls: readonly ListenAddress[]; readonly https: readonly ListenAddress[] }

const portTriesMax = 20;
const drainQuietMs = 20;

export class Listeners {
  readonly #engine: Engine;
  readonly #clock: Clock;
  readonly #udp: UdpListener[] = [];
  readonly #tcp: TcpListener[] = [];
  readonly #https: DohListener[] = [];

  constructor(engine: Engine, clock: Clock) {
    this.#engine = engine;
    this.#clock = clock;
  }

  get connectionCount(): number { return this.#tcp.reduce((sum, listener) => sum + listener.connectionCount, 0); }
  get sendErrorCount(): number { return this.#udp.reduce((sum, listener) => sum + listener.sendErrorCount, 0); }

  /** Opens everything; rejects with the system error (with `address` and `port`) of the first that cannot be opened. */
  async open(plan: ListenPlan): Promise<BoundAddresses> {
    const engine = this.#engine;
    const clock = this.#clock;
    const addresses: ListenAddress[] = [];
    const tls: ListenAddress[] = [];
    const https: ListenAddress[] = [];
    for (const item of plan.addresses) {
      // Further free ports follow the first, so that one port number serves on all addresses when it can.
      const first = addresses[0]?.port;
      const wanted = item.port === 0 && first !== undefined ? await this.#openPair({ ...item, port: first }, plan.tcpLimits).catch(() => undefined) : undefined;
      addresses.push(wanted ?? await this.#openPair(item, plan.tcpLimits));
    }
    for (const item of plan.optional) {
      const opened = await this.#openPair(item, plan.tcpLimits).catch(() => undefined);
      if (opened !== undefined) addresses.push(opened);
    }
    if (plan.certificate !== undefined) {
      for (const { address, port } of plan.tls) {
        const listener = new TcpListener({ engine, clock, isShared: true, tls: plan.certificate, limits: plan.tcpLimits });
        tls.push({ address, port: await atPlace(listener.open(port, address), address, port) });
        this.#tcp.push(listener);
      }
      for (const { address, port } of plan.https) {
        const listener = new DohListener({ engine, clock, isShared: true, tls: plan.certificate });
        https.push({ address, port: await atPlace(listener.open(port, address), address, port) });
        this.#https.push(listener);
      }
    }
    return { addresses, tls, https };
  }

  /** `isQuiet` tells when no reply is owed any more; it is waited for at most `drainMs`. */
  async drain(drainMs: number, isQuiet: () => boolean): Promise<void> {
    const deadlineMs = this.#clock.monotonicMs() + drainMs;
    const streams = [
      ...this.#tcp.map((listener) => listener.drain(drainMs)),
      ...this.#https.map((listener) => Promise.race([listener.drain(), this.#pause(drainMs)]).then(() => listener.destroy())),
    ];
    await Promise.all(this.#udp.map((listener) => listener.leave(drainQuietMs)));
    while (!isQuiet() && this.#clock.monotonicMs() < deadlineMs) await this.#pause(10);
    await Promise.all(this.#udp.map((listener) => listener.finish()));
    await Promise.all(streams);
  }

  /**
   * Beside a wildcard socket, one for each address of this machine: the kernel prefers them, and their replies carry the
   * address that was asked, which a wildcard socket on a host with several addresses does not ensure.
   */
  async #openEach(wildcard: string, port: number): Promise<void> {
    const family = isIPv6(wildcard) ? 'IPv6' : 'IPv4';
    for (const item of Object.values(networkInterfaces()).flat()) {
      if (item === undefined || item.family !== family || isLinkLocal(item.address)) continue;
      const udp = new UdpListener({ engine: this.#engine, clock: this.#clock, isShared: true, address: item.address });
      try {
        await udp.open(port, item.address);
        this.#udp.push(udp);
      } catch {
        await udp.finish();
      }
    }
  }

  #pause(delayMs: number): Promise<void> { return new Promise((resolve) => { this.#clock.after(delayMs, resolve, true); }); }

  async #openPair(wanted: ListenAddress, limits: Partial<TcpLimits>): Promise<ListenAddress> {
    const { address } = wanted;
    for (let tries = 1; ; tries++) {
      const udp = new UdpListener({ engine: this.#engine, clock: this.#clock, isShared: true, address });
      const tcp = new TcpListener({ engine: this.#engine, clock: this.#clock, isShared: true, limits });
      let port = wanted.port;
      try {
        if (port === 0) port = await freePort(address);
        await udp.open(port, address);
        await tcp.open(port, address);
        this.#udp.push(udp);
        this.#tcp.push(tcp);
        if (isUnspecified(address)) await this.#openEach(address, port);
        return { address, port };
      } catch (error) {
        await udp.finish();
        if (wanted.port !== 0 || tries >= portTriesMax) throw Object.assign(error as Error, { address, port });
      }
    }
  }
}

/**
 * A port that nobody has, for UDP and TCP alike. Asked for without sharing: for a shared socket the kernel may hand out a
 * port that another server of the same user already shares.
 */
async function freePort(address: string): Promise<number> {
  const server = createServer();
  const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4');
  try {
    await new Promise<void>((resolve, reject) => { server.once('error', reject); server.listen(0, address, resolve); });
    const { port } = server.address() as AddressInfo;
    await new Promise<void>((resolve, reject) => { socket.once('error', reject); socket.bind({ port, address, exclusive: true }, resolve); });
    return port;
  } finally {
    await new Promise<void>((resolve) => { socket.close(() => resolve()); });
    await new Promise<void>((resolve) => { server.close(() => resolve()); });
  }
}

async function atPlace(opening: Promise<number>, address: string, port: number): Promise<number> {
  try { return await opening; } catch (error) { throw Object.assign(error as Error, { address, port }); }
}
