// What load balancers and monitors ask this proxy. ServiceHealth: one HTTP server per healthCheckNodePort (type
// LoadBalancer, externalTrafficPolicy Local) that says whether this node has ready endpoints of the Service.
// ProxyHealth: /healthz and /livez, healthy while no change waits longer than it may. Called by proxier.
// Source: kubernetes pkg/proxy/healthcheck (service_health.go, proxy_health.go); KEP-3836 (node eligibility).

import type { Server, ServerResponse } from 'node:http';
import type { Clock, TimerHandle } from '../api/clock.ts';
import { NetloomError } from '../api/errors.ts';
import type { Log } from '../api/log.ts';
import { http } from '../api/node-http.ts';
import type { ServiceInfo } from '../api/services.ts';
import type { IPFamily, Node } from '../api/types.ts';
import { isLocal } from './topology.ts';

export interface ServiceHealthOptions {
  /** Addresses to listen on. */
  readonly addresses: readonly string[];
  readonly nodeName: string;
  readonly isProxyHealthy: () => boolean;
  readonly onFault: (info: ServiceInfo, message: string) => void;
  readonly clock: Clock;
  readonly log: Log;
}

interface Entry { port: number; servers: Server[]; info: ServiceInfo; localCount: number; retry: TimerHandle | undefined }

/** A port that could not be bound is tried again this often. */
const retryMs = 5_000;

/** Distinct IPs of this node's ready endpoints: terminating ones never count, so that a load balancer drains early. */
export function countLocalReady(info: ServiceInfo, nodeName: string): number {
  const ips = new Set<string>();
  for (const port of info.ports) for (const family of ['IPv4', 'IPv6'] as const) for (const endpoint of port.endpoints[family]) if (endpoint.ready && isLocal(endpoint, nodeName)) ips.add(endpoint.ip);
  return ips.size;
}

export class ServiceHealth {
  readonly #options: ServiceHealthOptions;
  readonly #entries = new Map<string, Entry>();

  constructor(options: ServiceHealthOptions) { this.#options = options; }

  get size(): number { return this.#entries.size; }

  /** Brings the Service's server in line; undefined = the Service is gone or has no such port. */
  update(key: string, info: ServiceInfo | undefined): void {
    const port = info !== undefined && info.isProxied ? info.healthCheckNodePort : 0;
    const present = this.#entries.get(key);
    if (info === undefined || port === 0) { this.#close(key); return; }
    const localCount = countLocalReady(info, this.#options.nodeName);
    if (present?.port === port) { present.info = info; present.localCount = localCount; return; }
    this.#close(key);
    const entry: Entry = { port, servers: [], info, localCount, retry: undefined };
    this.#entries.set(key, entry);
    this.#listen(key, entry);
  }

  keys(): IterableIterator<string> { return this.#entries.keys(); }

  #listen(key: string, entry: Entry): void {
    for (const address of this.#options.addresses) {
      const server = http.createServer((_request, response) => { this.#answer(entry, response); });
      server.on('error', (err) => {
        server.close();
        if (this.#entries.get(key) !== entry) return;
        this.#options.onFault(entry.info, `health check port ${entry.port} cannot be opened on ${address}: ${err.message}`);
        entry.retry ??= this.#options.clock.after(retryMs, () => { entry.retry = undefined; this.#relisten(key, entry); });
      });
      server.listen({ host: address, port: entry.port });
      server.unref();
      entry.servers.push(server);
    }
  }

  #relisten(key: string, entry: Entry): void {
    if (this.#entries.get(key) !== entry) return;
    for (const server of entry.servers) server.close();
    entry.servers = [];
    this.#listen(key, entry);
  }

  #answer(entry: Entry, response: ServerResponse): void {
    const isHealthy = this.#options.isProxyHealthy();
    const { namespace = '', name } = entry.info.service.metadata;
    const body = JSON.stringify({ service: { namespace, name }, localEndpoints: entry.localCount, serviceProxyHealthy: isHealthy });
    response.writeHead(entry.localCount > 0 && isHealthy ? 200 : 503, {
      'Content-Type': 'application/json', 'X-Content-Type-Options': 'nosniff', 'X-Load-Balancing-Endpoint-Weight': String(entry.localCount), 'Content-Length': Buffer.byteLength(body),
    });
    response.end(body);
  }

  #close(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    entry.retry?.cancel();
    this.#entries.delete(key);
    for (const server of entry.servers) { server.close(); server.closeAllConnections(); }
  }

  closeAll(): void { for (const key of [...this.#entries.keys()]) this.#close(key); }
}

export interface HealthAnswer { readonly code: 200 | 503; readonly body: string }

/** Answers GET /healthz and /livez; everything else is 404. Port 0 picks a free one. */
export class HealthServer {
  readonly #server: Server;
  #port = 0;
  readonly counts: Readonly<Record<'healthz' | 'livez', Map<number, number>>> = { healthz: new Map(), livez: new Map() };

  constructor(health: ProxyHealth) {
    this.#server = http.createServer((request, response) => {
      const path = (request.url ?? '').split('?')[0];
      const answer = path === '/healthz' ? health.healthz() : path === '/livez' ? health.livez() : undefined;
      if (answer === undefined || path === undefined) { response.writeHead(404).end(); return; }
      const counts = this.counts[path === '/healthz' ? 'healthz' : 'livez'];
      counts.set(answer.code, (counts.get(answer.code) ?? 0) + 1);
      response.writeHead(answer.code, { 'Content-Type': 'application/json', 'X-Content-Type-Options': 'nosniff' }).end(answer.body);
    });
  }

  get port(): number { return this.#port; }

  /** Rejects with PortInUse when somebody else has the port. */
  listen(address: string, port: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', (cause: NodeJS.ErrnoException) => {
        reject(new NetloomError(cause.code === 'EADDRINUSE' ? 'PortInUse' : 'PermissionDenied', `proxy health port ${address}:${port} cannot be opened`, { source: 'config', cause, hint: 'choose another port; 0 picks a free one' }));
      });
      this.#server.listen({ host: address, port }, () => {
        const bound = this.#server.address();
        this.#port = typeof bound === 'object' && bound !== null ? bound.port : port;
        this.#server.unref();
        resolve();
      });
    });
  }

  close(): void { this.#server.close(); this.#server.closeAllConnections(); }
}

const autoscalerTaint = 'ToBeDeletedByClusterAutoscaler';

/** Health of the proxy itself. Healthy before its first sync; unhealthy when a change waits for longer than the limit. */
export class ProxyHealth {
  readonly #clock: Clock;
  readonly #limitMs: number;
  readonly #families: readonly IPFamily[];
  #queuedMs: number | undefined;
  #updatedWallMs: number;
  #isEligible = true;

  constructor(options: { clock: Clock; limitMs: number; families: readonly IPFamily[] }) {
    this.#clock = options.clock;
    this.#limitMs = options.limitMs;
    this.#families = options.families;
    this.#updatedWallMs = options.clock.nowMs();
  }

  /** A change came in; the oldest one that waits counts. */
  queued(): void { this.#queuedMs ??= this.#clock.monotonicMs(); }

  /** All changes up to `queuedBefore` are applied. */
  synced(isAllApplied: boolean): void {
    this.#updatedWallMs = this.#clock.nowMs();
    this.#queuedMs = isAllApplied ? undefined : this.#clock.monotonicMs();
  }

  /** A node that is being deleted takes no new external traffic. */
  setNode(node: Node | undefined): void {
    this.#isEligible = node === undefined || (node.metadata.deletionTimestamp === undefined && node.spec?.taints?.some((taint) => taint.key === autoscalerTaint) !== true);
  }

  get isHealthy(): boolean { return this.#queuedMs === undefined || this.#clock.monotonicMs() - this.#queuedMs < this.#limitMs; }

  healthz(): HealthAnswer { return this.#answer(this.isHealthy && this.#isEligible, { nodeEligible: this.#isEligible }); }
  livez(): HealthAnswer { return this.#answer(this.isHealthy, {}); }

  #answer(isOk: boolean, more: object): HealthAnswer {
    const lastUpdated = new Date(this.#updatedWallMs).toISOString();
    const status = Object.fromEntries(this.#families.map((family) => [family, { lastUpdated, healthy: this.isHealthy }]));
    return { code: isOk ? 200 : 503, body: JSON.stringify({ lastUpdated, currentTime: new Date(this.#clock.nowMs()).toISOString(), ...more, healthy: isOk, status }) };
  }
}
