// Kills a writing process at random moments and compares what the store then holds with what was acknowledged.
// Used by kill.test.ts for the embedded store and by etcd tests for several servers on one etcd.

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { expect } from 'vitest';
import { systemClock } from '../../../api/clock.ts';
import type { Storage } from '../../../control/storage/store.ts';
import { isDeletion, record, until } from './drivers.ts';

export const writerCount = 20;

/**
 * What was acknowledged so far: the last step of each writer (-1: none) and the highest
 * revision that a writer was told or a watcher shown. A first step that deletes counts as done.
 */
export interface Ledger { steps: number[]; revision: number; acknowledgedCount: number }
export function newLedger(): Ledger { return { steps: Array.from({ length: writerCount }, (_, writer) => isDeletion(writer, 0) ? 0 : -1), revision: 0, acknowledgedCount: 0 }; }

export interface Kill { kind: 'sqlite' | 'etcd'; place: string; ledger: Ledger; failPoints: string | undefined; afterMs: number }

/** Runs the child until it dies by its fail point or by our SIGKILL; the ledger takes up what it printed. */
export async function runAndKill({ kind, place, ledger, failPoints, afterMs }: Kill): Promise<void> {
  const child = spawn(process.execPath, [new URL('./kill-child.ts', import.meta.url).pathname, kind, place], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, KILL_START_STEPS: ledger.steps.map((step) => step + 1).join(','), ...(failPoints === undefined ? {} : { NETLOOM_FAIL: failPoints }) },
  });
  const before = ledger.revision;
  const lines = createInterface({ input: child.stdout });
  lines.on('line', (line) => {
    if (line === 'ready') return void systemClock.after(afterMs, () => child.kill('SIGKILL'), true);
    if (line.startsWith('seen ')) return void (ledger.revision = Math.max(ledger.revision, Number(line.slice(5))));
    const [writer, step, revision] = line.split(' ').map(Number) as [number, number, number];
    expect(step).toBe((ledger.steps[writer] as number) + 1);
    expect(revision).toBeGreaterThan(before);
    ledger.steps[writer] = step;
    ledger.revision = Math.max(ledger.revision, revision);
    ledger.acknowledgedCount += 1;
  });
  const read = new Promise((resolve) => { lines.once('close', resolve); });
  const [, signal] = await new Promise<[number | null, string | null]>((resolve) => { child.once('close', (code, by) => resolve([code, by])); });
  await read;
  expect(signal).toBe('SIGKILL');
}

/** Everything acknowledged is there; what was not is there whole or not at all; history has no hole. Updates the ledger. */
export async function verify(storage: Storage, ledger: Ledger): Promise<void> {
  expect(storage.revision).toBeGreaterThanOrEqual(ledger.revision);
  for (let writer = 0; writer < writerCount; writer++) {
    const acknowledged = ledger.steps[writer] as number;
    const present = storage.get('services', `shop/w${writer}`);
    const found = present === undefined ? absentStep(writer, acknowledged) : Number((present.object as unknown as { data: { value: string } }).data.value);
    expect([acknowledged, acknowledged + 1], `writer ${writer} holds step ${found}`).toContain(found);
    ledger.steps[writer] = found;
  }
  await verifyHistory(storage, ledger);
}

/** The step that left nothing behind: the acknowledged one or the one after it. */
function absentStep(writer: number, acknowledged: number): number {
  if (acknowledged === -1 || isDeletion(writer, acknowledged)) return acknowledged;
  return isDeletion(writer, acknowledged + 1) ? acknowledged + 1 : NaN;
}

async function verifyHistory(storage: Storage, ledger: Ledger): Promise<void> {
  // Asked for first, so that the kind exists even when every writer had just deleted its object.
  storage.list('services');
  const floor = storage.stats().kinds['services']?.floorRevision ?? 0;
  const seen = record(storage, 'services', floor);
  await until(() => seen.watch.revision === storage.revision);
  seen.watch.stop();
  const last = new Map<string, number>();
  let revision = floor;
  for (const event of seen.events) {
    expect(event.revision).toBeGreaterThan(revision);
    revision = event.revision;
    const before = last.get(event.key);
    const value = Number((event.object.object as unknown as { data: { value: string } }).data.value);
    const step = event.type === 'DELETED' ? value + 1 : value;
    if (before !== undefined) expect(step).toBe(before + 1);
    last.set(event.key, step);
  }
  for (const [key, step] of last) expect(step).toBe(ledger.steps[Number(key.slice('shop/w'.length))]);
}
