// The report of the project's own measurement: tables for the terminal, RESULTS.md, NDJSON of every run, the HTML page.

import { execFileSync } from 'node:child_process';
import { mkdirSync, appendFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Row } from './lib/contender.ts';
import { htmlPage, resultTable } from './lib/html.ts';
import type { LoadResult } from './lib/plan.ts';
import { formatTable, markdownTable, median, ms } from './lib/report.ts';
import type { Measured, PeersOptions, Run } from './peers-run.ts';
import { costText, type RowProfile } from './profile-rows.ts';
import { facts } from './user-load.ts';

const voidNote = '* in a round the generator was late: the latencies say more about the machine than about the contender';
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
    const isVoid = own.some((run) => latency(run).generatorLimit !== undefined && latency(run).mode === 'open');
    return [[`${contender.name}${isVoid ? ' *' : ''}`, of((run) => run.result.perSecond).toFixed(0), cpu === 0 ? '-' : cpu.toFixed(1), cpu === 0 || ours === 0 ? '-' : (cpu / ours).toFixed(2), ms(of((run) => latency(run).latencyMs.p50)), ms(of((run) => latency(run).latencyMs.p90)), ms(of((run) => latency(run).latencyMs.p99)), ms(of((run) => latency(run).latencyMs.p999)), ms(of((run) => latency(run).latencyMs.max)), of((run) => run.rssMb).toFixed(0), spread, String(own.reduce((sum, run) => sum + run.result.errorCount + (run.latency?.errorCount ?? 0), 0))]];
  });
}

export interface Report { text: string; markdown: string }

export function makeReport({ chosen, runs, measured, profiles, notes }: { notes: readonly string[]; chosen: readonly Row[]; runs: readonly Run[]; measured: readonly Measured[]; profiles: readonly RowProfile[] }): Report {
  const text: string[] = [];
  const markdown: string[] = [];
  for (const row of chosen) {
    const table = tableOf(row, runs);
    const note = row.hasLatencyRun ? 'latencies at half of each contender\'s own saturation, open loop' : 'latencies at saturation, closed loop';
    const profile = profiles.find((item) => item.row === row.name);
    const costs = profile === undefined ? '' : `netloom's costliest functions: ${costText(profile)} (flame graph: results/${profile.file})`;
    const hint = table.some(([name = '']) => name.endsWith('*')) ? voidNote : '';
    text.push(`\n${row.title} (${row.name}; ${note})${row.goal === undefined ? '' : `\ngoal: ${row.goal}`}`, formatTable(heads, table), ...[hint, costs].filter((line) => line !== ''));
    markdown.push(`### ${row.title}\n\n\`--only ${row.name}\`; CPU per ${row.unit}; ${note}.${row.goal === undefined ? '' : ` Goal: ${row.goal}.`}\n`, markdownTable(heads, table), ...[hint, costs].filter((line) => line !== '').map((line) => `\n${line}`), '');
  }
  for (const item of measured) {
    const pairs = item.error === undefined ? Object.entries(item.values).map(([key, value]) => [key, String(value)]) : [['error', item.error]];
    text.push(`\n${item.row.title} (${item.row.name})${item.row.goal === undefined ? '' : `\ngoal: ${item.row.goal}`}`, formatTable(['what', 'value'], pairs));
    markdown.push(`### ${item.row.title}\n\n\`--only ${item.row.name}\`.${item.row.goal === undefined ? '' : ` Goal: ${item.row.goal}.`}\n`, markdownTable(['what', 'value'], pairs), '');
  }
  if (notes.length > 0) { text.push('', 'Left out or failed:', ...notes); markdown.push('### Left out or failed\n', ...notes.map((line) => `- ${line}`), ''); }
  return { text: text.join('\n'), markdown: markdown.join('\n') };
}

export function saveReport(report: Report, { chosen, runs, options, isWhole, stamp }: { chosen: readonly Row[]; runs: readonly Run[]; options: PeersOptions; isWhole: boolean; stamp: string }): void {
  mkdirSync(options.folder, { recursive: true });
  for (const run of runs) appendFileSync(join(options.folder, `${stamp}.ndjson`), `${JSON.stringify(run)}\n`);
  const about = [...facts(), `commit ${commit()}`, ...versions()];
  const sections = chosen.map((row) => ({ title: row.title, ...(row.goal === undefined ? {} : { note: `goal: ${row.goal}` }), results: runs.filter((run) => run.row === row.name && run.round === 0).map((run) => run.latency ?? run.result), tableHtml: resultTable(runs.filter((run) => run.row === row.name).map((run) => run.result)) }));
  writeFileSync(join(options.folder, `${stamp}.html`), htmlPage('netloom bench', about, sections));
  const command = isWhole ? 'npm run bench' : `npm run bench -- --only ${options.only.source}`;
  const markdown = `# Bench results\n\nMade by \`${command}\` (${options.rounds} rounds of ${(options.durationMs / 1_000).toFixed(2)} s, twice that in rows with a goal, after as long a warm-up; medians; contender pinned to one core, load and backends to the other).\n${about.map((line) => `- ${line}`).join('\n')}\n\n${report.markdown}`;
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
