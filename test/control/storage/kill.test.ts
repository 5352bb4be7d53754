// kill -9 of a writing process at random points, half of them at named fail points: no acknowledged write is lost, none
// is half there, revisions rise for ever. NETLOOM_SOAK=1 runs 200 kills. The seed is printed when a run fails.

import { describe, expect, test } from 'vitest';
import { systemClock } from '../../../api/clock.ts';
import { sqliteDriver } from './drivers.ts';
import { newLedger, runAndKill, verify } from './kill-loop.ts';

const killCount = process.env['NETLOOM_SOAK'] === undefined ? 10 : 200;
const points = ['store.commit', 'store.committed', 'store.begin', 'store.sync', 'store.synced', 'store.checkpoint', 'store.compact'];

describe('embedded store', () => {
  test(`${killCount} kills with 20 writers lose nothing that was acknowledged`, { timeout: killCount * 4_000 }, async () => {
    const seed = Number(process.env['SEED'] ?? systemClock.nowMs() % 1_000_000);
    const random = randomFrom(seed);
    const driver = sqliteDriver();
    const ledger = newLedger();
    const openMs: number[] = [];
    try {
      for (let kill = 0; kill < killCount; kill++) {
        const point = points[Math.floor(random() * points.length)] as string;
        const isCommit = point !== 'store.checkpoint' && point !== 'store.compact';
        const failPoints = kill % 2 === 0 ? undefined : `${point}:kill:${1 + Math.floor(random() * (isCommit ? 200 : 2))}`;
        await runAndKill({ kind: 'sqlite', place: driver.dataDir, ledger, failPoints, afterMs: kill % 2 === 0 ? random() * 150 : 1_000 });
        const startMs = systemClock.monotonicMs();
        const storage = await driver.open();
        openMs.push(systemClock.monotonicMs() - startMs);
        await verify(storage, ledger);
        await storage.close();
      }
    } catch (error) {
      throw new Error(`failed with SEED=${seed}`, { cause: error });
    } finally {
      await driver.dispose();
    }
    expect(ledger.acknowledgedCount).toBeGreaterThan(killCount * 20);
    // The median, since a busy machine can hold up any single one.
    expect(openMs.sort((a, b) => a - b)[killCount >> 1]).toBeLessThan(500);
  });
});

/** mulberry32. */
function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
