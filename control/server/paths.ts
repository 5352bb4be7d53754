// Everything outside resources: version, health, discovery, OpenAPI, metrics, the CA and token keys that joining nodes
// and token readers need.

import { createHash } from 'node:crypto';
import { NetloomError } from '../../api/errors.ts';
import { openApiDocument, openApiIndex, openApiV2, openApiV2Protobuf } from '../schema/openapi.ts';
import type { CrdObject } from '../schema/openapi-crd.ts';
import { Discovery } from './discovery.ts';
import type { Exchange } from './http/exchange.ts';
import { sendObject, sendText } from './http/respond.ts';
import { isEstablished, type Registry } from './registry.ts';
import type { RequestInfo } from './request-info.ts';
import { versionInfo } from './version.ts';

/** One line of /readyz?verbose. */
export interface HealthCheck { readonly name: string; check(): { ok: boolean; detail?: string | undefined } }

export interface PathsOptions {
  registry: Registry;
  healthChecks: readonly HealthCheck[];
  caPem: string;
  /** Public key set and issuer of service account tokens. */
  tokenKeys: () => object; tokenIssuer: string;
  metrics: () => Promise<string>;
  /** POST /netloom/v1/join. */
  join: (exchange: Exchange) => Promise<object>;
  /** GET /netloom/v1/backup: a verified copy of the store as one file. Administrators only, by the rules of the authorizer. */
  backup: () => Promise<Buffer>;
}

const publicPaths = new Set(['/healthz', '/livez', '/readyz', '/version', '/cacerts']);

/** Paths that anonymous callers may read: health, version, and the CA certificate (which is no secret). */
export function isPublicPath(info: RequestInfo): boolean {
  if (info.isResource || (info.verb !== 'get' && info.verb !== 'head')) return false;
  return publicPaths.has(info.path.replace(/\/+$/, '')) || /^\/(healthz|livez|readyz)\/[a-z0-9-]+$/.test(info.path);
}

type Handler = (exchange: Exchange, info: RequestInfo) => void | Promise<void>;

/** Serves the paths above. */
export class Paths {
  readonly #options: PathsOptions;
  readonly #discovery: Discovery;
  readonly #handlers: Readonly<Record<string, Handler>>;

  constructor(options: PathsOptions) {
    this.#options = options;
    this.#discovery = new Discovery(options.registry);
    const json = (make: () => object): Handler => (exchange) => sendObject({ exchange, warnings: [] }, 200, make());
    this.#handlers = {
      '/version': json(() => versionInfo),
      '/': json(() => ({ paths: this.#allPaths() })),
      '/cacerts': (exchange) => sendText({ exchange, warnings: [] }, 200, options.caPem, 'application/x-pem-file'),
      '/openapi/v2': (exchange) => this.#openApiV2(exchange),
      '/openapi/v3': json(() => openApiIndex(this.#crds())),
      '/openid/v1/jwks': json(options.tokenKeys),
      '/.well-known/openid-configuration': json(() => ({
        issuer: options.tokenIssuer, jwks_uri: `${options.tokenIssuer}/openid/v1/jwks`, response_types_supported: ['id_token'], subject_types_supported: ['public'], id_token_signing_alg_values_supported: ['ES256'],
      })),
      '/netloom/v1/backup': async (exchange) => { sendText({ exchange, warnings: [] }, 200, await options.backup(), 'application/vnd.sqlite3'); },
      '/metrics': async (exchange) => { sendText({ exchange, warnings: [] }, 200, await options.metrics(), 'text/plain; version=0.0.4; charset=utf-8'); },
    };
  }

  async serve(exchange: Exchange, info: RequestInfo, warnings: readonly string[]): Promise<void> {
    const path = info.path.length > 1 ? info.path.replace(/\/+$/, '') : info.path;
    if (path === '/netloom/v1/join' && info.verb === 'post') { await sendObject({ exchange, warnings }, 200, await this.#options.join(exchange)); return; }
    if (info.verb !== 'get' && info.verb !== 'head') throw new NetloomError('MethodNotAllowed', 'the server does not allow this method on the requested resource', { source: 'downstream', details: {} });
    const handler = this.#handlers[path];
    if (handler !== undefined) { await handler(exchange, info); return; }
    if (/^\/(healthz|livez|readyz)(\/|$)/.test(path)) { this.#health(exchange, path); return; }
    if (path.startsWith('/openapi/v3/')) { this.#openApiV3(exchange, path.slice('/openapi/v3/'.length)); return; }
    const document = path.startsWith('/api') ? this.#discovery.find(path, exchange.headers['accept'] ?? '') : undefined;
    if (document === undefined) throw new NetloomError('NotFound', 'the server could not find the requested resource', { source: 'downstream', details: {} });
    sendText({ exchange, warnings }, 200, document.body, document.contentType, { vary: 'Accept' });
  }

  #crds(): CrdObject[] { return this.#options.registry.definitions().filter(isEstablished) as unknown as CrdObject[]; }

  #openApiV2(exchange: Exchange): void {
    const wantsProtobuf = (exchange.headers['accept'] ?? '').includes('proto-openapi.spec.v2');
    if (wantsProtobuf) sendText({ exchange, warnings: [] }, 200, openApiV2Protobuf, 'application/com.github.proto-openapi.spec.v2.v1.0+protobuf');
    else sendText({ exchange, warnings: [] }, 200, JSON.stringify(openApiV2));
  }

  #openApiV3(exchange: Exchange, path: string): void {
    const document = openApiDocument(path, this.#crds());
    if (document === undefined) throw new NetloomError('NotFound', 'the server could not find the requested resource', { source: 'downstream', details: {} });
    const hash = exchange.query.get('hash');
    const etag = `"${document.hash}"`;
    const more: Record<string, string> = { etag, vary: 'Accept-Encoding, Accept' };
    // A document under its own hash never changes, so that kubectl keeps it across commands.
    if (hash === document.hash) Object.assign(more, { 'cache-control': 'public, immutable', expires: 'Fri, 31 Dec 2049 23:59:59 GMT' });
    if (exchange.headers['if-none-match'] === etag) { sendText({ exchange, warnings: [] }, 304, '', 'application/json', more); return; }
    sendText({ exchange, warnings: [] }, 200, document.json, 'application/json', more);
  }

  #health(exchange: Exchange, path: string): void {
    const [, endpoint = '', single] = path.split('/');
    const excluded = new Set(exchange.query.getAll('exclude').flatMap((value) => value.split(',')));
    const checks = this.#options.healthChecks.filter((item) => (single === undefined ? !excluded.has(item.name) : item.name === single) && !(endpoint === 'livez' && item.name !== 'ping'));
    if (single !== undefined && checks.length === 0) throw new NetloomError('NotFound', 'the server could not find the requested resource', { source: 'downstream', details: {} });
    const results = checks.map((item) => ({ name: item.name, ...item.check() }));
    const isOk = results.every((result) => result.ok);
    const lines = results.map((result) => (result.ok ? `[+]${result.name} ok` : `[-]${result.name} failed: ${result.detail ?? 'reason withheld'}`));
    const isVerbose = exchange.query.has('verbose') || !isOk;
    const text = isVerbose ? `${lines.join('\n')}\n${endpoint} check ${isOk ? 'passed' : 'failed'}\n` : 'ok';
    sendText({ exchange, warnings: [] }, isOk ? 200 : 500, text, 'text/plain; charset=utf-8', { 'x-content-type-options': 'nosniff' });
  }

  #allPaths(): string[] {
    const groups = new Set<string>(['/api', '/api/v1', '/apis']);
    for (const { group, version } of this.#options.registry.all()) if (group !== '') { groups.add(`/apis/${group}`); groups.add(`/apis/${group}/${version}`); }
    return [...groups, ...Object.keys(this.#handlers).filter((path) => path !== '/'), '/healthz', '/livez', '/readyz'].sort();
  }
}

/** Public key set in the form of RFC 7517 for one EC P-256 key. */
export function keySet(jwk: object, keyId: string): object { return { keys: [{ ...jwk, use: 'sig', alg: 'ES256', kid: keyId }] }; }

/** The id under which a public key is published. */
export function keyIdOf(der: Buffer): string { return createHash('sha256').update(der).digest('base64url').slice(0, 22); }
