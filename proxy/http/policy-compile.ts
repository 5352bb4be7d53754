// Turns the plain data of a policy into what policy.ts runs: parsed addresses, key sets, expressions.

import type { Backend } from './endpoints.ts';
import type { PolicySpec } from './policy-spec.ts';
import type { RoutePolicy } from './policy.ts';

export interface CompileContext { backendOf(key: string): Backend | undefined; secret: string; workerCount: number }

export function compilePolicy(_spec: PolicySpec, _context: CompileContext): RoutePolicy { return {}; }
