// Housekeeping by the clock on the wall: expired Events, expired join tokens, history on disk. Also the one place that
// knows node-cron, whose parser reads the schedules of CronJobs (./controllers/workloads/cron-jobs.ts).
// Started with the controllers, on the leader only.

import { createTask, parse, validateDetailed, type Logger, type ParsedFields, type ScheduledTask } from 'node-cron';
import type { Clock, TimerHandle } from '../api/clock.ts';
import { isConflict, isNotFound } from '../api/errors.ts';
import type { Log } from '../api/log.ts';
import type { Event, Secret } from '../api/types.ts';
import type { Storage, Stored } from './storage/store.ts';

export interface SweepsOptions {
  storage: Storage; clock: Clock; log: Log;
  /** Events are kept this long after they were last seen. */
  eventTtlMs: number;
}

export type SweepName = 'events' | 'tokens' | 'compaction';

const schedules: Readonly<Record<SweepName, string>> = { events: '17 * * * * *', tokens: '37 * * * * *', compaction: '47 */5 * * * *' };
const startDelayMs = 3_000;
/** Deletions of one sweep that wait for the disk at a time. */
const deleteParallel = 100;

/** The sweeps of one control plane. */
export class Sweeps {
  readonly #options: SweepsOptions;
  readonly #tasks: ScheduledTask[] = [];
  #starting: TimerHandle | undefined;
  /** Objects removed by each sweep, for metrics. */
  readonly removedCounts: Record<SweepName, number> = { events: 0, tokens: 0, compaction: 0 };

  constructor(options: SweepsOptions) { this.#options = options; }

  /** The timers begin a little later: the first one loads the system's time zones, which costs 20 ms of a start. */
  start(): void { this.#starting = this.#options.clock.after(startDelayMs, () => this.#startTimers()); }

  stop(): void {
    this.#starting?.cancel();
    for (const task of this.#tasks.splice(0)) void task.destroy();
  }

  #startTimers(): void {
    const logger = quiet(this.#options.log);
    for (const name of Object.keys(schedules) as SweepName[]) {
      const task = createTask(schedules[name], () => this.run(name), { name, noOverlap: true, unref: true, logger, suppressMissedWarning: true });
      this.#tasks.push(task);
      void task.start();
    }
  }

  /** Runs one sweep now; returns how much it removed. */
  async run(name: SweepName): Promise<number> {
    try {
      const count = name === 'events' ? await this.#sweepEvents() : name === 'tokens' ? await this.#sweepTokens() : (await this.#options.storage.compact()).removedCount;
      this.removedCounts[name] += count;
      if (count > 0) this.#options.log.debug('swept', { sweep: name, count });
      return count;
    } catch (error) {
      this.#options.log.warn('sweep failed, the next one tries again', { sweep: name, err: error });
      return 0;
    }
  }

  #sweepEvents(): Promise<number> {
    const oldestMs = this.#options.clock.nowMs() - this.#options.eventTtlMs;
    return this.#removeWhere('events', ({ object }) => lastSeenMs(object as Event) < oldestMs);
  }

  #sweepTokens(): Promise<number> {
    const nowMs = this.#options.clock.nowMs();
    return this.#removeWhere('secrets', ({ object }) => {
      const { type, data } = object as Secret;
      const expiration = type === 'bootstrap.kubernetes.io/token' ? data?.['expiration'] : undefined;
      return expiration !== undefined && Date.parse(Buffer.from(expiration, 'base64').toString('utf8')) < nowMs;
    });
  }

  async #removeWhere(resource: string, isExpired: (stored: Stored) => boolean): Promise<number> {
    const { storage } = this.#options;
    const expired = storage.list(resource).items.filter(isExpired);
    for (let from = 0; from < expired.length; from += deleteParallel) {
      await Promise.all(expired.slice(from, from + deleteParallel).map(async (stored) => {
        try { await storage.delete(resource, stored.key, stored.revision); } catch (error) { if (!isNotFound(error) && !isConflict(error)) throw error; }
      }));
    }
    return expired.length;
  }
}

function lastSeenMs(event: Event): number {
  const texts = [event.series?.lastObservedTime, event.lastTimestamp, event.eventTime, event.metadata.creationTimestamp];
  for (const text of texts) {
    const ms = text === undefined || text === null ? Number.NaN : Date.parse(text);
    if (!Number.isNaN(ms)) return ms;
  }
  return 0;
}

function quiet(log: Log): Logger {
  return { info: () => {}, debug: () => {}, warn: (message) => log.debug('sweep timer', { detail: message }), error: (message) => log.warn('sweep timer', { detail: String(message) }) };
}

/** The fields of a cron schedule; undefined with `problem` when it cannot be read. Accepts five or six fields and names. */
export function parseCron(text: string): { fields: ParsedFields | undefined; problem: string } {
  const expanded = macros[text.trim()] ?? text;
  const result = validateDetailed(expanded);
  return result.valid ? { fields: parse(expanded), problem: '' } : { fields: undefined, problem: result.errors.map((error) => error.message).join('; ') };
}

const macros: Readonly<Record<string, string>> = {
  '@yearly': '0 0 1 1 *', '@annually': '0 0 1 1 *', '@monthly': '0 0 1 * *', '@weekly': '0 0 * * 0', '@daily': '0 0 * * *', '@midnight': '0 0 * * *', '@hourly': '0 * * * *',
};
