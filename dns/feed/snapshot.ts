// The last served state on disk, so that a server that starts while the control plane is away answers from it (marked
// stale) instead of not at all. One JSON line per Service; written beside, synced, renamed; a file without its closing
// line is not used. Writing is spread over turns of the loop and over time, so that a large state costs no pause.
// Called by dns/server.ts.

import { mkdir, open, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock, TimerHandle } from '../../api/clock.ts';
import type { Log } from '../../api/log.ts';
import type { ServiceRecords } from '../zone/records.ts';

export interface Snapshot {
  readonly clusterDomain: string;
  /** Wall time of writing. */
  readonly savedMs: number;
  readonly serial: number;
  readonly namespaces: readonly string[];
  readonly services: readonly ServiceRecords[];
  readonly pods: readonly (readonly [string, string, readonly string[]])[];
}

export interface SnapshotSource { readonly serial: number; readonly isSynced: boolean; namespaceNames(): string[]; records(): Iterable<ServiceRecords>; podRecords(): (readonly [string, string, readonly string[]])[] }

const fileName = 'dns-state.ndjson';
const format = 'netloom-dns-state/1';
const linesPerTurn = 200;
const writeDelayMsMin = 1_000;
/** A write may take at most this share of the time. */
const dutyShare = 1 / 30;

/** The snapshot of `dataDir` when it is whole and of this domain. */
export async function readSnapshot(dataDir: string, clusterDomain: string): Promise<Snapshot | undefined> {
  let text: string;
  try { text = await readFile(join(dataDir, fileName), 'utf8'); } catch { return undefined; }
  try {
    const lines = text.split('\n');
    const head = JSON.parse(lines[0] ?? '') as { format: string } & Snapshot;
    const end = JSON.parse(lines.at(-2) ?? '') as { end: number };
    if (head.format !== format || head.clusterDomain !== clusterDomain || end.end !== lines.length - 3) return undefined;
    const services = lines.slice(1, -2).map((line) => JSON.parse(line) as ServiceRecords);
    return { clusterDomain, savedMs: head.savedMs, serial: head.serial, namespaces: head.namespaces, pods: head.pods, services };
  } catch {
    return undefined;
  }
}

/** Writes after changes, not more often than a thirtieth of the time. */
export class SnapshotWriter {
  readonly #dataDir: string;
  readonly #clusterDomain: string;
  readonly #source: SnapshotSource;
  readonly #clock: Clock;
  readonly #log: Log;
  #timer: TimerHandle | undefined;
  #writing: Promise<void> | undefined;
  #isDirty = false;
  #lastDurationMs = 0;
  #isStopped = false;

  constructor(options: { dataDir: string; clusterDomain: string; source: SnapshotSource; clock: Clock; log: Log }) {
    this.#dataDir = options.dataDir;
    this.#clusterDomain = options.clusterDomain;
    this.#source = options.source;
    this.#clock = options.clock;
    this.#log = options.log;
  }

  markDirty(): void {
    this.#isDirty = true;
    if (this.#timer !== undefined || this.#writing !== undefined || this.#isStopped) return;
    this.#timer = this.#clock.after(Math.max(writeDelayMsMin, this.#lastDurationMs / dutyShare), () => {
      this.#timer = undefined;
      void this.flush();
    });
  }

  /** Writes now when there is something new. Never rejects: a full disk must not stop DNS. */
  async flush(): Promise<void> {
    await this.#writing;
    if (!this.#isDirty || !this.#source.isSynced) return;
    this.#isDirty = false;
    const startedMs = this.#clock.monotonicMs();
    this.#writing = this.#write().catch((error: unknown) => this.#log.warn('dns state could not be written', { dir: this.#dataDir, err: error }));
    await this.#writing;
    this.#writing = undefined;
    this.#lastDurationMs = this.#clock.monotonicMs() - startedMs;
    if (this.#isDirty) this.markDirty();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#timer?.cancel();
    await this.flush();
  }

  async #write(): Promise<void> {
    await mkdir(this.#dataDir, { recursive: true, mode: 0o700 });
    const path = join(this.#dataDir, fileName);
    const file = await open(`${path}.new`, 'w', 0o600);
    try {
      const { serial } = this.#source;
      const head = { format, clusterDomain: this.#clusterDomain, savedMs: this.#clock.nowMs(), serial, namespaces: this.#source.namespaceNames(), pods: this.#source.podRecords() };
      await file.write(`${JSON.stringify(head)}\n`);
      let count = 0;
      let text = '';
      for (const records of this.#source.records()) {
        text += `${JSON.stringify(records)}\n`;
        count += 1;
        if (count % linesPerTurn !== 0) continue;
        await file.write(text);
        text = '';
      }
      await file.write(`${text}${JSON.stringify({ end: count })}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(`${path}.new`, path);
    const directory = await open(this.#dataDir, 'r');
    try { await directory.sync(); } finally { await directory.close(); }
  }
}
