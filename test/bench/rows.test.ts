// Every row beside the peers works, in the smallest size: each contender that is installed answers correctly, and one that
// is not is left out with a reason.

import { describe, expect, test } from 'vitest';
import { fitDuration } from '../../bench/peers-run.ts';
import { rows } from '../../bench/rows.ts';
import { smoke } from './smoke.ts';

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

test('the whole comparison fits its time, and one row alone is measured long', () => {
  expect(fitDuration(rows, 5, false)).toBeLessThan(500);
  expect(fitDuration(rows, 1, true)).toBeLessThan(1_000);
  expect(fitDuration(rows.slice(0, 1), 5, false)).toBeGreaterThan(1_000);
});

test('a row that does not exist is a usage error that names those that do', async () => {
  const { code, words } = await smoke('^nothing$');
  expect(code).toBe(2);
  expect(words).toMatch(/no row matches \^nothing\$\nfix: .*http-keepalive.*kernel-scale/);
});
