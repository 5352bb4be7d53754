// The project's own measurement: every row's contenders in fresh, pinned processes, in an order that is reversed each
// round, each proven to answer correctly before it is timed; medians and spread over the rounds; NDJSON of every run,
// RESULTS.md and one HTML page. `--quick` takes one short round; `--smoke` only proves that each row works.

import { execFileSync } from 'node:child_process';
import { mkdirSync, appendFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeBed } from './lib/bed.ts';
import type { Bed, Contender, Row, Running } from './lib/contender.ts';
import { htmlPage, resultTable } from './lib/html.ts';
import { runLoad } from './lib/load.ts';
import { defaultPlan, type LoadPlan, type LoadResult } from './lib/plan.ts';
import { cpuMsOf, pinSelf, rssMbOf } from './lib/proc.ts';
import { formatTable, markdownTable, median, ms } from './lib/report.ts';
import { rows } from './rows.ts';
import { systemRows, type SystemRow } from './system-rows.ts';
import { facts, number, UsageError } from './user-load.ts';
import type { BenchArgs } from './main.ts';

export interface Run { row: string; contender: string; round: number; cpuMicros: number; rssMb: number; result: LoadResult; latency?: LoadResult | undefined }
export interface PeersOptions { rounds: number; durationMs: number; warmupMs: number; only: RegExp; folder: string; isSmoke: boolean; say: (line: string) => void }

export async function runPeers(args: BenchArgs): Promise<number> {
  const isQuick = args.values['quick'] === true;
  const isSmoke = args.values['smoke'] === true;
  const pattern = typeof args.values['only'] === 'string' ? args.values['only'] : '';
  let only: RegExp;
  try { only = new RegExp(pattern); } catch { throw new UsageError(`--only ${pattern} is not a pattern`); }
  const options: PeersOptions = {
    rounds: number(args.values, 'rounds', isQuick || isSmoke ? 1 : 5, 1, 100), durationMs: isSmoke ? 150 : isQuick ? 800 : 3_000, warmupMs: isSmoke ? 50 : isQuick ? 400 : 1_000,
    only, folder: join(import.meta.dirname, 'results'), isSmoke, say: (line) => { process.stderr.write(`${line}\n`); },
  };
  const chosen = rows.filter((row) => only.test(row.name));
  const system = systemRows.filter((row) => only.test(row.name) && !(isSmoke && row.isHeavy));
  if (chosen.length + system.length === 0) throw new UsageError(`no row matches ${pattern}`, [...rows, ...systemRows].map((row) => row.name).join(', '));
  const runs = await measureRows(chosen, options);
  const measured = await measureSystem(system, options, isQuick);
  const report = makeReport(chosen, runs, measured);
  process.stdout.write(`${report.text}\n`);
  if (!isSmoke) saveReport(report, chosen, runs, options, pattern === '');
  return runs.every((run) => run.result.count > 0) ? 0 : 1;
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
        if (reason !== undefined) options.say(`--  ${row.name}: ${contender.name} left out, ${reason}`);
        return reason === undefined;
      });
      for (let round = 0; round < options.rounds; round++) {
        for (const contender of round % 2 === 0 ? present : [...present].reverse()) {
          try {
            const run = await measureOne(row, contender, bed, round, options);
            runs.push(run);
            options.say(`ok  ${row.name.padEnd(16)} ${contender.name.padEnd(11)} ${run.result.perSecond.toFixed(0).padStart(8)}/s   cpu ${run.cpuMicros.toFixed(1).padStart(6)} us   p99 ${ms((run.latency ?? run.result).latencyMs.p99)}   rss ${run.rssMb.toFixed(0)} MB`);
          } catch (error) { options.say(`xx  ${row.name}: ${contender.name}: ${(error as Error).message}`); }
        }
      }
    }
  } finally { await stop(); }
  return runs;
}

/** More than this and the generator and the backends, which share one core, would be what is measured. */
const latencyRateMax = 8_000;

async function measureOne(row: Row, contender: Contender, bed: Bed, round: number, options: PeersOptions): Promise<Run> {
  const running = await contender.start(bed, row.name);
  try {
    const plan: LoadPlan = { ...defaultPlan, host: running.host, port: running.port, ...row.plan(running, bed), warmupMs: options.warmupMs, durationMs: options.durationMs };
    await verify(plan, row);
    const { result, cpuMicros } = await timed(plan, running, `${row.name} ${contender.name}`);
    const latency = row.hasLatencyRun && !options.isSmoke ? (await timed({ ...plan, rate: Math.max(100, Math.min(latencyRateMax, Math.floor(result.perSecond / 2))) }, running, `${row.name} ${contender.name} at half`)).result : undefined;
    return { row: row.name, contender: contender.name, round, cpuMicros, rssMb: running.pid === 0 ? 0 : rssMbOf(running.pid), result, latency };
  } finally { await running.stop(); }
}

/** The contender must answer this very request properly before it is timed. */
async function verify(plan: LoadPlan, row: Row): Promise<void> {
  const deadline = performance.now() + 5_000;
  for (;;) {
    const once = await runLoad({ ...plan, connections: 1, streams: 1, rate: 0, warmupMs: 0, durationMs: 1, timeoutMs: 2_000 });
    const status = Object.keys(once.statuses)[0];
    const expected = row.name === 'dns-nxdomain' ? 'NXDOMAIN' : row.name.startsWith('dns') ? 'NOERROR' : plan.protocol.startsWith('http') ? '200' : undefined;
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
    if (reason !== undefined) { options.say(`--  ${row.name}: left out, ${reason}`); continue; }
    try {
      const values = await row.measure({ isQuick, isSmoke: options.isSmoke, say: options.say });
      measured.push({ row, values });
      options.say(`ok  ${row.name.padEnd(16)} ${Object.entries(values).map(([key, value]) => `${key} ${value}`).join('   ')}`);
    } catch (error) {
      measured.push({ row, values: {}, error: (error as Error).message });
      options.say(`xx  ${row.name}: ${(error as Error).message}`);
    }
  }
  return measured;
}

const heads = ['contender', 'per second', 'CPU us', 'CPU vs netloom', 'p50', 'p90', 'p99', 'p99.9', 'max', 'RSS MB', 'spread', 'errors'];

function tableOf(row: Row, runs: readonly Run[]): string[][] {
  const ours = median(runs.filter((run) => run.row === row.name && run.contender === 'netloom').map((run) => run.cpuMicros));
  return row.contenders.flatMap((contender) => {
    const own = runs.filter((run) => run.row === row.name && run.contender === contender.name);
    if (own.length === 0) return [];
    const of = (pick: (run: Run) => number): number => median(own.map(pick));
    const cpu = of((run) => run.cpuMicros);
    const latency = (run: Run): LoadResult => run.latency ?? run.result;
    const speeds = own.map((run) => run.result.perSecond);
    const spread = speeds.length < 2 ? '-' : `${(((Math.max(...speeds) - Math.min(...speeds)) / Math.max(1, median(speeds))) * 100).toFixed(0)} %`;
    return [[contender.name, of((run) => run.result.perSecond).toFixed(0), cpu === 0 ? '-' : cpu.toFixed(1), cpu === 0 || ours === 0 ? '-' : (cpu / ours).toFixed(2), ms(of((run) => latency(run).latencyMs.p50)), ms(of((run) => latency(run).latencyMs.p90)), ms(of((run) => latency(run).latencyMs.p99)), ms(of((run) => latency(run).latencyMs.p999)), ms(of((run) => latency(run).latencyMs.max)), of((run) => run.rssMb).toFixed(0), spread, String(own.reduce((sum, run) => sum + run.result.errorCount, 0))]];
  });
}

interface Report { text: string; markdown: string }

function makeReport(chosen: readonly Row[], runs: readonly Run[], measured: readonly Measured[]): Report {
  const text: string[] = [];
  const markdown: string[] = [];
  for (const row of chosen) {
    const table = tableOf(row, runs);
    const note = row.hasLatencyRun ? 'latencies at half of each contender\'s own saturation, open loop' : 'latencies at saturation, closed loop';
    text.push(`\n${row.title} (${row.name}; ${note})${row.goal === undefined ? '' : `\ngoal: ${row.goal}`}`, formatTable(heads, table));
    markdown.push(`### ${row.title}\n\n\`--only ${row.name}\`; CPU per ${row.unit}; ${note}.${row.goal === undefined ? '' : ` Goal: ${row.goal}.`}\n`, markdownTable(heads, table), '');
  }
  for (const item of measured) {
    const pairs = item.error === undefined ? Object.entries(item.values).map(([key, value]) => [key, String(value)]) : [['error', item.error]];
    text.push(`\n${item.row.title} (${item.row.name})${item.row.goal === undefined ? '' : `\ngoal: ${item.row.goal}`}`, formatTable(['what', 'value'], pairs));
    markdown.push(`### ${item.row.title}\n\n\`--only ${item.row.name}\`.${item.row.goal === undefined ? '' : ` Goal: ${item.row.goal}.`}\n`, markdownTable(['what', 'value'], pairs), '');
  }
  return { text: text.join('\n'), markdown: markdown.join('\n') };
}

function saveReport(report: Report, chosen: readonly Row[], runs: readonly Run[], options: PeersOptions, isWhole: boolean): void {
  mkdirSync(options.folder, { recursive: true });
  const stamp = new Date().toISOString().replaceAll(':', '').slice(0, 15);
  for (const run of runs) appendFileSync(join(options.folder, `${stamp}.ndjson`), `${JSON.stringify(run)}\n`);
  const about = [...facts(), `commit ${commit()}`, ...versions()];
  const sections = chosen.map((row) => ({ title: row.title, ...(row.goal === undefined ? {} : { note: `goal: ${row.goal}` }), results: runs.filter((run) => run.row === row.name && run.round === 0).map((run) => run.latency ?? run.result), tableHtml: resultTable(runs.filter((run) => run.row === row.name).map((run) => run.result)) }));
  writeFileSync(join(options.folder, `${stamp}.html`), htmlPage('netloom bench', about, sections));
  const command = isWhole ? 'npm run bench' : `npm run bench -- --only ${options.only.source}`;
  const markdown = `# Bench results\n\nMade by \`${command}\` (${options.rounds} rounds of ${options.durationMs / 1_000} s, medians; contender pinned to one core, load and backends to the other).\n${about.map((line) => `- ${line}`).join('\n')}\n\n${report.markdown}`;
  writeFileSync(isWhole ? join(import.meta.dirname, 'RESULTS.md') : join(options.folder, `${stamp}.md`), markdown);
  options.say(`written: ${isWhole ? 'bench/RESULTS.md, ' : ''}bench/results/${stamp}.{ndjson,html}`);
}

function commit(): string { try { return execFileSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: import.meta.dirname }).toString().trim(); } catch { return 'unknown'; } }

/** First version line of each peer that is installed. */
function versions(): string[] {
  const ask = (file: string, args: string[]): string[] => {
    try { return [execFileSync('sh', ['-c', `${file} ${args.join(' ')} 2>&1 | head -1`], { env: { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin` } }).toString().trim()].filter((line) => line !== '' && !line.includes('not found')); } catch { return []; }
  };
  return [...ask('nginx', ['-v']), ...ask('haproxy', ['-v']), ...ask('caddy', ['version']), ...ask('dnsmasq', ['-v'])].map((line) => line.slice(0, 80));
}
