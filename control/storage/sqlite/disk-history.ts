// The history table: appended with every commit, read back by watches and lists that go further than memory, trimmed in
// small slices. Each row names the revision of the row of its kind before it, so that a missing row breaks the chain and
// the history above it counts as lost (410, list again) instead of being served with a hole.
// Part of ./journal.ts.

import type { DatabaseSync, StatementSync } from 'node:sqlite';
import type { Clock } from '../../../api/clock.ts';
import type { Log } from '../../../api/log.ts';
import type { OlderHistory } from '../kind-cache.ts';
import { StoredChange, StoredObject } from '../stored.ts';
import { logSum } from './schema.ts';

const types = ['ADDED', 'MODIFIED', 'DELETED'] as const;
/** Rows that one slice of a compaction removes, a few ms of work. */
const sliceRows = 500;
/** Free pages handed back to the file system per slice. */
const vacuumPages = 100;

interface LogRow { id: number; rev: number; key: string; type: number; prior: number; sum: number; val: string; prevrev: number; prev: string | null }
export interface DiskCompaction { ageMs: number; countPerKind: number; countMax: number; isStopped: () => boolean }

/** History on disk, per kind. */
export class DiskHistory implements OlderHistory {
  readonly #db: DatabaseSync;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #insert: StatementSync;
  readonly #select: StatementSync;
  readonly #selectRest: StatementSync;
  readonly #floors = new Map<string, number>();
  readonly #lasts = new Map<string, number>();
  readonly #uncommitted = new Map<string, number>();
  #base: number;

  constructor(db: DatabaseSync, options: { clock: Clock; log: Log }) {
    this.#db = db;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#insert = db.prepare('INSERT INTO log (rev, resource, key, type, time, prior, sum, val, prevrev, prev) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)');
    this.#select = db.prepare('SELECT id, rev, key, type, prior, sum, val, prevrev, prev FROM log WHERE resource = ? AND rev > ? AND rev <= ? ORDER BY rev, id LIMIT ?');
    this.#selectRest = db.prepare('SELECT id, rev, key, type, prior, sum, val, prevrev, prev FROM log WHERE resource = ? AND rev = ? AND id > ? ORDER BY id');
    this.#base = (db.prepare('SELECT base FROM head').get() as { base: number }).base;
    for (const row of db.prepare('SELECT resource, rev FROM floor').all() as { resource: string; rev: number }[]) this.#floors.set(row.resource, row.rev);
    for (const row of db.prepare('SELECT resource, max(rev) AS rev FROM log GROUP BY resource').all() as { resource: string; rev: number }[]) this.#lasts.set(row.resource, row.rev);
  }

  floorOf(resource: string): number { return Math.max(this.#base, this.#floors.get(resource) ?? 0); }

  /** Inside the transaction of the commit. */
  append(event: StoredChange): void {
    const { resource, key, revision } = event;
    const type = types.indexOf(event.type);
    const prior = this.#uncommitted.get(resource) ?? this.#lastOf(resource);
    const json = event.object.json();
    const previousRevision = event.previous?.revision ?? 0;
    const previous = event.previous?.json() ?? null;
    const sum = logSum(resource, key, revision, type, prior, json, previousRevision, previous);
    this.#insert.run(revision, resource, key, type, this.#clock.nowMs(), prior, sum, json, previousRevision, previous);
    this.#uncommitted.set(resource, revision);
  }

  #lastOf(resource: string): number { return Math.max(this.#lasts.get(resource) ?? 0, this.floorOf(resource)); }

  committed(): void {
    for (const [resource, revision] of this.#uncommitted) this.#lasts.set(resource, revision);
    this.#uncommitted.clear();
  }

  rolledBack(): void { this.#uncommitted.clear(); }

  read(resource: string, after: number, upTo: number, max: number): StoredChange[] {
    const limit = Math.min(max, Number.MAX_SAFE_INTEGER);
    const rows = this.#select.all(resource, after, upTo, limit) as unknown as LogRow[];
    const last = rows.at(-1);
    if (last !== undefined && rows.length === limit) rows.push(...this.#selectRest.all(resource, last.rev, last.id) as unknown as LogRow[]);
    const events: StoredChange[] = [];
    const versions = new Map<string, StoredObject>();
    let prior = after;
    for (const row of rows) {
      if (row.prior > prior || (events.length > 0 && row.prior !== prior) || row.sum !== logSum(resource, row.key, row.rev, row.type, row.prior, row.val, row.prevrev, row.prev)) {
        this.#lose(resource, row);
        return [];
      }
      prior = row.rev;
      events.push(this.#eventOf(resource, row, versions));
    }
    return events;
  }

  #eventOf(resource: string, row: LogRow, versions: Map<string, StoredObject>): StoredChange {
    const object = new StoredObject(row.key, row.rev, undefined, row.val);
    const known = versions.get(row.key);
    const previous = row.prev === null ? undefined : known?.revision === row.prevrev ? known : new StoredObject(row.key, row.prevrev, undefined, row.prev);
    versions.set(row.key, object);
    return new StoredChange(types[row.type] as StoredChange['type'], resource, object, previous, this.#clock.monotonicMs());
  }

  /** Damaged history is given up up to its newest row: clients list again, which is always right. */
  #lose(resource: string, row: LogRow): void {
    this.#log.error('store history is damaged, clients will list again', { resource, revision: row.rev });
    this.#floors.set(resource, this.#lastOf(resource));
  }

  /** Trims every kind, a slice per turn of the event loop. */
  async compact(options: DiskCompaction): Promise<{ removedCount: number }> {
    let removedCount = 0;
    for (const resource of [...this.#lasts.keys()]) {
      for (;;) {
        if (options.isStopped()) return { removedCount };
        const removed = this.#removeSlice(resource, options);
        removedCount += removed;
        if (removed < sliceRows) break;
        await nextTurn();
      }
    }
    while (!options.isStopped() && this.#vacuumSlice()) await nextTurn();
    return { removedCount };
  }

  #removeSlice(resource: string, options: DiskCompaction): number {
    const keepFrom = this.#revisionAt(resource, options.countPerKind);
    if (keepFrom === undefined) return 0;
    const overFrom = this.#revisionAt(resource, options.countMax) ?? 0;
    const tooOldMs = this.#clock.nowMs() - options.ageMs;
    const rows = this.#db.prepare('SELECT rev, time FROM log WHERE resource = ? AND rev <= ? ORDER BY rev, id LIMIT ?').all(resource, keepFrom, sliceRows) as { rev: number; time: number }[];
    let floor = 0;
    for (const row of rows) {
      if (row.rev > overFrom && row.time > tooOldMs) break;
      floor = row.rev;
    }
    if (floor === 0) return 0;
    this.#db.exec('BEGIN IMMEDIATE');
    try {
      this.#db.prepare('INSERT INTO floor (resource, rev) VALUES (?1, ?2) ON CONFLICT (resource) DO UPDATE SET rev = max(rev, ?2)').run(resource, floor);
      const { changes } = this.#db.prepare('DELETE FROM log WHERE resource = ? AND rev <= ?').run(resource, floor);
      this.#db.exec('COMMIT');
      this.#floors.set(resource, Math.max(floor, this.#floors.get(resource) ?? 0));
      return Number(changes);
    } catch (error) {
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
      throw error;
    }
  }

  /** Revision of the newest row that `count` newer rows make superfluous. */
  #revisionAt(resource: string, count: number): number | undefined {
    return (this.#db.prepare('SELECT rev FROM log WHERE resource = ? ORDER BY rev DESC LIMIT 1 OFFSET ?').get(resource, count) as { rev: number } | undefined)?.rev;
  }

  #vacuumSlice(): boolean {
    const free = Object.values(this.#db.prepare('PRAGMA freelist_count').get() ?? {})[0] as number;
    if (free < vacuumPages) return false;
    this.#db.exec(`PRAGMA incremental_vacuum(${vacuumPages})`);
    return true;
  }
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => { setImmediate(resolve); });
}
