// Counters of the userspace engine: one row per Service and thread in shared memory, written by the thread that owns
// it without locks and summed by the main thread at scrape time.

export const columns = Object.freeze({ accepted: 0, active: 1, bytesIn: 2, bytesOut: 3, refused: 4, connectFailed: 5, retried: 6, reset: 7 });
export type Column = keyof typeof columns;
export const columnCount = 8;
/** Services with a row of their own; further ones share row 0. */
export const rowsMax = 4_096;

export function createCounters(): SharedArrayBuffer { return new SharedArrayBuffer(rowsMax * columnCount * 8); }

/** Sum of a column over all threads. */
export function readCounter(memories: readonly SharedArrayBuffer[], row: number, column: Column): number {
  let sum = 0;
  for (const memory of memories) sum += new Float64Array(memory)[row * columnCount + columns[column]] as number;
  return sum;
}
