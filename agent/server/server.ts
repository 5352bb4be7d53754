// The agent's HTTPS server, in the paths of the kubelet: the API server forwards `pods/log`, `exec`, `attach` and
// `portforward` here. Only callers with a certificate of the client CA get in; /healthz is the one open path.

import { createServer, type Server } from 'node:https';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import type { Clock } from '../../api/clock.ts';
import { NetloomError, toStatus } from '../../api/errors.ts';
import type { Log } from '../../api/log.ts';
import { logPath } from '../pods/log-file.ts';
import { sendLog } from '../pods/log-reader.ts';
import type { Pods } from '../pods/pods.ts';
import type { AgentRoute } from './route.ts';
import { handleUpgrade } from './upgrade.ts';

export interface AgentServerOptions {
  servingCert: { certPem: string; keyPem: string; clientCaPem: string };
  bind: string; port: number; pods: Pods; workingDir: string; clock: Clock; log: Log;
}

export class AgentServer {
  readonly #options: AgentServerOptions;
  readonly #server: Server;
  /** Sockets that were upgraded: the server itself does not know them any more. */
  readonly #upgraded = new Set<Duplex>();
  #port = 0;

  constructor(options: AgentServerOptions) {
    this.#options = options;
    const { certPem, keyPem, clientCaPem } = options.servingCert;
    this.#server = createServer({ cert: certPem, key: keyPem, ca: clientCaPem, requestCert: true, rejectUnauthorized: false, minVersion: 'TLSv1.2', handshakeTimeout: 10_000 });
    this.#server.on('request', (request: IncomingMessage, response: ServerResponse) => { void this.#onRequest(request, response); });
    this.#server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => this.#onUpgrade(request, socket, head));
    this.#server.on('tlsClientError', (_error, socket) => { socket.destroy(); });
  }

  get port(): number { return this.#port; }

  async start(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', (cause: NodeJS.ErrnoException) => {
        reject(new NetloomError(cause.code === 'EADDRINUSE' ? 'PortInUse' : 'PermissionDenied', `agent cannot listen on ${this.#options.bind}:${this.#options.port}: ${cause.message}`, { source: 'config', cause, hint: 'choose another port, or 0 for a free one' }));
      });
      this.#server.listen(this.#options.port, this.#options.bind, resolve);
    });
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  async stop(): Promise<void> {
    for (const socket of this.#upgraded) socket.destroy();
    this.#server.closeAllConnections();
    if (this.#server.listening) await new Promise<void>((resolve) => { this.#server.close(() => resolve()); });
  }

  async #onRequest(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const path = (request.url ?? '/').split('?')[0];
      if (path === '/healthz') { response.end('ok'); return; }
      const route = this.#route(request);
      if (route.action !== 'containerLogs') throw new NetloomError('BadRequest', `${route.action} needs an upgrade to WebSocket or SPDY`);
      await this.#sendLogs(route, request, response);
    } catch (error) {
      sendError(error, response);
    }
  }

  #onUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', () => {});
    this.#upgraded.add(socket);
    socket.on('close', () => this.#upgraded.delete(socket));
    try {
      handleUpgrade(this.#route(request), request, socket, head, this.#options);
    } catch (error) {
      const status = toStatus(error);
      const body = JSON.stringify(status);
      socket.end(`HTTP/1.1 ${status.code} ${status.reason ?? 'Error'}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`);
    }
  }

  /** Throws Unauthorized without a certificate of the client CA, NotFound for unknown Pods and paths. */
  #route(request: IncomingMessage): AgentRoute {
    if (!(request.socket as TLSSocket).authorized) throw new NetloomError('Unauthorized', 'a client certificate of the API server is required', { source: 'downstream' });
    const url = new URL(request.url ?? '/', 'https://agent');
    const [action, namespace, pod, container] = url.pathname.split('/').slice(1).map(decodeURIComponent);
    if (action === undefined || namespace === undefined || pod === undefined || !['containerLogs', 'exec', 'attach', 'portForward'].includes(action)) {
      throw new NetloomError('NotFound', `no such path: ${url.pathname}`, { source: 'downstream' });
    }
    const runner = this.#options.pods.find(namespace, pod);
    if (runner === undefined) throw new NetloomError('NotFound', `pod "${pod}" does not run on this node`, { source: 'downstream' });
    return { action, runner, container: container ?? url.searchParams.get('container') ?? '', query: url.searchParams };
  }

  async #sendLogs(route: AgentRoute, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { runner, query } = route;
    const container = runner.container(route.container);
    if (container === undefined) throw new NetloomError('NotFound', `container "${route.container}" is not part of pod "${runner.pod.metadata.name}"`);
    const isPrevious = query.get('previous') === 'true';
    const start = container.restartCount - (isPrevious ? 1 : 0);
    if (start < 0 || (isPrevious && container.view().lastState === undefined)) {
      throw new NetloomError('BadRequest', `previous terminated container "${route.container}" in pod "${runner.pod.metadata.name}" not found`);
    }
    const waiting = container.view().state.waiting;
    if (container.logFile === undefined && waiting !== undefined && !isPrevious) {
      throw new NetloomError('BadRequest', `container "${route.container}" in pod "${runner.pod.metadata.name}" is waiting to start: ${waiting.reason ?? ''}`);
    }
    const sinceSeconds = numberOf(query, 'sinceSeconds');
    const sinceTime = query.get('sinceTime');
    const abort = new AbortController();
    response.on('close', () => abort.abort());
    request.on('error', () => {});
    response.writeHead(200, { 'content-type': 'text/plain' });
    response.flushHeaders();
    await sendLog(logPath(runner.logDirectory(route.container), start), {
      tailLines: numberOf(query, 'tailLines'), limitBytes: numberOf(query, 'limitBytes'),
      sinceMs: sinceSeconds !== undefined ? this.#options.clock.nowMs() - sinceSeconds * 1000 : sinceTime !== null ? Date.parse(sinceTime) : undefined,
      hasTimestamps: query.get('timestamps') === 'true', isFollow: query.get('follow') === 'true' && !isPrevious,
    }, response, container.whenRunEnded, abort.signal);
    response.end();
  }
}

function numberOf(query: URLSearchParams, name: string): number | undefined {
  const text = query.get(name);
  if (text === null || text === '') return undefined;
  if (!/^\d{1,15}$/.test(text)) throw new NetloomError('BadRequest', `${name} must be a whole number, not ${JSON.stringify(text.slice(0, 40))}`);
  return Number(text);
}

function sendError(error: unknown, response: ServerResponse): void {
  if (response.headersSent) { response.destroy(); return; }
  const status = toStatus(error);
  response.writeHead(status.code, { 'content-type': 'application/json' });
  response.end(JSON.stringify(status));
}
