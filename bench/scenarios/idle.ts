// What idle connections cost in memory: kept-alive ones at the Ingress and proxied ones at the userspace TCP engine, each
// after one exchange, opened by a process of its own. A proxied TCP connection has two descriptors, so 4,500 stand for
// 10,000 under a limit of 20,000 files; the Ingress keeps a reserve below its own limit of 9,000, so 8,000 stand for 10,000.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { makeBed } from '../lib/bed.ts';
import { stopChild, type Bed } from '../lib/contender.ts';
import { rssMbOf } from '../lib/proc.ts';
import { netloom } from '../peers/netloom.ts';
import type { SystemContext, SystemRow } from '../system-rows.ts';

const settleMs = 3_000;

export const idleRow: SystemRow = {
  name: 'idle', title: 'Memory of idle connections', goal: '10,000 idle connections <= 150 MB, at the Ingress and through the userspace TCP engine', isHeavy: false,
  missing: () => undefined,
  async measure(context: SystemContext) {
    const scale = context.isSmoke ? 0.01 : context.isQuick ? 0.5 : 1;
    const values: Record<string, string> = {};
    const { bed, stop } = await makeBed();
    try {
      for (const [kind, row, full] of [['ingress', 'http-idle', 8_000], ['clusterip', 'tcp-idle', 4_500]] as const) {
        const count = Math.round(full * scale);
        const { before, after } = await measure(bed, kind, row, count, context.isSmoke ? 100 : settleMs);
        values[`${kind}: RSS MB before, with ${count.toLocaleString('en')} idle`] = `${before.toFixed(0)}, ${after.toFixed(0)}`;
        values[`${kind}: MB per 10,000`] = (((after - before) / count) * 10_000).toFixed(0);
      }
    } finally { await stop(); }
    return values;
  },
};

async function measure(bed: Bed, kind: 'ingress' | 'clusterip', row: string, count: number, waitMs: number): Promise<{ before: number; after: number }> {
  const running = await netloom(kind).start(bed, row);
  const clients: ReturnType<typeof spawn>[] = [];
  try {
    // A hundred connections first: code and pools that all share belong to neither figure.
    clients.push(await openIdle(running.host, running.port, 100, row));
    const before = rssMbOf(running.pid);
    clients.push(await openIdle(running.host, running.port, count, row));
    await new Promise((resolve) => { setTimeout(resolve, waitMs); });
    return { before, after: rssMbOf(running.pid) };
  } finally {
    await Promise.all(clients.map(stopChild));
    await running.stop();
  }
}

async function openIdle(host: string, port: number, count: number, row: string): Promise<ReturnType<typeof spawn>> {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'programs/idle-clients.ts'), host, String(port), String(count), row.slice(0, row.indexOf('-'))], { stdio: ['pipe', 'pipe', 'pipe'] });
  let words = '';
  child.stderr.on('data', (chunk: Buffer) => { words += chunk.toString('utf8'); });
  const open = await Promise.race([once(child.stdout, 'data').then(([line]) => Number(String(line))), once(child, 'exit').then(() => 0)]);
  if (open !== count) { await stopChild(child); throw new Error(`only ${open} of ${count} connections stayed open: ${words.split('\n').find((line) => /^\w*Error/.test(line)) ?? ''}`); }
  return child;
}
