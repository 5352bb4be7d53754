// A control plane for tests, and short ways to call it: in process as the admin, over TLS as anybody, or with kubectl.

import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ApiClient, readBody, type ApiTransport } from '../../../api/client.ts';
import type { KubeObject, Status } from '../../../api/types.ts';
import { start, type ControlPlane, type StartOptions } from '../../../control/start.ts';

/* eslint-disable @typescript-eslint/no-explicit-any -- answers are looked into by shape */
export interface Answer { status: number; headers: Record<string, string>; text: string; json: any }

export interface CallOptions { body?: unknown; contentType?: string; headers?: Record<string, string>; query?: string }

/** A running control plane with helpers bound to it. */
export class World {
  readonly control: ControlPlane;
  readonly transport: ApiTransport;
  readonly client: ApiClient;
  readonly folder: string;

  constructor(control: ControlPlane, folder: string) {
    this.control = control;
    this.folder = folder;
    this.transport = control.transport({ user: 'netloom-admin', groups: ['system:masters'] });
    this.client = new ApiClient(this.transport);
  }

  /** In-process call as the admin (or over the given transport). */
  async call(method: string, path: string, options: CallOptions = {}, transport: ApiTransport = this.transport): Promise<Answer> {
    const headers: Record<string, string> = { accept: 'application/json', ...options.headers };
    let body: string | undefined;
    if (options.body !== undefined) {
      headers['content-type'] ??= options.contentType ?? 'application/json';
      body = typeof options.body === 'string' ? options.body : JSON.stringify(options.body);
    }
    const response = await transport.request({ method, path, query: options.query, headers, body });
    const text = (await readBody(response)).toString('utf8');
    let json: unknown;
    try { json = JSON.parse(text); } catch { json = undefined; }
    return { status: response.status, headers: response.headers, text, json };
  }

  as(user: string, groups: readonly string[] = []): ApiTransport { return this.control.transport({ user, groups }); }

  /** Runs kubectl as the admin; resolves with what it printed and its exit code. */
  kubectl(args: string | readonly string[], options: KubectlOptions = {}): Promise<KubectlResult> { return kubectl(join(this.folder, 'kubeconfig'), this.folder, args, options); }

  /** Writes a file into the world's folder and returns its path. */
  file(name: string, text: string): string {
    const path = join(this.folder, name);
    writeFileSync(path, text);
    return path;
  }

  async stop(): Promise<void> {
    await this.control.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export interface KubectlOptions { stdin?: string; env?: Record<string, string>; kubeconfig?: string; timeoutMs?: number; binary?: string }
export interface KubectlResult { code: number; out: string; err: string; all: string }

/** Splits words at blanks, except inside single quotes, which are dropped. */
export function words(text: string): string[] { return [...text.matchAll(/(?:'[^']*'|[^\s'])+/g)].map((match) => match[0].replaceAll("'", '')); }

export function kubectl(kubeconfig: string, home: string, args: string | readonly string[], options: KubectlOptions = {}): Promise<KubectlResult> {
  const list = typeof args === 'string' ? words(args) : [...args];
  return new Promise((resolve) => {
    const child = execFile(options.binary ?? 'kubectl', list, {
      env: { ...process.env, KUBECONFIG: options.kubeconfig ?? kubeconfig, HOME: home, ...options.env }, timeout: options.timeoutMs ?? 8_000, maxBuffer: 64 << 20,
    }, (error, out, err) => resolve({ code: error === null ? 0 : typeof error.code === 'number' ? error.code : 1, out, err, all: out + err }));
    child.stdin?.on('error', () => {});
    child.stdin?.end(options.stdin ?? '');
  });
}

export async function startWorld(options: StartOptions = {}): Promise<World> {
  const folder = mkdtempSync(join(tmpdir(), 'netloom-api-'));
  const control = await start({ ephemeral: true, kubeconfigOut: join(folder, 'kubeconfig'), ...options });
  return new World(control, folder);
}

/** Waits until the condition holds, looking again each few milliseconds; fails with `what` after the time. */
export async function until(what: string, condition: () => unknown, timeoutMs = 5_000): Promise<void> {
  const end = performance.now() + timeoutMs;
  for (;;) {
    if (await condition()) return;
    if (performance.now() > end) throw new Error(`never happened: ${what}`);
    await new Promise((resolve) => { setTimeout(resolve, 10); });
  }
}

export function service(name: string, spec: object = {}, metadata: object = {}): KubeObject {
  return { apiVersion: 'v1', kind: 'Service', metadata: { name, ...metadata }, spec: { selector: { app: name }, ports: [{ port: 80 }], ...spec } } as KubeObject;
}
export function configMap(name: string, data: Record<string, string> = {}, metadata: object = {}): KubeObject {
  return { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, ...metadata }, data } as KubeObject;
}
export function pod(name: string, spec: object = {}, metadata: object = {}): KubeObject {
  return { apiVersion: 'v1', kind: 'Pod', metadata: { name, ...metadata }, spec: { containers: [{ name: 'c', image: 'process', command: ['sleep', '1'] }], ...spec } } as KubeObject;
}

export function isStatus(value: unknown): value is Status { return (value as Status | undefined)?.kind === 'Status'; }
