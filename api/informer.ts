// List + watch + relist of one kind into an ObjectStore, the way client-go's reflector does it: list with
// resourceVersion 0 in pages, watch with bookmarks from there, on 410 list again and report only the differences, on
// any other failure keep the last known objects and come back with growing, jittered delay.
// Listeners run synchronously in watch order; they must only mark things dirty.

import type { ApiClient, Query } from './client.ts';
import type { Clock, TimerHandle } from './clock.ts';
import { isExpired, fromStatus, NetloomError } from './errors.ts';
import type { Log } from './log.ts';
import { objectKey } from './meta.ts';
import { NamedObjects } from './named-objects.ts';
import { resources, resourcePath, type ResourceRef } from './resources.ts';
import { ObjectStore } from './store.ts';
import type { ConfigMap, EndpointSlice, Ingress, IngressClass, KubeObject, Namespace, Node, Pod, Secret, Service, Status, WatchEvent } from './types.ts';

export interface InformerEvent<T> { readonly type: 'add' | 'update' | 'delete'; readonly key: string; readonly object: T; readonly old: T | undefined }
export type InformerListener<T> = (event: InformerEvent<T>) => void;

export interface InformerOptions<T> {
  namespace?: string | undefined; labelSelector?: string | undefined; fieldSelector?: string | undefined;
  clock: Clock; log: Log;
  /** Strips an object to what is needed before it is kept; runs once per object version. */
  transform?: (object: T) => T;
  random?: () => number;
}

const listPageSize = 500;
const retryDelayMsMin = 50;
const retryDelayMsMax = 5_000;

export class Informer<T extends KubeObject = KubeObject> {
  readonly store: ObjectStore<T> = new ObjectStore<T>();
  readonly resource: ResourceRef;
  readonly #client: ApiClient;
  readonly #options: InformerOptions<T>;
  readonly #log: Log;
  readonly #listeners = new Set<InformerListener<T>>();
  #resourceVersion = '0';
  #hasSynced = false;
  #synced = Promise.withResolvers<void>();
  #abort: AbortController | undefined;
  #lastContactMs = 0;
  #failureCount = 0;

  constructor(client: ApiClient, resource: ResourceRef, options: InformerOptions<T>) {
    this.#client = client;
    this.resource = resource;
    this.#options = options;
    this.#log = options.log.with({ resource: resource.resource });
  }

  /** True once the first whole list is in the store; stays true while the API server is away. */
  get hasSynced(): boolean { return this.#hasSynced; }
  get resourceVersion(): string { return this.#resourceVersion; }
  /** Monotonic time of the last answer or event from the server; its age says how old the state may be. */
  get lastContactMs(): number { return this.#lastContactMs; }
  /** Failures in a row; 0 while connected. */
  get failureCount(): number { return this.#failureCount; }
  whenSynced(): Promise<void> { return this.#synced.promise; }

  onChange(listener: InformerListener<T>): () => void {
    this.#listeners.add(listener);
    return () => { this.#listeners.delete(listener); };
  }

  /** Starts the loop; calling it again does nothing. */
  start(): void {
    if (this.#abort !== undefined) return;
    this.#abort = new AbortController();
    void this.#run(this.#abort.signal);
  }

  stop(): void {
    this.#abort?.abort();
    this.#abort = undefined;
  }

  async #run(signal: AbortSignal): Promise<void> {
    let isListNeeded = true;
    while (!signal.aborted) {
      try {
        if (isListNeeded) {
          await this.#listAll(signal);
          isListNeeded = false;
        }
        await this.#watchOnce(signal);
        this.#failureCount = 0;
      } catch (error) {
        if (signal.aborted) return;
        if (isExpired(error)) {
          isListNeeded = true;
          if (this.#failureCount === 0) { this.#failureCount = 1; continue; }
        }
        this.#failureCount += 1;
        const level = this.#failureCount === 3 ? 'warn' : 'debug';
        this.#log[level]('watch failed, serving the last known objects', { err: error, failures: this.#failureCount });
        await this.#delay(signal);
      }
    }
  }

  #delay(signal: AbortSignal): Promise<void> {
    const random = this.#options.random ?? Math.random;
    const base = Math.min(retryDelayMsMax, retryDelayMsMin * 2 ** Math.min(this.#failureCount, 10));
    return new Promise((resolve) => {
      let timer: TimerHandle | undefined;
      const end = (): void => { timer?.cancel(); signal.removeEventListener('abort', end); resolve(); };
      timer = this.#options.clock.after(base * (0.5 + random() / 2), end);
      signal.addEventListener('abort', end);
    });
  }

  #query(): Query {
    return { labelSelector: this.#options.labelSelector, fieldSelector: this.#options.fieldSelector };
  }

  async #listAll(signal: AbortSignal): Promise<void> {
    const seen = new Set<string>();
    let token: string | undefined;
    let resourceVersion = '0';
    do {
      const page = await this.#client.list<T>(this.resource, this.#options.namespace, {
        ...this.#query(), limit: listPageSize, ...(token === undefined ? { resourceVersion: '0' } : { continue: token }),
      });
      if (signal.aborted) return;
      for (const object of page.items) seen.add(this.#put(object));
      resourceVersion = page.metadata.resourceVersion ?? resourceVersion;
      token = page.metadata.continue === '' ? undefined : page.metadata.continue;
      this.#lastContactMs = this.#options.clock.monotonicMs();
    } while (token !== undefined);
    for (const key of [...this.store.keys()]) if (!seen.has(key)) this.#drop(key);
    this.#resourceVersion = resourceVersion;
    if (!this.#hasSynced) {
      this.#hasSynced = true;
      this.#synced.resolve();
    }
  }

  async #watchOnce(signal: AbortSignal): Promise<void> {
    const random = this.#options.random ?? Math.random;
    const query = { ...this.#query(), resourceVersion: this.#resourceVersion, allowWatchBookmarks: true, timeoutSeconds: Math.round(300 * (1 + random())) };
    for await (const events of this.#client.watch<T>(this.resource, this.#options.namespace, query, signal)) {
      if (signal.aborted) return;
      this.#lastContactMs = this.#options.clock.monotonicMs();
      this.#failureCount = 0;
      for (const event of events) this.#apply(event);
    }
    this.#lastContactMs = this.#options.clock.monotonicMs();
  }

  #apply(event: WatchEvent<T>): void {
    if (event.type === 'ERROR') throw fromStatus(event.object as unknown as Status, 500);
    const version = event.object.metadata?.resourceVersion;
    if (version === undefined) throw new NetloomError('InternalError', 'watch event without resourceVersion', { source: 'api' });
    if (event.type === 'DELETED') this.#drop(objectKey(event.object), event.object);
    else if (event.type !== 'BOOKMARK') this.#put(event.object);
    this.#resourceVersion = version;
  }

  #put(raw: T): string {
    const key = objectKey(raw);
    const old = this.store.get(key);
    if (old !== undefined && old.metadata.uid === raw.metadata.uid && old.metadata.resourceVersion === raw.metadata.resourceVersion) return key;
    const object = this.#options.transform === undefined ? raw : this.#options.transform(raw);
    this.store.set(key, object);
    this.#emit({ type: old === undefined ? 'add' : 'update', key, object, old });
    return key;
  }

  #drop(key: string, last?: T): void {
    const old = this.store.delete(key);
    if (old !== undefined) this.#emit({ type: 'delete', key, object: last ?? old, old });
  }

  #emit(event: InformerEvent<T>): void {
    for (const listener of this.#listeners) {
      try { listener(event); } catch (error) { this.#log.error('informer listener failed', { key: event.key, err: error }); }
    }
  }
}

/** One informer per kind (and selector), shared by all components of a process; each is made and started on first use. */
export class SharedInformers {
  readonly #client: ApiClient;
  readonly #options: { clock: Clock; log: Log };
  readonly #informers = new Map<string, Informer>();
  #secrets: NamedObjects<Secret> | undefined;
  #isStopped = false;

  constructor(client: ApiClient, options: { clock: Clock; log: Log }) {
    this.#client = client;
    this.#options = options;
  }

  for<T extends KubeObject>(resource: ResourceRef, options: Partial<Omit<InformerOptions<T>, 'clock' | 'log'>> = {}): Informer<T> {
    const key = `${resourcePath(resource, options.namespace)}?${options.labelSelector ?? ''}&${options.fieldSelector ?? ''}`;
    let informer = this.#informers.get(key) as Informer<T> | undefined;
    if (informer === undefined) {
      informer = new Informer<T>(this.#client, resource, { transform: dropManagedFields, ...options, ...this.#options });
      this.#informers.set(key, informer as unknown as Informer);
      if (!this.#isStopped) informer.start();
    }
    return informer;
  }

  get services(): Informer<Service> { return this.for<Service>(resources.services); }
  get endpointSlices(): Informer<EndpointSlice> { return this.for<EndpointSlice>(resources.endpointslices); }
  get namespaces(): Informer<Namespace> { return this.for<Namespace>(resources.namespaces); }
  get nodes(): Informer<Node> { return this.for<Node>(resources.nodes); }
  get pods(): Informer<Pod> { return this.for<Pod>(resources.pods); }
  get ingresses(): Informer<Ingress> { return this.for<Ingress>(resources.ingresses); }
  get ingressClasses(): Informer<IngressClass> { return this.for<IngressClass>(resources.ingressclasses); }
  /** One watch for each Secret that is asked for: nobody here may list them all. */
  get secrets(): NamedObjects<Secret> { return (this.#secrets ??= new NamedObjects<Secret>(this, resources.secrets)); }
  get configMaps(): Informer<ConfigMap> { return this.for<ConfigMap>(resources.configmaps); }

  all(): IterableIterator<Informer> { return this.#informers.values(); }
  async whenSynced(): Promise<void> { await Promise.all([...this.#informers.values()].map((informer) => informer.whenSynced())); }
  stop(): void {
    this.#isStopped = true;
    for (const informer of this.#informers.values()) informer.stop();
  }
}

/** managedFields are bookkeeping of the API server and often half of an object: caches do not keep them. */
export function dropManagedFields<T extends KubeObject>(object: T): T {
  if (object.metadata.managedFields === undefined) return object;
  const { managedFields: _dropped, ...metadata } = object.metadata;
  return { ...object, metadata: metadata as T['metadata'] };
}
