// How netloom talks to a person: marks that read without colour, errors as "xx what / fix: how", kubectl-like columns.
// Colour only on a terminal and never with NO_COLOR (node's styleText decides).

import { styleText } from 'node:util';
import { NetloomError } from '../api/errors.ts';

export type Mark = 'ok' | '!!' | 'xx' | '--';

/** Coloured when stderr is a terminal. */
export function paint(mark: Mark): string {
  const colour = mark === 'ok' ? 'green' : mark === '!!' ? 'yellow' : mark === 'xx' ? 'red' : 'gray';
  return styleText(colour, mark, { stream: process.stderr });
}

/** One line on stderr: talk, not result. */
export function say(text = ''): void { process.stderr.write(`${text}\n`); }
/** One line on stdout: the result. */
export function print(text = ''): void { process.stdout.write(`${text}\n`); }

/** The error in one line, then what to do. Faults in netloom itself keep their stack only at NETLOOM_DEBUG=1. */
export function printError(error: unknown): void {
  const known = describeError(error);
  say(`${paint('xx')}  ${known.message}${known.code === undefined ? '' : `   ${known.code}`}`);
  if (known.hint !== undefined) say(`fix: ${known.hint}`);
  if (process.env['NETLOOM_DEBUG'] === '1' && error instanceof Error) say(error.stack);
}

export interface DescribedError { message: string; code: string | undefined; hint: string | undefined }

const systemHints: Record<string, string> = {
  EACCES: 'run as root, or choose a port above 1023 or another path',
  EPERM: 'run as root, or use --proxy-mode userspace',
  ENOSPC: 'free some disk space, then start again',
  EROFS: 'choose a --data-dir that can be written',
  EADDRNOTAVAIL: 'this address does not exist on the machine: choose another --bind',
  EMFILE: 'raise the limit of open files (ulimit -n)',
};

/** What a person is told about any error; never a stack. */
export function describeError(error: unknown): DescribedError {
  if (error instanceof NetloomError) return { message: oneLine(error.message), code: error.code, hint: error.hint };
  const system = error as NodeJS.ErrnoException;
  if (error instanceof Error && typeof system.code === 'string') return { message: oneLine(error.message), code: system.code, hint: systemHints[system.code] };
  return { message: oneLine(error instanceof Error ? error.message : String(error)), code: undefined, hint: undefined };
}

function oneLine(text: string): string { return text.replace(/\s*\n\s*/g, '; '); }

/** Rows as kubectl prints them: upper-case heads, three spaces between columns, no boxes. */
export function formatTable(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = heads.map((head, column) => Math.max(head.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const line = (cells: readonly string[]): string => cells.map((cell, column) => (column === cells.length - 1 ? cell : cell.padEnd(widths[column] ?? 0))).join('   ').trimEnd();
  return [line(heads), ...rows.map(line)].join('\n');
}

export function seconds(milliseconds: number): string { return `${(milliseconds / 1_000).toFixed(2)} s`; }
