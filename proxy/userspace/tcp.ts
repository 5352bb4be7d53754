// The TCP relay: one Pair per connection, two sockets, bytes passed on as they arrive.
//
//   accept → limits, source ranges → (PROXY header in) → pick → connect → relay both ways → half-closes → closed
//
// What keeps it cheap: connections are wires (wire.ts) that read into one buffer per thread, callbacks are methods and
// not closures, and time limits are swept, not timed one by one. Backpressure: a read whose write the kernel did not
// take at once stops its side until that write is done, so a pair holds at most one read buffer per direction.

import { noteFailure, noteSuccess } from '../balance.ts';
import { parseProxyHeader, proxyHeaderBytesMax, writeProxyHeader, type ProxyAddresses } from '../proxy-protocol.ts';
import type { Limits } from './limits.ts';
import type { ListenSpec } from './messages.ts';
import type { ServedPort, Target } from './port.ts';
import { resetHandle, type PeerName, type TcpHandle, type Wire, type WireFactory, type WireOwner } from './wire.ts';

export const tcpLimits = Object.freeze({
  connectMsSameHost: 250, connectMsRemote: 1_000, triesMax: 3, headerMs: 3_000,
  /** Connections to an endpoint that was removed are closed after this time. */
  removedMsMax: 300_000,
  /** Only connections that live this long get keep-alive: setting it costs, and short ones need none. */
  keepAliveAfterMs: 30_000, sweepMs: 50, slowSweepMs: 1_000,
});

export interface TcpContext { readonly limits: Limits; readonly wires: WireFactory; nowMs(): number; readonly random: () => number }

const noBytes = Buffer.alloc(0);
/** Up to this length, buffers for writing are kept by length and used again: nearly every write is done at once. */
const viewBytesMax = 2_048;
const views: (Buffer | undefined)[] = new Array<Buffer | undefined>(viewBytesMax).fill(undefined);

function takeView(count: number): Buffer {
  if (count >= viewBytesMax) return Buffer.allocUnsafeSlow(count);
  return views[count] ??= Buffer.allocUnsafeSlow(count);
}

/** One end of a pair: the source of one direction and the sink of the other. */
class Side implements WireOwner {
  readonly pair: Pair;
  readonly isDown: boolean;
  wire: Wire | undefined = undefined;
  peer: Side | undefined = undefined;
  /** The kernel has not taken the last write yet. */
  isWriting = false;
  /** The peer stopped reading because of that. */
  isPeerStopped = false;
  hasEnded = false;

  constructor(pair: Pair, isDown: boolean) {
    this.pair = pair;
    this.isDown = isDown;
  }

  onConnected(): void { this.pair.onConnected(); }

  /** Passes one read on. */
  onBytes(count: number): boolean {
    const { pair, peer } = this;
    const { context } = pair.engine;
    if (peer === undefined) {
      pair.onEarly(Buffer.from(context.wires.buffer.subarray(0, count)));
      return pair.target === undefined;
    }
    pair.hasTraffic = true;
    pair.port.countBytes(this.isDown, count);
    const bytes = takeView(count);
    context.wires.buffer.copy(bytes, 0, 0, count);
    peer.send(bytes);
    if (!peer.isWriting) return true;
    // The kernel still reads from it.
    if (count < viewBytesMax) views[count] = undefined;
    peer.isPeerStopped = true;
    return false;
  }

  onEnd(): void {
    this.hasEnded = true;
    this.pair.onEnded(this);
  }

  onWritten(): void {
    this.isWriting = false;
    if (this.isPeerStopped) {
      this.isPeerStopped = false;
      this.peer?.wire?.startReading();
    }
    if (this.hasEnded) this.pair.onEnded(this);
  }

  onFailed(code: string | undefined): void { this.pair.onFailed(this, code); }

  send(bytes: Buffer): void { this.isWriting = !(this.wire as Wire).write(bytes); }
}

export class TcpEngine {
  readonly context: TcpContext;
  readonly pairs = new Set<Pair>();
  /** Pairs that wait for a connect or a PROXY header. */
  readonly pending = new Set<Pair>();
  readonly #peerName: PeerName = { address: '', port: 0 };
  #sweptMs: number;
  #whenIdle: (() => void) | undefined;

  constructor(context: TcpContext) {
    this.context = context;
    this.#sweptMs = context.nowMs();
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
    // When this thread itself was held up, answers may be waiting to be read: that is not the endpoints' fault.
    const lateMs = nowMs - this.#sweptMs - tcpLimits.sweepMs;
    this.#sweptMs = nowMs;
    for (const pair of this.pending) {
      if (lateMs > tcpLimits.sweepMs) pair.deadlineMs += lateMs;
      if (nowMs >= pair.deadlineMs) pair.onDeadline();
    }
  }

  /** Every `slowSweepMs`: connections over their age, those of removed endpoints, and keep-alive for those that stay. */
  sweepOld(): void {
    const nowMs = this.context.nowMs();
    for (const pair of this.pairs) {
      if (!pair.isKeptAlive && nowMs - pair.startedMs >= tcpLimits.keepAliveAfterMs) pair.keepAlive();
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
  /** A byte went to or came from the present endpoint: no other may be tried any more. */
  hasTraffic = false;
  /** Where the connection came from; `ip` is what limits count. */
  readonly ip: string;
  clientIP: string;
  clientPort: number;
  /** Of the present connect. */
  startedMs = 0;
  isKeptAlive = false;
  #isClosed = false;
  #isConnected = false;
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
    this.down = new Side(this, true);
    this.down.wire = engine.context.wires.accept(handle, this.down);
    const ageMs = port.spec.connectionAgeMsMax;
    if (ageMs > 0) this.expiresMs = engine.context.nowMs() + ageMs * (0.95 + engine.context.random() * 0.1);
  }

  awaitHeader(): void {
    this.#header = Buffer.alloc(0);
    this.deadlineMs = this.engine.context.nowMs() + tcpLimits.headerMs;
    this.engine.pending.add(this);
    this.down.wire?.startReading();
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
    this.startedMs = nowMs;
    this.deadlineMs = nowMs + (target.isSameHost ? tcpLimits.connectMsSameHost : tcpLimits.connectMsRemote);
    engine.pending.add(this);
    this.up = new Side(this, false);
    this.up.peer = this.down;
    this.up.wire = engine.context.wires.connect(target.ip, target.port, this.up);
  }

  onConnected(): void {
    const { engine, down, up, target } = this;
    if (up === undefined || target === undefined) return;
    engine.pending.delete(this);
    noteSuccess(target, engine.context.nowMs() - this.startedMs);
    this.#isConnected = true;
    down.peer = up;
    const version = this.port.spec.proxyProtocolOut;
    const first = version === 0 ? noBytes : this.#proxyHeader(version);
    const early = this.#early ?? noBytes;
    this.#early = undefined;
    if (early.length > 0) this.hasTraffic = true;
    if (first.length + early.length > 0) up.send(Buffer.concat([first, early]));
    if (down.hasEnded) up.wire?.end();
    up.wire?.startReading();
    if (up.isWriting) up.isPeerStopped = true;
    else if (!down.hasEnded) down.wire?.startReading();
  }

  #proxyHeader(version: 1 | 2): Buffer {
    const local = this.down.wire?.localName();
    return writeProxyHeader(version, this.#addresses ?? { sourceIP: this.clientIP, sourcePort: this.clientPort, destinationIP: local?.address ?? '', destinationPort: local?.port ?? 0 });
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
    up.wire?.close();
    if (code === 'EMFILE' || code === 'ENFILE' || code === 'EADDRNOTAVAIL') { this.engine.pending.delete(this); port.count('refused'); this.abort(); return; }
    noteFailure(target, this.engine.context.nowMs());
    port.count('connectFailed');
    (this.tried ??= []).push(target);
    if (this.tried.length >= tcpLimits.triesMax) { this.engine.pending.delete(this); this.abort(); return; }
    port.count('retried');
    this.connect();
  }

  /** A side sends no more: its peer is told, and when both have ended and everything is written, both are closed. */
  onEnded(side: Side): void {
    const { peer } = side;
    if (peer === undefined) { if (this.#header !== undefined) this.abort(); return; }
    if (!peer.hasEnded) peer.wire?.end();
    else if (!side.isWriting && !peer.isWriting) this.finish();
  }

  onFailed(side: Side, code: string | undefined): void {
    if (side === this.up && (!this.#isConnected || this.#mayRetry())) this.onConnectFailed(code);
    else this.abort();
  }

  /** An endpoint that took the connection and reset it before anything was said is as good as one that refused it. */
  #mayRetry(): boolean {
    if (this.hasTraffic || this.up?.hasEnded === true) return false;
    this.#isConnected = false;
    this.down.peer = undefined;
    return true;
  }

  keepAlive(): void {
    if (!this.#isConnected) return;
    this.isKeptAlive = true;
    this.down.wire?.keepAlive();
    this.up?.wire?.keepAlive();
  }

  /** Closes both ends in order. */
  finish(): void {
    if (this.#isClosed) return;
    this.down.wire?.close();
    this.up?.wire?.close();
    this.#close();
  }

  /** Resets whatever is still open. */
  abort(): void {
    if (this.#isClosed) return;
    this.port.count('reset');
    this.down.wire?.reset();
    this.up?.wire?.reset();
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
