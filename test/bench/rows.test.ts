// Every row of the project's own measurement works, in the smallest size: each contender that is installed answers
// correctly, system rows give their values, micro benchmarks run, and what cannot run here is left out with a reason.

import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { fitDuration } from '../../bench/peers-run.ts';
import { rows } from '../../bench/rows.ts';
import { systemRows } from '../../bench/system-rows.ts';
import { microFiles, runFile } from '../../bench/micro-run.ts';
import { root, runCommand } from '../lib/command.ts';

const isLong = process.env['NETLOOM_SOAK'] === '1';
/** Rows that take longest in their smallest size; they run in the long form of the tests. */
const longRows = new Set(['memory', 'routes', 'start', 'converge']);

async function smoke(only: string): Promise<{ code: number; text: string; words: string }> {
  const result = await runCommand(process.execPath, [join(root, 'bin/netloom.js'), 'bench', '--peers', '--smoke', '--only', only]);
  return { code: result.code, text: result.stdout, words: result.stderr };
}

/** Every contender of the row was either measured or left out with a reason. */
function expectWhole(row: (typeof rows)[number], words: string): void {
  for (const { name } of row.contenders) {
    const measured = new RegExp(`^ok  ${row.name} +${name} +(\\d+)/s`, 'm').exec(words);
    const leftOut = words.includes(`--  ${row.name}: ${name} left out, `);
    expect({ name, isPresent: leftOut || Number(measured?.[1]) > 0 }).toEqual({ name, isPresent: true });
  }
}

describe('rows beside the peers', () => {
  // One process for several rows: the backends and the certificate are made once.
  const groups = [/^http-/, /^(https|h2)/, /^(http2|grpc|websocket)/, /^tcp/, /^dns/].map((pattern) => [pattern.source, rows.filter((row) => pattern.test(row.name))] as const);

  test('every row is in a group below', () => {
    expect([...new Set(groups.flatMap(([, list]) => list.map((row) => row.name)))].sort()).toEqual(rows.map((row) => row.name).sort());
  });

  test.each(groups)('%s', async (_pattern, list) => {
    const { code, words } = await smoke(`^(${list.map((row) => row.name).join('|')})$`);
    for (const row of list) expectWhole(row, words);
    expect(code, words).toBe(0);
  }, 60_000);
});

describe('rows of the whole system', () => {
  const chosen = systemRows.filter((row) => !row.isHeavy && (isLong || !longRows.has(row.name)));
  test.each(chosen.map((row) => [row.name, row] as const))('%s', async (name, row) => {
    const { code, text, words } = await smoke(`^${name}$`);
    if (row.missing() !== undefined) { expect(words).toContain(`--  ${name}: left out, `); return; }
    expect(words).toMatch(new RegExp(`^ok  ${name} `, 'm'));
    expect(text).not.toMatch(/NaN|undefined/);
    expect(code, words).toBe(0);
  }, 60_000);
});

describe('micro benchmarks', () => {
  test.each(microFiles(root).filter((file) => isLong || !file.endsWith('storage.bench.ts')))('%s', (file) => {
    const results = runFile(root, file, '', true);
    expect(results.length).toBeGreaterThan(0);
    expect(results.map((result) => result.name).filter((name) => !name.startsWith(file.split('/')[2] ?? '-'))).toEqual([]);
  }, 60_000);
});

test('the whole comparison fits its time, and one row alone is measured long', () => {
  expect(fitDuration(rows, 5, false)).toBeLessThan(1_000);
  expect(fitDuration(rows, 1, true)).toBeLessThan(1_000);
  expect(fitDuration(rows.slice(0, 1), 5, false)).toBe(3_000);
});

test('a row that does not exist is a usage error that names those that do', async () => {
  const { code, words } = await smoke('^nothing$');
  expect(code).toBe(2);
  expect(words).toMatch(/no row matches \^nothing\$\nfix: .*http-keepalive.*kernel-scale/);
});
