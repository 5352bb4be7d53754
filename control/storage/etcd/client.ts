// etcd's JSON gateway over kept connections: one request at a time per socket, another endpoint when one is away. Says of
// every failure whether the request may have been carried out, since only then a repeated write must be recognised.
// Used by ./storage.ts and ./watch-stream.ts. Source: etcd v3 API, grpc-gateway mapping (int64 as strings, bytes as base64).

import http from 'node:http';
import https from 'node:https';
import type { Clock } from '../../../api/clock.ts';
import { sleep } from '../../../api/clock.ts';
import { NetloomError } from '../../../api/errors.ts';

/** Sockets to one endpoint; more requests wait. */
const socketsMax = 64;
const requestTimeoutMs = 5_000;
const retryPauseMs = 50;

export interface EtcdClientOptions {
  endpoints: readonly string[]; clock: Clock;
  tls?: { caPem?: string; certPem?: string; keyPem?: string };
  username?: string; password?: string;
}

/** gRPC codes that the gateway passes on. */
export const etcdCode = { deadlineExceeded: 4, resourceExhausted: 8, outOfRange: 11, unavailable: 14, unauthenticated: 16 } as const;

/** A failed request. `isAmbiguous`: it may have been carried out all the same. */
export class EtcdError extends Error {
  readonly code: number;
  readonly isAmbiguous: boolean;
  readonly isRetriable: boolean;

  constructor(message: string, code: number, isAmbiguous: boolean, isRetriable: boolean) {
    super(message);
    this.name = 'EtcdError';
    this.code = code;
    this.isAmbiguous = isAmbiguous;
    this.isRetriable = isRetriable;
  }
}

export interface EtcdStream { close(): void }

/** Requests to whichever endpoint answers. */
export class EtcdClient {
  readonly #endpoints: readonly URL[];
  readonly #clock: Clock;
  readonly #agent: http.Agent;
  readonly #credentials: { name: string; password: string } | undefined;
  #current = 0;
  #token: string | undefined;
  #isClosed = false;

  /** Throws ConfigInvalid. */
  constructor(options: EtcdClientOptions) {
    this.#endpoints = options.endpoints.map(parseEndpoint);
    if (this.#endpoints.length === 0) throw new NetloomError('ConfigInvalid', 'the etcd store needs an endpoint', { hint: 'give --store etcd://host:2379' });
    this.#clock = options.clock;
    const agentOptions = { keepAlive: true, keepAliveMsecs: 5_000, maxSockets: socketsMax, scheduling: 'lifo' as const };
    const { caPem, certPem, keyPem } = options.tls ?? {};
    this.#agent = this.#endpoints[0]?.protocol === 'https:'
      ? new https.Agent({ ...agentOptions, ...(caPem === undefined ? {} : { ca: caPem }), ...(certPem === undefined ? {} : { cert: certPem }), ...(keyPem === undefined ? {} : { key: keyPem }) })
      : new http.Agent(agentOptions);
    this.#credentials = options.username === undefined ? undefined : { name: options.username, password: options.password ?? '' };
  }

  /** The endpoint that is used now. */
  get endpoint(): string { return this.#url().host; }

  #url(): URL { return this.#endpoints[this.#current % this.#endpoints.length] as URL; }

  /** Turns to the next endpoint for later requests and streams. */
  rotate(): void { this.#current += 1; }

  /** A request that may be repeated without harm: tried again elsewhere until `deadlineMs` from now, `timeoutMs` each. */
  async read<T>(path: string, body: object, deadlineMs: number = requestTimeoutMs, timeoutMs: number = requestTimeoutMs): Promise<T> {
    const endMs = this.#clock.monotonicMs() + deadlineMs;
    for (;;) {
      try {
        return await this.once<T>(path, body, timeoutMs);
      } catch (error) {
        if (!(error instanceof EtcdError) || !error.isRetriable || this.#isClosed || this.#clock.monotonicMs() > endMs) throw error;
        await sleep(this.#clock, retryPauseMs);
      }
    }
  }

  /** One attempt. Throws EtcdError; a connection error turns to the next endpoint for the attempt after. */
  async once<T>(path: string, body: object, timeoutMs: number = requestTimeoutMs): Promise<T> {
    if (this.#credentials !== undefined && this.#token === undefined) await this.#authenticate(this.#credentials);
    try {
      return await this.#send<T>(path, body, timeoutMs);
    } catch (error) {
      if (error instanceof EtcdError && (error.code === etcdCode.unauthenticated || error.message.includes('invalid auth token'))) this.#token = undefined;
      throw error;
    }
  }

  async #authenticate(credentials: { name: string; password: string }): Promise<void> {
    const { token } = await this.#send<{ token: string }>('/v3/auth/authenticate', credentials, requestTimeoutMs);
    this.#token = token;
  }

  #open(path: string, length: number, onResponse: (response: http.IncomingMessage) => void): http.ClientRequest {
    const url = this.#url();
    const headers: Record<string, string> = { 'content-type': 'application/json', 'content-length': String(length) };
    if (this.#token !== undefined) headers['authorization'] = this.#token;
    const request = url.protocol === 'https:' ? https.request : http.request;
    return request({ hostname: url.hostname.replace(/^\[|\]$/g, ''), port: url.port, path, method: 'POST', headers, agent: this.#agent }, onResponse);
  }

  #send<T>(path: string, body: object, timeoutMs: number): Promise<T> {
    return new Promise((resolve, reject) => {
      const bytes = Buffer.from(JSON.stringify(body));
      const at = this.#current;
      let isSent = false;
      const fail = (error: Error): void => {
        timer.cancel();
        if (this.#current === at) this.rotate();
        reject(new EtcdError(`${this.endpoint}: ${error.message}`, etcdCode.unavailable, isSent, true));
      };
      const request = this.#open(path, bytes.length, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', fail);
        response.on('end', () => {
          timer.cancel();
          settle(response.statusCode ?? 0, Buffer.concat(chunks), resolve, (error) => {
            if (error.isRetriable && this.#current === at) this.rotate();
            reject(error);
          });
        });
      });
      const timer = this.#clock.after(timeoutMs, () => { request.destroy(new Error('no answer in time')); }, true);
      // Only once connected can a request have reached etcd.
      request.on('socket', (socket) => { if (socket.connecting) socket.once('connect', () => { isSent = true; }); else isSent = true; });
      request.on('error', fail);
      request.end(bytes);
    });
  }

  /** A stream of JSON lines. `onEnd` is called once, whatever ends it, except `close()`. */
  stream(path: string, body: object, onMessage: (message: unknown) => void, onEnd: (error: Error) => void): EtcdStream {
    const bytes = Buffer.from(JSON.stringify(body));
    let isOver = false;
    const end = (error: Error): void => {
      if (isOver) return;
      isOver = true;
      onEnd(error);
    };
    const request = this.#open(path, bytes.length, (response) => {
      const lines = new LineSplitter((line) => { if (!isOver) onMessage(JSON.parse(line)); });
      response.on('data', (chunk: Buffer) => {
        try { lines.push(chunk); } catch (error) { end(error as Error); request.destroy(); }
      });
      response.on('error', end);
      response.on('close', () => end(new Error('the stream ended')));
    });
    request.on('error', end);
    request.on('socket', (socket) => { socket.setKeepAlive(true, 5_000); });
    request.end(bytes);
    return { close: () => { isOver = true; request.destroy(); } };
  }

  close(): void {
    this.#isClosed = true;
    this.#agent.destroy();
  }
}

function parseEndpoint(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw new NetloomError('ConfigInvalid', `etcd endpoint "${text}" is not an http:// or https:// address`, { hint: 'write http://HOST:2379' });
  }
  if (url.port === '') url.port = '2379';
  return url;
}

function settle<T>(status: number, bytes: Buffer, resolve: (value: T) => void, reject: (error: EtcdError) => void): void {
  let answer: { error?: string; message?: string; code?: number };
  try {
    answer = JSON.parse(bytes.toString()) as typeof answer;
  } catch {
    return reject(new EtcdError(`HTTP ${status}: ${bytes.toString('latin1', 0, 200).trim()}`, 0, status >= 500, status >= 500));
  }
  if (status === 200 && answer.error === undefined) return resolve(answer as T);
  const code = answer.code ?? 0;
  const isTransient = code === etcdCode.unavailable || code === etcdCode.deadlineExceeded || code === etcdCode.unauthenticated;
  reject(new EtcdError(answer.message ?? answer.error ?? `HTTP ${status}`, code, isTransient, isTransient));
}

/** Cuts a byte stream into lines. */
class LineSplitter {
  readonly #onLine: (line: string) => void;
  #parts: Buffer[] = [];

  constructor(onLine: (line: string) => void) { this.#onLine = onLine; }

  push(chunk: Buffer): void {
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      this.#parts.push(chunk.subarray(start, end));
      const line = Buffer.concat(this.#parts).toString();
      this.#parts = [];
      start = end + 1;
      if (line.trim() !== '') this.#onLine(line);
    }
    if (start < chunk.length) this.#parts.push(chunk.subarray(start));
  }
}
