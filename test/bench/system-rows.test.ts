// Every row of the whole system gives its values in the smallest size, or is left out with a reason; every micro
// benchmark does its work.

import { describe, expect, test } from 'vitest';
import { microFiles, runFile } from '../../bench/micro-run.ts';
import { systemRows } from '../../bench/system-rows.ts';
import { root } from '../lib/command.ts';
import { smoke } from './smoke.ts';

const isLong = process.env['NETLOOM_SOAK'] === '1';
/** Rows that take longest in their smallest size; they run in the long form of the tests. */
const longRows = new Set(['memory', 'routes', 'start', 'converge']);

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
