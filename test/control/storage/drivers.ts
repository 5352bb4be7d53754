// Opens each store driver in a temporary place for the tests that hold for all of them.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../../api/clock.ts';
import { silentLog } from '../../../api/log.ts';
import type { KubeObject } from '../../../api/types.ts';
import { openStorage } from '../../../control/storage/open.ts';
import type { Storage, StorageLimits, StoredEvent, StoreWatch } from '../../../control/storage/store.ts';

export interface TestDriver {
  kind: 'memory' | 'sqlite' | 'etcd';
  /** Opens the store; a second call after `close()` opens the same data again. */
  open(limits?: Partial<StorageLimits>): Promise<Storage>;
  isDurable: boolean;
  dispose(): Promise<void>;
}

export function memoryDriver(): TestDriver {
  return {
    kind: 'memory', isDurable: false,
    open: (limits = {}) => openStorage({ kind: 'memory', clock: systemClock, log: silentLog, limits, isFreezing: true }),
    dispose: () => Promise.resolve(),
  };
}

export function sqliteDriver(): TestDriver & { dataDir: string } {
  const dataDir = temporaryFolder();
  return {
    kind: 'sqlite', isDurable: true, dataDir,
    open: (limits = {}) => openStorage({ kind: 'sqlite', dataDir, clock: systemClock, log: silentLog, limits, isFreezing: true }),
    dispose: () => { rmSync(dataDir, { recursive: true, force: true }); return Promise.resolve(); },
  };
}

export function temporaryFolder(): string { return mkdtempSync(join(tmpdir(), 'netloom-store-')); }

/** A small object of any kind; `value` makes versions differ. */
export function object(name: string, value: unknown = 0, namespace = 'shop'): KubeObject {
  return { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace, labels: { app: name } }, data: { value: String(value) } } as KubeObject;
}

export interface Recorder { events: StoredEvent[]; batches: number; ends: (Error | undefined)[]; watch: StoreWatch }

/** Watches and records everything. */
export function record(storage: Storage, resource: string, from: number, prefix?: string): Recorder {
  const recorder = { events: [], batches: 0, ends: [] } as unknown as Recorder;
  recorder.watch = storage.watch(resource, from, (events) => { recorder.events.push(...events); recorder.batches += 1; }, (error) => { recorder.ends.push(error); }, { prefix });
  return recorder;
}

/** Resolves once the condition holds, checked each turn of the event loop; fails after five seconds. */
export async function until(condition: () => boolean, what = 'condition'): Promise<void> {
  const startMs = systemClock.monotonicMs();
  while (!condition()) {
    if (systemClock.monotonicMs() - startMs > 5_000) throw new Error(`not reached in time: ${what}`);
    await new Promise((resolve) => { setImmediate(resolve); });
  }
}

/** Short form of events for comparisons. */
export function brief(events: readonly StoredEvent[]): string[] {
  return events.map((event) => `${event.type} ${event.key}@${event.revision}`);
}

/** Which steps of a writer in kill-child.ts delete its object. */
export function isDeletion(writer: number, step: number): boolean { return (step + writer) % 7 === 6; }
