// The rules that every store driver keeps: revisions, conflicts, lists, watches, atomic commits.

import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { hasCode } from '../../../api/errors.ts';
import type { Storage } from '../../../control/storage/store.ts';
import { brief, object, record, until } from './drivers.ts';
import type { TestDriver } from './drivers.ts';
import { allDrivers, disposeEtcd } from './etcd-process.ts';

afterAll(disposeEtcd);

describe.each(allDrivers)('%s store', (_name, makeDriver) => {
  let driver: TestDriver;
  let storage: Storage;
  beforeEach(async () => { driver = await makeDriver(); storage = await driver.open(); });
  afterEach(async () => { await storage.close(); await driver.dispose(); });

  test('a created object is read back with its revision as resourceVersion, the given object is untouched', async () => {
    const given = object('a');
    const stored = await storage.create('configmaps', 'shop/a', given);
    expect(stored.object.metadata.resourceVersion).toBe(String(stored.revision));
    expect(given.metadata.resourceVersion).toBeUndefined();
    expect(storage.get('configmaps', 'shop/a')?.object).toEqual(stored.object);
    expect(JSON.parse(stored.json())).toEqual(stored.object);
    expect(storage.revision).toBe(stored.revision);
  });

  test('two creates of one name: one succeeds, one fails with AlreadyExists', async () => {
    const results = await Promise.allSettled([storage.create('configmaps', 'shop/a', object('a', 1)), storage.create('configmaps', 'shop/a', object('a', 2))]);
    expect(results.map((result) => result.status).sort()).toEqual(['fulfilled', 'rejected']);
    const refused = results.find((result) => result.status === 'rejected') as PromiseRejectedResult;
    expect(hasCode(refused.reason, 'AlreadyExists')).toBe(true);
  });

  test('update and delete with a stale revision fail with Conflict, without a present object with NotFound', async () => {
    const first = await storage.create('configmaps', 'shop/a', object('a'));
    const second = await storage.update('configmaps', 'shop/a', object('a', 2), first.revision);
    expect(second.revision).toBeGreaterThan(first.revision);
    await expect(storage.update('configmaps', 'shop/a', object('a', 3), first.revision)).rejects.toMatchObject({ code: 'Conflict' });
    await expect(storage.delete('configmaps', 'shop/a', first.revision)).rejects.toMatchObject({ code: 'Conflict' });
    await expect(storage.update('configmaps', 'shop/b', object('b'), 1)).rejects.toMatchObject({ code: 'NotFound' });
    await expect(storage.delete('configmaps', 'shop/b')).rejects.toMatchObject({ code: 'NotFound' });
    expect(storage.revision).toBe(second.revision);
  });

  test('a deletion takes a revision of its own and its event carries the last state with it', async () => {
    const created = await storage.create('configmaps', 'shop/a', object('a', 'last'));
    const seen = record(storage, 'configmaps', created.revision);
    const gone = await storage.delete('configmaps', 'shop/a', created.revision);
    await until(() => seen.events.length === 1);
    expect(brief(seen.events)).toEqual([`DELETED shop/a@${gone.revision}`]);
    expect(seen.events[0]?.object.object).toMatchObject({ data: { value: 'last' }, metadata: { resourceVersion: String(gone.revision) } });
    expect(seen.events[0]?.previous?.revision).toBe(created.revision);
    expect(storage.get('configmaps', 'shop/a')).toBeUndefined();
  });

  test('lists are sorted by key, paged, and later pages show the state of the first', async () => {
    for (const name of ['d', 'b', 'a', 'c', 'e']) await storage.create('configmaps', `shop/${name}`, object(name));
    await storage.create('configmaps', 'other/x', object('x', 0, 'other'));
    const all = storage.list('configmaps');
    expect(all.items.map((item) => item.key)).toEqual(['other/x', 'shop/a', 'shop/b', 'shop/c', 'shop/d', 'shop/e']);
    expect(all.revision).toBe(storage.revision);
    const first = storage.list('configmaps', { prefix: 'shop/', limit: 2 });
    expect(first).toMatchObject({ nextKey: 'shop/b', remaining: 3 });
    await storage.delete('configmaps', 'shop/d');
    await storage.create('configmaps', 'shop/cc', object('cc'));
    const changed = storage.get('configmaps', 'shop/c');
    await storage.update('configmaps', 'shop/c', object('c', 'new'), changed?.revision);
    const rest = storage.list('configmaps', { prefix: 'shop/', continueKey: first.nextKey, atRevision: first.revision });
    expect(rest.items.map((item) => `${item.key}@${item.revision}`)).toEqual(all.items.slice(3).map((item) => `${item.key}@${item.revision}`));
    expect(rest.nextKey).toBeUndefined();
  });

  test('a transaction is all or nothing and takes one revision', async () => {
    await storage.create('configmaps', 'shop/a', object('a'));
    const before = storage.revision;
    await expect(storage.commit([
      { verb: 'create', resource: 'services', key: 'shop/web', object: object('web') },
      { verb: 'create', resource: 'configmaps', key: 'shop/a', object: object('a') },
    ])).rejects.toMatchObject({ code: 'AlreadyExists' });
    expect(storage.get('services', 'shop/web')).toBeUndefined();
    const stored = await storage.commit([
      { verb: 'create', resource: 'services', key: 'shop/web', object: object('web') },
      { verb: 'delete', resource: 'configmaps', key: 'shop/a' },
    ]);
    expect(new Set(stored.map((one) => one.revision)).size).toBe(1);
    expect(stored[0]?.revision).toBeGreaterThan(before);
    expect(storage.count('configmaps')).toBe(0);
  });

  test('64 writers at once: every write has its own revision and the watch shows them all in order', async () => {
    const seen = record(storage, 'configmaps', storage.revision);
    const written = await Promise.all(Array.from({ length: 64 }, async (_, writer) => {
      const revisions: number[] = [];
      for (let round = 0; round < 5; round++) revisions.push((await storage.create('configmaps', `shop/w${writer}-${round}`, object(`w${writer}-${round}`))).revision);
      return revisions;
    }));
    const revisions = written.flat().sort((a, b) => a - b);
    expect(new Set(revisions).size).toBe(320);
    await until(() => seen.events.length === 320);
    expect(seen.events.map((event) => event.revision)).toEqual(revisions);
  });

  test('a watch for one namespace or one object sees only that', async () => {
    const start = storage.revision;
    const inShop = record(storage, 'configmaps', start, 'shop/');
    const onlyA = record(storage, 'configmaps', start, 'shop/a');
    await storage.create('configmaps', 'shop/a', object('a'));
    await storage.create('configmaps', 'other/a', object('a', 0, 'other'));
    await storage.create('configmaps', 'shop/b', object('b'));
    await storage.create('services', 'shop/a', object('a'));
    await until(() => inShop.events.length === 2 && onlyA.events.length === 1);
    const late = record(storage, 'configmaps', start, 'shop/a');
    await until(() => late.events.length === 1);
    expect(inShop.events.map((event) => event.key)).toEqual(['shop/a', 'shop/b']);
    expect(late.events.map((event) => event.key)).toEqual(['shop/a']);
  });

  test('waitFor resolves once the revision is reached and gives up after its time', async () => {
    const reached = storage.waitFor(storage.revision + 1, 5_000);
    const notReached = storage.waitFor(storage.revision + 100, 20);
    await storage.create('configmaps', 'shop/a', object('a'));
    expect(await reached).toBe(true);
    expect(await notReached).toBe(false);
  });

  test('close ends watches without error and refuses writes with StoreClosed', async () => {
    const seen = record(storage, 'configmaps', storage.revision);
    await storage.close();
    expect(seen.ends).toEqual([undefined]);
    await expect(storage.create('configmaps', 'shop/a', object('a'))).rejects.toMatchObject({ code: 'StoreClosed' });
  });
});
