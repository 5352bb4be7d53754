// A request that the proxy makes itself on behalf of another: to an auth service, a mirror, an error-page service. It is
// an Exchange like any other (same pools, retries, timeouts) with a downstream that collects the answer up to a limit.

import type { Backend } from '../endpoints.ts';
import { Exchange, type Downstream, type Upstream } from '../exchange.ts';
import { bodyLength, bodyNone } from '../message/framing.ts';
import { headComplete, parseRequestHead, RequestHead } from '../message/request-head.ts';
import type { RouteTimeouts } from '../route.ts';

const answerBytesMax = 1_048_576;

/** What came back; status 0 = nothing usable. `text`: status line and field lines. */
export interface SubAnswer { readonly status: number; readonly text: string; readonly body: Buffer }

/** Sends `headText` (written by us: nothing in it may be a client's claim about forwarding) (with its empty line) and `body` to the backend; calls `onDone` once. */
export function subrequest(parent: Exchange, backend: Backend, headText: string, body: readonly Buffer[] | undefined, timeouts: RouteTimeouts | undefined, onDone: (answer: SubAnswer) => void): void {
  const collector = new Collector(parent.down.localPort, onDone);
  const exchange = new Exchange(parent.engine, collector, parent.peer);
  collector.exchange = exchange;
  const bytes = Buffer.from(headText, 'latin1');
  exchange.head = new RequestHead();
  const result = parseRequestHead(bytes, 0, bytes.length, exchange.head, parent.engine.headLimits, true);
  exchange.resetBody(body === undefined || body.length === 0 ? bodyNone : bodyLength);
  if (result !== headComplete || exchange.begin('') !== 0) { exchange.isActive = false; onDone({ status: 0, text: '', body: Buffer.alloc(0) }); return; }
  exchange.isSubrequest = true;
  for (const part of body ?? []) exchange.holdBody(part);
  exchange.isRequestWhole = true;
  exchange.route = { object: parent.route?.object ?? '', rule: 'sub-request', row: 0, backend, reason: undefined, policy: undefined, timeouts, retry: undefined };
  exchange.backend = backend;
  exchange.forward();
}

class Collector implements Downstream {
  readonly version = 1;
  readonly localPort: number;
  exchange: Exchange | undefined = undefined;
  readonly #onDone: (answer: SubAnswer) => void;
  readonly #chunks: Buffer[] = [];
  #bytes = 0;
  #status = 0;
  #text = '';
  #isDone = false;

  constructor(localPort: number, onDone: (answer: SubAnswer) => void) {
    this.localPort = localPort;
    this.#onDone = onDone;
  }

  sendInterim(): void { /* nobody waits for it */ }
  sendHead(status: number, text: string, _kind: number, bytes: Buffer | undefined, start: number, end: number): void {
    this.#status = status;
    this.#text = text;
    if (bytes !== undefined && end > start) this.sendBody(bytes, start, end);
  }
  sendBody(bytes: Buffer, start: number, end: number): boolean {
    this.#bytes += end - start;
    if (this.#bytes <= answerBytesMax) this.#chunks.push(Buffer.from(bytes.subarray(start, end)));
    return true;
  }
  sendEnd(): void { this.#finish(this.#status); }
  abort(): void { this.#finish(0); }
  resumeRequest(): void { /* the body is given whole */ }
  startTunnel(_text: string, upstream: Upstream): void { upstream.close(); this.#finish(0); }

  #finish(status: number): void {
    if (this.#isDone) return;
    this.#isDone = true;
    this.#onDone({ status, text: this.#text, body: Buffer.concat(this.#chunks) });
  }
}
