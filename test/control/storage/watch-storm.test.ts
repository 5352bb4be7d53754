// Watches under fire: many watchers that pause, stop, resume from bookmarks and reconnect at random, while writers,
// transactions over two kinds and compaction go on. Each watcher's stream, put together over all its lives, must be the
// history: filtered, ordered, unique, atomic, resumable, with the right previous state; after 410 a list bridges the gap.
// NETLOOM_SOAK=1 runs 50 times as many writes. A failure names its seed: SEED=n repeats it.

import { afterAll, describe, expect, test } from 'vitest';
import { systemClock } from '../../../api/clock.ts';
import { isExpired } from '../../../api/errors.ts';
import type { Storage, StoredEvent, StoreWatch } from '../../../control/storage/store.ts';
import { object, until } from './drivers.ts';
import { allDrivers, disposeEtcd } from './etcd-process.ts';

type Random = (below: number) => number;
const writeCount = process.env['NETLOOM_SOAK'] === undefined ? 600 : 30_000;
const kind = 'services';

/** One watcher over all its connections. */
class Follower {
  readonly scope: string;
  readonly seen: StoredEvent[] = [];
  /** State as this watcher knows it: key to revision. */
  state = new Map<string, number>();
  position: number;
  reconnects = 0;
  relists = 0;
  readonly #storage: Storage;
  readonly #random: Random;
  #watch: StoreWatch | undefined;
  #failure: Error | undefined;
  #isDone = false;

  constructor(storage: Storage, scope: string, random: Random) {
    this.#storage = storage;
    this.#random = random;
    this.scope = scope;
    this.position = storage.revision;
    this.connect();
  }

  connect(): void {
    this.reconnects += 1;
    try {
      this.#watch = this.#storage.watch(kind, this.position, (events) => this.#take(events), (error) => this.#ended(error), this.scope === '' ? {} : { prefix: this.scope });
    } catch (error) {
      if (!isExpired(error)) throw error;
      this.#relist();
    }
  }

  #ended(error: Error | undefined): void {
    const life = this.reconnects;
    if (isExpired(error)) setImmediate(() => { if (this.reconnects === life) this.#relist(); });
    else if (!this.#isDone) this.#failure = error;
  }

  #relist(): void {
    if (this.#isDone) return;
    this.relists += 1;
    const page = this.#storage.list(kind, { prefix: this.scope });
    this.state = new Map(page.items.filter((item) => this.#isMine(item.key)).map((item) => [item.key, item.revision]));
    this.position = page.revision;
    this.connect();
  }

  #isMine(key: string): boolean { return this.scope === '' || (this.scope.endsWith('/') ? key.startsWith(this.scope) : key === this.scope); }

  #take(events: readonly StoredEvent[]): boolean {
    for (const event of events) {
      expect(this.#isMine(event.key)).toBe(true);
      expect(event.revision).toBeGreaterThanOrEqual(this.position);
      expect(event.previous?.revision).toBe(this.state.get(event.key));
      expect(event.object.revision).toBe(event.revision);
      expect(event.type).toBe(event.type === 'DELETED' ? 'DELETED' : event.previous === undefined ? 'ADDED' : 'MODIFIED');
      if (event.type === 'DELETED') this.state.delete(event.key); else this.state.set(event.key, event.revision);
      this.seen.push(event);
    }
    this.position = (events.at(-1) as StoredEvent).revision;
    if (this.#random(4) !== 0) return true;
    // A third sleeps until someone shakes it, which with a short history is too late now and then.
    const next = this.#random(3);
    const watch = this.#watch;
    if (next === 0) setImmediate(() => watch?.resume());
    if (next === 1) { const life = this.reconnects; setImmediate(() => { if (this.reconnects === life) this.again(); }); }
    return false;
  }

  /** Hangs up and comes back where it was, sometimes where a bookmark said. */
  again(): void {
    if (this.#isDone) return;
    if (this.#random(2) === 0) this.position = Math.max(this.position, this.#watch?.revision ?? 0);
    this.#watch?.stop();
    this.connect();
  }

  async finish(): Promise<void> {
    await until(() => { this.#watch?.resume(); return this.#failure !== undefined || (this.#watch?.revision ?? 0) >= this.#storage.revision; }, `watcher of "${this.scope}" at the head`);
    this.#isDone = true;
    this.#watch?.stop();
    if (this.#failure !== undefined) throw this.#failure;
  }
}

async function write(storage: Storage, random: Random, value: number): Promise<void> {
  const key = `ns${random(3)}/k${random(5)}`;
  const made = object(key.slice(4), value, key.slice(0, 3));
  const present = storage.get(kind, key);
  const other = { verb: 'create' as const, resource: 'endpointslices', key: `shop/e${value}`, object: object(`e${value}`) };
  if (present === undefined) await storage.commit(random(3) === 0 ? [{ verb: 'create', resource: kind, key, object: made }, other] : [{ verb: 'create', resource: kind, key, object: made }]);
  else if (random(3) === 0) await storage.delete(kind, key, present.revision);
  else await storage.update(kind, key, made, present.revision);
}

afterAll(disposeEtcd);

describe.each(allDrivers)('%s store', (_name, makeDriver) => {
  test.each([['with room for all history', 100_000], ['with a short history', 40]])('watchers that pause, leave and come back see the history as it was, %s', { timeout: 120_000 }, async (_title, historyCount) => {
    const seed = Number(process.env['SEED'] ?? systemClock.nowMs() % 1_000_000);
    const random = randomFrom(seed);
    const driver = await makeDriver();
    const storage = await driver.open({ historyAgeMs: 0, historyCountMin: historyCount, historyCountMax: historyCount, memoryHistoryCount: 30, watchBatchMax: 7 });
    try {
      const truth: StoredEvent[] = [];
      storage.watch(kind, storage.revision, (events) => { truth.push(...events); }, () => {});
      const followers = ['', '', '', 'ns0/', 'ns1/', 'ns2/', 'ns0/k0', 'ns1/k1'].map((scope) => new Follower(storage, scope, random));
      for (let value = 0; value < writeCount; value += 3) {
        await Promise.all([write(storage, random, value), write(storage, random, value + 1).catch(() => {}), write(storage, random, value + 2).catch(() => {})]).catch(() => {});
        if (random(10) === 0) followers[random(followers.length)]?.again();
        if (random(40) === 0) await storage.compact({ ageMs: historyCount === 40 ? 0 : 1e9, countPerKind: historyCount });
      }
      await until(() => (truth.at(-1)?.revision ?? 0) >= Math.max(...storage.list(kind).items.map((item) => item.revision)));
      for (const follower of followers) {
        await follower.finish();
        const expected = new Map(storage.list(kind, { prefix: follower.scope }).items.filter((item) => !/k\d$/.test(follower.scope) || item.key === follower.scope).map((item) => [item.key, item.revision]));
        expect([...follower.state].sort()).toEqual([...expected].sort());
        if (follower.relists > 0) continue;
        const mine = truth.filter((event) => event.key.startsWith(follower.scope));
        expect(follower.seen.map((event) => `${event.type} ${event.object.json()}`)).toEqual(mine.map((event) => `${event.type} ${event.object.json()}`));
      }
      expect(followers.reduce((sum, follower) => sum + follower.reconnects, 0)).toBeGreaterThan(followers.length * 3);
      if (historyCount > 40) expect(followers.every((follower) => follower.relists === 0)).toBe(true);
    } catch (error) {
      throw new Error(`failed with SEED=${seed}`, { cause: error });
    } finally {
      await storage.close();
      await driver.dispose();
    }
  });
});

/** mulberry32 below a limit. */
function randomFrom(seed: number): Random {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}
