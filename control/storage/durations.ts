// A sliding window of durations for quantiles in stats and metrics. Used by the store for the durable part of commits.

const windowSize = 1024;

/** The last 1,024 durations. */
export class DurationWindow {
  readonly #values = new Float64Array(windowSize);
  #count = 0;

  /** All durations ever added. */
  get count(): number { return this.#count; }

  add(durationMs: number): void { this.#values[this.#count++ % windowSize] = durationMs; }

  /** 0 when empty. O(n log n) over the window: for stats, not for hot paths. */
  quantile(share: number): number {
    const size = Math.min(this.#count, windowSize);
    if (size === 0) return 0;
    const sorted = this.#values.slice(0, size).sort();
    return sorted[Math.min(size - 1, Math.floor(share * size))] as number;
  }
}
