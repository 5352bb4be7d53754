// Worker threads for traffic: a pool of N threads, each running one or more modules ("channels"), restarted with
// growing delay when one throws, with its state replayed by the owner of each channel. Used by the userspace engine,
// the HTTP front and DNS, so that control work never delays a packet and one broken thread never ends the others.
// The thread's own side is api/worker-main.ts.

import { Worker } from 'node:worker_threads';
import type { Clock } from './clock.ts';
import { NetloomError } from './errors.ts';
import type { Log } from './log.ts';

/** What a worker module gets. Messages posted arrive at the channel's onMessage, in order. */
export interface WorkerContext {
  readonly index: number; readonly count: number; readonly log: Log; readonly clock: Clock;
  /** The module's own start data, given to the pool per channel. */
  readonly data: unknown;
  post(message: unknown, transfer?: readonly ArrayBuffer[]): void;
}

/** What a worker module's `startWorker(context)` returns. */
export interface WorkerSide {
  receive(message: unknown): void;
  /** Stops accepting, lets what is open finish within `drainMs`, then closes. */
  stop(drainMs: number): Promise<void>;
}
export interface WorkerModule { startWorker(context: WorkerContext): WorkerSide | Promise<WorkerSide> }

export interface WorkerChannelOptions { url: URL; data?: unknown }
export interface WorkerPoolOptions {
  name: string; count: number; modules: Record<string, WorkerChannelOptions>; log: Log; clock: Clock;
}

export interface WorkerChannel {
  readonly count: number;
  broadcast(message: unknown): void;
  send(index: number, message: unknown): void;
  /** Messages that the worker side posted. */
  onMessage(listener: (index: number, message: unknown) => void): void;
  /** Called for each worker that starts or restarts, after its modules are up: replay the whole state to it. */
  onStart(listener: (index: number) => void): void;
}

/** Between the pool and api/worker-main.ts. */
export type WorkerEnvelope =
  | { type: 'message'; channel: string; message: unknown }
  | { type: 'ready' } | { type: 'stopped' } | { type: 'log'; level: 'debug' | 'info' | 'warn' | 'error'; message: string; fields: Record<string, unknown> }
  | { type: 'stop'; drainMs: number };

const restartDelayMsMin = 20;
const restartDelayMsMax = 2_000;
const stableAfterMs = 10_000;

const workerMain = new URL(`./worker-main.${import.meta.filename.endsWith('.ts') ? 'ts' : 'js'}`, import.meta.url).href;
/**
 * What a thread runs first, as plain JavaScript: with the compile cache on before the first TypeScript file, the thread
 * never loads the type stripper, which costs 10 MB and 40 ms. Errors end the thread as if they came from the file itself.
 */
const workerEntry = `
const { enableCompileCache } = require('node:module');
if (process.env.NETLOOM_COMPILE_CACHE !== undefined) enableCompileCache(process.env.NETLOOM_COMPILE_CACHE);
import(${JSON.stringify(workerMain)});`;

interface Slot { worker: Worker | undefined; isReady: boolean; restartCount: number; startedMs: number; hasExited: PromiseWithResolvers<void> }
interface ChannelState { messageListeners: ((index: number, message: unknown) => void)[]; startListeners: ((index: number) => void)[] }

export class WorkerPool {
  readonly #options: WorkerPoolOptions;
  readonly #slots: Slot[] = [];
  readonly #channels = new Map<string, ChannelState>();
  #isStopping = false;
  #restartTotal = 0;

  constructor(options: WorkerPoolOptions) {
    this.#options = options;
    for (const name of Object.keys(options.modules)) this.#channels.set(name, { messageListeners: [], startListeners: [] });
  }

  get count(): number { return this.#options.count; }
  /** Restarts after a crash since the pool started: a metric. */
  get restartTotal(): number { return this.#restartTotal; }
  get readyCount(): number { return this.#slots.filter((slot) => slot.isReady).length; }

  /** Starts every thread; resolves when all modules of all threads are up, rejects when one cannot start at all. */
  async start(): Promise<void> {
    await Promise.all(Array.from({ length: this.#options.count }, (_, index) => this.#startSlot(index)));
  }

  channel(name: string): WorkerChannel {
    const state = this.#channels.get(name);
    if (state === undefined) throw new NetloomError('InternalError', `worker pool ${this.#options.name} has no channel ${name}`);
    return {
      count: this.#options.count,
      broadcast: (message) => { for (let index = 0; index < this.#options.count; index++) this.#post(index, { type: 'message', channel: name, message }); },
      send: (index, message) => this.#post(index, { type: 'message', channel: name, message }),
      onMessage: (listener) => { state.messageListeners.push(listener); },
      onStart: (listener) => {
        state.startListeners.push(listener);
        for (const [index, slot] of this.#slots.entries()) if (slot.isReady) listener(index);
      },
    };
  }

  /** Lets every thread drain, then ends it. A thread that does not answer within the drain time and a second is terminated. */
  async stop(drainMs: number): Promise<void> {
    this.#isStopping = true;
    await Promise.all(this.#slots.map(async (slot) => {
      const worker = slot.worker;
      if (worker === undefined) return;
      worker.postMessage({ type: 'stop', drainMs } satisfies WorkerEnvelope);
      const timer = this.#options.clock.after(drainMs + 1_000, () => { void worker.terminate(); }, true);
      await slot.hasExited.promise;
      timer.cancel();
    }));
  }

  /** Native threads, for tests that kill one. */
  threads(): Worker[] { return this.#slots.flatMap((slot) => (slot.worker === undefined ? [] : [slot.worker])); }

  #post(index: number, envelope: WorkerEnvelope): void {
    const slot = this.#slots[index];
    if (slot?.isReady === true) slot.worker?.postMessage(envelope);
  }

  #startSlot(index: number): Promise<void> {
    const { name, count, modules, clock, log } = this.#options;
    const started = Promise.withResolvers<void>();
    const previous = this.#slots[index];
    const plain = Object.fromEntries(Object.entries(modules).map(([channel, item]) => [channel, { url: item.url.href, data: item.data }]));
    const worker = new Worker(workerEntry, {
      eval: true, name: `${name}-${index}`, workerData: { index, count, modules: plain, logLevel: log.level },
    });
    const slot: Slot = { worker, isReady: false, restartCount: previous?.restartCount ?? 0, startedMs: clock.monotonicMs(), hasExited: Promise.withResolvers<void>() };
    this.#slots[index] = slot;
    worker.on('message', (envelope: WorkerEnvelope) => this.#receive(index, slot, envelope, started));
    worker.on('error', (error) => {
      log.error('worker failed', { worker: `${name}-${index}`, err: error });
      if (!slot.isReady && slot.restartCount === 0) started.reject(error instanceof Error ? error : new Error(String(error)));
    });
    worker.on('exit', () => {
      slot.isReady = false;
      slot.worker = undefined;
      slot.hasExited.resolve();
      started.resolve();
      if (!this.#isStopping) this.#scheduleRestart(index, slot);
    });
    return started.promise;
  }

  #receive(index: number, slot: Slot, envelope: WorkerEnvelope, started: PromiseWithResolvers<void>): void {
    if (envelope.type === 'message') {
      for (const listener of this.#channels.get(envelope.channel)?.messageListeners ?? []) listener(index, envelope.message);
    } else if (envelope.type === 'ready') {
      slot.isReady = true;
      for (const channel of this.#channels.values()) for (const listener of channel.startListeners) listener(index);
      started.resolve();
    } else if (envelope.type === 'log') {
      this.#options.log[envelope.level](envelope.message, { worker: `${this.#options.name}-${index}`, ...envelope.fields });
    }
  }

  #scheduleRestart(index: number, slot: Slot): void {
    const { clock } = this.#options;
    if (clock.monotonicMs() - slot.startedMs > stableAfterMs) slot.restartCount = 0;
    const delayMs = Math.min(restartDelayMsMax, restartDelayMsMin * 2 ** slot.restartCount);
    slot.restartCount += 1;
    this.#restartTotal += 1;
    clock.after(delayMs, () => { if (!this.#isStopping) void this.#startSlot(index).catch(() => {}); });
  }
}
