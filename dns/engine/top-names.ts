// Which names are asked for most, in bounded memory: exact counts for the names seen; when the table is full all counts
// are halved and the small ones leave (lossy counting). Fed with samples by dns/engine/engine.ts, shown by status and explain.

import { nameText } from '../wire/names.ts';

const namesMax = 2_048;

export interface NameCount { readonly name: string; readonly count: number }

export class TopNames {
  readonly #counts = new Map<string, number>();

  add(key: string, weight: number): void {
    const present = this.#counts.get(key);
    if (present === undefined && this.#counts.size >= namesMax) this.#shrink();
    this.#counts.set(key, (present ?? 0) + weight);
  }

  /** Most frequent first. O(names). */
  top(count: number): NameCount[] {
    return [...this.#counts].sort((a, b) => b[1] - a[1]).slice(0, count).map(([key, value]) => ({ name: nameText(key), count: value }));
  }

  #shrink(): void {
    for (const [key, count] of this.#counts) {
      const half = Math.floor(count / 2);
      if (half < 16) this.#counts.delete(key);
      else this.#counts.set(key, half);
    }
    if (this.#counts.size >= namesMax) this.#counts.clear();
  }
}
