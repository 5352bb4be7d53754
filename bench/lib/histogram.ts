// HDR histograms (node:perf_hooks, three significant figures) of nanoseconds, and their percentiles in milliseconds.

import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';
import type { Percentiles } from './plan.ts';

/** From 1 ns to 60 s; values above are counted as 60 s. */
export function makeHistogram(): RecordableHistogram { return createHistogram({ figures: 3, lowest: 1, highest: 60_000_000_000 }); }

/** Records a duration in milliseconds; anything below a nanosecond counts as one. */
export function record(histogram: RecordableHistogram, milliseconds: number): void {
  const nanoseconds = Math.round(milliseconds * 1e6);
  histogram.record(nanoseconds < 1 ? 1 : nanoseconds > 60_000_000_000 ? 60_000_000_000 : nanoseconds);
}

export function percentilesOf(histogram: RecordableHistogram): Percentiles {
  if (histogram.count === 0) return { p50: 0, p90: 0, p99: 0, p999: 0, max: 0, mean: 0 };
  const at = (percentile: number): number => histogram.percentile(percentile) / 1e6;
  return { p50: at(50), p90: at(90), p99: at(99), p999: at(99.9), max: histogram.max / 1e6, mean: histogram.mean / 1e6 };
}

/** Points of the "latency by percentile" curve: [percentile, ms]. */
export function curveOf(histogram: RecordableHistogram): [number, number][] {
  if (histogram.count === 0) return [];
  return [1, 5, 10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90, 92.5, 95, 97, 98, 99, 99.5, 99.8, 99.9, 99.95, 99.99, 99.999, 100].map((percentile) => [percentile, histogram.percentile(percentile) / 1e6]);
}
