// `kubectl exec` and `attach`: joins a session to a process of the container. exec starts the command in the
// container's network, environment and folder; with a terminal it runs under script(1), which owns a pseudo-terminal.
// When the client goes, the command gets SIGHUP and, if it stays, SIGKILL.

import { spawn } from 'node:child_process';
import { readFile, readlink } from 'node:fs/promises';
import type { Readable, Writable } from 'node:stream';
import { NetloomError, toStatus } from '../../api/errors.ts';
import type { Status } from '../../api/types.ts';
import { findExecutable, startProcess, type RunningProcess } from '../pods/process.ts';
import type { ContainerRunner } from '../pods/container.ts';
import { isFlagSet, type AgentRoute, type StreamOptions } from './route.ts';
import type { Session, SessionRequest, TerminalSize } from './session.ts';

const hangUpGraceMs = 2_000;
const resizeAttemptsMax = 100;
const resizeRetryMs = 10;

/** Throws BadRequest when the container cannot take the request; called before the upgrade is answered. */
export function prepareSession(route: AgentRoute): { request: SessionRequest; container: ContainerRunner; argv: string[] } {
  const { query, runner } = route;
  const name = route.container !== '' ? route.container : runner.pod.metadata.annotations?.['kubectl.kubernetes.io/default-container'] ?? runner.pod.spec?.containers[0]?.name ?? '';
  const container = runner.container(name);
  if (container === undefined) throw new NetloomError('NotFound', `container "${name}" is not part of pod "${runner.pod.metadata.name}"`);
  if (container.running === undefined) throw new NetloomError('BadRequest', `container "${name}" of pod "${runner.pod.metadata.name}" is not running`);
  const argv = query.getAll('command');
  if (route.action === 'exec' && argv.length === 0) throw new NetloomError('BadRequest', 'you must specify at least 1 command for the container');
  const request = {
    hasStdin: isFlagSet(query, 'stdin', 'input'), hasStdout: isFlagSet(query, 'stdout', 'output'),
    hasStderr: isFlagSet(query, 'stderr', 'error'), isTty: isFlagSet(query, 'tty'),
  };
  return { request, container, argv };
}

/** Runs the command to its end and reports its exit code. Never rejects. */
export async function runExec(session: Session, route: AgentRoute, prepared: ReturnType<typeof prepareSession>, options: StreamOptions): Promise<void> {
  try {
    session.finish(exitStatus(await execute(session, route, prepared, options)));
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    session.finish({ ...toStatus(new NetloomError('InternalError', `error executing command: ${message}`)) });
  }
}

async function execute(session: Session, route: AgentRoute, prepared: ReturnType<typeof prepareSession>, options: StreamOptions): Promise<number> {
  const { container, argv, request } = prepared;
  const env = { ...container.environment };
  const cwd = container.spec.workingDir ?? options.workingDir;
  const program = await findExecutable(argv[0] ?? '', env['PATH'] ?? '', cwd);
  if (program === undefined) {
    session.stderr?.write(`exec: "${argv[0] ?? ''}": executable file not found in $PATH\n`);
    return 127;
  }
  const command = [program, ...argv.slice(1)];
  const hasTerminal = request.isTty && await findExecutable('script', env['PATH'] ?? '', cwd) !== undefined;
  if (hasTerminal) env['TERM'] ??= 'xterm';
  const inside = hasTerminal ? ['script', '--quiet', '--return', '--flush', '--command', `exec ${command.map(quote).join(' ')}`, '/dev/null'] : command;
  const sandbox = route.runner.sandbox;
  const asUser = container.asUser(inside);
  const running = await startProcess({ argv: sandbox?.wrap(asUser) ?? asUser, env, cwd, hasStdin: true });
  session.onClose(() => hangUp(running, options));
  if (hasTerminal) session.onResize((size) => { void resize(running.pid, size, options); });
  if (session.stdin !== undefined && running.stdin !== null) session.stdin.pipe(running.stdin); else running.stdin?.end();
  const outputs = [forward(running.stdout, session.stdout), forward(running.stderr, session.stderr ?? session.stdout)];
  const exit = await running.exited;
  const timer = options.clock.after(500, () => { running.stdout?.destroy(); running.stderr?.destroy(); });
  await Promise.all(outputs);
  timer.cancel();
  running.signalGroup('SIGKILL');
  return exit.exitCode;
}

/** Joins the session to the container's own process; ends with it. */
export async function runAttach(session: Session, prepared: ReturnType<typeof prepareSession>): Promise<void> {
  const { container } = prepared;
  const { running, logFile } = container;
  if (running === undefined) { session.finish(exitStatus(0)); return; }
  // The process keeps its standard input for the next attach.
  if (session.stdin !== undefined && running.stdin !== null) session.stdin.pipe(running.stdin, { end: false });
  const detach = logFile?.onData((stream, data) => {
    const target = stream === 'stderr' ? session.stderr ?? session.stdout : session.stdout;
    target?.write(data);
  });
  session.onClose(() => detach?.());
  const exit = await running.exited;
  await container.whenRunEnded;
  detach?.();
  session.finish(exitStatus(exit.exitCode));
}

function forward(from: Readable | null, to: Writable | undefined): Promise<void> {
  if (from === null) return Promise.resolve();
  return new Promise((resolve) => {
    from.once('close', resolve);
    if (to === undefined) from.resume(); else from.pipe(to, { end: false });
  });
}

function hangUp(running: RunningProcess, options: StreamOptions): void {
  if (!running.signalGroup('SIGHUP')) return;
  options.clock.after(hangUpGraceMs, () => running.signalGroup('SIGKILL'));
}

/** Exit codes reach kubectl as a Status with cause ExitCode. */
export function exitStatus(exitCode: number): Status {
  if (exitCode === 0) return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', code: 200 };
  const message = `command terminated with non-zero exit code: exit status ${exitCode}`;
  return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', reason: 'NonZeroExitCode', message, code: 500, details: { causes: [{ reason: 'ExitCode', message: String(exitCode) }] } };
}

function quote(text: string): string { return `'${text.replaceAll("'", "'\\''")}'`; }

/** Sets the size of the pseudo-terminal that script(1) opens for its child, once it is there. */
async function resize(scriptPid: number, size: TerminalSize, options: StreamOptions): Promise<void> {
  for (let attempt = 0; attempt < resizeAttemptsMax; attempt++) {
    const children = (await readFile(`/proc/${scriptPid}/task/${scriptPid}/children`, 'utf8').catch(() => '')).trim().split(' ');
    const terminal = await readlink(`/proc/${children[0] ?? ''}/fd/0`).catch(() => '');
    if (terminal.startsWith('/dev/pts/')) {
      spawn('stty', ['-F', terminal, 'cols', String(size.Width), 'rows', String(size.Height)], { stdio: 'ignore' }).on('error', () => {});
      return;
    }
    await new Promise<void>((resolve) => { options.clock.after(resizeRetryMs, resolve); });
  }
}
