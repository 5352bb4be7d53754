// DNS over HTTPS (RFC 8484) on node:http2 with HTTP/1.1 allowed: GET ?dns= and POST of application/dns-message at
// /dns-query. dns2's DOHServer was weighed and not taken: it speaks HTTP/1.1 only, reads bodies without a limit and runs
// its own decoder, which one packet can stall, before anybody can look at the size. Sizes are checked before decoding on
// both methods; streams, sessions and time are bounded. Called by dns/worker.ts.

import type { Http2SecureServer, Http2ServerRequest, Http2ServerResponse, ServerHttp2Session } from 'node:http2';
import type { Socket } from 'node:net';
import type { Clock, TimerHandle } from '../../api/clock.ts';
import { cells } from '../counters.ts';
import type { Engine, Origin } from '../engine/engine.ts';
import { skipName } from '../wire/query.ts';

export interface DohListenerOptions { engine: Engine; clock: Clock; isShared: boolean; tls: { certPem: string; keyPem: string } }

export const dohLimits = Object.freeze({ queryBytesMax: 4_096, sessionsMax: 256, streamsPerSessionMax: 100, idleTimeoutMs: 30_000, requestTimeoutMs: 10_000 });

const mediaType = 'application/dns-message';

class HttpOrigin implements Origin {
  readonly transport = 'https';
  readonly address: string;
  readonly port: number;
  readonly #response: Http2ServerResponse;

  constructor(request: Http2ServerRequest, response: Http2ServerResponse) {
    const { address, port } = peerOf(request);
    this.address = address;
    this.port = port;
    this.#response = response;
  }

  hold(): Origin { return this; }

  reply(bytes: Buffer): void {
    if (this.#response.writableEnded || this.#response.destroyed) return;
    this.#response.writeHead(200, { 'content-type': mediaType, 'content-length': bytes.length, 'cache-control': `max-age=${leastTtl(bytes)}` });
    this.#response.end(bytes);
  }
}

export class DohListener {
  readonly #engine: Engine;
  readonly #server: Http2SecureServer;
  readonly #isShared: boolean;
  readonly #sessions = new Set<ServerHttp2Session>();
  /** Open connections → octets read when last looked at. */
  readonly #sockets = new Map<Socket, number>();
  readonly #clock: Clock;
  readonly #idleTimer: TimerHandle;

  constructor({ engine, clock, isShared, tls }: DohListenerOptions) {
    this.#engine = engine;
    this.#clock = clock;
    this.#isShared = isShared;
    this.#server = process.getBuiltinModule('node:http2').createSecureServer({
      cert: tls.certPem, key: tls.keyPem, minVersion: 'TLSv1.2', allowHTTP1: true, maxSessionMemory: 2, handshakeTimeout: 5_000,
      settings: { maxConcurrentStreams: dohLimits.streamsPerSessionMax, maxHeaderListSize: 16_384 },
    }, (request, response) => this.#serve(request, response));
    this.#server.on('session', (session) => this.#admit(session));
    this.#server.on('connection', (socket: Socket) => {
      if (this.#sockets.size >= dohLimits.sessionsMax) return void this.#refuse(socket);
      this.#sockets.set(socket, -1);
      socket.on('error', () => socket.destroy());
      socket.on('close', () => this.#sockets.delete(socket));
    });
    this.#idleTimer = clock.every(dohLimits.idleTimeoutMs, () => this.#closeIdle());
    for (const event of ['sessionError', 'tlsClientError', 'clientError']) {
      this.#server.on(event, (_error: Error, peer?: { destroy(): void }) => { this.#engine.counters.add(cells.connectionsRefused); peer?.destroy(); });
    }
  }

  open(port: number, address: string): Promise<number> {
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    this.#server.once('error', reject);
    this.#server.listen({ port, host: address, reusePort: this.#isShared }, () => {
      this.#server.off('error', reject);
      this.#server.on('error', () => this.#engine.counters.add(cells.connectionsRefused));
      const bound = this.#server.address();
      resolve(typeof bound === 'object' && bound !== null ? bound.port : port);
    });
    return promise;
  }

  /** Lets streams that are open finish; the caller sets the time limit. */
  async drain(): Promise<void> {
    const closed = new Promise<void>((resolve) => { this.#server.close(() => resolve()); });
    for (const session of this.#sessions) session.close();
    for (const socket of this.#sockets.keys()) if (!([...this.#sessions].some((session) => session.socket === socket))) socket.end();
    await closed;
  }

  destroy(): void {
    for (const session of this.#sessions) session.destroy();
    for (const socket of this.#sockets.keys()) socket.destroy();
    this.#idleTimer.cancel();
  }

  /** A connection that sent nothing between two looks is closed. */
  #closeIdle(): void {
    for (const [socket, seen] of this.#sockets) {
      if (socket.bytesRead === seen) socket.destroy();
      else this.#sockets.set(socket, socket.bytesRead);
    }
  }

  #refuse(socket: Socket): void {
    this.#engine.counters.add(cells.connectionsRefused);
    socket.destroy();
  }

  #admit(session: ServerHttp2Session): void {
    this.#sessions.add(session);
    session.on('error', () => session.destroy());
    session.on('close', () => this.#sessions.delete(session));
  }

  #serve(request: Http2ServerRequest, response: Http2ServerResponse): void {
    response.on('error', () => response.destroy());
    request.on('error', () => response.destroy());
    const timer = this.#clock.after(dohLimits.requestTimeoutMs, () => response.destroy());
    response.on('close', () => timer.cancel());
    const { method, url } = request;
    const [path = '', query = ''] = url.split('?', 2);
    if (path !== '/dns-query') return fail(response, 404);
    if (method === 'GET') {
      const text = new URLSearchParams(query).get('dns') ?? '';
      if (text === '' || !/^[A-Za-z0-9_-]+$/.test(text)) return fail(response, 400);
      if (text.length > Math.ceil((dohLimits.queryBytesMax * 4) / 3)) return fail(response, 414);
      return this.#ask(Buffer.from(text, 'base64url'), request, response);
    }
    if (method !== 'POST') return fail(response, 405);
    if ((request.headers['content-type'] ?? '').split(';', 1)[0]?.trim().toLowerCase() !== mediaType) return fail(response, 415);
    if (Number(request.headers['content-length'] ?? 0) > dohLimits.queryBytesMax) return fail(response, 413);
    const pieces: Buffer[] = [];
    let size = 0;
    request.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size > dohLimits.queryBytesMax) { pieces.length = 0; fail(response, 413); request.destroy(); } else pieces.push(chunk);
    });
    request.on('end', () => { if (size <= dohLimits.queryBytesMax) this.#ask(Buffer.concat(pieces), request, response); });
  }

  #ask(message: Buffer, request: Http2ServerRequest, response: Http2ServerResponse): void {
    // Shorter than a header, or itself a reply: nothing to answer (RFC 8484 §4.2.1 leaves the status to us).
    if (message.length < 12 || ((message[2] ?? 0) & 0x80) !== 0) return fail(response, 400);
    const origin = new HttpOrigin(request, response);
    const reply = this.#engine.handle(message, origin);
    if (reply !== undefined) origin.reply(reply);
  }
}

/** Who asks; a session that has just gone has no socket any more. */
function peerOf(request: Http2ServerRequest): { address: string; port: number } {
  try {
    return { address: request.socket.remoteAddress ?? '', port: request.socket.remotePort ?? 0 };
  } catch {
    return { address: '', port: 0 };
  }
}

function fail(response: Http2ServerResponse, status: number): void {
  if (response.headersSent || response.writableEnded) return;
  response.writeHead(status, status === 405 ? { allow: 'GET, POST', 'content-length': 0 } : { 'content-length': 0 });
  response.end();
}

/** Least TTL of the reply's answers and authorities (RFC 8484 §5.1); our own replies are well-formed. */
function leastTtl(reply: Buffer): number {
  let position = 12;
  if (reply.readUInt16BE(4) !== 1) return 0;
  position = skipName(reply, reply.length, position) + 4;
  let least = Number.POSITIVE_INFINITY;
  for (let count = reply.readUInt16BE(6) + reply.readUInt16BE(8); count > 0; count--) {
    position = skipName(reply, reply.length, position);
    least = Math.min(least, reply.readUInt32BE(position + 4));
    position += 10 + reply.readUInt16BE(position + 8);
  }
  return Number.isFinite(least) ? least : 0;
}
