// Backends (a Service port), their endpoints, and the choice of one per request: power of two choices on outstanding
// requests weighed with a moving average of latency, with passive ejection of endpoints that fail. An Endpoint object
// lives as long as its address is used anywhere, so its connections survive route changes; a removed endpoint gets no
// new request, its idle connections close at once and its busy ones after their answer (rules 109, 119).

import type { Upstream } from './exchange.ts';

export type BackendProtocol = 'http' | 'https' | 'h2c' | 'h2';

/** How to reach one endpoint over TLS. `serverName` is sent as SNI and checked against the certificate. */
export interface BackendTls {
  readonly serverName: string | undefined; readonly caPem: string | undefined;
  readonly certPem: string | undefined; readonly keyPem: string | undefined; readonly mayVerify: boolean;
}

const ejectMsMin = 1_000;
const ejectMsMax = 30_000;
const faultsToEject = 5;
/** Requests that may be outstanding on one endpoint; beyond, it counts as full (503). */
export const outstandingPerEndpointMax = 1_024;
const idlePerEndpointMax = 256;

export class Endpoint {
  readonly ip: string; readonly port: number; readonly name: string;
  readonly backend: Backend;
  /** Idle HTTP/1.1 connections, used newest first. */
  readonly idle: Upstream[] = [];
  readonly open = new Set<Upstream>();
  /** HTTP/2 sessions, made by upstream-h2.ts. */
  session: { close(): void } | undefined = undefined;
  outstanding = 0;
  /** Moving average of the time to the response head, ms. */
  latencyMs = 0;
  faultCount = 0; ejectCount = 0; ejectedUntilMs = 0;
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

  noteSuccess(latencyMs: number): void {
    this.latencyMs = this.latencyMs === 0 ? latencyMs : this.latencyMs * 0.8 + latencyMs * 0.2;
    if (this.faultCount !== 0) { this.faultCount = 0; this.ejectCount = 0; }
  }

  /** A failed connect ejects at once; other faults (5xx, timeout, reset) after five in a row. */
  noteFault(isConnect: boolean, nowMs: number): void {
    this.faultCount += 1;
    if (!isConnect && this.faultCount < faultsToEject) return;
    this.ejectedUntilMs = nowMs + Math.min(ejectMsMax, ejectMsMin * 2 ** Math.min(this.ejectCount, 5));
    this.ejectCount += 1;
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
    const count = endpoints.length;
    if (count === 1) return tried === undefined || tried.length === 0 || tried[0] !== endpoints[0] ? endpoints[0] : undefined;
    if (count === 0) return undefined;
    const turn = this.#turn = this.#turn + 1 >= count ? 0 : this.#turn + 1;
    const first = endpoints[turn]!;
    const offset = 1 + ((random() * (count - 1)) | 0);
    const second = endpoints[turn + offset >= count ? turn + offset - count : turn + offset]!;
    const mayFirst = first.ejectedUntilMs <= nowMs && (tried === undefined || !tried.includes(first));
    const maySecond = second.ejectedUntilMs <= nowMs && (tried === undefined || !tried.includes(second));
    if (mayFirst && maySecond) return load(second) < load(first) * 0.999 ? second : first;
    if (mayFirst) return first;
    if (maySecond) return second;
    return this.#pickByScan(tried, nowMs);
  }

  #pickByScan(tried: readonly Endpoint[] | undefined, nowMs: number): Endpoint | undefined {
    let best: Endpoint | undefined;
    let lastResort: Endpoint | undefined;
    for (const endpoint of this.endpoints) {
      if (tried?.includes(endpoint) === true) continue;
      if (endpoint.ejectedUntilMs > nowMs) {
        if (lastResort === undefined || endpoint.ejectedUntilMs < lastResort.ejectedUntilMs) lastResort = endpoint;
      } else if (best === undefined || load(endpoint) < load(best)) best = endpoint;
    }
    return best ?? lastResort;
  }
}

/** Outstanding work weighed by latency, with a floor so that sub-millisecond noise does not starve an endpoint. */
function load(endpoint: Endpoint): number {
  return (endpoint.outstanding + 1) * (endpoint.latencyMs < 2 ? 2 : endpoint.latencyMs);
}
