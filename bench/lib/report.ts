// A load result as text for people and JSON for programs.

import type { LoadResult, Percentiles } from './plan.ts';

export function ms(value: number): string { return value === 0 ? '-' : value < 1 ? `${value.toFixed(3)} ms` : value < 100 ? `${value.toFixed(2)} ms` : `${value.toFixed(0)} ms`; }

function percentileLine(name: string, p: Percentiles): string {
  return `${name.padEnd(10)} p50 ${ms(p.p50)}   p90 ${ms(p.p90)}   p99 ${ms(p.p99)}   p99.9 ${ms(p.p999)}   max ${ms(p.max)}   mean ${ms(p.mean)}`;
}

/** Lines for the terminal; never hides errors or a generator that could not keep up. */
export function textReport(result: LoadResult): string[] {
  const lines: string[] = [];
  const load = result.mode === 'open' ? `open loop, ${result.rate}/s asked` : 'closed loop';
  lines.push(`${result.protocol} ${result.target}   ${load}, ${result.connections} connections, ${result.workers} workers, ${(result.durationMs / 1_000).toFixed(1)} s${result.isPartial ? '   PARTIAL: stopped early' : ''}`);
  lines.push(`answered   ${result.count} (${result.perSecond.toFixed(0)}/s, ${(result.bytes / 1e6 / (result.durationMs / 1_000)).toFixed(1)} MB/s)   errors ${result.errorCount}${result.unsentCount > 0 ? `   not sent in time ${result.unsentCount}` : ''}`);
  lines.push(percentileLine('latency', result.latencyMs));
  if (result.mode === 'open') lines.push(`${'send lag'.padEnd(10)} p50 ${ms(result.lagMs.p50)}   p99 ${ms(result.lagMs.p99)}   max ${ms(result.lagMs.max)}   (how late the generator was)`);
  const pairs = (items: Record<string, number>): string => Object.entries(items).sort((a, b) => b[1] - a[1]).map(([key, value]) => `${key} ${value}`).join('   ');
  if (Object.keys(result.statuses).length > 0) lines.push(`statuses   ${pairs(result.statuses)}`);
  if (result.errorCount > 0) lines.push(`errors     ${pairs(result.errors)}`);
  const spread = Object.entries(result.distribution).sort((a, b) => b[1] - a[1]);
  if (spread.length > 0) {
    lines.push('answered by');
    for (const [key, value] of spread.slice(0, 16)) lines.push(`  ${`${((value / result.count) * 100).toFixed(1)} %`.padStart(7)}  ${key.replaceAll(/[^\x20-\x7e]/g, '?')}`);
  }
  if (result.generatorLimit !== undefined) lines.push(`!!  VOID: ${result.generatorLimit}`);
  return lines;
}

/** kubectl-like columns. */
export function formatTable(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = heads.map((head, column) => Math.max(head.length, ...rows.map((row) => (row[column] ?? '').length)));
  const line = (cells: readonly string[]): string => cells.map((cell, column) => (column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0))).join('   ').trimEnd();
  return [line(heads), ...rows.map(line)].join('\n');
}

export function markdownTable(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  return [`| ${heads.join(' | ')} |`, `|${heads.map((_, column) => (column === 0 ? ' --- ' : ' ---: ')).join('|')}|`, ...rows.map((row) => `| ${row.join(' | ')} |`)].join('\n');
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length === 0 ? 0 : sorted.length % 2 === 1 ? (sorted[middle] ?? 0) : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2;
}
