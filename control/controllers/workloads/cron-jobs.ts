// The CronJob controller: makes a Job whenever the schedule is due, minds the ones still running, keeps a short history.
// Source: kubernetes pkg/controller/cronjob.

import { formatTime } from '../../../api/clock.ts';
import { isAlreadyExists, isNotFound } from '../../../api/errors.ts';
import type { Informer } from '../../../api/informer.ts';
import { objectKey } from '../../../api/meta.ts';
import { resources } from '../../../api/resources.ts';
import type { ObjectMeta } from '../../../api/types.ts';
import { parseCron } from '../../sweeps.ts';
import type { Controller, ControllerContext } from '../context.ts';
import { OwnWrites } from '../own-writes.ts';
import { WorkQueue } from '../work-queue.ts';
import { nextCronTime, type CronFields } from './cron-times.ts';
import { finishedAs } from './jobs.ts';
import { controllerOf, controllerRef } from './pod-control.ts';
import type { CronJob, Job } from './types.ts';

/** Runs that were missed while nothing ran are not made up for beyond this count. */
const missedMax = 100;

export class CronJobController implements Controller {
  readonly name = 'cronjob';
  readonly queues: readonly WorkQueue[];
  readonly #context: ControllerContext;
  readonly #queue: WorkQueue;
  readonly #crons: Informer<CronJob>;
  readonly #jobs: OwnWrites<Job>;
  readonly #unsubscribe: (() => void)[];

  constructor(context: ControllerContext) {
    this.#context = context;
    const { clock, log, informers } = context;
    this.#crons = informers.for<CronJob>(resources.cronjobs);
    const jobs = informers.for<Job>(resources.jobs);
    this.#jobs = new OwnWrites(jobs, 'controllerUid', (job) => [controllerOf(job)?.uid ?? '']);
    this.#queue = new WorkQueue({ name: this.name, clock, log, sync: (key) => this.#sync(key) });
    this.queues = [this.#queue];
    this.#unsubscribe = [
      this.#crons.onChange(({ key }) => this.#queue.add(key)),
      jobs.onChange(({ object }) => { const owner = controllerOf(object); if (owner?.kind === 'CronJob') this.#queue.add(`${object.metadata.namespace}/${owner.name}`); }),
    ];
  }

  start(): void {
    for (const key of this.#crons.store.keys()) this.#queue.add(key);
    this.#queue.start();
  }

  stop(): void {
    for (const end of this.#unsubscribe) end();
    this.#jobs.stop();
    this.#queue.stop();
  }

  async #sync(key: string): Promise<void> {
    const cron = this.#crons.store.get(key);
    if (cron === undefined || cron.metadata.deletionTimestamp !== undefined || cron.spec === undefined) return;
    await this.#trimHistory(cron);
    const due = this.#due(key, cron);
    let lastMs: number | undefined;
    if (due !== undefined && cron.spec.suspend !== true && await this.#mayRun(cron)) { await this.#run(cron, due); lastMs = due; }
    await this.#writeStatus(cron, lastMs);
  }

  /** The latest time that was due and not yet run; sets the timer for the next one. */
  #due(key: string, cron: CronJob): number | undefined {
    const { clock, events } = this.#context;
    const { fields, problem } = parseCron(cron.spec?.schedule ?? '');
    if (fields === undefined) { events.record(resources.cronjobs, cron, 'Warning', 'UnparseableSchedule', `unparseable schedule ${JSON.stringify(cron.spec?.schedule)}: ${problem}`); return undefined; }
    const nowMs = clock.nowMs();
    const zone = cron.spec?.timeZone ?? 'UTC';
    const deadlineMs = cron.spec?.startingDeadlineSeconds === undefined ? Number.POSITIVE_INFINITY : cron.spec.startingDeadlineSeconds * 1000;
    let fromMs = Date.parse(cron.status?.lastScheduleTime ?? cron.metadata.creationTimestamp ?? '') || nowMs;
    if (nowMs - fromMs > deadlineMs) fromMs = nowMs - deadlineMs;
    try {
      let due: number | undefined;
      let next = nextCronTime(fields as CronFields, fromMs, zone);
      for (let count = 0; next !== undefined && next <= nowMs; count++) {
        due = next;
        next = nextCronTime(fields as CronFields, count < missedMax ? next : nowMs, zone);
      }
      if (next !== undefined) this.#queue.addAfter(key, next - nowMs + 100);
      return due;
    } catch (error) {
      events.record(resources.cronjobs, cron, 'Warning', 'UnknownTimeZone', `invalid timeZone ${JSON.stringify(zone)}: ${(error as Error).message}`);
      return undefined;
    }
  }

  #running(cron: CronJob): Job[] { return this.#jobs.list(cron.metadata.uid ?? '').filter((job) => finishedAs(job) === undefined && job.metadata.deletionTimestamp === undefined); }

  /** Forbid waits for the running Job, Replace ends it. */
  async #mayRun(cron: CronJob): Promise<boolean> {
    const running = this.#running(cron);
    if (running.length === 0 || (cron.spec?.concurrencyPolicy ?? 'Allow') === 'Allow') return true;
    if (cron.spec?.concurrencyPolicy === 'Forbid') return false;
    await Promise.all(running.map((job) => this.#delete(job)));
    return true;
  }

  /** The name comes from the due time, so that a run is never made twice. */
  async #run(cron: CronJob, dueMs: number): Promise<void> {
    const { client, events } = this.#context;
    const { name, namespace } = cron.metadata;
    const template = cron.spec?.jobTemplate;
    const metadata: ObjectMeta = {
      name: `${name.slice(0, 52)}-${Math.floor(dueMs / 60_000)}`, ...(namespace === undefined ? {} : { namespace }), ...(template?.metadata?.labels === undefined ? {} : { labels: template.metadata.labels }),
      annotations: { ...template?.metadata?.annotations, 'batch.kubernetes.io/cronjob-scheduled-timestamp': formatTime(dueMs) }, ownerReferences: [controllerRef(resources.cronjobs, cron)],
    };
    try {
      this.#jobs.wrote(await client.create<Job>(resources.jobs, namespace, { metadata, ...(template?.spec === undefined ? {} : { spec: template.spec }) }));
      events.record(resources.cronjobs, cron, 'Normal', 'SuccessfulCreate', `Created job ${metadata.name}`);
    } catch (error) { if (!isAlreadyExists(error)) throw error; }
  }

  async #delete(job: Job): Promise<void> {
    try {
      await this.#context.client.delete(resources.jobs, job.metadata.namespace, job.metadata.name, { propagationPolicy: 'Background', preconditions: { uid: job.metadata.uid } });
    } catch (error) { if (!isNotFound(error)) throw error; }
    this.#jobs.removed(job);
  }

  async #trimHistory(cron: CronJob): Promise<void> {
    const { successfulJobsHistoryLimit = 3, failedJobsHistoryLimit = 1 } = cron.spec ?? {};
    const jobs = this.#jobs.list(cron.metadata.uid ?? '').sort((a, b) => ((a.metadata.creationTimestamp ?? '') + a.metadata.name < (b.metadata.creationTimestamp ?? '') + b.metadata.name ? -1 : 1));
    for (const [end, limit] of [['Complete', successfulJobsHistoryLimit], ['Failed', failedJobsHistoryLimit]] as const) {
      const ended = jobs.filter((job) => finishedAs(job) === end);
      for (const job of ended.slice(0, Math.max(0, ended.length - limit))) await this.#delete(job);
    }
  }

  async #writeStatus(cron: CronJob, lastMs: number | undefined): Promise<void> {
    const active = this.#running(cron).map((job) => ({ apiVersion: 'batch/v1', kind: 'Job', name: job.metadata.name, ...(job.metadata.namespace === undefined ? {} : { namespace: job.metadata.namespace }), ...(job.metadata.uid === undefined ? {} : { uid: job.metadata.uid }) }));
    const good = this.#jobs.list(cron.metadata.uid ?? '').flatMap((job) => (job.status?.completionTime === undefined ? [] : [job.status.completionTime])).sort().at(-1);
    const next = { active: active.length === 0 ? null : active, lastScheduleTime: lastMs === undefined ? (cron.status?.lastScheduleTime ?? null) : formatTime(lastMs), lastSuccessfulTime: good ?? cron.status?.lastSuccessfulTime ?? null };
    const old = { active: cron.status?.active ?? null, lastScheduleTime: cron.status?.lastScheduleTime ?? null, lastSuccessfulTime: cron.status?.lastSuccessfulTime ?? null };
    if (JSON.stringify(next.active?.map((each) => each.uid)) === JSON.stringify(old.active?.map((each) => each.uid)) && next.lastScheduleTime === old.lastScheduleTime && next.lastSuccessfulTime === old.lastSuccessfulTime) return;
    const { namespace, name, uid } = cron.metadata;
    try {
      await this.#context.client.patch(resources.cronjobs, namespace, name, { metadata: { uid }, status: next }, { type: 'merge', subresource: 'status' });
    } catch (error) { if (!isNotFound(error)) throw error; }
    if (lastMs !== undefined) this.#queue.addAfter(objectKey(cron), 200);
  }
}
