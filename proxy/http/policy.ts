// Policies of a route that run before a request is forwarded. Each step either lets the request pass or answers it.

import type { Exchange } from './exchange.ts';

export interface RoutePolicy { readonly placeholder?: undefined }

/** Runs the steps in order. True = forward now; false = answered, or a step will call exchange.forward() later. */
export function runPolicy(_exchange: Exchange, _policy: RoutePolicy): boolean { return true; }
