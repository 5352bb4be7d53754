// etcd in trouble: killed members, lost leaders, broken connections, compaction during a cut, full quota, silent members.

import { afterEach, describe, expect, test } from 'vitest';
import { sleep, systemClock } from '../../../api/clock.ts';
import { silentLog } from '../../../api/log.ts';
import { openStorage } from '../../../control/storage/open.ts';
import type { Storage, StorageLimits } from '../../../control/storage/store.ts';
import { brief, object, record, until } from './drivers.ts';
import { hasEtcd, startEtcd } from './etcd-process.ts';
import type { EtcdMember } from './etcd-process.ts';
import { Relay } from './relay.ts';

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
  test('a member that is killed and comes back costs no event and no acknowledged write', async () => {
    const members = await etcd();
    const storage = await server(members);
    const seen = record(storage, 'services', storage.revision);
    const acknowledged: number[] = [];
    const writing = writeMany(storage, 40, 10, acknowledged);
    await until(() => acknowledged.length > 50);
    await members[0]?.stop();
    members[0]?.start();
    await writing;
    await until(() => seen.events.length === 400);
    expect(seen.events.map((event) => event.revision)).toEqual(acknowledged.sort((a, b) => a - b));
    expect(seen.ends).toEqual([]);
  });

  test('the loss of the leader of three members loses no acknowledged write and no event on any server', { timeout: 40_000 }, async () => {
    const members = await etcd(3);
    const servers = [await server([members[0], members[1], members[2]] as EtcdMember[]), await server([members[1], members[2], members[0]] as EtcdMember[])];
    const records = servers.map((storage) => record(storage, 'services', storage.revision));
    const acknowledged: number[] = [];
    const writing = Promise.all(servers.map((storage, index) => writeMany(storage, 15, 12, acknowledged, `s${index}-`)));
    await until(() => acknowledged.length > 30);
    const leader = members[(await Promise.all(members.map((member) => member.status()))).findIndex((status) => status.isLeader)] as EtcdMember;
    await leader.stop();
    await writing;
    const last = Math.max(...await Promise.all(servers.map((storage) => storage.consistentRevision())));
    for (const storage of servers) expect(await storage.waitFor(last, 5_000)).toBe(true);
    await until(() => records.every((one) => one.events.length === 360));
    expect(brief(records[0]?.events ?? [])).toEqual(brief(records[1]?.events ?? []));
    expect(records[0]?.events.map((event) => event.revision)).toEqual(acknowledged.sort((a, b) => a - b));
  });

  test('a server that was cut off while etcd compacted ends its watches with Expired and shows the new state', async () => {
    const members = await etcd();
    const relay = await new Relay(members[0]?.endpoint ?? '').start();
    cleanups.push(() => relay.stop());
    const [one, two] = [await server(members), await server([relay])];
    await one.create('services', 'shop/a', object('a'));
    await until(() => two.get('services', 'shop/a') !== undefined);
    const seen = record(two, 'services', two.revision);
    relay.cut();
    await one.update('services', 'shop/a', object('a', 1));
    await one.create('services', 'shop/b', object('b'));
    await one.compact({ ageMs: 0 });
    relay.restore();
    await until(() => seen.ends.length === 1);
    expect(seen.ends[0]).toMatchObject({ code: 'Expired' });
    expect(two.list('services').items.map((item) => item.json())).toEqual(one.list('services').items.map((item) => item.json()));
    const again = record(two, 'services', two.revision);
    await one.create('services', 'shop/c', object('c'));
    await until(() => again.events.length === 1);
  });

  test('writes and watches over connections that break at random bytes: nothing lost, repeated or out of order', { timeout: 40_000 }, async () => {
    const members = await etcd();
    const relay = await new Relay(members[0]?.endpoint ?? '').start();
    cleanups.push(() => relay.stop());
    const direct = await server(members);
    const relayed = await server([relay]);
    const truth = record(direct, 'services', direct.revision);
    const seen = record(relayed, 'services', relayed.revision);
    let cuts = 0;
    relay.bytesUntilCut = () => 2_000 + (cuts++ * 7919) % 20_000;
    relay.cutOnce();
    const acknowledged: number[] = [];
    await writeMany(relayed, 10, 30, acknowledged);
    relay.bytesUntilCut = () => Infinity;
    relay.cutOnce();
    await until(() => truth.events.length === 300 && seen.events.length === 300);
    expect(brief(seen.events)).toEqual(brief(truth.events));
    expect(seen.events.map((event) => event.revision)).toEqual(acknowledged.sort((a, b) => a - b));
    expect(cuts).toBeGreaterThan(10);
  });

  test('an etcd that comes back empty is noticed: watches end with Expired, the new state is served', { timeout: 30_000 }, async () => {
    const members = await etcd();
    const storage = await server(members);
    for (let index = 0; index < 10; index++) await storage.create('services', `shop/s${index}`, object(`s${index}`));
    const seen = record(storage, 'services', storage.revision);
    await members[0]?.stop();
    members[0]?.wipe();
    members[0]?.start();
    await members[0]?.whenReady();
    const startMs = systemClock.monotonicMs();
    while (seen.ends.length === 0 && systemClock.monotonicMs() - startMs < 15_000) await sleep(systemClock, 50);
    expect(seen.ends[0]).toMatchObject({ code: 'Expired' });
    expect(storage.count('services')).toBe(0);
    const again = record(storage, 'services', storage.revision);
    await storage.create('services', 'shop/new', object('new'));
    await until(() => again.events.length === 1);
  });

  test('a full quota is InsufficientStorage, reads and watches go on', async () => {
    const members = await etcd(1, ['--quota-backend-bytes', String(1 << 20)]);
    const storage = await server(members);
    let failure: unknown;
    for (let index = 0; index < 60 && failure === undefined; index++) {
      await storage.create('services', `shop/s${index}`, object(`s${index}`, 'x'.repeat(100_000))).catch((error: unknown) => { failure = error; });
    }
    expect(failure).toMatchObject({ code: 'InsufficientStorage' });
    expect(storage.stats().isWritable).toBe(false);
    expect(storage.list('services').items.length).toBeGreaterThan(0);
  });

  test('a member that falls silent is left for another', { timeout: 40_000 }, async () => {
    const members = await etcd(3);
    const followers: EtcdMember[] = [];
    for (const member of members) if (!(await member.status()).isLeader) followers.push(member);
    const silent = followers[0] as EtcdMember;
    const others = members.filter((member) => member !== silent);
    const storage = await server([silent, ...others]);
    const writer = await server(others);
    const seen = record(storage, 'services', storage.revision);
    silent.signal('SIGSTOP');
    cleanups.push(() => { silent.signal('SIGCONT'); return Promise.resolve(); });
    await writer.create('services', 'shop/a', object('a'));
    const startMs = systemClock.monotonicMs();
    while (seen.events.length === 0 && systemClock.monotonicMs() - startMs < 25_000) await sleep(systemClock, 50);
    expect(brief(seen.events)).toHaveLength(1);
    expect((await storage.create('services', 'shop/b', object('b'))).key).toBe('shop/b');
  });
});

/** `writers` concurrent writers create `rounds` objects each; their revisions go to `acknowledged`. */
async function writeMany(storage: Storage, writers: number, rounds: number, acknowledged: number[], prefix = ''): Promise<void> {
  await Promise.all(Array.from({ length: writers }, async (_, writer) => {
    for (let round = 0; round < rounds; round++) {
      const name = `${prefix}w${writer}-${round}`;
      acknowledged.push((await storage.create('services', `shop/${name}`, object(name))).revision);
    }
  }));
}
