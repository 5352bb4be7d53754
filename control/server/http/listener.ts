// The TLS listener: HTTP/2 and HTTP/1.1 on one port (kubectl speaks h2, upgrades come over h1). Turns each request into
// an Exchange and hands it to the handler chain; reads the client certificate once per connection.
// TLS 1.2 and newer with AEAD ciphers; the client certificate is asked for, verified against the client authority only,
// and its absence leaves the request to bearer tokens.

import { createHash, X509Certificate } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createSecureServer, constants, type Http2SecureServer, type Http2ServerRequest, type Http2ServerResponse } from 'node:http2';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import { NetloomError } from '../../../api/errors.ts';
import type { Log } from '../../../api/log.ts';
import type { Exchange, Headers, PeerCertificate, Reply, UpgradeSocket } from './exchange.ts';

export interface ListenerOptions {
  bind: string; port: number; certPem: string; keyPem: string; clientCaPem: string; log: Log;
  /** Called for every request; must not throw. */
  onExchange: (exchange: Exchange) => void;
}

const ciphers = 'ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256';
const limits = {
  handshakeTimeoutMs: 10_000, headersTimeoutMs: 10_000, requestTimeoutMs: 60_000, keepAliveTimeoutMs: 90_000,
  headerBytesMax: 65_536, streamsPerConnection: 250, connectionsMax: 8_000,
};

type AnyRequest = IncomingMessage | Http2ServerRequest;
type AnyResponse = ServerResponse | Http2ServerResponse;

/** One listening socket. */
export class Listener {
  readonly #options: ListenerOptions;
  readonly #server: Http2SecureServer;
  readonly #sockets = new Set<Duplex>();

  constructor(options: ListenerOptions) {
    this.#options = options;
    this.#server = createSecureServer({
      allowHTTP1: true, cert: options.certPem, key: options.keyPem, ca: options.clientCaPem, requestCert: true, rejectUnauthorized: false,
      minVersion: 'TLSv1.2', ciphers, honorCipherOrder: true, handshakeTimeout: limits.handshakeTimeoutMs, ALPNProtocols: ['h2', 'http/1.1'],
      maxHeaderListPairs: 200, settings: { maxConcurrentStreams: limits.streamsPerConnection, maxHeaderListSize: limits.headerBytesMax, initialWindowSize: 1 << 20 },
      ...{ headersTimeout: limits.headersTimeoutMs, requestTimeout: limits.requestTimeoutMs, keepAliveTimeout: limits.keepAliveTimeoutMs, maxHeaderSize: limits.headerBytesMax, noDelay: true },
    });
    this.#server.maxConnections = limits.connectionsMax;
    this.#server.on('secureConnection', (socket) => this.#track(socket));
    this.#server.on('connection', (socket: Socket) => { socket.setNoDelay(true); });
    this.#server.on('request', (request: AnyRequest, response: AnyResponse) => options.onExchange(makeExchange(request, response)));
    this.#server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => options.onExchange(makeUpgrade(request, socket, head)));
    this.#server.on('sessionError', (error: Error) => options.log.debug('session error', { err: error }));
    this.#server.on('tlsClientError', (error: Error, socket: Duplex) => { options.log.debug('handshake failed', { err: error }); socket.destroy(); });
    this.#server.on('clientError', (_error: Error, socket: Duplex) => { if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n'); });
    this.#server.on('session', (session) => {
      // A bigger connection window than the default 64 KiB, so that one slow watch does not hold up the others.
      session.setLocalWindowSize(8 << 20);
    });
  }

  get connectionCount(): number { return this.#sockets.size; }
  get address(): string { return (this.#server.address() as AddressInfo).address; }
  get port(): number { return (this.#server.address() as AddressInfo).port; }

  /** Listens; throws PortInUse or PermissionDenied with advice. */
  start(): Promise<void> {
    const { bind, port } = this.#options;
    return new Promise((resolve, reject) => {
      this.#server.once('error', (error: NodeJS.ErrnoException) => reject(listenError(error, bind, port)));
      this.#server.listen({ host: bind, port }, () => resolve());
    });
  }

  /** Takes a new certificate for connections made from now on. */
  renew(certPem: string, keyPem: string): void {
    this.#server.setSecureContext({ cert: certPem, key: keyPem, ca: this.#options.clientCaPem, minVersion: 'TLSv1.2', ciphers });
  }

  /** Stops accepting and tells HTTP/2 clients to go away. */
  close(): void { this.#server.close(); }

  /** Cuts what is still connected. */
  destroy(): void { for (const socket of this.#sockets) socket.destroy(); }

  #track(socket: Duplex): void {
    this.#sockets.add(socket);
    socket.on('error', () => {});
    socket.once('close', () => this.#sockets.delete(socket));
  }
}

function listenError(error: NodeJS.ErrnoException, bind: string, port: number): Error {
  if (error.code === 'EADDRINUSE') return new NetloomError('PortInUse', `the API port ${bind}:${port} is in use`, { source: 'config', cause: error, hint: 'stop the other process or choose a port with --api-port (0 picks a free one)' });
  if (error.code === 'EACCES') return new NetloomError('PermissionDenied', `not allowed to listen on ${bind}:${port}`, { source: 'config', cause: error, hint: 'choose a port of 1024 or above with --api-port' });
  if (error.code === 'EADDRNOTAVAIL') return new NetloomError('ConfigInvalid', `${bind} is not an address of this machine`, { source: 'config', cause: error, hint: 'give an address of this machine to --bind' });
  return error;
}

const certificateSymbol = Symbol('peerCertificate');
interface MarkedSocket { [certificateSymbol]?: PeerCertificate | null }

/** The verified certificate of a connection, parsed once. */
function peerCertificate(socket: (TLSSocket & MarkedSocket) | undefined): PeerCertificate | undefined {
  if (socket === undefined) return undefined;
  const known = socket[certificateSymbol];
  if (known !== undefined) return known ?? undefined;
  let found: PeerCertificate | null = null;
  if (socket.authorized) {
    const certificate = socket.getPeerX509Certificate?.();
    if (certificate !== undefined) found = readCertificate(certificate);
  }
  socket[certificateSymbol] = found;
  return found ?? undefined;
}

function readCertificate(certificate: X509Certificate): PeerCertificate {
  const subject = certificate.toLegacyObject().subject as unknown as Record<string, string | string[] | undefined>;
  const list = (value: string | string[] | undefined): string[] => (value === undefined ? [] : Array.isArray(value) ? value : [value]);
  return {
    commonName: list(subject['CN'])[0] ?? '', organizations: list(subject['O']),
    fingerprint: createHash('sha256').update(certificate.raw).digest('hex'), notAfterMs: Date.parse(certificate.validTo),
  };
}

function socketOf(request: AnyRequest): TLSSocket | undefined {
  const http2 = (request as Http2ServerRequest).stream?.session?.socket;
  return (http2 ?? request.socket) as TLSSocket | undefined;
}

function makeExchange(request: AnyRequest, response: AnyResponse): Exchange {
  return new HttpExchange(request, new HttpReply(response, request));
}

function makeUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Exchange {
  return new HttpExchange(request, new UpgradeReply(socket), { socket, head, rawHeaders: request.rawHeaders });
}

class HttpExchange implements Exchange {
  readonly method: string;
  readonly path: string;
  readonly queryText: string;
  readonly headers: Headers;
  readonly peer: Exchange['peer'];
  readonly reply: Reply;
  readonly upgrade: UpgradeSocket | undefined;
  user: Exchange['user'] = undefined;
  readonly #request: AnyRequest;
  #query: URLSearchParams | undefined;

  constructor(request: AnyRequest, reply: Reply, upgrade?: UpgradeSocket) {
    const url = request.url ?? '/';
    const mark = url.indexOf('?');
    this.method = request.method ?? 'GET';
    this.path = mark < 0 ? url : url.slice(0, mark);
    this.queryText = mark < 0 ? '' : url.slice(mark + 1);
    this.headers = flatHeaders(request);
    const socket = socketOf(request);
    this.peer = { certificate: peerCertificate(socket), address: socket?.remoteAddress ?? '', isInProcess: false };
    this.reply = reply;
    this.upgrade = upgrade;
    this.#request = request;
  }

  get query(): URLSearchParams { return this.#query ??= new URLSearchParams(this.queryText); }

  readBody(bytesMax: number): Promise<Buffer> {
    const declared = Number(this.headers['content-length'] ?? 0);
    if (declared > bytesMax) return Promise.reject(tooLarge(bytesMax));
    return new Promise((resolve, reject) => {
      const chunks: Buffer[] = [];
      let size = 0;
      const request = this.#request as IncomingMessage;
      request.on('data', (chunk: Buffer) => {
        size += chunk.length;
        if (size > bytesMax) { request.removeAllListeners('data'); request.resume(); reject(tooLarge(bytesMax)); return; }
        chunks.push(chunk);
      });
      let isWhole = false;
      request.on('end', () => {
        isWhole = true;
        resolve(chunks.length === 1 ? chunks[0] as Buffer : Buffer.concat(chunks));
      });
      request.on('error', reject);
      request.on('close', () => { if (!isWhole) reject(new NetloomError('BadRequest', 'the client went away while it sent the body', { source: 'downstream' })); });
    });
  }

  bodyStream(): AsyncIterable<Uint8Array> | undefined { return this.method === 'GET' || this.method === 'HEAD' ? undefined : this.#request; }
}

/** Limit errors of request bodies, worded as Kubernetes words them. */
export function tooLarge(bytesMax: number): NetloomError {
  return new NetloomError('RequestEntityTooLarge', `Request entity too large: limit is ${bytesMax}`, { source: 'downstream' });
}

function flatHeaders(request: AnyRequest): Headers {
  if (request.httpVersionMajor === 2 && request.headers['set-cookie'] === undefined) {
    // The only field that HTTP/2 gives as a list is absent, and the object is this request's own: no copy.
    const own = request.headers as Record<string, string | undefined>;
    own['host'] ??= own[':authority'];
    return own;
  }
  const flat: Record<string, string | undefined> = Object.create(null) as Record<string, string | undefined>;
  for (const [name, value] of Object.entries(request.headers)) flat[name] = Array.isArray(value) ? value.join(', ') : value;
  flat['host'] ??= flat[':authority'];
  return flat;
}

class HttpReply implements Reply {
  readonly #response: ServerResponse;
  readonly #isHttp2: boolean;
  readonly #isHead: boolean;
  // One listener each on the stream, however many callers wait.
  readonly #closers: (() => void)[] = [];
  readonly #drains: (() => void)[] = [];
  #isListening = false;
  status = 0;

  constructor(response: AnyResponse, request: AnyRequest) {
    this.#response = response as ServerResponse;
    this.#isHttp2 = request.httpVersionMajor === 2;
    this.#isHead = request.method === 'HEAD';
    response.on('error', () => {});
  }

  get isOpen(): boolean { return this.status === 0; }
  get isClosed(): boolean { return this.#response.writableEnded || this.#response.destroyed || (this.#response as unknown as { stream?: { destroyed: boolean } }).stream?.destroyed === true; }

  head(status: number, headers: Record<string, string | string[]>): void {
    this.status = status;
    if (this.isClosed) return;
    this.#response.writeHead(status, headers);
    // A body of known length follows in the same tick; only streams need their head now.
    if (headers['content-length'] === undefined) this.#response.flushHeaders();
  }

  write(chunk: Uint8Array | string): boolean {
    if (this.isClosed || this.#isHead) return true;
    return this.#response.write(chunk);
  }

  end(chunk?: Uint8Array | string): void {
    if (this.isClosed) return;
    if (chunk === undefined || this.#isHead) this.#response.end(); else this.#response.end(chunk);
  }

  onDrain(callback: () => void): void {
    if (this.isClosed) { queueMicrotask(callback); return; }
    this.#listen();
    this.#drains.push(callback);
  }

  onClose(callback: () => void): void {
    if (this.isClosed) { queueMicrotask(callback); return; }
    this.#listen();
    this.#closers.push(callback);
  }

  #listen(): void {
    if (this.#isListening) return;
    this.#isListening = true;
    const drain = (): void => { for (const callback of this.#drains.splice(0)) callback(); };
    this.#response.on('drain', drain);
    this.#response.once('close', () => { drain(); for (const callback of this.#closers.splice(0)) callback(); });
  }

  destroy(): void {
    const stream = (this.#response as unknown as { stream?: { close(code: number): void } }).stream;
    if (this.#isHttp2 && stream !== undefined) stream.close(constants.NGHTTP2_INTERNAL_ERROR); else this.#response.destroy();
  }
}

/** Answers an upgrade request that is refused; accepted ones write to the socket themselves. */
class UpgradeReply implements Reply {
  readonly #socket: Duplex;
  status = 0;

  constructor(socket: Duplex) {
    this.#socket = socket;
    socket.on('error', () => {});
  }

  get isOpen(): boolean { return this.status === 0; }
  get isClosed(): boolean { return this.#socket.destroyed || this.#socket.writableEnded; }

  head(status: number, headers: Record<string, string | string[]>): void {
    this.status = status;
    const lines = Object.entries(headers).flatMap(([name, value]) => (Array.isArray(value) ? value : [value]).map((item) => `${name}: ${item}\r\n`));
    this.#socket.write(`HTTP/1.1 ${status} Refused\r\n${lines.join('')}connection: close\r\n\r\n`);
  }

  write(chunk: Uint8Array | string): boolean { return this.isClosed ? true : this.#socket.write(chunk); }
  end(chunk?: Uint8Array | string): void { if (!this.isClosed) this.#socket.end(chunk ?? ''); }
  onDrain(callback: () => void): void { this.#socket.once('drain', callback); }
  onClose(callback: () => void): void { if (this.#socket.destroyed) queueMicrotask(callback); else this.#socket.once('close', callback); }
  destroy(): void { this.#socket.destroy(); }
}
