// How long `netloom up` takes until it serves, and how much memory it then has, with and without the example shop.

import { mkdtempSync, rmSync, existsSync, readFileSync } from 'node:fs';
import { spawn } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { SystemContext, SystemRow } from '../system-rows.ts';
import { median } from '../lib/report.ts';
import { stopChild } from '../lib/contender.ts';

export const startRow: SystemRow = {
  name: 'start', title: '`netloom up` until ready, and its memory', goal: 'ready in under 1 s and at most 150 MB with the shop', isHeavy: false,
  missing: () => undefined,
  async measure(context: SystemContext) {
    const rounds = context.isSmoke ? 1 : context.isQuick ? 2 : 5;
    const empty = await repeat(rounds, []);
    const shop = await repeat(rounds, ['-f', join(import.meta.dirname, '../../examples/shop')]);
    return { 'empty: ready s': empty.seconds, 'empty: RSS MB': empty.rssMb, 'shop: ready s': shop.seconds, 'shop: RSS MB': shop.rssMb };
  },
};

async function repeat(rounds: number, flags: readonly string[]): Promise<{ seconds: string; rssMb: string }> {
  const seconds: number[] = [];
  const rss: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const dataDir = mkdtempSync(join(tmpdir(), 'netloom-bench-'));
    const ready = join(dataDir, 'ready.json');
    const started = performance.now();
    const child = spawn(process.execPath, [join(import.meta.dirname, '../../bin/netloom.js'), 'up', ...flags, '--data-dir', dataDir, '--ready-file', ready, '--proxy-mode', 'userspace', '--pod-network', 'loopback', '--api-port', '0', '--http-port', '0', '--https-port', '0', '--dns-port', '0', '--admin-port', '0'], { stdio: 'ignore' });
    while (!existsSync(ready) && child.exitCode === null && performance.now() - started < 20_000) await new Promise((resolve) => { setTimeout(resolve, 5); });
    if (!existsSync(ready)) { await stopChild(child); throw new Error('netloom did not become ready in 20 s'); }
    seconds.push((performance.now() - started) / 1_000);
    const status = readFileSync(`/proc/${child.pid}/status`, 'utf8');
    rss.push(Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1_024);
    await stopChild(child);
    rmSync(dataDir, { recursive: true, force: true });
  }
  return { seconds: median(seconds).toFixed(2), rssMb: median(rss).toFixed(0) };
}
