// New connections and refusals per Service, counted by the kernel on the descriptor of each address: a look-up is a new
// connection. An element that is replaced starts from zero, so totals are kept here and grow by what was added since
// the last look. Called at scrape time; lists the descriptors only (one element per address).

import { elementId } from './elements.ts';
import { kinds, marks, readMark, sets } from './layout.ts';
import type { Mirror } from './mirror.ts';
import type { KernelPort } from './port.ts';

export interface ServiceCount { connections: number; refused: number }

export class ServiceCounters {
  readonly #last = new Map<string, number>();
  readonly #totals = new Map<string, ServiceCount>();

  /** Totals by Service key; what happened between the last look and the replacement of an element is not in them. */
  async read(port: KernelPort, mirror: Mirror): Promise<ReadonlyMap<string, ServiceCount>> {
    const seen = new Set<string>();
    for (const set of [sets.vips, sets.nodeports]) {
      for (const [key, count] of await port.counters(set)) {
        const id = elementId(set, key);
        seen.add(id);
        const last = this.#last.get(id) ?? 0;
        this.#last.set(id, count);
        const added = count >= last ? count - last : count;
        if (added > 0) this.#add(mirror.owner(id) ?? '', (readMark(mirror.data(id) ?? '\0\0\0\0', 0) & marks.kindMask) >>> marks.kindShift === kinds.reject, added);
      }
    }
    for (const id of this.#last.keys()) if (!seen.has(id)) this.#last.delete(id);
    for (const key of this.#totals.keys()) if (!mirror.has(key)) this.#totals.delete(key);
    return this.#totals;
  }

  #add(key: string, isRefused: boolean, count: number): void {
    if (key === '') return;
    const total = this.#totals.get(key) ?? { connections: 0, refused: 0 };
    if (isRefused) total.refused += count; else total.connections += count;
    this.#totals.set(key, total);
  }
}
