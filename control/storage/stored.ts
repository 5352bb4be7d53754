// Versions of objects and the events between them. Both text and parsed form are made at most once while in use; the
// text stays, the parsed form is dropped after a while without readers, since it costs three to five times the memory.
// Made by the drivers, read by ./cacher.ts and the API server's lists and watches.

import type { KubeObject } from '../../api/types.ts';
import { NetloomError } from '../../api/errors.ts';
import type { Stored, StoredEvent } from './store.ts';

/** One version of one object: text, parsed form, or both. */
export class StoredObject implements Stored {
  readonly key: string;
  readonly revision: number;
  /** Checksum of the row on disk; set by the journal that wrote or read it. */
  sum = 0;
  #object: KubeObject | undefined;
  #json: string | undefined;
  #isHot = true;

  constructor(key: string, revision: number, object: KubeObject | undefined, json: string | undefined) {
    this.key = key;
    this.revision = revision;
    this.#object = object;
    this.#json = json;
  }

  get object(): KubeObject {
    this.#isHot = true;
    return this.#object ??= JSON.parse(this.#json as string) as KubeObject;
  }

  json(): string { return this.#json ??= JSON.stringify(this.#object); }

  /** Drops the parsed form unless it was read since the last call. */
  cool(): void {
    if (!this.#isHot && this.#json !== undefined) this.#object = undefined;
    this.#isHot = false;
  }
}

/** A version made by a write: a copy of the object that carries the revision, with its text. Throws RequestEntityTooLarge. */
export function makeStored(key: string, revision: number, object: KubeObject, bytesMax: number, isFreezing: boolean): StoredObject {
  const copy = { ...object, metadata: { ...object.metadata, resourceVersion: String(revision) } };
  const json = JSON.stringify(copy);
  if (json.length > bytesMax) {
    throw new NetloomError('RequestEntityTooLarge', `the object ${key} takes ${json.length} bytes, at most ${bytesMax} are allowed`, { source: 'downstream' });
  }
  // The caller keeps its own object and may change it later, so the stored parsed form comes from the text when asked for.
  return new StoredObject(key, revision, isFreezing ? deepFreeze(JSON.parse(json) as KubeObject) : undefined, json);
}

/** One change of one object. */
export class StoredChange implements StoredEvent {
  readonly type: StoredEvent['type'];
  readonly revision: number;
  readonly resource: string;
  readonly key: string;
  readonly object: StoredObject;
  readonly previous: StoredObject | undefined;
  /** Monotonic milliseconds when it was applied here; ages the history. */
  readonly atMs: number;
  #line: Buffer | undefined;
  #lineType: StoredEvent['type'] | undefined;

  constructor(type: StoredEvent['type'], resource: string, object: StoredObject, previous: StoredObject | undefined, atMs: number) {
    this.type = type;
    this.revision = object.revision;
    this.resource = resource;
    this.key = object.key;
    this.object = object;
    this.previous = previous;
    this.atMs = atMs;
  }

  line(type: StoredEvent['type'] = this.type): Buffer {
    if (this.#line !== undefined && this.#lineType === type) return this.#line;
    const line = Buffer.from(`{"type":"${type}","object":${this.object.json()}}\n`);
    this.#line = line;
    this.#lineType = type;
    return line;
  }

  /** Forgets the bytes and lets unused parsed forms go. */
  cool(): void {
    this.#line = undefined;
    this.object.cool();
    this.previous?.cool();
  }
}

/** True when a write of `object` over `stored` would change nothing but the resourceVersion. O(size), no allocation. */
export function isNoopWrite(stored: Stored, object: KubeObject): boolean {
  const old = stored.object as unknown as Record<string, unknown>;
  const now = object as unknown as Record<string, unknown>;
  return isSubsetEqual(old, now, 'metadata') && isSubsetEqual(now, old, 'metadata')
    && isSubsetEqual(old['metadata'] as Record<string, unknown>, now['metadata'] as Record<string, unknown>, 'resourceVersion')
    && isSubsetEqual(now['metadata'] as Record<string, unknown>, old['metadata'] as Record<string, unknown>, 'resourceVersion');
}

function isSubsetEqual(a: Record<string, unknown>, b: Record<string, unknown>, except: string): boolean {
  for (const key in a) if (key !== except && !isSameJson(a[key], b[key])) return false;
  return true;
}

/** Compares two values as JSON does: key order and undefined fields do not count. */
export function isSameJson(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (Array.isArray(a) || Array.isArray(b)) {
    return Array.isArray(a) && Array.isArray(b) && a.length === b.length && a.every((item, index) => isSameJson(item, b[index]));
  }
  return isSubsetEqual(a as Record<string, unknown>, b as Record<string, unknown>, '\0') && isSubsetEqual(b as Record<string, unknown>, a as Record<string, unknown>, '\0');
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const part of Object.values(value)) deepFreeze(part);
  }
  return value;
}

/** The name half of a key. */
export function nameOfKey(key: string): string { return key.slice(key.indexOf('/') + 1); }

function details(resource: string, key: string): { name: string; group: string; kind: string } {
  const dot = resource.indexOf('.');
  return { name: nameOfKey(key), group: dot < 0 ? '' : resource.slice(dot + 1), kind: dot < 0 ? resource : resource.slice(0, dot) };
}

export function alreadyExists(resource: string, key: string): NetloomError {
  return new NetloomError('AlreadyExists', `${resource} "${nameOfKey(key)}" already exists`, { source: 'downstream', details: details(resource, key) });
}
export function notFound(resource: string, key: string): NetloomError {
  return new NetloomError('NotFound', `${resource} "${nameOfKey(key)}" not found`, { source: 'downstream', details: details(resource, key) });
}
export function conflict(resource: string, key: string): NetloomError {
  return new NetloomError('Conflict', `Operation cannot be fulfilled on ${resource} "${nameOfKey(key)}": the object has been modified; please apply your changes to the latest version and try again`, { source: 'downstream', details: details(resource, key) });
}
export function expired(resource: string, revision: number, floor: number): NetloomError {
  return new NetloomError('Expired', `too old resource version: ${revision} (${floor})`, { source: 'downstream', context: { resource } });
}
export function tooLarge(revision: number, current: number): NetloomError {
  return new NetloomError('Timeout', `Too large resource version: ${revision}, current: ${current}`, {
    source: 'downstream', details: { causes: [{ reason: 'ResourceVersionTooLarge', message: 'Too large resource version' }], retryAfterSeconds: 1 },
  });
}
export function storeClosed(detail = 'the store is closed'): NetloomError {
  return new NetloomError('StoreClosed', detail, { source: 'internal' });
}
