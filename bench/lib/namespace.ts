// Runs one measuring program of bench/scenarios/programs as a process of its own, inside a fresh network namespace when
// it programs the kernel, so that the host's own rules and routes are never touched. The namespace is removed again
// whatever happens; the program's last line of output is its answer as JSON.

import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import { stopChild } from './contender.ts';
import { findProgram } from './proc.ts';

export interface ProgramOptions { input: unknown; timeoutMs: number; nodeFlags?: readonly string[];
  /** Addresses put on the loopback device of a fresh namespace; undefined = runs in the host's. */
  addresses?: readonly string[] }

/** Why programs that need the kernel's Service rules cannot run here; undefined when they can. */
export function missingKernel(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root';
  return findProgram('ip') === undefined || findProgram('nft') === undefined ? 'needs ip and nft' : undefined;
}

/** The program gets `input` as JSON in argv. Throws with its last words when it fails or takes too long. */
export async function runProgram<T>(name: string, options: ProgramOptions): Promise<T> {
  const { addresses } = options;
  const namespace = addresses === undefined ? undefined : makeNamespace(addresses);
  try {
    const program = [process.execPath, ...(options.nodeFlags ?? []), join(import.meta.dirname, '../scenarios/programs', name), JSON.stringify(options.input)];
    const [file = '', ...args] = namespace === undefined ? program : ['ip', 'netns', 'exec', namespace, ...program];
    const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` } });
    let output = '';
    let words = '';
    child.stdout.on('data', (chunk: Buffer) => { output += chunk.toString('utf8'); });
    child.stderr.on('data', (chunk: Buffer) => { words = (words + chunk.toString('utf8')).slice(-4_000); });
    let isLate = false;
    const timer = setTimeout(() => { isLate = true; void stopChild(child); }, options.timeoutMs);
    const [code] = await once(child, 'close') as [number | null];
    clearTimeout(timer);
    if (code !== 0) throw new Error(isLate ? `${name} did not end within ${options.timeoutMs / 1_000} s` : `${name} failed: ${words.trim().split('\n').find((line) => line.includes('Error')) ?? words.trim().split('\n').at(-1) ?? code}`);
    return JSON.parse(output.trim().split('\n').at(-1) ?? '') as T;
  } finally { if (namespace !== undefined) removeNamespace(namespace); }
}

function makeNamespace(addresses: readonly string[]): string {
  const namespace = `nl-bench-${randomBytes(3).toString('hex')}`;
  execFileSync('ip', ['netns', 'add', namespace]);
  try {
    execFileSync('ip', ['-n', namespace, 'link', 'set', 'lo', 'up']);
    for (const address of addresses) execFileSync('ip', ['-n', namespace, 'addr', 'add', `${address}/32`, 'dev', 'lo']);
  } catch (error) { removeNamespace(namespace); throw error; }
  return namespace;
}

function removeNamespace(namespace: string): void { execFileSync('ip', ['netns', 'delete', namespace]); }
