// Runs real programs for tests: one-shot commands with their output, and a netloom process inside a network namespace
// of its own (as root, or as the user nobody), which is stopped and checked for leftovers at the end.

import { execFile, execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, chownSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { waitFor } from './wait-for.ts';

export const root: string = join(import.meta.dirname, '..', '..');
export const isRoot: boolean = process.getuid?.() === 0;

export function hasTool(name: string): boolean {
  return [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin'].some((folder) => existsSync(join(folder, name)));
}

export interface CommandResult { code: number; stdout: string; stderr: string }

/** Runs to the end; never throws for a non-zero code. */
export function runCommand(file: string, args: readonly string[], options: { input?: string; timeoutMs?: number; env?: Record<string, string> } = {}): Promise<CommandResult> {
  return new Promise((resolve) => {
    const child = execFile(file, [...args], { timeout: options.timeoutMs ?? 30_000, maxBuffer: 64 << 20, env: { ...process.env, NO_COLOR: '1', PATH: `${process.env['PATH']}:/usr/sbin:/sbin`, ...options.env } }, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : 255;
      resolve({ code, stdout, stderr });
    });
    if (options.input !== undefined) child.stdin?.end(options.input);
  });
}

/** A network namespace with loopback up; remove() deletes it. Needs root. */
export class TestNamespace {
  readonly name: string = `nl-test-${randomBytes(4).toString('hex')}`;
  constructor() {
    execFileSync('ip', ['netns', 'add', this.name]);
    execFileSync('ip', ['-n', this.name, 'link', 'set', 'lo', 'up']);
  }
  run(file: string, args: readonly string[], options: Parameters<typeof runCommand>[2] = {}): Promise<CommandResult> {
    return runCommand('ip', ['netns', 'exec', this.name, file, ...args], options);
  }
  remove(): void { try { execFileSync('ip', ['netns', 'delete', this.name]); } catch { /* already gone */ } }
}

export interface StartOptions { args: readonly string[]; isNobody?: boolean; namespace?: TestNamespace; env?: Record<string, string>; readyTimeoutMs?: number; dataDir?: string }
export interface Ready { pid: number; proxyMode: string; kubeconfig: string; api: { port: number }; http: { address: string; port: number }; https: { port: number }; dns: { address: string; port: number }; admin: { port: number }; readySeconds: number }

/** One `netloom …` process started through the real launcher. */
export class NetloomProcess {
  readonly dataDir: string;
  readonly child: ChildProcess;
  readonly #namespace: TestNamespace | undefined;
  output = '';
  exitCode: number | undefined;

  constructor(options: StartOptions) {
    this.#namespace = options.namespace;
    this.dataDir = options.dataDir ?? mkdtempSync(join(tmpdir(), 'netloom-test-'));
    chmodSync(this.dataDir, 0o700);
    let command = [process.execPath, join(root, 'bin', 'netloom.js'), ...options.args, '--data-dir', this.dataDir];
    if (options.isNobody === true) {
      chownSync(this.dataDir, 65_534, 65_534);
      // The clone may lie where nobody may not look: reading files is the one right that stays.
      command = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--inh-caps=-all,+dac_read_search', '--ambient-caps=-all,+dac_read_search', '--bounding-set=-all,+dac_read_search', ...command];
    }
    if (options.namespace !== undefined) command = ['ip', 'netns', 'exec', options.namespace.name, ...command];
    this.child = spawn(command[0] ?? '', command.slice(1), { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, NO_COLOR: '1', HOME: this.dataDir, PATH: `${process.env['PATH']}:/usr/sbin:/sbin`, ...options.env } });
    for (const stream of [this.child.stdout, this.child.stderr]) stream?.on('data', (chunk: Buffer) => { this.output += chunk.toString('utf8'); });
    this.child.on('exit', (code, signal) => { this.exitCode = code ?? (signal === 'SIGKILL' ? 137 : 143); });
  }

  get readyFile(): string { return join(this.dataDir, 'netloom.json'); }

  /** Resolves when the ready file is there; rejects with the output when the process ends before. */
  async ready(timeoutMs = 20_000): Promise<Ready> {
    await waitFor(() => (existsSync(this.readyFile) && this.output.includes('ready in')) || this.exitCode !== undefined, { timeoutMs, what: `netloom to be ready:\n${this.output}` }).catch((error: Error) => { throw new Error(`${error.message}\n${this.output}`); });
    if (this.exitCode !== undefined) throw new Error(`netloom ended with ${this.exitCode}:\n${this.output}`);
    return JSON.parse(readFileSync(this.readyFile, 'utf8')) as Ready;
  }

  /** Waits for the end and resolves to the exit code. */
  async ended(timeoutMs = 20_000): Promise<number> {
    await waitFor(() => this.exitCode !== undefined, { timeoutMs, what: `netloom to end:\n${this.output}` });
    return this.exitCode ?? 255;
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number> {
    if (this.exitCode === undefined) this.child.kill(signal);
    return this.ended(20_000);
  }

  /** Processes of this run that are still alive: the command itself or Pods whose environment names its data directory. */
  leftovers(): string[] {
    return processesWith(this.dataDir);
  }

  remove(): void {
    if (this.exitCode === undefined) this.child.kill('SIGKILL');
    rmSync(this.dataDir, { recursive: true, force: true });
    this.#namespace?.remove();
  }
}

/** Command lines of processes whose environment or arguments hold the text. */
export function processesWith(text: string): string[] {
  const read = (path: string): string => { try { return readFileSync(path, 'latin1').replaceAll('\0', ' '); } catch { return ''; } };
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .map((pid) => ({ command: read(`/proc/${pid}/cmdline`), environment: read(`/proc/${pid}/environ`) }))
    .filter(({ command, environment }) => command.includes(text) || environment.includes(text)).map(({ command }) => command.slice(0, 200));
}
