// One container's life: start the process, probe it, restart it with backoff, end it gracefully. Made by pod-runner.ts.
// Every change of state calls `onChange` at once; the Pod's status is rebuilt from `view()` and written from there.

import type { Clock, TimerHandle } from '../../api/clock.ts';
import { formatTime } from '../../api/clock.ts';
import type { Log } from '../../api/log.ts';
import type { Container, ContainerState, Pod } from '../../api/types.ts';
import { Prober } from '../probes/prober.ts';
import type { Sandbox } from '../network/network.ts';
import { commandOf } from './command.ts';
import { runHook } from './hooks.ts';
import { LogFile } from './log-file.ts';
import { containerMark, findExecutable, whyNotStartable, startProcess, whenGroupEmpty, type ProcessExit, type RunningProcess } from './process.ts';
import type { Sweeper } from './sweeper.ts';

/** What a Pod's status says about one container. */
export interface ContainerView {
  readonly spec: Container; readonly state: ContainerState; readonly lastState: ContainerState | undefined;
  readonly restartCount: number; readonly isReady: boolean; readonly isStarted: boolean; readonly containerId: string;
}

export interface ContainerOptions {
  pod: Pod; spec: Container; restartPolicy: 'Always' | 'OnFailure' | 'Never';
  sandbox: Sandbox; probeAddress: string; cwd: string; logDirectory: string; logBytesMax: number;
  /** From the status of an earlier agent: how often it was started before, and how that ended. */
  restartCount: number; lastState: ContainerState | undefined; state?: ContainerState;
  environment: () => Promise<Record<string, string>>;
  marks: Record<string, string>;
  sweeper: Sweeper; clock: Clock; log: Log;
  onChange: () => void;
  onEvent: (type: 'Normal' | 'Warning', reason: string, message: string) => void;
}

export const backoffDefaults = Object.freeze({ firstMs: 10_000, maxMs: 300_000, resetAfterMs: 600_000, configRetryMs: 2_000 });

export class ContainerRunner {
  readonly spec: Container;
  readonly #options: ContainerOptions;
  #state: ContainerState = { waiting: { reason: 'ContainerCreating' } };
  #lastState: ContainerState | undefined;
  #restartCount: number;
  #isReady = false;
  #isStarted = false;
  #running: RunningProcess | undefined;
  #env: Record<string, string> = {};
  #prober: Prober | undefined;
  #logFile: LogFile | undefined;
  #isStopping = false;
  #wake: (() => void) | undefined;
  #ended: Promise<void> = Promise.resolve();
  #backoffMs = 0;
  #stopGraceMs = 0;
  #terminating: Promise<void> | undefined;

  constructor(options: ContainerOptions) {
    this.#options = options;
    this.spec = options.spec;
    this.#restartCount = options.restartCount;
    this.#lastState = options.lastState;
    if (options.state !== undefined) this.#state = options.state;
  }

  view(): ContainerView {
    const id = `netloom://${this.#options.pod.metadata.uid ?? ''}-${this.spec.name}-${this.#restartCount}`;
    return { spec: this.spec, state: this.#state, lastState: this.#lastState, restartCount: this.#restartCount, isReady: this.#isReady, isStarted: this.#isStarted, containerId: id };
  }

  get running(): RunningProcess | undefined { return this.#running; }
  get logFile(): LogFile | undefined { return this.#logFile; }
  get environment(): Readonly<Record<string, string>> { return this.#env; }
  get restartCount(): number { return this.#restartCount; }
  /** argv that runs `argv` as securityContext says; only root can change the user. */
  asUser(argv: readonly string[]): readonly string[] {
    const own = this.spec.securityContext;
    const pod = this.#options.pod.spec?.securityContext;
    const uid = own?.runAsUser ?? pod?.runAsUser;
    const gid = own?.runAsGroup ?? pod?.runAsGroup ?? uid;
    if (uid === undefined || process.getuid?.() !== 0) return argv;
    return ['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups', '--', ...argv];
  }

  /** Resolves when the present run has ended and its log is complete. */
  get whenRunEnded(): Promise<void> { return this.#ended; }

  /** Runs until the container has ended for good or stop() was called; resolves with the last exit code, if it ever ran. */
  async run(): Promise<number | undefined> {
    let exitCode: number | undefined;
    while (!this.#isStopping) {
      const startedMs = this.#options.clock.monotonicMs();
      const exit = await this.#runOnce();
      if (this.#isStopping) return exit?.exitCode ?? exitCode;
      if (exit === undefined) {
        await this.#pause(backoffDefaults.configRetryMs);
        continue;
      }
      exitCode = exit.exitCode;
      const { restartPolicy } = this.#options;
      if (restartPolicy === 'Never' || (restartPolicy === 'OnFailure' && exitCode === 0)) return exitCode;
      await this.#backOff(this.#options.clock.monotonicMs() - startedMs);
      if (this.#isStopping) return exitCode;
      this.#restartCount += 1;
    }
    return exitCode;
  }

  /** Ends the container: preStop, SIGTERM, `graceMs`, SIGKILL of all that is left. Resolves when nothing runs any more. */
  async stop(graceMs: number): Promise<void> {
    this.#stopGraceMs = graceMs;
    const wasStopping = this.#isStopping;
    this.#isStopping = true;
    this.#prober?.stop();
    this.#wake?.();
    const running = this.#running;
    if (running === undefined) return this.#ended;
    if (!wasStopping) {
      this.#options.onEvent('Normal', 'Killing', `Stopping container ${this.spec.name}`);
      await this.#terminate(running, graceMs);
    } else if (graceMs === 0) running.signalGroup('SIGKILL');
    return this.#ended;
  }

  /** One start to its exit; undefined when it could not be started (the state says why). */
  async #runOnce(): Promise<ProcessExit | undefined> {
    const running = await this.#start();
    if (running === undefined) return undefined;
    const startedAt = formatTime(this.#options.clock.nowMs());
    this.#running = running;
    const end = Promise.withResolvers<void>();
    this.#ended = end.promise;
    this.#state = { running: { startedAt } };
    this.#startProbes();
    this.#options.onChange();
    this.#options.onEvent('Normal', 'Started', `Started container ${this.spec.name}`);
    void this.#postStart(running);
    if (this.#isStopping) void this.#terminate(running, this.#stopGraceMs);
    const exit = await running.exited;
    this.#prober?.stop();
    this.#prober = undefined;
    this.#isReady = false;
    this.#isStarted = false;
    const finishedAt = formatTime(this.#options.clock.nowMs());
    this.#state = { terminated: { exitCode: exit.exitCode, ...(exit.signal === 0 ? {} : { signal: exit.signal }), reason: exit.exitCode === 0 ? 'Completed' : 'Error', startedAt, finishedAt, containerID: this.view().containerId } };
    this.#options.onChange();
    await this.#collect(running);
    this.#running = undefined;
    end.resolve();
    return exit;
  }

  async #start(): Promise<RunningProcess | undefined> {
    const { sandbox, cwd, logDirectory, logBytesMax, clock } = this.#options;
    let env: Record<string, string>;
    try { env = await this.#options.environment(); } catch (error) {
      return this.#cannotStart('CreateContainerConfigError', (error as Error).message);
    }
    env[containerMark] = `${this.#options.pod.metadata.uid ?? ''}/${this.spec.name}`;
    this.#env = { ...env, ...this.#options.marks };
    const argv = commandOf(this.spec, env);
    if (argv === undefined) {
      return this.#cannotStart('CommandMissing', `container "${this.spec.name}" has no command: netloom runs processes, not images. Set spec.containers[].command to a program of this host, e.g. command: ["node", "server.js"]`);
    }
    const directory = this.spec.workingDir === undefined || this.spec.workingDir === '' ? cwd : this.spec.workingDir;
    const program = await findExecutable(argv[0] as string, env['PATH'] ?? '', directory);
    const fault = await whyNotStartable(argv[0] as string, program, directory);
    if (program === undefined || fault !== undefined) return this.#cannotStart('RunContainerError', fault ?? `exec: "${argv[0]}": not found`);
    if (this.#isStopping) return undefined;
    try {
      const logFile = await LogFile.create(logDirectory, this.#restartCount, { fileBytesMax: logBytesMax, clock });
      const running = await startProcess({ argv: sandbox.wrap(this.asUser([program, ...argv.slice(1)])), env: this.#env, cwd: directory, hasStdin: this.spec.stdin === true });
      this.#logFile = logFile;
      if (running.stdout !== null) logFile.capture('stdout', running.stdout);
      if (running.stderr !== null) logFile.capture('stderr', running.stderr);
      return running;
    } catch (error) {
      return this.#cannotStart('RunContainerError', `cannot start "${program}" in ${directory}: ${(error as Error).message}`);
    }
  }

  #cannotStart(reason: string, message: string): undefined {
    if (this.#state.waiting?.reason !== reason || this.#state.waiting.message !== message) {
      this.#state = { waiting: { reason, message } };
      this.#options.onEvent('Warning', reason === 'CommandMissing' ? reason : 'Failed', message);
      this.#options.onChange();
    }
    return undefined;
  }

  #startProbes(): void {
    const { probeAddress, clock, onChange, onEvent } = this.#options;
    this.#prober = new Prober({
      container: this.spec, address: probeAddress, clock, exec: (argv, timeoutMs) => runHook(this, argv, timeoutMs, this.#options),
      events: {
        onStarted: () => { this.#isStarted = true; onChange(); },
        onReady: (isReady) => { this.#isReady = isReady; onChange(); },
        onUnhealthy: (kind, message) => onEvent('Warning', 'Unhealthy', `${kind} probe failed: ${message}`),
        onFatal: (kind, message, graceSeconds) => {
          onEvent('Warning', 'Unhealthy', `${kind} probe failed: ${message}`);
          onEvent('Normal', 'Killing', `Container ${this.spec.name} failed ${kind.toLowerCase()} probe, will be restarted`);
          this.#isReady = false;
          onChange();
          const grace = graceSeconds ?? this.#options.pod.spec?.terminationGracePeriodSeconds ?? 30;
          if (this.#running !== undefined) void this.#terminate(this.#running, grace * 1000);
        },
      },
    });
    this.#prober.start();
  }

  async #postStart(running: RunningProcess): Promise<void> {
    const argv = this.spec.lifecycle?.postStart?.exec?.command;
    if (argv === undefined) return;
    const { exitCode, output } = await runHook(this, argv, 30_000, this.#options);
    if (exitCode === 0 || this.#running !== running) return;
    this.#options.onEvent('Warning', 'FailedPostStartHook', `postStart of ${this.spec.name} exited with ${exitCode}: ${output.slice(0, 512)}`);
    await this.#terminate(running, 0);
  }

  /** Idempotent per run: a second call joins the first. */
  #terminate(running: RunningProcess, graceMs: number): Promise<void> {
    this.#terminating ??= this.#endGroup(running, graceMs);
    return this.#terminating;
  }

  async #endGroup(running: RunningProcess, graceMs: number): Promise<void> {
    const { clock } = this.#options;
    const deadline = clock.monotonicMs() + graceMs;
    if (this.spec.lifecycle?.preStop !== undefined && graceMs > 0) await this.#preStop(running, graceMs);
    running.signalGroup('SIGTERM');
    const isEmpty = await whenGroupEmpty(running, Math.max(0, deadline - clock.monotonicMs()), clock);
    if (!isEmpty) running.signalGroup('SIGKILL');
  }

  async #preStop(running: RunningProcess, graceMs: number): Promise<void> {
    const hook = this.spec.lifecycle?.preStop;
    const { clock } = this.#options;
    const work = hook?.exec?.command !== undefined ? runHook(this, hook.exec.command, graceMs, this.#options)
      : hook?.sleep !== undefined ? new Promise<void>((resolve) => { clock.after((hook.sleep?.seconds ?? 0) * 1000, resolve, true); }) : Promise.resolve();
    await Promise.race([work, running.exited, new Promise<void>((resolve) => { clock.after(graceMs, resolve); })]);
  }

  /** After the exit of the main process: a grace for the rest of its group if it was stopped, then nothing survives. */
  async #collect(running: RunningProcess): Promise<void> {
    await this.#terminating;
    this.#terminating = undefined;
    running.signalGroup('SIGKILL');
    await this.#options.sweeper.sweep(this.#env[containerMark] ?? '');
    // A process out of reach may still hold the pipes: do not wait for it.
    const timer = this.#options.clock.after(1_000, () => this.#logFile?.detach());
    await this.#logFile?.whenClosed;
    timer.cancel();
  }

  async #backOff(ranMs: number): Promise<void> {
    this.#lastState = this.#state;
    if (ranMs > backoffDefaults.resetAfterMs) this.#backoffMs = 0;
    const waitMs = this.#backoffMs;
    this.#backoffMs = Math.min(backoffDefaults.maxMs, waitMs === 0 ? backoffDefaults.firstMs : waitMs * 2);
    if (waitMs === 0) return;
    const message = `back-off ${Math.round(waitMs / 1000)}s restarting failed container=${this.spec.name} pod=${this.#options.pod.metadata.name}`;
    this.#state = { waiting: { reason: 'CrashLoopBackOff', message } };
    this.#options.onEvent('Warning', 'BackOff', `Back-off restarting failed container ${this.spec.name}`);
    this.#options.onChange();
    await this.#pause(waitMs);
  }

  #pause(delayMs: number): Promise<void> {
    if (this.#isStopping) return Promise.resolve();
    return new Promise((resolve) => {
      const timer: TimerHandle = this.#options.clock.after(delayMs, () => { this.#wake = undefined; resolve(); });
      this.#wake = () => { timer.cancel(); this.#wake = undefined; resolve(); };
    });
  }
}
