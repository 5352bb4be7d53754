// The in-memory copy of every element that the kernel holds, and the diff against it. A sync stages the wanted elements
// of some Services, gets the operations, and commits the stage once the kernel has taken them; a stage that was not
// committed leaves no trace. Called by engine. O(changed elements) in time; 2 map entries per element in memory.
//
// An element of a map belongs to one Service (claims sees to that); elements of plain sets mean the same whoever
// writes them, so they are only counted.

import { setLayouts } from './layout.ts';
import type { ElementMap } from './elements.ts';
import type { ElementOperation, OperationGroup } from './port.ts';

/** `owner` '' = found in the kernel at start and not claimed by any Service yet, or counted. */
interface Entry { readonly data: string; readonly owner: string; readonly count: number }

/** What one Service wants; undefined = nothing any more. */
export interface Wanted { readonly key: string; readonly elements: ElementMap | undefined }

export interface Stage {
  readonly groups: readonly OperationGroup[];
  /** Services parallel to `groups`; '' = leftovers that no Service wants. */
  readonly keys: readonly string[];
  readonly operationCount: number;
}

interface Group { readonly deletes: ElementOperation[]; readonly adds: ElementOperation[] }
interface Touched { entry: Entry | undefined; group: number }
interface Work { readonly touched: Map<string, Touched>; readonly wanted: readonly Wanted[] }

export class Mirror {
  readonly #entries = new Map<string, Entry>();
  readonly #services = new Map<string, ElementMap>();
  #work: Work | undefined;

  get size(): number { return this.#entries.size; }
  data(id: string): string | undefined { return this.#entries.get(id)?.data; }
  /** The Service that an element of a map belongs to; '' while nobody claims it. */
  owner(id: string): string | undefined { return this.#entries.get(id)?.owner; }
  services(): IterableIterator<string> { return this.#services.keys(); }
  has(key: string): boolean { return this.#services.has(key); }
  elements(key: string): ElementMap | undefined { return this.#services.get(key); }
  *entries(): Generator<[id: string, data: string]> { for (const [id, entry] of this.#entries) yield [id, entry.data]; }

  /** Forgets everything and starts from a dump. */
  adopt(elements: Iterable<readonly [id: string, data: string]>): void {
    this.#entries.clear();
    this.#services.clear();
    for (const [id, data] of elements) this.#entries.set(id, { data, owner: '', count: 0 });
  }

  /** Computes the operations that bring these Services to what is wanted. `isFull` also drops what nobody claims. */
  stage(wanted: readonly Wanted[], isFull: boolean): Stage {
    const work: Work = { touched: new Map(), wanted };
    this.#work = work;
    for (const [index, item] of wanted.entries()) this.#release(work, item, index);
    for (const [index, item] of wanted.entries()) if (item.elements !== undefined) this.#claim(work, item, item.elements, index);
    if (isFull) for (const [id, entry] of this.#entries) if (entry.owner === '' && entry.count === 0 && !work.touched.has(id)) work.touched.set(id, { entry: undefined, group: wanted.length });
    return this.#operations(work);
  }

  /** The kernel has taken the stage. */
  commit(): void {
    const work = this.#work;
    if (work === undefined) return;
    for (const [id, { entry }] of work.touched) if (entry === undefined) this.#entries.delete(id); else this.#entries.set(id, entry);
    for (const item of work.wanted) if (item.elements === undefined) this.#services.delete(item.key); else this.#services.set(item.key, item.elements);
    this.#work = undefined;
  }

  #current(work: Work, id: string): Entry | undefined {
    const touched = work.touched.get(id);
    return touched === undefined ? this.#entries.get(id) : touched.entry;
  }

  /** Gives up what the Service had and does not want any more. */
  #release(work: Work, item: Wanted, group: number): void {
    for (const id of this.#services.get(item.key)?.keys() ?? []) {
      if (item.elements?.has(id) === true) continue;
      const entry = this.#current(work, id);
      if (entry === undefined || (!isCounted(id) && entry.owner !== item.key)) continue;
      work.touched.set(id, { entry: isCounted(id) && entry.count > 1 ? { ...entry, count: entry.count - 1 } : undefined, group });
    }
  }

  #claim(work: Work, item: Wanted, elements: ElementMap, group: number): void {
    const had = this.#services.get(item.key);
    for (const [id, data] of elements) {
      const entry = this.#current(work, id);
      if (isCounted(id)) {
        if (entry === undefined || had?.has(id) !== true) work.touched.set(id, { entry: { data: '', owner: '', count: (entry?.count ?? 0) + 1 }, group });
      } else if (entry === undefined || entry.owner !== item.key || entry.data !== data) work.touched.set(id, { entry: { data, owner: item.key, count: 1 }, group });
    }
  }

  #operations(work: Work): Stage {
    const groups: Group[] = work.wanted.map(() => ({ deletes: [], adds: [] }));
    const keys = work.wanted.map((item) => item.key);
    let operationCount = 0;
    for (const [id, { entry, group }] of work.touched) {
      const before = this.#entries.get(id);
      if (before?.data === entry?.data) continue;
      if (group === groups.length) { groups.push({ deletes: [], adds: [] }); keys.push(''); }
      if (before !== undefined) { groups[group]?.deletes.push(operation(true, id, before.data)); operationCount += 1; }
      if (entry !== undefined) { groups[group]?.adds.push(operation(false, id, entry.data)); operationCount += 1; }
    }
    return { groups, keys, operationCount };
  }
}

const counted: readonly boolean[] = setLayouts.map((layout) => layout.data === undefined && !layout.isInterval);

function isCounted(id: string): boolean { return counted[id.charCodeAt(0)] ?? false; }

function operation(isDelete: boolean, id: string, data: string): ElementOperation {
  return { isDelete, set: id.charCodeAt(0), key: id.slice(1), data };
}
