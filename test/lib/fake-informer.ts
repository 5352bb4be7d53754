// An informer without a server for tests of everything that reads from one: objects are put in by hand, listeners run
// as they do in the real one.

import type { Informer, InformerListener } from '../../api/informer.ts';
import { objectKey } from '../../api/meta.ts';
import { ObjectStore } from '../../api/store.ts';
import { ServiceView, type ServiceViewOptions } from '../../api/services.ts';
import type { EndpointSlice, KubeObject, Node, Pod, Service } from '../../api/types.ts';

export class FakeInformer<T extends KubeObject> {
  readonly store: ObjectStore<T> = new ObjectStore<T>();
  readonly #listeners = new Set<InformerListener<T>>();
  hasSynced = true;
  whenSynced(): Promise<void> { return Promise.resolve(); }
  onChange(listener: InformerListener<T>): () => void {
    this.#listeners.add(listener);
    return () => { this.#listeners.delete(listener); };
  }

  apply(...objects: T[]): void {
    for (const object of objects) {
      const key = objectKey(object);
      const old = this.store.set(key, object);
      for (const listener of this.#listeners) listener({ type: old === undefined ? 'add' : 'update', key, object, old });
    }
  }

  remove(key: string): void {
    const old = this.store.delete(key);
    if (old !== undefined) for (const listener of this.#listeners) listener({ type: 'delete', key, object: old, old });
  }

  /** The same object under the type that production code asks for. */
  get informer(): Informer<T> { return this as unknown as Informer<T>; }
}

/** Fake informers of the kinds that a Service proxy watches, and the real view over them. */
export class FakeCluster {
  readonly services: FakeInformer<Service> = new FakeInformer<Service>();
  readonly slices: FakeInformer<EndpointSlice> = new FakeInformer<EndpointSlice>();
  readonly nodes: FakeInformer<Node> = new FakeInformer<Node>();
  readonly pods: FakeInformer<Pod> = new FakeInformer<Pod>();
  readonly view: ServiceView;

  constructor(options: ServiceViewOptions = {}) {
    this.view = new ServiceView({ services: this.services.informer, endpointSlices: this.slices.informer }, options);
  }

  apply(...objects: (Service | EndpointSlice | Node | Pod)[]): void {
    for (const object of objects) {
      if (object.kind === 'Service') this.services.apply(object as Service);
      else if (object.kind === 'EndpointSlice') this.slices.apply(object as EndpointSlice);
      else if (object.kind === 'Pod') this.pods.apply(object as Pod);
      else this.nodes.apply(object as Node);
    }
  }
}
