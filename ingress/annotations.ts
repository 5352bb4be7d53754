// Reads the annotations of an Ingress into typed values (I-1: a fixed list, never text for a configuration file).

import type { PlanFault } from './plan.ts';
import type { ClientAuthSpec, RouteSpec } from './protocol.ts';

export interface ParsedAnnotations {
  readonly faults: readonly PlanFault[];
  readonly usesRegex: boolean;
  readonly isCanary: boolean;
  readonly aliases: readonly string[];
  readonly backendProtocol: string | undefined;
  readonly backendVariant: string;
  readonly proxySslSecret: string | undefined;
  /** Secrets that the values come from: a change of one plans the object again. */
  readonly secretKeys: readonly string[];
  readonly clientAuth: ClientAuthSpec | undefined;
  readonly route: Pick<RouteSpec, 'policy' | 'timeouts' | 'retry'>;
}

export function parseAnnotations(_annotations: Readonly<Record<string, string>>, _namespace: string): ParsedAnnotations {
  return { faults: [], usesRegex: false, isCanary: false, aliases: [], backendProtocol: undefined, backendVariant: '', proxySslSecret: undefined, secretKeys: [], clientAuth: undefined, route: {} };
}
