// Services that say they speak HTTP (appProtocol) are balanced per request: an adapter from a served port to the HTTP
// engine. One engine per candidate set that is used (cluster, and local under a Local policy), made at the first
// connection.

import type { Socket } from 'node:net';
import type { WorkerContext } from '../../api/workers.ts';
import { Backend } from '../http/endpoints.ts';
import { HttpEngine } from '../http/engine.ts';
import type { Route } from '../http/route.ts';
import type { Limits } from './limits.ts';
import type { ListenSpec } from './messages.ts';
import type { PortShared, ServedPort } from './port.ts';

interface Front { readonly engine: HttpEngine; readonly backend: Backend }

export class HttpFront {
  readonly #port: ServedPort;
  readonly #shared: PortShared & { limits: Limits };
  readonly #context: WorkerContext;
  readonly #fronts = new Map<'cluster' | 'local', Front>();

  constructor(port: ServedPort, shared: PortShared & { limits: Limits }, context: WorkerContext) {
    this.#port = port;
    this.#shared = shared;
    this.#context = context;
  }

  accept(socket: Socket, spec: ListenSpec, isAllowed: (ip: string) => boolean): void {
    const ip = socket.remoteAddress ?? '';
    const { limits, peers } = this.#shared;
    if (!isAllowed(ip) || !limits.enter(ip)) { this.#port.count('refused'); socket.on('error', () => {}); socket.resetAndDestroy(); return; }
    this.#port.count('accepted');
    this.#port.count('active');
    socket.on('close', () => {
      limits.leave(ip);
      this.#port.count('active', -1);
      this.#port.count('bytesIn', socket.bytesRead);
      this.#port.count('bytesOut', socket.bytesWritten);
    });
    const set = spec.candidates === 'cluster' || (spec.candidates === 'external' && (ip === spec.address || peers.isOfCluster(ip))) ? 'cluster' : 'local';
    this.#front(set).engine.accept(socket, { scheme: 'http' });
  }

  /** After the port's endpoints changed. */
  update(): void {
    for (const [set, { backend }] of this.#fronts) backend.update({ protocol: backend.protocol, tls: undefined, endpoints: this.#port.spec[set] });
  }

  async close(drainMs: number): Promise<void> {
    await Promise.all([...this.#fronts.values()].map(async ({ engine, backend }) => { await engine.close(drainMs); backend.close(); }));
  }

  #front(set: 'cluster' | 'local'): Front {
    let front = this.#fronts.get(set);
    if (front === undefined) {
      const { spec } = this.#port;
      const backend = new Backend(spec.key, { protocol: spec.l7 === 'h2c' ? 'h2c' : 'http', tls: undefined, endpoints: spec[set] });
      const route: Route = { object: spec.service, rule: 'service', row: 0, backend, reason: undefined, policy: undefined, timeouts: undefined, retry: undefined };
      const engine = new HttpEngine({ router: { match: () => route, explainMiss: () => ({ reason: 'no-endpoints', text: '' }) }, clock: this.#context.clock, log: this.#context.log });
      front = { engine, backend };
      this.#fronts.set(set, front);
    }
    return front;
  }
}
