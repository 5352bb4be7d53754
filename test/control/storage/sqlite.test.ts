// The embedded store on disk: restart, second process, full disk, failing disk, backup and restore, other formats.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../../api/clock.ts';
import { silentLog } from '../../../api/log.ts';
import { armFailPoints } from '../../../control/storage/fail-points.ts';
import { openStorage } from '../../../control/storage/open.ts';
import { readBackup, restoreBackup } from '../../../control/storage/sqlite/copies.ts';
import type { Storage, StorageLimits, StoredEvent } from '../../../control/storage/store.ts';
import { brief, memoryDriver, object, record, sqliteDriver, temporaryFolder, until } from './drivers.ts';

const isRoot = process.getuid?.() === 0;
let driver: ReturnType<typeof sqliteDriver>;
let storage: Storage;
beforeEach(async () => { driver = sqliteDriver(); storage = await driver.open(); });
afterEach(async () => { armFailPoints(undefined); await storage.close(); await driver.dispose(); });

async function reopen(limits?: Partial<StorageLimits>): Promise<void> {
  await storage.close();
  storage = await driver.open(limits);
}
function openAt(dataDir: string, limits: Partial<StorageLimits> = {}): Promise<Storage> { return openStorage({ kind: 'sqlite', dataDir, clock: systemClock, log: silentLog, limits }); }
/** Tries again until it works, for five seconds. */
async function untilResolved<T>(attempt: () => Promise<T>): Promise<T> {
  for (const startMs = systemClock.monotonicMs(); ;) {
    try {
      return await attempt();
    } catch (error) {
      if (systemClock.monotonicMs() - startMs > 5_000) throw error;
    }
  }
}
async function fill(count: number, bytes = 10): Promise<void> {
  await Promise.all(Array.from({ length: count }, (_, index) => storage.create('services', `shop/s${index}`, object(`s${index}`, 'x'.repeat(bytes)))));
}

describe('restart', () => {
  test('objects, revision and history are the same after a restart, and a watch resumes from before it', async () => {
    await fill(5);
    const s3 = storage.get('services', 'shop/s3');
    await storage.update('services', 'shop/s3', object('s3', 'new'), s3?.revision);
    await storage.delete('services', 'shop/s4');
    const before = record(storage, 'services', 2);
    await until(() => before.events.length === 5);
    const state = storage.list('services').items.map((item) => item.json());
    await reopen();
    expect(storage.revision).toBe(7);
    expect(storage.list('services').items.map((item) => item.json())).toEqual(state);
    const after = record(storage, 'services', 2);
    const created = await storage.create('services', 'shop/z', object('z'));
    await until(() => after.events.length === 6);
    expect(brief(after.events)).toEqual([...brief(before.events), 'ADDED shop/z@8']);
    expect(after.events[4]?.previous?.json()).toBe(before.events[4]?.previous?.json());
    expect(created.revision).toBe(8);
    expect(storage.list('services', { atRevision: 5 }).items).toHaveLength(5);
  });

  test('a watch of a kind that was quiet before the restart misses nothing when memory moves on between two resumes', async () => {
    await fill(5);
    const last = storage.revision;
    for (let index = 0; index < 3; index++) await storage.create('leases', `a/l${index}`, object(`l${index}`));
    await reopen({ memoryHistoryCount: 3 });
    const early = record(storage, 'services', last);
    await until(() => early.watch.revision === storage.revision);
    early.watch.stop();
    for (let index = 0; index < 10; index++) await storage.create('services', `shop/n${index}`, object(`n${index}`));
    const late = record(storage, 'services', last);
    await until(() => late.watch.revision === storage.revision);
    expect(late.events.map((event) => event.key)).toEqual(Array.from({ length: 10 }, (_, index) => `shop/n${index}`));
  });

  test('500 watches that resume far behind at once share what is read, and leave the event loop free', async () => {
    for (let round = 0; round < 20; round++) await Promise.all(Array.from({ length: 100 }, (_, index) => storage.create('services', `shop/r${round}-${index}`, object(`r${round}-${index}`, 'x'.repeat(300)))));
    await reopen();
    let receivedCount = 0;
    const lines = new Set<Buffer>();
    for (let index = 0; index < 500; index++) storage.watch('services', 900 + (index % 100), (events) => { receivedCount += events.length; lines.add((events[0] as StoredEvent).line()); }, () => {});
    let longestMs = 0;
    for (let lastMs = systemClock.monotonicMs(); receivedCount < 500 * 1_100 - 500 * 49.5;) {
      await new Promise((resolve) => { setImmediate(resolve); });
      longestMs = Math.max(longestMs, systemClock.monotonicMs() - lastMs);
      lastMs = systemClock.monotonicMs();
    }
    expect(receivedCount).toBe(500 * 1_100 - 500 * 49.5);
    expect(lines.size).toBeLessThan(2_000);
    expect(longestMs).toBeLessThan(500);
  });

  test('the revision of a deleted object is not given out again', async () => {
    await fill(3);
    await storage.delete('services', 'shop/s2');
    await reopen();
    expect((await storage.create('services', 'shop/s2', object('s2'))).revision).toBe(5);
  });

  test('compaction is remembered: below its floor a watch is refused after the restart too', async () => {
    await fill(30);
    expect(await storage.compact({ ageMs: 0, countPerKind: 10 })).toEqual({ removedCount: 20 });
    await reopen();
    expect(() => record(storage, 'services', 19)).toThrow(expect.objectContaining({ code: 'Expired' }));
    const seen = record(storage, 'services', 20);
    await until(() => seen.events.length === 10);
  });

  test('history younger than its age is kept whatever its count', async () => {
    await fill(30);
    expect(await storage.compact({ countPerKind: 10 })).toEqual({ removedCount: 0 });
  });

  test('compaction hands space back to the file system', async () => {
    for (let round = 0; round < 20; round++) {
      await Promise.all(Array.from({ length: 100 }, () => round === 0 ? Promise.resolve() : storage.update('services', 'shop/s0', object('s0', 'x'.repeat(2000)))).concat(round === 0 ? [fill(1)] : []));
    }
    await reopen();
    const before = storage.stats().fileBytes;
    await storage.compact({ ageMs: 0, countPerKind: 10 });
    await reopen();
    expect(storage.stats().fileBytes).toBeLessThan(before / 4);
  });
});

describe('data directory', () => {
  test('a second store on the same directory is refused in one line that names the holder', async () => {
    await expect(openAt(driver.dataDir)).rejects.toMatchObject({ code: 'StoreLocked' });
    const other = spawnSync(process.execPath, ['--input-type=module-typescript', '-e', `
      import { openStorage } from '${new URL('../../../control/storage/open.ts', import.meta.url).pathname}';
      import { systemClock } from '${new URL('../../../api/clock.ts', import.meta.url).pathname}';
      import { silentLog } from '${new URL('../../../api/log.ts', import.meta.url).pathname}';
      try { await openStorage({ kind: 'sqlite', dataDir: '${driver.dataDir}', clock: systemClock, log: silentLog }); console.log('opened'); }
      catch (error) { console.log(error.code, error.message); }`], { encoding: 'utf8' });
    expect(other.stdout.trim()).toBe(`StoreLocked another netloom (pid ${process.pid}) uses the store ${driver.dataDir}/netloom.db`);
    expect((await storage.create('services', 'shop/a', object('a'))).revision).toBe(1);
  });

  test('the directory is made for its owner only', async () => {
    const dataDir = join(driver.dataDir, 'deep', 'data');
    await (await openAt(dataDir)).close();
    expect(statSync(dataDir).mode & 0o777).toBe(0o700);
  });

  test.skipIf(isRoot)('a directory that may not be written is a PermissionDenied', async () => {
    const dataDir = join(driver.dataDir, 'closed');
    mkdirSync(dataDir, { mode: 0o500 });
    await expect(openAt(dataDir)).rejects.toMatchObject({ code: 'PermissionDenied' });
  });

  test('a file that is no store is refused as damaged and left alone', async () => {
    const dataDir = temporaryFolder();
    writeFileSync(join(dataDir, 'netloom.db'), 'this is a letter to my aunt'.repeat(100));
    await expect(openAt(dataDir)).rejects.toMatchObject({ code: 'StoreCorrupt' });
    expect(statSync(join(dataDir, 'netloom.db')).size).toBe(2700);
    rmSync(dataDir, { recursive: true });
  });

  test('a database of another program is refused and left as it is', async () => {
    const dataDir = temporaryFolder();
    const file = join(dataDir, 'netloom.db');
    const db = new DatabaseSync(file);
    db.exec('CREATE TABLE notes (text TEXT); INSERT INTO notes VALUES (\'buy milk\')');
    db.close();
    const before = readFileSync(file);
    await expect(openAt(dataDir)).rejects.toMatchObject({ code: 'StoreCorrupt' });
    expect(readFileSync(file).equals(before)).toBe(true);
    expect(readdirSync(dataDir)).toEqual(['netloom.db']);
    rmSync(dataDir, { recursive: true });
  });

  test('a store of a newer incompatible format is refused, one of a newer compatible format is used with its additions kept', async () => {
    await fill(2);
    await storage.close();
    const file = join(driver.dataDir, 'netloom.db');
    let db = new DatabaseSync(file);
    db.exec('PRAGMA user_version=1001; ALTER TABLE obj ADD COLUMN later TEXT; UPDATE obj SET later = \'kept\'; CREATE TABLE more (a)');
    db.close();
    storage = await driver.open();
    await storage.update('services', 'shop/s0', object('s0', 'again'));
    await storage.close();
    db = new DatabaseSync(file);
    expect(db.prepare('SELECT later FROM obj WHERE key = \'shop/s0\'').get()).toEqual({ later: 'kept' });
    db.exec('PRAGMA user_version=2000');
    db.close();
    await expect(driver.open()).rejects.toMatchObject({ code: 'ConfigInvalid' });
  });
});

describe('full and failing disks', () => {
  test('a full disk refuses writes with InsufficientStorage and a restart finds exactly what was acknowledged', async () => {
    await fill(3);
    const seen = record(storage, 'services', 3);
    armFailPoints('store.commit:full:1');
    await expect(storage.create('services', 'shop/b', object('b'))).rejects.toMatchObject({ code: 'InsufficientStorage', httpStatus: 507 });
    expect(storage.list('services').items).toHaveLength(3);
    expect((await storage.create('services', 'shop/c', object('c'))).revision).toBe(4);
    await until(() => seen.events.length === 1);
    await reopen();
    expect(storage.list('services').items.map((item) => item.key)).toEqual(['shop/c', 'shop/s0', 'shop/s1', 'shop/s2']);
  });

  test.each(['store.commit', 'store.sync'])('after a failed fsync (%s) nothing is acknowledged any more, reads and watches go on', async (point) => {
    await fill(3);
    armFailPoints(`${point}:eio:1`);
    await expect(storage.create('services', 'shop/b', object('b'))).rejects.toMatchObject({ code: 'StoreClosed' });
    await expect(storage.create('services', 'shop/c', object('c'))).rejects.toMatchObject({ code: 'StoreClosed' });
    expect(storage.stats()).toMatchObject({ isWritable: false });
    expect(storage.list('services').items).toHaveLength(3);
    const seen = record(storage, 'services', 0);
    await until(() => seen.events.length === 3);
    await reopen();
    // What was in the log when the sync failed may be there after a restart; nobody was told of it.
    expect((await storage.create('services', 'shop/c', object('c'))).revision).toBe(storage.list('services').items.length);
  });

  test('writes that come while the disk syncs share the next group; close waits for both', async () => {
    const answers = [storage.create('services', 'shop/a', object('a'))];
    await new Promise((resolve) => { setImmediate(resolve); });
    expect(storage.get('services', 'shop/a')).toBeUndefined();
    for (let index = 0; index < 10; index++) answers.push(storage.create('services', `shop/s${index}`, object(`s${index}`)));
    const closed = storage.close();
    expect((await Promise.all(answers)).map((stored) => stored.revision)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    await closed;
    expect(storage.stats()).toMatchObject({ commitCount: 2 });
    await reopen();
    expect(storage.list('services').items).toHaveLength(11);
  });

  test.skipIf(!isRoot).each([0, 1 << 20])('a really full file system: writes fail, reads go on, writes resume when space returns (reserve %i bytes)', async (freeBytesMin) => {
    const dataDir = temporaryFolder();
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=6m', 'tmpfs', dataDir]).status !== 0) return;
    const small = await openAt(dataDir, { freeBytesMin });
    try {
      writeFileSync(join(dataDir, 'ballast'), Buffer.alloc(2 << 20));
      const acknowledged: string[] = [];
      let failure: unknown;
      for (let index = 0; index < 2000 && failure === undefined; index++) {
        await small.create('services', `shop/s${index}`, object(`s${index}`, 'x'.repeat(4000))).then((stored) => acknowledged.push(stored.key), (error: unknown) => { failure = error; });
      }
      expect(failure).toMatchObject({ code: 'InsufficientStorage' });
      expect(small.list('services').items).toHaveLength(acknowledged.length);
      if (freeBytesMin > 0) expect(small.stats().isWritable).toBe(false);
      rmSync(join(dataDir, 'ballast'));
      const after = await untilResolved(() => small.create('services', 'shop/after', object('after')));
      acknowledged.push(after.key);
      await small.close();
      const again = await openAt(dataDir);
      expect(again.list('services').items.map((item) => item.key)).toEqual(acknowledged.sort());
      await again.close();
    } finally {
      await small.close();
      spawnSync('umount', [dataDir]);
      rmSync(dataDir, { recursive: true, force: true });
    }
  });

  test('an object over the size limit is refused alone, its batch goes on', async () => {
    await reopen({ objectBytesMax: 1000 });
    const results = await Promise.allSettled([storage.create('services', 'shop/big', object('big', 'x'.repeat(2000))), storage.create('services', 'shop/a', object('a'))]);
    expect(results[0]).toMatchObject({ status: 'rejected', reason: { code: 'RequestEntityTooLarge' } });
    expect(results[1]).toMatchObject({ status: 'fulfilled' });
  });

  test('more waiting writes than the limit are shed with TooManyRequests', async () => {
    await reopen({ pendingWritesMax: 10 });
    const results = await Promise.allSettled(Array.from({ length: 15 }, (_, index) => storage.create('services', `shop/s${index}`, object(`s${index}`))));
    expect(results.filter((result) => result.status === 'fulfilled')).toHaveLength(10);
    expect(results[12]).toMatchObject({ reason: { code: 'TooManyRequests', httpStatus: 429 } });
  });
});

describe('backup and restore', () => {
  test('a backup taken while writes go on holds one consistent state, a restore of it moves the revision ahead', async () => {
    await fill(200, 500);
    let isDone = false;
    const writing = (async (): Promise<void> => {
      for (let index = 0; !isDone; index++) await storage.commit([
        { verb: 'update', resource: 'services', key: 'shop/s0', object: object('s0', index) },
        { verb: 'update', resource: 'services', key: 'shop/s1', object: object('s1', index) },
      ]);
    })();
    const path = join(driver.dataDir, 'copy.netloom');
    const { revision } = await storage.backup(path);
    isDone = true;
    await writing;
    const values = new Map([...readBackup(path)].map((one) => [one.key, (JSON.parse(one.json) as { data: { value: string } }).data.value]));
    expect(values.get('shop/s0')).toBe(values.get('shop/s1'));
    const lastSeen = storage.revision;
    await expect(restoreBackup(path, driver.dataDir)).rejects.toEqual(expect.objectContaining({ code: 'StoreLocked' }));
    await storage.close();
    const restored = await restoreBackup(path, driver.dataDir);
    storage = await driver.open();
    expect(restored.revision).toBe(storage.revision);
    expect(storage.revision).toBeGreaterThanOrEqual(Math.max(lastSeen, revision) + 1_000_000);
    expect(storage.count('services')).toBe(200);
    expect(() => record(storage, 'services', lastSeen)).toThrow(expect.objectContaining({ code: 'Expired' }));
    const seen = record(storage, 'services', storage.revision);
    await storage.create('services', 'shop/new', object('new'));
    await until(() => seen.events.length === 1);
    expect(existsSync(join(driver.dataDir, 'netloom.db.before-restore'))).toBe(true);
  });

  test('the backup of a memory store opens as an embedded store', async () => {
    const memory = await memoryDriver().open();
    await memory.create('services', 'shop/a', object('a'));
    const path = join(driver.dataDir, 'copy.netloom');
    await memory.backup(path);
    await memory.close();
    await storage.close();
    await restoreBackup(path, driver.dataDir);
    storage = await driver.open();
    expect(storage.get('services', 'shop/a')?.object).toMatchObject({ metadata: { name: 'a', resourceVersion: '1' } });
    await storage.update('services', 'shop/a', object('a', 2), 1);
  });

  test('a backup never overwrites a file, a damaged one is not restored, a missing one is named', async () => {
    await fill(50, 300);
    const path = join(driver.dataDir, 'copy.netloom');
    await storage.backup(path);
    await expect(storage.backup(path)).rejects.toMatchObject({ code: 'AlreadyExists' });
    const db = new DatabaseSync(path);
    db.exec('UPDATE obj SET val = replace(val, \'xxx\', \'yyy\') WHERE key = \'shop/s7\'');
    db.close();
    const target = join(driver.dataDir, 'other');
    await expect(restoreBackup(path, target)).rejects.toEqual(expect.objectContaining({ code: 'StoreCorrupt' }));
    await expect(restoreBackup(join(driver.dataDir, 'none'), target)).rejects.toEqual(expect.objectContaining({ code: 'NotFound' }));
    expect(existsSync(target)).toBe(false);
    expect(readdirSync(driver.dataDir).filter((name) => name.includes('partial'))).toEqual([]);
  });
});
