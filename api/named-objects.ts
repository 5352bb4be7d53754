// A source of objects that watches exactly those that somebody asked for by name: Secrets of Ingresses, which a node may
// read one by one but never list (node authorizer), and which must not lie in memory unless they are used.
// The first `store.get(key)` starts a watch of that one object and returns undefined; listeners hear when it is known.

import type { Informer, InformerEvent, InformerListener, SharedInformers } from './informer.ts';
import { splitKey } from './meta.ts';
import type { ResourceRef } from './resources.ts';
import type { KubeObject } from './types.ts';

/** The part of an informer that readers of single objects need. */
export interface ObjectSource<T> {
  readonly store: { get(key: string): T | undefined };
  onChange(listener: InformerListener<T>): () => void;
  whenSynced(): Promise<void>;
}

/** More names than this are refused: each is a watch of its own. */
const namesMax = 4_096;

export class NamedObjects<T extends KubeObject> implements ObjectSource<T> {
  readonly #informers: SharedInformers;
  readonly #resource: ResourceRef;
  readonly #known = new Map<string, Informer<T>>();
  readonly #listeners = new Set<InformerListener<T>>();
  readonly store: { get(key: string): T | undefined };

  constructor(informers: SharedInformers, resource: ResourceRef) {
    this.#informers = informers;
    this.#resource = resource;
    this.store = { get: (key) => this.#get(key) };
  }

  get watchCount(): number { return this.#known.size; }

  onChange(listener: InformerListener<T>): () => void {
    this.#listeners.add(listener);
    return () => { this.#listeners.delete(listener); };
  }

  /** All names asked for so far are known, present or not. */
  async whenSynced(): Promise<void> { await Promise.all([...this.#known.values()].map((informer) => informer.whenSynced())); }

  #get(key: string): T | undefined {
    const present = this.#known.get(key);
    if (present !== undefined) return present.store.get(key);
    const { namespace, name } = splitKey(key);
    if (name === '' || this.#known.size >= namesMax) return undefined;
    const informer = this.#informers.for<T>(this.#resource, { ...(namespace === '' ? {} : { namespace }), fieldSelector: `metadata.name=${name}` });
    this.#known.set(key, informer);
    informer.onChange((event) => this.#emit(event));
    return informer.store.get(key);
  }

  #emit(event: InformerEvent<T>): void { for (const listener of this.#listeners) listener(event); }
}
