// What every contender of a measured path is: a small description that starts one fresh, pinned process, says where it
// answers and which processes' CPU and memory count, and stops it.

import type { ChildProcess } from 'node:child_process';
import { createServer } from 'node:net';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Things every contender is pointed at. Backends answer on `backendHost`. */
export interface Bed {
  backendHost: string; httpPort: number; tcpPort: number; bigPort: number; websocketPort: number; grpcPort: number;
  certFile: string; keyFile: string; pemFile: string;
  /** Core of the contender; load and backends run on the other. */
  contenderCore: number; loadCore: number;
  /** Set: netloom runs under --cpu-prof and leaves its profiles here. */
  profileFolder?: string;
  folder: string;
}

export interface Running { host: string; port: number; pid: number; serverName?: string; stop(): Promise<void> }

export interface Contender {
  name: string;
  /** Why it cannot run here; undefined when it can. */
  missing(): string | undefined;
  start(bed: Bed, row: string): Promise<Running>;
}

export interface Row {
  name: string; title: string; unit: 'request' | 'connection' | 'query' | 'exchange';
  /** What the goal compares: ours over theirs. */
  goal?: string;
  contenders: Contender[];
  plan: (running: Running, bed: Bed) => Partial<import('./plan.ts').LoadPlan>;
  /** Half-of-saturation latency run as well. */
  hasLatencyRun: boolean;
}

/** The backend that a row is about. */
export function backendPort(bed: Bed, row: string): number {
  return row.startsWith('tcp') ? bed.tcpPort : row.includes('1mb') ? bed.bigPort : row.includes('websocket') ? bed.websocketPort : row === 'grpc' ? bed.grpcPort : bed.httpPort;
}
export function isTlsRow(row: string): boolean { return row.includes('https') || row === 'h2'; }
/** HTTP/2 without TLS, by prior knowledge. */
export function isClearHttp2Row(row: string): boolean { return row === 'grpc' || row === 'http2-cleartext'; }

/** Stops a child by its pid and waits for its end; SIGKILL after 3 s. */
export async function stopChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise<void>((resolve) => { child.once('exit', () => resolve()); });
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), 3_000);
  await ended;
  clearTimeout(timer);
}

/** A port that is free now on loopback. */
export async function freePort(host = '127.0.0.1'): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, host, () => { const { port } = server.address() as { port: number }; server.close(() => resolve(port)); });
  });
}

/** Resolves when the check passes; the child's end or 15 s without success reject with its output. */
export async function waitUntil(check: () => Promise<boolean>, child: ChildProcess, output: () => string): Promise<void> {
  const deadline = performance.now() + 15_000;
  for (;;) {
    if (await check().catch(() => false)) return;
    if (child.exitCode !== null || performance.now() > deadline) throw new Error(`it did not start: ${output().trim().split('\n').slice(-3).join('; ')}`);
    await new Promise((resolve) => { setTimeout(resolve, 20); });
  }
}

export function makeFolder(): string { return mkdtempSync(join(tmpdir(), 'netloom-bench-')); }
export function removeFolder(folder: string): void { rmSync(folder, { recursive: true, force: true }); }
export function writeIn(folder: string, name: string, text: string): string { const path = join(folder, name); writeFileSync(path, text); return path; }
