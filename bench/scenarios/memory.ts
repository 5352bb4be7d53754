// RSS of a whole `netloom up` and of a `netloom node` beside its server, empty and with thousands of Services of three
// endpoints, in kernel mode, and so in a network namespace of its own.

import { missingKernel, runProgram } from '../lib/namespace.ts';
import type { SystemContext, SystemRow } from '../system-rows.ts';
import { endpointIP } from './programs/kernel-bed.ts';

interface Memory { empty: number; full: number }

export const memoryRow: SystemRow = {
  name: 'memory', title: 'Memory of `up` and of a node', goal: 'a node with 10,000 Services x 3 endpoints <= 250 MB', isHeavy: false,
  missing: missingKernel,
  async measure(context: SystemContext) {
    const values: Record<string, string> = {};
    for (const command of ['up', 'node'] as const) {
      const count = context.isSmoke ? 20 : context.isQuick ? 1_000 : command === 'up' ? 3_000 : 10_000;
      const memory = await runProgram<Memory>('memory-probe.ts', { addresses: [endpointIP], timeoutMs: 180_000, input: { command, count } });
      values[`${command}: RSS MB empty, with ${count.toLocaleString('en')} Services`] = `${memory.empty.toFixed(0)}, ${memory.full.toFixed(0)}`;
      values[`${command}: MB per 1,000 Services`] = (((memory.full - memory.empty) / count) * 1_000).toFixed(1);
    }
    return values;
  },
};
