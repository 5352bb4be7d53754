// One HTTP/1.x connection of a client: reads heads strictly, bodies by their framing, one request at a time in order
// (later pipelined bytes wait), and writes answers with its own framing. Called by engine.ts for each accepted socket
// (plain, or TLS with http/1.1). Deadlines: whole head, body idle, keep-alive idle, write stall; a half-closed client
// still gets an answer that comes soon.

import type net from 'node:net';
import { chunkDone, ChunkDecoder, chunkFault } from './message/chunks.ts';
import { Deadline } from './deadlines.ts';
import type { HttpEngine, PeerInfo } from './engine.ts';
import { Exchange, noHead, type Downstream, type Upstream } from './exchange.ts';
import { bodyLength, bodyNone, bodyUnknown } from './message/framing.ts';
import { headComplete, needMore, parseRequestHead } from './message/request-head.ts';
import { runTunnel } from './tunnel.ts';

const stateHead = 0, stateBody = 1, stateWait = 2, stateTunnel = 3, stateLinger = 4, stateClosed = 5;

/** Pipelined bytes held while an answer is under way; beyond, reading stops. */
const heldBytesMax = 65_536;
/** Answers up to this size go out as one string with their head. */
const smallBodyBytes = 4_096;
const http2Preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
const lingerMs = 2_000;
const halfCloseGraceMs = 500;

export class DownstreamH1 implements Downstream {
  version = 1;
  /** Takes over when the client's first bytes are the HTTP/2 preface. */
  onPreface: ((bytes: Buffer) => void) | undefined = undefined;
  readonly socket: net.Socket;
  readonly localPort: number;
  readonly #engine: HttpEngine;
  readonly #exchange: Exchange;
  readonly #peer: PeerInfo;
  readonly #deadline: Deadline;
  #decoder: ChunkDecoder | undefined;
  #state = stateHead;
  #held: Buffer | undefined;
  #isHeadBegun = false;
  #remaining = 0;
  #isChunkedBody = false;
  #mayKeep = true;
  #isChunkedAnswer = false;
  #requestCount = 0;
  #hasEnded = false;
  #isPaused = false;
  #isStalled = false;
  #lastHostText = '';
  #isFeeding = false;
  #onTunnelBytes: ((bytes: Buffer) => void) | undefined;

  constructor(engine: HttpEngine, socket: net.Socket, peer: PeerInfo) {
    this.#engine = engine;
    this.socket = socket;
    this.#peer = peer;
    this.localPort = peer.localPort;
    this.#exchange = new Exchange(engine, this, peer);
    this.#deadline = new Deadline(this);
    engine.deadlines.start(this.#deadline, engine.timeouts.headMs, engine.nowMs());
  }

  /** Whether no request is under way: such a connection closes at once on drain. */
  get isIdle(): boolean { return this.#state === stateHead && !this.#isHeadBegun; }
  get isTunnel(): boolean { return this.#state === stateTunnel; }

  /** Takes bytes of a shared buffer, valid during the call only. The usual case, one whole head without a body, copies nothing. */
  onShared(bytes: Buffer, count: number): boolean {
    if (this.#state === stateHead && this.#held === undefined) {
      const head = this.#engine.scratchHead;
      const result = parseRequestHead(bytes, 0, count, head, this.#engine.headLimits, this.#peer.isTrusted);
      if (result === headComplete && head.end === count && !head.isChunked && head.contentLength <= 0) {
        this.#isHeadBegun = false;
        this.#takeRequest(bytes, count);
        return true;
      }
    }
    this.onBytes(Buffer.from(bytes.subarray(0, count)));
    return true;
  }

  /** Takes bytes from the client. They must stay valid after the call. */
  onBytes(bytes: Buffer): void {
    if (this.#state === stateHead) { this.#feedHead(bytes); return; }
    if (this.#state === stateBody) { this.#feedBody(bytes); return; }
    if (this.#state === stateWait) this.#hold(bytes);
    else if (this.#state === stateTunnel) this.#onTunnelBytes?.(bytes);
  }

  #hold(bytes: Buffer): void {
    this.#held = this.#held === undefined ? bytes : Buffer.concat([this.#held, bytes]);
    if (this.#held.length > heldBytesMax) this.#pause();
  }

  #pause(): void { if (!this.#isPaused) { this.#isPaused = true; this.socket.pause(); } }
  #unpause(): void { if (this.#isPaused) { this.#isPaused = false; this.socket.resume(); } }

  #feedHead(fresh: Buffer): void {
    let bytes = fresh;
    const engine = this.#engine;
    if (this.#held !== undefined) {
      const isLineDone = fresh.includes(10);
      bytes = Buffer.concat([this.#held, fresh]);
      if (!isLineDone && bytes.length <= engine.headLimits.headBytesMax) { this.#held = bytes; return; }
      this.#held = undefined;
    }
    const result = parseRequestHead(bytes, 0, bytes.length, engine.scratchHead, engine.headLimits, this.#peer.isTrusted);
    if (result === needMore) {
      if (bytes.length > 2 && !this.#isHeadBegun) {
        this.#isHeadBegun = true;
        engine.deadlines.start(this.#deadline, engine.timeouts.headMs, engine.nowMs());
      }
      this.#held = bytes;
      return;
    }
    if (result !== headComplete) {
      if (result === 505 && this.#requestCount === 0 && this.#takePreface(bytes)) return;
      this.#refuse(result);
      return;
    }
    this.#isHeadBegun = false;
    this.#takeRequest(bytes, bytes.length);
  }

  /** Whether the bytes are, or may still become, the HTTP/2 preface. */
  #takePreface(bytes: Buffer): boolean {
    const start = bytes.latin1Slice(0, http2Preface.length);
    if (this.onPreface === undefined || !http2Preface.startsWith(start)) return false;
    if (start.length < http2Preface.length) { this.#held = bytes; return true; }
    this.#state = stateClosed;
    this.#engine.deadlines.stop(this.#deadline);
    this.onPreface(bytes);
    return true;
  }

  #takeRequest(bytes: Buffer, length: number): void {
    const engine = this.#engine;
    const exchange = this.#exchange;
    const head = exchange.head = engine.takeHead();
    this.version = head.minor;
    this.#requestCount += 1;
    this.#mayKeep = (head.minor === 1 ? !head.hasClose : head.hasKeepAlive && !head.hasClose) && !engine.isDraining && !this.#peer.isExcess && this.#requestCount < engine.requestsPerConnectionMax;
    const hasBody = head.isChunked || head.contentLength > 0;
    exchange.resetBody(hasBody ? (head.isChunked ? bodyUnknown : bodyLength) : bodyNone);
    const status = exchange.begin(this.#lastHostText);
    if (status !== 0) { this.#refuse(status); return; }
    this.#lastHostText = exchange.target.isAbsolute ? '' : exchange.target.hostText;
    engine.deadlines.stop(this.#deadline);
    if (!hasBody) {
      this.#state = stateWait;
      if (head.end < length) this.#hold(bytes.subarray(head.end));
      exchange.dispatch();
      return;
    }
    this.#state = stateBody;
    this.#isChunkedBody = head.isChunked;
    this.#remaining = head.contentLength;
    if (head.isChunked) (this.#decoder ??= new ChunkDecoder()).reset();
    engine.deadlines.start(this.#deadline, engine.timeouts.bodyIdleMs, engine.nowMsCached);
    if (head.end < bytes.length && !this.#holdFirstBody(bytes.subarray(head.end))) return;
    exchange.dispatch();
  }

  /** Body bytes that came with the head are checked before anything goes upstream. False = refused. */
  #holdFirstBody(bytes: Buffer): boolean {
    const exchange = this.#exchange;
    if (!this.#isChunkedBody) {
      const length = Math.min(bytes.length, this.#remaining);
      exchange.holdBody(bytes.subarray(0, length));
      this.#remaining -= length;
      if (this.#remaining === 0) this.#bodyWhole(bytes, length, '');
      return true;
    }
    const decoder = this.#decoder!;
    const result = decoder.decode(bytes, 0, bytes.length);
    if (result === chunkFault) { this.#refuse(400); return false; }
    for (let index = 0; index < decoder.spanCount; index += 2) exchange.holdBody(bytes.subarray(decoder.spans[index], decoder.spans[index + 1]));
    if (result === chunkDone) this.#bodyWhole(bytes, decoder.position, decoder.trailers);
    return true;
  }

  #bodyWhole(bytes: Buffer, used: number, trailers: string): void {
    this.#state = stateWait;
    this.#engine.deadlines.stop(this.#deadline);
    if (used < bytes.length) this.#hold(bytes.subarray(used));
    this.#exchange.endBody(trailers);
  }

  #feedBody(bytes: Buffer): void {
    const exchange = this.#exchange;
    const engine = this.#engine;
    let isRoomy = true;
    if (!this.#isChunkedBody) {
      const length = Math.min(bytes.length, this.#remaining);
      this.#remaining -= length;
      isRoomy = exchange.pushBody(length === bytes.length ? bytes : bytes.subarray(0, length));
      if (this.#remaining === 0) { this.#bodyWhole(bytes, length, ''); return; }
    } else {
      const decoder = this.#decoder!;
      const result = decoder.decode(bytes, 0, bytes.length);
      if (result === chunkFault) { this.#refuse(400); return; }
      for (let index = 0; index < decoder.spanCount; index += 2) isRoomy = exchange.pushBody(bytes.subarray(decoder.spans[index], decoder.spans[index + 1])) && isRoomy;
      if (this.#state !== stateBody) return;
      if (result === chunkDone) { this.#bodyWhole(bytes, decoder.position, decoder.trailers); return; }
    }
    if (this.#state !== stateBody) return;
    if (isRoomy) engine.deadlines.start(this.#deadline, engine.timeouts.bodyIdleMs, engine.nowMs());
    else {
      engine.deadlines.stop(this.#deadline);
      this.#pause();
    }
  }

  resumeRequest(): void {
    if (this.#state !== stateBody || !this.#isPaused) return;
    this.#unpause();
    this.#engine.deadlines.start(this.#deadline, this.#engine.timeouts.bodyIdleMs, this.#engine.nowMs());
  }

  sendInterim(text: string): void { if (this.#state !== stateClosed) this.socket.write(text, 'latin1'); }

  sendHead(_status: number, text: string, kind: number, bytes: Buffer | undefined, start: number, end: number, isLast: boolean): void {
    let head = text;
    this.#isChunkedAnswer = false;
    if (kind === bodyUnknown) {
      if (this.version === 1) { head += 'Transfer-Encoding: chunked\r\n'; this.#isChunkedAnswer = true; } else this.#mayKeep = false;
    }
    if (this.#state === stateBody || this.#hasEnded || this.#engine.isDraining) this.#mayKeep = false;
    if (!this.#mayKeep) head += 'Connection: close\r\n\r\n';
    else head += this.version === 1 ? '\r\n' : 'Connection: keep-alive\r\n\r\n';
    const length = end - start;
    if (bytes === undefined || length === 0) this.socket.write(head, 'latin1');
    else if (length <= smallBodyBytes) this.socket.write(head + bytes.latin1Slice(start, end), 'latin1');
    else {
      const whole = Buffer.allocUnsafe(head.length + length);
      whole.latin1Write(head, 0);
      bytes.copy(whole, head.length, start, end);
      if (!this.socket.write(whole) && !isLast) this.#exchange.upstream?.pause();
    }
  }

  sendBody(bytes: Buffer, start: number, end: number, mayKeep: boolean): boolean {
    if (this.#state === stateClosed || start === end) return true;
    let isRoomy: boolean;
    const length = end - start;
    if (this.#isChunkedAnswer) {
      const size = length.toString(16);
      const whole = Buffer.allocUnsafe(size.length + length + 4);
      whole.latin1Write(`${size}\r\n`, 0);
      bytes.copy(whole, size.length + 2, start, end);
      whole.latin1Write('\r\n', size.length + 2 + length);
      isRoomy = this.socket.write(whole);
    } else if (length <= smallBodyBytes) isRoomy = this.socket.write(bytes.latin1Slice(start, end), 'latin1');
    else if (mayKeep) {
      isRoomy = this.socket.write(bytes.subarray(start, end));
      // What the kernel took at once needs no buffer any more.
      if (this.socket.writableLength > 0) this.#engine.hasKeptBytes = true;
    } else {
      const copy = Buffer.allocUnsafe(length);
      bytes.copy(copy, 0, start, end);
      isRoomy = this.socket.write(copy);
    }
    if (!isRoomy) this.#stall();
    return isRoomy;
  }

  #stall(): void {
    if (this.#isStalled) return;
    this.#isStalled = true;
    if (this.#state !== stateBody) this.#engine.deadlines.start(this.#deadline, this.#engine.timeouts.writeStallMs, this.#engine.nowMs());
  }

  /** The client's socket has room again. */
  onDrain(): void {
    this.#isStalled = false;
    if (this.#state === stateWait) this.#engine.deadlines.stop(this.#deadline);
    this.#exchange.upstream?.resume();
  }

  sendEnd(trailers: string): void {
    if (this.#isChunkedAnswer && this.#state !== stateClosed) this.socket.write(this.#exchange.head.hasTrailersOption ? `0\r\n${trailers}\r\n` : '0\r\n\r\n', 'latin1');
    this.#answered();
  }

  /** The answer is written: next request, or close after lingering. */
  #answered(): void {
    if (this.#state === stateClosed) return;
    const engine = this.#engine;
    if (!this.#mayKeep || this.#state === stateBody) { this.#linger(); return; }
    const { head } = this.#exchange;
    this.#exchange.head = noHead;
    if (head !== noHead) engine.giveHead(head);
    this.#state = stateHead;
    engine.deadlines.start(this.#deadline, engine.timeouts.keepAliveMs, engine.nowMsCached);
    if (this.#held !== undefined) this.#feedHeld();
    else if (this.#hasEnded) this.close();
    if (this.#held === undefined || this.#held.length <= heldBytesMax) this.#unpause();
  }

  /** Goes on with pipelined bytes without recursion: answers given at once return here first. */
  #feedHeld(): void {
    if (this.#isFeeding) return;
    this.#isFeeding = true;
    while (this.#state === stateHead && this.#held !== undefined) {
      const bytes = this.#held;
      this.#held = undefined;
      this.#feedHead(bytes);
      if (this.#held === bytes) break;
    }
    this.#isFeeding = false;
    if (this.#hasEnded && this.#state === stateHead) this.close();
  }

  /** Half-closes, then reads and drops for a while, so that the client can read the answer before a reset (rule 108). */
  #linger(): void {
    this.#state = stateLinger;
    this.#held = undefined;
    this.#unpause();
    this.socket.end();
    this.#engine.deadlines.start(this.#deadline, lingerMs, this.#engine.nowMs());
  }

  /** Answers a request that cannot be served as it stands and closes. */
  #refuse(status: number): void {
    const exchange = this.#exchange;
    this.#mayKeep = false;
    if (this.#state === stateBody && exchange.isResponseStarted) { exchange.cancel(); this.abort(); return; }
    if (!exchange.isActive) exchange.beginRefused();
    if (this.#state === stateHead) this.#state = stateWait;
    this.#engine.answers.refuse(exchange, status);
  }

  abort(): void {
    if (this.#state === stateClosed) return;
    this.#state = stateClosed;
    this.#engine.deadlines.stop(this.#deadline);
    // A reset says "not complete" also to a client that reads until close.
    this.socket.resetAndDestroy();
  }

  close(): void {
    if (this.#state === stateClosed) return;
    this.#state = stateClosed;
    this.#engine.deadlines.stop(this.#deadline);
    this.socket.destroy();
  }

  startTunnel(text: string, upstream: Upstream, early: Buffer): void {
    this.#state = stateTunnel;
    const held = this.#held;
    this.#held = undefined;
    this.socket.write(`${text}\r\n`, 'latin1');
    this.#onTunnelBytes = runTunnel(this.#engine, this.socket, upstream, early, held, () => {
      this.#state = stateClosed;
      this.#exchange.finishTunnel();
    });
  }

  onDeadline(): void {
    switch (this.#state) {
      case stateHead:
        if (this.#isHeadBegun || (this.#requestCount === 0 && this.#held !== undefined)) this.#refuse(408); else this.close();
        break;
      case stateBody:
        if (this.#exchange.isResponseStarted) { this.#exchange.cancel(); this.abort(); } else this.#refuse(408);
        break;
      case stateWait:
        this.#exchange.cancel();
        if (this.#isStalled) this.abort(); else this.close();
        break;
      default: this.close();
    }
  }

  /** The client sent FIN. */
  onEnd(): void {
    this.#hasEnded = true;
    switch (this.#state) {
      case stateHead:
        if (this.#held !== undefined && this.#held.length > 2) this.#refuse(400); else this.close();
        break;
      case stateBody: this.#refuse(400); break;
      case stateWait:
        if (!this.#exchange.isResponseStarted) this.#engine.deadlines.start(this.#deadline, halfCloseGraceMs, this.#engine.nowMs());
        break;
      case stateLinger: this.close(); break;
      default: break;
    }
  }

  /** Tells the client with the next answer to come back on another connection. */
  drain(): void { this.#mayKeep = false; }
  closeIdle(): void { if (this.isIdle) this.close(); }

  /** The socket is gone. */
  onClose(): void {
    if (this.#state === stateTunnel) return;
    this.#state = stateClosed;
    this.#engine.deadlines.stop(this.#deadline);
    this.#exchange.cancel();
  }
}
