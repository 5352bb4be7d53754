// Reads the annotations of an Ingress into typed values (I-1: a fixed list, each value checked, never text for a
// configuration). What cannot be honoured becomes a fault of the object with the exact field; a value that protects
// something (credentials, addresses) and cannot be read closes the route instead of opening it. Called by plan.ts.

import { parseCIDR, canonicalIP } from '../api/address.ts';
import type { Secret } from '../api/types.ts';
import { parseAuthAnnotations } from './annotations-auth.ts';
import { annotationTable, ownName } from './annotation-table.ts';
import type { PlanFault } from './plan.ts';
import type { PolicySpec } from '../proxy/http/policy/spec.ts';
import type { RetryRules } from '../proxy/http/route.ts';
import type { ClientAuthSpec, RouteSpec } from './protocol.ts';

export type SecretOf = (key: string) => Secret | undefined;

export interface CanaryRules { readonly weight: number; readonly weightTotal: number; readonly header: string; readonly headerValue: string; readonly headerPattern: string; readonly cookie: string }

export interface ParsedAnnotations {
  readonly faults: readonly PlanFault[];
  readonly usesRegex: boolean;
  readonly canary: CanaryRules | undefined;
  readonly aliases: readonly string[];
  /** Code of the redirect between HOST and www.HOST; 0 = none. */
  readonly wwwRedirectCode: number;
  readonly backendProtocol: string | undefined;
  /** Tells backends of one Service port apart that are reached differently. */
  readonly backendVariant: string;
  readonly proxySsl: { readonly secretKey: string | undefined; /** undefined = not said. */ readonly verify: boolean | undefined; readonly name: string | undefined };
  readonly secretKeys: readonly string[];
  readonly clientAuth: ClientAuthSpec | undefined;
  /** Services that policies send to: [serviceKey, port]. */
  readonly services: readonly { readonly key: string; readonly serviceKey: string; readonly port: number | undefined }[];
  readonly rewriteTarget: string | undefined;
  readonly route: Pick<RouteSpec, 'policy' | 'timeouts' | 'retry'>;
}

/** Collects values and faults while one object is read. */
export class AnnotationReader {
  readonly namespace: string;
  readonly name: string;
  readonly secretOf: SecretOf;
  readonly faults: PlanFault[] = [];
  readonly secretKeys: string[] = [];
  readonly services: { key: string; serviceKey: string; port: number | undefined }[] = [];
  readonly #values = new Map<string, { value: string; field: string }>();

  constructor(annotations: Readonly<Record<string, string>>, namespace: string, name: string, secretOf: SecretOf) {
    this.namespace = namespace;
    this.name = name;
    this.secretOf = secretOf;
    for (const [key, value] of Object.entries(annotations)) {
      const own = ownName(key);
      if (own === undefined) continue;
      const row = annotationTable[own];
      const field = `metadata.annotations[${key}]`;
      if (row === undefined) this.#fault('AnnotationUnknown', field, 'is not known and has no effect');
      else if (row.fate === 'refused') this.#fault('AnnotationRefused', field, row.note);
      else this.#values.set(own, { value: value.trim(), field });
    }
  }

  #fault(reason: string, field: string, message: string): void { this.faults.push({ reason, field, message: `${field}: ${message}` }); }
  has(name: string): boolean { return this.#values.has(name); }
  text(name: string): string | undefined { const value = this.#values.get(name)?.value; return value === '' ? undefined : value; }
  isTrue(name: string): boolean { return this.#values.get(name)?.value.toLowerCase() === 'true'; }
  isFalse(name: string): boolean { return this.#values.get(name)?.value.toLowerCase() === 'false'; }
  bad(name: string, message: string): undefined { this.#fault('AnnotationInvalid', this.#values.get(name)?.field ?? name, `${message}: ${JSON.stringify(this.text(name)?.slice(0, 200))}`); return undefined; }

  number(name: string, least: number, most: number): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const value = /^\d{1,12}$/.test(text) ? Number(text) : NaN;
    return value >= least && value <= most ? value : this.bad(name, `must be a number from ${least} to ${most}`);
  }

  list(name: string): string[] | undefined { return this.text(name)?.split(',').map((item) => item.trim()).filter((item) => item !== ''); }

  /** A value that may stand in a field or a URL: visible ASCII. */
  plain(name: string, pattern = /^[\x21-\x7e]+$/): string | undefined {
    const text = this.text(name);
    return text === undefined || pattern.test(text) ? text : this.bad(name, 'has characters that are not allowed');
  }

  cidrs(name: string): readonly string[] | undefined {
    const list = this.list(name);
    return list?.map((item) => {
      const text = item.includes('/') ? item : canonicalIP(item) === undefined ? item : `${item}/${item.includes(':') ? 128 : 32}`;
      if (parseCIDR(text) === undefined) { this.bad(name, 'is not a list of addresses or CIDRs'); return '255.255.255.255/32'; }
      return text;
    });
  }

  secret(key: string): Secret | undefined {
    this.secretKeys.push(key);
    return this.secretOf(key);
  }

  /** Notes a Service that a policy needs and returns the key of its backend. */
  service(namespace: string, name: string, port: number | undefined): string {
    const serviceKey = `${namespace}/${name}`;
    const key = `${serviceKey}:${port ?? '*'}`;
    this.services.push({ key, serviceKey, port });
    return key;
  }

  /** An in-cluster URL: Service host, port, path. */
  clusterUrl(name: string): { backend: string; host: string; path: string } | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const match = /^http:\/\/([a-z0-9][-a-z0-9]*)\.([a-z0-9][-a-z0-9]*)(?:\.svc(?:\.[a-z0-9.-]+)?)?(?::(\d{1,5}))?(\/[\x21-\x7e]*)?$/.exec(text.replace(/\$request_uri$/, ''));
    if (match === null) return this.bad(name, 'must be the URL of an in-cluster Service (http://NAME.NAMESPACE.svc.cluster.local:PORT/PATH)');
    const port = Number(match[3] ?? 80);
    return { backend: this.service(match[2]!, match[1]!, port), host: `${match[1]!}.${match[2]!}.svc${match[3] === undefined ? '' : `:${match[3]}`}`, path: match[4] ?? (text.endsWith('$request_uri') ? '' : '/') };
  }
}

const noAnnotations: ParsedAnnotations = Object.freeze({
  faults: [], usesRegex: false, canary: undefined, aliases: [], wwwRedirectCode: 0, backendProtocol: undefined, backendVariant: '', proxySsl: { secretKey: undefined, verify: undefined, name: undefined },
  secretKeys: [], clientAuth: undefined, services: [], rewriteTarget: undefined, route: {},
});

/** Reads all annotations of one object. */
export function parseAnnotations(annotations: Readonly<Record<string, string>>, namespace: string, name: string, secretOf: SecretOf, hasTls: boolean): ParsedAnnotations {
  const reader = new AnnotationReader(annotations, namespace, name, secretOf);
  if (!Object.keys(annotations).some((key) => ownName(key) !== undefined) && !hasTls) return noAnnotations;
  const auth = parseAuthAnnotations(reader);
  const rewriteTarget = reader.plain('rewrite-target');
  const policy: PolicySpec = { ...auth.policy, ...redirects(reader, hasTls), ...traffic(reader), ...sideways(reader) };
  const timeouts = readTimeouts(reader);
  const retry = readRetry(reader);
  const backendProtocol = readProtocol(reader);
  const proxySsl = readProxySsl(reader);
  return {
    faults: reader.faults, usesRegex: reader.isTrue('use-regex') || (rewriteTarget !== undefined && /\$\d/.test(rewriteTarget)), canary: readCanary(reader),
    aliases: readAliases(reader), wwwRedirectCode: reader.isTrue('from-to-www-redirect') ? 308 : 0,
    backendProtocol, proxySsl, backendVariant: [backendProtocol ?? '', proxySsl.secretKey ?? '', proxySsl.name ?? '', proxySsl.verify === undefined ? '' : proxySsl.verify ? 'v' : 'n'].join('|').replace(/^\|+$/, ''),
    secretKeys: reader.secretKeys, clientAuth: auth.clientAuth, services: reader.services, rewriteTarget,
    route: { ...(Object.keys(policy).length === 0 ? {} : { policy }), ...(timeouts === undefined ? {} : { timeouts }), ...(retry === undefined ? {} : { retry }) },
  };
}

function redirects(reader: AnnotationReader, hasTls: boolean): PolicySpec {
  const isForced = reader.isTrue('force-ssl-redirect');
  // Rule 32: no redirect unless asked, unlike ingress-nginx, which redirects every TLS host.
  const sslRedirectCode = isForced || (hasTls && reader.isTrue('ssl-redirect')) ? 308 : undefined;
  const permanent = readUrl(reader, 'permanent-redirect');
  const temporal = readUrl(reader, 'temporal-redirect');
  const redirect = temporal !== undefined ? { code: reader.number('temporal-redirect-code', 300, 399) ?? 302, url: temporal }
    : permanent !== undefined ? { code: reader.number('permanent-redirect-code', 300, 399) ?? 301, url: permanent } : undefined;
  const appRoot = reader.plain('app-root', /^\/[\x21-\x7e]*$/);
  return { ...(sslRedirectCode === undefined ? {} : { sslRedirectCode }), ...(redirect === undefined ? {} : { redirect }), ...(appRoot === undefined ? {} : { appRoot }) };
}

function readUrl(reader: AnnotationReader, name: string): string | undefined {
  const text = reader.plain(name);
  return text === undefined || /^(https?:\/\/[^\s"'<>\\]+|\/(?!\/)[^\s"'<>\\]*)$/.test(text) ? text : reader.bad(name, 'must be an http or https URL');
}

function traffic(reader: AnnotationReader): PolicySpec {
  const bodyBytesMax = readSize(reader);
  const upstreamHost = reader.plain('upstream-vhost', /^[A-Za-z0-9.-]+(:\d{1,5})?$/);
  const forwardedPrefix = reader.plain('x-forwarded-prefix', /^\/[\x21-\x7e]*$/);
  const perSecond = reader.number('limit-rps', 1, 1_000_000) ?? 0;
  const perMinute = reader.number('limit-rpm', 1, 1_000_000) ?? 0;
  const connections = reader.number('limit-connections', 1, 1_000_000) ?? 0;
  const limits = perSecond + perMinute + connections === 0 ? undefined : { perSecond, perMinute, connections, burstMultiplier: reader.number('limit-burst-multiplier', 1, 100) ?? 5, exempt: reader.list('limit-whitelist') ?? reader.list('limit-allowlist') ?? [] };
  return {
    ...(bodyBytesMax === undefined ? {} : { bodyBytesMax }), ...(upstreamHost === undefined ? {} : { upstreamHost }), ...(forwardedPrefix === undefined ? {} : { forwardedPrefix }), ...(limits === undefined ? {} : { limits }),
    ...(reader.isTrue('enable-cors') ? { cors: readCors(reader) } : {}), ...readAffinity(reader),
  };
}

function readSize(reader: AnnotationReader): number | undefined {
  const name = reader.has('proxy-body-size') ? 'proxy-body-size' : 'client-max-body-size';
  const text = reader.text(name);
  if (text === undefined) return undefined;
  const match = /^(\d{1,12})([kmg]?)$/i.exec(text);
  if (match === null) return reader.bad(name, 'must be a size such as 8m');
  const bytes = Number(match[1]) * { '': 1, k: 1_024, m: 1_048_576, g: 1_073_741_824 }[match[2]!.toLowerCase()]!;
  return bytes === 0 ? undefined : bytes;
}

function readCors(reader: AnnotationReader): NonNullable<PolicySpec['cors']> {
  const fieldText = /^[\x20-\x7e]+$/;
  const origins = (reader.list('cors-allow-origin') ?? ['*']).filter((origin) => /^(\*|null|https?:\/\/(\*\.)?[A-Za-z0-9.-]+(:\d+)?)$/.test(origin) || reader.bad('cors-allow-origin', 'is not a list of origins') !== undefined);
  return {
    origins, methods: reader.plain('cors-allow-methods', fieldText) ?? 'GET, PUT, POST, DELETE, PATCH, OPTIONS',
    headers: reader.plain('cors-allow-headers', fieldText) ?? 'DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization',
    exposeHeaders: reader.plain('cors-expose-headers', fieldText) ?? '', hasCredentials: !reader.isFalse('cors-allow-credentials'), maxAgeSeconds: reader.number('cors-max-age', 0, 100_000_000) ?? 1_728_000,
  };
}

function readAffinity(reader: AnnotationReader): PolicySpec {
  if (reader.text('affinity') === undefined) return {};
  if (reader.text('affinity') !== 'cookie') { reader.bad('affinity', 'must be "cookie"'); return {}; }
  const sameSite = reader.plain('session-cookie-samesite', /^(None|Lax|Strict)$/i) ?? 'Lax';
  return { affinity: {
    name: reader.plain('session-cookie-name', /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/) ?? 'INGRESSCOOKIE', path: reader.plain('session-cookie-path', /^\/[\x21-\x3a\x3c-\x7e]*$/) ?? '/',
    domain: reader.plain('session-cookie-domain', /^[A-Za-z0-9.-]+$/) ?? '', maxAgeSeconds: reader.number('session-cookie-max-age', 0, 100_000_000) ?? reader.number('session-cookie-expires', 0, 100_000_000) ?? 0,
    sameSite, isSecure: reader.isTrue('session-cookie-secure') || sameSite.toLowerCase() === 'none', changesOnFailure: reader.isTrue('session-cookie-change-on-failure'),
  } };
}

/** Error pages, default backend, mirror: policies that send to other Services. */
function sideways(reader: AnnotationReader): PolicySpec {
  const name = reader.plain('default-backend', /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/);
  const backend = name === undefined ? undefined : reader.service(reader.namespace, name, undefined);
  const codes = reader.list('custom-http-errors')?.flatMap((code) => (/^[45]\d\d$/.test(code) ? [Number(code)] : (reader.bad('custom-http-errors', 'is not a list of status codes'), [])));
  const mirror = reader.clusterUrl('mirror-target');
  const host = reader.plain('mirror-host', /^[A-Za-z0-9.-]+(:\d{1,5})?$/);
  return {
    ...(backend === undefined ? {} : { defaultBackend: backend }),
    ...(codes === undefined || backend === undefined ? {} : { errorPages: { codes, backend, fields: `X-Namespace: ${reader.namespace}\r\nX-Ingress-Name: ${reader.name}\r\n` } }),
    ...(mirror === undefined ? {} : { mirror: { backend: mirror.backend, host: host ?? mirror.host, path: mirror.path === '/' ? '' : mirror.path, hasBody: reader.text('mirror-request-body') !== 'off' } }),
  };
}

function readTimeouts(reader: AnnotationReader): RouteSpec['timeouts'] {
  const connect = reader.number('proxy-connect-timeout', 1, 86_400);
  const read = reader.number('proxy-read-timeout', 1, 604_800);
  if (connect === undefined && read === undefined) return undefined;
  return { connectMs: connect === undefined ? undefined : connect * 1_000, responseMs: read === undefined ? undefined : read * 1_000, streamIdleMs: read === undefined ? undefined : read * 1_000 };
}

function readRetry(reader: AnnotationReader): RouteSpec['retry'] {
  const words = reader.text('proxy-next-upstream')?.split(/\s+/);
  const tries = reader.number('proxy-next-upstream-tries', 0, 100);
  if (words === undefined && tries === undefined) return undefined;
  const has = (word: string): boolean => words === undefined ? word === 'error' || word === 'timeout' : words.includes(word);
  const retryOn: RetryRules = {
    connect: has('error') && !has('off'), reset: has('error') && !has('off'), timeout: has('timeout') && !has('off'), invalid: has('invalid_header'), nonIdempotent: has('non_idempotent'),
    statuses: (words ?? []).flatMap((word) => { const match = /^http_(\d{3})$/.exec(word); return match === null ? [] : [Number(match[1])]; }),
  };
  return { triesMax: has('off') && words !== undefined ? 1 : tries === undefined ? 3 : tries === 0 ? 10 : tries, retryOn };
}

const protocols: Readonly<Record<string, string>> = Object.freeze({ HTTP: 'http', AUTO_HTTP: 'http', HTTPS: 'https', GRPC: 'h2c', GRPCS: 'h2' });

function readProtocol(reader: AnnotationReader): string | undefined {
  const text = reader.text('backend-protocol');
  return text === undefined ? undefined : protocols[text.toUpperCase()] ?? reader.bad('backend-protocol', 'must be HTTP, HTTPS, GRPC or GRPCS');
}

function readProxySsl(reader: AnnotationReader): ParsedAnnotations['proxySsl'] {
  const secret = reader.plain('proxy-ssl-secret', /^([a-z0-9.-]+\/)?[a-z0-9.-]+$/);
  const secretKey = secret === undefined ? undefined : secret.includes('/') ? secret : `${reader.namespace}/${secret}`;
  if (secretKey !== undefined && !secretKey.startsWith(`${reader.namespace}/`)) { reader.bad('proxy-ssl-secret', 'must be a Secret of the same namespace'); return { secretKey: undefined, verify: true, name: undefined }; }
  if (secretKey !== undefined) reader.secretKeys.push(secretKey);
  const verify = reader.plain('proxy-ssl-verify', /^(on|off)$/i)?.toLowerCase();
  return { secretKey, verify: verify === undefined ? undefined : verify === 'on', name: reader.plain('proxy-ssl-name', /^[A-Za-z0-9.-]+$/) };
}

function readCanary(reader: AnnotationReader): CanaryRules | undefined {
  if (!reader.isTrue('canary')) return undefined;
  const token = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
  return {
    weight: reader.number('canary-weight', 0, 1_000_000) ?? 0, weightTotal: reader.number('canary-weight-total', 1, 1_000_000) ?? 100, header: reader.plain('canary-by-header', token) ?? '',
    headerValue: reader.plain('canary-by-header-value', /^[\x20-\x7e]+$/) ?? '', headerPattern: reader.plain('canary-by-header-pattern', /^[\x20-\x7e]{1,200}$/) ?? '', cookie: reader.plain('canary-by-cookie', token) ?? '',
  };
}

function readAliases(reader: AnnotationReader): string[] {
  return (reader.list('server-alias') ?? []).filter((alias) => /^(\*\.)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/.test(alias) || reader.bad('server-alias', 'is not a list of host names') !== undefined);
}
