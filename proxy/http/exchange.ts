// One request and its answer, whoever asks (HTTP/1.1 connection or HTTP/2 stream) and whoever answers. It holds the
// decisions between both sides: which route, which endpoint, whether to try again, what to say when it fails.
// Phases: accept → match → pick → connect → send → receive → done. Called by downstream-h1.ts and h2-front.ts;
// calls upstream-h1.ts or upstream-h2.ts. The language between the two sides is the text of an HTTP/1.1 head.
// Retry (RFC 9110 §9.2.2, rule 110): a failed connect with any method on another endpoint; a lost connection without a
// response byte only for idempotent methods whose body is still held; never more than the retry budget allows.

import type { Backend, Endpoint } from './endpoints.ts';
import type { HttpEngine, PeerInfo } from './engine.ts';
import { bodyNone, type FailureKind } from './message/framing.ts';
import { RequestHead } from './message/request-head.ts';
import type { ResponseHead } from './message/response-head.ts';
import type { Route } from './route.ts';
import { readTarget, Target } from './message/target.ts';

/** The side that asked. */
export interface Downstream {
  /** HTTP version of the client: 0, 1 or 2 (for 1.0, 1.1, 2). */
  readonly version: number;
  sendInterim(text: string): void;
  /** Sends the head and, when given, the first body bytes. `text`: status line and field lines with CRLF. `isLast`: no more body comes, sendEnd() follows at once. */
  sendHead(status: number, text: string, kind: number, bytes: Buffer | undefined, start: number, end: number, isLast: boolean): void;
  /** Sends body bytes, valid during the call only unless `mayKeep`: then they may be kept, and engine.hasKeptBytes is set. False asks the upstream to pause. */
  sendBody(bytes: Buffer, start: number, end: number, mayKeep: boolean): boolean;
  /** The answer is whole. `trailers`: field lines or ''. */
  sendEnd(trailers: string): void;
  /** The answer cannot be finished: the client must see that (P-5). */
  abort(): void;
  /** The upstream takes request body bytes again. */
  resumeRequest(): void;
  /** Becomes a byte tunnel to the upstream's socket after 101. */
  startTunnel(text: string, upstream: Upstream, early: Buffer): void;
  readonly localPort: number;
}

/** One connection (or stream) to an endpoint, as the exchange sees it. */
export interface Upstream {
  /** Whether it served a request before: then a lost connection may only mean that the server closed it while idle. */
  readonly isReused: boolean;
  readonly isConnected: boolean;
  /** Writes a body span; `isOwned` = the bytes stay valid after the call. False asks for a pause until resumeRequest. */
  writeBody(bytes: Buffer, start: number, end: number, isOwned: boolean): boolean;
  endBody(trailers: string): void;
  pause(): void;
  resume(): void;
  /** Drops the connection (or stream): the exchange does not want the rest. */
  cancel(): void;
  close(): void;
}

/** Stands for "no request yet"; never parsed into. */
export const noHead: RequestHead = new RequestHead();
const noNames: readonly string[] = Object.freeze([]);
const idempotent = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE']);
/** Request bodies up to this size are held for another try until the answer begins. */
export const replayBytesMax = 65_536;

export class Exchange {
  readonly engine: HttpEngine;
  readonly down: Downstream;
  readonly peer: PeerInfo;
  /** The head under way; between requests the shared empty one, since idle connections are many. */
  head: RequestHead = noHead;
  readonly target = new Target();
  route: Route | undefined = undefined;
  endpoint: Endpoint | undefined = undefined;
  upstream: Upstream | undefined = undefined;
  tried: Endpoint[] | undefined = undefined;
  requestText = '';
  requestID = '';
  /** Request body: 0 none, 1 by length, 2 unknown length. */
  bodyKind = bodyNone;
  isRequestWhole = true;
  requestTrailers = '';
  replay: Buffer[] | undefined = undefined;
  replayBytes = 0;
  isReplayLost = false;
  isActive = false;
  /** The next try must not use a kept connection. */
  needsFresh = false;
  isResponseStarted = false;
  isUpgrade = false;
  #isWaiting = false;
  /** The status of the answer that takesOver() kept back. */
  pendingStatus = 0;
  status = 0;
  startedMs = 0; sentMs = 0;
  requestBytes = 0; responseBytes = 0;
  retryCount = 0;
  /** Field lines that policies add to the answer. */
  responseFields = '';
  /** A word for logs and the netloom-reason field. */
  reason = '';
  /** The backend in use: the route's, or what a policy chose. */
  backend: Backend | undefined = undefined;
  /** Counter row, when a policy chose another than the route's. */
  row = -1;
  isSubrequest = false;
  /** Address of the endpoint used last; '' = none. For logs. */
  endpointName = '';
  /** What policies change in the request: lines added, names taken out, path, Host, body limit. */
  requestFields = '';
  removedFields: readonly string[] = noNames;
  isTargetChanged = false;
  upstreamHost: string | undefined = undefined;
  bodyBytesMax = Infinity;
  /** Set by a policy that answers some statuses itself (error pages). */
  replaces: ((status: number) => (() => void) | undefined) | undefined = undefined;
  /** Set by a policy that chooses the endpoint (cookie affinity). */
  choose: ((backend: Backend) => Endpoint | undefined) | undefined = undefined;
  /** What a policy wants to know at the end (a limit's slot, a mirror), run once. */
  onDone: (() => void) | undefined = undefined;

  constructor(engine: HttpEngine, down: Downstream, peer: PeerInfo) {
    this.engine = engine;
    this.down = down;
    this.peer = peer;
  }

  /** Begins with the head in `this.head`; what it has of the body was given to holdBody(). Returns 0, or the status to refuse with. */
  begin(lastHostText: string): number {
    const status = readTarget(this.head, this.target, lastHostText);
    this.startedMs = this.engine.nowMs();
    this.isActive = true;
    this.isResponseStarted = false;
    this.isUpgrade = false;
    this.status = 0; this.retryCount = 0; this.requestBytes = 0; this.responseBytes = 0;
    this.#resetRoute();
    return status;
  }

  /** Begins for a request that is refused before it could be read whole. */
  beginRefused(): void {
    this.resetBody(bodyNone);
    this.startedMs = this.engine.nowMs();
    this.isActive = true;
    this.#resetRoute();
    this.isResponseStarted = false;
    this.retryCount = 0; this.requestBytes = 0;
    this.target.host = ''; this.target.path = ''; this.target.query = '';
  }

  #resetRoute(): void {
    this.tried = undefined; this.endpoint = undefined; this.upstream = undefined; this.route = undefined; this.backend = undefined;
    this.responseFields = ''; this.reason = ''; this.requestID = ''; this.row = -1; this.endpointName = '';
    this.requestFields = ''; this.removedFields = noNames; this.isTargetChanged = false; this.upstreamHost = undefined; this.bodyBytesMax = Infinity;
    this.replaces = undefined; this.choose = undefined; this.needsFresh = false;
  }

  resetBody(kind: number): void {
    this.bodyKind = kind;
    this.isRequestWhole = kind === bodyNone;
    this.requestTrailers = '';
    this.replay = undefined; this.replayBytes = 0; this.isReplayLost = false;
  }

  /** Matches a route, applies its policy and sends the request. */
  dispatch(): void {
    const { engine, target } = this;
    if (engine.isShed(this)) return;
    if (target.path === '*') { engine.answers.options(this); return; }
    const route = engine.router.match(target.host, target.path, this);
    if (route === undefined) { engine.answers.noRoute(this); return; }
    this.route = route;
    this.backend = route.backend;
    if (this.down.version === 2 && this.peer.misdirected?.(target.host) === true) { engine.answers.send(this, 421, 'misdirected', 'this connection does not serve that host'); return; }
    if (route.policy !== undefined && !engine.runPolicy(this, route.policy)) return;
    this.forward();
  }

  /** Sends the request on, after all policies agreed. */
  forward(): void {
    const { engine, route } = this;
    const { backend } = this;
    if (route === undefined || backend === undefined) { engine.answers.send(this, 503, route?.reason ?? 'no-backend', 'no backend for this path'); return; }
    if (this.requestText === '') this.requestText = engine.writeRequest(this);
    const endpoint = this.choose === undefined ? engine.pick(this, backend) : this.choose(backend);
    if (endpoint === undefined) { this.#failNoEndpoint(); return; }
    this.#connect(endpoint);
  }

  #connect(endpoint: Endpoint): void {
    this.endpoint = endpoint;
    this.endpointName = endpoint.name;
    endpoint.outstanding += 1;
    if (this.isRequestWhole) this.#wait(endpoint);
    const upstream = this.engine.connect(this, endpoint);
    this.upstream = upstream;
    if (this.replay !== undefined) for (const bytes of this.replay) upstream.writeBody(bytes, 0, bytes.length, true);
    if (this.isRequestWhole && this.bodyKind !== bodyNone) upstream.endBody(this.requestTrailers);
  }

  #failNoEndpoint(): void {
    const { engine, backend } = this;
    const count = backend?.endpoints.length ?? 0;
    if (this.retryCount > 0) engine.answers.send(this, 502, 'connect-failed', 'no endpoint of the backend could be reached');
    else engine.answers.send(this, 503, count === 0 ? backend?.emptyReason ?? 'no-endpoints' : 'overloaded', count === 0 ? 'the backend has no ready endpoint' : 'every endpoint of the backend is full');
  }

  /** Keeps body bytes that arrived together with the head, before dispatch(). */
  holdBody(bytes: Buffer): void {
    (this.replay ??= []).push(bytes);
    this.replayBytes += bytes.length;
    this.requestBytes += bytes.length;
  }

  /** More request body. False = pause reading from the client until resumeRequest(). */
  pushBody(bytes: Buffer): boolean {
    this.requestBytes += bytes.length;
    if (this.requestBytes > this.bodyBytesMax && this.isActive && !this.isResponseStarted) { this.engine.answers.refuse(this, 413); return true; }
    const { upstream } = this;
    if (upstream === undefined) {
      if (!this.isActive || this.isResponseStarted) return true;
      this.#keep(bytes);
      return this.replayBytes < replayBytesMax;
    }
    if (!this.isResponseStarted && !this.isReplayLost) this.#keep(bytes);
    const isRoomy = upstream.writeBody(bytes, 0, bytes.length, true);
    return isRoomy && (upstream.isConnected || this.replayBytes < replayBytesMax);
  }

  #keep(bytes: Buffer): void {
    const isFull = this.replayBytes + bytes.length > replayBytesMax && this.upstream?.isConnected === true;
    if (isFull) { this.replay = undefined; this.replayBytes = 0; this.isReplayLost = true; return; }
    (this.replay ??= []).push(bytes);
    this.replayBytes += bytes.length;
  }

  endBody(trailers: string): void {
    this.isRequestWhole = true;
    this.requestTrailers = trailers;
    if (this.endpoint !== undefined && !this.isResponseStarted) this.#wait(this.endpoint);
    this.upstream?.endBody(trailers);
  }

  /** The client went away. */
  cancel(): void {
    if (!this.isActive) return;
    this.reason = 'client-gone';
    if (this.status === 0) this.status = 499;
    this.finish();
    this.#dropUpstream();
  }

  onInterim(status: number, text: string): void {
    if (this.down.version > 0 && (status !== 100 || this.head.expectsContinue)) this.down.sendInterim(text);
  }

  /** The final head has come; `kind` and what follows as in Downstream.sendHead. */
  onHead(head: ResponseHead, text: string, kind: number, bytes: Buffer, start: number, end: number, isLast: boolean): void {
    this.isResponseStarted = true;
    this.replay = undefined;
    this.#unwait();
    this.status = head.status;
    this.engine.noteResponse(this, head.status);
    if (end > start) this.responseBytes += end - start;
    this.down.sendHead(head.status, head.hasDate ? text + this.responseFields : text + this.responseFields + this.engine.dateLine(), kind, bytes, start, end, isLast);
  }

  /** Whether a head of this status is not to be passed on but leads to another try, or to an answer of ours. */
  takesOver(status: number): boolean {
    if (status < 400 || this.isResponseStarted) return false;
    this.pendingStatus = status;
    const statuses = this.route?.retry?.retryOn.statuses;
    if (statuses !== undefined && statuses.includes(status) && this.#mayRetry('status', false, false)) return true;
    return this.replaces?.(status) !== undefined;
  }

  onBody(bytes: Buffer, start: number, end: number, mayKeep = false): boolean {
    this.responseBytes += end - start;
    return this.down.sendBody(bytes, start, end, mayKeep);
  }

  /** The answer is whole; the upstream has already freed itself. */
  onEnd(trailers: string): void {
    this.#release();
    this.finish();
    // Last: the client's next request may begin on this same object inside this call.
    this.down.sendEnd(trailers);
  }

  onTunnel(head: ResponseHead, text: string, early: Buffer): void {
    const { upstream } = this;
    this.isResponseStarted = true;
    this.#unwait();
    this.status = head.status;
    this.engine.noteResponse(this, head.status);
    if (upstream !== undefined) this.down.startTunnel(text, upstream, early);
  }

  /** The upstream try ended without a whole answer; the upstream is already gone. */
  onFailure(kind: FailureKind): void {
    if (!this.isActive) return;
    const endpoint = this.endpoint;
    const upstream = this.upstream;
    this.#release();
    this.upstream = undefined;
    const isConnect = kind === 'connect' || kind === 'connectTimeout';
    if (endpoint !== undefined && !(kind === 'reset' && upstream?.isReused === true)) endpoint.noteFault(isConnect, this.engine.nowMs());
    if (this.isResponseStarted) {
      this.reason = kind;
      this.finish();
      this.down.abort();
      return;
    }
    if (this.#mayRetry(kind, isConnect, upstream?.isReused === true) && this.engine.takeRetry(this, isConnect)) {
      // After a lost kept connection its neighbours may be stale as well: another endpoint, or at least a new connection.
      if (upstream?.isReused === true) this.needsFresh = true;
      if (endpoint !== undefined && !(this.needsFresh && (this.backend?.endpoints.length ?? 0) <= 1)) (this.tried ??= []).push(endpoint);
      this.retryCount += 1;
      this.forward();
      return;
    }
    if (kind === 'status') { this.replaces?.(this.pendingStatus)?.(); return; }
    this.engine.answers.upstreamFailure(this, kind);
  }

  #mayRetry(kind: FailureKind, isConnect: boolean, isReused: boolean): boolean {
    const { triesMax, retryOn } = this.engine.retrySettings(this.route);
    if (this.isReplayLost || this.retryCount + 1 >= triesMax) return false;
    if (isConnect) return retryOn.connect;
    if (kind === 'timeout' && !retryOn.timeout) return false;
    if (kind === 'invalid' && !retryOn.invalid) return false;
    if (kind === 'truncated' || kind === 'full') return false;
    if (kind === 'status' && (this.route?.retry?.retryOn.statuses.includes(this.pendingStatus) !== true || (this.backend?.endpoints.length ?? 0) <= this.retryCount + 1)) return false;
    return (idempotent.has(this.head.method) || retryOn.nonIdempotent) && (retryOn.reset || isReused || kind === 'status');
  }

  /** Both directions of a tunnel have ended. */
  finishTunnel(): void {
    this.#release();
    this.upstream = undefined;
    this.finish();
  }

  /** Counts the request among those that the endpoint has whole and owes an answer. */
  #wait(endpoint: Endpoint): void {
    if (this.#isWaiting) return;
    this.#isWaiting = true;
    endpoint.waiting += 1;
  }

  #unwait(): void {
    if (!this.#isWaiting) return;
    this.#isWaiting = false;
    if (this.endpoint !== undefined) this.endpoint.waiting -= 1;
  }

  #release(): void {
    this.#unwait();
    if (this.endpoint !== undefined) {
      this.endpoint.outstanding -= 1;
      this.endpoint = undefined;
    }
  }

  #dropUpstream(): void {
    const { upstream } = this;
    this.#release();
    this.upstream = undefined;
    upstream?.cancel();
  }

  /** Ends the exchange for all but the client's last bytes: counters, access log, policies. */
  finish(): void {
    if (!this.isActive) return;
    this.isActive = false;
    this.requestText = '';
    this.replay = undefined;
    this.engine.noteDone(this);
    if (this.onDone !== undefined) {
      const done = this.onDone;
      this.onDone = undefined;
      done();
    }
  }

  /** An answer of our own ends the exchange; whatever the upstream still does is dropped. */
  finishLocally(status: number): void {
    this.status = status;
    this.finish();
    if (this.upstream !== undefined) this.#dropUpstream();
  }
}
