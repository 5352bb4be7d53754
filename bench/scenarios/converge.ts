// From an API write to the first connection that it routes: the EndpointSlice of a Service is switched between two
// backends and new connections are made until one lands on the new backend. Userspace engine on loopback; with root also
// the kernel engine, in a network namespace of its own.

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { stopChild } from '../lib/contender.ts';
import type { SystemContext, SystemRow } from '../system-rows.ts';

interface Answer { p50: number; p99: number; max: number; count: number }

export const convergeRow: SystemRow = {
  name: 'converge', title: 'API write to first routed connection', goal: 'p50 <= 10 ms, p99 <= 50 ms', isHeavy: false,
  missing: () => undefined,
  async measure(context: SystemContext) {
    const rounds = context.isSmoke ? 5 : context.isQuick ? 50 : 300;
    const values: Record<string, string> = {};
    const report = (name: string, answer: Answer): void => { values[`${name} p50 ms`] = answer.p50.toFixed(2); values[`${name} p99 ms`] = answer.p99.toFixed(2); values[`${name} max ms`] = answer.max.toFixed(1); };
    report('userspace', await converge('userspace', rounds));
    if (process.getuid?.() === 0) report('nftables', await converge('nftables', rounds));
    return values;
  },
};

/** The prober is a program of its own, so that in kernel mode it can live in the namespace. */
async function converge(mode: 'userspace' | 'nftables', rounds: number): Promise<Answer> {
  const namespace = mode === 'nftables' ? `nl-bench-${randomBytes(3).toString('hex')}` : undefined;
  if (namespace !== undefined) {
    execFileSync('ip', ['netns', 'add', namespace]);
    execFileSync('ip', ['-n', namespace, 'link', 'set', 'lo', 'up']);
  }
  const endpointIP = mode === 'userspace' ? '127.64.200.2' : '10.244.250.2';
  try {
    if (namespace !== undefined) execFileSync('ip', ['-n', namespace, 'addr', 'add', `${endpointIP}/32`, 'dev', 'lo']);
    const program = [process.execPath, join(import.meta.dirname, 'programs', 'converge-probe.ts'), mode, endpointIP, String(rounds)];
    const [file = '', ...args] = namespace === undefined ? program : ['ip', 'netns', 'exec', namespace, ...program];
    const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    const timer = setTimeout(() => { void stopChild(child); }, 120_000);
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => { output += chunk.toString('utf8'); });
    await once(child, 'exit');
    clearTimeout(timer);
    return JSON.parse(output.trim().split('\n').at(-1) ?? '') as Answer;
  } finally { if (namespace !== undefined) execFileSync('ip', ['netns', 'delete', namespace]); }
}

