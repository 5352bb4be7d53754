// Starts one process of a container and ends it whole. Each container's process leads its own session and process
// group; every process of the node carries two environment marks, by which also those are found that left the group
// (daemons). Called by container.ts and by exec; the reaper uses the same marks after a kill -9 of the agent.

import { spawn, type ChildProcess } from 'node:child_process';
import { access, constants, readdir, readFile, stat } from 'node:fs/promises';
import { delimiter, isAbsolute, join, resolve as resolvePath } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import type { Clock } from '../../api/clock.ts';

/** Environment mark of all processes of an agent; the value is its agentId. */
export const agentMark = 'NETLOOM_AGENT_ID';
/** Environment mark of one container: `<pod uid>/<container name>`. */
export const containerMark = 'NETLOOM_CONTAINER_ID';

export interface ProcessExit { readonly exitCode: number; readonly signal: number }

export interface RunningProcess {
  readonly pid: number;
  readonly stdin: Writable | null; readonly stdout: Readable | null; readonly stderr: Readable | null;
  /** Resolves when the process itself has ended; descendants may live on. */
  readonly exited: Promise<ProcessExit>;
  /** Signals the whole process group; false when nothing of it is left. */
  signalGroup(signal: NodeJS.Signals | 0): boolean;
}

export interface ProcessOptions {
  argv: readonly string[]; env: Record<string, string>; cwd: string;
  hasStdin?: boolean;
}

/** Resolves once the process exists. Rejects with the system's error when it cannot be started. */
export function startProcess(options: ProcessOptions): Promise<RunningProcess> {
  return new Promise((resolve, reject) => {
    const child = spawn(options.argv[0] ?? '', options.argv.slice(1), {
      cwd: options.cwd, env: options.env, detached: true, stdio: [options.hasStdin === true ? 'pipe' : 'ignore', 'pipe', 'pipe'],
    });
    child.once('error', reject);
    child.once('spawn', () => {
      child.removeListener('error', reject);
      child.on('error', () => {});
      child.stdin?.on('error', () => {});
      resolve(describeChild(child));
    });
  });
}

function describeChild(child: ChildProcess): RunningProcess {
  const pid = child.pid as number;
  const exited = new Promise<ProcessExit>((done) => {
    child.once('exit', (code, signal) => {
      const number = signal === null ? 0 : signalNumber(signal);
      done({ exitCode: code ?? 128 + number, signal: number });
    });
  });
  return {
    pid, stdin: child.stdin, stdout: child.stdout, stderr: child.stderr, exited,
    signalGroup(signal): boolean {
      try { return process.kill(-pid, signal); } catch { return false; }
    },
  };
}

const signalNumbers: Record<string, number> = { SIGHUP: 1, SIGINT: 2, SIGQUIT: 3, SIGILL: 4, SIGTRAP: 5, SIGABRT: 6, SIGBUS: 7, SIGFPE: 8, SIGKILL: 9, SIGUSR1: 10, SIGSEGV: 11, SIGUSR2: 12, SIGPIPE: 13, SIGALRM: 14, SIGTERM: 15 };
const signalNumber = (signal: string): number => signalNumbers[signal] ?? 0;

const groupPollMs = 10;

/** Resolves true when the group is empty, false when `timeoutMs` ran out first. */
export function whenGroupEmpty(running: RunningProcess, timeoutMs: number, clock: Clock): Promise<boolean> {
  const end = clock.monotonicMs() + timeoutMs;
  return new Promise((resolve) => {
    const look = (): void => {
      if (!running.signalGroup(0)) resolve(true);
      else if (clock.monotonicMs() >= end) resolve(false);
      else clock.after(groupPollMs, look, true);
    };
    look();
  });
}

/** The absolute path that exec would use, or undefined. `path` is the container's PATH. */
export async function findExecutable(name: string, path: string, cwd: string): Promise<string | undefined> {
  const candidates = name.includes('/') ? [isAbsolute(name) ? name : resolvePath(cwd, name)] : path.split(delimiter).map((folder) => join(folder === '' ? '.' : folder, name));
  for (const candidate of candidates) {
    try {
      await access(candidate, constants.X_OK);
      if ((await stat(candidate)).isFile()) return candidate;
    } catch { /* the next one */ }
  }
  return undefined;
}

/** What a person is told when the program or the directory it is to run in cannot be used; undefined when both can. */
export async function whyNotStartable(name: string, program: string | undefined, directory: string): Promise<string | undefined> {
  const found = await stat(directory).catch((error: NodeJS.ErrnoException) => error);
  if (found instanceof Error) return `workingDir ${directory} ${found.code === 'ENOENT' ? 'does not exist on this host' : `cannot be used: ${found.code}`}`;
  if (!found.isDirectory()) return `workingDir ${directory} is not a directory`;
  if (program !== undefined) return undefined;
  if (!name.includes('/')) return `exec: "${name}": executable file not found in $PATH of this host`;
  const target = await stat(resolvePath(directory, name)).catch(() => undefined);
  if (target === undefined) return `exec: "${name}": no such file on this host`;
  return `exec: "${name}": permission denied: ${target.isDirectory() ? 'it is a directory' : 'the file is not executable (chmod +x)'}`;
}

/** Process ids whose initial environment holds `mark=value`. Linux only (empty elsewhere); reads all of /proc once. */
export async function findMarked(mark: string, value: string): Promise<number[]> {
  const needle = `${mark}=${value}\0`;
  const names = await readdir('/proc').catch(() => []);
  const found: number[] = [];
  await Promise.all(names.map(async (name) => {
    if (!/^\d+$/.test(name)) return;
    const environment = await readFile(`/proc/${name}/environ`, 'latin1').catch(() => '');
    if (environment.startsWith(needle) || environment.includes(`\0${needle}`)) found.push(Number(name));
  }));
  return found;
}

/** Kills every process that carries the mark, repeatedly, until none is left (a dying parent may have forked). */
export async function killMarked(mark: string, value: string): Promise<number> {
  let killed = 0;
  for (let round = 0; round < 10; round++) {
    const pids = (await findMarked(mark, value)).filter((pid) => pid !== process.pid);
    if (pids.length === 0) return killed;
    for (const pid of pids) {
      try { process.kill(pid, 'SIGKILL'); killed += 1; } catch { /* already gone */ }
    }
  }
  return killed;
}
