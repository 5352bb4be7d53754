// What a Router answers: the route of a request, compiled once and never changed; replaced whole when an object changes.
// Produced by ingress/table.ts; read by exchange.ts on the hot path.

import type { Backend } from './endpoints.ts';
import type { Exchange } from './exchange.ts';
import type { RoutePolicy } from './policy/compile.ts';

/** Timeouts of one route; undefined = the engine's. Milliseconds, 0 = off. */
export interface RouteTimeouts { readonly connectMs?: number | undefined; readonly responseMs?: number | undefined; readonly streamIdleMs?: number | undefined }

export interface RetryRules { readonly connect: boolean; readonly reset: boolean; readonly timeout: boolean; readonly invalid: boolean; readonly nonIdempotent: boolean; readonly statuses: readonly number[] }

export interface Route {
  /** 'namespace/name' of the Ingress (or Service) it comes from. */
  readonly object: string;
  /** 'host/path' of the rule, or 'default backend'. */
  readonly rule: string;
  /** Row of counters; 0 = the row of everything that has none of its own. */
  readonly row: number;
  readonly backend: Backend | undefined;
  /** Why there is no backend or endpoint: one of the words of netloom-reason. */
  readonly reason: string | undefined;
  readonly policy: RoutePolicy | undefined;
  readonly timeouts: RouteTimeouts | undefined;
  readonly retry: { readonly triesMax: number; readonly retryOn: RetryRules } | undefined;
}

/** Finds the route of a request. Its cost must not depend on the number of routes. */
export interface Router {
  match(host: string, path: string, exchange: Exchange): Route | undefined;
  /** Says why nothing matched, for people: 'no-host-rule', the closest host and its object. Off the hot path. */
  explainMiss(host: string, path: string): { reason: string; text: string };
}
