// Linearizability with revisions as witnesses: 10 clients mix reads, creates, updates and deletes on few keys; the order
// of revisions must agree with the order in real time, every write must hold against the state before it, and every
// consistent read must show the state at its revision. On etcd through two servers while the connections break.

import { afterAll, describe, expect, test } from 'vitest';
import { systemClock } from '../../../api/clock.ts';
import { hasCode } from '../../../api/errors.ts';
import { silentLog } from '../../../api/log.ts';
import { openStorage } from '../../../control/storage/open.ts';
import type { Storage, StoredEvent } from '../../../control/storage/store.ts';
import { memoryDriver, object, record, sqliteDriver, until } from './drivers.ts';
import { disposeEtcd, hasEtcd, startEtcd } from './etcd-process.ts';
import { Relay } from './relay.ts';

interface Operation { kind: 'create' | 'update' | 'delete' | 'read'; key: string; startMs: number; endMs: number; revision: number; expected?: number; value?: string | undefined }

const clientCount = 10;
const isSoak = process.env['NETLOOM_SOAK'] !== undefined;
const roundCount = isSoak ? 1_000 : 60;

/** One client's operations; refused writes (conflicts and the like) leave no trace in the state and are left out. */
async function client(storage: Storage, seed: number, log: Operation[]): Promise<void> {
  for (let round = 0; round < roundCount; round++) {
    const dice = (seed * 7919 + round * 104_729) % 10;
    const key = `shop/k${(seed + round * 3) % 4}`;
    const value = `${seed}-${round}`;
    const present = storage.get('services', key);
    const startMs = systemClock.monotonicMs();
    const done = (kind: Operation['kind'], revision: number, more: Partial<Operation> = {}): void => { log.push({ kind, key, startMs, endMs: systemClock.monotonicMs(), revision, ...more }); };
    try {
      if (dice < 3) {
        const asked = await storage.consistentRevision();
        expect(await storage.waitFor(asked, 5_000)).toBe(true);
        done('read', storage.revision, { value: valueOf(storage.get('services', key)?.object) });
      } else if (present === undefined) done('create', (await storage.create('services', key, object(key.slice(5), value))).revision, { value });
      else if (dice < 8) done('update', (await storage.update('services', key, object(key.slice(5), value), present.revision)).revision, { expected: present.revision, value });
      else done('delete', (await storage.delete('services', key, present.revision)).revision, { expected: present.revision });
    } catch (error) {
      if (!hasCode(error, 'Conflict') && !hasCode(error, 'AlreadyExists') && !hasCode(error, 'NotFound')) throw error;
    }
  }
}

function valueOf(found: unknown): string | undefined { return (found as { data?: { value: string } } | undefined)?.data?.value; }

/** Replays the operations by revision and checks each against the state and against real time. */
function check(operations: Operation[], events: readonly StoredEvent[], start: number): void {
  // Two clients that delete the same version at once may both be told so when an answer was lost on the way.
  const writes = operations.filter((one) => one.kind !== 'read').sort((a, b) => a.revision - b.revision)
    .filter((one, index, all) => one.kind !== 'delete' || one.revision !== all[index - 1]?.revision);
  expect(events.map((event) => event.revision)).toEqual(writes.map((one) => one.revision));
  const states = new Map<string, { revision: number; value: string | undefined }[]>();
  const at = (key: string, revision: number): { revision: number; value: string | undefined } => states.get(key)?.findLast((state) => state.revision <= revision) ?? { revision: start, value: undefined };
  for (const write of writes) {
    const before = at(write.key, write.revision - 1);
    if (write.kind === 'create') expect(before.value).toBeUndefined();
    else expect(before.revision).toBe(write.expected);
    let versions = states.get(write.key);
    if (versions === undefined) states.set(write.key, versions = []);
    versions.push({ revision: write.revision, value: write.kind === 'delete' ? undefined : write.value });
  }
  for (const read of operations) if (read.kind === 'read') expect(read.value, `read of ${read.key} at ${read.revision}`).toBe(at(read.key, read.revision).value);
  // What ended before another began must not come after it.
  const byStart = [...operations].sort((a, b) => a.startMs - b.startMs);
  const byEnd = [...operations].sort((a, b) => a.endMs - b.endMs);
  let highest = 0;
  let ended = 0;
  for (const operation of byStart) {
    while ((byEnd[ended] as Operation).endMs < operation.startMs) highest = Math.max(highest, (byEnd[ended++] as Operation).revision);
    if (operation.kind === 'read') expect(operation.revision).toBeGreaterThanOrEqual(highest);
    else if (operation.kind !== 'delete') expect(operation.revision).toBeGreaterThan(highest);
  }
}

async function run(servers: readonly Storage[]): Promise<void> {
  const start = (servers[0] as Storage).revision;
  const seen = record(servers[0] as Storage, 'services', start);
  const operations: Operation[] = [];
  await Promise.all(Array.from({ length: clientCount }, (_, index) => client(servers[index % servers.length] as Storage, index + 1, operations)));
  const last = Math.max(...operations.map((one) => one.revision));
  await until(() => seen.watch.revision >= last);
  check(operations, seen.events, start);
  expect(seen.events.length).toBeGreaterThan(roundCount);
}

afterAll(disposeEtcd);

describe('linearizable', () => {
  test.each([['memory', memoryDriver], ['sqlite', sqliteDriver]])('%s store', async (_name, makeDriver) => {
    const driver = makeDriver();
    const storage = await driver.open();
    await run([storage]);
    await storage.close();
    await driver.dispose();
  });

  test.skipIf(!hasEtcd)('two servers on one etcd whose connections break now and then', async () => {
    const { members, dispose } = await startEtcd();
    const relay = await new Relay(members[0]?.endpoint ?? '').start();
    const servers = await Promise.all([members[0]?.endpoint ?? '', relay.endpoint].map((endpoint) => openStorage({ kind: 'etcd', endpoints: [endpoint], clock: systemClock, log: silentLog })));
    let cuts = 0;
    // Long enough for one message of the watch, which etcd sends whole when it catches up.
    relay.bytesUntilCut = () => 5_000 + (cuts++ * 7919) % (isSoak ? 2_000_000 : 50_000);
    relay.cutOnce();
    try {
      await run(servers);
      expect(cuts).toBeGreaterThan(3);
    } finally {
      for (const storage of servers) await storage.close();
      await relay.stop();
      await dispose();
    }
  });
});
