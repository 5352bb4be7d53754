// Damaged files: the log cut anywhere in its last transactions, single flipped bits anywhere in log and store. Allowed
// outcomes: the state of an acknowledged moment that only lacks a torn end, or a refusal with StoreCorrupt. History may
// be given up (410), but never served wrong. 500 bits by default; NETLOOM_SOAK=1 cuts at every 11th byte and flips 5,000 bits.

import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { systemClock } from '../../../api/clock.ts';
import { hasCode } from '../../../api/errors.ts';
import { silentLog } from '../../../api/log.ts';
import { openStorage } from '../../../control/storage/open.ts';
import type { Storage } from '../../../control/storage/store.ts';
import { brief, object, record, temporaryFolder, until } from './drivers.ts';

const isSoak = process.env['NETLOOM_SOAK'] !== undefined;
const folder = temporaryFolder();
const original = join(folder, 'original');
const copy = join(folder, 'copy');
/** State after each revision, and size of the log when it was acknowledged. */
const states = new Map<number, string[]>();
let events: string[] = [];
let revision = 0;
const walSizes: number[] = [];

function open(dataDir: string): Promise<Storage> { return openStorage({ kind: 'sqlite', dataDir, clock: systemClock, log: silentLog }); }
function stateOf(storage: Storage): string[] { return storage.list('services').items.map((item) => item.json()); }

beforeAll(async () => {
  const storage = await open(original);
  const seen = record(storage, 'services', 0);
  for (let index = 0; index < 60; index++) {
    const key = `shop/s${index % 25}`;
    const made = object(`s${index % 25}`, `${index}-${'x'.repeat((index % 7) * 100)}`);
    if (storage.get('services', key) === undefined) await storage.create('services', key, made);
    else if (index % 5 === 0) await storage.delete('services', key);
    else await storage.update('services', key, made);
    states.set(storage.revision, stateOf(storage));
    walSizes.push(statSync(join(original, 'netloom.db-wal')).size);
  }
  await until(() => seen.watch.revision === storage.revision && seen.events.length === 60);
  events = brief(seen.events);
  revision = storage.revision;
  // Copied by another process: reading the file here would let go of the lock, and closing would empty the log.
  expect(spawnSync('cp', ['-r', original, join(folder, 'taken')]).status).toBe(0);
  await storage.close();
});
afterAll(() => { rmSync(folder, { recursive: true, force: true }); });

async function openDamaged(damage: (file: string) => void): Promise<Storage | 'refused'> {
  rmSync(copy, { recursive: true, force: true });
  mkdirSync(copy);
  for (const name of ['netloom.db', 'netloom.db-wal']) copyFileSync(join(folder, 'taken', name), join(copy, name));
  damage(join(copy, 'netloom.db'));
  try {
    return await open(copy);
  } catch (error) {
    if (hasCode(error, 'StoreCorrupt')) return 'refused';
    throw error;
  }
}

/** The watch from every reachable revision is right, or refused. */
async function checkHistory(storage: Storage): Promise<void> {
  const expected = events.slice(0, storage.revision);
  for (const from of [0, 1, 20, 45, 59]) {
    if (from > storage.revision) continue;
    const ends: (Error | undefined)[] = [];
    const seen: string[] = [];
    try {
      const watch = storage.watch('services', from, (more) => { seen.push(...brief(more)); }, (error) => { ends.push(error); });
      await until(() => ends.length > 0 || watch.revision >= storage.revision);
      watch.stop();
    } catch (error) {
      ends.push(error as Error);
    }
    if (ends.length === 0) expect(seen).toEqual(expected.slice(from));
    else {
      expect(ends[0]).toMatchObject({ code: 'Expired' });
      expect(seen).toEqual(expected.slice(from, from + seen.length));
    }
  }
}

describe('damaged files', () => {
  test('a log cut anywhere in its last three transactions opens with what was complete', { timeout: isSoak ? 900_000 : 120_000 }, async () => {
    const start = walSizes.at(-4) as number;
    const end = walSizes.at(-1) as number;
    for (let size = start; size <= end; size += isSoak ? 11 : 397) {
      const storage = await openDamaged((file) => { truncateSync(`${file}-wal`, size); });
      if (storage === 'refused') throw new Error(`refused when cut at ${size}`);
      const complete = walSizes.filter((walSize) => walSize <= size).length;
      expect(storage.revision).toBe(complete);
      expect(stateOf(storage)).toEqual(states.get(complete));
      await storage.close();
    }
  });

  test('damage inside the log with whole transactions behind it is refused', async () => {
    const after = walSizes[30] as number;
    const storage = await openDamaged((file) => { flip(`${file}-wal`, (after + 500) * 8); });
    expect(storage).toBe('refused');
  });

  test.each([
    ['an object that vanished', 'DELETE FROM obj WHERE key = (SELECT min(key) FROM obj)'],
    ['an object in an older state', 'UPDATE obj SET (rev, val) = (SELECT prevrev, prev FROM log WHERE prev IS NOT NULL AND log.key = obj.key ORDER BY id DESC LIMIT 1) WHERE key = \'shop/s9\''],
    ['an object too many', 'INSERT INTO obj SELECT resource, key || \'x\', rev, sum, val FROM obj LIMIT 1'],
    ['a revision that went back', 'UPDATE head SET revision = revision - 1'],
    ['no head', 'DELETE FROM head'],
  ])('%s is refused', async (_name, sql) => {
    expect(await openDamaged((file) => { execute(file, sql); })).toBe('refused');
  });

  test.each([
    ['a hole in the history', 'DELETE FROM log WHERE rev = 30'],
    ['a missing end', 'DELETE FROM log WHERE rev = 60'],
    ['a missing beginning', 'DELETE FROM log WHERE rev < 10'],
    ['a forged event', 'UPDATE log SET val = replace(val, \'shop\', \'shoq\') WHERE rev = 30'],
    ['an unknown extent', 'DELETE FROM kind'],
    ['a wrong extent', 'UPDATE kind SET floor = 0, last = 55'],
  ])('%s costs the watch a relist, the objects are served', async (_name, sql) => {
    const storage = await openDamaged((file) => { execute(file, sql); });
    if (storage === 'refused') throw new Error('refused');
    expect(stateOf(storage)).toEqual(states.get(revision));
    await checkHistory(storage);
    expect(() => stateOf(storage)).not.toThrow();
    await storage.close();
  });

  test('single flipped bits never show wrong data', { timeout: isSoak ? 600_000 : 120_000 }, async () => {
    const outcomes = { refused: 0, whole: 0, torn: 0 };
    const runs = isSoak ? 5_000 : 300;
    for (let run = 0; run < runs; run++) {
      const suffix = run % 2 === 0 ? '' : '-wal';
      const bits = statSync(join(folder, 'taken', `netloom.db${suffix}`)).size * 8;
      const bit = Math.floor(((run * 0.618_033_988_749_895) % 1) * bits);
      const storage = await openDamaged((file) => { flip(`${file}${suffix}`, bit); });
      if (storage === 'refused') { outcomes.refused += 1; continue; }
      expect(storage.revision, `bit ${bit} of file "${suffix}"`).toBeGreaterThanOrEqual(revision - 1);
      expect(stateOf(storage)).toEqual(states.get(storage.revision));
      outcomes[storage.revision === revision ? 'whole' : 'torn'] += 1;
      await checkHistory(storage);
      await storage.close();
    }
    expect(outcomes.refused).toBeGreaterThan(runs / 10);
  });

  test('flipped bits in a store without a log are found as well', { timeout: isSoak ? 600_000 : 120_000 }, async () => {
    const bits = statSync(join(original, 'netloom.db')).size * 8;
    let refusedCount = 0;
    for (let run = 0; run < (isSoak ? 5_000 : 200); run++) {
      const bit = Math.floor(((run * 0.618_033_988_749_895) % 1) * bits);
      const storage = await openDamaged((file) => {
        rmSync(`${file}-wal`);
        copyFileSync(join(original, 'netloom.db'), file);
        flip(file, bit);
      });
      if (storage === 'refused') { refusedCount += 1; continue; }
      expect(stateOf(storage), `bit ${bit}`).toEqual(states.get(revision));
      await checkHistory(storage);
      await storage.close();
    }
    expect(refusedCount).toBeGreaterThan(10);
  });
});

function execute(file: string, sql: string): void {
  const db = new DatabaseSync(file);
  db.exec(sql);
  db.close();
}

function flip(file: string, bit: number): void {
  const bytes = readFileSync(file);
  const index = bit >> 3;
  bytes[index] = (bytes[index] as number) ^ (1 << (bit & 7));
  writeFileSync(file, bytes);
}
