// Profiles are read right: own time by function, idle time left out, and a flame graph without scripts or outside assets.

import { expect, test } from 'vitest';
import { flamePage } from '../../bench/lib/flame.ts';
import { costliest, treeOf } from '../../bench/lib/profile.ts';

const frame = (functionName: string, url = ''): { functionName: string; url: string; lineNumber: number } => ({ functionName, url, lineNumber: 9 });
const profile = {
  nodes: [
    { id: 1, callFrame: frame('(root)'), children: [2, 3] }, { id: 2, callFrame: frame('(idle)') },
    { id: 3, callFrame: frame('serve', 'file:///x/proxy/http/engine.ts'), children: [4, 5] },
    { id: 4, callFrame: frame('parse<T>', 'file:///x/proxy/http/head.ts') }, { id: 5, callFrame: frame('write', 'node:net') },
  ],
  samples: [2, 3, 4, 4, 5], timeDeltas: [1_000, 10, 30, 30, 30],
};

test('shares are of the work done, the costliest by own time first', () => {
  expect(costliest(treeOf(profile), 3)).toEqual([
    { name: 'parse<T> proxy/http/head.ts:10', share: 0.6 }, { name: 'write node:net:10', share: 0.3 }, { name: 'serve proxy/http/engine.ts:10', share: 0.1 },
  ]);
});

test('the flame graph is self-contained and escapes names', () => {
  const page = flamePage('t', treeOf(profile));
  expect(page).toContain('parse&lt;T&gt;');
  expect(page).not.toMatch(/<script|src=|href=|\(idle\)/);
});
