// Starts one netloom process for a system row and gives a client for it; stops and removes everything afterwards.

import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ApiClient, httpTransport } from '../../api/client.ts';
import { transportOptions } from '../../api/kubeconfig.ts';
import { makeFolder, removeFolder, stopChild } from '../lib/contender.ts';

export interface ServerReady { pid: number; kubeconfig: string; api: { port: number }; http?: { port: number }; dns?: { address: string; port: number }; admin: { port: number }; readySeconds: number }
export interface ServerProcess { client: ApiClient; ready: ServerReady; dataDir: string; rssMb(): number; stop(isKeepingData?: boolean): Promise<void>; newClient(): ApiClient }

export interface ServerProcessOptions { command: 'up' | 'server' | 'node'; flags?: readonly string[]; dataDir?: string; namespace?: string; nodeFlags?: readonly string[] }

/** Resolves when the ready file is there. All ports are free ones. */
export async function startServer(options: ServerProcessOptions): Promise<ServerProcess> {
  const dataDir = options.dataDir ?? makeFolder();
  const readyFile = join(dataDir, 'ready.json');
  const ports = [...(options.command === 'node' ? [] : ['--api-port', '0']), '--admin-port', '0', ...(options.command === 'server' ? [] : ['--http-port', '0', '--https-port', '0', '--dns-port', '0'])];
  const command = [process.execPath, ...(options.nodeFlags ?? []), join(import.meta.dirname, '../../bin/netloom.js'), options.command, '--data-dir', dataDir, '--ready-file', readyFile, ...ports, ...(options.flags ?? [])];
  const [file = '', ...args] = options.namespace === undefined ? command : ['ip', 'netns', 'exec', options.namespace, ...command];
  let output = '';
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, HOME: dataDir } });
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => { output = (output + chunk.toString('utf8')).slice(-3_000); });
  const deadline = performance.now() + 60_000;
  while (!existsSync(readyFile)) {
    if (child.exitCode !== null || performance.now() > deadline) { await stopChild(child); throw new Error(`netloom did not start: ${output.trim().split('\n').slice(-3).join('; ')}`); }
    await new Promise((resolve) => { setTimeout(resolve, 5); });
  }
  const ready = JSON.parse(readFileSync(readyFile, 'utf8')) as ServerReady;
  const clients: ApiClient[] = [];
  const newClient = (): ApiClient => { const client = new ApiClient(httpTransport(transportOptions(ready.kubeconfig))); clients.push(client); return client; };
  return {
    client: newClient(), ready, dataDir, newClient,
    rssMb: () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${ready.pid}/status`, 'utf8'))?.[1] ?? 0) / 1_024,
    stop: async (isKeepingData = false) => {
      for (const client of clients) await client.transport.close();
      await stopChild(child);
      if (!isKeepingData) removeFolder(dataDir);
    },
  };
}
