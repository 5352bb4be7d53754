// Several servers on one etcd: shared state, history across servers, leader election, killed servers.

import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../../api/clock.ts';
import { isConflict } from '../../../api/errors.ts';
import { silentLog } from '../../../api/log.ts';
import type { KubeObject } from '../../../api/types.ts';
import { Election } from '../../../control/storage/election.ts';
import { openStorage } from '../../../control/storage/open.ts';
import { restoreBackup, restoreInto } from '../../../control/storage/sqlite/copies.ts';
import type { Storage, StorageLimits } from '../../../control/storage/store.ts';
import { brief, object, record, temporaryFolder, until } from './drivers.ts';
import { hasEtcd, startEtcd } from './etcd-process.ts';
import type { EtcdMember } from './etcd-process.ts';
import { newLedger, runAndKill, verify } from './kill-loop.ts';

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => { for (const cleanup of cleanups.splice(0).reverse()) await cleanup(); });

async function etcd(count = 1, extraArguments: readonly string[] = []): Promise<EtcdMember[]> {
  const { members, dispose } = await startEtcd(count, extraArguments);
  cleanups.push(dispose);
  return members;
}
async function server(members: readonly { endpoint: string }[], limits: Partial<StorageLimits> = {}): Promise<Storage> {
  const storage = await openStorage({ kind: 'etcd', endpoints: members.map((member) => member.endpoint), clock: systemClock, log: silentLog, limits });
  cleanups.push(() => storage.close());
  return storage;
}

describe.skipIf(!hasEtcd)('etcd store', () => {
  test('two servers show each other\'s writes, and of two updates from one version one wins', async () => {
    const members = await etcd();
    const [one, two] = [await server(members), await server(members)];
    const seen = record(two, 'services', two.revision);
    const created = await one.create('services', 'shop/web', object('web'));
    await until(() => seen.events.length === 1);
    expect(two.get('services', 'shop/web')?.json()).toBe(created.json());
    const results = await Promise.allSettled([one.update('services', 'shop/web', object('web', 1), created.revision), two.update('services', 'shop/web', object('web', 2), created.revision)]);
    expect(results.filter((result) => result.status === 'fulfilled')).toHaveLength(1);
    expect(results.some((result) => result.status === 'rejected' && isConflict(result.reason))).toBe(true);
    await until(() => seen.events.length === 2);
  });

  test('a consistent read on one server sees what another acknowledged just before, also when foreign keys moved the revision', async () => {
    const members = await etcd();
    const [one, two] = [await server(members), await server(members)];
    for (let index = 0; index < 30; index++) {
      const created = await one.create('services', `shop/s${index}`, object(`s${index}`));
      if (index % 10 === 0) await fetch(`${members[0]?.endpoint}/v3/kv/put`, { method: 'POST', body: JSON.stringify({ key: btoa('/foreign'), value: 'eA==' }) });
      const revision = await two.consistentRevision();
      expect(revision).toBeGreaterThanOrEqual(created.revision);
      expect(await two.waitFor(revision, 1_000)).toBe(true);
      expect(two.get('services', `shop/s${index}`)?.revision).toBe(created.revision);
    }
  });

  test('a fresh server knows the history before its start: a watch moves to it without a gap', async () => {
    const members = await etcd();
    const one = await server(members);
    const start = one.revision;
    const seen = record(one, 'services', start);
    for (let index = 0; index < 20; index++) await one.create('services', `shop/s${index}`, object(`s${index}`));
    await one.delete('services', 'shop/s3');
    await until(() => seen.events.length === 21);
    const two = await server(members);
    const moved = record(two, 'services', seen.events[9]?.revision ?? 0);
    await until(() => moved.events.length === 11);
    expect(brief(moved.events)).toEqual(brief(seen.events.slice(10)));
    expect(moved.events.at(-1)?.previous?.json()).toBe(seen.events.at(-1)?.previous?.json());
  });

  test('a backup of etcd opens as an embedded store, and goes back into an empty etcd whole', async () => {
    const folder = temporaryFolder();
    cleanups.push(() => { rmSync(folder, { recursive: true }); return Promise.resolve(); });
    const one = await server(await etcd());
    await Promise.all(Array.from({ length: 250 }, (_, index) => one.create('services', `shop/s${index}`, object(`s${index}`, 'ü'.repeat(index)))));
    const path = join(folder, 'copy.netloom');
    await one.backup(path);
    await expect(restoreInto(one, path)).rejects.toMatchObject({ code: 'AlreadyExists' });
    await restoreBackup(path, join(folder, 'data'));
    const embedded = await openStorage({ kind: 'sqlite', dataDir: join(folder, 'data'), clock: systemClock, log: silentLog });
    expect(embedded.list('services').items.map((item) => item.json())).toEqual(one.list('services').items.map((item) => item.json()));
    await embedded.close();
    const two = await server(await etcd());
    expect(await restoreInto(two, path)).toMatchObject({ objectCount: 250 });
    expect(two.list('services').items.map((item) => spec(item.object))).toEqual(one.list('services').items.map((item) => spec(item.object)));
  });

  test('no etcd at the address: a one-line ConnectFailed; a bad address: ConfigInvalid', async () => {
    await expect(openStorage({ kind: 'etcd', endpoints: ['http://127.0.0.1:1'], clock: systemClock, log: silentLog })).rejects.toMatchObject({ code: 'ConnectFailed' });
    await expect(openStorage({ kind: 'etcd', endpoints: ['etcd:2379'], clock: systemClock, log: silentLog })).rejects.toMatchObject({ code: 'ConfigInvalid' });
  });

  test('kill -9 of the server process in a loop: everything acknowledged is there, history has no hole', { timeout: process.env['NETLOOM_SOAK'] === undefined ? 60_000 : 1_200_000 }, async () => {
    const [member] = await etcd() as [EtcdMember];
    const killCount = process.env['NETLOOM_SOAK'] === undefined ? 5 : 200;
    const ledger = newLedger();
    for (let kill = 0; kill < killCount; kill++) {
      await runAndKill({ kind: 'etcd', place: member.endpoint, ledger, failPoints: undefined, afterMs: 20 + 37 * (kill % 5) });
      const storage = await server([member]);
      await verify(storage, ledger);
      await storage.close();
    }
    expect(ledger.acknowledgedCount).toBeGreaterThan(killCount * 10);
  });

  test('one of three servers leads; when it stops the next takes over at once, when it vanishes after the lease', { timeout: 30_000 }, async () => {
    const members = await etcd();
    const leading: string[] = [];
    const make = async (identity: string): Promise<{ election: Election; storage: Storage }> => {
      const storage = await server(members);
      const election = new Election({ storage, clock: systemClock, log: silentLog, identity, leaseMs: 1_000, onStart: () => leading.push(identity), onStop: () => leading.splice(leading.indexOf(identity), 1) });
      election.start();
      cleanups.push(() => election.stop());
      return { election, storage };
    };
    const all = [await make('a'), await make('b'), await make('c')];
    await until(() => leading.length === 1);
    const first = all.find((one) => one.election.isLeader) as { election: Election; storage: Storage };
    const startMs = systemClock.monotonicMs();
    await first.election.stop();
    await until(() => leading.length === 1);
    expect(systemClock.monotonicMs() - startMs).toBeLessThan(800);
    const second = all.find((one) => one.election.isLeader) as { election: Election; storage: Storage };
    await second.storage.close();
    await until(() => leading.length === 1 && !second.election.isLeader);
    const third = all.find((one) => one.election.isLeader);
    expect(third).toBeDefined();
    expect(third).not.toBe(first);
    expect(third).not.toBe(second);
  });

});

/** An object without its resourceVersion. */
function spec(stored: KubeObject): unknown { return { ...stored, metadata: { ...stored.metadata, resourceVersion: '' } }; }
