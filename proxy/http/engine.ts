// The HTTP engine of one worker thread: what all its connections share (router, deadlines, limits, counters, own
// answers), accepting sockets, choosing and opening upstream connections, draining.
//
// How to use it (ingress/worker.ts, proxy/userspace):
//   const engine = new HttpEngine({ router, clock, log });          // router: Router of route.ts
//   server.on('connection', (socket) => engine.accept(socket, { scheme: 'http' }));
//   engine.drain();                                                 // answers say Connection: close, idle ones close
//   await engine.close(drainMs);
// `Route.backend` is a Backend of endpoints.ts; call backend.update() when endpoints change.

import type net from 'node:net';
import type { Clock } from '../../api/clock.ts';
import type { Log } from '../../api/log.ts';
import { adoptSocket } from './adopt-socket.ts';
import { Answers } from './answers.ts';
import { Deadlines } from './deadlines.ts';
import { DownstreamH1 } from './downstream-h1.ts';
import { waitingPerEndpointMax, type Backend, type Endpoint } from './endpoints.ts';
import type { Exchange, Upstream } from './exchange.ts';
import { refuseNames } from './external-names.ts';
import { LoadGuard, loadLimits, type LoadLimits } from './load-guard.ts';
import { serveH2 } from './h2-front.ts';
import { finishRequestText } from './policy/auth.ts';
import { runPolicy } from './policy/run.ts';
import { headLimits, RequestHead, type HeadLimits } from './message/request-head.ts';
import { viaValue } from './message/request-text.ts';
import { responseLimits, type ResponseLimits } from './message/response-head.ts';
import type { RetryRules, Route, Router } from './route.ts';
import { UpstreamH1 } from './upstream-h1.ts';
import { connectH2 } from './upstream-h2.ts';

/** Milliseconds per phase; 0 = off. */
export interface HttpTimeouts {
  headMs: number; bodyIdleMs: number; keepAliveMs: number; writeStallMs: number;
  connectMs: number; responseMs: number; streamIdleMs: number; tunnelIdleMs: number; upstreamIdleMs: number;
}
export const httpTimeouts: HttpTimeouts = Object.freeze({
  headMs: 10_000, bodyIdleMs: 30_000, keepAliveMs: 75_000, writeStallMs: 30_000,
  connectMs: 1_000, responseMs: 60_000, streamIdleMs: 300_000, tunnelIdleMs: 3_600_000, upstreamIdleMs: 4_000,
});

/** What is known about a connection before any request, made once per connection. */
export interface PeerInfo {
  readonly ip: string; readonly scheme: 'http' | 'https'; readonly localPort: number; readonly isTrusted: boolean;
  /** X-Forwarded-* lines that are the same for every request of this connection. */
  readonly forwardedFields: string;
  /** TLS name the client asked for; undefined on plain connections. */
  readonly serverName: string | undefined;
  /** Whether this connection's certificate must not serve that host (421). */
  readonly misdirected: ((host: string) => boolean) | undefined;
  /** The connections are near their limit: this one is told 503 and closed. */
  readonly isExcess: boolean;
  /** `for` and `proto` of RFC 7239; '' = that field is not sent. */
  readonly forwardedElement: string;
  /** What the client proved by a certificate; undefined = the listener did not ask. */
  readonly clientCertificate: ClientCertificate | undefined;
}
export interface ClientCertificate { readonly isVerified: boolean; readonly error: string; readonly subject: string; readonly issuer: string; readonly fingerprint: string; readonly pem: string }

export interface AcceptOptions {
  scheme: 'http' | 'https'; alpn?: string; serverName?: string | undefined; misdirected?: ((host: string) => boolean) | undefined; clientCertificate?: ClientCertificate | undefined;
  /** Bytes already read, and what a PROXY protocol header said. */
  first?: Buffer; peerIP?: string; localPort?: number;
  /** The listener has `pauseOnConnect`: nothing was read yet, so the socket can be given the shared read buffer. */
  isPaused?: boolean;
}

/** What the engine may ask of any open connection. */
interface Connection { drain(): void; closeIdle(): void; close(): void }
interface ConnectionSlot { connection: Connection | undefined }

export interface HttpEngineOptions {
  router: Router; clock: Clock; log: Log;
  timeouts?: Partial<HttpTimeouts>; headLimits?: Partial<HeadLimits>;
  /** Peers whose X-Forwarded-* are believed. */
  isTrusted?: (ip: string) => boolean;
  observer?: Observer; random?: () => number;
  /** Resolves endpoints that are names (external-names.ts); default: none is reached. */
  lookup?: net.LookupFunction;
  load?: Partial<LoadLimits>;
  /** Adds RFC 7239 Forwarded beside X-Forwarded-*. */
  isForwardedOn?: boolean;
  requestsPerConnectionMax?: number; connectionsMax?: number; connectionsPerSourceMax?: number;
}

/** Who counts and logs; every method is called on the hot path and must not throw. */
export interface Observer {
  done(exchange: Exchange, durationMs: number): void;
  retried(exchange: Exchange): void;
  gauge(name: 'connections' | 'upstreams' | 'tunnels', delta: number): void;
  limited(name: string): void;
}

const noObserver: Observer = Object.freeze({ done() {}, retried() {}, gauge() {}, limited() {} });
const hexPairs: readonly string[] = Array.from({ length: 256 }, (_, value) => value.toString(16).padStart(2, '0'));
const retryBudgetMax = 50;
const retryPerRequest = 0.2;
const freeHeadsMax = 256;
const drainIdleMs = 500;
/** From this share of the connections on, new ones are answered 503 and closed; at the limit they are closed at once. */
const excessShare = 0.95;
const defaultRetry: { triesMax: number; retryOn: RetryRules } = Object.freeze({
  triesMax: 3, retryOn: Object.freeze({ connect: true, reset: true, timeout: false, invalid: false, nonIdempotent: false, statuses: [] }),
});

export class HttpEngine {
  router: Router;
  readonly deadlines: Deadlines;
  readonly timeouts: HttpTimeouts;
  readonly headLimits: HeadLimits;
  readonly responseLimits: ResponseLimits = responseLimits;
  readonly requestsPerConnectionMax: number;
  readonly answers = new Answers();
  readonly log: Log;
  readonly clock: Clock;
  readonly observer: Observer;
  readonly random: () => number;
  readonly lookup: net.LookupFunction;
  readonly loadGuard: LoadGuard;
  /** Policies and request text are reached through the engine, since they in turn make exchanges (sub-requests). */
  readonly runPolicy: typeof runPolicy = runPolicy;
  readonly writeRequest: typeof finishRequestText = finishRequestText;
  isDraining = false;
  /** Parsers work into this head; a connection that got a whole one takes it and leaves another (takeHead, giveHead). */
  scratchHead = new RequestHead();
  readonly #freeHeads: RequestHead[] = [];
  /** Set by a downstream that kept the bytes it was given: their buffer must not be read into again. */
  hasKeptBytes = false;
  /** The time of the last nowMs(): good enough for deadlines within one turn. */
  nowMsCached = 0;
  readonly #options: HttpEngineOptions;
  readonly #connections = new Set<ConnectionSlot>();
  readonly #perSource = new Map<string, number>();
  #retryTokens = retryBudgetMax;
  #dateLine = '';
  #dateAtMs = -Infinity;
  #requestCounter = 0;
  readonly #requestPrefix: string;
  #requestBlock = 0;
  #requestStem: string;
  #whenIdle: PromiseWithResolvers<void> | undefined;

  constructor(options: HttpEngineOptions) {
    this.#options = options;
    this.router = options.router;
    this.clock = options.clock;
    this.log = options.log;
    this.observer = options.observer ?? noObserver;
    this.random = options.random ?? Math.random;
    this.lookup = options.lookup ?? refuseNames;
    this.loadGuard = new LoadGuard(options.clock, { ...loadLimits, ...options.load });
    this.deadlines = new Deadlines(options.clock);
    this.timeouts = { ...httpTimeouts, ...options.timeouts };
    this.headLimits = { ...headLimits, ...options.headLimits };
    this.headLimits.fieldCountMax = Math.min(120, this.headLimits.fieldCountMax);
    this.requestsPerConnectionMax = options.requestsPerConnectionMax ?? 10_000;
    this.#requestPrefix = Array.from({ length: 20 }, () => Math.floor(this.random() * 16).toString(16)).join('');
    this.#requestStem = `${this.#requestPrefix}10000000`;
    this.nowMs();
  }

  nowMs(): number { return this.nowMsCached = this.clock.monotonicMs(); }
  isTrusted(ip: string): boolean { return this.#options.isTrusted?.(ip) ?? false; }
  get connectionCount(): number { return this.#connections.size; }

  /** 32 hex digits, unique per worker and request. */
  nextRequestID(): string {
    this.#requestCounter += 1;
    if (this.#requestCounter >= 0x10000) {
      this.#requestCounter = 0;
      this.#requestBlock += 1;
      this.#requestStem = this.#requestPrefix + (0x1000_0000 + this.#requestBlock).toString(16);
    }
    return this.#requestStem + hexPairs[this.#requestCounter >> 8]! + hexPairs[this.#requestCounter & 255]!;
  }

  /** The head just parsed, for the length of its request. */
  takeHead(): RequestHead {
    const head = this.scratchHead;
    this.scratchHead = this.#freeHeads.pop() ?? new RequestHead();
    return head;
  }

  giveHead(head: RequestHead): void {
    head.text = '';
    if (this.#freeHeads.length < freeHeadsMax) this.#freeHeads.push(head);
  }

  /** A Date field line, made once a second. */
  dateLine(): string {
    if (this.nowMsCached - this.#dateAtMs >= 1_000 || this.nowMsCached < this.#dateAtMs) {
      this.#dateAtMs = this.nowMsCached;
      this.#dateLine = `Date: ${new Date(this.clock.nowMs()).toUTCString()}\r\n`;
    }
    return this.#dateLine;
  }

  /** Serves one accepted socket until it closes: HTTP/1.1, or HTTP/2 when ALPN or the client's first bytes say so. */
  accept(accepted: net.Socket, options: AcceptOptions): void {
    const ip = options.peerIP ?? plainIP(accepted.remoteAddress ?? '');
    accepted.on('error', () => {});
    if (!this.#admit(ip)) { accepted.destroy(); return; }
    const peer = this.#makePeer(ip, options, options.localPort ?? accepted.localPort ?? 0);
    const slot: ConnectionSlot = { connection: undefined };
    this.#connections.add(slot);
    this.observer.gauge('connections', 1);
    if (options.alpn === 'h2') {
      accepted.on('close', () => this.#leave(slot, ip));
      slot.connection = serveH2(this, accepted, peer);
      return;
    }
    let connection: DownstreamH1 | undefined;
    const adopted = options.isPaused === true ? adoptSocket(accepted, (count, bytes) => connection === undefined || connection.onShared(bytes, count)) : undefined;
    const socket = adopted ?? accepted;
    connection = new DownstreamH1(this, socket, peer);
    slot.connection = connection;
    socket.on('close', () => this.#leave(slot, ip));
    this.#wire(socket, connection, slot, peer, adopted === undefined);
    if (options.first !== undefined && options.first.length > 0) connection.onBytes(options.first);
    if (options.isPaused === true) socket.resume();
  }

  #wire(socket: net.Socket, connection: DownstreamH1, slot: ConnectionSlot, peer: PeerInfo, hasDataEvents: boolean): void {
    const onDrain = (): void => connection.onDrain();
    const onEnd = (): void => connection.onEnd();
    connection.onPreface = (bytes) => {
      for (const event of ['data', 'drain', 'end']) socket.removeAllListeners(event);
      socket.pause();
      socket.unshift(bytes);
      slot.connection = serveH2(this, socket, peer);
    };
    socket.on('error', () => {});
    if (hasDataEvents) socket.on('data', (bytes: Buffer) => connection.onBytes(bytes));
    socket.on('drain', onDrain);
    socket.on('end', onEnd);
    socket.on('close', () => connection.onClose());
  }

  /** Builds the per-connection part of the forwarded fields once. */
  #makePeer(ip: string, options: AcceptOptions, localPort: number): PeerInfo {
    const { scheme, serverName, misdirected, clientCertificate } = options;
    const { connectionsMax = Infinity, isTrusted, isForwardedOn } = this.#options;
    return {
      ip, scheme, localPort, isTrusted: isTrusted?.(ip) ?? false, serverName, misdirected, clientCertificate, isExcess: this.#connections.size >= connectionsMax * excessShare,
      forwardedFields: `X-Forwarded-For: ${ip}\r\nX-Forwarded-Proto: ${scheme}\r\nX-Forwarded-Port: ${localPort}\r\nX-Real-IP: ${ip}\r\nVia: ${viaValue}\r\n`,
      forwardedElement: isForwardedOn === true ? `for=${ip.includes(':') ? `"[${ip}]"` : ip};proto=${scheme}` : '',
    };
  }

  #admit(ip: string): boolean {
    const { connectionsMax = Infinity, connectionsPerSourceMax = Infinity } = this.#options;
    if (this.#connections.size >= connectionsMax) { this.observer.limited('connections'); return false; }
    const count = this.#perSource.get(ip) ?? 0;
    if (count >= connectionsPerSourceMax) { this.observer.limited('connections_per_source'); return false; }
    this.#perSource.set(ip, count + 1);
    return true;
  }

  #leave(slot: ConnectionSlot, ip: string): void {
    this.#connections.delete(slot);
    this.observer.gauge('connections', -1);
    const count = this.#perSource.get(ip) ?? 1;
    if (count <= 1) this.#perSource.delete(ip); else this.#perSource.set(ip, count - 1);
    if (this.#connections.size === 0) this.#whenIdle?.resolve();
  }

  /** The endpoint for the next try of an exchange; undefined when there is none that may take it. */
  pick(exchange: Exchange, backend: Backend): Endpoint | undefined {
    const endpoint = backend.pick(exchange.tried, this.nowMsCached, this.random);
    return endpoint === undefined || endpoint.waiting < waitingPerEndpointMax ? endpoint : undefined;
  }

  /** Takes an idle connection of the endpoint or opens one, and sends the exchange's request on it. */
  connect(exchange: Exchange, endpoint: Endpoint): Upstream {
    exchange.sentMs = this.nowMsCached;
    const { protocol } = endpoint.backend;
    if (protocol === 'h2c' || protocol === 'h2') return connectH2(this, exchange, endpoint);
    const idle = exchange.needsFresh ? undefined : endpoint.takeIdle() as UpstreamH1 | undefined;
    const upstream = idle ?? new UpstreamH1(this, endpoint);
    upstream.send(exchange, idle !== undefined, this.nowMsCached);
    return upstream;
  }

  /** Whether a new request is refused because this thread has too much to do. */
  isShed(exchange: Exchange): boolean {
    if (!exchange.peer.isExcess && !this.loadGuard.mustShed(this.nowMsCached)) return false;
    this.observer.limited('overload');
    this.answers.send(exchange, 503, 'overloaded', 'too many requests at once');
    return true;
  }

  noteResponse(exchange: Exchange, status: number): void {
    const { endpoint } = exchange;
    if (endpoint === undefined) return;
    const nowMs = this.nowMs();
    if (status === 502 || status === 503 || status === 504 || status === 500) endpoint.noteFault(false, nowMs);
    else endpoint.noteSuccess(nowMs - exchange.sentMs);
  }

  noteDone(exchange: Exchange): void {
    if (this.#retryTokens < retryBudgetMax) this.#retryTokens += retryPerRequest;
    this.observer.done(exchange, this.nowMsCached - exchange.startedMs);
  }

  retrySettings(route: Route | undefined): { triesMax: number; retryOn: RetryRules } { return route?.retry ?? defaultRetry; }

  /** Whether the budget (20 % of requests, 50 at once) allows one more try. */
  takeRetry(exchange: Exchange, _isConnect: boolean): boolean {
    if (this.#retryTokens < 1) { this.observer.limited('retry_budget'); return false; }
    this.#retryTokens -= 1;
    this.observer.retried(exchange);
    return true;
  }

  upstreamOpened(): void { this.observer.gauge('upstreams', 1); }
  upstreamClosed(): void { this.observer.gauge('upstreams', -1); }
  tunnelOpened(): void { this.observer.gauge('tunnels', 1); }
  tunnelClosed(): void { this.observer.gauge('tunnels', -1); }

  /** From now on answers say Connection: close. Idle connections get a moment for a request that is already on its way, then close. */
  drain(): void {
    if (this.isDraining) return;
    this.isDraining = true;
    for (const slot of this.#connections) slot.connection?.drain();
    this.clock.after(drainIdleMs, () => { for (const slot of this.#connections) slot.connection?.closeIdle(); }, true);
  }

  /** Drains, waits up to `drainMs`, then closes what is left. */
  async close(drainMs: number): Promise<void> {
    this.drain();
    if (this.#connections.size > 0 && drainMs > 0) {
      this.#whenIdle = Promise.withResolvers();
      const timer = this.clock.after(drainMs, () => this.#whenIdle?.resolve(), true);
      await this.#whenIdle.promise;
      timer.cancel();
    }
    for (const slot of this.#connections) slot.connection?.close();
    this.deadlines.close();
  }
}

function plainIP(ip: string): string { return ip.startsWith('::ffff:') ? ip.slice(7) : ip; }
