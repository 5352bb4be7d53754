// The embedded store: one process owns the state, so writes are checked against memory and made durable in groups. All
// writes that arrive while the disk syncs the group before share one journal commit (one fsync); each is its own
// transaction with its own revision. Nothing is visible to readers or watchers before the sync.
// The journal is ./sqlite/journal.ts, or nothing for --ephemeral.

import type { Clock, TimerHandle } from '../../api/clock.ts';
import { NetloomError } from '../../api/errors.ts';
import type { Log } from '../../api/log.ts';
import type { KubeObject } from '../../api/types.ts';
import { Cacher } from './cacher.ts';
import type { CompactOptions, ListOptions, ListPage, OnEvents, OnWatchEnd, Storage, StorageLimits, StorageStats, Stored, StoredEvent, StoreOp, StoreWatch, WatchOptions } from './store.ts';
import type { OlderHistory } from './kind-cache.ts';
import { alreadyExists, conflict, makeStored, notFound, storeClosed, StoredChange } from './stored.ts';
import type { StoredObject } from './stored.ts';
import { DurationWindow } from './durations.ts';
import { makeBackup } from './sqlite/copies.ts';

/** Where committed changes are kept. `write` throws and has kept nothing, or has them durable once `sync` resolves. */
export interface Journal {
  readonly kind: 'memory' | 'sqlite';
  readonly older: OlderHistory | undefined;
  /** Revision that the kept state stands at when opened. */
  readonly revision: number;
  load(onObject: (resource: string, stored: StoredObject) => void): void;
  write(events: readonly StoredChange[], revision: number): void;
  /** Absent where `write` is all. No other `write` comes before it resolved. */
  sync?: () => Promise<void>;
  /** Throws InsufficientStorage or StoreClosed when a write of this verb should not be tried now. */
  checkWritable(isDelete: boolean): void;
  /** Called in a later turn after a commit: housekeeping that must not delay the answer. */
  afterCommit(): void;
  compact(options: CompactOptions): Promise<{ removedCount: number }>;
  stats(): { walBytes: number; fileBytes: number; isWritable: boolean; detail?: string };
  close(): void;
}

export interface LocalStorageOptions { clock: Clock; log: Log; limits: StorageLimits; journal: Journal; isFreezing: boolean }

/** Changes after which history is trimmed without being asked, so that the file stays bounded. */
const writesPerCompaction = 5_000;

interface Transaction {
  readonly ops: readonly StoreOp[];
  readonly resolve: (stored: Stored[]) => void;
  readonly reject: (error: unknown) => void;
}

/** Writes of one flush that are not yet in the cache, by resource and key; null = deleted. */
type Overlay = Map<string, StoredObject | null>;

/** Storage over a Journal. */
export class LocalStorage implements Storage {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #limits: StorageLimits;
  readonly #journal: Journal;
  readonly #isFreezing: boolean;
  readonly #cacher: Cacher;
  readonly #housekeeper: TimerHandle;
  readonly #durations: DurationWindow;
  #queue: Transaction[] = [];
  #isFlushScheduled = false;
  #flushing: Promise<void> | undefined;
  #isClosed = false;
  #closing: Promise<void> | undefined;
  #writeCount = 0;
  #batchSizeMax = 0;
  #writesSinceCompaction = 0;
  #compaction: Promise<{ removedCount: number }> | undefined;

  constructor(options: LocalStorageOptions) {
    this.#clock = options.clock;
    this.#log = options.log;
    this.#limits = options.limits;
    this.#journal = options.journal;
    this.#isFreezing = options.isFreezing;
    this.#durations = new DurationWindow();
    const { older } = options.journal;
    this.#cacher = new Cacher(older === undefined ? { clock: options.clock, limits: options.limits } : { clock: options.clock, limits: memoryLimits(options.limits), older });
    this.#cacher.begin(options.journal.revision);
    options.journal.load((resource, stored) => this.#cacher.load(resource, stored));
    this.#housekeeper = this.#clock.every(1_000, () => this.#journal.afterCommit());
  }

  get revision(): number { return this.#cacher.revision; }
  get(resource: string, key: string): Stored | undefined { return this.#cacher.get(resource, key); }
  list(resource: string, options?: ListOptions): ListPage { return this.#cacher.list(resource, options); }
  resources(): string[] { return this.#cacher.resources(); }
  count(resource: string): number { return this.#cacher.count(resource); }

  create(resource: string, key: string, object: KubeObject): Promise<Stored> {
    return this.#commitOne({ verb: 'create', resource, key, object });
  }

  update(resource: string, key: string, object: KubeObject, expectedRevision?: number): Promise<Stored> {
    return this.#commitOne({ verb: 'update', resource, key, object, expectedRevision });
  }

  delete(resource: string, key: string, expectedRevision?: number, lastObject?: KubeObject): Promise<Stored> {
    return this.#commitOne({ verb: 'delete', resource, key, expectedRevision, lastObject });
  }

  async #commitOne(op: StoreOp): Promise<Stored> {
    return (await this.commit([op]))[0] as Stored;
  }

  commit(ops: readonly StoreOp[]): Promise<Stored[]> {
    if (this.#isClosed) return Promise.reject(storeClosed());
    if (this.#queue.length >= this.#limits.pendingWritesMax) {
      return Promise.reject(new NetloomError('TooManyRequests', `${this.#queue.length} writes are waiting for the disk`, { details: { retryAfterSeconds: 1 } }));
    }
    return new Promise((resolve, reject) => {
      this.#queue.push({ ops, resolve, reject });
      this.#scheduleFlush();
    });
  }

  #scheduleFlush(): void {
    if (this.#isFlushScheduled || this.#flushing !== undefined || this.#queue.length === 0) return;
    this.#isFlushScheduled = true;
    setImmediate(() => {
      this.#isFlushScheduled = false;
      if (this.#flushing === undefined) this.#flush();
    });
  }

  /** Commits one group: check each transaction, make all durable at once, show them, answer. */
  #flush(): void {
    const group = this.#queue.splice(0, this.#limits.batchMax);
    const overlay: Overlay = new Map();
    const events: StoredChange[] = [];
    const accepted: { transaction: Transaction; stored: Stored[] }[] = [];
    const refused: { transaction: Transaction; error: unknown }[] = [];
    let revision = this.#cacher.revision;
    for (const transaction of group) {
      try {
        const changes = this.#prepare(transaction.ops, revision + 1, overlay);
        for (const change of changes) {
          overlay.set(overlayKey(change.resource, change.key), change.type === 'DELETED' ? null : change.object);
          events.push(change);
        }
        if (changes.length > 0) revision += 1;
        accepted.push({ transaction, stored: changes.map((change) => change.object) });
      } catch (error) {
        refused.push({ transaction, error });
      }
    }
    const finish = (): void => {
      this.#cacher.apply(events, revision);
      for (const { transaction, stored } of accepted) transaction.resolve(stored);
      for (const { transaction, error } of refused) transaction.reject(error);
      this.#scheduleFlush();
    };
    if (events.length === 0) { finish(); return; }
    // Refusals may rest on a write of this very group that now never happened, so all hear of the disk.
    const fail = (error: unknown): void => {
      for (const transaction of group) transaction.reject(error);
      this.#scheduleFlush();
    };
    const startMs = this.#clock.monotonicMs();
    try {
      this.#journal.write(events, revision);
    } catch (error) { fail(error); return; }
    const sync = this.#journal.sync?.();
    if (sync === undefined) { this.#count(events.length, startMs); finish(); return; }
    this.#flushing = sync.then(() => {
      this.#flushing = undefined;
      this.#count(events.length, startMs);
      finish();
    }, (error: unknown) => {
      this.#flushing = undefined;
      fail(error);
    });
  }

  #count(eventCount: number, startMs: number): void {
    this.#durations.add(this.#clock.monotonicMs() - startMs);
    this.#writeCount += eventCount;
    this.#batchSizeMax = Math.max(this.#batchSizeMax, eventCount);
    this.#writesSinceCompaction += eventCount;
    setImmediate(() => { if (!this.#isClosed) this.#keepHouse(); });
  }

  #keepHouse(): void {
    this.#journal.afterCommit();
    if (this.#writesSinceCompaction < writesPerCompaction || this.#compaction !== undefined) return;
    this.#writesSinceCompaction = 0;
    this.compact().catch((error: unknown) => { this.#log.warn('history cannot be trimmed', { err: error }); });
  }

  #prepare(ops: readonly StoreOp[], revision: number, overlay: Overlay): StoredChange[] {
    const changes: StoredChange[] = [];
    const seen = ops.length > 1 ? new Set<string>() : undefined;
    for (const op of ops) {
      const id = overlayKey(op.resource, op.key);
      if (seen?.has(id) === true) throw new NetloomError('InternalError', `a transaction writes ${op.resource} ${op.key} twice`);
      seen?.add(id);
      this.#journal.checkWritable(op.verb === 'delete');
      const pending = overlay.get(id);
      const present = pending === undefined ? this.#cacher.get(op.resource, op.key) : pending ?? undefined;
      changes.push(this.#change(op, present, revision));
    }
    return changes;
  }

  #change(op: StoreOp, present: StoredObject | undefined, revision: number): StoredChange {
    const nowMs = this.#clock.monotonicMs();
    if (op.verb === 'create') {
      if (present !== undefined) throw alreadyExists(op.resource, op.key);
      return new StoredChange('ADDED', op.resource, this.#make(op.key, revision, op.object), undefined, nowMs);
    }
    if (present === undefined) throw notFound(op.resource, op.key);
    if (op.expectedRevision !== undefined && op.expectedRevision !== present.revision) throw conflict(op.resource, op.key);
    const object = op.verb === 'update' ? op.object : op.lastObject ?? present.object;
    return new StoredChange(op.verb === 'update' ? 'MODIFIED' : 'DELETED', op.resource, this.#make(op.key, revision, object), present, nowMs);
  }

  #make(key: string, revision: number, object: KubeObject): StoredObject {
    return makeStored(key, revision, object, this.#limits.objectBytesMax, this.#isFreezing);
  }

  watch(resource: string, fromRevision: number, onEvents: OnEvents, onEnd: OnWatchEnd, options?: WatchOptions): StoreWatch {
    return this.#cacher.watch(resource, fromRevision, onEvents as (events: readonly StoredEvent[]) => void | boolean, onEnd, options);
  }

  waitFor(revision: number, timeoutMs: number): Promise<boolean> { return this.#cacher.waitFor(revision, timeoutMs); }
  consistentRevision(): Promise<number> { return Promise.resolve(this.#cacher.revision); }

  async compact(options: CompactOptions = {}): Promise<{ removedCount: number }> {
    await this.#compaction?.catch(() => undefined);
    if (this.#isClosed) return { removedCount: 0 };
    this.#compaction = this.#journal.compact(options);
    try {
      return await this.#compaction;
    } finally {
      this.#compaction = undefined;
    }
  }

  stats(): StorageStats {
    const commitCount = this.#durations.count;
    return {
      kind: this.#journal.kind, revision: this.revision, pendingWriteCount: this.#queue.length,
      commitCount, writeCount: this.#writeCount, batchSizeMean: commitCount === 0 ? 0 : this.#writeCount / commitCount, batchSizeMax: this.#batchSizeMax,
      commitMsP50: this.#durations.quantile(0.5), commitMsP99: this.#durations.quantile(0.99),
      ...this.#cacher.stats(), ...this.#journal.stats(),
    };
  }

  backup(path: string): Promise<{ revision: number }> { return makeBackup(path, this); }

  /** Commits what is queued, ends all watches, lets go of the files. */
  close(): Promise<void> { return this.#closing ??= this.#close(); }

  async #close(): Promise<void> {
    this.#isClosed = true;
    this.#housekeeper.cancel();
    while (this.#flushing !== undefined || this.#queue.length > 0) {
      if (this.#flushing === undefined) this.#flush();
      await this.#flushing;
    }
    this.#cacher.close();
    this.#journal.close();
  }
}

/** With history on disk, memory keeps only the recent part that most resuming watches need. */
function memoryLimits(limits: StorageLimits): StorageLimits {
  const count = Math.min(limits.historyCountMin, limits.memoryHistoryCount);
  return { ...limits, historyAgeMs: 0, historyCountMin: count, historyCountMax: count, historyBytesMax: Math.min(limits.historyBytesMax, limits.memoryHistoryBytes) };
}

function overlayKey(resource: string, key: string): string { return `${resource}\0${key}`; }
