// Runs a load plan over several worker threads, merges their histograms and judges whether the generator itself was the
// limit. Ctrl-C (an aborted signal) ends the run early with a result that is marked partial.

import { Worker } from 'node:worker_threads';
import { curveOf, makeHistogram, percentilesOf } from './histogram.ts';
import type { LoadPlan, LoadResult, TimelinePoint, WorkerReport } from './plan.ts';

export interface LoadOptions { name?: string; workers?: number; signal?: AbortSignal; onProgress?: (point: TimelinePoint, soFar: { count: number; errors: number }) => void }

const lagLimitMs = 5;

/** Runs to the end. Throws only when a worker itself breaks; an unreachable target is a result full of errors. */
export async function runLoad(plan: LoadPlan, options: LoadOptions = {}): Promise<LoadResult> {
  const workerCount = Math.max(1, Math.min(options.workers ?? 1, plan.connections));
  const total = makeHistogram();
  const lag = makeHistogram();
  const timeline: TimelinePoint[] = [];
  const finals: WorkerReport[] = [];
  let window = makeHistogram();
  let windowErrors = 0;
  let windowReports = 0;
  let lastFlush = performance.now();
  const started = performance.now();
  const counts = new Map<number, { count: number; errors: number }>();
  const flush = (): void => {
    const now = performance.now();
    const p = percentilesOf(window);
    const point: TimelinePoint = { atMs: now - started - plan.warmupMs, perSecond: (window.count * 1_000) / Math.max(1, now - lastFlush), p50: p.p50, p99: p.p99, errors: windowErrors };
    if (window.count > 0 || windowErrors > 0) {
      timeline.push(point);
      const soFar = [...counts.values()].reduce((sum, item) => ({ count: sum.count + item.count, errors: sum.errors + item.errors }), { count: 0, errors: 0 });
      options.onProgress?.(point, soFar);
    }
    window = makeHistogram();
    windowErrors = 0;
    windowReports = 0;
    lastFlush = now;
  };
  const receive = (index: number, report: WorkerReport): void => {
    if (report.window.count > 0) { total.add(report.window); window.add(report.window); }
    windowErrors += report.windowErrors;
    windowReports += 1;
    counts.set(index, { count: report.count, errors: Object.values(report.errors).reduce((sum, value) => sum + value, 0) });
    if (report.type === 'done') { if (report.lag.count > 0) lag.add(report.lag); finals.push(report); }
    if (windowReports >= workerCount) flush();
  };
  await Promise.all(Array.from({ length: workerCount }, (_, index) => runWorker(share(plan, index, workerCount), options.signal, (report) => receive(index, report))));
  flush();
  return summarise(plan, options, workerCount, finals, { total, lag, timeline });
}

/** Each worker's part of connections and rate. */
function share(plan: LoadPlan, index: number, count: number): LoadPlan {
  const connections = Math.floor(plan.connections / count) + (index < plan.connections % count ? 1 : 0);
  return { ...plan, connections: Math.max(1, connections), rate: plan.rate / count };
}

function runWorker(plan: LoadPlan, signal: AbortSignal | undefined, onReport: (report: WorkerReport) => void): Promise<void> {
  const worker = new Worker(new URL('./load-worker.ts', import.meta.url), { workerData: plan });
  const stop = (): void => worker.postMessage('stop');
  signal?.addEventListener('abort', stop);
  return new Promise((resolve, reject) => {
    worker.on('message', onReport);
    worker.on('error', reject);
    worker.on('exit', () => { signal?.removeEventListener('abort', stop); resolve(); });
  });
}

interface Merged { total: ReturnType<typeof makeHistogram>; lag: ReturnType<typeof makeHistogram>; timeline: TimelinePoint[] }

function summarise(plan: LoadPlan, options: LoadOptions, workers: number, finals: WorkerReport[], merged: Merged): LoadResult {
  const sum = (pick: (report: WorkerReport) => number): number => finals.reduce((value, report) => value + pick(report), 0);
  const merge = (pick: (report: WorkerReport) => Record<string, number>): Record<string, number> => {
    const all: Record<string, number> = {};
    for (const report of finals) for (const [key, value] of Object.entries(pick(report))) all[key] = (all[key] ?? 0) + value;
    return all;
  };
  const durationMs = Math.max(1, ...finals.map((report) => report.elapsedMs));
  const errors = merge((report) => report.errors);
  const count = sum((report) => report.count);
  const lagMs = percentilesOf(merged.lag);
  const cpuPercent = (sum((report) => report.cpuMs) / workers / Math.max(1, durationMs + plan.warmupMs)) * 100;
  return {
    name: options.name ?? '', target: `${plan.host}:${plan.port}${plan.protocol.startsWith('http') ? plan.path : ''}`, protocol: plan.protocol,
    mode: plan.rate > 0 ? 'open' : 'closed', rate: plan.rate, connections: plan.connections, workers, durationMs,
    count, perSecond: (count * 1_000) / durationMs, bytes: sum((report) => report.bytes), unsentCount: sum((report) => report.unsentCount),
    errorCount: Object.values(errors).reduce((value, item) => value + item, 0), errors, statuses: merge((report) => report.statuses), distribution: merge((report) => report.distribution),
    latencyMs: percentilesOf(merged.total), lagMs, curve: curveOf(merged.total), timeline: merged.timeline,
    isPartial: options.signal?.aborted === true, generatorCpuPercent: cpuPercent, generatorLimit: judgeGenerator(plan, lagMs.p99, cpuPercent),
  };
}

/** Says when the generator could not keep its own clock; a closed loop is judged by CPU alone. */
function judgeGenerator(plan: LoadPlan, lagP99: number, cpuPercent: number): string | undefined {
  if (plan.rate > 0 && lagP99 > lagLimitMs) return `the generator was late by ${lagP99.toFixed(1)} ms at p99: lower --rate or add --workers`;
  if (plan.rate === 0 && cpuPercent > 97) return 'the generator used its whole core: throughput is a lower bound; add --workers';
  return undefined;
}
