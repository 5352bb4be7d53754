// UDP listener on dns2's server class: its socket and life cycle are used, its packet handling is replaced by ours, for
// its decoder costs as much as everything else together and can be stalled by one packet. Several listeners may share a
// port (`reusePort`). The `lookup` given to the socket answers at once: dgram would otherwise put every reply to a
// literal address through the resolver queue, about a fifth of the cost of a query.
// Called by dns/worker.ts. The only file that imports dns2.

import type { RemoteInfo, SocketOptions } from 'node:dgram';
import { createRequire } from 'node:module';
import { isIPv6 } from 'node:net';
import { join } from 'node:path';
import type * as Dns2 from 'dns2';
import { isUnspecified } from '../../api/address.ts';
import type { Clock } from '../../api/clock.ts';
import type { Engine, Origin } from '../engine/engine.ts';

const load = createRequire(import.meta.url);
/** Taken from its own file: the package's main file also loads its HTTP servers and clients (4 MB, 35 ms in this thread). */
const UDPServer = load(join(load.resolve('dns2'), '../server/udp.js')) as typeof Dns2.UDPServer;

/** Replaces the asynchronous name look-up of dgram: every address here is literal. */
function literalLookup(address: string, ...rest: unknown[]): void {
  const callback = rest.at(-1) as (error: null, address: string, family: number) => void;
  callback(null, address, address.includes(':') ? 6 : 4);
}

class Origins implements Origin {
  readonly transport = 'udp';
  address = '';
  port = 0;
  readonly #server: UdpListener;

  constructor(server: UdpListener) { this.#server = server; }

  reply(bytes: Buffer): void { this.#server.sendTo(bytes, this.port, this.address); }

  hold(): Origin {
    const copy = new Origins(this.#server);
    copy.address = this.address;
    copy.port = this.port;
    return copy;
  }
}

export interface UdpListenerOptions { engine: Engine; clock: Clock; isShared: boolean; address: string }

const discardPort = 9;
/** Receive buffer asked of the kernel: a burst of some 4,000 queries waits instead of being lost. */
const receiveBufferBytes = 4 * 1024 * 1024;

export class UdpListener extends UDPServer {
  readonly #engine: Engine;
  readonly #origin: Origins;
  readonly #clock: Clock;
  #isDraining = false;
  #isClosed = true;
  #hasFinished = false;
  #packetCount = 0;
  sendErrorCount = 0;

  constructor(options: UdpListenerOptions) {
    const type: SocketOptions = { type: isIPv6(options.address) ? 'udp6' : 'udp4', reusePort: options.isShared, lookup: literalLookup as never };
    super({ type: type as never });
    this.#engine = options.engine;
    this.#clock = options.clock;
    this.#origin = new Origins(this);
    // Errors of single sends (unreachable, no buffer) must never end the thread.
    (this as NodeJS.EventEmitter).on('error', () => { this.sendErrorCount += 1; });
  }

  override handle(data: Buffer, rinfo: RemoteInfo): void {
    this.#packetCount += 1;
    if (rinfo.port === 0) return;
    const origin = this.#origin;
    origin.address = rinfo.address;
    origin.port = rinfo.port;
    const reply = this.#engine.handle(data, origin);
    if (reply !== undefined) this.sendTo(reply, rinfo.port, rinfo.address);
  }

  sendTo(bytes: Buffer, port: number, address: string): void {
    if (this.#isClosed) return;
    try {
      if (!this.#isDraining) this.send(bytes, port, address);
      else this.#sendConnected(bytes, port, address);
    } catch {
      this.sendErrorCount += 1;
    }
  }

  /** Binds; resolves with the bound port, rejects with the system error. */
  open(port: number, address: string): Promise<number> {
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    this.once('error', reject);
    this.bind({ port, address }, () => {
      (this as NodeJS.EventEmitter).off('error', reject);
      this.#isClosed = false;
      try { this.setRecvBufferSize(receiveBufferBytes); } catch { this.sendErrorCount += 1; }
      resolve(this.address().port);
    });
    return promise;
  }

  /**
   * Leaves the port without losing a query: connecting the socket takes it out of the reuse-port group, so that new
   * queries go to the successor, while those already queued here are still read and answered. Resolves when the queue
   * is empty; replies that are still owed can be sent until `finish`.
   */
  async leave(quietMs: number): Promise<void> {
    if (this.#isClosed || this.#isDraining) return;
    this.#isDraining = true;
    this.#park();
    let seen = -1;
    while (seen !== this.#packetCount) {
      seen = this.#packetCount;
      await new Promise<void>((resolve) => { this.#clock.after(quietMs, resolve, true); });
    }
  }

  async finish(): Promise<void> {
    if (this.#hasFinished) return;
    this.#hasFinished = true;
    this.#isClosed = true;
    await new Promise<void>((resolve) => { this.close(() => resolve()); });
  }

  /** Connects to a peer that never sends: the discard port of the very address it listens on. */
  #park(): void {
    const own = this.address().address;
    this.connect(discardPort, isUnspecified(own) ? (isIPv6(own) ? '::1' : '127.0.0.1') : own);
  }

  #sendConnected(bytes: Buffer, port: number, address: string): void {
    this.disconnect();
    this.connect(port, address);
    this.send(bytes);
    this.disconnect();
    this.#park();
  }
}
