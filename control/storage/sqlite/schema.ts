// Tables, settings and checksums of the embedded store file. State (`obj`) and history (`log`) are apart: state never
// needs compaction, history is trimmed without touching state. Every row carries a CRC, `head` carries the number of
// objects and the sum of their CRCs, and `kind` where the history of each kind begins and ends, so that a damaged or
// missing row is noticed and never served.
// Used by ./journal.ts and ./restore.ts.

import { crc32 } from 'node:zlib';
import type { DatabaseSync } from 'node:sqlite';

/** 'nlom': marks the file as ours. */
export const applicationId = 0x6e6c6f6d;
/** Thousands: incompatible change. Units: additions that older releases of the same thousand may ignore. */
export const formatVersion = 1_000;
export const storeFileName = 'netloom.db';
/** A restore moves the revision this far ahead, so that no number that clients may have seen is given out twice. */
export const restoreRevisionStep = 1_000_000;

const digestModulus = 2 ** 48;

export const createTables = `
CREATE TABLE head (id INTEGER PRIMARY KEY CHECK (id = 1), revision INTEGER NOT NULL, count INTEGER NOT NULL, digest INTEGER NOT NULL,
  base INTEGER NOT NULL, store TEXT NOT NULL, sum INTEGER NOT NULL);
CREATE TABLE obj (resource TEXT NOT NULL, key TEXT NOT NULL, rev INTEGER NOT NULL, sum INTEGER NOT NULL, val TEXT NOT NULL);
CREATE UNIQUE INDEX obj_key ON obj (resource, key);
CREATE TABLE log (id INTEGER PRIMARY KEY, rev INTEGER NOT NULL, resource TEXT NOT NULL, key TEXT NOT NULL, type INTEGER NOT NULL,
  time INTEGER NOT NULL, prior INTEGER NOT NULL, sum INTEGER NOT NULL, val TEXT NOT NULL, prevrev INTEGER NOT NULL, prev TEXT);
CREATE INDEX log_kind ON log (resource, rev);
CREATE TABLE kind (resource TEXT PRIMARY KEY, floor INTEGER NOT NULL, last INTEGER NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID;
`;

/**
 * Settings of a connection whose locking_mode is EXCLUSIVE already: the lock is taken at the first read, a second process
 * is refused at once, and no shared-memory file is made. Checkpoints are ours (./journal.ts), after the answers went out.
 */
export function applySettings(db: DatabaseSync): void {
  db.exec('PRAGMA auto_vacuum=INCREMENTAL');
  db.exec('PRAGMA journal_mode=WAL');
  db.exec('PRAGMA synchronous=FULL');
  db.exec('PRAGMA wal_autocheckpoint=0');
  db.exec('PRAGMA journal_size_limit=67108864');
  db.exec('PRAGMA cache_size=-4096');
  db.exec('PRAGMA temp_store=MEMORY');
}

/** Checksum of a state row. */
export function objectSum(resource: string, key: string, revision: number, json: string): number {
  return crc32(json, crc32(`${resource}\0${key}\0${revision}\0`));
}

/** Checksum of a history row. */
export function logSum(resource: string, key: string, revision: number, type: number, prior: number, json: string, previousRevision: number, previous: string | null): number {
  return crc32(previous ?? '', crc32(json, crc32(`${resource}\0${key}\0${revision}\0${type}\0${prior}\0${previousRevision}\0`)));
}

export interface HeadRow { revision: number; count: number; digest: number; base: number; store: string; sum: number }

/** Checksum of the head row. */
export function headSum(head: Omit<HeadRow, 'sum'>): number {
  return crc32(`${head.revision}\0${head.count}\0${head.digest}\0${head.base}\0${head.store}`);
}

/** Checksum of a row that says where a kind's history begins and ends. */
export function kindSum(resource: string, floor: number, last: number): number {
  return crc32(`${resource}\0${floor}\0${last}`);
}

/** Adds a checksum to the digest of the whole state, or takes it away. The order of rows does not matter. */
export function addToDigest(digest: number, added: number, removed: number): number {
  const sum = digest + added - removed;
  return sum < 0 ? sum + digestModulus : sum >= digestModulus ? sum - digestModulus : sum;
}
