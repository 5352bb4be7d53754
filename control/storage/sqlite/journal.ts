// The embedded journal on node:sqlite: state and history in one file, with a write-ahead log. A group of transactions is
// one BEGIN…COMMIT and so one fsync; the revision counter is written in the same commit and can never go back.
// Called by ../local.ts. The event loop does not wait for the disk: SQLite writes the log without syncing it, `sync` does
// that in libuv's thread pool, and nothing counts as written before it is done. At most one group is unsynced at a time,
// so that a power cut tears at most the last transaction of the log, as with SQLite's own syncs (./wal-check.ts).

import { randomUUID } from 'node:crypto';
import { closeSync, fdatasync, openSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { StatementSync } from 'node:sqlite';
import type { Clock } from '../../../api/clock.ts';
import type { Log } from '../../../api/log.ts';
import { NetloomError } from '../../../api/errors.ts';
import type { Journal } from '../local.ts';
import type { CompactOptions, StorageLimits } from '../store.ts';
import { StoredObject } from '../stored.ts';
import type { StoredChange } from '../stored.ts';
import { failPoint } from '../fail-points.ts';
import { corruptError, diskFullError, isDiskFull, lockedError, lockHolder, openError, writeError } from './errors.ts';
import { freeBytes, pragma, prepareFolder, sizeOf, syncFolder } from './files.ts';
import { DiskHistory } from './disk-history.ts';
import { addToDigest, applicationId, applySettings, createTables, formatVersion, headSum, objectSum, storeFileName } from './schema.ts';
import type { HeadRow } from './schema.ts';
import { checkWal } from './wal-check.ts';

/** Bytes written between two checkpoints. Smaller ones cost no throughput and keep the p99 of creates at 5 ms (10 ms at 4 MiB). */
const checkpointBytes = 1 << 20;
/** Free space is looked at again after this time or this many written bytes. */
const freeSpaceCheckMs = 1_000;
const freeSpaceCheckBytes = 256 << 10;

export interface SqliteJournalOptions { dataDir: string; clock: Clock; log: Log; limits: StorageLimits }

/** Opens or creates the store file. Throws StoreLocked, StoreCorrupt, PermissionDenied, InsufficientStorage. */
export function sqliteJournal(options: SqliteJournalOptions): SqliteJournal {
  const file = join(options.dataDir, storeFileName);
  try {
    prepareFolder(options.dataDir);
    const holder = lockHolder(file);
    if (holder !== undefined) throw lockedError(file, holder);
    checkWal(file);
    return new SqliteJournal(file, options);
  } catch (error) {
    throw openError(error, file);
  }
}

/** The journal over one open database. */
export class SqliteJournal implements Journal {
  readonly kind = 'sqlite';
  readonly older: DiskHistory;
  readonly #file: string;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #limits: StorageLimits;
  readonly #db: DatabaseSync;
  /** The write-ahead log, opened a second time to sync it. SQLite's locks are on the other file, so closing it loses none. */
  readonly #walFd: number;
  readonly #statements: Record<'begin' | 'commit' | 'insert' | 'update' | 'remove' | 'head', StatementSync>;
  #head: HeadRow;
  /** True while SQLite itself syncs the log at every commit. */
  #isSelfSyncing = true;
  #syncing: Promise<void> | undefined;
  #uncheckpointedBytes = 0;
  #hasRolledBack = false;
  #freeBytes = Infinity;
  #freeCheckedMs = -Infinity;
  #bytesSinceFreeCheck = 0;
  #failure: NetloomError | undefined;

  constructor(file: string, options: SqliteJournalOptions) {
    this.#file = file;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#limits = options.limits;
    this.#db = new DatabaseSync(file);
    try {
      this.#head = this.#open();
      this.older = new DiskHistory(this.#db, this.#head, { clock: options.clock, log: options.log });
      this.#statements = prepareStatements(this.#db);
      this.#walFd = openSync(`${file}-wal`, 'r+');
    } catch (error) {
      this.#db.close();
      throw error;
    }
  }

  get revision(): number { return this.#head.revision; }

  #open(): HeadRow {
    this.#db.exec('PRAGMA locking_mode=EXCLUSIVE');
    const version = pragma(this.#db, 'user_version');
    const isNew = version === 0 && pragma(this.#db, 'schema_version') === 0;
    // Someone else's file must be left as it is, so all looking comes before the settings that write.
    if (!isNew && pragma(this.#db, 'application_id') !== applicationId) throw corruptError(this.#file, 'it is not a netloom store');
    if (Math.floor(version / 1000) > Math.floor(formatVersion / 1000)) {
      throw new NetloomError('ConfigInvalid', `the store ${this.#file} was written by a newer netloom (format ${version})`, { hint: 'upgrade netloom, or choose another folder with --data-dir' });
    }
    applySettings(this.#db);
    if (isNew) this.#create();
    // A write lock at once, so that a second process is refused now and not at its first write.
    this.#db.exec('BEGIN IMMEDIATE; COMMIT');
    // What a killed process left in the WAL is now recovered; emptied, it holds no stale frames beyond the valid ones.
    this.#db.exec('PRAGMA wal_checkpoint(TRUNCATE)');
    const head = this.#db.prepare('SELECT revision, count, digest, base, store, sum FROM head').get() as unknown as HeadRow | undefined;
    if (head === undefined || headSum(head) !== head.sum) throw corruptError(this.#file, 'the head row is missing or does not match its checksum');
    return head;
  }

  #create(): void {
    this.#db.exec(`BEGIN IMMEDIATE; ${createTables} PRAGMA application_id=${applicationId}; PRAGMA user_version=${formatVersion};`);
    const head = { revision: 0, count: 0, digest: 0, base: 0, store: randomUUID() };
    this.#db.prepare('INSERT INTO head (id, revision, count, digest, base, store, sum) VALUES (1, 0, 0, 0, 0, ?, ?)').run(head.store, headSum(head));
    this.#db.exec('COMMIT');
    syncFolder(dirname(this.#file));
  }

  load(onObject: (resource: string, stored: StoredObject) => void): void {
    try {
      const head = this.#head;
      let digest = 0;
      let count = 0;
      for (const row of this.#db.prepare('SELECT resource, key, rev, sum, val FROM obj').iterate() as Iterable<{ resource: string; key: string; rev: number; sum: number; val: string }>) {
        if (objectSum(row.resource, row.key, row.rev, row.val) !== row.sum || row.rev > head.revision) throw corruptError(this.#file, `object ${row.resource} ${row.key} does not match its checksum`);
        digest = addToDigest(digest, row.sum, 0);
        count += 1;
        const stored = new StoredObject(row.key, row.rev, undefined, row.val);
        stored.sum = row.sum;
        onObject(row.resource, stored);
      }
      if (digest !== head.digest || count !== head.count) throw corruptError(this.#file, `${head.count} objects were written, ${count} are found, or their checksums differ`);
    } catch (error) {
      this.#db.close();
      throw openError(error, this.#file);
    }
  }

  write(events: readonly StoredChange[], revision: number): void {
    if (this.#failure !== undefined) throw this.#failure;
    const head = { ...this.#head, revision };
    try {
      failPoint('store.begin');
      if (this.#hasRolledBack) this.#resetWal();
      this.#setSelfSyncing(false);
      this.#statements.begin.run();
      for (const event of events) this.#writeEvent(event, head);
      this.older.writeEnds();
      head.sum = headSum(head);
      this.#statements.head.run(revision, head.count, head.digest, head.sum);
      failPoint('store.commit');
      this.#statements.commit.run();
      failPoint('store.committed');
      this.#head = head;
      this.older.committed();
    } catch (error) {
      this.#rollback(error);
      throw writeError(error);
    }
  }

  /** Resolves when what `write` wrote is on the disk. An error ends all promises: the file holds more than anybody was told. */
  sync(): Promise<void> {
    this.#syncing = this.#syncWal().then(() => failPoint('store.synced')).catch((error: unknown) => {
      this.#failure ??= writeError(error);
      this.#log.error('store sync failed', { err: error });
      throw this.#failure;
    }).finally(() => { this.#syncing = undefined; });
    return this.#syncing;
  }

  #syncWal(): Promise<void> {
    return new Promise((resolve, reject) => {
      failPoint('store.sync');
      fdatasync(this.#walFd, (error) => { if (error === null) resolve(); else reject(error); });
    });
  }

  #setSelfSyncing(isSelfSyncing: boolean): void {
    if (this.#isSelfSyncing === isSelfSyncing) return;
    this.#db.exec(isSelfSyncing ? 'PRAGMA synchronous=FULL' : 'PRAGMA synchronous=NORMAL');
    this.#isSelfSyncing = isSelfSyncing;
  }

  /** Before a transaction beside those of `write`: none of theirs may be unsynced, and it is synced at once itself. */
  async #beforeOwnTransaction(): Promise<void> {
    while (this.#syncing !== undefined) await this.#syncing.catch(() => undefined);
    if (this.#db.isOpen) this.#setSelfSyncing(true);
  }

  #writeEvent(event: StoredChange, head: HeadRow): void {
    const { resource, key, revision } = event;
    const json = event.object.json();
    const oldSum = event.previous?.sum ?? 0;
    let changes: number | bigint;
    if (event.type === 'DELETED') {
      ({ changes } = this.#statements.remove.run(resource, key));
      head.digest = addToDigest(head.digest, 0, oldSum);
      head.count -= 1;
    } else {
      const sum = objectSum(resource, key, revision, json);
      if (event.type === 'ADDED') {
        ({ changes } = this.#statements.insert.run(resource, key, revision, sum, json));
        head.count += 1;
      } else ({ changes } = this.#statements.update.run(revision, sum, json, resource, key));
      head.digest = addToDigest(head.digest, sum, oldSum);
      event.object.sum = sum;
    }
    if (changes !== 1) throw corruptError(this.#file, `object ${resource} ${key} is missing on disk`);
    this.older.append(event);
    this.#uncheckpointedBytes += json.length * 3;
    this.#bytesSinceFreeCheck += json.length * 3;
  }

  /**
   * Empties the log after a rollback: it may hold frames of the failed transaction beyond its valid end, which the next
   * opening could not tell from damage.
   */
  #resetWal(): void {
    this.#db.exec('PRAGMA wal_checkpoint(TRUNCATE)');
    this.#hasRolledBack = false;
    this.#uncheckpointedBytes = 0;
  }

  /** A full disk leaves the store usable; any other disk error ends all promises about what is on it. */
  #rollback(error: unknown): void {
    this.older.rolledBack();
    this.#hasRolledBack = true;
    this.#freeCheckedMs = -Infinity;
    try {
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
    } catch (rollbackError) {
      this.#log.error('store rollback failed', { err: rollbackError });
      this.#failure = writeError(rollbackError);
    }
    if (isDiskFull(error)) return;
    this.#failure ??= writeError(error);
    this.#log.error('store write failed', { err: error });
  }

  checkWritable(isDelete: boolean): void {
    if (this.#failure !== undefined) throw this.#failure;
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#freeCheckedMs > freeSpaceCheckMs || this.#bytesSinceFreeCheck > freeSpaceCheckBytes) {
      this.#freeCheckedMs = nowMs;
      this.#bytesSinceFreeCheck = 0;
      this.#freeBytes = freeBytes(this.#file);
    }
    if (!isDelete && this.#freeBytes < this.#limits.freeBytesMin) throw diskFullError(`${this.#freeBytes} bytes are free`);
  }

  afterCommit(): void {
    this.older.expirePages();
    if (this.#uncheckpointedBytes < checkpointBytes || this.#failure !== undefined) return;
    this.#uncheckpointedBytes = 0;
    try {
      failPoint('store.checkpoint');
      this.#db.exec('PRAGMA wal_checkpoint(PASSIVE)');
    } catch (error) {
      this.#log.warn('store checkpoint failed', { err: error });
    }
  }

  async compact(options: CompactOptions): Promise<{ removedCount: number }> {
    const { historyAgeMs, historyCountMin, historyCountMax } = this.#limits;
    try {
      return await this.older.compact({
        ageMs: options.ageMs ?? historyAgeMs, countPerKind: options.countPerKind ?? historyCountMin, countMax: Math.max(options.countPerKind ?? 0, historyCountMax),
        beforeSlice: () => this.#beforeOwnTransaction(),
        isStopped: () => this.#failure !== undefined || !this.#db.isOpen,
      });
    } catch (error) {
      throw writeError(error);
    }
  }

  stats(): { walBytes: number; fileBytes: number; isWritable: boolean; detail?: string } {
    const sizes = { walBytes: sizeOf(`${this.#file}-wal`), fileBytes: sizeOf(this.#file) };
    if (this.#failure !== undefined) return { ...sizes, isWritable: false, detail: this.#failure.message };
    if (freeBytes(this.#file) < this.#limits.freeBytesMin) return { ...sizes, isWritable: false, detail: 'the disk is full' };
    return { ...sizes, isWritable: true };
  }

  close(): void {
    if (!this.#db.isOpen) return;
    closeSync(this.#walFd);
    this.#db.close();
  }
}

function prepareStatements(db: DatabaseSync): Record<'begin' | 'commit' | 'insert' | 'update' | 'remove' | 'head', StatementSync> {
  return {
    begin: db.prepare('BEGIN IMMEDIATE'),
    commit: db.prepare('COMMIT'),
    insert: db.prepare('INSERT INTO obj (resource, key, rev, sum, val) VALUES (?, ?, ?, ?, ?)'),
    update: db.prepare('UPDATE obj SET rev = ?, sum = ?, val = ? WHERE resource = ? AND key = ?'),
    remove: db.prepare('DELETE FROM obj WHERE resource = ? AND key = ?'),
    head: db.prepare('UPDATE head SET revision = ?, count = ?, digest = ?, sum = ? WHERE id = 1'),
  };
}
