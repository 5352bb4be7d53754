// HTTP/2 load: sessions of node:http2 with a fixed number of streams in flight each.

import { connect, type ClientHttp2Session, constants } from 'node:http2';
import type { Pacer, Slot } from './pacer.ts';
import type { LoadPlan } from './plan.ts';

export class Http2Connection {
  readonly #plan: LoadPlan;
  #session: ClientHttp2Session | undefined;

  constructor(plan: LoadPlan) { this.#plan = plan; }

  session(): ClientHttp2Session {
    if (this.#session === undefined || this.#session.closed || this.#session.destroyed) {
      const session = connect(`${this.#plan.isTls ? 'https' : 'http'}://${this.#plan.host}:${this.#plan.port}`, { rejectUnauthorized: false, ...(this.#plan.isTls ? { servername: this.#plan.serverName } : {}) });
      session.on('error', () => { if (this.#session === session) this.#session = undefined; });
      session.on('goaway', () => { if (this.#session === session) this.#session = undefined; });
      this.#session = session;
    }
    return this.#session;
  }
  close(): void { this.#session?.destroy(); }
}

export class Http2Slot implements Slot {
  intendedMs = 0;
  isBusy = false;
  deadlineMs = 0;
  readonly #plan: LoadPlan;
  readonly #pacer: Pacer;
  readonly #connection: Http2Connection;
  #abort: (() => void) | undefined;

  constructor(plan: LoadPlan, pacer: Pacer, connection: Http2Connection) {
    this.#plan = plan;
    this.#pacer = pacer;
    this.#connection = connection;
  }

  send(): void {
    const plan = this.#plan;
    const stream = this.#connection.session().request({ ':method': plan.method, ':path': plan.path, ':authority': plan.serverName === '' ? `${plan.host}:${plan.port}` : plan.serverName, ...plan.headers }, { endStream: plan.body === '' });
    let status = '';
    // A gRPC answer is right only when its trailers say so.
    let isWaitingForTrailers = plan.headers['content-type'] === 'application/grpc';
    let isOpen = true;
    let bytes = 0;
    let key = '';
    this.#abort = () => { isOpen = false; setImmediate(() => this.#pacer.free(this)); stream.close(constants.NGHTTP2_CANCEL); };
    stream.on('response', (headers) => {
      status = String(headers[':status']);
      if (plan.distributeBy.startsWith('header:')) key = String(headers[plan.distributeBy.slice(7).toLowerCase()] ?? '');
    });
    stream.on('trailers', (trailers) => { if (trailers['grpc-status'] === '0') isWaitingForTrailers = false; });
    stream.on('data', (chunk: Buffer) => { if (plan.distributeBy === 'body' && bytes === 0) key = chunk.latin1Slice(0, 80).split('\n', 1)[0] ?? ''; bytes += chunk.length; });
    stream.on('end', () => { if (isOpen && this.isBusy && status !== '' && !isWaitingForTrailers) { isOpen = false; this.#pacer.done(this, bytes, status, key); this.#pacer.free(this); } });
    stream.on('error', () => {});
    stream.on('close', () => { if (isOpen && this.isBusy) { isOpen = false; this.#pacer.fail(this, 'stream reset'); setImmediate(() => this.#pacer.free(this)); } });
    if (plan.body !== '') stream.end(plan.body);
  }

  abort(): void { this.#abort?.(); }
}
