// The store interface that the API server is written against; two families of drivers implement it: embedded (memory,
// sqlite) and etcd. One revision counter for the whole store, +1 per transaction; an object's resourceVersion is the
// revision of its last write as a decimal string. Reads are synchronous and served from memory; writes resolve after
// they are durable; watch events follow only after that. Opened by ./open.ts.
// Source: Kubernetes API concepts (resource versions), KEP-5504 (comparable resource versions), KEP-2340.

import type { Clock } from '../../api/clock.ts';
import type { Log } from '../../api/log.ts';
import type { KubeObject } from '../../api/types.ts';

/** One version of one object. Never mutate `object`: it is shared by every reader, list, watcher and the history. */
export interface Stored {
  /** 'namespace/name', or 'name' for a cluster-scoped kind. */
  readonly key: string;
  /** Revision of the write that made this version. */
  readonly revision: number;
  /** The parsed object. May be parsed again after a while without use: compare versions by revision, not identity. */
  readonly object: KubeObject;
  /** The object as JSON text, serialised once and kept. */
  json(): string;
}

/** One change. All changes of one transaction carry the same revision and reach a watcher in one call. */
export interface StoredEvent {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly revision: number;
  readonly resource: string;
  readonly key: string;
  /** The new state; for DELETED the last state with the revision of the deletion. */
  readonly object: Stored;
  /** The state before: what a selector needs to turn MODIFIED into ADDED or DELETED. */
  readonly previous?: Stored | undefined;
  /** `{"type":…,"object":…}\n` as bytes, made once and shared by all watchers. `type` overrides the event's own. */
  line(type?: StoredEvent['type']): Buffer;
}

/** A write in a transaction. `expectedRevision` undefined: the object only has to exist. */
export type StoreOp =
  | { verb: 'create'; resource: string; key: string; object: KubeObject }
  | { verb: 'update'; resource: string; key: string; object: KubeObject; expectedRevision?: number | undefined }
  | { verb: 'delete'; resource: string; key: string; expectedRevision?: number | undefined; lastObject?: KubeObject | undefined };

export interface ListOptions {
  /** Only keys that start with this, e.g. 'shop/' for one namespace. */
  prefix?: string | undefined;
  limit?: number | undefined;
  /** Only keys after this one (exclusive): the `nextKey` of the page before. */
  continueKey?: string | undefined;
  /** The state as of this revision. Throws Expired when history no longer reaches it, Timeout when it is still to come. */
  atRevision?: number | undefined;
}
export interface ListPage {
  /** Sorted by key. */
  items: Stored[];
  /** Revision of the state shown. */
  revision: number;
  /** Set when more follows: hand it back as `continueKey` together with `atRevision: revision`. */
  nextKey?: string;
  /** How many follow after this page. Set together with `nextKey`. */
  remaining?: number;
}

export interface WatchOptions {
  /** Only this key ('ns/name') or, when it ends with '/', only keys of this namespace. */
  prefix?: string | undefined;
}
/** Handle of a running watch. */
export interface StoreWatch {
  /** Every event of the watched resource up to this revision has been handed over: what a bookmark may say. */
  readonly revision: number;
  /** Asks for more after `onEvents` returned false. */
  resume(): void;
  /** Ends the watch without calling `onEnd`. */
  stop(): void;
}
/** Return false to pause: the watcher is passed over until `resume()`, then continues from history without a gap. */
export type OnEvents = (events: readonly StoredEvent[]) => void | boolean;
/** Called at most once: without error on close, with Expired when the watcher fell behind the history. */
export type OnWatchEnd = (error?: Error) => void;

export interface CompactOptions { ageMs?: number; countPerKind?: number }
export interface KindStats { objectCount: number; historyCount: number; historyBytes: number; floorRevision: number; watcherCount: number }
export interface StorageStats {
  kind: 'memory' | 'sqlite' | 'etcd';
  revision: number; objectCount: number; watcherCount: number; pendingWriteCount: number;
  /** False while writes are refused: disk full, disk error, or no connection. `detail` says why. */
  isWritable: boolean; detail?: string;
  commitCount: number; writeCount: number; batchSizeMean: number; batchSizeMax: number;
  /** Time of the durable part of a commit over the last 1,024 commits. */
  commitMsP50: number; commitMsP99: number;
  walBytes: number; fileBytes: number; slowWatchersClosedCount: number;
  kinds: Record<string, KindStats>;
}

export interface Storage {
  readonly revision: number;
  get(resource: string, key: string): Stored | undefined;
  list(resource: string, options?: ListOptions): ListPage;
  /** Every resource that holds at least one object. */
  resources(): string[];
  count(resource: string): number;
  /** Throws AlreadyExists. The given object is not changed: the returned one carries the new resourceVersion. */
  create(resource: string, key: string, object: KubeObject): Promise<Stored>;
  /** Throws NotFound, Conflict. */
  update(resource: string, key: string, object: KubeObject, expectedRevision?: number): Promise<Stored>;
  /** Throws NotFound, Conflict. Resolves to the last state with the revision of the deletion. */
  delete(resource: string, key: string, expectedRevision?: number, lastObject?: KubeObject): Promise<Stored>;
  /** All or nothing, one revision. Each (resource, key) at most once. */
  commit(ops: readonly StoreOp[]): Promise<Stored[]>;
  /** Throws Expired when `fromRevision` (exclusive) is older than the history of this resource. */
  watch(resource: string, fromRevision: number, onEvents: OnEvents, onEnd: OnWatchEnd, options?: WatchOptions): StoreWatch;
  /** True once the local state has reached the revision, false after the time. */
  waitFor(revision: number, timeoutMs: number): Promise<boolean>;
  /** A revision that no acknowledged write is newer than; wait for it to read the most recent state. */
  consistentRevision(): Promise<number>;
  /**
   * Trims history beyond age and count, in slices that let other work through. The store does it by itself as it grows;
   * calling it more often does no harm.
   */
  compact(options?: CompactOptions): Promise<{ removedCount: number }>;
  stats(): StorageStats;
  /** Writes a consistent copy to a new file while the store goes on working. */
  backup(path: string): Promise<{ revision: number }>;
  close(): Promise<void>;
}

/** Bounds of the store; each is an option of `openStorage`. */
export interface StorageLimits {
  /** History kept per kind: at least `historyAgeMs` and `historyCountMin` events, never over the maxima. */
  historyAgeMs: number; historyCountMin: number; historyCountMax: number; historyBytesMax: number;
  /** Part of the history that is also held in memory when all of it is on disk. */
  memoryHistoryCount: number; memoryHistoryBytes: number;
  /** Events handed to one watcher in one call. */
  watchBatchMax: number;
  /** A paused watcher that is this many events behind is closed. */
  watchLagMax: number;
  /** Writes waiting for a commit; more are refused with TooManyRequests. */
  pendingWritesMax: number;
  /** Operations in one durable batch. */
  batchMax: number;
  /** Bytes of one object as JSON. */
  objectBytesMax: number;
  /** Free disk space below which writes other than deletes are refused. */
  freeBytesMin: number;
}

export const defaultStorageLimits: Readonly<StorageLimits> = Object.freeze({
  historyAgeMs: 300_000, historyCountMin: 10_000, historyCountMax: 100_000, historyBytesMax: 24 << 20,
  memoryHistoryCount: 2_000, memoryHistoryBytes: 4 << 20,
  watchBatchMax: 500, watchLagMax: 20_000, pendingWritesMax: 10_000, batchMax: 1_000,
  objectBytesMax: 1_572_864, freeBytesMin: 1 << 20,
});

export interface StorageOptions {
  kind: 'memory' | 'sqlite' | 'etcd';
  clock: Clock;
  log: Log;
  /** sqlite: folder of `netloom.db`, made with mode 0700 when absent. */
  dataDir?: string;
  /** etcd: client addresses, e.g. 'http://127.0.0.1:2379'. */
  endpoints?: string[];
  /** etcd: keys live below this; '/registry' by default. */
  keyPrefix?: string;
  tls?: { caPem?: string; certPem?: string; keyPem?: string };
  username?: string; password?: string;
  limits?: Partial<StorageLimits>;
  /** Tests: freeze every stored object deeply, so that a reader that mutates one fails loudly. */
  isFreezing?: boolean;
}
