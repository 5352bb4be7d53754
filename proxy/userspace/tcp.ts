// The TCP relay: one Pair per connection, two sockets, bytes passed on as they arrive.
//
//   accept → limits, source ranges → (PROXY header in) → pick → connect → relay both ways → half-closes → closed
//
// What keeps it cheap: sockets are built straight from the accepted handle and read into one buffer per thread
// (`onread`), writes go to `_write`, past the queue of the stream (there is never more than one write on the way), all
// callbacks are shared functions that find their Side on the socket, and time limits are swept, not timed one by one.
// Backpressure: a read whose write the kernel did not take at once stops its side until that write is done, so a pair
// holds at most one read buffer per direction.

import net from 'node:net';
import { noteFailure, noteSuccess } from '../balance.ts';
import { parseProxyHeader, proxyHeaderBytesMax, writeProxyHeader, type ProxyAddresses } from '../proxy-protocol.ts';
import type { Limits } from './limits.ts';
import type { ListenSpec } from './messages.ts';
import type { ServedPort, Target } from './port.ts';

/** Handle of an accepted connection, as net gives it to `onconnection`. */
export interface TcpHandle {
  getpeername(out: PeerName): number;
  setNoDelay(isOn: boolean): number;
  close(): void;
  reset?(done: () => void): number;
}
export interface PeerName { address: string; port: number; family?: string }

export const tcpLimits = Object.freeze({
  connectMsSameHost: 250, connectMsRemote: 1_000, triesMax: 3, headerMs: 3_000,
  /** Connections to an endpoint that was removed are closed after this time. */
  removedMsMax: 300_000, readBytes: 65_536, sweepMs: 50, slowSweepMs: 1_000,
});

export interface TcpContext { readonly limits: Limits; nowMs(): number; readonly random: () => number }

type RelaySocket = net.Socket & { side: Side };
const noop = (): void => {};
/** What the stream machinery itself passes along with Buffers. */
const bufferEncoding = 'buffer' as BufferEncoding;

/** One direction's source and the other's sink. */
class Side {
  readonly pair: Pair;
  readonly isDown: boolean;
  socket: RelaySocket;
  peer: Side | undefined = undefined;
  /** The kernel has not taken the last write yet. */
  isWriting = false;
  /** The peer stopped reading because of that. */
  isPeerStopped = false;
  hasEnded = false;
  readonly onWritten: (error?: Error | null) => void;

  constructor(pair: Pair, isDown: boolean, socket: RelaySocket) {
    this.pair = pair;
    this.isDown = isDown;
    this.socket = socket;
    socket.side = this;
    this.onWritten = (error) => {
      this.isWriting = false;
      if (error !== undefined && error !== null) this.pair.abort();
      else if (this.isPeerStopped) {
        this.isPeerStopped = false;
        this.peer?.socket.resume();
      }
    };
  }
}

export class TcpEngine {
  readonly context: TcpContext;
  readonly pairs = new Set<Pair>();
  /** Pairs that wait for a connect or a PROXY header. */
  readonly pending = new Set<Pair>();
  readonly buffer: Buffer = Buffer.allocUnsafeSlow(tcpLimits.readBytes);
  readonly onread: net.OnReadOpts;
  readonly #peerName: PeerName = { address: '', port: 0 };
  #whenIdle: (() => void) | undefined;

  constructor(context: TcpContext) {
    this.context = context;
    this.onread = { buffer: this.buffer, callback: onRead as (bytes: number, buffer: Uint8Array) => boolean };
  }

  /** Takes one accepted handle. Refusals are resets: the client sees that nothing was served. */
  accept(handle: TcpHandle, port: ServedPort, listener: ListenSpec, isAllowed: (ip: string) => boolean, mayExpectHeader: (ip: string) => boolean): void {
    const name = this.#peerName;
    if (handle.getpeername(name) !== 0) { handle.close(); return; }
    const ip = name.address;
    if (!isAllowed(ip) || !this.context.limits.enter(ip)) { port.count('refused'); resetHandle(handle); return; }
    handle.setNoDelay(true);
    port.count('accepted');
    port.count('active');
    const pair = new Pair(this, port, listener, handle, ip, name.port);
    this.pairs.add(pair);
    if (mayExpectHeader(ip)) pair.awaitHeader();
    else pair.connect();
  }

  /** Every `sweepMs`: connects and headers that take too long. */
  sweepPending(): void {
    const nowMs = this.context.nowMs();
    for (const pair of this.pending) if (nowMs >= pair.deadlineMs) pair.onDeadline();
  }

  /** Every `slowSweepMs`: connections over their age, and those of removed endpoints. */
  sweepOld(): void {
    const nowMs = this.context.nowMs();
    for (const pair of this.pairs) {
      if (nowMs >= pair.expiresMs) pair.finish();
      else if (pair.target?.removedAtMs !== undefined && nowMs - pair.target.removedAtMs >= tcpLimits.removedMsMax) pair.finish();
    }
  }

  forget(pair: Pair): void {
    this.pairs.delete(pair);
    if (this.pairs.size === 0) this.#whenIdle?.();
  }

  /** Waits up to `drainMs` for open connections, then resets what is left. */
  async close(drainMs: number, after: (delayMs: number, callback: () => void) => void): Promise<void> {
    if (this.pairs.size > 0 && drainMs > 0) await new Promise<void>((resolve) => { this.#whenIdle = resolve; after(drainMs, resolve); });
    for (const pair of [...this.pairs]) pair.abort();
  }
}

export class Pair {
  readonly engine: TcpEngine;
  readonly port: ServedPort;
  readonly listener: ListenSpec;
  readonly down: Side;
  up: Side | undefined;
  target: Target | undefined;
  tried: Target[] | undefined;
  deadlineMs = 0;
  expiresMs = Infinity;
  /** Where the connection came from; `ip` is what limits count. */
  readonly ip: string;
  clientIP: string;
  clientPort: number;
  #startedMs = 0;
  #isClosed = false;
  #isConnected = false;
  #hasRead = false;
  #header: Buffer | undefined;
  #early: Buffer | undefined;
  #addresses: ProxyAddresses | undefined;

  constructor(engine: TcpEngine, port: ServedPort, listener: ListenSpec, handle: TcpHandle, ip: string, peerPort: number) {
    this.engine = engine;
    this.port = port;
    this.listener = listener;
    this.ip = ip;
    this.clientIP = ip;
    this.clientPort = peerPort;
    this.up = undefined;
    const socket = new net.Socket({ handle, allowHalfOpen: true, manualStart: true, onread: engine.onread } as unknown as net.SocketConstructorOpts) as RelaySocket;
    this.down = new Side(this, true, socket);
    listen(socket);
    const ageMs = port.spec.connectionAgeMsMax;
    if (ageMs > 0) this.expiresMs = engine.context.nowMs() + ageMs * (0.95 + engine.context.random() * 0.1);
  }

  awaitHeader(): void {
    this.#header = Buffer.alloc(0);
    this.#hasRead = true;
    this.deadlineMs = this.engine.context.nowMs() + tcpLimits.headerMs;
    this.engine.pending.add(this);
    this.down.socket.read(0);
  }

  /** Bytes of the client before the endpoint is connected: only a PROXY header is waited for. */
  onEarly(bytes: Buffer): void {
    if (this.#header === undefined) { this.#early = this.#early === undefined ? bytes : Buffer.concat([this.#early, bytes]); return; }
    this.#header = Buffer.concat([this.#header, bytes]);
    const result = parseProxyHeader(this.#header);
    if (result.kind === 'need' && this.#header.length < proxyHeaderBytesMax) return;
    if (result.kind !== 'done') { this.port.count('refused'); this.abort(); return; }
    if (result.addresses !== undefined) {
      this.#addresses = result.addresses;
      this.clientIP = result.addresses.sourceIP;
      this.clientPort = result.addresses.sourcePort;
    }
    if (this.#header.length > result.length) this.#early = this.#header.subarray(result.length);
    this.#header = undefined;
    this.connect();
  }

  /** Picks an endpoint and connects; again after a failure, up to `triesMax` endpoints. */
  connect(): void {
    const { engine, port } = this;
    const nowMs = engine.context.nowMs();
    const target = port.pick(port.candidates(this.listener, this.clientIP), this.clientIP, this.tried, nowMs);
    if (target === undefined) { engine.pending.delete(this); port.count('refused'); this.abort(); return; }
    this.target = target;
    target.outstanding += 1;
    this.#startedMs = nowMs;
    this.deadlineMs = nowMs + (target.isSameHost ? tcpLimits.connectMsSameHost : tcpLimits.connectMsRemote);
    engine.pending.add(this);
    const socket = new net.Socket({ allowHalfOpen: true, noDelay: true, onread: engine.onread } as unknown as net.SocketConstructorOpts) as RelaySocket;
    this.up = new Side(this, false, socket);
    this.up.peer = this.down;
    listen(socket);
    socket.on('connect', onConnect);
    socket.connect({ host: target.ip, port: target.port });
  }

  onConnected(): void {
    const { engine, down, up, target } = this;
    if (up === undefined || target === undefined) return;
    engine.pending.delete(this);
    noteSuccess(target, engine.context.nowMs() - this.#startedMs);
    this.#isConnected = true;
    down.peer = up;
    const version = this.port.spec.proxyProtocolOut;
    const first = version === 0 ? undefined : writeProxyHeader(version, this.#addresses ?? {
      sourceIP: this.clientIP, sourcePort: this.clientPort, destinationIP: down.socket.localAddress ?? '', destinationPort: down.socket.localPort ?? 0,
    });
    const early = this.#early;
    this.#early = undefined;
    if (first !== undefined || early !== undefined) write(up, Buffer.concat([first ?? Buffer.alloc(0), early ?? Buffer.alloc(0)]));
    if (down.hasEnded) up.socket.end();
    else if (up.isWriting) up.isPeerStopped = true;
    else if (this.#hasRead) down.socket.resume();
    else down.socket.read(0);
  }

  onDeadline(): void {
    if (this.up === undefined) { this.engine.pending.delete(this); this.port.count('refused'); this.abort(); return; }
    this.onConnectFailed(undefined);
  }

  /** Also the answer to an exhausted file table: the error says so, and no other endpoint is tried. */
  onConnectFailed(code: string | undefined): void {
    const { target, up, port } = this;
    if (target === undefined || up === undefined) return;
    target.outstanding -= 1;
    this.up = undefined;
    this.target = undefined;
    up.socket.removeAllListeners();
    up.socket.on('error', noop);
    up.socket.destroy();
    if (code === 'EMFILE' || code === 'ENFILE' || code === 'EADDRNOTAVAIL') { this.engine.pending.delete(this); port.count('refused'); this.abort(); return; }
    noteFailure(target, this.engine.context.nowMs());
    port.count('connectFailed');
    (this.tried ??= []).push(target);
    if (this.tried.length >= tcpLimits.triesMax) { this.engine.pending.delete(this); this.abort(); return; }
    port.count('retried');
    this.connect();
  }

  onSideEnded(side: Side): void {
    side.hasEnded = true;
    side.peer?.socket.end();
  }

  onSideFailed(side: Side, code: string | undefined): void {
    if (side === this.up && !this.#isConnected) this.onConnectFailed(code);
    else this.abort();
  }

  onSideClosed(side: Side): void {
    if (side === this.up && !this.#isConnected) { this.onConnectFailed(undefined); return; }
    const other = side === this.down ? this.up : this.down;
    if (other === undefined || other.socket.destroyed) this.#close();
    else if (!side.hasEnded || !other.hasEnded) this.abort();
  }

  /** Ends both sides in order (age limit, drain). */
  finish(): void {
    this.expiresMs = Infinity;
    this.down.socket.destroySoon();
    this.up?.socket.destroySoon();
  }

  /** Resets whatever is still open. */
  abort(): void {
    if (this.#isClosed) return;
    this.port.count('reset');
    resetSocket(this.down.socket);
    if (this.up !== undefined) resetSocket(this.up.socket);
    this.#close();
  }

  #close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.engine.pending.delete(this);
    if (this.target !== undefined) this.target.outstanding -= 1;
    this.port.count('active', -1);
    this.engine.context.limits.leave(this.ip);
    this.engine.forget(this);
  }
}

function listen(socket: RelaySocket): void {
  socket.on('end', onEnd);
  socket.on('error', onError);
  socket.on('close', onClose);
}

/** Passes one read on. False stops reading until the write is done. */
function onRead(this: RelaySocket, count: number, buffer: Buffer): boolean {
  const { side } = this;
  const { pair, peer } = side;
  const bytes = Buffer.allocUnsafe(count);
  buffer.copy(bytes, 0, 0, count);
  if (peer === undefined) { pair.onEarly(bytes); return pair.target === undefined; }
  pair.port.count(side.isDown ? 'bytesIn' : 'bytesOut', count);
  if (peer.socket.destroyed) return false;
  write(peer, bytes);
  if (!peer.isWriting) return true;
  peer.isPeerStopped = true;
  return false;
}

function write(side: Side, bytes: Buffer): void {
  side.isWriting = true;
  side.socket._write(bytes, bufferEncoding, side.onWritten);
}

function onConnect(this: RelaySocket): void { this.side.pair.onConnected(); }
function onEnd(this: RelaySocket): void { this.side.pair.onSideEnded(this.side); }
function onError(this: RelaySocket, error: NodeJS.ErrnoException): void { this.side.pair.onSideFailed(this.side, error.code); }
function onClose(this: RelaySocket): void { this.side.pair.onSideClosed(this.side); }

function resetSocket(socket: RelaySocket): void {
  if (socket.destroyed) return;
  if (socket.connecting) socket.destroy(); else socket.resetAndDestroy();
}

function resetHandle(handle: TcpHandle): void {
  if (handle.reset === undefined || handle.reset(noop) !== 0) handle.close();
}
