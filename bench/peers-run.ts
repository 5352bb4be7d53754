// The project's own measurement: every row's contenders in fresh, pinned processes, in an order that is reversed each
// round, each proven to answer correctly before it is timed; medians and spread over the rounds; NDJSON of every run,
// RESULTS.md and one HTML page. `--quick` takes one short round; `--smoke` only proves that each row works.

import { join } from 'node:path';
import { makeBed } from './lib/bed.ts';
import type { Bed, Contender, Row, Running } from './lib/contender.ts';
import { runLoad } from './lib/load.ts';
import { defaultPlan, type LoadPlan, type LoadResult } from './lib/plan.ts';
import { cpuMsOf, pinSelf, rssMbOf, unpinSelf } from './lib/proc.ts';
import { ms } from './lib/report.ts';
import { makeReport, saveReport } from './peers-report.ts';
import { profileRows, type RowProfile } from './profile-rows.ts';
import { rows } from './rows.ts';
import { systemRows, type SystemRow } from './system-rows.ts';
import { duration, number, UsageError } from './user-load.ts';
import type { BenchArgs } from './main.ts';

export interface Run { row: string; contender: string; round: number; cpuMicros: number; rssMb: number; result: LoadResult; latency?: LoadResult | undefined }
export interface PeersOptions { rounds: number;
  /** Of a row without a goal; a row with one is measured twice as long. */
  durationMs: number;
  /** -1 = as long as the measurement, but long enough for code to be compiled. */
  warmupMs: number; only: RegExp; folder: string; stamp: string; isSmoke: boolean; say: (line: string) => void;
  /** Who was left out and why, and what went wrong: part of the report. */
  notes: Set<string>; failures: Set<string> }

export async function runPeers(args: BenchArgs): Promise<number> {
  const isQuick = args.values['quick'] === true;
  const isSmoke = args.values['smoke'] === true;
  const pattern = typeof args.values['only'] === 'string' ? args.values['only'] : '';
  let only: RegExp;
  try { only = new RegExp(pattern); } catch { throw new UsageError(`--only ${pattern} is not a pattern`); }
  const chosen = rows.filter((row) => only.test(row.name));
  const rounds = number(args.values, 'rounds', isQuick || isSmoke ? 1 : 5, 1, 100);
  const durationMs = duration(args.values, 'duration', isSmoke ? 80 : fitDuration(chosen, rounds, isQuick));
  const options: PeersOptions = {
    rounds, durationMs, warmupMs: duration(args.values, 'warmup', -1), only, stamp: new Date().toISOString().replaceAll(':', '').slice(0, 17),
    folder: join(import.meta.dirname, 'results'), isSmoke, say: (line) => { process.stderr.write(`${line}\n`); }, notes: new Set(), failures: new Set(),
  };
  const system = systemRows.filter((row) => only.test(row.name) && !(isSmoke && row.isHeavy));
  if (chosen.length + system.length === 0) throw new UsageError(`no row matches ${pattern}`, [...rows, ...systemRows].map((row) => row.name).join(', '));
  const runs = await measureRows(chosen, options);
  const measured = await measureSystem(system, options, isQuick);
  const isWhole = pattern === '';
  const profiles = await profile(chosen, options, args.values['cpu-prof'] === true ? 'all' : isWhole && !isQuick && !isSmoke ? 'hot' : 'none');
  const report = makeReport({ chosen, runs, measured, profiles, notes: [...options.notes, ...options.failures] });
  process.stdout.write(`${report.text}\n`);
  if (!isSmoke) saveReport(report, { chosen, runs, options, isWhole: isWhole && !isQuick, stamp: options.stamp });
  return options.failures.size === 0 && runs.every((run) => run.result.count > 0) ? 0 : 1;
}

function note(options: PeersOptions, line: string): void { options.say(line); options.notes.add(line.slice(4)); }
function fail(options: PeersOptions, line: string): void { options.say(line); options.failures.add(line.slice(4)); }

/** A row that cannot be profiled is named; the figures are kept all the same. */
async function profile(chosen: readonly Row[], options: PeersOptions, which: 'all' | 'hot' | 'none'): Promise<RowProfile[]> {
  const profiles: RowProfile[] = [];
  for (const row of which === 'none' ? [] : chosen.filter((item) => which === 'all' || item.hasLatencyRun)) {
    try { profiles.push(...await profileRows([row], options.folder, options.stamp, options.isSmoke ? 200 : 2_000)); } catch (error) { fail(options, `xx  ${row.name}: no profile: ${(error as Error).message}`); }
  }
  return profiles;
}

/** How long the comparison as a whole may take, what starting and stopping one contender takes of it, and the durations to choose from. */
const budgetMs = Object.freeze({ whole: 420_000, quick: 85_000, perStart: 660, leastMs: 200, mostMs: 3_000, stepMs: 50, warmupLeastMs: 400 });
const weightOf = (row: Row): number => (row.goal === undefined ? 1 : 2);
/** A fresh Node process needs its time until its hot code is compiled, however short the measurement. */
const warmupFor = (durationMs: number): number => Math.max(budgetMs.warmupLeastMs, durationMs);

function estimateMs(chosen: readonly Row[], rounds: number, durationMs: number): number {
  return chosen.reduce((sum, row) => {
    const measured = durationMs * weightOf(row);
    return sum + row.contenders.length * rounds * (budgetMs.perStart + warmupFor(measured) + measured * (row.hasLatencyRun ? 2 : 1));
  }, 0);
}

/** The longest duration with which all chosen rows fit the budget: one row alone is measured long and the whole in time. */
export function fitDuration(chosen: readonly Row[], rounds: number, isQuick: boolean): number {
  let durationMs = budgetMs.mostMs;
  while (durationMs > budgetMs.leastMs && estimateMs(chosen, rounds, durationMs) > (isQuick ? budgetMs.quick : budgetMs.whole)) durationMs -= budgetMs.stepMs;
  return durationMs;
}

/** Every row, round by round; a contender that cannot run is named and left out. */
export async function measureRows(chosen: readonly Row[], options: PeersOptions): Promise<Run[]> {
  if (chosen.length === 0) return [];
  const { bed, stop } = await makeBed();
  pinSelf(bed.loadCore);
  const runs: Run[] = [];
  try {
    for (const row of chosen) {
      const present = row.contenders.filter((contender) => {
        const reason = contender.missing();
        if (reason !== undefined) note(options, `--  ${row.name}: ${contender.name} left out, ${reason}`);
        return reason === undefined;
      });
      for (let round = 0; round < options.rounds; round++) {
        for (const contender of round % 2 === 0 ? present : [...present].reverse()) {
          try {
            const run = await measureOne(row, contender, bed, round, options);
            runs.push(run);
            options.say(`ok  ${row.name.padEnd(16)} ${contender.name.padEnd(11)} ${run.result.perSecond.toFixed(0).padStart(8)}/s   cpu ${run.cpuMicros.toFixed(1).padStart(6)} us   p99 ${ms((run.latency ?? run.result).latencyMs.p99)}   rss ${run.rssMb.toFixed(0)} MB`);
          } catch (error) { fail(options, `xx  ${row.name}: ${contender.name}: ${(error as Error).message}`); }
        }
      }
    }
  } finally { await stop(); }
  return runs;
}

/** More than this and the generator and the backends, which share one core, would be what is measured. */
const latencyRateMax = 8_000;

const measuredMs = (row: Row, options: PeersOptions): number => (options.isSmoke ? options.durationMs : options.durationMs * weightOf(row));
function warmupOf(row: Row, options: PeersOptions): number {
  if (options.isSmoke) return 0;
  return options.warmupMs >= 0 ? options.warmupMs : warmupFor(measuredMs(row, options));
}

async function measureOne(row: Row, contender: Contender, bed: Bed, round: number, options: PeersOptions): Promise<Run> {
  const running = await contender.start(bed, row.name);
  try {
    const plan: LoadPlan = { ...defaultPlan, host: running.host, port: running.port, ...row.plan(running, bed), warmupMs: warmupOf(row, options), durationMs: measuredMs(row, options) };
    await verify(plan, row);
    const first = await timed(plan, running, `${row.name} ${contender.name}`);
    // On a busy machine nothing may have come back within the smallest size; that proves nothing against the contender.
    const { result, cpuMicros } = options.isSmoke && first.result.count === 0 ? await timed({ ...plan, durationMs: 2_000 }, running, `${row.name} ${contender.name}`) : first;
    judge(plan, row, contender.name, result, options);
    const latency = row.hasLatencyRun && !options.isSmoke ? (await timed({ ...plan, warmupMs: 0, rate: Math.max(100, Math.min(latencyRateMax, Math.floor(result.perSecond / 2))) }, running, `${row.name} ${contender.name} at half`)).result : undefined;
    if (latency !== undefined) judge(plan, row, `${contender.name} at half`, latency, options);
    return { row: row.name, contender: contender.name, round, cpuMicros, rssMb: running.pid === 0 ? 0 : rssMbOf(running.pid), result, latency };
  } finally { await running.stop(); }
}

function expectedStatus(plan: LoadPlan, row: Row): string | undefined {
  return row.name === 'dns-nxdomain' ? 'NXDOMAIN' : row.name.startsWith('dns') ? 'NOERROR' : plan.protocol.startsWith('http') ? '200' : undefined;
}

/** Quick refusals are no throughput: they are counted as errors and the report says so. */
function judge(plan: LoadPlan, row: Row, name: string, result: LoadResult, options: PeersOptions): void {
  const expected = expectedStatus(plan, row);
  const wrong = Object.entries(result.statuses).filter(([status]) => expected !== undefined && status !== expected);
  for (const [status, count] of wrong) { result.errors[`status ${status}`] = count; result.errorCount += count; }
  if (wrong.length > 0) fail(options, `xx  ${row.name}: ${name}: answers that were not ${expected}: ${wrong.map(([status, count]) => `${count} x ${status}`).join(', ')}`);
}

/** The contender must answer this very request properly before it is timed. */
async function verify(plan: LoadPlan, row: Row): Promise<void> {
  const deadline = performance.now() + 5_000;
  for (;;) {
    const once = await runLoad({ ...plan, connections: 1, streams: 1, rate: 0, warmupMs: 0, durationMs: 1, timeoutMs: 2_000 });
    const status = Object.keys(once.statuses)[0];
    const expected = expectedStatus(plan, row);
    if (once.count > 0 && (expected === undefined || status === expected)) return;
    if (performance.now() > deadline) throw new Error(`answers wrongly: ${status ?? Object.keys(once.errors)[0] ?? 'nothing'} in place of ${expected ?? 'an answer'}`);
    await new Promise((resolve) => { setTimeout(resolve, 50); });
  }
}

async function timed(plan: LoadPlan, running: Running, name: string): Promise<{ result: LoadResult; cpuMicros: number }> {
  if (plan.warmupMs > 0) await runLoad({ ...plan, warmupMs: 0, durationMs: plan.warmupMs });
  const before = running.pid === 0 ? 0 : cpuMsOf(running.pid);
  const result = await runLoad({ ...plan, warmupMs: 0 }, { name });
  const after = running.pid === 0 ? 0 : cpuMsOf(running.pid);
  return { result, cpuMicros: result.count === 0 ? 0 : ((after - before) * 1_000) / result.count };
}

export interface Measured { row: SystemRow; values: Record<string, number | string>; error?: string }

async function measureSystem(system: readonly SystemRow[], options: PeersOptions, isQuick: boolean): Promise<Measured[]> {
  const measured: Measured[] = [];
  for (const row of system) {
    const reason = row.missing();
    if (reason !== undefined) { note(options, `--  ${row.name}: left out, ${reason}`); continue; }
    try {
      unpinSelf();
      const values = await row.measure({ isQuick, isSmoke: options.isSmoke, say: options.say });
      measured.push({ row, values });
      options.say(`ok  ${row.name.padEnd(16)} ${Object.entries(values).map(([key, value]) => `${key} ${value}`).join('   ')}`);
    } catch (error) {
      measured.push({ row, values: {}, error: (error as Error).message });
      fail(options, `xx  ${row.name}: ${(error as Error).message}`);
    }
  }
  return measured;
}

