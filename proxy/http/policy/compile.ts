// Turns the plain data of a policy into what run.ts runs: parsed addresses, expressions, backends. Once per route
// and update, never per request. Called by ingress/table.ts.

import { parseCIDR, type Cidr } from '../../../api/address.ts';
import { PasswordFile } from './htpasswd.ts';
import { CookieAffinity } from './cookie-affinity.ts';
import type { Backend } from '../endpoints.ts';
import { RouteLimits, type SharedLimits } from './limits.ts';
import type { CanarySpec, CorsSpec, PolicySpec } from './spec.ts';

export interface CompileContext { backendOf(key: string): Backend | undefined; secret: string; workerCount: number; sharedLimits: SharedLimits; connectionCounts: Map<string, number>; object: string; linear(source: string): RegExp }

export interface Cors { readonly spec: CorsSpec; readonly isAny: boolean; readonly exact: ReadonlySet<string>; readonly suffixes: readonly { scheme: string; suffix: string }[] }
export interface Canary { readonly spec: CanarySpec; readonly backend: Backend; readonly pattern: RegExp | undefined }

/** A policy ready to run. Every field is absent when the route does not use it. */
export interface RoutePolicy {
  readonly spec: PolicySpec;
  readonly cors: Cors | undefined;
  readonly limits: RouteLimits | undefined;
  readonly allow: readonly Cidr[] | undefined;
  readonly deny: readonly Cidr[] | undefined;
  readonly passwords: PasswordFile | undefined;
  readonly authBackend: Backend | undefined;
  readonly rewritePattern: RegExp | undefined;
  readonly affinity: CookieAffinity | undefined;
  readonly canaries: readonly Canary[] | undefined;
  readonly mirrorBackend: Backend | undefined;
  readonly errorBackend: Backend | undefined;
  readonly defaultBackend: Backend | undefined;
}

export function compilePolicy(spec: PolicySpec, context: CompileContext): RoutePolicy {
  const backendOf = (key: string | undefined): Backend | undefined => (key === undefined ? undefined : context.backendOf(key));
  const cidrs = (texts: readonly string[] | undefined): readonly Cidr[] | undefined => texts?.flatMap((text) => parseCIDR(text) ?? []);
  return Object.freeze({
    spec,
    cors: spec.cors === undefined ? undefined : compileCors(spec.cors),
    limits: spec.limits === undefined ? undefined : new RouteLimits(spec.limits, context.object, context.sharedLimits, context.connectionCounts, context.workerCount),
    allow: cidrs(spec.allow), deny: cidrs(spec.deny),
    passwords: spec.basicAuth === undefined ? undefined : new PasswordFile(spec.basicAuth.users),
    authBackend: backendOf(spec.externalAuth?.backend),
    rewritePattern: spec.rewrite?.pattern === undefined ? undefined : context.linear(spec.rewrite.pattern),
    affinity: spec.affinity === undefined ? undefined : new CookieAffinity(spec.affinity, context.secret),
    canaries: spec.canaries?.flatMap((canary) => {
      const backend = context.backendOf(canary.backend);
      return backend === undefined ? [] : [{ spec: canary, backend, pattern: canary.headerPattern === '' ? undefined : context.linear(canary.headerPattern) }];
    }),
    mirrorBackend: backendOf(spec.mirror?.backend), errorBackend: backendOf(spec.errorPages?.backend), defaultBackend: backendOf(spec.defaultBackend),
  });
}

function compileCors(spec: CorsSpec): Cors {
  const exact = new Set<string>();
  const suffixes: { scheme: string; suffix: string }[] = [];
  for (const origin of spec.origins) {
    const match = /^(https?:\/\/)\*(\..+)$/i.exec(origin);
    if (match === null) exact.add(origin.toLowerCase()); else suffixes.push({ scheme: match[1]!.toLowerCase(), suffix: match[2]!.toLowerCase() });
  }
  return { spec, isAny: spec.origins.includes('*'), exact, suffixes };
}
