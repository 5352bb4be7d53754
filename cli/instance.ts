// What a running netloom says about itself in DATA_DIR/netloom.json and in --ready-file, and how other commands find
// it: status, check, explain, run and expose start from this file.

import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ApiClient, httpTransport } from '../api/client.ts';
import { NetloomError } from '../api/errors.ts';
import { transportOptions } from '../api/kubeconfig.ts';

export interface Listener { address: string; port: number }
/** The ready file. Parts that are switched off are absent. */
export interface ReadyInfo {
  pid: number; version: string; node: string; proxyMode: string; kubeconfig: string;
  api?: Listener; http?: Listener; https?: Listener; dns?: Listener; admin?: Listener;
  dnsClusterIP?: string; serviceCIDR?: string; podCIDR?: string; clusterDomain?: string; startedAt: string; readySeconds: number;
}

/** Writes whole or not at all: temporary file beside it, then rename. */
export function writeJsonFile(path: string, value: unknown): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const temporary = `${path}.${process.pid}.tmp`;
  writeFileSync(temporary, `${JSON.stringify(value, null, 2)}\n`, { mode: 0o600 });
  renameSync(temporary, path);
}

export function instancePath(dataDir: string): string { return join(dataDir, 'netloom.json'); }
export function removeInstance(dataDir: string): void { rmSync(instancePath(dataDir), { force: true }); }

/** The instance of this data directory; undefined when none runs. */
export function findInstance(dataDir: string): ReadyInfo | undefined {
  let info: ReadyInfo;
  try { info = JSON.parse(readFileSync(instancePath(dataDir), 'utf8')) as ReadyInfo; } catch { return undefined; }
  try { process.kill(info.pid, 0); } catch (error) { if ((error as NodeJS.ErrnoException).code === 'ESRCH') return undefined; }
  return info;
}

export function requireInstance(dataDir: string): ReadyInfo {
  const info = findInstance(dataDir);
  if (info === undefined) throw new NetloomError('ServiceUnavailable', `no netloom runs with data directory ${dataDir}`, { source: 'config', context: { exitCode: 3 }, hint: 'start one with "netloom up", or name its --data-dir' });
  return info;
}

export function clientOf(info: ReadyInfo): ApiClient { return new ApiClient(httpTransport(transportOptions(info.kubeconfig)), { userAgent: 'netloom-cli' }); }
