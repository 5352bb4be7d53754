// The C library's own resolver, with a Pod's resolv.conf, in a network and mount namespace of its own: getent and curl
// find Services by short names through the search list, and replies come from the address that was asked.

import { spawnSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';

const isRoot = process.getuid?.() === 0;
const canUnshare = isRoot && spawnSync('unshare', ['--net', '--mount', 'true']).status === 0;

function inside(...commands: string[]): Map<string, { code: number; text: string }> {
  const script = new URL('./resolver-script.ts', import.meta.url).pathname;
  const result = spawnSync('unshare', ['--net', '--mount', process.execPath, script, ...commands], { encoding: 'utf8', timeout: 30_000 });
  if (result.status !== 0) throw new Error(result.stderr);
  const outputs = JSON.parse(result.stdout) as { command: string; code: number; text: string }[];
  return new Map(outputs.map((output) => [output.command, output]));
}

describe.skipIf(!canUnshare)('glibc', () => {
  test('getent resolves short names, both families, headless and aliases; missing names fail at once', () => {
    const outputs = inside('getent ahostsv4 web', 'getent ahosts ds.dual', 'getent ahosts set.hl', 'getent ahosts inner.ext', 'getent ahosts nope', 'getent hosts 10.96.1.1', 'getent ahosts big.hl | wc -l',
      'dig @10.244.9.9 +short web.shop.svc.cluster.local');
    const first = (command: string): string[] => [...new Set((outputs.get(command)?.text ?? '').trim().split('\n').map((line) => line.split(/\s+/)[0] ?? ''))].sort();
    expect(first('getent ahostsv4 web')).toEqual(['10.96.1.1']);
    expect(first('getent ahosts ds.dual')).toEqual(['10.96.2.1', 'fd00:10:96::201']);
    expect(first('getent ahosts set.hl')).toEqual(['10.244.2.10', '10.244.2.11']);
    expect(first('getent ahosts inner.ext')).toEqual(['10.96.1.1']);
    expect(outputs.get('getent ahosts nope')?.code).toBe(2);
    expect(outputs.get('getent hosts 10.96.1.1')?.text).toContain('web.shop.svc.cluster.local');
    expect(Number(outputs.get('getent ahosts big.hl | wc -l')?.text)).toBe(900);
    expect(outputs.get('dig @10.244.9.9 +short web.shop.svc.cluster.local')?.text.trim()).toBe('10.96.1.1');
  });
});
