// The one place that touches the machine's clock and timers. Everything that needs time takes a Clock through its
// options, so that tests run on a virtual one. Monotonic time decides timeouts; wall time is only shown and stored.

export interface TimerHandle { cancel(): void }

export interface Clock {
  /** Wall clock, milliseconds since the epoch. Never use it for timeouts: it may jump. */
  nowMs(): number;
  /** Monotonic milliseconds with a fraction; only differences mean anything. */
  monotonicMs(): number;
  /** Calls back once after `delayMs`. The timer does not keep the process alive unless `isRef` is true. */
  after(delayMs: number, callback: () => void, isRef?: boolean): TimerHandle;
  /** Calls back every `periodMs` until cancelled. */
  every(periodMs: number, callback: () => void, isRef?: boolean): TimerHandle;
}

/** The machine's own clock. */
export const systemClock: Clock = Object.freeze({
  nowMs: (): number => Date.now(),
  monotonicMs: (): number => performance.now(),
  after(delayMs: number, callback: () => void, isRef = false): TimerHandle {
    const timer = setTimeout(callback, delayMs);
    if (!isRef) timer.unref();
    return { cancel: () => clearTimeout(timer) };
  },
  every(periodMs: number, callback: () => void, isRef = false): TimerHandle {
    const timer = setInterval(callback, periodMs);
    if (!isRef) timer.unref();
    return { cancel: () => clearInterval(timer) };
  },
});

/** Resolves after `delayMs` on the given clock; keeps the process alive. */
export function sleep(clock: Clock, delayMs: number): Promise<void> {
  return new Promise((resolve) => { clock.after(delayMs, resolve, true); });
}

// Every write is stamped with the current second, and many fall into the same one.
let lastSecond = Number.NaN;
let lastSecondText = '';

/** RFC 3339 with whole seconds, as metav1.Time is written. */
export function formatTime(ms: number): string {
  const second = Math.floor(ms / 1000);
  if (second !== lastSecond) {
    lastSecondText = `${new Date(second * 1000).toISOString().slice(0, 19)}Z`;
    lastSecond = second;
  }
  return lastSecondText;
}

/** RFC 3339 with microseconds, as metav1.MicroTime is written (Lease, events.k8s.io). */
export function formatMicroTime(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 23)}000Z`;
}
