// Runs a command beside a container's process, in the same network, environment and folder: exec probes, postStart and
// preStop. The output is cut, the whole group is killed at the timeout. `kubectl exec` has its own path (server/exec.ts).

import type { Clock } from '../../api/clock.ts';
import type { Sandbox } from '../network/network.ts';
import { expand } from './command.ts';
import { findExecutable, startProcess } from './process.ts';

const outputBytesMax = 10 * 1024;

interface HookTarget { readonly environment: Readonly<Record<string, string>>; readonly spec: { workingDir?: string }; asUser(argv: readonly string[]): readonly string[] }
interface HookOptions { sandbox: Sandbox; cwd: string; clock: Clock }

/** Resolves with the exit code (124 after the timeout, 127 when there is no such program); never rejects. */
export async function runHook(target: HookTarget, command: readonly string[], timeoutMs: number, options: HookOptions): Promise<{ exitCode: number; output: string }> {
  const env = { ...target.environment };
  const cwd = target.spec.workingDir ?? options.cwd;
  const argv = command.map((part) => expand(part, env));
  const program = await findExecutable(argv[0] ?? '', env['PATH'] ?? '', cwd);
  if (program === undefined) return { exitCode: 127, output: `exec: "${argv[0] ?? ''}": executable file not found in $PATH` };
  try {
    const running = await startProcess({ argv: options.sandbox.wrap(target.asUser([program, ...argv.slice(1)])), env, cwd });
    let output = '';
    const keep = (data: Buffer): void => { if (output.length < outputBytesMax) output += data.toString('utf8', 0, outputBytesMax - output.length); };
    running.stdout?.on('data', keep);
    running.stderr?.on('data', keep);
    let isTimedOut = false;
    const timer = options.clock.after(timeoutMs, () => { isTimedOut = true; running.signalGroup('SIGKILL'); }, true);
    const exit = await running.exited;
    timer.cancel();
    running.signalGroup('SIGKILL');
    running.stdout?.destroy();
    running.stderr?.destroy();
    return isTimedOut ? { exitCode: 124, output: `command timed out after ${timeoutMs} ms` } : { exitCode: exit.exitCode, output };
  } catch (error) {
    return { exitCode: 126, output: (error as Error).message };
  }
}
