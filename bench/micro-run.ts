// `netloom bench micro [PATTERN] [--compare REV]`: runs every micro/**/*.bench.ts in a process of its own. With --compare
// the same files' counterparts of another git revision run alternately, and the change is shown in percent.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import type { MicroResult } from './lib/micro.ts';
import { formatTable, median } from './lib/report.ts';
import type { BenchArgs } from './main.ts';
import { UsageError } from './user-load.ts';

const rounds = 3;
const root = join(import.meta.dirname, '..');

export async function runMicro(args: BenchArgs): Promise<number> {
  const pattern = args.positionals[1] ?? '';
  const isSmoke = args.values['smoke'] === true;
  const files = microFiles(root);
  const other = typeof args.values['compare'] === 'string' ? checkout(args.values['compare']) : undefined;
  try {
    const rows: string[][] = [];
    for (const file of files) {
      const now = new Map<string, number[]>();
      const then = new Map<string, number[]>();
      const hashes = new Map<string, number>();
      for (let round = 0; round < (isSmoke ? 1 : rounds); round++) {
        const turns: [string, Map<string, number[]>][] = [[root, now]];
        if (other !== undefined && existsSync(join(other.folder, file))) turns.push([other.folder, then]);
        for (const [folder, into] of round % 2 === 0 ? turns : turns.reverse()) for (const result of runFile(folder, file, pattern, isSmoke)) {
          into.set(result.name, [...(into.get(result.name) ?? []), result.nanoseconds]);
          if (into === now) hashes.set(result.name, result.hash);
        }
      }
      for (const [name, values] of now) {
        const before = then.get(name);
        const change = before === undefined ? '' : `${(((median(values) - median(before)) / median(before)) * 100).toFixed(1)} %`;
        rows.push([name, format(median(values)), ...(other === undefined ? [] : [before === undefined ? 'new' : format(median(before)), change]), (hashes.get(name) ?? 0).toString(16)]);
      }
    }
    if (rows.length === 0) throw new UsageError(`no micro benchmark matches ${pattern}`);
    process.stdout.write(`${formatTable(['piece', 'time', ...(other === undefined ? [] : [String(args.values['compare']), 'change']), 'work'], rows)}\n`);
    return 0;
  } finally { other?.remove(); }
}

function format(nanoseconds: number): string { return nanoseconds >= 1e6 ? `${(nanoseconds / 1e6).toFixed(2)} ms` : nanoseconds >= 1_000 ? `${(nanoseconds / 1_000).toFixed(2)} us` : `${nanoseconds.toFixed(0)} ns`; }

export function microFiles(folder: string): string[] {
  return readdirSync(join(folder, 'bench/micro'), { recursive: true, withFileTypes: true }).filter((entry) => entry.name.endsWith('.bench.ts')).map((entry) => relative(folder, join(entry.parentPath, entry.name))).sort();
}

export function runFile(folder: string, file: string, pattern: string, isSmoke: boolean): MicroResult[] {
  const output = execFileSync(process.execPath, [join(folder, 'bench/micro-child.ts'), join(folder, file), pattern, isSmoke ? 'smoke' : ''], { maxBuffer: 16 << 20, stdio: ['ignore', 'pipe', 'inherit'] }).toString();
  return output.trim().split('\n').filter((line) => line !== '').map((line) => JSON.parse(line) as MicroResult);
}

/** A worktree of the revision with this checkout's packages. */
function checkout(revision: string): { folder: string; remove(): void } {
  const folder = mkdtempSync(join(tmpdir(), 'netloom-compare-'));
  try { execFileSync('git', ['worktree', 'add', '--detach', '--force', folder, revision], { cwd: root, stdio: 'pipe' }); } catch (error) {
    rmSync(folder, { recursive: true, force: true });
    throw new UsageError(`cannot check out ${revision}: ${String((error as { stderr?: Buffer }).stderr ?? error).trim().split('\n').at(-1)}`);
  }
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
  return { folder, remove: () => { execFileSync('git', ['worktree', 'remove', '--force', folder], { cwd: root, stdio: 'ignore' }); } };
}
