// The handler chain: every request, from TLS or from the same process, goes
//   host check → who calls → limits → may they → route → verb → answer (or Status) → audit and metrics.
// Verbs are in ./verbs, subresources in ./subresources, paths outside resources in ./paths.ts.

import { NetloomError } from '../../api/errors.ts';
import type { ResourceInfo } from '../resources.ts';
import type { Audit } from './audit.ts';
import type { Authenticator } from './auth/authenticator.ts';
import type { Authorizer } from './auth/authorizer.ts';
import { impersonated } from './auth/impersonation.ts';
import { anonymous, type UserInfo } from './auth/user.ts';
import type { RequestContext, ServerParts } from './context.ts';
import { methodNotAllowed, noSuchPath } from './errors.ts';
import type { Exchange } from './http/exchange.ts';
import { negotiate } from './http/negotiate.ts';
import { sendError } from './http/respond.ts';
import type { Limiter } from './limits.ts';
import { isPublicPath, type Paths } from './paths.ts';
import { parseRequestInfo, type RequestInfo } from './request-info.ts';
import type { RequestObserver } from './observer.ts';
import { serveSubresource } from './subresources/table.ts';
import { serveReview } from './subresources/reviews.ts';
import { createBinding } from './subresources/binding.ts';
import { deleteCollection, deleteObject } from './verbs/delete.ts';
import { patchObject } from './verbs/patch.ts';
import { getObject, listObjects } from './verbs/read.ts';
import { watchObjects } from './verbs/watch.ts';
import { createObject, updateObject } from './verbs/write.ts';

export interface ChainParts {
  readonly parts: ServerParts; readonly authenticator: Authenticator; readonly authorizer: Authorizer; readonly limiter: Limiter;
  readonly paths: Paths; readonly audit: Audit; readonly observer: RequestObserver;
  readonly createToken: (context: RequestContext) => Promise<void>;
  readonly forwardToNode: (context: RequestContext) => Promise<void>;
  /** Called after an approval was written. */
  readonly onApproval: (name: string) => Promise<void>;
  readonly proxy: (context: RequestContext) => Promise<void>;
  /** Host names and addresses under which browsers and clients may call. */
  readonly isKnownHost: (host: string) => boolean;
}

const verbHandlers: Readonly<Record<string, (context: RequestContext) => Promise<void>>> = {
  get: getObject, list: listObjects, watch: watchObjects, create: createObject, update: (context) => updateObject(context),
  patch: (context) => patchObject(context), delete: deleteObject, deletecollection: deleteCollection,
};

/** Serves requests; one per control plane. */
export class ApiServer {
  readonly #chain: ChainParts;
  #lastId = 0;
  #isClosing = false;
  #inFlight = 0;
  #idle: (() => void) | undefined;

  constructor(chain: ChainParts) { this.#chain = chain; }

  /** Requests being worked on, streams not counted. */
  get inFlightCount(): number { return this.#inFlight; }

  /** New requests are refused from now on; resolves when none is left. */
  drain(): Promise<void> {
    this.#isClosing = true;
    if (this.#inFlight === 0) return Promise.resolve();
    return new Promise((resolve) => { this.#idle = resolve; });
  }

  /** Entry of the listener and of in-process callers. Never throws. */
  readonly handle = (exchange: Exchange): void => {
    this.#inFlight += 1;
    void this.#serve(exchange).finally(() => {
      this.#inFlight -= 1;
      if (this.#inFlight === 0) this.#idle?.();
    });
  };

  async #serve(exchange: Exchange): Promise<void> {
    const { parts, audit, observer } = this.#chain;
    const startMs = parts.clock.monotonicMs();
    const warnings: string[] = [];
    let info: RequestInfo | undefined;
    let failure: unknown;
    try {
      info = parseRequestInfo(exchange.method, exchange.path, exchange.query);
      await this.#guarded(exchange, info, warnings);
    } catch (error) {
      failure = error;
      const id = `${process.pid}-${++this.#lastId}`;
      if (!(error instanceof NetloomError) || error.code === 'InternalError') parts.log.error('request failed', { request: id, method: exchange.method, path: exchange.path, err: error });
      if (exchange.reply.isClosed) return;
      sendError({ exchange, warnings }, error, id);
    } finally {
      observer.observe(exchange, info, exchange.reply.status, parts.clock.monotonicMs() - startMs);
      audit.record(exchange, info, exchange.reply.status, failure);
    }
  }

  async #guarded(exchange: Exchange, info: RequestInfo, warnings: string[]): Promise<void> {
    const { authenticator, authorizer, limiter, paths } = this.#chain;
    if (this.#isClosing) throw new NetloomError('ServiceUnavailable', 'the API server is shutting down', { source: 'api', details: { retryAfterSeconds: 1 } });
    this.#checkBrowser(exchange);
    const caller = exchange.user ?? await authenticator.authenticate(exchange);
    exchange.user = caller;
    const user = caller === undefined ? undefined : impersonated(caller, exchange.headers, authorizer);
    exchange.user = user ?? anonymous;
    if (!isPublicPath(info)) {
      if (user === undefined) throw new NetloomError('Unauthorized', 'Unauthorized', { source: 'downstream' });
      authorizer.authorize(user, info);
    }
    const release = limiter.enter(exchange, info);
    try {
      if (!info.isResource) await paths.serve(exchange, info, warnings);
      else await this.#serveResource(exchange, info, exchange.user, warnings);
    } finally { release(); }
  }

  /** A page in a browser on this machine must not reach the API: foreign Host, or a form that needs no token. */
  #checkBrowser(exchange: Exchange): void {
    if (exchange.peer.isInProcess) return;
    const host = exchange.headers['host'];
    if (host !== undefined && !this.#chain.isKnownHost(host)) throw new NetloomError('Forbidden', 'the Host of the request is not a name of this API server', { source: 'downstream', hint: 'add the name with --api-name' });
    const origin = exchange.headers['origin'];
    if (origin !== undefined && origin !== 'null' && !sameHost(origin, host)) throw new NetloomError('Forbidden', 'requests from web pages are not allowed', { source: 'downstream' });
  }

  async #serveResource(exchange: Exchange, info: RequestInfo, user: UserInfo, warnings: string[]): Promise<void> {
    const { parts } = this.#chain;
    const resource = parts.registry.find(info.group, info.version, info.resource);
    if (resource === undefined) throw noSuchPath();
    const negotiated = info.subresource === '' || info.subresource === 'status' || info.subresource === 'scale' ? negotiate(exchange.headers['accept']) : negotiate(undefined);
    const context: RequestContext = { server: parts, exchange, info, resource, user, negotiated, warnings };
    checkScope(info, resource);
    const review = serveReview(context, this.#chain.authorizer, this.#chain.authenticator);
    if (review !== undefined) { await review; return; }
    if (info.subresource !== '') { await serveSubresource(context, this.#chain); return; }
    if (resource.resource === 'bindings' && resource.group === '' && info.verb === 'create') { await createBinding(context); return; }
    const handler = verbHandlers[info.verb];
    if (handler === undefined || !resource.verbs.includes(info.verb)) throw methodNotAllowed(info);
    if (info.verb === 'create' ? info.name !== '' : info.name === '' && (info.verb === 'update' || info.verb === 'patch')) throw methodNotAllowed(info);
    warnDeprecated(context);
    await handler(context);
  }
}

function warnDeprecated(context: RequestContext): void {
  const version = context.server.registry.definitionVersion(context.resource);
  if (version?.deprecated !== true) return;
  const { group, kind } = context.resource;
  context.warnings.push(version.deprecationWarning ?? `${group}/${version.name} ${kind} is deprecated`);
}

function checkScope(info: RequestInfo, resource: ResourceInfo): void {
  if (!resource.isNamespaced && info.namespace !== '' && resource.resource !== 'namespaces') throw noSuchPath();
  if (resource.isNamespaced && info.namespace === '' && (info.name !== '' && info.verb !== 'list' && info.verb !== 'watch' || info.verb === 'create' || info.verb === 'deletecollection')) {
    if (info.verb === 'create') throw new NetloomError('BadRequest', 'an empty namespace may not be set during creation', { source: 'downstream' });
    throw noSuchPath();
  }
}

function sameHost(origin: string, host: string | undefined): boolean {
  try { return host !== undefined && new URL(origin).host === host; } catch { return false; }
}
