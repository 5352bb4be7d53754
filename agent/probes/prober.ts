// The probes of one running container: startup first, then readiness and liveness side by side. Made by container.ts at
// each start and stopped at its exit. Until a container is ready for the first time it is asked in quick, growing
// steps instead of once per period, because a process is usually up within milliseconds and a period is 10 s.

import type { TimerHandle } from '../../api/clock.ts';
import type { Probe } from '../../api/types.ts';
import { runProbe, type ProbeResult, type ProbeTarget } from './actions.ts';

export interface ProberEvents {
  onStarted(): void;
  onReady(isReady: boolean): void;
  /** The container must be killed. `graceSeconds` is the probe's own termination grace, if it has one. */
  onFatal(kind: 'Liveness' | 'Startup', message: string, graceSeconds: number | undefined): void;
  /** A failed attempt that is worth an event. */
  onUnhealthy(kind: ProbeKind, message: string): void;
}
export type ProbeKind = 'Startup' | 'Readiness' | 'Liveness';

export interface ProberOptions extends ProbeTarget { events: ProberEvents; random?: () => number }

const eagerDelayMsMin = 20;
const eagerGrowth = 1.5;
const jitterShare = 0.1;

export class Prober {
  readonly #options: ProberOptions;
  readonly #timers = new Map<ProbeKind, TimerHandle>();
  readonly #startMs: number;
  #isStopped = false;
  #isReady = false;

  constructor(options: ProberOptions) {
    this.#options = options;
    this.#startMs = options.clock.monotonicMs();
  }

  start(): void {
    const { startupProbe } = this.#options.container;
    if (startupProbe === undefined) this.#begin();
    else this.#loop('Startup', startupProbe);
  }

  stop(): void {
    this.#isStopped = true;
    for (const timer of this.#timers.values()) timer.cancel();
    this.#timers.clear();
  }

  #begin(): void {
    const { container, events } = this.#options;
    events.onStarted();
    if (this.#isStopped) return;
    if (container.readinessProbe === undefined) events.onReady(true);
    else this.#loop('Readiness', container.readinessProbe);
    if (container.livenessProbe !== undefined) this.#loop('Liveness', container.livenessProbe);
  }

  #loop(kind: ProbeKind, probe: Probe): void {
    const random = this.#options.random ?? Math.random;
    const periodMs = Math.max(1, probe.periodSeconds ?? 10) * 1000;
    const initialMs = Math.max(0, (probe.initialDelaySeconds ?? 0) * 1000 - (this.#options.clock.monotonicMs() - this.#startMs));
    let successes = 0;
    let failures = 0;
    let eagerMs = eagerDelayMsMin;
    const attempt = async (): Promise<void> => {
      const result = await runProbe(probe, this.#options);
      if (this.#isStopped) return;
      if (result.isSuccess) { successes += 1; failures = 0; } else { failures += 1; successes = 0; }
      const isDone = this.#judge(kind, probe, result, successes, failures);
      if (this.#isStopped || isDone) return;
      const isEager = kind === 'Startup' || (kind === 'Readiness' && !this.#isReady);
      const regularMs = periodMs * (1 + (random() - 0.5) * jitterShare);
      schedule(isEager ? Math.min(regularMs, eagerMs) : regularMs);
      eagerMs *= eagerGrowth;
    };
    const schedule = (delayMs: number): void => {
      this.#timers.set(kind, this.#options.clock.after(delayMs, () => { void attempt(); }));
    };
    // Liveness has nothing to find in the first moments; readiness and startup are asked at once.
    schedule(initialMs + (kind === 'Liveness' ? periodMs * random() * 0.5 + periodMs * 0.5 : 0));
  }

  /** Applies one result; true ends the loop. Failures of an eager phase count by time, not by number of attempts. */
  #judge(kind: ProbeKind, probe: Probe, result: ProbeResult, successes: number, failures: number): boolean {
    const { events, clock } = this.#options;
    const failureLimit = probe.failureThreshold ?? 3;
    const periodMs = Math.max(1, probe.periodSeconds ?? 10) * 1000;
    const deadlineMs = this.#startMs + (probe.initialDelaySeconds ?? 0) * 1000 + failureLimit * periodMs;
    if (kind === 'Startup') {
      if (result.isSuccess) { this.#begin(); return true; }
      if (clock.monotonicMs() < deadlineMs) return false;
      events.onFatal('Startup', result.message, probe.terminationGracePeriodSeconds);
      return true;
    }
    if (kind === 'Liveness') {
      if (!result.isSuccess) events.onUnhealthy(kind, result.message);
      if (failures < failureLimit) return false;
      events.onFatal('Liveness', result.message, probe.terminationGracePeriodSeconds);
      return true;
    }
    if (result.isSuccess && !this.#isReady && successes >= (probe.successThreshold ?? 1)) this.#setReady(true);
    else if (!result.isSuccess && this.#isReady && failures >= failureLimit) this.#setReady(false);
    if (!result.isSuccess && (this.#isReady || clock.monotonicMs() > this.#startMs + periodMs)) events.onUnhealthy(kind, result.message);
    return false;
  }

  #setReady(isReady: boolean): void {
    this.#isReady = isReady;
    this.#options.events.onReady(isReady);
  }
}
