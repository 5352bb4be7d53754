// Counters of one DNS thread in shared memory: the thread adds, the main thread reads when metrics are collected; no
// message, no lock. Layout: a row of Float64 cells whose indexes are named here. Read by dns/metrics.ts.

import { rrTypes } from './wire/constants.ts';

export const protocols = Object.freeze(['udp', 'tcp', 'tls', 'https'] as const);
export const families = Object.freeze(['1', '2'] as const);
/** Types with a label of their own; the rest counts as "other". */
export const countedTypes = Object.freeze(['A', 'AAAA', 'SRV', 'PTR', 'TXT', 'SOA', 'NS', 'CNAME', 'ANY', 'HTTPS', 'AXFR', 'other'] as const);
/** Label of each response code cell. */
export const countedRcodes = Object.freeze(['NOERROR', 'FORMERR', 'SERVFAIL', 'NXDOMAIN', 'NOTIMP', 'REFUSED', 'other'] as const);
export const sides = Object.freeze(['cluster', 'forward'] as const);
/** Upper bounds in seconds: CoreDNS's own buckets, plus finer ones below 250 µs. */
export const durationBuckets: readonly number[] = Object.freeze([0.000_01, 0.000_05, 0.000_25, 0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192]);
export const sizeBuckets: readonly number[] = Object.freeze([0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16_000, 32_000, 48_000, 64_000]);

const histogramCells = (buckets: readonly number[]): number => buckets.length + 3;

let next = 0;
const take = (count: number): number => { const start = next; next += count; return start; };

/** First cell of each group. */
export const cells = Object.freeze({
  /** [protocol][family][type] */
  requests: take(protocols.length * families.length * countedTypes.length),
  /** [side][rcode] */
  responses: take(sides.length * countedRcodes.length),
  /** [side]: buckets, +Inf, sum, count. */
  durations: take(sides.length * histogramCells(durationBuckets)),
  requestSizes: take(histogramCells(sizeBuckets)),
  responseSizes: take(histogramCells(sizeBuckets)),
  drops: take(1), rateLimited: take(1), truncated: take(1), panics: take(1), hotHits: take(1), sendErrors: take(1), connectionsRefused: take(1), autopath: take(1),
  searchWaste: take(1), cacheHits: take(1), cacheDenialHits: take(1), cacheMisses: take(1), cacheStale: take(1), cachePrefetches: take(1), cacheEvictions: take(1),
  cacheEntries: take(1), cacheDenialEntries: take(1), cacheBytes: take(1), forwardRefused: take(1), forwardInFlight: take(1), services: take(1), hotEntries: take(1), tcpConnections: take(1),
  total: next,
});
export const cellCount: number = next;

const typeIndexes = new Uint8Array(258).fill(countedTypes.length - 1);
for (const [index, name] of countedTypes.entries()) {
  const type = name === 'other' ? undefined : rrTypes[name];
  if (type !== undefined) typeIndexes[type] = index;
}

export class Counters {
  readonly buffer: SharedArrayBuffer;
  readonly cells: Float64Array;

  constructor(buffer: SharedArrayBuffer = new SharedArrayBuffer(cellCount * 8)) {
    this.buffer = buffer;
    this.cells = new Float64Array(buffer);
  }

  add(cell: number, amount = 1): void { this.cells[cell] = (this.cells[cell] ?? 0) + amount; }

  addRequest(protocol: number, family: number, qtype: number, size: number): void {
    const type = qtype < 258 ? (typeIndexes[qtype] ?? 0) : countedTypes.length - 1;
    this.add(cells.requests + (protocol * families.length + family) * countedTypes.length + type);
    this.#observe(cells.requestSizes, sizeBuckets, size);
  }

  addResponse(side: number, rcode: number, size: number): void {
    this.add(cells.responses + side * countedRcodes.length + (rcode < 6 ? rcode : 6));
    this.#observe(cells.responseSizes, sizeBuckets, size);
  }

  /** `weight` > 1 when only one in so many is timed. */
  addDuration(side: number, seconds: number, weight = 1): void {
    this.#observe(cells.durations + side * histogramCells(durationBuckets), durationBuckets, seconds, weight);
  }

  #observe(start: number, buckets: readonly number[], value: number, weight = 1): void {
    let index = 0;
    while (index < buckets.length && value > (buckets[index] ?? 0)) index += 1;
    this.add(start + index, weight);
    this.add(start + buckets.length + 1, value * weight);
    this.add(start + buckets.length + 2, weight);
  }
}

/** Reads one histogram: counts per bucket (not cumulative, last = +Inf), sum, count. */
export function readHistogram(row: Float64Array, start: number, buckets: readonly number[]): { counts: number[]; sum: number; count: number } {
  return { counts: [...row.subarray(start, start + buckets.length + 1)], sum: row[start + buckets.length + 1] ?? 0, count: row[start + buckets.length + 2] ?? 0 };
}

export function durationStart(side: number): number { return cells.durations + side * histogramCells(durationBuckets); }
