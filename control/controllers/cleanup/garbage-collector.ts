// Garbage collection by ownerReferences. An object whose owners are all gone is deleted; an owner deleted in the
// foreground waits for the dependents that block it; one deleted with orphaning lets its dependents go first.
// Only objects with owners are kept in the graph here; whether an owner lives is looked up in its kind's cache and,
// before anything is deleted for its absence, asked of the API server.
// Source: kubernetes pkg/controller/garbagecollector.

import { isConflict, isNotFound } from '../../../api/errors.ts';
import type { InformerEvent } from '../../../api/informer.ts';
import { objectKey, splitKey } from '../../../api/meta.ts';
import { apiVersionOf } from '../../../api/resources.ts';
import type { KubeObject, OwnerReference } from '../../../api/types.ts';
import type { Controller, ControllerContext } from '../context.ts';
import { WorkQueue } from '../work-queue.ts';
import { WatchedKinds, type WatchedKind } from './watched-kinds.ts';

const foreground = 'foregroundDeletion';
const orphan = 'orphan';

interface Entry { readonly kind: WatchedKind; readonly key: string; readonly uid: string; owners: readonly OwnerReference[] }
interface Sorted { solid: OwnerReference[]; dangling: OwnerReference[]; waiting: OwnerReference[] }

export class GarbageCollector implements Controller {
  readonly name = 'garbage-collector';
  readonly queues: readonly WorkQueue[];
  readonly #context: ControllerContext;
  readonly #kinds: WatchedKinds;
  readonly #queue: WorkQueue;
  /** Objects with owners, by uid. */
  readonly #entries = new Map<string, Entry>();
  /** Owner uid → uids of its dependents. */
  readonly #dependents = new Map<string, Set<string>>();
  /** Owners that are being deleted and wait for their dependents, by uid. */
  readonly #deleting = new Map<string, { kind: WatchedKind; key: string }>();
  #isStarted = false;
  #isStopped = false;

  constructor(context: ControllerContext) {
    this.#context = context;
    const { clock, log, config } = context;
    this.#queue = new WorkQueue({ name: this.name, clock, log, concurrency: config.concurrency * 2, sync: (uid) => this.#sync(uid) });
    this.queues = [this.#queue];
    this.#kinds = new WatchedKinds(context, (kind, event) => this.#onEvent(kind, event));
    for (const kind of this.#kinds.values()) for (const object of kind.informer.store.values()) this.#observe(kind, object);
  }

  start(): void {
    void this.#kinds.whenSynced().then(() => {
      if (this.#isStopped) return;
      this.#isStarted = true;
      for (const entry of this.#entries.values()) if (entry.owners.some((owner) => !this.#isCachedAlive(entry, owner))) this.#queue.add(entry.uid);
      for (const uid of this.#deleting.keys()) this.#queue.add(uid);
      this.#queue.start();
    });
  }

  stop(): void {
    this.#isStopped = true;
    this.#kinds.stop();
    this.#queue.stop();
  }

  #onEvent(kind: WatchedKind, { type, key, object, old }: InformerEvent<KubeObject>): void {
    if (old?.metadata.uid !== undefined && old.metadata.uid !== object.metadata.uid) this.#forget(old.metadata.uid);
    if (type !== 'delete') { this.#observe(kind, object, key); return; }
    this.#forget(object.metadata.uid ?? '');
  }

  #observe(kind: WatchedKind, object: KubeObject, key = objectKey(object)): void {
    const { uid = '', ownerReferences, deletionTimestamp, finalizers = [] } = object.metadata;
    const known = this.#entries.get(uid);
    if (ownerReferences !== undefined || known !== undefined) this.#setOwners(uid, kind, key, ownerReferences ?? []);
    if (deletionTimestamp !== undefined && (finalizers.includes(foreground) || finalizers.includes(orphan))) {
      this.#deleting.set(uid, { kind, key });
      if (this.#isStarted) {
        this.#queue.add(uid);
        for (const dependent of this.#dependents.get(uid) ?? []) this.#queue.add(dependent);
      }
    }
    const entry = this.#entries.get(uid);
    if (this.#isStarted && entry !== undefined && entry.owners.some((owner) => !this.#isCachedAlive(entry, owner) || this.#deleting.has(owner.uid))) this.#queue.add(uid);
  }

  #setOwners(uid: string, kind: WatchedKind, key: string, owners: readonly OwnerReference[]): void {
    const old = this.#entries.get(uid);
    for (const owner of old?.owners ?? []) if (!owners.some((each) => each.uid === owner.uid)) this.#unlink(owner.uid, uid);
    if (owners.length === 0) { this.#entries.delete(uid); return; }
    this.#entries.set(uid, { kind, key, uid, owners });
    for (const owner of owners) {
      const set = this.#dependents.get(owner.uid);
      if (set === undefined) this.#dependents.set(owner.uid, new Set([uid])); else set.add(uid);
    }
  }

  #unlink(ownerUid: string, uid: string): void {
    const set = this.#dependents.get(ownerUid);
    set?.delete(uid);
    if (set?.size === 0) this.#dependents.delete(ownerUid);
    if (this.#deleting.has(ownerUid)) this.#queue.add(ownerUid);
  }

  /** The object is gone: its dependents may have to follow, and an owner may have waited for it. */
  #forget(uid: string): void {
    const entry = this.#entries.get(uid);
    this.#entries.delete(uid);
    this.#deleting.delete(uid);
    for (const owner of entry?.owners ?? []) this.#unlink(owner.uid, uid);
    for (const dependent of this.#dependents.get(uid) ?? []) this.#queue.add(dependent);
  }

  #keyOfOwner(entry: Entry, owner: OwnerReference, kind: WatchedKind): string {
    return kind.ref.isNamespaced ? `${splitKey(entry.key).namespace}/${owner.name}` : owner.name;
  }

  /** A kind that nobody serves cannot be judged: its dependents are left alone. */
  #isCachedAlive(entry: Entry, owner: OwnerReference): boolean {
    const kind = this.#kinds.find(owner.apiVersion, owner.kind);
    if (kind === undefined) return true;
    return kind.informer.store.get(this.#keyOfOwner(entry, owner, kind))?.metadata.uid === owner.uid;
  }

  async #sync(uid: string): Promise<void> {
    const owner = this.#deleting.get(uid);
    if (owner !== undefined) await this.#finishOwner(uid, owner.kind, owner.key);
    const entry = this.#entries.get(uid);
    if (entry !== undefined) await this.#judge(entry);
  }

  async #judge(entry: Entry): Promise<void> {
    const live = entry.kind.informer.store.get(entry.key);
    if (live === undefined || live.metadata.uid !== entry.uid) return;
    const { solid, dangling, waiting } = await this.#sortOwners(entry);
    if (dangling.length === 0 && waiting.length === 0) return;
    if (solid.length > 0) {
      const gone = new Set([...dangling, ...waiting].map((owner) => owner.uid));
      await this.#patchOwners(entry, live, entry.owners.filter((owner) => !gone.has(owner.uid)));
      return;
    }
    if (live.metadata.deletionTimestamp !== undefined) return;
    const finalizers = live.metadata.finalizers ?? [];
    const hasDependents = (this.#dependents.get(entry.uid)?.size ?? 0) > 0;
    const propagationPolicy = finalizers.includes(orphan) ? 'Orphan' : finalizers.includes(foreground) || (waiting.length > 0 && hasDependents) ? 'Foreground' : 'Background';
    const { namespace, name } = splitKey(entry.key);
    try {
      await this.#context.client.delete(entry.kind.ref, namespace, name, { propagationPolicy, preconditions: { uid: entry.uid } });
    } catch (error) { if (!isNotFound(error) && !isConflict(error)) throw error; }
  }

  async #sortOwners(entry: Entry): Promise<Sorted> {
    const sorted: Sorted = { solid: [], dangling: [], waiting: [] };
    for (const owner of entry.owners) {
      const kind = this.#kinds.find(owner.apiVersion, owner.kind);
      // A cluster-wide object cannot belong to one in a namespace: such a reference is not followed.
      const isFollowed = kind !== undefined && !(kind.ref.isNamespaced && splitKey(entry.key).namespace === '');
      if (isFollowed && !this.#isCachedAlive(entry, owner) && await this.#isReallyGone(entry, owner, kind)) sorted.dangling.push(owner);
      else if (isFollowed && this.#isForeground(entry, owner, kind)) sorted.waiting.push(owner);
      else sorted.solid.push(owner);
    }
    return sorted;
  }

  #isForeground(entry: Entry, owner: OwnerReference, kind: WatchedKind): boolean {
    const { metadata } = kind.informer.store.get(this.#keyOfOwner(entry, owner, kind)) ?? {};
    return metadata?.uid === owner.uid && metadata.deletionTimestamp !== undefined && metadata.finalizers?.includes(foreground) === true;
  }

  async #isReallyGone(entry: Entry, owner: OwnerReference, kind: WatchedKind): Promise<boolean> {
    const { namespace, name } = splitKey(this.#keyOfOwner(entry, owner, kind));
    try {
      return (await this.#context.client.get(kind.ref, namespace, name)).metadata.uid !== owner.uid;
    } catch (error) {
      if (isNotFound(error)) return true;
      throw error;
    }
  }

  async #patchOwners(entry: Entry, live: KubeObject, owners: readonly OwnerReference[]): Promise<void> {
    const { namespace, name } = splitKey(entry.key);
    const patch = { metadata: { uid: entry.uid, resourceVersion: live.metadata.resourceVersion, ownerReferences: owners.length === 0 ? null : owners } };
    try {
      await this.#context.client.patch(entry.kind.ref, namespace, name, patch, { type: 'merge' });
    } catch (error) { if (!isNotFound(error)) throw error; }
  }

  async #finishOwner(uid: string, kind: WatchedKind, key: string): Promise<void> {
    const live = kind.informer.store.get(key);
    if (live === undefined || live.metadata.uid !== uid) { this.#deleting.delete(uid); return; }
    const finalizers = live.metadata.finalizers ?? [];
    const dependents = [...(this.#dependents.get(uid) ?? [])].map((each) => this.#entries.get(each)).filter((entry) => entry !== undefined);
    if (finalizers.includes(orphan)) {
      await Promise.all(dependents.map((entry) => {
        const dependent = entry.kind.informer.store.get(entry.key);
        return dependent === undefined ? Promise.resolve() : this.#patchOwners(entry, dependent, entry.owners.filter((owner) => owner.uid !== uid));
      }));
      await this.#removeFinalizer(kind, key, live, orphan);
      return;
    }
    if (!finalizers.includes(foreground)) { this.#deleting.delete(uid); return; }
    const blocking = dependents.filter((entry) => entry.owners.some((owner) => owner.uid === uid && owner.blockOwnerDeletion === true));
    for (const entry of dependents) this.#queue.add(entry.uid);
    if (blocking.length === 0) await this.#removeFinalizer(kind, key, live, foreground);
  }

  async #removeFinalizer(kind: WatchedKind, key: string, live: KubeObject, finalizer: string): Promise<void> {
    const { namespace, name } = splitKey(key);
    const finalizers = (live.metadata.finalizers ?? []).filter((each) => each !== finalizer);
    try {
      await this.#context.client.patch(kind.ref, namespace, name, { metadata: { uid: live.metadata.uid, resourceVersion: live.metadata.resourceVersion, finalizers } }, { type: 'merge' });
    } catch (error) { if (!isNotFound(error)) throw error; }
  }

  /** Size of the graph, for metrics. */
  stats(): { entries: number; owners: number; kinds: string[] } {
    return { entries: this.#entries.size, owners: this.#dependents.size, kinds: [...this.#kinds.values()].map(({ ref }) => `${apiVersionOf(ref)}/${ref.kind}`) };
  }
}
