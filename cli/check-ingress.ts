// `netloom check ingress -f FILE`: how existing Ingress manifests would be served, annotation by annotation. Exit code 1
// when something is refused, faulty or unreadable.

import { readFileSync } from 'node:fs';
import { checkIngressManifests, type IngressReport } from '../ingress/check.ts';
import { ExitCode } from './exit.ts';
import { listManifestFiles } from './manifests.ts';
import { paint, print, type Mark } from './output.ts';

const marks: Record<string, Mark> = { honoured: 'ok', approximated: '!!', ignored: '!!', refused: 'xx', unknown: '!!' };

export function checkIngress(flags: Record<string, unknown>): void {
  let badCount = 0;
  const all: { file: string; report: ReturnType<typeof checkIngressManifests> }[] = [];
  for (const file of listManifestFiles(flags['file'] as string[])) {
    const report = checkIngressManifests(readFileSync(file, 'utf8'));
    all.push({ file, report });
    badCount += report.counts.refused + report.errors.length + report.ingresses.reduce((sum, item) => sum + item.faults.length, 0);
  }
  if (flags['output'] === 'json') print(JSON.stringify(all));
  else for (const { file, report } of all) printReport(file, report);
  if (badCount > 0) throw new ExitCode(1);
}

function printReport(file: string, report: ReturnType<typeof checkIngressManifests>): void {
  for (const error of report.errors) print(`${paint('xx')}  ${file}: ${error}`);
  for (const ingress of report.ingresses) printIngress(file, ingress);
  const { honoured, approximated, ignored, refused, unknown } = report.counts;
  print(`${report.ingresses.length} Ingresses; annotations: ${honoured} honoured, ${approximated} approximated, ${ignored} ignored, ${refused} refused, ${unknown} unknown`);
}

function printIngress(file: string, ingress: IngressReport): void {
  print(`${ingress.key}   ${file}:${ingress.line}`);
  for (const item of ingress.annotations) print(`  ${paint(marks[item.fate] ?? '--')}  ${item.fate.padEnd(12)} ${item.name}: ${item.value.split('\n')[0]}${item.note === '' ? '' : `   (${item.note})`}`);
  for (const fault of ingress.faults) print(`  ${paint('xx')}  ${fault.reason}: ${fault.field === '' ? '' : `${fault.field}: `}${fault.message}`);
}
