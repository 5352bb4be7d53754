// One self-contained HTML page of load results: latency by percentile, latency and throughput over time, who answered,
// errors. Plain SVG made here; no script, no outside asset.

import type { LoadResult } from './plan.ts';
import { ms } from './report.ts';

const colours = ['#2563eb', '#dc2626', '#059669', '#d97706', '#7c3aed', '#0891b2', '#be185d', '#4d7c0f', '#475569', '#9333ea'];
const width = 720;
const height = 280;
const margin = { left: 64, right: 16, top: 12, bottom: 36 };

interface Series { name: string; points: [number, number][] }
interface Axis { label: string; ticks: [number, string][]; scale: (value: number) => number }

export interface PageSection { title: string; note?: string; results: LoadResult[]; tableHtml?: string }

/** The whole page as text. */
export function htmlPage(title: string, facts: readonly string[], sections: readonly PageSection[]): string {
  const body = sections.map((section) => `<section><h2>${escape(section.title)}</h2>${section.note === undefined ? '' : `<p>${escape(section.note)}</p>`}${section.tableHtml ?? ''}${section.results.length === 0 ? '' : charts(section.results)}</section>`).join('\n');
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>${escape(title)}</title><meta name="viewport" content="width=device-width,initial-scale=1"><style>
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1100px;padding:0 1rem;color:#111;background:#fff}h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.5rem;border-bottom:1px solid #ddd}
table{border-collapse:collapse;margin:.5rem 0;font-variant-numeric:tabular-nums}th,td{padding:.2rem .7rem;text-align:right;border-bottom:1px solid #eee}th:first-child,td:first-child{text-align:left}
.void{color:#b91c1c;font-weight:600}.facts{color:#555;font-size:.9rem}svg{max-width:100%;height:auto;margin:.5rem 1rem .5rem 0}svg text{font:11px system-ui,sans-serif;fill:#444}figure{display:inline-block;margin:0}figcaption{font-size:.85rem;color:#555}
@media(prefers-color-scheme:dark){body{background:#111;color:#eee}svg text{fill:#bbb}th,td,h2{border-color:#333}.facts,figcaption{color:#aaa}}</style></head><body>
<h1>${escape(title)}</h1><p class="facts">${facts.map(escape).join(' · ')}</p>
${body}</body></html>\n`;
}

/** Summary table of results. */
export function resultTable(results: readonly LoadResult[]): string {
  const rows = results.map((result) => `<tr><td>${escape(result.name === '' ? result.target : result.name)}${result.isPartial ? ' (partial)' : ''}</td><td>${result.perSecond.toFixed(0)}</td><td>${ms(result.latencyMs.p50)}</td><td>${ms(result.latencyMs.p90)}</td><td>${ms(result.latencyMs.p99)}</td><td>${ms(result.latencyMs.p999)}</td><td>${ms(result.latencyMs.max)}</td><td>${result.errorCount}</td><td class="void">${result.generatorLimit === undefined ? '' : escape(`void: ${result.generatorLimit}`)}</td></tr>`);
  return `<table><tr><th>run</th><th>answers/s</th><th>p50</th><th>p90</th><th>p99</th><th>p99.9</th><th>max</th><th>errors</th><th></th></tr>${rows.join('')}</table>`;
}

function charts(results: readonly LoadResult[]): string {
  const name = (result: LoadResult): string => (result.name === '' ? result.target : result.name);
  const parts = [resultTable(results)];
  parts.push(chart('latency by percentile (ms, log)', results.map((result) => ({ name: name(result), points: result.curve.filter(([percentile]) => percentile < 100).map(([percentile, value]) => [percentile, value]) })), percentileAxis(), logAxis(results.flatMap((result) => result.curve.map((point) => point[1])))));
  const end = Math.max(1, ...results.flatMap((result) => result.timeline.map((point) => point.atMs)));
  parts.push(chart('p99 over time (ms, log)', results.map((result) => ({ name: name(result), points: result.timeline.map((point) => [point.atMs, point.p99]) })), timeAxis(end), logAxis(results.flatMap((result) => result.timeline.map((point) => point.p99)))));
  parts.push(chart('answers per second', results.map((result) => ({ name: name(result), points: result.timeline.map((point) => [point.atMs, point.perSecond]) })), timeAxis(end), linearAxis(Math.max(1, ...results.flatMap((result) => result.timeline.map((point) => point.perSecond))))));
  if (results.some((result) => result.errorCount > 0)) parts.push(chart('errors', results.map((result) => ({ name: name(result), points: result.timeline.map((point) => [point.atMs, point.errors]) })), timeAxis(end), linearAxis(Math.max(1, ...results.flatMap((result) => result.timeline.map((point) => point.errors))))));
  for (const result of results) if (Object.keys(result.distribution).length > 1) parts.push(bars(`${name(result)}: answered by`, result));
  return parts.join('\n');
}

function percentileAxis(): Axis {
  const position = (percentile: number): number => -Math.log10(1 - Math.min(percentile, 99.9995) / 100) / 5.3;
  return { label: 'percentile', scale: position, ticks: [0, 50, 90, 99, 99.9, 99.99, 99.999].map((value) => [value, String(value)]) };
}
function timeAxis(endMs: number): Axis {
  const step = Math.max(1, Math.ceil(endMs / 1_000 / 8));
  return { label: 'seconds', scale: (value) => value / endMs, ticks: Array.from({ length: Math.floor(endMs / 1_000 / step) + 1 }, (_, index) => [index * step * 1_000, String(index * step)]) };
}
function logAxis(values: readonly number[]): Axis {
  const positive = values.filter((value) => value > 0);
  const low = Math.floor(Math.log10(Math.min(...positive, 1)));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...positive, 0.01))));
  return { label: 'ms', scale: (value) => (Math.log10(Math.max(value, 10 ** low)) - low) / (high - low), ticks: Array.from({ length: high - low + 1 }, (_, index) => [10 ** (low + index), String(Number((10 ** (low + index)).toPrecision(1)))]) };
}
function linearAxis(most: number): Axis {
  const step = 10 ** Math.floor(Math.log10(most)) / (most / 10 ** Math.floor(Math.log10(most)) < 3 ? 2 : 1);
  const top = Math.ceil(most / step) * step;
  return { label: '', scale: (value) => value / top, ticks: Array.from({ length: Math.round(top / step) + 1 }, (_, index) => [index * step, String(Math.round(index * step))]) };
}

function chart(title: string, series: readonly Series[], x: Axis, y: Axis): string {
  const px = (value: number): number => margin.left + x.scale(value) * (width - margin.left - margin.right);
  const py = (value: number): number => height - margin.bottom - y.scale(value) * (height - margin.top - margin.bottom);
  const grid = [
    ...y.ticks.map(([value, text]) => `<line x1="${margin.left}" x2="${width - margin.right}" y1="${py(value)}" y2="${py(value)}" stroke="#8884"/><text x="${margin.left - 6}" y="${py(value) + 4}" text-anchor="end">${text}</text>`),
    ...x.ticks.map(([value, text]) => `<text x="${px(value)}" y="${height - margin.bottom + 16}" text-anchor="middle">${text}</text>`),
  ].join('');
  const lines = series.map((item, index) => `<polyline fill="none" stroke="${colours[index % colours.length]}" stroke-width="1.8" points="${item.points.map(([a, b]) => `${px(a).toFixed(1)},${py(b).toFixed(1)}`).join(' ')}"/>`).join('');
  const legend = series.map((item, index) => `<tspan fill="${colours[index % colours.length]}" dx="10">■ ${escape(item.name)}</tspan>`).join('');
  return `<figure><figcaption>${escape(title)}</figcaption><svg viewBox="0 0 ${width} ${height}" width="${width}" role="img" aria-label="${escape(title)}">${grid}${lines}<text x="${margin.left}" y="${height - 4}">${legend}</text></svg></figure>`;
}

function bars(title: string, result: LoadResult): string {
  const items = Object.entries(result.distribution).sort((a, b) => b[1] - a[1]).slice(0, 20);
  const most = items[0]?.[1] ?? 1;
  const rows = items.map(([key, value], index) => `<rect x="220" y="${index * 18 + 4}" width="${(value / most) * 420}" height="13" fill="${colours[0]}"/><text x="214" y="${index * 18 + 15}" text-anchor="end">${escape(key.slice(0, 34))}</text><text x="${226 + (value / most) * 420}" y="${index * 18 + 15}">${((value / result.count) * 100).toFixed(1)} %</text>`).join('');
  return `<figure><figcaption>${escape(title)}</figcaption><svg viewBox="0 0 ${width} ${items.length * 18 + 8}" width="${width}" role="img" aria-label="${escape(title)}">${rows}</svg></figure>`;
}

export function escape(text: string): string { return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;'); }
