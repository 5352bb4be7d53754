// A whole Ingress controller in one process for tests: in-memory API, real informers and view, the worker module on a
// direct channel instead of a thread, real sockets on loopback. Backends are real HTTP servers on 127.0.0.x.

import http from 'node:http';
import net from 'node:net';
import { ApiClient } from '../../api/client.ts';
import { systemClock } from '../../api/clock.ts';
import { SharedInformers } from '../../api/informer.ts';
import { createLog, silentLog, type Log } from '../../api/log.ts';
import { ServiceView } from '../../api/services.ts';
import type { EndpointSlice, Ingress, IngressClass, KubeObject, Service } from '../../api/types.ts';
import type { WorkerChannel, WorkerSide } from '../../api/workers.ts';
import { IngressController, type IngressControllerOptions } from '../../ingress/controller.ts';
import { startWorker } from '../../ingress/worker.ts';
import { FakeApi } from './fake-api.ts';

/** Runs `startWorker` in this thread behind the interface of a pool's channel. */
export async function directChannel(log: Log): Promise<{ channel: WorkerChannel; side: WorkerSide }> {
  const listeners: ((index: number, message: unknown) => void)[] = [];
  const side = await startWorker({
    index: 0, count: 1, log, clock: systemClock, data: undefined,
    post: (message) => { queueMicrotask(() => { for (const listener of listeners) listener(0, message); }); },
  });
  const send = (message: unknown): void => side.receive(structuredClone(message));
  return { side, channel: { count: 1, broadcast: send, send: (_index, message) => send(message), onMessage: (listener) => { listeners.push(listener); }, onStart: (listener) => listener(0) } };
}

export interface EchoReply { service: string; endpoint: number; method: string; path: string; headers: [string, string][]; bodyLength: number }
export type Handler = (request: http.IncomingMessage, response: http.ServerResponse) => void;

export class World {
  readonly api = new FakeApi();
  readonly log: Log = process.env['NETLOOM_TEST_LOG'] === undefined ? silentLog : createLog({ level: 'debug' });
  controller!: IngressController;
  #side: WorkerSide | undefined;
  #informers: SharedInformers | undefined;
  readonly servers: http.Server[] = [];

  async start(options: Partial<IngressControllerOptions> = {}): Promise<this> {
    if (this.api.get('ingressclasses', undefined, 'netloom') === undefined) this.ingressClass('netloom');
    const client = new ApiClient(this.api);
    const informers = this.#informers = new SharedInformers(client, { clock: systemClock, log: this.log });
    const view = new ServiceView(informers);
    const { channel, side } = await directChannel(this.log);
    this.#side = side;
    this.controller = new IngressController({
      informers, view, client, controllerName: 'netloom.dev/ingress', className: 'netloom', httpPort: 0, httpsPort: 0, bind: '127.0.0.1',
      workers: channel, publishAddresses: ['127.0.0.1'], clock: systemClock, log: this.log, ...options,
    });
    await this.controller.start();
    return this;
  }

  /** Drains and closes the listeners; backends and API stay. */
  async stopServing(drainMs: number): Promise<void> {
    const side = this.#side;
    this.#side = undefined;
    await this.controller.stop(drainMs);
    await side?.stop(drainMs);
  }

  async stop(drainMs = 0): Promise<void> {
    if (this.#side !== undefined) await this.stopServing(drainMs);
    this.#informers?.stop();
    for (const server of this.servers) { server.closeAllConnections(); server.close(); }
  }

  ingressClass(name: string, controller = 'netloom.dev/ingress', isDefault = false): void {
    this.api.apply<IngressClass>('ingressclasses', { metadata: { name, ...(isDefault ? { annotations: { 'ingressclass.kubernetes.io/is-default-class': 'true' } } : {}) }, spec: { controller } });
  }

  /** Starts `count` echo servers on their own loopback addresses and makes Service and slice for them. */
  async service(key: string, count = 1, options: { handler?: Handler; portName?: string; port?: number; appProtocol?: string } = {}): Promise<http.Server[]> {
    const servers: http.Server[] = [];
    const addresses: { ip: string; port: number }[] = [];
    for (let index = 0; index < count; index++) {
      const server = http.createServer(options.handler ?? echoHandler(key, index));
      await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve); });
      servers.push(server);
      addresses.push({ ip: '127.0.0.1', port: (server.address() as net.AddressInfo).port });
    }
    this.servers.push(...servers);
    this.applyService(key, addresses, options);
    return servers;
  }

  applyService(key: string, addresses: readonly { ip: string; port: number; conditions?: { ready?: boolean; serving?: boolean; terminating?: boolean } }[], options: { portName?: string; port?: number; appProtocol?: string } = {}): void {
    const [namespace = '', name = ''] = key.split('/');
    const portName = options.portName ?? '';
    this.api.apply<Service>('services', { metadata: { name, namespace }, spec: { clusterIP: '10.96.0.9', clusterIPs: ['10.96.0.9'], ports: [{ name: portName, port: options.port ?? 80, protocol: 'TCP', ...(options.appProtocol === undefined ? {} : { appProtocol: options.appProtocol }) }] } });
    const stale = this.api.list<EndpointSlice>('endpointslices').filter((slice) => slice.metadata.labels?.['kubernetes.io/service-name'] === name && slice.metadata.namespace === namespace);
    for (const [index, address] of addresses.entries()) this.api.apply<EndpointSlice>('endpointslices', {
      metadata: { name: `${name}-${index}`, namespace, labels: { 'kubernetes.io/service-name': name } }, addressType: 'IPv4',
      endpoints: [{ addresses: [address.ip], conditions: address.conditions ?? { ready: true } }], ports: [{ name: portName, port: address.port, protocol: 'TCP' }],
    });
    for (const slice of stale) if (!addresses.some((_, index) => slice.metadata.name === `${name}-${index}`)) this.api.delete('endpointslices', namespace, slice.metadata.name);
  }

  ingress(key: string, rules: readonly (readonly [host: string, path: string, service: string, type?: 'Exact' | 'Prefix' | 'ImplementationSpecific'])[], extra: { annotations?: Record<string, string>; spec?: Ingress['spec'] } = {}): void {
    const [namespace = '', name = ''] = key.split('/');
    this.api.apply<Ingress>('ingresses', {
      metadata: { name, namespace, ...(extra.annotations === undefined ? {} : { annotations: extra.annotations }) },
      spec: {
        ingressClassName: 'netloom',
        ...(rules.length === 0 ? {} : { rules: rules.map(([host, path, service, pathType]) => ({ ...(host === '' ? {} : { host }), http: { paths: [{ path, pathType: pathType ?? 'Prefix', backend: { service: { name: service, port: { number: 80 } } } }] } })) }),
        ...extra.spec,
      },
    });
  }

  /** Events written so far: 'reason message'. */
  events(): string[] { return this.api.list<KubeObject & { reason?: string; message?: string }>('events').map((event) => `${event.reason} ${event.message}`); }

  request(options: { host: string; path?: string; method?: string; headers?: http.OutgoingHttpHeaders; body?: string | Buffer; agent?: http.Agent }): Promise<{ status: number; headers: http.IncomingHttpHeaders; rawHeaders: string[]; text: string; echo: EchoReply | undefined }> {
    return new Promise((resolve, reject) => {
      const request = http.request({
        host: '127.0.0.1', port: this.controller.httpPort, method: options.method ?? 'GET', path: options.path ?? '/', headers: { Host: options.host, ...options.headers }, ...(options.agent === undefined ? { agent: false } : { agent: options.agent }),
      }, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => {
          const text = Buffer.concat(chunks).toString();
          let echo: EchoReply | undefined;
          try { echo = JSON.parse(text) as EchoReply; } catch { echo = undefined; }
          resolve({ status: response.statusCode ?? 0, headers: response.headers, rawHeaders: response.rawHeaders, text, echo });
        });
      });
      request.on('error', reject);
      request.end(options.body);
    });
  }

  /** Repeats until `isDone` holds, for what converges after a change. */
  async until<T>(probe: () => Promise<T> | T, isDone: (value: T) => boolean, timeoutMs = 5_000): Promise<T> {
    const endMs = performance.now() + timeoutMs;
    for (;;) {
      const value = await probe();
      if (isDone(value)) return value;
      if (performance.now() > endMs) throw new Error(`did not converge: ${JSON.stringify(value)?.slice(0, 500)}`);
      await new Promise((resolve) => { setImmediate(resolve); });
    }
  }
}

export function echoHandler(service: string, endpoint: number): Handler {
  return (request, response) => {
    let length = 0;
    request.on('data', (chunk: Buffer) => { length += chunk.length; });
    request.on('end', () => {
      const headers: [string, string][] = [];
      for (let index = 0; index < request.rawHeaders.length; index += 2) headers.push([request.rawHeaders[index]!, request.rawHeaders[index + 1]!]);
      response.end(JSON.stringify({ service, endpoint, method: request.method, path: request.url, headers, bodyLength: length }));
    });
  };
}
