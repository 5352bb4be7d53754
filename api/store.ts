// The indexed cache of one kind that an informer keeps: objects by key plus named indexes, maintained on each write.
// Objects are never changed in place; a reader may hold one as long as it likes.

import type { KubeObject } from './types.ts';

type IndexFunction<T> = (object: T) => readonly string[];
interface Index<T> { readonly keysOf: IndexFunction<T>; readonly buckets: Map<string, Map<string, T>> }

export class ObjectStore<T extends KubeObject = KubeObject> {
  readonly #objects = new Map<string, T>();
  readonly #indexes = new Map<string, Index<T>>();

  get size(): number { return this.#objects.size; }
  get(key: string): T | undefined { return this.#objects.get(key); }
  keys(): IterableIterator<string> { return this.#objects.keys(); }
  values(): IterableIterator<T> { return this.#objects.values(); }
  entries(): IterableIterator<[string, T]> { return this.#objects.entries(); }

  /** Adds an index; objects already present are indexed at once. Adding the same name again does nothing. */
  addIndex(name: string, keysOf: IndexFunction<T>): void {
    if (this.#indexes.has(name)) return;
    const index: Index<T> = { keysOf, buckets: new Map() };
    this.#indexes.set(name, index);
    for (const [key, object] of this.#objects) insert(index, key, object);
  }

  /** Objects under one index value, in insertion order. O(result). */
  byIndex(name: string, value: string): T[] {
    const index = this.#indexes.get(name);
    if (index === undefined) throw new Error(`no index named ${name}`);
    const bucket = index.buckets.get(value);
    return bucket === undefined ? [] : [...bucket.values()];
  }

  /** Sets the object and returns the one it replaced. */
  set(key: string, object: T): T | undefined {
    const old = this.#objects.get(key);
    this.#objects.set(key, object);
    for (const index of this.#indexes.values()) {
      if (old !== undefined) remove(index, key, old);
      insert(index, key, object);
    }
    return old;
  }

  delete(key: string): T | undefined {
    const old = this.#objects.get(key);
    if (old === undefined) return undefined;
    this.#objects.delete(key);
    for (const index of this.#indexes.values()) remove(index, key, old);
    return old;
  }
}

function insert<T>(index: Index<T>, key: string, object: T): void {
  for (const value of index.keysOf(object)) {
    const bucket = index.buckets.get(value);
    if (bucket === undefined) index.buckets.set(value, new Map([[key, object]]));
    else bucket.set(key, object);
  }
}

function remove<T>(index: Index<T>, key: string, object: T): void {
  for (const value of index.keysOf(object)) {
    const bucket = index.buckets.get(value);
    bucket?.delete(key);
    if (bucket?.size === 0) index.buckets.delete(value);
  }
}
