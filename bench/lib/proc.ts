// CPU time and memory of processes from /proc, and starting a process pinned to a core: what "CPU µs per request" and
// "RSS" in the tables are made of.

import { execFileSync, spawn, type ChildProcess, type SpawnOptions } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';

const ticksPerSecond = 100;

/** User and system CPU milliseconds of a process, its threads and its children that are alive. */
export function cpuMsOf(pid: number): number {
  return treeOf(pid).reduce((sum, item) => sum + ownCpuMs(item), 0);
}

function ownCpuMs(pid: number): number {
  // schedstat has nanoseconds where the kernel keeps them; stat has ticks of 10 ms.
  try {
    let nanoseconds = 0;
    for (const thread of readdirSync(`/proc/${pid}/task`)) nanoseconds += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]);
    if (nanoseconds > 0) return nanoseconds / 1e6;
  } catch { /* fall through to ticks */ }
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /, '').split(' ');
    return ((Number(fields[11]) + Number(fields[12])) * 1_000) / ticksPerSecond;
  } catch { return 0; }
}

/** Resident set in MB, the process and its children. */
export function rssMbOf(pid: number): number {
  return treeOf(pid).reduce((sum, item) => {
    try { return sum + Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${item}/status`, 'utf8'))?.[1] ?? 0) / 1_024; } catch { return sum; }
  }, 0);
}

/** The process and all below it. */
export function treeOf(pid: number): number[] {
  const all = [pid];
  for (let index = 0; index < all.length; index++) {
    try {
      for (const thread of readdirSync(`/proc/${all[index]}/task`)) {
        for (const child of readFileSync(`/proc/${all[index]}/task/${thread}/children`, 'utf8').trim().split(' ')) if (child !== '') all.push(Number(child));
      }
    } catch { /* ended meanwhile */ }
  }
  return all;
}

/** Starts a command on one core; `core` is ignored where there is only one or taskset is missing. */
export function spawnPinned(core: number | undefined, file: string, args: readonly string[], options: SpawnOptions = {}): ChildProcess {
  const isPinned = core !== undefined && availableParallelism() > core && findProgram('taskset') !== undefined;
  return isPinned ? spawn('taskset', ['-c', String(core), file, ...args], options) : spawn(file, [...args], options);
}

/** Full path of a program, also in the sbin folders. */
export function findProgram(name: string): string | undefined {
  return [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin', '/usr/local/sbin'].map((folder) => `${folder}/${name}`).find((path) => existsSync(path));
}

/** Before anything was pinned: availableParallelism() counts the cores that the process may use at the moment. */
const coreCount = availableParallelism();

/** Lets this process and what it starts use every core again. */
export function unpinSelf(): void {
  const taskset = findProgram('taskset');
  if (taskset !== undefined && coreCount > 1) execFileSync(taskset, ['-acp', `0-${coreCount - 1}`, String(process.pid)], { stdio: 'ignore' });
}

/** Pins this process and its threads to one core, away from the contender. */
export function pinSelf(core: number): void {
  const taskset = findProgram('taskset');
  if (taskset !== undefined && coreCount > 1) execFileSync(taskset, ['-acp', String(core), String(process.pid)], { stdio: 'ignore' });
}
