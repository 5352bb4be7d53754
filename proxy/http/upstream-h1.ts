// One HTTP/1.1 connection to an endpoint: connect, write the request, parse the answer strictly, pass the body on by
// count, by chunks or until close, then go idle or close. A connection is used again only if the answer ended exactly
// at its framing, the request was sent whole, and no byte came while idle (P-4). Called by exchange.ts.
// Reads go through one shared buffer per thread (`onread`), what is not written at once is copied; large bodies get a
// buffer of their own, which is handed to the client's socket without a copy.

import net from 'node:net';
import tls from 'node:tls';
import { chunkDone, ChunkDecoder, chunkFault } from './message/chunks.ts';
import { Deadline } from './deadlines.ts';
import type { Endpoint } from './endpoints.ts';
import type { HttpEngine } from './engine.ts';
import type { Exchange, Upstream } from './exchange.ts';
import { bodyLength, bodyNone, bodyUnknown, type FailureKind } from './message/framing.ts';
import { headComplete, needMore } from './message/request-head.ts';
import { parseResponseHead, ResponseHead, responseText } from './message/response-head.ts';

const stateIdle = 0, stateHead = 1, stateLength = 2, stateChunked = 3, stateUntilClose = 4, stateTunnel = 5, stateClosed = 6;
const interimCountMax = 32;

const sharedRead = Buffer.allocUnsafeSlow(65_536);
/** Bodies with at least this much to come are read into a buffer of their own, which can be written without a copy. */
const ownBufferFrom = 131_072;
const ownBufferBytes = 262_144;

export class UpstreamH1 implements Upstream {
  isReused = false;
  isConnected = false;
  readonly socket: net.Socket;
  readonly endpoint: Endpoint;
  readonly #engine: HttpEngine;
  readonly #deadline: Deadline;
  readonly #head = new ResponseHead();
  #decoder: ChunkDecoder | undefined;
  #exchange: Exchange | undefined;
  #state = stateIdle;
  #partial: Buffer | undefined;
  #remaining = 0;
  #isKept = true;
  #isRequestWhole = true;
  #isChunkedRequest = false;
  #interimCount = 0;
  #isTimedOut = false;
  #idleMs = 0;
  #isPaused = false;
  #ownBuffer: Buffer | undefined;
  #onTunnelBytes: ((bytes: Buffer, count: number) => boolean) | undefined;

  constructor(engine: HttpEngine, endpoint: Endpoint) {
    this.#engine = engine;
    this.endpoint = endpoint;
    this.#deadline = new Deadline(this);
    endpoint.open.add(this);
    engine.upstreamOpened();
    const { tls: tlsOptions, protocol } = endpoint.backend;
    if (protocol === 'https') {
      this.socket = tls.connect({
        host: endpoint.ip, port: endpoint.port, lookup: engine.lookup, ALPNProtocols: ['http/1.1'], rejectUnauthorized: tlsOptions?.mayVerify ?? true,
        ...(tlsOptions?.serverName === undefined ? {} : { servername: tlsOptions.serverName }),
        ...(tlsOptions?.caPem === undefined ? {} : { ca: tlsOptions.caPem }),
        ...(tlsOptions?.certPem === undefined ? {} : { cert: tlsOptions.certPem, key: tlsOptions.keyPem }),
      });
      this.socket.setNoDelay(true);
      this.socket.on('data', (bytes: Buffer) => { if (!this.onBytes(bytes.length, bytes)) this.socket.pause(); });
      this.socket.on('secureConnect', () => this.#onConnect());
    } else {
      this.socket = net.connect({
        host: endpoint.ip, port: endpoint.port, lookup: engine.lookup, noDelay: true,
        onread: { buffer: () => this.#nextBuffer(), callback: (count, bytes) => this.onBytes(count, bytes as Buffer) },
      });
      this.socket.on('connect', () => this.#onConnect());
    }
    this.socket.on('drain', () => {
      if (!this.#isRequestWhole && this.#state === stateHead && this.isConnected) engine.deadlines.stop(this.#deadline);
      this.#exchange?.down.resumeRequest();
    });
    this.socket.on('error', () => {});
    this.socket.on('end', () => this.#onEnd());
    this.socket.on('close', () => this.#onClose());
  }

  /** Sends a request on this connection. */
  send(exchange: Exchange, isReused: boolean, nowMs: number): void {
    this.#exchange = exchange;
    this.isReused = isReused;
    this.#state = stateHead;
    this.#isKept = true;
    this.#interimCount = 0;
    this.#isRequestWhole = exchange.bodyKind === bodyNone;
    this.#isChunkedRequest = exchange.bodyKind === bodyUnknown;
    this.socket.write(exchange.requestText, 'latin1');
    const timeouts = exchange.route?.timeouts;
    const { connectMs, responseMs } = this.#engine.timeouts;
    if (!this.isConnected) this.#engine.deadlines.start(this.#deadline, timeouts?.connectMs ?? connectMs, nowMs);
    else if (this.#isRequestWhole) this.#engine.deadlines.start(this.#deadline, timeouts?.responseMs ?? responseMs, nowMs);
  }

  /** The buffer for the next read: asked for after each one. */
  #nextBuffer(): Buffer {
    if (this.#state !== stateLength || this.#remaining < ownBufferFrom) { this.#ownBuffer = undefined; return sharedRead; }
    if (this.#ownBuffer === undefined || this.#engine.hasKeptBytes) this.#ownBuffer = Buffer.allocUnsafeSlow(ownBufferBytes);
    this.#engine.hasKeptBytes = false;
    return this.#ownBuffer;
  }

  writeBody(bytes: Buffer, start: number, end: number, isOwned: boolean): boolean {
    if (this.#state === stateClosed || start === end) return true;
    const span = isOwned ? bytes.subarray(start, end) : Buffer.from(bytes.subarray(start, end));
    if (!this.#isChunkedRequest) return this.#guardWrite(this.socket.write(span));
    this.socket.cork();
    this.socket.write(`${(end - start).toString(16)}\r\n`, 'latin1');
    this.socket.write(span);
    const isRoomy = this.socket.write('\r\n', 'latin1');
    this.socket.uncork();
    return this.#guardWrite(isRoomy);
  }

  /** While the endpoint does not take the body, its time to answer runs; else the client's body timeout decides. */
  #guardWrite(isRoomy: boolean): boolean {
    if (!isRoomy && this.isConnected) this.#restartResponseDeadline();
    return isRoomy;
  }

  endBody(trailers: string): void {
    this.#isRequestWhole = true;
    if (this.isConnected) this.#restartResponseDeadline();
    if (this.#isChunkedRequest && this.#state !== stateClosed) this.socket.write(`0\r\n${trailers}\r\n`, 'latin1');
  }

  pause(): void { this.#isPaused = true; this.socket.pause(); this.#engine.deadlines.stop(this.#deadline); }
  resume(): void {
    this.#isPaused = false;
    this.socket.resume();
    this.#restartStreamDeadline();
  }

  cancel(): void {
    this.#exchange = undefined;
    this.close();
  }

  close(): void {
    if (this.#state === stateClosed) return;
    this.#state = stateClosed;
    this.#engine.deadlines.stop(this.#deadline);
    this.socket.destroy();
  }

  onDeadline(): void {
    this.#isTimedOut = true;
    if (this.#exchange === undefined) { this.close(); return; }
    this.#fail(this.isConnected ? 'timeout' : 'connectTimeout');
  }

  #restartResponseDeadline(): void {
    const exchange = this.#exchange;
    if (exchange === undefined || this.#state !== stateHead) return;
    this.#engine.deadlines.start(this.#deadline, exchange.route?.timeouts?.responseMs ?? this.#engine.timeouts.responseMs, this.#engine.nowMs());
  }

  #restartStreamDeadline(): void {
    const exchange = this.#exchange;
    if (exchange === undefined) return;
    this.#engine.deadlines.start(this.#deadline, exchange.route?.timeouts?.streamIdleMs ?? this.#engine.timeouts.streamIdleMs, this.#engine.nowMs());
  }

  #onConnect(): void {
    this.isConnected = true;
    if (this.#exchange === undefined) return;
    if (this.#isRequestWhole) this.#restartResponseDeadline(); else this.#engine.deadlines.stop(this.#deadline);
    this.#exchange.down.resumeRequest();
  }

  /** Takes bytes from the endpoint; they are valid during the call only. False = stop reading. */
  onBytes(count: number, bytes: Buffer): boolean {
    if (this.#onTunnelBytes !== undefined) return this.#onTunnelBytes(bytes, count);
    switch (this.#state) {
      case stateHead: return this.#onHeadBytes(bytes, count);
      case stateLength: return this.#onLengthBytes(bytes, 0, count);
      case stateChunked: return this.#onChunkBytes(bytes, 0, count);
      case stateUntilClose: this.#restartStreamDeadline(); return this.#deliver(bytes, 0, count);
      case stateIdle: this.endpoint.forget(this); this.close(); return false;
      default: return true;
    }
  }

  #deliver(bytes: Buffer, start: number, end: number): boolean {
    this.#engine.hasKeptBytes = false;
    if (this.#exchange?.onBody(bytes, start, end, bytes === this.#ownBuffer) !== false) return true;
    this.pause();
    return true;
  }

  #onHeadBytes(fresh: Buffer, count: number): boolean {
    let bytes = fresh;
    let end = count;
    if (this.#partial !== undefined) {
      bytes = Buffer.concat([this.#partial, fresh.subarray(0, count)]);
      end = bytes.length;
      this.#partial = undefined;
    }
    let start = 0;
    const head = this.#head;
    for (;;) {
      const result = parseResponseHead(bytes, start, end, head, this.#engine.responseLimits);
      if (result === needMore) {
        if (start < end) this.#partial = Buffer.from(bytes.subarray(start, end));
        return true;
      }
      if (result !== headComplete) { this.#fail('invalid'); return false; }
      if (head.status >= 200) break;
      if (head.status === 101) return this.#onSwitch(bytes, end);
      if (++this.#interimCount > interimCountMax || head.contentLength > 0 || head.isChunked) { this.#fail('invalid'); return false; }
      this.#exchange?.onInterim(head.status, `${responseText(bytes, head, false)}\r\n`);
      start = head.end;
    }
    return this.#onFinalHead(bytes, end);
  }

  #onFinalHead(bytes: Buffer, end: number): boolean {
    const exchange = this.#exchange;
    if (exchange === undefined) return false;
    const head = this.#head;
    this.#isKept = head.minor === 1 ? !head.hasClose : head.hasKeepAlive && !head.hasClose;
    this.#idleMs = head.keepAliveSeconds < 0 ? this.#engine.timeouts.upstreamIdleMs : (head.keepAliveSeconds - 1) * 1_000;
    const { status } = head;
    const start = head.end;
    if (status >= 400 && exchange.takesOver(status)) { this.#fail('status'); return false; }
    if (status === 204 || status === 304 || exchange.head.methodEnd === 4 && exchange.head.text.startsWith('HEAD')) {
      if (start < end || (status === 204 && (head.contentLength > 0 || head.isChunked))) this.#isKept = false;
      this.#finish(exchange, head, responseText(bytes, head, status !== 204), bodyNone, bytes, start, start);
      return true;
    }
    if (head.isChunked) return this.#startChunked(exchange, bytes, start, end);
    if (head.contentLength < 0) {
      this.#isKept = false;
      this.#state = stateUntilClose;
      this.#restartStreamDeadline();
      exchange.onHead(head, responseText(bytes, head, true), bodyUnknown, bytes, start, start, false);
      return start < end ? this.#deliver(bytes, start, end) : true;
    }
    const available = end - start;
    if (available >= head.contentLength) {
      if (available > head.contentLength) this.#isKept = false;
      this.#finish(exchange, head, responseText(bytes, head, true), bodyLength, bytes, start, start + head.contentLength);
      return true;
    }
    this.#state = stateLength;
    this.#remaining = head.contentLength - available;
    this.#restartStreamDeadline();
    exchange.onHead(head, responseText(bytes, head, true), bodyLength, bytes, start, end, false);
    return true;
  }

  /** The whole answer is here: free the connection first, so that the client's next request finds it. */
  #finish(exchange: Exchange, head: ResponseHead, text: string, kind: number, bytes: Buffer, start: number, end: number): void {
    this.#free();
    exchange.onHead(head, text, kind, bytes, start, end, true);
    exchange.onEnd('');
  }

  #startChunked(exchange: Exchange, bytes: Buffer, start: number, end: number): boolean {
    this.#state = stateChunked;
    this.#decoder ??= new ChunkDecoder();
    this.#decoder.reset();
    this.#restartStreamDeadline();
    if (start < end) {
      // Decode before the head goes out, so that a broken first chunk is still a 502.
      const probe = new ChunkDecoder();
      if (probe.decode(bytes, start, end) === chunkFault) { this.#fail('invalid'); return false; }
    }
    exchange.onHead(this.#head, responseText(bytes, this.#head, true), bodyUnknown, bytes, start, start, false);
    return start < end ? this.#onChunkBytes(bytes, start, end) : true;
  }

  #onLengthBytes(bytes: Buffer, start: number, end: number): boolean {
    const exchange = this.#exchange;
    if (exchange === undefined) return false;
    const length = end - start;
    if (length < this.#remaining) {
      this.#remaining -= length;
      this.#restartStreamDeadline();
      return this.#deliver(bytes, start, end);
    }
    if (length > this.#remaining) this.#isKept = false;
    const last = start + this.#remaining;
    // Nobody reads into it again: the buffer goes with the last bytes.
    exchange.onBody(bytes, start, last, bytes === this.#ownBuffer);
    this.#ownBuffer = undefined;
    this.#free();
    exchange.onEnd('');
    return true;
  }

  #onChunkBytes(bytes: Buffer, start: number, end: number): boolean {
    const exchange = this.#exchange;
    const decoder = this.#decoder;
    if (exchange === undefined || decoder === undefined) return false;
    const result = decoder.decode(bytes, start, end);
    if (result === chunkFault) { this.#fail('invalid'); return false; }
    let isRoomy = true;
    for (let index = 0; index < decoder.spanCount; index += 2) {
      if (!exchange.onBody(bytes, decoder.spans[index]!, decoder.spans[index + 1]!)) isRoomy = false;
    }
    if (result === chunkDone) {
      if (decoder.position < end) this.#isKept = false;
      this.#free();
      exchange.onEnd(decoder.trailers);
      return true;
    }
    if (!isRoomy) this.pause(); else this.#restartStreamDeadline();
    return true;
  }

  #onSwitch(bytes: Buffer, end: number): boolean {
    const exchange = this.#exchange;
    const head = this.#head;
    if (exchange === undefined || !exchange.isUpgrade || !head.hasUpgrade) { this.#fail('invalid'); return false; }
    const protocol = bytes.latin1Slice(head.origin + head.upgradeStart, head.origin + head.upgradeEnd);
    if (protocol.toLowerCase() !== 'websocket') { this.#fail('invalid'); return false; }
    this.#state = stateTunnel;
    this.#engine.deadlines.stop(this.#deadline);
    const text = `${responseText(bytes, head, false)}Connection: Upgrade\r\nUpgrade: ${protocol}\r\n`;
    exchange.onTunnel(head, text, Buffer.from(bytes.subarray(head.end, end)));
    return true;
  }

  /** Hands bytes that arrive from now on to `onTunnelBytes`; false from it pauses reading. */
  openTunnel(onTunnelBytes: (bytes: Buffer, count: number) => boolean): void {
    this.#onTunnelBytes = onTunnelBytes;
  }

  /** The answer is complete: idle or closed, and no longer tied to the exchange. */
  #free(): void {
    const exchange = this.#exchange;
    this.#exchange = undefined;
    if (exchange !== undefined) exchange.upstream = undefined;
    const engine = this.#engine;
    if (!this.#isKept || !this.#isRequestWhole || this.#idleMs <= 0 || engine.isDraining || !this.endpoint.giveBack(this)) { this.close(); return; }
    this.#state = stateIdle;
    if (this.#isPaused) { this.#isPaused = false; this.socket.resume(); }
    engine.deadlines.start(this.#deadline, this.#idleMs, engine.nowMsCached);
  }

  #fail(kind: FailureKind): void {
    const exchange = this.#exchange;
    this.#exchange = undefined;
    this.close();
    exchange?.onFailure(kind);
  }

  #onEnd(): void {
    if (this.#state === stateUntilClose && this.#exchange !== undefined) {
      const exchange = this.#exchange;
      this.#free();
      exchange.onEnd('');
      return;
    }
    if (this.#state === stateTunnel) return;
    this.#lost();
  }

  #onClose(): void {
    this.endpoint.forget(this);
    this.#engine.upstreamClosed();
    this.#lost();
  }

  /** The other side closed or reset the connection. */
  #lost(): void {
    if (this.#exchange === undefined || this.#state === stateTunnel) { if (this.#state !== stateTunnel) this.close(); return; }
    const isHead = this.#state === stateHead;
    if (this.#isTimedOut) this.#fail('timeout');
    else if (!this.isConnected) this.#fail('connect');
    else this.#fail(isHead ? (this.#partial === undefined ? 'reset' : 'invalid') : 'truncated');
  }
}
