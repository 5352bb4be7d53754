// HTTP/2 towards endpoints (appProtocol h2c, grpc, or TLS with h2): one session per endpoint and worker, more when the
// peer's stream limit is reached, one stream per exchange; trailers and streaming both ways. Called by engine.ts.

import type http2 from 'node:http2';
import { Deadline } from './deadlines.ts';
import type { Endpoint } from './endpoints.ts';
import type { HttpEngine } from './engine.ts';
import type { Exchange, Upstream } from './exchange.ts';
import { bodyLength, bodyNone, bodyUnknown, type FailureKind } from './message/framing.ts';
import { headersToLines, linesToHeaders, requestToHeaders } from './message/h2-text.ts';
import { http2Module } from './lazy-http2.ts';
import { ResponseHead } from './message/response-head.ts';

/** The session of one endpoint and what still uses it. */
class Session {
  readonly client: http2.ClientHttp2Session;
  isConnected = false;
  isUsable = true;
  hasServed = false;
  streamCount = 0;

  constructor(engine: HttpEngine, endpoint: Endpoint, onGone: () => void) {
    const { protocol, tls } = endpoint.backend;
    engine.upstreamOpened();
    this.client = http2Module().connect(`${protocol === 'h2' ? 'https' : 'http'}://${endpoint.name}`, {
      settings: { enablePush: false, initialWindowSize: 262_144 }, lookup: engine.lookup,
      ...(protocol === 'h2' ? {
        rejectUnauthorized: tls?.mayVerify ?? true, ALPNProtocols: ['h2'], ...(tls?.serverName === undefined ? {} : { servername: tls.serverName }), ...(tls?.caPem === undefined ? {} : { ca: tls.caPem }),
        ...(tls?.certPem === undefined ? {} : { cert: tls.certPem, key: tls.keyPem }),
      } : {}),
    });
    this.client.on('connect', () => { this.isConnected = true; });
    this.client.on('error', () => {});
    this.client.on('goaway', () => { this.isUsable = false; onGone(); });
    this.client.on('close', () => { this.isUsable = false; engine.upstreamClosed(); onGone(); });
    this.client.unref();
  }

  get hasRoom(): boolean {
    return this.isUsable && !this.client.destroyed && !this.client.closed && this.streamCount < Math.min(100, this.client.remoteSettings?.maxConcurrentStreams ?? 100);
  }

  close(): void { this.isUsable = false; this.client.close(); }
}

class SessionSet {
  readonly sessions: Session[] = [];
  close(): void { for (const session of this.sessions) session.close(); }
}

/** Opens a stream for the exchange on a session of the endpoint. */
export function connectH2(engine: HttpEngine, exchange: Exchange, endpoint: Endpoint): Upstream {
  const set = (endpoint.session ??= new SessionSet()) as SessionSet;
  let session = set.sessions.find((item) => item.hasRoom);
  if (session === undefined) {
    const fresh = session = new Session(engine, endpoint, () => {
      const index = set.sessions.indexOf(fresh);
      if (index >= 0) set.sessions.splice(index, 1);
    });
    set.sessions.push(fresh);
  }
  return new UpstreamH2(engine, exchange, session);
}

class UpstreamH2 implements Upstream {
  readonly isReused: boolean;
  readonly #engine: HttpEngine;
  readonly #session: Session;
  readonly #stream: http2.ClientHttp2Stream;
  readonly #deadline: Deadline;
  #exchange: Exchange | undefined;
  #trailers = '';
  #requestTrailers = '';
  #hasHead = false;
  #hasEnded = false;
  #isTimedOut = false;

  constructor(engine: HttpEngine, exchange: Exchange, session: Session) {
    this.#engine = engine;
    this.#exchange = exchange;
    this.#session = session;
    this.isReused = session.hasServed;
    this.#deadline = new Deadline({ onDeadline: () => { this.#isTimedOut = true; this.#fail(session.isConnected ? 'timeout' : 'connectTimeout'); } });
    session.streamCount += 1;
    const isBodiless = exchange.bodyKind === bodyNone;
    const stream = this.#stream = session.client.request(requestToHeaders(exchange.requestText, exchange.endpoint?.backend.protocol === 'h2' ? 'https' : 'http'), { endStream: isBodiless, waitForTrailers: !isBodiless && exchange.bodyKind === bodyUnknown });
    const { timeouts } = engine;
    engine.deadlines.start(this.#deadline, session.isConnected ? (exchange.route?.timeouts?.responseMs ?? timeouts.responseMs) : (exchange.route?.timeouts?.connectMs ?? timeouts.connectMs), engine.nowMsCached);
    if (!session.isConnected) session.client.once('connect', () => this.#restart(exchange.route?.timeouts?.responseMs ?? timeouts.responseMs));
    stream.on('wantTrailers', () => { try { stream.sendTrailers(linesToHeaders(this.#requestTrailers, 0)); } catch { stream.close(); } });
    stream.on('headers', ((_headers: unknown, _flags: number, raw: string[]) => this.#onInterim(raw)) as never);
    stream.on('response', ((_headers: unknown, flags: number, raw: string[]) => this.#onResponse(raw, flags)) as never);
    stream.on('data', (bytes: Buffer) => this.#onData(bytes));
    stream.on('trailers', ((_headers: unknown, _flags: number, raw: string[]) => { this.#trailers = headersToLines(raw); }) as never);
    stream.on('drain', () => this.#exchange?.down.resumeRequest());
    stream.on('end', () => this.#onEnd());
    stream.on('error', () => {});
    stream.on('close', () => this.#onClose());
  }

  get isConnected(): boolean { return this.#session.isConnected; }

  #restart(durationMs: number): void { if (this.#exchange !== undefined && !this.#stream.destroyed) this.#engine.deadlines.start(this.#deadline, durationMs, this.#engine.nowMs()); }
  #restartStream(): void { this.#restart(this.#exchange?.route?.timeouts?.streamIdleMs ?? this.#engine.timeouts.streamIdleMs); }

  writeBody(bytes: Buffer, start: number, end: number, isOwned: boolean): boolean {
    if (this.#stream.destroyed || this.#stream.writableEnded || start === end) return true;
    return this.#stream.write(isOwned ? bytes.subarray(start, end) : Buffer.from(bytes.subarray(start, end)));
  }

  endBody(trailers: string): void {
    this.#requestTrailers = trailers;
    if (!this.#stream.destroyed && !this.#stream.writableEnded) this.#stream.end();
  }

  pause(): void { this.#stream.pause(); this.#engine.deadlines.stop(this.#deadline); }
  resume(): void { if (!this.#stream.destroyed) { this.#stream.resume(); this.#restartStream(); } }
  cancel(): void { this.#exchange = undefined; this.close(); }
  close(): void {
    this.#engine.deadlines.stop(this.#deadline);
    if (!this.#stream.destroyed) this.#stream.close(http2Module().constants.NGHTTP2_CANCEL);
  }

  #onInterim(raw: readonly string[]): void {
    const status = Number(raw[raw.indexOf(':status') + 1]);
    this.#exchange?.onInterim(status, `HTTP/1.1 ${status} Interim\r\n${headersToLines(raw)}\r\n`);
  }

  #onResponse(raw: readonly string[], flags: number): void {
    const exchange = this.#exchange;
    if (exchange === undefined) return;
    const head = new ResponseHead();
    head.reset(0);
    head.status = Number(raw[raw.indexOf(':status') + 1]);
    if (head.status >= 400 && exchange.takesOver(head.status)) { this.#fail('status'); return; }
    const lines = headersToLines(raw);
    head.hasDate = /^date:/im.test(lines);
    this.#hasHead = true;
    this.#session.hasServed = true;
    const isLast = (flags & http2Module().constants.NGHTTP2_FLAG_END_STREAM) !== 0;
    const hasLength = /^content-length:/im.test(lines);
    const isBodiless = head.status === 204 || head.status === 304 || exchange.head.text.startsWith('HEAD ');
    this.#restartStream();
    const kind = isBodiless ? bodyNone : hasLength ? bodyLength : isLast ? bodyNone : bodyUnknown;
    // HTTP/1.1 needs a length where HTTP/2 only ends the stream.
    const text = `HTTP/1.1 ${head.status} ${isLast && !isBodiless && !hasLength && exchange.down.version < 2 ? `\r\nContent-Length: 0\r\n` : '\r\n'}${lines}`;
    exchange.onHead(head, text, kind, emptyBytes, 0, 0, isLast || isBodiless);
  }

  #onData(bytes: Buffer): void {
    this.#restartStream();
    if (this.#exchange?.onBody(bytes, 0, bytes.length) === false) this.pause();
  }

  #onEnd(): void {
    this.#hasEnded = true;
    const exchange = this.#exchange;
    if (exchange === undefined || !this.#hasHead) return;
    this.#exchange = undefined;
    exchange.upstream = undefined;
    this.#engine.deadlines.stop(this.#deadline);
    if (!exchange.isRequestWhole) this.#stream.close(http2Module().constants.NGHTTP2_NO_ERROR);
    exchange.onEnd(this.#trailers);
  }

  #onClose(): void {
    this.#session.streamCount -= 1;
    this.#engine.deadlines.stop(this.#deadline);
    if (this.#exchange === undefined || this.#hasEnded) return;
    const code = this.#stream.rstCode;
    if (!this.#session.isConnected || code === http2Module().constants.NGHTTP2_REFUSED_STREAM) this.#fail('connect');
    else this.#fail(this.#isTimedOut ? 'timeout' : this.#hasHead ? 'truncated' : code === http2Module().constants.NGHTTP2_NO_ERROR ? 'reset' : 'invalid');
  }

  #fail(kind: FailureKind): void {
    const exchange = this.#exchange;
    this.#exchange = undefined;
    this.close();
    exchange?.onFailure(kind);
  }
}

const emptyBytes = Buffer.alloc(0);
