// Watches against a model, history limits per kind, slow watchers, lists at older revisions.

import fc from 'fast-check';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import type { Storage, StorageLimits, StoredEvent } from '../../../control/storage/store.ts';
import { brief, object, record, until } from './drivers.ts';
import type { TestDriver } from './drivers.ts';
import { allDrivers, disposeEtcd } from './etcd-process.ts';

type Step = { kind: string; name: string; verb: 'create' | 'update' | 'delete' };
const steps = fc.array(fc.record({
  kind: fc.constantFrom('services', 'leases.coordination.k8s.io'), name: fc.constantFrom('a', 'b', 'c', 'd'), verb: fc.constantFrom('create' as const, 'update' as const, 'delete' as const),
}), { minLength: 1, maxLength: 60 });

/** Does the step if it is possible now. */
async function act(storage: Storage, step: Step, value: number): Promise<void> {
  const key = `shop/${step.name}`;
  const present = storage.get(step.kind, key);
  if (step.verb === 'create' && present === undefined) await storage.create(step.kind, key, object(step.name, value));
  if (step.verb === 'update' && present !== undefined) await storage.update(step.kind, key, object(step.name, value), present.revision);
  if (step.verb === 'delete' && present !== undefined) await storage.delete(step.kind, key, present.revision);
}

function snapshot(storage: Storage, kind: string, atRevision?: number): string[] {
  return storage.list(kind, { atRevision }).items.map((item) => `${item.key}=${item.json()}`);
}

afterAll(disposeEtcd);

describe.each(allDrivers)('%s store', (name, makeDriver) => {
  const opened: { storage: Storage; driver: TestDriver }[] = [];
  async function open(limits: Partial<StorageLimits> = {}): Promise<Storage> {
    const driver = await makeDriver();
    const storage = await driver.open(limits);
    opened.push({ storage, driver });
    return storage;
  }
  afterEach(async () => {
    for (const { storage, driver } of opened.splice(0)) { await storage.close(); await driver.dispose(); }
  });

  test.each([{}, { memoryHistoryCount: 3 }])('a watch from every revision gives exactly the later events, a list at every revision the state then (%o)', async (limits) => {
    await fc.assert(fc.asyncProperty(steps, fc.integer({ min: 1, max: 7 }), async (script, watchBatchMax) => {
      const storage = await open({ ...limits, watchBatchMax });
      const model: StoredEvent[] = [];
      const start = storage.revision;
      const states: string[][] = [snapshot(storage, 'services')];
      const live = record(storage, 'services', start);
      for (const [value, step] of script.entries()) {
        const before = storage.revision;
        await act(storage, step, value);
        if (storage.revision > before) states.push(snapshot(storage, 'services'));
      }
      await until(() => live.watch.revision === storage.revision);
      model.push(...live.events);
      for (let from = start; from <= storage.revision; from++) {
        const seen = record(storage, 'services', from);
        const expected = model.filter((event) => event.revision > from);
        await until(() => seen.events.length >= expected.length && seen.watch.revision >= storage.revision);
        expect(brief(seen.events)).toEqual(brief(expected));
        expect(seen.events.map((event) => event.previous?.revision)).toEqual(expected.map((event) => event.previous?.revision));
        expect(seen.events.map((event) => event.object.json())).toEqual(expected.map((event) => event.object.json()));
        expect(snapshot(storage, 'services', from)).toEqual(states[from - start]);
        seen.watch.stop();
      }
      for (const { storage: used, driver } of opened.splice(0)) { await used.close(); await driver.dispose(); }
    }), { numRuns: name === 'etcd' ? 8 : 25 });
  });

  test.skipIf(name === 'etcd')('100,000 events of one kind leave another kind\'s history whole', async () => {
    const storage = await open({ historyAgeMs: 0, historyCountMin: 50, historyCountMax: 50, memoryHistoryCount: 50 });
    const first = await storage.create('services', 'shop/web', object('web'));
    await storage.update('services', 'shop/web', object('web', 1), first.revision);
    const lease = await storage.create('leases.coordination.k8s.io', 'nodes/n1', object('n1', 0, 'nodes'));
    let revision = lease.revision;
    for (let round = 0; round < 100; round++) {
      await Promise.all(Array.from({ length: 1000 }, (_, index) => storage.update('leases.coordination.k8s.io', 'nodes/n1', object('n1', round * 1000 + index, 'nodes'))));
    }
    revision = storage.revision;
    await storage.compact({ ageMs: 0, countPerKind: 50 });
    const services = record(storage, 'services', first.revision);
    await until(() => services.events.length === 1);
    expect(() => record(storage, 'leases.coordination.k8s.io', lease.revision)).toThrow(expect.objectContaining({ code: 'Expired' }));
    const leases = record(storage, 'leases.coordination.k8s.io', revision - 10);
    await until(() => leases.events.length === 10);
    expect(storage.stats().kinds['leases.coordination.k8s.io']?.historyCount).toBeLessThanOrEqual(50);
  });

  test('after compaction an old watch and an old continue token fail with Expired, recent ones go on', async () => {
    const storage = await open({ historyAgeMs: 0, historyCountMin: 5, memoryHistoryCount: 5 });
    const start = storage.revision;
    for (let index = 0; index < 20; index++) await storage.create('services', `shop/s${index}`, object(`s${index}`));
    await storage.compact({ ageMs: 0, countPerKind: 5 });
    expect(() => record(storage, 'services', start + 3)).toThrow(expect.objectContaining({ code: 'Expired', httpStatus: 410 }));
    expect(() => storage.list('services', { atRevision: start + 3, continueKey: 'shop/s1' })).toThrow(expect.objectContaining({ code: 'Expired' }));
    const seen = record(storage, 'services', start + 16);
    await until(() => seen.events.length === 4);
    expect(storage.list('services', { atRevision: start + 17 }).items).toHaveLength(17);
  });

  test('a paused watcher continues without a gap, one left behind by the history is ended with Expired, never skipped', async () => {
    const storage = await open({ historyAgeMs: 0, historyCountMin: 20, memoryHistoryCount: 20, watchBatchMax: 3 });
    const start = storage.revision;
    const received: number[] = [];
    const ends: (Error | undefined)[] = [];
    let isOpen = false;
    const watch = storage.watch('services', start, (events) => { received.push(...events.map((event) => event.revision - start)); return isOpen; }, (error) => { ends.push(error); });
    for (let index = 0; index < 10; index++) await storage.create('services', `shop/s${index}`, object(`s${index}`));
    expect(received.length).toBeLessThan(10);
    isOpen = true;
    watch.resume();
    await until(() => received.length === 10);
    expect(received).toEqual(Array.from({ length: 10 }, (_, index) => index + 1));
    isOpen = false;
    for (let index = 10; index < 60; index++) await storage.create('services', `shop/s${index}`, object(`s${index}`));
    await storage.compact({ ageMs: 0, countPerKind: 20 });
    watch.resume();
    await until(() => ends.length === 1);
    expect(ends[0]).toMatchObject({ code: 'Expired' });
    expect(received).toEqual(Array.from({ length: received.length }, (_, index) => index + 1));
    expect(storage.stats().slowWatchersClosedCount).toBe(1);
  });

  test('a watch from a revision still to come shows nothing before it', async () => {
    const storage = await open();
    const start = storage.revision;
    const seen = record(storage, 'services', start + 3);
    for (let index = 0; index < 6; index++) await storage.create('services', `shop/s${index}`, object(`s${index}`));
    await until(() => seen.events.length === 3);
    expect(seen.events.map((event) => event.revision)).toEqual([start + 4, start + 5, start + 6]);
  });

  test('a callback that throws ends its own watch only', async () => {
    const storage = await open();
    const ends: (Error | undefined)[] = [];
    const healthy = record(storage, 'services', storage.revision);
    storage.watch('services', storage.revision, () => { throw new Error('broken client'); }, (error) => { ends.push(error); });
    await storage.create('services', 'shop/a', object('a'));
    await until(() => ends.length === 1 && healthy.events.length === 1);
    expect(ends[0]?.message).toBe('broken client');
  });

  test('the line of an event is made once and shared by all watchers', async () => {
    const storage = await open();
    const lines = new Set<Buffer>();
    for (let index = 0; index < 10; index++) storage.watch('services', storage.revision, (events) => { for (const event of events) lines.add(event.line()); }, () => {});
    const stored = await storage.create('services', 'shop/a', object('a'));
    await until(() => lines.size > 0);
    expect(lines.size).toBe(1);
    expect(JSON.parse([...lines][0]?.toString() ?? '')).toEqual({ type: 'ADDED', object: stored.object });
  });
});
