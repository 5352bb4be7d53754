// HTTP/2 towards clients: sessions of node:http2 on sockets that the listeners accepted (ALPN h2, or prior knowledge on
// the plain port), one Exchange per stream. Limits against rapid reset, header floods and idle sessions; GOAWAY on drain
// lets open streams finish (rules 115–117, P-15). Called by engine.ts.

import type http2 from 'node:http2';
import type net from 'node:net';
import { Deadline } from './deadlines.ts';
import type { HttpEngine, PeerInfo } from './engine.ts';
import { Exchange, type Downstream, type Upstream } from './exchange.ts';
import { bodyLength, bodyNone, bodyUnknown } from './message/framing.ts';
import { linesToHeaders, requestToText, responseToHeaders } from './message/h2-text.ts';
import { http2Module } from './lazy-http2.ts';
import { headComplete, parseRequestHead, RequestHead } from './message/request-head.ts';
import { runTunnel } from './tunnel.ts';

const streamsPerSessionMax = 100;
const windowBytes = 262_144;

const sessionOptions: http2.ServerOptions & { streamResetBurst?: number; streamResetRate?: number } = {
  settings: { maxConcurrentStreams: streamsPerSessionMax, maxHeaderListSize: 16_384, initialWindowSize: windowBytes, enablePush: false, enableConnectProtocol: true },
  maxHeaderListPairs: 128, maxSendHeaderBlockLength: 65_536, maxSessionInvalidFrames: 100, maxSessionRejectedStreams: 100, maxSessionMemory: 16,
  maxSettings: 32, maxOutstandingPings: 10, streamResetBurst: 200, streamResetRate: 33,
};

/** Serves one socket with HTTP/2 until it closes. Returns the session's drain function. */
export function serveH2(engine: HttpEngine, socket: net.Socket, peer: PeerInfo): { drain(): void; closeIdle(): void; close(): void } {
  const session = http2Module().performServerHandshake(socket, sessionOptions as http2.ServerOptions);
  let openCount = 0;
  let requestCount = 0;
  const deadline = new Deadline({ onDeadline: () => { if (openCount === 0) session.close(); } });
  engine.deadlines.start(deadline, engine.timeouts.keepAliveMs, engine.nowMs());
  session.on('error', () => {});
  session.on('close', () => engine.deadlines.stop(deadline));
  session.on('stream', ((stream: http2.ServerHttp2Stream, _headers: unknown, flags: number, raw: string[]) => {
    openCount += 1;
    requestCount += 1;
    engine.deadlines.stop(deadline);
    stream.on('error', () => {});
    stream.on('close', () => {
      openCount -= 1;
      if (openCount === 0) engine.deadlines.start(deadline, engine.timeouts.keepAliveMs, engine.nowMs());
    });
    if (requestCount === engine.requestsPerConnectionMax || engine.isDraining) session.close();
    new DownstreamH2(engine, stream, peer).begin(raw, (flags & http2Module().constants.NGHTTP2_FLAG_END_STREAM) !== 0);
  }) as never);
  // close() sends GOAWAY and ends the session once its streams have finished.
  return { drain: () => session.close(), closeIdle: () => { if (openCount === 0) session.destroy(); }, close: () => session.destroy() };
}

class DownstreamH2 implements Downstream {
  readonly version = 2;
  readonly localPort: number;
  readonly #engine: HttpEngine;
  readonly #stream: http2.ServerHttp2Stream;
  readonly #exchange: Exchange;
  readonly #deadline: Deadline;
  #isTunnel = false;
  #isEnded = false;
  #trailers = '';
  #waitsForTrailers = false;
  #isRequestWhole = true;

  constructor(engine: HttpEngine, stream: http2.ServerHttp2Stream, peer: PeerInfo) {
    this.#engine = engine;
    this.#stream = stream;
    this.localPort = peer.localPort;
    this.#exchange = new Exchange(engine, this, peer);
    this.#deadline = new Deadline({ onDeadline: () => this.#onDeadline() });
  }

  begin(raw: readonly string[], isEndStream: boolean): void {
    const engine = this.#engine;
    const stream = this.#stream;
    const exchange = this.#exchange;
    const isConnect = raw.includes(':protocol');
    const text = requestToText(raw);
    if (text === undefined) { stream.close(http2Module().constants.NGHTTP2_PROTOCOL_ERROR); return; }
    const bytes = Buffer.from(text, 'latin1');
    exchange.head = new RequestHead();
    const result = parseRequestHead(bytes, 0, bytes.length, exchange.head, engine.headLimits, exchange.peer.isTrusted);
    stream.on('close', () => this.#onClose());
    if (result !== headComplete || exchange.head.end !== bytes.length) { this.#refuse(result === headComplete ? 400 : result); return; }
    const hasBody = !isEndStream && !isConnect;
    exchange.resetBody(!hasBody ? bodyNone : exchange.head.contentLength >= 0 ? bodyLength : bodyUnknown);
    const status = exchange.begin('');
    if (status !== 0) { this.#refuse(status); return; }
    if (!hasBody) { exchange.dispatch(); return; }
    this.#isRequestWhole = false;
    let trailers = '';
    stream.on('data', (chunk: Buffer) => {
      this.#touch();
      if (!exchange.pushBody(chunk)) { stream.pause(); engine.deadlines.stop(this.#deadline); }
    });
    stream.on('trailers', (headers: http2.IncomingHttpHeaders) => {
      for (const [name, value] of Object.entries(headers)) if (!name.startsWith(':') && !/[\r\n\0]/.test(String(value))) trailers += `${name}: ${String(value)}\r\n`;
    });
    stream.on('end', () => {
      this.#isRequestWhole = true;
      engine.deadlines.stop(this.#deadline);
      if (exchange.isActive) exchange.endBody(trailers);
    });
    this.#touch();
    exchange.dispatch();
  }

  #touch(): void { if (!this.#isRequestWhole && !this.#isTunnel) this.#engine.deadlines.start(this.#deadline, this.#engine.timeouts.bodyIdleMs, this.#engine.nowMs()); }

  #onDeadline(): void {
    if (this.#exchange.isActive && !this.#exchange.isResponseStarted) this.#engine.answers.refuse(this.#exchange, 408);
    else if (!this.#isEnded) { this.#exchange.cancel(); this.abort(); }
  }

  #refuse(status: number): void {
    if (!this.#exchange.isActive) this.#exchange.beginRefused();
    this.#engine.answers.refuse(this.#exchange, status);
  }

  resumeRequest(): void { if (!this.#stream.destroyed) { this.#stream.resume(); this.#touch(); } }

  sendInterim(text: string): void {
    if (this.#stream.destroyed || this.#stream.headersSent) return;
    try { this.#stream.additionalHeaders(responseToHeaders(text)); } catch { /* an interim answer may be lost */ }
  }

  sendHead(_status: number, text: string, kind: number, bytes: Buffer | undefined, start: number, end: number, isLast: boolean): void {
    const stream = this.#stream;
    if (stream.destroyed || stream.closed) return;
    const isEmpty = kind === bodyNone || (isLast && end === start);
    this.#waitsForTrailers = !isEmpty && kind === bodyUnknown;
    try {
      stream.respond(responseToHeaders(text), { endStream: isEmpty, waitForTrailers: this.#waitsForTrailers });
    } catch { stream.close(http2Module().constants.NGHTTP2_INTERNAL_ERROR); return; }
    if (this.#waitsForTrailers) stream.on('wantTrailers', () => this.#sendTrailers());
    stream.on('drain', () => { this.#engine.deadlines.stop(this.#deadline); this.#exchange.upstream?.resume(); });
    if (isEmpty) { this.#isEnded = true; return; }
    if (bytes !== undefined && end > start && !stream.write(Buffer.from(bytes.subarray(start, end)))) this.#stall();
  }

  #stall(): void { this.#engine.deadlines.start(this.#deadline, this.#engine.timeouts.writeStallMs, this.#engine.nowMs()); }

  #sendTrailers(): void {
    try { this.#stream.sendTrailers(linesToHeaders(this.#trailers, 0)); } catch { this.#stream.close(); }
  }

  sendBody(bytes: Buffer, start: number, end: number): boolean {
    if (this.#stream.destroyed || this.#stream.closed || start === end) return true;
    const isRoomy = this.#stream.write(Buffer.from(bytes.subarray(start, end)));
    if (!isRoomy) this.#stall();
    return isRoomy;
  }

  sendEnd(trailers: string): void {
    this.#trailers = trailers;
    if (!this.#isEnded && !this.#stream.destroyed) this.#stream.end();
    this.#isEnded = true;
    // An early final answer: the rest of the upload is not wanted (RFC 9113 §8.1).
    if (!this.#isRequestWhole) this.#stream.on('finish', () => { if (!this.#isRequestWhole) this.#stream.close(http2Module().constants.NGHTTP2_NO_ERROR); });
  }

  abort(): void { if (!this.#stream.destroyed) this.#stream.close(http2Module().constants.NGHTTP2_INTERNAL_ERROR); }

  startTunnel(_text: string, upstream: Upstream, early: Buffer): void {
    this.#isTunnel = true;
    this.#stream.respond({ ':status': 200 });
    runTunnel(this.#engine, this.#stream, upstream, early, undefined, () => this.#exchange.finishTunnel());
  }

  #onClose(): void {
    this.#engine.deadlines.stop(this.#deadline);
    if (!this.#isTunnel) this.#exchange.cancel();
  }
}
