// A process that is made to be killed: 20 writers create, update and delete their own object for ever and print each
// acknowledged step and each revision that a watcher saw. Step n of writer w is a deletion when (n + w) % 7 is 6, else the object holds the value n.
// KILL_START_STEPS says where each writer goes on. Started by kill.test.ts: node kill-child.ts sqlite DIR | etcd ENDPOINT.

import { writeSync } from 'node:fs';
import { systemClock } from '../../../api/clock.ts';
import { silentLog } from '../../../api/log.ts';
import type { KubeObject } from '../../../api/types.ts';
import { openStorage } from '../../../control/storage/open.ts';
import type { Storage } from '../../../control/storage/store.ts';
import { isDeletion, object } from './drivers.ts';

const startSteps = (process.env['KILL_START_STEPS'] ?? '').split(',').map(Number);
const [kind, place] = process.argv.slice(2) as ['sqlite' | 'etcd', string];
const storage = await openStorage({ kind, clock: systemClock, log: silentLog, ...(kind === 'sqlite' ? { dataDir: place } : { endpoints: [place] }) });
storage.watch('services', storage.revision, (events) => { writeSync(1, `seen ${events.at(-1)?.revision}\n`); }, () => {});
writeSync(1, 'ready\n');
for (let writer = 0; writer < 20; writer++) void work(storage, writer);
if (kind === 'sqlite') setImmediate(function compactAgain() { void storage.compact({ ageMs: 0, countPerKind: 500 }).then(() => setImmediate(compactAgain)); });

async function work(store: Storage, writer: number): Promise<void> {
  const key = `shop/w${writer}`;
  for (let step = startSteps[writer] ?? 0; ; step++) {
    const done = isDeletion(writer, step) ? await store.delete('services', key) : await write(store, key, value(writer, step));
    writeSync(1, `${writer} ${step} ${done.revision}\n`);
  }
}

function value(writer: number, step: number): KubeObject { return object(`w${writer}`, step); }

function write(store: Storage, key: string, made: KubeObject): ReturnType<Storage['create']> {
  const present = store.get('services', key);
  return present === undefined ? store.create('services', key, made) : store.update('services', key, made, present.revision);
}
