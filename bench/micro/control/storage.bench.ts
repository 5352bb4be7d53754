// Micro benchmarks of control/storage: durable writes, reads, lists, fan-out to watchers, opening. The embedded store
// works in a temporary folder, so its figures are those of the disk under the system's temporary directory.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock as clock } from '../../../api/clock.ts';
import { silentLog as log } from '../../../api/log.ts';
import type { KubeObject } from '../../../api/types.ts';
import { LocalStorage } from '../../../control/storage/local.ts';
import { memoryJournal } from '../../../control/storage/memory.ts';
import { sqliteJournal } from '../../../control/storage/sqlite/journal.ts';
import { defaultStorageLimits as limits } from '../../../control/storage/store.ts';
import type { MicroBench } from '../../lib/micro.ts';

const folders: string[] = [];
process.once('exit', () => { for (const folder of folders) rmSync(folder, { recursive: true, force: true }); });

/** A Service of about 800 bytes. */
function service(index: number): KubeObject {
  const name = `svc-${index}`;
  return {
    apiVersion: 'v1', kind: 'Service',
    metadata: { name, namespace: `ns-${index % 20}`, uid: '6f0c6f62-8a57-4f29-9d0f-2f0f7a1d7d11', creationTimestamp: '2026-01-01T00:00:00Z', labels: { app: name, tier: 'web' }, annotations: { 'example.com/note': 'x'.repeat(200) } },
    spec: { selector: { app: name }, ports: [{ name: 'http', protocol: 'TCP', port: 80, targetPort: 8080 }], type: 'ClusterIP', clusterIP: '10.96.1.1', clusterIPs: ['10.96.1.1'], ipFamilies: ['IPv4'], ipFamilyPolicy: 'SingleStack', sessionAffinity: 'None', internalTrafficPolicy: 'Cluster' },
    status: { loadBalancer: {} },
  } as KubeObject;
}

function memory(): LocalStorage { return new LocalStorage({ clock, log, limits, journal: memoryJournal(), isFreezing: false }); }

function sqlite(dataDir: string = newFolder()): LocalStorage {
  return new LocalStorage({ clock, log, limits, journal: sqliteJournal({ dataDir, clock, log, limits }), isFreezing: false });
}

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'netloom-bench-'));
  folders.push(folder);
  return folder;
}

async function fill(storage: LocalStorage, count: number): Promise<void> {
  await Promise.all(Array.from({ length: count }, (_, index) => storage.create('services', `ns-${index % 20}/svc-${index}`, service(index))));
}

/** A store with 10,000 Services, filled at the first call. */
function filled(): () => Promise<LocalStorage> {
  let storage: Promise<LocalStorage> | undefined;
  return () => storage ??= (async () => { const made = memory(); await fill(made, 10_000); return made; })();
}

function writeRow(name: string, make: () => LocalStorage, writers: number): MicroBench {
  return { name: `control/storage ${name}`, isAsync: true, setup: () => {
    const storage = make();
    let next = 0;
    return async () => {
      await Promise.all(Array.from({ length: writers }, () => { const index = next++; return storage.create('services', `ns/svc-${index}`, service(index)); }));
      return writers;
    };
  } };
}

export const benches: MicroBench[] = [
  writeRow('sqlite durable create, 1 writer', sqlite, 1),
  writeRow('sqlite 32 durable creates at once', sqlite, 32),
  writeRow('memory 32 creates at once', memory, 32),
  { name: 'control/storage get of 10,000', isAsync: true, setup: () => {
    const store = filled();
    let next = 0;
    return async () => { const storage = await store(); next = (next + 7919) % 10_000; return storage.get('services', `ns-${next % 20}/svc-${next}`)?.key.length === 0 ? 1 : 0; };
  } },
  { name: 'control/storage list of 10,000 as JSON text', isAsync: true, setup: () => {
    const store = filled();
    return async () => { let bytes = 0; for (const stored of (await store()).list('services').items) bytes += stored.json().length; return bytes; };
  } },
  { name: 'control/storage page of 500 at an older revision', isAsync: true, setup: () => {
    const store = filled();
    return async () => { const storage = await store(); return storage.list('services', { limit: 500, atRevision: storage.revision - 1_000 }).items.length; };
  } },
  { name: 'control/storage one write to 1,000 watchers', isAsync: true, setup: () => {
    const storage = memory();
    let next = 0;
    let bytes = 0;
    for (let index = 0; index < 1_000; index++) storage.watch('services', 0, (events) => { for (const event of events) bytes += event.line().length; }, () => {});
    return async () => { await storage.create('services', `ns/svc-${next}`, service(next++)); return bytes > 0 ? 1_000 : 0; };
  } },
  { name: 'control/storage open with 10,000 objects', isAsync: true, setup: () => {
    const folder = newFolder();
    let ready: Promise<void> | undefined;
    return async () => {
      ready ??= (async () => { const storage = sqlite(folder); await fill(storage, 10_000); await storage.close(); })();
      await ready;
      const storage = sqlite(folder);
      const count = storage.count('services');
      await storage.close();
      return count;
    };
  } },
];
