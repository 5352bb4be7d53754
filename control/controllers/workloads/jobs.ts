// The Job controller: Pods that run to their end, as many good ones as asked for, with retries and a deadline; with
// completionMode Indexed each has its own number.
// Source: kubernetes pkg/controller/job.

import { formatTime } from '../../../api/clock.ts';
import { isNotFound } from '../../../api/errors.ts';
import { resources } from '../../../api/resources.ts';
import type { Condition, Pod, PodSpec } from '../../../api/types.ts';
import type { Controller, ControllerContext } from '../context.ts';
import { isPodReady } from '../endpoints/pod-endpoint.ts';
import type { WorkQueue } from '../work-queue.ts';
import { isActive } from './pod-control.ts';
import type { Job } from './types.ts';
import { WorkloadBase } from './workload-base.ts';

const indexAnnotation = 'batch.kubernetes.io/job-completion-index';
const retryMsMin = 10_000;
const retryMsMax = 360_000;

/** Whether the Job has ended, and how. */
export function finishedAs(job: Job): 'Complete' | 'Failed' | undefined {
  const condition = job.status?.conditions?.find((each) => (each.type === 'Complete' || each.type === 'Failed') && each.status === 'True');
  return condition?.type as 'Complete' | 'Failed' | undefined;
}

interface Count { active: Pod[]; succeeded: number; failed: number; doneIndexes: Set<number> }

export class JobController implements Controller {
  readonly name = 'job';
  readonly queues: readonly WorkQueue[];
  readonly #context: ControllerContext;
  readonly #base: WorkloadBase<Job>;

  constructor(context: ControllerContext) {
    this.#context = context;
    this.#base = new WorkloadBase<Job>(context, this.name, resources.jobs, (key) => this.#sync(key));
    this.queues = [this.#base.queue];
  }

  start(): void { this.#base.start(); }
  stop(): void { this.#base.stop(); }

  async #sync(key: string): Promise<void> {
    const job = this.#base.objects.store.get(key);
    if (job === undefined || job.metadata.deletionTimestamp !== undefined) return;
    if (finishedAs(job) !== undefined) { await this.#expire(key, job); return; }
    await this.#base.pods.claim(job, job.spec?.selector);
    const count = countOf(job, this.#base.pods.podsOf(job));
    const end = this.#endOf(key, job, count);
    if (end !== undefined) { await this.#finish(job, count, end); return; }
    if (job.spec?.suspend === true) await Promise.all(count.active.map((pod) => this.#base.pods.remove(job, pod)));
    else await this.#keepRunning(key, job, count);
    await this.#writeStatus(job, countOf(job, this.#base.pods.podsOf(job)), suspension(job, this.#now()));
  }

  #now(): string { return formatTime(this.#context.clock.nowMs()); }

  /** The condition with which the Job ends now, if it does. */
  #endOf(key: string, job: Job, count: Count): Condition | undefined {
    const now = this.#now();
    const condition = (type: string, reason: string, message: string): Condition => ({ type, status: 'True', reason, message, lastProbeTime: now, lastTransitionTime: now });
    const { completions, backoffLimit = 6, activeDeadlineSeconds } = job.spec ?? {};
    if (count.failed > backoffLimit) return condition('Failed', 'BackoffLimitExceeded', 'Job has reached the specified backoff limit');
    if (activeDeadlineSeconds !== undefined && job.status?.startTime !== undefined && job.spec?.suspend !== true) {
      const leftMs = Date.parse(job.status.startTime) + activeDeadlineSeconds * 1000 - this.#context.clock.nowMs();
      if (leftMs <= 0) return condition('Failed', 'DeadlineExceeded', 'Job was active longer than specified deadline');
      this.#base.queue.addAfter(key, leftMs);
    }
    // Without completions the first good Pod ends the Job once the others have ended too.
    const isComplete = completions === undefined ? count.succeeded > 0 && count.active.length === 0 : count.succeeded >= completions;
    return isComplete ? condition('Complete', 'CompletionsReached', 'Reached expected number of succeeded pods') : undefined;
  }

  async #finish(job: Job, count: Count, end: Condition): Promise<void> {
    await Promise.all(count.active.map((pod) => this.#base.pods.remove(job, pod)));
    const now = this.#now();
    this.#context.events.record(resources.jobs, job, end.type === 'Complete' ? 'Normal' : 'Warning', end.type === 'Complete' ? 'Completed' : (end.reason ?? ''), end.type === 'Complete' ? 'Job completed' : (end.message ?? ''));
    const conditions = [...(job.status?.conditions ?? []).filter((each) => each.type !== end.type), end];
    await this.#base.writeStatus(job, job.status ?? {}, { active: 0, ready: 0, succeeded: count.succeeded, failed: count.failed, startTime: job.status?.startTime ?? now, conditions, ...(end.type === 'Complete' ? { completionTime: now } : {}) });
  }

  async #keepRunning(key: string, job: Job, count: Count): Promise<void> {
    const { parallelism = 1, completions } = job.spec ?? {};
    const left = completions === undefined ? (count.succeeded > 0 ? count.active.length : parallelism) : completions - count.succeeded;
    const wanted = Math.min(parallelism, left);
    if (count.active.length > wanted) await Promise.all(count.active.slice(wanted).map((pod) => this.#base.pods.remove(job, pod)));
    const missing = wanted - count.active.length;
    if (missing <= 0) return;
    const waitMs = this.#backoffMs(job, count.failed);
    if (waitMs > 0) { this.#base.queue.addAfter(key, waitMs); return; }
    if (job.spec?.completionMode !== 'Indexed') { await this.#base.pods.createMany(job, job.spec?.template ?? {}, missing); return; }
    const busy = new Set(count.active.map(indexOf));
    const free = Array.from({ length: completions ?? 0 }, (_, index) => index).filter((index) => !busy.has(index) && !count.doneIndexes.has(index)).slice(0, missing);
    await Promise.all(free.map((index) => this.#createIndexed(job, index)));
  }

  async #createIndexed(job: Job, index: number): Promise<void> {
    const { metadata, spec } = job.spec?.template ?? {};
    const containers = (spec?.containers ?? []).map((each) => ({ ...each, env: [...(each.env ?? []), { name: 'JOB_COMPLETION_INDEX', value: String(index) }] }));
    const more = { generateName: `${job.metadata.name}-${index}-`, annotations: { ...metadata?.annotations, [indexAnnotation]: String(index) }, labels: { [indexAnnotation]: String(index) } };
    await this.#base.pods.create(job, job.spec?.template ?? {}, more, { containers, hostname: `${job.metadata.name}-${index}` } as Partial<PodSpec>);
  }

  /** Doubling from the last failure on. */
  #backoffMs(job: Job, failed: number): number {
    const last = Math.max(0, ...this.#base.pods.podsOf(job).filter((pod) => pod.status?.phase === 'Failed').map((pod) => endedAtMs(pod)));
    return failed === 0 || last === 0 ? 0 : last + Math.min(retryMsMax, retryMsMin * 2 ** (failed - 1)) - this.#context.clock.nowMs();
  }

  async #writeStatus(job: Job, count: Count, conditions: Condition[]): Promise<void> {
    const startTime = job.status?.startTime ?? (job.spec?.suspend === true ? null : this.#now());
    await this.#base.writeStatus(job, job.status ?? {}, { active: count.active.length, ready: count.active.filter(isPodReady).length, succeeded: count.succeeded, failed: count.failed, startTime, conditions });
  }

  async #expire(key: string, job: Job): Promise<void> {
    const seconds = job.spec?.ttlSecondsAfterFinished;
    if (seconds === undefined) return;
    const ended = job.status?.completionTime ?? job.status?.conditions?.find((each) => each.type === 'Failed')?.lastTransitionTime ?? '';
    const leftMs = Date.parse(ended) + seconds * 1000 - this.#context.clock.nowMs();
    if (leftMs > 0) { this.#base.queue.addAfter(key, leftMs); return; }
    try {
      await this.#context.client.delete(resources.jobs, job.metadata.namespace, job.metadata.name, { propagationPolicy: 'Background', preconditions: { uid: job.metadata.uid } });
    } catch (error) { if (!isNotFound(error)) throw error; }
  }
}

/** What the Pods show; counts never fall below what the status said, for Pods that were cleaned up meanwhile. */
function countOf(job: Job, pods: readonly Pod[]): Count {
  const ended = (phase: string): Pod[] => pods.filter((pod) => pod.status?.phase === phase);
  const good = ended('Succeeded');
  const doneIndexes = new Set(good.map(indexOf));
  const isIndexed = job.spec?.completionMode === 'Indexed';
  return {
    active: pods.filter(isActive), doneIndexes,
    succeeded: Math.max(job.status?.succeeded ?? 0, isIndexed ? doneIndexes.size : good.length), failed: Math.max(job.status?.failed ?? 0, ended('Failed').length),
  };
}

function indexOf(pod: Pod): number { return Number(pod.metadata.annotations?.[indexAnnotation] ?? -1); }

function endedAtMs(pod: Pod): number {
  const times = (pod.status?.containerStatuses ?? []).map((each) => Date.parse(each.state?.terminated?.finishedAt ?? '')).filter((ms) => !Number.isNaN(ms));
  return Math.max(0, ...times);
}

function suspension(job: Job, now: string): Condition[] {
  const conditions = [...(job.status?.conditions ?? [])];
  const known = conditions.find((each) => each.type === 'Suspended');
  const status = job.spec?.suspend === true ? 'True' : 'False';
  if (known === undefined ? status === 'False' : known.status === status) return conditions;
  const next: Condition = { type: 'Suspended', status, reason: status === 'True' ? 'JobSuspended' : 'JobResumed', message: status === 'True' ? 'Job suspended' : 'Job resumed', lastTransitionTime: now };
  return [...conditions.filter((each) => each.type !== 'Suspended'), next];
}
