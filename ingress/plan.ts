// Pure: one Ingress object → what it claims (routes per host, default backend, TLS hosts) and what is wrong with it.
// Claims of all objects meet in claims.ts, where the oldest wins (rule 35). Called by controller.ts and check.ts.

import type { Ingress, IngressBackend, IngressPath } from '../api/types.ts';
import { parseAnnotations, type ParsedAnnotations, type SecretOf } from './annotations.ts';
import type { RouteSpec } from './protocol.ts';
import { linearExpression } from './table.ts';

/** A fault of an object: an Event on it, and the path it concerns answers 503. `field` is the exact field path. */
export interface PlanFault { readonly reason: string; readonly field: string; readonly message: string }

/** A backend some route needs: the Service port by number or name. */
export interface BackendNeed { readonly key: string; readonly serviceKey: string; readonly port: { readonly number?: number | undefined; readonly name?: string | undefined }; readonly protocol: string | undefined; readonly annotations: ParsedAnnotations | undefined; /** Where the object names it first. */ readonly field: string }

export interface Claim { readonly host: string; readonly route: Omit<RouteSpec, 'row'>; readonly service: string }

export interface IngressPlan {
  readonly key: string;
  /** Sorts claims: creation time, then namespace/name. */
  readonly order: string;
  readonly namespace: string;
  /** Adds to the routes of another object instead of having its own. */
  readonly isCanary: boolean;
  readonly claims: readonly Claim[];
  readonly fallback: Claim | undefined;
  readonly hosts: readonly string[];
  readonly tls: readonly { readonly hosts: readonly string[]; readonly secretKey: string; readonly field: string }[];
  readonly needs: ReadonlyMap<string, BackendNeed>;
  readonly faults: readonly PlanFault[];
  readonly annotations: ParsedAnnotations;
}

/** Plans one Ingress. Never throws: what is wrong becomes a fault and harms only its own path. */
export function planIngress(ingress: Ingress, secretOf: SecretOf): IngressPlan {
  const { name, namespace = 'default', creationTimestamp = '' } = ingress.metadata;
  const key = `${namespace}/${name}`;
  const faults: PlanFault[] = [];
  const needs = new Map<string, BackendNeed>();
  const annotations = parseAnnotations(ingress.metadata.annotations ?? {}, namespace, name, secretOf, (ingress.spec?.tls?.length ?? 0) > 0);
  faults.push(...annotations.faults);
  for (const { key: backendKey, serviceKey, port } of annotations.services) needs.set(backendKey, { key: backendKey, serviceKey, port: { number: port }, protocol: undefined, annotations: undefined, field: 'metadata.annotations' });
  const context: PlanContext = { key, namespace, faults, needs, annotations };
  const claims: Claim[] = [];
  for (const [ruleIndex, rule] of (ingress.spec?.rules ?? []).entries()) {
    const hosts = [rule.host ?? '', ...(rule.host === undefined ? [] : annotations.aliases)];
    for (const [pathIndex, path] of (rule.http?.paths ?? []).entries()) {
      const field = `spec.rules[${ruleIndex}].http.paths[${pathIndex}]`;
      if (rule.host !== undefined && annotations.wwwRedirectCode !== 0 && pathIndex === 0) claims.push(wwwClaim(context, rule.host.toLowerCase(), annotations.wwwRedirectCode));
      for (const host of hosts) {
        const claim = planPath(context, host.toLowerCase(), path, field);
        if (claim !== undefined) claims.push(claim);
      }
    }
  }
  const { defaultBackend } = ingress.spec ?? {};
  return {
    key, namespace, isCanary: annotations.canary !== undefined, order: `${creationTimestamp === '' ? '9999' : creationTimestamp} ${key}`, claims, needs, faults, annotations,
    hosts: [...new Set((ingress.spec?.rules ?? []).map((rule) => (rule.host ?? '').toLowerCase()))],
    fallback: defaultBackend === undefined ? undefined : {
      host: '', service: defaultBackend.service?.name ?? '',
      route: { object: key, rule: 'default backend', path: '/', type: 'Prefix', ...target(context, defaultBackend, 'spec.defaultBackend'), ...annotations.route },
    },
    tls: (ingress.spec?.tls ?? []).flatMap((item, index) => item.secretName === undefined || item.secretName === '' ? [] : [{
      hosts: item.hosts === undefined || item.hosts.length === 0 ? (ingress.spec?.rules ?? []).flatMap((rule) => rule.host ?? []) : item.hosts.map((host) => host.toLowerCase()),
      secretKey: `${namespace}/${item.secretName}`, field: `spec.tls[${index}].secretName`,
    }]),
  };
}

interface PlanContext { readonly key: string; readonly namespace: string; readonly faults: PlanFault[]; readonly needs: Map<string, BackendNeed>; readonly annotations: ParsedAnnotations }

/** Redirects www.HOST to HOST, or HOST to www.HOST when that is the rule's host. */
function wwwClaim(context: PlanContext, host: string, code: number): Claim {
  const other = host.startsWith('www.') ? host.slice(4) : `www.${host}`;
  return { host: other, service: '', route: { object: context.key, rule: `${other} redirect`, path: '/', type: 'Prefix', reason: 'redirect', policy: { redirect: { code, host } } } };
}

function planPath(context: PlanContext, host: string, path: IngressPath, field: string): Claim | undefined {
  const text = path.path === undefined || path.path === '' ? '/' : path.path;
  // Many manifests for ingress-nginx write expressions under any path type.
  const isRegex = context.annotations.usesRegex && (path.pathType === 'ImplementationSpecific' || /[()[\]*+?|^$\\]/.test(text));
  if (!text.startsWith('/') && !isRegex) {
    fault(context, 'InvalidPath', `${field}.path`, `must begin with "/": ${JSON.stringify(text)}`);
    return undefined;
  }
  if (isRegex) {
    try { linearExpression(text); } catch {
      fault(context, 'InvalidRegex', `${field}.path`, `is not an expression that runs in linear time (no look-around, no back-references): ${JSON.stringify(text)}`);
      return undefined;
    }
  }
  const type = isRegex ? 'Regex' : path.pathType === 'Exact' ? 'Exact' : 'Prefix';
  return {
    host, service: path.backend.service?.name ?? '',
    route: { object: context.key, rule: `${host === '' ? '*' : host}${text}`, path: text, type, ...target(context, path.backend, `${field}.backend`), ...routeOptions(context.annotations, isRegex ? text : undefined) },
  };
}

/** What the annotations give every route, with the rewrite tied to the path's own expression. */
function routeOptions(annotations: ParsedAnnotations, expression: string | undefined): ParsedAnnotations['route'] {
  const { rewriteTarget, route } = annotations;
  if (rewriteTarget === undefined) return route;
  const pattern = expression === undefined ? {} : { pattern: expression };
  return { ...route, policy: { ...route.policy, rewrite: { target: rewriteTarget, ...pattern } } };
}

/** The backend key of a route, or the reason why it has none. */
function target(context: PlanContext, backend: IngressBackend, field: string): { backend?: string; reason?: string } {
  const { service, resource } = backend;
  if (service === undefined) {
    if (resource !== undefined) fault(context, 'UnsupportedBackend', `${field}.resource`, `resource backends are not supported (${resource.kind} ${JSON.stringify(resource.name)}): this path answers 503`);
    return { reason: 'unsupported-backend' };
  }
  const port = service.port?.number ?? service.port?.name;
  if (port === undefined) {
    fault(context, 'InvalidBackend', `${field}.service.port`, 'needs a number or a name');
    return { reason: 'port-not-found' };
  }
  return { backend: needBackend(context, service.name, { number: service.port?.number, name: service.port?.name }, `${field}.service.name`) };
}

function needBackend(context: PlanContext, name: string, port: BackendNeed['port'], field: string): string {
  const { annotations, namespace } = context;
  const serviceKey = `${namespace}/${name}`;
  const variant = annotations.backendVariant === '' ? '' : `|${annotations.backendVariant}`;
  const key = `${serviceKey}:${port.number ?? port.name}${variant}`;
  if (!context.needs.has(key)) context.needs.set(key, { key, serviceKey, port, protocol: annotations.backendProtocol, annotations, field });
  return key;
}

function fault(context: PlanContext, reason: string, field: string, message: string): void { context.faults.push({ reason, field, message: `${field}: ${message}` }); }
