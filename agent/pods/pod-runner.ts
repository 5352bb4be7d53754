// One Pod bound to this node: network, init containers in order, then all containers at once; its status; its end.
// Made by pods.ts for each Pod uid. Nothing here looks at other Pods.

import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { ApiClient } from '../../api/client.ts';
import { formatTime, type Clock } from '../../api/clock.ts';
import type { Log } from '../../api/log.ts';
import type { Container, ContainerState, ContainerStatus, Pod, PodStatus, Service } from '../../api/types.ts';
import type { NetworkDriver, Sandbox } from '../network/network.ts';
import { resolvConfOf } from './command.ts';
import { ContainerRunner } from './container.ts';
import { buildEnvironment } from './environment.ts';
import { buildStatus } from './status.ts';
import type { Sweeper } from './sweeper.ts';

export interface PodRunnerOptions {
  client: ApiClient; network: NetworkDriver; clock: Clock; log: Log; sweeper: Sweeper;
  hostIP: string; dnsAddress: string | undefined; clusterDomain: string; dataDir: string; workingDir: string; logBytesMax: number;
  hostEnv: Readonly<Record<string, string | undefined>>;
  /** Marks of the agent for every process. */
  marks: Record<string, string>;
  services: () => Iterable<Service>;
  onStatus: (runner: PodRunner) => void;
  onEvent: (pod: Pod, type: 'Normal' | 'Warning', reason: string, message: string) => void;
}

type RestartPolicy = 'Always' | 'OnFailure' | 'Never';
const sandboxRetryMs = 1_000;
const graceSecondsDefault = 30;

export class PodRunner {
  pod: Pod;
  readonly uid: string;
  readonly #options: PodRunnerOptions;
  readonly #init: ContainerRunner[] = [];
  readonly #containers: ContainerRunner[] = [];
  readonly #startTime: string;
  #sandbox: Sandbox | undefined;
  #isInitialized = false;
  #isDraining = false;
  #isStopping = false;
  #failure: { reason: string; message: string } | undefined;
  #previous: PodStatus | undefined;
  #stopped: Promise<void> | undefined;
  #work: Promise<void> = Promise.resolve();

  constructor(pod: Pod, options: PodRunnerOptions) {
    this.pod = pod;
    this.uid = pod.metadata.uid ?? '';
    this.#options = options;
    this.#previous = pod.status;
    this.#startTime = pod.status?.startTime ?? formatTime(options.clock.nowMs());
  }

  get isStopping(): boolean { return this.#isStopping; }
  get podIP(): string { return this.#sandbox?.podIP ?? ''; }
  get sandbox(): Sandbox | undefined { return this.#sandbox; }
  /** Where the Pod's ports are reached from this host. */
  get address(): string { return this.podIP === '' ? '127.0.0.1' : this.podIP; }

  get restartCount(): number { return this.#containers.reduce((sum, each) => sum + each.restartCount, 0); }

  container(name: string): ContainerRunner | undefined {
    return [...this.#containers, ...this.#init].find((each) => each.spec.name === name);
  }

  logDirectory(name: string): string { return join(this.#directory(), name); }

  start(): void {
    this.#work = this.#run().catch((err: unknown) => {
      this.#options.log.error('pod failed', { pod: this.pod.metadata.name, err });
    });
  }

  status(): PodStatus {
    const status = buildStatus({
      pod: this.pod, initContainers: this.#init.map((each) => each.view()), containers: this.#containers.map((each) => each.view()),
      podIP: this.podIP, hostIP: this.#options.hostIP, startTime: this.#startTime, now: formatTime(this.#options.clock.nowMs()),
      isInitialized: this.#isInitialized, isDraining: this.#isDraining, failure: this.#failure,
    }, this.#previous);
    this.#previous = status;
    return status;
  }

  /** Takes the Pod out of service while its processes go on. */
  drain(): void {
    this.#isDraining = true;
    this.#changed();
  }

  /** Ends the Pod; a later call with a shorter grace hurries it. Resolves when nothing of it is left but its logs. */
  stop(graceMs: number): Promise<void> {
    this.#isStopping = true;
    const stops = [...this.#containers].map((each) => each.stop(graceMs));
    if (this.#stopped !== undefined && graceMs > 0) return this.#stopped;
    this.#stopped = (async () => {
      await Promise.all(stops);
      // Sidecars end after the containers they serve.
      await Promise.all(this.#init.map((each) => each.stop(graceMs)));
      await this.#work;
      await this.#options.network.detach(this.uid);
    })();
    return this.#stopped;
  }

  async removeFiles(): Promise<void> {
    await rm(this.#directory(), { recursive: true, force: true });
  }

  #directory(): string {
    return join(this.#options.dataDir, 'pods', `${this.pod.metadata.namespace ?? ''}_${this.pod.metadata.name}_${this.uid}`);
  }

  #changed(): void { this.#options.onStatus(this); }

  async #run(): Promise<void> {
    this.#sandbox = await this.#attach();
    if (this.#sandbox === undefined) return;
    const spec = this.pod.spec ?? { containers: [] };
    const policy = spec.restartPolicy ?? 'Always';
    for (const container of spec.initContainers ?? []) this.#init.push(this.#make(container, container.restartPolicy === 'Always' ? 'Always' : policy === 'Always' ? 'OnFailure' : policy, spec.initContainers));
    for (const container of spec.containers) this.#containers.push(this.#make(container, policy, undefined));
    this.#watchDeadline();
    const sidecars: Promise<unknown>[] = [];
    for (const runner of this.#init) {
      if (this.#isStopping) return;
      if (runner.spec.restartPolicy === 'Always') {
        sidecars.push(runner.run());
        await this.#whenStarted(runner);
        continue;
      }
      const exitCode = await runner.run();
      if (exitCode !== 0) { this.#changed(); return; }
    }
    this.#isInitialized = true;
    if (this.#isStopping) return;
    await Promise.all(this.#containers.map((each) => (isFinished(each, policy) ? undefined : each.run())));
    if (!this.#isStopping) await Promise.all(this.#init.map((each) => each.stop(graceSecondsDefault * 1000)));
    await Promise.all(sidecars);
    this.#changed();
  }

  async #attach(): Promise<Sandbox | undefined> {
    const { network, clock } = this.#options;
    while (!this.#isStopping) {
      try {
        return await network.attach({
          podUid: this.uid, hostname: this.pod.spec?.hostname ?? this.pod.metadata.name.slice(0, 63), isHostNetwork: this.pod.spec?.hostNetwork === true,
          resolvConf: resolvConfOf(this.pod, this.#options),
        });
      } catch (error) {
        this.#options.onEvent(this.pod, 'Warning', 'FailedCreatePodSandBox', (error as Error).message);
        await new Promise<void>((resolve) => { clock.after(sandboxRetryMs, resolve); });
      }
    }
    return undefined;
  }

  #make(spec: Container, restartPolicy: RestartPolicy, initContainers: Container[] | undefined): ContainerRunner {
    const { clock, log, sweeper, client, hostEnv, hostIP, marks } = this.#options;
    const sandbox = this.#sandbox as Sandbox;
    const before = (initContainers === undefined ? this.pod.status?.containerStatuses : this.pod.status?.initContainerStatuses)?.find((each) => each.name === spec.name);
    const earlier = earlierRun(before, formatTime(clock.nowMs()));
    const podIP = sandbox.podIP === '' ? hostIP : sandbox.podIP;
    return new ContainerRunner({
      pod: this.pod, spec, restartPolicy, sandbox, probeAddress: this.address, cwd: this.#options.workingDir,
      logDirectory: this.logDirectory(spec.name), logBytesMax: this.#options.logBytesMax, marks, sweeper, clock, log,
      restartCount: earlier.restartCount, lastState: earlier.lastState, ...(earlier.state === undefined ? {} : { state: earlier.state }),
      environment: () => buildEnvironment(this.pod, spec, { client, podIP, hostIP, hostname: this.pod.spec?.hostname ?? this.pod.metadata.name, services: this.#options.services(), hostEnv }),
      onChange: () => this.#changed(),
      onEvent: (type, reason, message) => this.#options.onEvent(this.pod, type, reason, message),
    });
  }

  async #whenStarted(runner: ContainerRunner): Promise<void> {
    while (!this.#isStopping && !runner.view().isStarted) {
      await new Promise<void>((resolve) => { this.#options.clock.after(20, resolve); });
    }
  }

  #watchDeadline(): void {
    const seconds = this.pod.spec?.activeDeadlineSeconds;
    if (seconds === undefined) return;
    this.#options.clock.after(seconds * 1000, () => {
      if (this.#isStopping) return;
      this.#failure = { reason: 'DeadlineExceeded', message: 'Pod was active on the node longer than the specified deadline' };
      void this.stop((this.pod.spec?.terminationGracePeriodSeconds ?? graceSecondsDefault) * 1000).then(() => this.#changed());
    });
  }
}

/** A container that needs no further run: its state from an earlier agent is final. */
function isFinished(runner: ContainerRunner, policy: RestartPolicy): boolean {
  const ended = runner.view().state.terminated;
  return ended !== undefined && (policy === 'Never' || (policy === 'OnFailure' && ended.exitCode === 0));
}

/**
 * What an earlier agent's status means now: its processes died with it, so a container that ran has ended with 137 and
 * is started again where the restart policy allows.
 */
function earlierRun(before: ContainerStatus | undefined, now: string): { restartCount: number; lastState: ContainerState | undefined; state: ContainerState | undefined } {
  if (before === undefined) return { restartCount: 0, lastState: undefined, state: undefined };
  if (before.state?.terminated !== undefined) return { restartCount: before.restartCount, lastState: before.lastState, state: before.state };
  if (before.state?.running === undefined) return { restartCount: before.restartCount + (before.lastState?.terminated === undefined ? 0 : 1), lastState: before.lastState, state: undefined };
  const ended: ContainerState = { terminated: { exitCode: 137, signal: 9, reason: 'AgentRestarted', message: 'the process ended together with the node agent', startedAt: before.state.running.startedAt, finishedAt: now } };
  return { restartCount: before.restartCount + 1, lastState: ended, state: ended };
}
