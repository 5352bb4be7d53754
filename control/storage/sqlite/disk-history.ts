// The history table: appended with every commit, read back by watches and lists that go further than memory, trimmed in
// small slices. Each row names the revision of the row of its kind before it, so that a missing row breaks the chain and
// the history above it counts as lost (410, list again) instead of being served with a hole.
// Part of ./journal.ts.

import type { DatabaseSync, StatementSync } from 'node:sqlite';
import type { Clock } from '../../../api/clock.ts';
import type { Log } from '../../../api/log.ts';
import type { OlderHistory } from '../kind-cache.ts';
import { expired, StoredChange, StoredObject } from '../stored.ts';
import { failPoint } from '../fail-points.ts';
import { PageCache } from './page-cache.ts';
import type { Page } from './page-cache.ts';
import { kindSum, logSum } from './schema.ts';
import type { HeadRow } from './schema.ts';

const types = ['ADDED', 'MODIFIED', 'DELETED'] as const;
/** Rows that one slice of a compaction removes, a few ms of work. */
const sliceRows = 500;
/** Free pages handed back to the file system per slice. */
const vacuumPages = 100;
/** Events of a page that watchers share. */
const pageEvents = 500;

interface LogRow { id: number; rev: number; key: string; type: number; prior: number; sum: number; val: string; prevrev: number; prev: string | null }
interface KindRow { resource: string; floor: number; last: number; sum: number }
/** History is complete above `floor`; `last` is its newest row, `openedLast` the newest when the store was opened. */
interface KindEnds { floor: number; last: number; openedLast: number }
export interface DiskCompaction { ageMs: number; countPerKind: number; countMax: number; isStopped: () => boolean; beforeSlice: () => Promise<void> }

/** History on disk, per kind. */
export class DiskHistory implements OlderHistory {
  readonly #db: DatabaseSync;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #insert: StatementSync;
  readonly #select: StatementSync;
  readonly #selectRest: StatementSync;
  readonly #upsertKind: StatementSync;
  readonly #kinds = new Map<string, KindEnds>();
  readonly #uncommitted = new Map<string, number>();
  readonly #pages = new PageCache();
  readonly #base: number;
  readonly #openedRevision: number;

  /** Reads where each kind begins and ends; a damaged row costs that kind its history. */
  constructor(db: DatabaseSync, head: HeadRow, options: { clock: Clock; log: Log }) {
    this.#db = db;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#insert = db.prepare('INSERT INTO log (rev, resource, key, type, time, prior, sum, val, prevrev, prev) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)');
    this.#select = db.prepare('SELECT id, rev, key, type, prior, sum, val, prevrev, prev FROM log WHERE resource = ? AND rev > ? AND rev <= ? ORDER BY rev, id LIMIT ?');
    this.#selectRest = db.prepare('SELECT id, rev, key, type, prior, sum, val, prevrev, prev FROM log WHERE resource = ? AND rev = ? AND id > ? ORDER BY id');
    this.#upsertKind = db.prepare('INSERT INTO kind (resource, floor, last, sum) VALUES (?, ?, ?, ?) ON CONFLICT (resource) DO UPDATE SET floor = excluded.floor, last = excluded.last, sum = excluded.sum');
    this.#base = head.base;
    this.#openedRevision = head.revision;
    for (const row of db.prepare('SELECT resource, floor, last, sum FROM kind').all() as unknown as KindRow[]) {
      const isRight = row.sum === kindSum(row.resource, row.floor, row.last);
      if (!isRight) this.#log.error('store history is damaged, clients will list again', { resource: row.resource });
      this.#kinds.set(row.resource, isRight ? { floor: row.floor, last: row.last, openedLast: row.last } : { floor: head.revision, last: head.revision, openedLast: head.revision });
    }
    this.#loseUnlisted(head.revision);
  }

  /** A kind row that vanished altogether is noticed by its history rows. */
  #loseUnlisted(revision: number): void {
    for (const { resource } of this.#db.prepare('SELECT DISTINCT resource FROM log').all() as { resource: string }[]) {
      if (!this.#kinds.has(resource)) this.#kinds.set(resource, { floor: revision, last: revision, openedLast: revision });
    }
  }

  floorOf(resource: string): number { return Math.max(this.#base, this.#kinds.get(resource)?.floor ?? 0); }

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

  #lastOf(resource: string): number { return Math.max(this.#kinds.get(resource)?.last ?? 0, this.#base); }

  /** Inside the transaction, after all events: where the kinds now end. */
  writeEnds(): void {
    for (const [resource, last] of this.#uncommitted) {
      const floor = this.floorOf(resource);
      this.#upsertKind.run(resource, floor, last, kindSum(resource, floor, last));
    }
  }

  committed(): void {
    for (const [resource, last] of this.#uncommitted) {
      const ends = this.#kinds.get(resource);
      if (ends === undefined) this.#kinds.set(resource, { floor: this.#base, last, openedLast: this.#base }); else ends.last = last;
    }
    this.#uncommitted.clear();
  }

  rolledBack(): void { this.#uncommitted.clear(); }

  read(resource: string, after: number, upTo: number, max: number): StoredChange[] {
    if (max > pageEvents) return this.#readPage(resource, after, upTo, max);
    const nowMs = this.#clock.monotonicMs();
    for (let at = after; at < upTo;) {
      const page = this.#pages.find(resource, at, nowMs) ?? this.#addPage(resource, at, upTo, nowMs);
      const events = this.#pages.eventsAfter(page, at);
      if (events.length > 0) return cutAfter(events, max);
      // Nothing more in this page; memory may meanwhile begin later than where the page ended.
      at = page.to;
    }
    return [];
  }

  /** Reads a page that covers `after`. It begins a little earlier, for those who come a little later with an older revision. */
  #addPage(resource: string, after: number, upTo: number, nowMs: number): Page {
    for (const from of [Math.max(this.floorOf(resource), after - pageEvents / 2), after]) {
      const events = this.#readPage(resource, from, upTo, pageEvents);
      const to = events.length < pageEvents ? upTo : (events.at(-1) as StoredChange).revision;
      // Where transactions are large, the part before may fill the page.
      if (to > after) return this.#pages.add({ resource, from, to, events, usedMs: nowMs, tails: new Map() });
    }
    throw expired(resource, after, upTo);
  }

  /** Forgets pages that nobody reads any more. */
  expirePages(): void { this.#pages.expire(this.#clock.monotonicMs()); }

  #readPage(resource: string, after: number, upTo: number, max: number): StoredChange[] {
    const limit = Math.min(max, Number.MAX_SAFE_INTEGER);
    const rows = this.#readRows(resource, after, upTo, limit);
    const events: StoredChange[] = [];
    const versions = new Map<string, StoredObject>();
    let prior = after;
    for (const row of rows) {
      const isNext = events.length === 0 ? row.prior <= after : row.prior === prior;
      if (!isNext || row.sum !== logSum(resource, row.key, row.rev, row.type, row.prior, row.val, row.prevrev, row.prev)) this.#lose(resource, after, upTo);
      prior = row.rev;
      events.push(this.#eventOf(resource, row, versions));
    }
    if (rows.length < limit && prior < this.#endWithin(resource, upTo)) this.#lose(resource, after, upTo);
    return events;
  }

  /** The newest revision of this kind up to `upTo`, which is where memory begins: at opening, or at an event it dropped. */
  #endWithin(resource: string, upTo: number): number {
    return upTo > this.#openedRevision ? upTo : this.#kinds.get(resource)?.openedLast ?? 0;
  }

  #readRows(resource: string, after: number, upTo: number, limit: number): LogRow[] {
    try {
      const rows = this.#select.all(resource, after, upTo, limit) as unknown as LogRow[];
      const last = rows.at(-1);
      if (last !== undefined && rows.length === limit) rows.push(...this.#selectRest.all(resource, last.rev, last.id) as unknown as LogRow[]);
      return rows;
    } catch (error) {
      this.#log.error('store history cannot be read', { resource, err: error });
      return this.#lose(resource, after, upTo);
    }
  }

  #eventOf(resource: string, row: LogRow, versions: Map<string, StoredObject>): StoredChange {
    const object = new StoredObject(row.key, row.rev, undefined, row.val);
    const known = versions.get(row.key);
    const previous = row.prev === null ? undefined : known?.revision === row.prevrev ? known : new StoredObject(row.key, row.prevrev, undefined, row.prev);
    versions.set(row.key, object);
    return new StoredChange(types[row.type] as StoredChange['type'], resource, object, previous, this.#clock.monotonicMs());
  }

  /** Damaged history is given up to where memory begins: clients list again, which is always right. */
  #lose(resource: string, after: number, upTo: number): never {
    this.#log.error('store history is damaged, clients will list again', { resource, revision: upTo });
    this.#pages.drop(resource);
    const ends = this.#kinds.get(resource);
    if (ends === undefined) this.#kinds.set(resource, { floor: upTo, last: upTo, openedLast: upTo }); else ends.floor = Math.max(ends.floor, upTo);
    throw expired(resource, after, upTo);
  }

  /** Trims every kind, a slice per turn of the event loop. */
  async compact(options: DiskCompaction): Promise<{ removedCount: number }> {
    let removedCount = 0;
    for (const resource of [...this.#kinds.keys()]) {
      for (;;) {
        await options.beforeSlice();
        if (options.isStopped()) return { removedCount };
        const removed = this.#removeSlice(resource, options);
        removedCount += removed;
        if (removed < sliceRows) break;
        await nextTurn();
      }
    }
    await options.beforeSlice();
    while (!options.isStopped() && this.#vacuumSlice()) {
      await nextTurn();
      await options.beforeSlice();
    }
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
    const ends = this.#kinds.get(resource) as KindEnds;
    this.#db.exec('BEGIN IMMEDIATE');
    try {
      this.#upsertKind.run(resource, Math.max(ends.floor, floor), ends.last, kindSum(resource, Math.max(ends.floor, floor), ends.last));
      const { changes } = this.#db.prepare('DELETE FROM log WHERE resource = ? AND rev <= ?').run(resource, floor);
      failPoint('store.compact');
      this.#db.exec('COMMIT');
      ends.floor = Math.max(ends.floor, floor);
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

/** The first `max` events, never cutting a transaction in two. */
function cutAfter(events: StoredChange[], max: number): StoredChange[] {
  if (events.length <= max) return events;
  let end = max;
  while (end < events.length && events[end]?.revision === events[end - 1]?.revision) end += 1;
  return events.slice(0, end);
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => { setImmediate(resolve); });
}
