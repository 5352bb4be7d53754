// A controller's view of its own objects that is never behind its own writes. An informer shows a write only after the
// watch event came back; working from it in between would create things twice. This lays the answers of create, update
// and delete over the informer's store until its watch has caught up.
// Revisions of one API server are decimal and comparable (KEP-5504).

import type { Informer } from '../../api/informer.ts';
import { objectKey } from '../../api/meta.ts';
import type { KubeObject } from '../../api/types.ts';

interface Overlay<T> { object: T | undefined; uid: string; revision: number; group: string }

export class OwnWrites<T extends KubeObject> {
  readonly #informer: Informer<T>;
  readonly #indexName: string;
  readonly #groupsOf: (object: T) => readonly string[];
  readonly #overlays = new Map<string, Overlay<T>>();
  readonly #byGroup = new Map<string, Set<string>>();
  readonly #unsubscribe: () => void;

  /** `groupsOf` gives the index values under which `list` finds an object; only the first counts for writes. */
  constructor(informer: Informer<T>, indexName: string, groupsOf: (object: T) => readonly string[]) {
    this.#informer = informer;
    this.#indexName = indexName;
    this.#groupsOf = groupsOf;
    informer.store.addIndex(indexName, groupsOf);
    this.#unsubscribe = informer.onChange((event) => this.#settle(event.key, event.object, event.type === 'delete'));
  }

  stop(): void { this.#unsubscribe(); }

  get(key: string): T | undefined {
    const overlay = this.#overlayOf(key);
    return overlay === undefined ? this.#informer.store.get(key) : overlay.object;
  }

  /** A write that the informer has passed, even one whose event it skipped by listing anew, says nothing any more. */
  #overlayOf(key: string): Overlay<T> | undefined {
    const overlay = this.#overlays.get(key);
    if (overlay?.object === undefined || Number(this.#informer.resourceVersion) < overlay.revision) return overlay;
    this.#drop(key);
    return undefined;
  }

  /** Objects of the group as they are after every write recorded here. */
  list(group: string): T[] {
    const seen = this.#informer.store.byIndex(this.#indexName, group);
    if (this.#overlays.size === 0) return seen;
    const result: T[] = [];
    // An object whose group changed is still in its old one in the store: whatever has an overlay counts only there.
    for (const object of seen) if (this.#overlayOf(objectKey(object)) === undefined) result.push(object);
    for (const key of [...(this.#byGroup.get(group) ?? [])]) {
      const object = this.#overlayOf(key)?.object;
      if (object !== undefined) result.push(object);
    }
    return result;
  }

  /** Takes the server's answer to a create or update. */
  wrote(object: T): void {
    const key = objectKey(object);
    const known = this.#informer.store.get(key);
    const revision = revisionOf(object);
    if (known !== undefined && known.metadata.uid === object.metadata.uid && revisionOf(known) >= revision) { this.#drop(key); return; }
    this.#put(key, { object, uid: object.metadata.uid ?? '', revision, group: this.#groupsOf(object)[0] ?? '' });
  }

  /** Takes note that the object is gone. */
  removed(object: T): void {
    const key = objectKey(object);
    if (this.#informer.store.get(key)?.metadata.uid !== object.metadata.uid && this.#overlays.get(key)?.uid !== object.metadata.uid) return;
    if (this.#informer.store.get(key) === undefined) { this.#drop(key); return; }
    this.#put(key, { object: undefined, uid: object.metadata.uid ?? '', revision: revisionOf(object), group: this.#groupsOf(object)[0] ?? '' });
  }

  #put(key: string, overlay: Overlay<T>): void {
    this.#drop(key);
    this.#overlays.set(key, overlay);
    const keys = this.#byGroup.get(overlay.group);
    if (keys === undefined) this.#byGroup.set(overlay.group, new Set([key]));
    else keys.add(key);
  }

  #drop(key: string): void {
    const overlay = this.#overlays.get(key);
    if (overlay === undefined) return;
    this.#overlays.delete(key);
    const keys = this.#byGroup.get(overlay.group);
    keys?.delete(key);
    if (keys?.size === 0) this.#byGroup.delete(overlay.group);
  }

  #settle(key: string, object: T, isDeleted: boolean): void {
    const overlay = this.#overlays.get(key);
    if (overlay === undefined) return;
    // A deletion that was recorded ends with the delete event, or with a new object of the same name.
    const isCaughtUp = overlay.object === undefined ? isDeleted || object.metadata.uid !== overlay.uid : revisionOf(object) >= overlay.revision;
    if (isCaughtUp) this.#drop(key);
  }
}

export function revisionOf(object: KubeObject): number { return Number(object.metadata.resourceVersion ?? 0); }
