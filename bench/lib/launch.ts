// Starts one contender's process pinned to its core, with its output kept for error messages.

import { connect } from 'node:net';
import type { ChildProcess } from 'node:child_process';
import { spawnPinned } from './proc.ts';
import { stopChild, waitUntil, type Running } from './contender.ts';

export interface LaunchOptions { core: number; file: string; args: string[]; host?: string; port: number; env?: Record<string, string>; isUdp?: boolean; isUp?: () => Promise<boolean> }

/** Resolves when the port accepts a connection (or `isUp` says so). */
export async function launch(options: LaunchOptions): Promise<Running & { child: ChildProcess }> {
  const host = options.host ?? '127.0.0.1';
  let output = '';
  const child = spawnPinned(options.core, options.file, options.args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...options.env } });
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk: Buffer) => { output = (output + chunk.toString('utf8')).slice(-4_000); });
  child.on('error', (error) => { output += error.message; });
  try {
    await waitUntil(options.isUp ?? (() => accepts(host, options.port)), child, () => output);
  } catch (error) {
    await stopChild(child);
    throw error;
  }
  return { host, port: options.port, pid: child.pid ?? 0, child, stop: () => stopChild(child) };
}

export function accepts(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    socket.once('connect', () => { socket.destroy(); resolve(true); });
    socket.once('error', () => resolve(false));
  });
}
