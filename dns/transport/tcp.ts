// DNS over TCP and TLS (RFC 7766, RFC 7858): two-octet frames however the bytes are cut, pipelined queries, replies in
// whatever order they become ready, the client may close its half first. Everything is bounded: connections in all and
// per source, queries in flight per connection, time to the first octet, idle time, unsent output.
// Called by dns/worker.ts; hands each frame to dns/engine/engine.ts.

import { createServer, type Server, type Socket } from 'node:net';
import type { Clock, TimerHandle } from '../../api/clock.ts';
import { cells } from '../counters.ts';
import type { Engine, Origin, Transport } from '../engine/engine.ts';

export interface TcpLimits {
  connectionsMax: number;
  connectionsPerSourceMax: number;
  /** Queries of one connection that wait for an answer. */
  pipelineMax: number;
  firstByteTimeoutMs: number;
  idleTimeoutMs: number;
  /** Unsent reply octets of one connection; beyond it reading stops. */
  outputBytesMax: number;
}

export const tcpLimits: TcpLimits = Object.freeze({
  connectionsMax: 500, connectionsPerSourceMax: 16, pipelineMax: 100, firstByteTimeoutMs: 2_000, idleTimeoutMs: 10_000, outputBytesMax: 256 * 1024,
});

export interface TcpListenerOptions {
  engine: Engine; clock: Clock; isShared: boolean; limits?: Partial<TcpLimits>;
  /** PEM pair: DNS over TLS instead of plain TCP. */
  tls?: { certPem: string; keyPem: string } | undefined;
}

export class TcpListener {
  readonly #engine: Engine;
  readonly #clock: Clock;
  readonly #limits: TcpLimits;
  readonly #isShared: boolean;
  readonly #server: Server;
  readonly #transport: Transport;
  readonly #connections = new Set<Connection>();
  readonly #bySource = new Map<string, Set<Connection>>();
  rejectedCount = 0;

  constructor(options: TcpListenerOptions) {
    this.#engine = options.engine;
    this.#clock = options.clock;
    this.#limits = { ...tcpLimits, ...options.limits };
    this.#isShared = options.isShared;
    this.#transport = options.tls === undefined ? 'tcp' : 'tls';
    const accept = (socket: Socket): void => this.#accept(socket);
    this.#server = options.tls === undefined
      ? createServer({ allowHalfOpen: true, noDelay: true }, accept)
      : process.getBuiltinModule('node:tls').createServer({ cert: options.tls.certPem, key: options.tls.keyPem, minVersion: 'TLSv1.2', ALPNProtocols: ['dot'], allowHalfOpen: true, handshakeTimeout: 5_000 }, accept);
    // Node reports a handshake that took too long and leaves the socket open.
    this.#server.on('tlsClientError', (_error: Error, socket: Socket) => { this.rejectedCount += 1; socket.destroy(); });
  }

  get connectionCount(): number { return this.#connections.size; }

  /** Listens; resolves with the bound port, rejects with the system error. */
  open(port: number, address: string): Promise<number> {
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    this.#server.once('error', reject);
    this.#server.listen({ port, host: address, reusePort: this.#isShared, backlog: 511 }, () => {
      this.#server.off('error', reject);
      this.#server.on('error', () => { this.rejectedCount += 1; });
      const bound = this.#server.address();
      resolve(typeof bound === 'object' && bound !== null ? bound.port : port);
    });
    return promise;
  }

  /** Accepts nothing more, lets queries in flight finish for up to `drainMs`, then closes every connection. */
  async drain(drainMs: number): Promise<void> {
    const closed = new Promise<void>((resolve) => { this.#server.close(() => resolve()); });
    for (const connection of this.#connections) connection.finish();
    const timer = this.#clock.after(drainMs, () => { for (const connection of this.#connections) connection.destroy(); }, true);
    await closed;
    timer.cancel();
  }

  #accept(socket: Socket): void {
    const source = socket.remoteAddress ?? '';
    const siblings = this.#bySource.get(source) ?? new Set<Connection>();
    const isFull = this.#connections.size >= this.#limits.connectionsMax || siblings.size >= this.#limits.connectionsPerSourceMax;
    // A connection that waits for nothing makes room for a new one (RFC 7766 §6.2.3), a source's own one first.
    if (isFull && !evictIdlest(siblings.size >= this.#limits.connectionsPerSourceMax ? siblings : this.#connections)) {
      this.rejectedCount += 1;
      this.#engine.counters.add(cells.connectionsRefused);
      socket.destroy();
      return;
    }
    const connection = new Connection(socket, this.#transport, this.#engine, this.#clock, this.#limits);
    this.#connections.add(connection);
    siblings.add(connection);
    this.#bySource.set(source, siblings);
    socket.on('close', () => {
      connection.close();
      this.#connections.delete(connection);
      siblings.delete(connection);
      if (siblings.size === 0 && this.#bySource.get(source) === siblings) this.#bySource.delete(source);
    });
  }
}

/** Closes the connection that has been idle longest; false when all of them wait for an answer. O(connections). */
function evictIdlest(connections: Iterable<Connection>): boolean {
  let idlest: Connection | undefined;
  for (const connection of connections) {
    if (connection.isIdle && (idlest === undefined || connection.lastReadMs < idlest.lastReadMs)) idlest = connection;
  }
  idlest?.destroy();
  return idlest !== undefined;
}

/** Pieces of an unfinished frame kept apart before they are joined, so that single octets cost no quadratic copying. */
const piecesMax = 64;
const outputPollMs = 5;

class Connection implements Origin {
  readonly transport: Transport;
  readonly address: string;
  readonly port: number;
  readonly #socket: Socket;
  readonly #engine: Engine;
  readonly #clock: Clock;
  readonly #limits: TcpLimits;
  #pieces: Buffer[] = [];
  #pieceBytes = 0;
  /** Octets that must have arrived before the next frame is whole. */
  #neededBytes = 2;
  readonly #output: Buffer[] = [];
  #inFlight = 0;
  lastReadMs: number;
  #hasRead = false;
  #hasEnded = false;
  #isClosed = false;
  #timer: TimerHandle | undefined;

  constructor(socket: Socket, transport: Transport, engine: Engine, clock: Clock, limits: TcpLimits) {
    this.#socket = socket;
    this.transport = transport;
    this.address = socket.remoteAddress ?? '';
    this.port = socket.remotePort ?? 0;
    this.#engine = engine;
    this.#clock = clock;
    this.#limits = limits;
    this.lastReadMs = clock.monotonicMs();
    this.#arm(limits.firstByteTimeoutMs);
    socket.on('error', () => socket.destroy());
    socket.on('data', (chunk: Buffer) => this.#read(chunk));
    socket.on('end', () => { this.#hasEnded = true; this.#endWhenIdle(); });
    socket.on('drain', () => this.#continue());
  }

  /** Nothing is owed and nothing is being torn down. */
  get isIdle(): boolean { return this.#inFlight === 0 && !this.#isClosed; }

  /** One reply will come later. */
  hold(): Origin {
    this.#inFlight += 1;
    return this;
  }

  /** One of several messages; true when the client has taken enough to go on, false when it is gone or stalls. */
  async more(bytes: Buffer): Promise<boolean> {
    this.#queue(bytes);
    this.#flush();
    const deadlineMs = this.#clock.monotonicMs() + this.#limits.idleTimeoutMs;
    while (!this.#isClosed && this.#socket.writableLength > this.#limits.outputBytesMax) {
      if (this.#clock.monotonicMs() > deadlineMs) this.destroy();
      else await new Promise<void>((resolve) => { this.#clock.after(outputPollMs, resolve); });
    }
    await new Promise<void>((resolve) => { setImmediate(resolve); });
    return !this.#isClosed;
  }

  /** A reply that was held: sent as it becomes ready, whatever the order of the queries. */
  reply(bytes: Buffer): void {
    this.#inFlight -= 1;
    this.#queue(bytes);
    this.#flush();
    this.#endWhenIdle();
    this.#continue();
  }

  /** Half-closes once nothing is in flight. */
  finish(): void {
    this.#hasEnded = true;
    this.#endWhenIdle();
  }

  destroy(): void {
    this.#isClosed = true;
    this.#socket.destroy();
  }

  close(): void {
    this.#isClosed = true;
    this.#timer?.cancel();
  }

  /** One timer per connection; it looks at the time of the last read when it fires instead of being moved by each. */
  #arm(delayMs: number): void {
    this.#timer = this.#clock.after(delayMs, () => {
      const limitMs = this.#hasRead ? this.#limits.idleTimeoutMs : this.#limits.firstByteTimeoutMs;
      const leftMs = limitMs - (this.#clock.monotonicMs() - this.lastReadMs);
      if (leftMs > 0 || this.#inFlight > 0) this.#arm(Math.max(leftMs, 100));
      else this.#socket.destroy();
    });
  }

  #read(chunk: Buffer): void {
    this.lastReadMs = this.#clock.monotonicMs();
    this.#hasRead = true;
    this.#pieces.push(chunk);
    this.#pieceBytes += chunk.length;
    if (this.#pieceBytes >= this.#neededBytes) this.#parseFrames();
    else if (this.#pieces.length > piecesMax) this.#pieces = [Buffer.concat(this.#pieces)];
  }

  #continue(): void {
    if (this.#isClosed || !this.#socket.isPaused() || !this.#mayRead()) return;
    this.#parseFrames();
    if (this.#mayRead()) this.#socket.resume();
  }

  #mayRead(): boolean { return this.#inFlight < this.#limits.pipelineMax && this.#socket.writableLength < this.#limits.outputBytesMax; }

  #parseFrames(): void {
    const bytes = this.#pieces.length === 1 ? (this.#pieces[0] as Buffer) : Buffer.concat(this.#pieces);
    let position = 0;
    this.#neededBytes = 2;
    while (bytes.length - position >= 2) {
      if (!this.#mayRead()) { this.#socket.pause(); break; }
      const size = ((bytes[position] ?? 0) << 8) | (bytes[position + 1] ?? 0);
      // Shorter than a header: the stream is out of step, nothing after it can be trusted.
      if (size < 12) { this.#flush(); this.#socket.destroy(); return; }
      if (bytes.length - position - 2 < size) { this.#neededBytes = size + 2; break; }
      const reply = this.#engine.handle(bytes.subarray(position + 2, position + 2 + size), this);
      if (reply !== undefined) this.#queue(reply);
      position += 2 + size;
    }
    this.#flush();
    this.#pieces = position === bytes.length ? [] : [position === 0 ? bytes : Buffer.from(bytes.subarray(position))];
    this.#pieceBytes = bytes.length - position;
    this.#endWhenIdle();
  }

  #queue(bytes: Buffer): void {
    const prefix = Buffer.allocUnsafe(2);
    prefix[0] = bytes.length >> 8;
    prefix[1] = bytes.length & 255;
    this.#output.push(prefix, bytes);
  }

  /** All replies made from one chunk leave in one write. */
  #flush(): void {
    if (this.#output.length === 0) return;
    if (!this.#isClosed && this.#socket.writable) this.#socket.write(Buffer.concat(this.#output));
    this.#output.length = 0;
  }

  #endWhenIdle(): void {
    if (this.#hasEnded && this.#inFlight <= 0 && !this.#isClosed) this.#socket.end();
  }
}
