// Watches of the server's own caches, trimming without being asked, clock jumps, small helpers of the store.

import { describe, expect, test } from 'vitest';
import { systemClock } from '../../../api/clock.ts';
import type { Clock } from '../../../api/clock.ts';
import { silentLog } from '../../../api/log.ts';
import type { KubeObject } from '../../../api/types.ts';
import { Election } from '../../../control/storage/election.ts';
import { decodeValue, encodeValue } from '../../../control/storage/etcd/codec.ts';
import { follow } from '../../../control/storage/follow.ts';
import { openStorage } from '../../../control/storage/open.ts';
import { isNoopWrite, isSameJson } from '../../../control/storage/stored.ts';
import type { StoredEvent } from '../../../control/storage/store.ts';
import { memoryDriver, object, record, sqliteDriver, until } from './drivers.ts';

describe('follow', () => {
  test('goes on after the watch fell behind, telling of the gap by an empty batch', async () => {
    const storage = await memoryDriver().open({ historyAgeMs: 0, historyCountMin: 2, watchBatchMax: 2 });
    const batches: (readonly StoredEvent[])[] = [];
    const first = follow(storage, 'services', (events) => {
      batches.push(events);
      if (batches.length === 1) throw new Error('a cache that stumbles once');
    });
    await storage.create('services', 'shop/a', object('a'));
    await until(() => batches.length === 2);
    await storage.create('services', 'shop/b', object('b'));
    await until(() => batches.length === 3);
    expect(batches.map((batch) => batch.map((event) => event.key))).toEqual([['shop/a'], [], ['shop/b']]);
    first.stop();
    await storage.create('services', 'shop/c', object('c'));
    await storage.close();
    expect(batches).toHaveLength(3);
  });
});

describe('history on disk', () => {
  test('is trimmed without being asked once enough was written', async () => {
    const driver = sqliteDriver();
    const storage = await driver.open({ historyAgeMs: 0, historyCountMin: 100, historyCountMax: 100 });
    await storage.create('leases', 'a/b', object('b'));
    for (let round = 0; round < 6; round++) await Promise.all(Array.from({ length: 1_000 }, () => storage.update('leases', 'a/b', object('b', round))));
    await until(() => (storage.stats().kinds['leases']?.floorRevision ?? 0) > 4_000);
    await storage.close();
    await driver.dispose();
  });

  test('a wall clock that jumps a year ahead and back costs no event that the count protects', async () => {
    const driver = sqliteDriver();
    let offsetMs = 0;
    const clock: Clock = { ...systemClock, nowMs: () => systemClock.nowMs() + offsetMs };
    const storage = await openStorage({ kind: 'sqlite', dataDir: driver.dataDir, clock, log: silentLog, limits: { historyCountMin: 20, memoryHistoryCount: 5 } });
    for (let index = 0; index < 15; index++) {
      offsetMs = index % 2 === 0 ? 400 * 86_400_000 : -3_600_000;
      await storage.create('services', `shop/s${index}`, object(`s${index}`));
    }
    await storage.compact();
    const seen = record(storage, 'services', 0);
    await until(() => seen.events.length === 15);
    await storage.close();
    await driver.dispose();
  });
});

describe('election', () => {
  test('the one server of an embedded store leads at once and writes no Lease', async () => {
    const storage = await memoryDriver().open();
    const calls: string[] = [];
    const election = new Election({ storage, clock: systemClock, log: silentLog, identity: 'only', onStart: () => calls.push('start'), onStop: () => calls.push('stop') });
    election.start();
    expect(calls).toEqual(['start']);
    await election.stop();
    expect(calls).toEqual(['start', 'stop']);
    expect(storage.revision).toBe(0);
    await storage.close();
  });
});

describe('versions', () => {
  test('a write that changes nothing but resourceVersion or key order is recognised', async () => {
    const storage = await memoryDriver().open();
    const stored = await storage.create('services', 'shop/a', object('a', 1));
    expect(isNoopWrite(stored, object('a', 1))).toBe(true);
    expect(isNoopWrite(stored, { ...object('a', 1), metadata: { ...object('a', 1).metadata, resourceVersion: '77' } })).toBe(true);
    expect(isNoopWrite(stored, object('a', 2))).toBe(false);
    expect(isNoopWrite(stored, { ...object('a', 1), metadata: { name: 'a', namespace: 'shop' } })).toBe(false);
    expect(isSameJson({ a: [1, { b: undefined }], c: null }, { c: null, a: [1, {}] })).toBe(true);
    expect(isSameJson({ a: [] }, { a: {} })).toBe(false);
    expect(isSameJson({ a: 1, b: 2 }, { a: 1 })).toBe(false);
    await storage.close();
  });

  test('objects survive the way through etcd\'s form whatever their key order and content', () => {
    const tricky: KubeObject[] = [
      object('a', '"metadata":{"resourceVersion":"9"'),
      { metadata: { name: 'b', annotations: { note: 'ü "metadata":{ 💡' } }, kind: 'X', apiVersion: 'v1' },
      { data: { metadata: { resourceVersion: '5' } }, metadata: { name: 'c', resourceVersion: '3' } } as unknown as KubeObject,
      { apiVersion: 'a"b/v1', kind: 'K\\', metadata: { name: 'd' } },
      { spec: { template: { metadata: { labels: { a: 'b' } } } }, metadata: { name: 'e' } } as unknown as KubeObject,
    ];
    for (const one of tricky) {
      const back = decodeValue('k', 42, encodeValue(one));
      expect(back.object).toEqual({ ...one, metadata: { ...one.metadata, resourceVersion: '42' } });
      expect(JSON.parse(back.json())).toEqual(back.object);
    }
    expect(decodeValue('k', 7, Buffer.from(JSON.stringify(tricky[4]))).object.metadata.resourceVersion).toBe('7');
  });
});
