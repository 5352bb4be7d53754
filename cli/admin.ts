// The admin port, on loopback: /metrics for Prometheus, /healthz /readyz /livez for probes, /proxyMode, and /status
// and /explain for netloom's own commands. Holds the one registry that all components put their metrics into.

import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { NetloomError } from '../api/errors.ts';
import { http } from '../api/node-http.ts';
import { Registry } from '../api/prom-metrics.ts';

export interface Health { ok: boolean; detail?: string | undefined }
export interface AdminOptions {
  port: number;
  checks: () => Record<string, Health>;
  isReady: () => boolean;
  proxyMode: () => string;
  status: () => unknown;
  explain?: (what: string, query: URLSearchParams) => Promise<unknown> | unknown;
}

export class AdminServer {
  readonly registry: Registry = new Registry();
  readonly #options: AdminOptions;
  #server: Server | undefined;
  #hasDefaults = false;

  constructor(options: AdminOptions) {
    this.#options = options;
  }

  get port(): number { return (this.#server?.address() as AddressInfo | null)?.port ?? 0; }

  async start(): Promise<void> {
    const server = http.createServer((request, response) => {
      void this.#answer(request, response).catch((error: unknown) => {
        if (response.headersSent) response.end();
        else text(response, error instanceof NetloomError ? error.httpStatus : 500, `${(error as Error).message}\n`);
      });
    });
    server.headersTimeout = 5_000;
    server.maxConnections = 256;
    this.#server = server;
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error: NodeJS.ErrnoException) => reject(error.code === 'EADDRINUSE'
        ? new NetloomError('PortInUse', `admin port ${this.#options.port} is in use`, { source: 'config', hint: 'choose another with --admin-port, or 0 for a free one' }) : error));
      server.listen(this.#options.port, '127.0.0.1', resolve);
    });
  }

  async stop(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    server.closeAllConnections();
    await new Promise((resolve) => { server.close(resolve); });
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = URL.parse(`http://127.0.0.1${request.url ?? '/'}`);
    if (url === null) { text(response, 400, 'not a path\n'); return; }
    response.setHeader('x-content-type-options', 'nosniff');
    if (request.method !== 'GET' && request.method !== 'HEAD') { response.writeHead(405, { allow: 'GET' }).end(); return; }
    if (!isLoopbackHost(request.headers.host)) { response.writeHead(403).end('the admin port answers only to loopback names\n'); return; }
    if (url.pathname === '/metrics') text(response, 200, await this.#scrape(), this.registry.contentType);
    else if (url.pathname === '/livez') text(response, 200, 'ok');
    else if (url.pathname === '/healthz' || url.pathname === '/readyz') this.#health(url, response);
    else if (url.pathname === '/proxyMode') text(response, 200, this.#options.proxyMode());
    else if (url.pathname === '/status') json(response, this.#options.status());
    else if (url.pathname.startsWith('/explain/') && this.#options.explain !== undefined) json(response, await this.#options.explain(url.pathname.slice(9), url.searchParams));
    else text(response, 404, 'not found\n');
  }

  /** The metrics of the process itself are set up at the first scrape: most processes never see one. */
  async #scrape(): Promise<string> {
    if (!this.#hasDefaults) {
      this.#hasDefaults = true;
      (await import('prom-client')).collectDefaultMetrics({ register: this.registry });
    }
    return this.registry.metrics();
  }

  #health(url: URL, response: ServerResponse): void {
    const checks = this.#options.checks();
    const lines = Object.entries(checks).map(([name, health]) => `[${health.ok ? '+' : '-'}]${name} ${health.ok ? 'ok' : `failed: ${health.detail ?? ''}`}`);
    const isOk = Object.values(checks).every((health) => health.ok) && (url.pathname === '/healthz' || this.#options.isReady());
    if (url.pathname === '/readyz' && !this.#options.isReady()) lines.push('[-]ready failed: still starting or draining');
    text(response, isOk ? 200 : 503, isOk && !url.searchParams.has('verbose') ? 'ok' : `${lines.join('\n')}\n`);
  }
}

/** Foreign Host names are refused so that a page in a browser cannot reach the port by DNS rebinding. */
function isLoopbackHost(host: string | undefined): boolean {
  const name = (host ?? '').replace(/:\d+$/, '');
  return name === 'localhost' || name === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(name);
}

function text(response: ServerResponse, code: number, body: string, type = 'text/plain; charset=utf-8'): void {
  response.writeHead(code, { 'content-type': type, 'content-length': Buffer.byteLength(body) }).end(body);
}
function json(response: ServerResponse, value: unknown): void { text(response, 200, `${JSON.stringify(value)}\n`, 'application/json'); }
