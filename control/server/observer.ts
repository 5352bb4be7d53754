// Counts finished requests for the metrics: by verb, resource and status, with their duration. Plain numbers here;
// control/metrics.ts gives them to the registry.

import type { Exchange } from './http/exchange.ts';
import type { RequestInfo } from './request-info.ts';

export interface RequestObserver { observe(exchange: Exchange, info: RequestInfo | undefined, status: number, durationMs: number): void }

/** Upper bounds of the duration buckets, seconds. */
export const durationBuckets: readonly number[] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
/** Different label sets that are kept apart; the rest is counted as resource "other". */
const seriesMax = 2_000;

export interface RequestSeries { readonly verb: string; readonly resource: string; readonly code: number; count: number; sumSeconds: number; readonly buckets: number[] }

/** Counters per (verb, resource, code). */
export class RequestCounters implements RequestObserver {
  readonly #series = new Map<string, RequestSeries>();

  observe(_exchange: Exchange, info: RequestInfo | undefined, status: number, durationMs: number): void {
    const verb = info?.verb ?? 'unknown';
    const resource = info?.isResource === true ? `${info.resource}${info.subresource === '' ? '' : `/${info.subresource}`}` : '';
    const series = this.#find(verb, resource, status);
    const seconds = durationMs / 1000;
    series.count += 1;
    series.sumSeconds += seconds;
    for (const [index, bound] of durationBuckets.entries()) if (seconds <= bound) { series.buckets[index] = (series.buckets[index] ?? 0) + 1; break; }
  }

  #find(verb: string, resource: string, code: number): RequestSeries {
    // Names that do not exist must not fill the registry.
    const shown = code === 404 || code === 401 || code === 403 || this.#series.size >= seriesMax ? 'other' : resource;
    const key = `${verb} ${shown} ${code}`;
    let series = this.#series.get(key);
    if (series === undefined) this.#series.set(key, series = { verb, resource: shown, code, count: 0, sumSeconds: 0, buckets: new Array<number>(durationBuckets.length).fill(0) });
    return series;
  }

  series(): Iterable<RequestSeries> { return this.#series.values(); }
}
