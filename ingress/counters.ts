// Counters that workers write and the main thread reads: one Float64Array per worker in shared memory. A block of totals,
// then one row per (Ingress, Service). Writing is plain addition, no message and no lock; each array has one writer.

import type { Exchange } from '../proxy/http/exchange.ts';
import type { Observer } from '../proxy/http/engine.ts';

/** Upper bounds of the duration histogram, seconds; the last bucket is +Inf. */
export const durationBuckets: readonly number[] = Object.freeze([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]);
export const rowCountMax = 2_048;

/** Fields of a row. */
export const column = Object.freeze({ class1: 0, requestBytes: 5, responseBytes: 6, retries: 7, durationSum: 8, buckets: 9 });
export const rowWidth = 9 + 14;
/** Totals before the rows. */
export const total = Object.freeze({ connections: 0, upstreams: 1, tunnels: 2, accepted: 3, appliedAtMs: 4, handshakeFailures: 5, limited: 8 });
export const limitNames: readonly string[] = Object.freeze(['connections', 'connections_per_source', 'retry_budget', 'rate', 'route_connections', 'external_name', 'overload', 'other']);
const headWidth = 32;

export function makeCounterMemory(): SharedArrayBuffer { return new SharedArrayBuffer((headWidth + rowCountMax * rowWidth) * 8); }
export function rowOffset(row: number): number { return headWidth + row * rowWidth; }

/** Counts what the engine tells; `onDone` may add an access log. */
export class CountingObserver implements Observer {
  readonly values: Float64Array;
  readonly #onDone: ((exchange: Exchange, durationMs: number) => void) | undefined;

  constructor(memory: SharedArrayBuffer, onDone?: (exchange: Exchange, durationMs: number) => void) {
    this.values = new Float64Array(memory);
    this.#onDone = onDone;
  }

  done(exchange: Exchange, durationMs: number): void {
    if (exchange.isSubrequest) return;
    const { values } = this;
    const offset = rowOffset(exchange.row >= 0 ? exchange.row : exchange.route?.row ?? 0);
    const { status } = exchange;
    const index = offset + (status >= 100 && status < 600 ? ((status / 100) | 0) - 1 : 4);
    values[index] = values[index]! + 1;
    values[offset + 5] = values[offset + 5]! + exchange.requestBytes;
    values[offset + 6] = values[offset + 6]! + exchange.responseBytes;
    values[offset + 8] = values[offset + 8]! + durationMs;
    let bucket = 0;
    while (bucket < 13 && durationMs > durationBuckets[bucket]! * 1_000) bucket++;
    values[offset + 9 + bucket] = values[offset + 9 + bucket]! + 1;
    if (this.#onDone !== undefined) this.#onDone(exchange, durationMs);
  }

  retried(exchange: Exchange): void {
    const index = rowOffset(exchange.route?.row ?? 0) + column.retries;
    this.values[index] = this.values[index]! + 1;
  }

  gauge(name: 'connections' | 'upstreams' | 'tunnels', delta: number): void {
    this.values[total[name]] = this.values[total[name]]! + delta;
    if (name === 'connections' && delta > 0) this.values[total.accepted] = this.values[total.accepted]! + 1;
  }

  limited(name: string): void {
    const index = limitNames.indexOf(name);
    const at = total.limited + (index < 0 ? limitNames.length - 1 : index);
    this.values[at] = this.values[at]! + 1;
  }
}
