// Backups and restores. A backup is one verified SQLite file of the same layout, whatever driver it came from. A restore
// moves the revision ahead of everything that clients may have seen and drops history, so that every client lists again
// instead of waiting for numbers that never come.
// Called by the drivers and the backup and restore commands.

import { chmodSync, copyFileSync, existsSync, linkSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { randomUUID } from 'node:crypto';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { NetloomError } from '../../../api/errors.ts';
import type { KubeObject } from '../../../api/types.ts';
import { failPoint } from '../fail-points.ts';
import type { Storage, StoreOp } from '../store.ts';
import { corruptError, lockedError, lockHolder, openError } from './errors.ts';
import { pragma, syncFile, syncFolder } from './files.ts';
import { addToDigest, applicationId, createTables, formatVersion, headSum, objectSum, restoreRevisionStep, storeFileName } from './schema.ts';
import type { HeadRow } from './schema.ts';

/** Objects that are written or checked in one turn of the event loop, a few ms of work. */
const sliceObjects = 500;

export interface BackupObject { resource: string; key: string; revision: number; json: string }
export interface BackupSummary { revision: number; objectCount: number }

/**
 * Writes the state of any store into a new file: the versions present now, in slices that let other work through, under
 * a side name until it is verified. Throws AlreadyExists, InsufficientStorage, PermissionDenied.
 */
export async function makeBackup(path: string, storage: Storage): Promise<BackupSummary> {
  if (existsSync(path)) throw new NetloomError('AlreadyExists', `the backup file ${path} exists already`, { hint: 'choose another file name' });
  const partial = `${path}.partial`;
  removeStore(partial);
  try {
    await writeObjects(partial, storage);
    chmodSync(partial, 0o600);
    const summary = await verifyBackup(partial);
    syncFile(partial);
    renameSync(partial, path);
    syncFolder(dirname(path));
    return summary;
  } catch (error) {
    removeStore(partial);
    throw openError(error, path);
  }
}

async function writeObjects(path: string, storage: Storage): Promise<void> {
  // Versions are immutable, so these references are a consistent snapshot however long the writing takes.
  const { revision } = storage;
  const snapshot = storage.resources().map((resource) => ({ resource, items: storage.list(resource).items }));
  const db = new DatabaseSync(path);
  try {
    db.exec(`PRAGMA auto_vacuum=INCREMENTAL; BEGIN; ${createTables} PRAGMA application_id=${applicationId}; PRAGMA user_version=${formatVersion};`);
    const insert = db.prepare('INSERT INTO obj (resource, key, rev, sum, val) VALUES (?, ?, ?, ?, ?)');
    const head = { revision, count: 0, digest: 0, base: revision, store: randomUUID() };
    for (const { resource, items } of snapshot) {
      for (const stored of items) {
        const sum = objectSum(resource, stored.key, stored.revision, stored.json());
        insert.run(resource, stored.key, stored.revision, sum, stored.json());
        head.digest = addToDigest(head.digest, sum, 0);
        head.count += 1;
        if (head.count % sliceObjects === 0) await nextTurn();
      }
    }
    db.prepare('INSERT INTO head (id, revision, count, digest, base, store, sum) VALUES (1, ?, ?, ?, ?, ?, ?)').run(head.revision, head.count, head.digest, head.base, head.store, headSum(head));
    db.exec('COMMIT');
  } finally {
    db.close();
  }
}

/** Reads a whole backup and compares every checksum. Throws StoreCorrupt, NotFound. */
export async function verifyBackup(path: string): Promise<BackupSummary> {
  let objectCount = 0;
  for (const _object of readBackup(path)) if (++objectCount % sliceObjects === 0) await nextTurn();
  return { revision: readHead(path).revision, objectCount };
}

/** The objects of a backup, each checked; throws StoreCorrupt at the end when some are missing. */
export function* readBackup(path: string): Generator<BackupObject> {
  const head = readHead(path);
  const db = new DatabaseSync(path, { readOnly: true });
  try {
    let digest = 0;
    let count = 0;
    for (const row of db.prepare('SELECT resource, key, rev, sum, val FROM obj').iterate() as Iterable<{ resource: string; key: string; rev: number; sum: number; val: string }>) {
      if (objectSum(row.resource, row.key, row.rev, row.val) !== row.sum) throw corruptError(path, `object ${row.resource} ${row.key} does not match its checksum`);
      digest = addToDigest(digest, row.sum, 0);
      count += 1;
      yield { resource: row.resource, key: row.key, revision: row.rev, json: row.val };
    }
    if (digest !== head.digest || count !== head.count) throw corruptError(path, `${head.count} objects were written, ${count} are found, or their checksums differ`);
  } finally {
    db.close();
  }
}

function readHead(path: string): HeadRow {
  if (!existsSync(path)) throw new NetloomError('NotFound', `there is no backup file ${path}`);
  let db: DatabaseSync | undefined;
  try {
    db = new DatabaseSync(path, { readOnly: true });
    if (pragma(db, 'application_id') !== applicationId) throw corruptError(path, 'it is not a netloom store');
    const head = db.prepare('SELECT revision, count, digest, base, store, sum FROM head').get() as unknown as HeadRow | undefined;
    if (head === undefined || headSum(head) !== head.sum) throw corruptError(path, 'the head row is missing or does not match its checksum');
    return head;
  } catch (error) {
    throw openError(error, path);
  } finally {
    db?.close();
  }
}

export interface RestoreResult extends BackupSummary { previousStore?: string }

/**
 * Puts a backup in the place of the store of a data directory; the old store stays beside it as `netloom.db.before-restore`.
 * Throws StoreLocked, StoreCorrupt, NotFound.
 */
export async function restoreBackup(backupPath: string, dataDir: string): Promise<RestoreResult> {
  const file = join(dataDir, storeFileName);
  const holder = lockHolder(file);
  if (holder !== undefined) throw lockedError(file, holder);
  const { revision, objectCount } = await verifyBackup(backupPath);
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  const replacement = `${file}.restoring`;
  removeStore(replacement);
  copyFileSync(backupPath, replacement);
  const newRevision = Math.max(revision, settle(file)) + restoreRevisionStep;
  beginAnew(replacement, newRevision);
  syncFile(replacement);
  const previousStore = keepOld(file);
  failPoint('store.restore');
  renameSync(replacement, file);
  syncFolder(dataDir);
  return { revision: newRevision, objectCount, ...(previousStore === undefined ? {} : { previousStore }) };
}

/** Objects written in one transaction of a restore; etcd takes at most 128 operations. */
const restoreBatch = 100;

/**
 * Fills an empty store of any driver from a backup: the way back into etcd, whose own revision goes on. Objects get new
 * resourceVersions, so clients list again. Throws AlreadyExists when the store holds anything.
 */
export async function restoreInto(storage: Storage, backupPath: string): Promise<BackupSummary> {
  const { objectCount } = await verifyBackup(backupPath);
  if (storage.resources().length > 0) throw new NetloomError('AlreadyExists', 'the store to restore into is not empty', { hint: 'restore into another key prefix, or delete the old keys first' });
  let ops: StoreOp[] = [];
  for (const { resource, key, json } of readBackup(backupPath)) {
    ops.push({ verb: 'create', resource, key, object: JSON.parse(json) as KubeObject });
    if (ops.length < restoreBatch) continue;
    await storage.commit(ops);
    ops = [];
  }
  if (ops.length > 0) await storage.commit(ops);
  return { revision: storage.revision, objectCount };
}

/** Merges the log of the old store into its file and tells its revision; 0 when there is none or it cannot be read. */
function settle(file: string): number {
  if (!existsSync(file)) return 0;
  const db = new DatabaseSync(file);
  try {
    db.exec('PRAGMA locking_mode=EXCLUSIVE');
    db.exec('PRAGMA wal_checkpoint(TRUNCATE)');
    return (db.prepare('SELECT revision FROM head').get() as { revision: number }).revision;
  } catch (error) {
    if (openErrorIsLock(error, file)) throw openError(error, file);
    return 0;
  } finally {
    db.close();
  }
}

function openErrorIsLock(error: unknown, file: string): boolean {
  const opened = openError(error, file);
  return opened instanceof NetloomError && opened.code === 'StoreLocked';
}

/** Makes the copy a store whose history begins at `revision`. */
function beginAnew(file: string, revision: number): void {
  const db = new DatabaseSync(file);
  try {
    const head = db.prepare('SELECT revision, count, digest, base, store, sum FROM head').get() as unknown as HeadRow;
    const sum = headSum({ ...head, revision, base: revision });
    db.exec('BEGIN; DELETE FROM log; DELETE FROM kind;');
    db.prepare('UPDATE head SET revision = ?, base = ?, sum = ? WHERE id = 1').run(revision, revision, sum);
    db.exec('COMMIT');
  } finally {
    db.close();
  }
  toSingleFile(file);
}

function keepOld(file: string): string | undefined {
  if (!existsSync(file)) return undefined;
  const kept = `${file}.before-restore`;
  removeStore(kept);
  if (existsSync(`${file}-wal`)) renameSync(`${file}-wal`, `${kept}-wal`);
  linkSync(file, kept);
  return kept;
}

/** Ends WAL mode, so that the file stands alone. */
function toSingleFile(file: string): void {
  const db = new DatabaseSync(file);
  try { db.exec('PRAGMA journal_mode=DELETE'); } finally { db.close(); }
}

function removeStore(file: string): void {
  for (const suffix of ['', '-wal', '-shm', '-journal']) rmSync(`${file}${suffix}`, { force: true });
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => { setImmediate(resolve); });
}
