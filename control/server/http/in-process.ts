// Calls into the API server from the same process: the same handler chain, without TLS and sockets. Controllers, the
// agent and the data planes of `netloom up` come in here, each under its own identity.
// Bodies pass as chunks with back pressure: a reader that does not read makes `write` return false.

import type { ApiRequest, ApiResponse, ApiTransport } from '../../../api/client.ts';
import { NetloomError } from '../../../api/errors.ts';
import type { UserInfo } from '../auth/user.ts';
import type { Exchange, Headers, Reply } from './exchange.ts';
import { tooLarge } from './listener.ts';

/** Bytes that may wait for the reader before `write` returns false. */
const bufferedBytesMax = 1 << 20;

/** A transport for one identity. */
export function inProcessTransport(user: UserInfo, onExchange: (exchange: Exchange) => void): ApiTransport {
  const open = new Set<ChunkReply>();
  return {
    request(request: ApiRequest): Promise<ApiResponse> {
      if (request.signal?.aborted === true) return Promise.reject(request.signal.reason as Error);
      return new Promise((resolve, reject) => {
        const reply = new ChunkReply(resolve, reject);
        open.add(reply);
        reply.onClose(() => { open.delete(reply); });
        const abort = (): void => { reject(request.signal?.reason as Error); reply.destroy(); };
        request.signal?.addEventListener('abort', abort, { once: true });
        reply.onClose(() => request.signal?.removeEventListener('abort', abort));
        // A turn of the event loop for each request: controllers that answer each other's writes must not starve sockets and timers.
        setImmediate(() => onExchange(new InProcessExchange(request, user, reply)));
      });
    },
    close(): Promise<void> {
      for (const reply of open) reply.destroy();
      return Promise.resolve();
    },
  };
}

class InProcessExchange implements Exchange {
  readonly method: string;
  readonly path: string;
  readonly queryText: string;
  readonly headers: Headers;
  readonly peer: Exchange['peer'] = { certificate: undefined, address: '', isInProcess: true };
  readonly reply: Reply;
  readonly upgrade = undefined;
  user: UserInfo | undefined;
  readonly #body: Buffer;
  #query: URLSearchParams | undefined;

  constructor(request: ApiRequest, user: UserInfo, reply: Reply) {
    this.method = request.method;
    const mark = request.path.indexOf('?');
    this.path = mark < 0 ? request.path : request.path.slice(0, mark);
    this.queryText = mark < 0 ? (request.query ?? '') : request.path.slice(mark + 1);
    this.headers = { ...request.headers };
    this.user = user;
    this.reply = reply;
    this.#body = request.body === undefined ? Buffer.alloc(0) : typeof request.body === 'string' ? Buffer.from(request.body) : request.body;
  }

  get query(): URLSearchParams { return this.#query ??= new URLSearchParams(this.queryText); }

  readBody(bytesMax: number): Promise<Buffer> {
    return this.#body.length > bytesMax ? Promise.reject(tooLarge(bytesMax)) : Promise.resolve(this.#body);
  }

  bodyStream(): AsyncIterable<Uint8Array> | undefined {
    const body = this.#body;
    return body.length === 0 ? undefined : (async function* () { yield body; })();
  }
}

class ChunkReply implements Reply {
  readonly #resolve: (response: ApiResponse) => void;
  readonly #reject: (error: Error) => void;
  readonly #chunks: Uint8Array[] = [];
  readonly #drains: (() => void)[] = [];
  readonly #closers: (() => void)[] = [];
  #bufferedBytes = 0;
  #isEnded = false;
  #isDestroyed = false;
  #isCloseTold = false;
  #wake: (() => void) | undefined;
  status = 0;

  constructor(resolve: (response: ApiResponse) => void, reject: (error: Error) => void) {
    this.#resolve = resolve;
    this.#reject = reject;
  }

  get isOpen(): boolean { return this.status === 0; }
  get isClosed(): boolean { return this.#isEnded || this.#isDestroyed; }

  head(status: number, headers: Record<string, string | string[]>): void {
    this.status = status;
    const flat: Record<string, string> = {};
    for (const [name, value] of Object.entries(headers)) flat[name] = Array.isArray(value) ? value.join(', ') : value;
    this.#resolve({ status, headers: flat, body: this.#read() });
  }

  write(chunk: Uint8Array | string): boolean {
    if (this.isClosed) return true;
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
    this.#chunks.push(bytes);
    this.#bufferedBytes += bytes.length;
    this.#wake?.();
    return this.#bufferedBytes < bufferedBytesMax;
  }

  end(chunk?: Uint8Array | string): void {
    if (this.isClosed) return;
    if (chunk !== undefined) this.write(chunk);
    this.#isEnded = true;
    this.#wake?.();
    this.#tellClosed();
  }

  onDrain(callback: () => void): void { if (this.#isCloseTold) queueMicrotask(callback); else this.#drains.push(callback); }
  onClose(callback: () => void): void { if (this.#isCloseTold) queueMicrotask(callback); else this.#closers.push(callback); }

  destroy(): void {
    if (this.isClosed) return;
    this.#isDestroyed = true;
    if (this.status === 0) this.#reject(new NetloomError('ServiceUnavailable', 'the API server closed the request', { source: 'api' }));
    this.#wake?.();
    this.#tellClosed();
  }

  #tellClosed(): void {
    if (this.#isCloseTold) return;
    this.#isCloseTold = true;
    for (const callback of this.#drains.splice(0)) callback();
    for (const callback of this.#closers.splice(0)) callback();
  }

  async *#read(): AsyncGenerator<Uint8Array> {
    try {
      for (;;) {
        const chunk = this.#chunks.shift();
        if (chunk !== undefined) {
          this.#bufferedBytes -= chunk.length;
          if (this.#bufferedBytes < bufferedBytesMax / 2) for (const callback of this.#drains.splice(0)) callback();
          yield chunk;
        } else if (this.#isDestroyed) throw new NetloomError('ServiceUnavailable', 'the API server closed the stream', { source: 'api' });
        else if (this.#isEnded) return;
        else await new Promise<void>((resolve) => { this.#wake = resolve; });
        this.#wake = undefined;
      }
    } finally {
      this.destroy();
    }
  }
}
