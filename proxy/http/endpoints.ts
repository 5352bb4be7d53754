// Backends (a Service port), their endpoints, and the choice of one per request by ../balance.ts. An Endpoint object
// lives as long as its address is used anywhere, so its connections survive route changes; a removed endpoint gets no
// new request, its idle connections close at once and its busy ones after their answer (rules 109, 119).

import { fadeLatencies, noteFailure, noteSuccess, pickEndpoint, type BalancedEndpoint } from '../balance.ts';
import type { Upstream } from './exchange.ts';

export type BackendProtocol = 'http' | 'https' | 'h2c' | 'h2';

/** How to reach one endpoint over TLS. `serverName` is sent as SNI and checked against the certificate. */
export interface BackendTls {
  readonly serverName: string | undefined; readonly caPem: string | undefined;
  readonly certPem: string | undefined; readonly keyPem: string | undefined; readonly mayVerify: boolean;
}

const faultsToEject = 5;
/** Requests that one endpoint has whole and has not begun to answer; beyond, it counts as full (503). Slow uploads, slow readers and tunnels are no work that waits: their bound is the one on connections. */
export const waitingPerEndpointMax = 1_024;
const idlePerEndpointMax = 256;
const fadeMs = 1_000;

export class Endpoint implements BalancedEndpoint {
  readonly ip: string; readonly port: number; readonly name: string;
  readonly backend: Backend;
  /** Idle HTTP/1.1 connections, used newest first. */
  readonly idle: Upstream[] = [];
  readonly open = new Set<Upstream>();
  /** HTTP/2 sessions, made by upstream-h2.ts. */
  session: { close(): void } | undefined = undefined;
  outstanding = 0;
  waiting = 0;
  /** Moving average of the time to the response head, ms. */
  latencyMs = 0;
  failureCount = 0; ejectedUntilMs = 0;
  isRetired = false;
  /** Value of the affinity cookie for this endpoint, filled by policy/cookie-affinity.ts. */
  cookie = '';

  constructor(backend: Backend, ip: string, port: number) {
    this.backend = backend;
    this.ip = ip;
    this.port = port;
    this.name = ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`;
  }

  /** A connection that is open, idle and clean, or undefined. */
  takeIdle(): Upstream | undefined { return this.idle.pop(); }

  /** Keeps a connection for the next request, unless the endpoint was removed or has enough. */
  giveBack(upstream: Upstream): boolean {
    if (this.isRetired || this.idle.length >= idlePerEndpointMax) return false;
    this.idle.push(upstream);
    return true;
  }

  forget(upstream: Upstream): void {
    this.open.delete(upstream);
    const index = this.idle.lastIndexOf(upstream);
    if (index >= 0) this.idle.splice(index, 1);
  }

  noteSuccess(latencyMs: number): void { noteSuccess(this, latencyMs); }

  /** A failed connect ejects at once; other faults (5xx, timeout, reset) after five in a row. */
  noteFault(isConnect: boolean, nowMs: number): void {
    if (isConnect && this.failureCount < faultsToEject - 1) this.failureCount = faultsToEject - 1;
    noteFailure(this, nowMs, faultsToEject);
  }

  retire(): void {
    this.isRetired = true;
    for (const upstream of [...this.idle]) upstream.close();
    this.idle.length = 0;
    this.session?.close();
  }
}

export interface EndpointAddress { readonly ip: string; readonly port: number }

export interface BackendOptions { protocol: BackendProtocol; tls: BackendTls | undefined; endpoints: readonly EndpointAddress[]; affinityCookie?: string | undefined }

export class Backend {
  /** 'namespace/service:port' and what else makes it differ. */
  readonly key: string;
  protocol: BackendProtocol;
  tls: BackendTls | undefined;
  endpoints: Endpoint[] = [];
  /** Why there is no endpoint when there is none: a word of netloom-reason. */
  emptyReason = 'no-endpoints';
  /** Changes with each new set of endpoints: caches over it compare. */
  generation = 0;
  #turn = 0;
  #fadedMs = 0;

  constructor(key: string, options: BackendOptions) {
    this.key = key;
    this.protocol = options.protocol;
    this.tls = options.tls;
    this.update(options);
  }

  /** Takes a new set of addresses; endpoints that stay keep their connections and history. */
  update(options: BackendOptions): void {
    const isOtherTransport = options.protocol !== this.protocol || JSON.stringify(options.tls) !== JSON.stringify(this.tls);
    this.protocol = options.protocol;
    this.tls = options.tls;
    const before = new Map(this.endpoints.map((endpoint) => [endpoint.name, endpoint]));
    const next: Endpoint[] = [];
    for (const address of options.endpoints) {
      const fresh = new Endpoint(this, address.ip, address.port);
      const present = isOtherTransport ? undefined : before.get(fresh.name);
      if (present === undefined) next.push(fresh);
      else if (before.delete(fresh.name)) next.push(present);
    }
    this.endpoints = next;
    this.generation += 1;
    for (const gone of before.values()) gone.retire();
  }

  close(): void {
    for (const endpoint of this.endpoints) endpoint.retire();
    this.endpoints = [];
  }

  /** The endpoint for one try, avoiding `tried` and ejected ones while others exist; undefined when there is none. O(1) usually. */
  pick(tried: readonly Endpoint[] | undefined, nowMs: number, random: () => number): Endpoint | undefined {
    const { endpoints } = this;
    if (nowMs - this.#fadedMs >= fadeMs) {
      this.#fadedMs = nowMs;
      fadeLatencies(endpoints);
    }
    // Taking turns for the first of the two keeps the spread even where all are equal.
    this.#turn = this.#turn + 1 >= endpoints.length ? 0 : this.#turn + 1;
    // No panic: a request to a dead endpoint costs a retry of the budget.
    return pickEndpoint(endpoints, tried, nowMs, random, this.#turn, 0);
  }
}
