// Entry of every worker thread of api/workers.ts: loads the modules named by the pool, hands each its channel's
// messages in order, and passes log lines to the main thread. A throw ends this thread only; the pool restarts it.

import { flushCompileCache } from 'node:module';
import { parentPort, workerData } from 'node:worker_threads';
import { systemClock } from './clock.ts';
import type { Log, LogFields, LogLevel } from './log.ts';
import type { WorkerEnvelope, WorkerModule, WorkerSide } from './workers.ts';

interface StartData { index: number; count: number; logLevel: LogLevel; modules: Record<string, { url: string; data: unknown }> }

const port = parentPort;
if (port === null) throw new Error('worker-main.ts runs only as a worker thread');
const start = workerData as StartData;
const send = (envelope: WorkerEnvelope, transfer: readonly ArrayBuffer[] = []): void => port.postMessage(envelope, [...transfer]);

function makeLog(fields: LogFields): Log {
  const ranks = { debug: 0, info: 1, warn: 2, error: 3 };
  const emit = (level: LogLevel, message: string, more?: LogFields): void => {
    if (ranks[level] < ranks[start.logLevel]) return;
    const all: Record<string, unknown> = {};
    for (const [key, value] of Object.entries({ ...fields, ...more })) all[key] = value instanceof Error ? (value.stack ?? value.message) : value;
    send({ type: 'log', level, message, fields: all });
  };
  return {
    level: start.logLevel,
    debug: (message, more) => emit('debug', message, more), info: (message, more) => emit('info', message, more),
    warn: (message, more) => emit('warn', message, more), error: (message, more) => emit('error', message, more),
    with: (more) => makeLog({ ...fields, ...more }),
  };
}

const sides = new Map<string, WorkerSide>();
for (const [channel, { url, data }] of Object.entries(start.modules)) {
  const module = (await import(url)) as WorkerModule;
  sides.set(channel, await module.startWorker({
    index: start.index, count: start.count, log: makeLog({}), clock: systemClock, data,
    post: (message, transfer) => send({ type: 'message', channel, message }, transfer),
  }));
}

port.on('message', (envelope: WorkerEnvelope) => {
  if (envelope.type === 'message') sides.get(envelope.channel)?.receive(envelope.message);
  else if (envelope.type === 'stop') {
    void Promise.all([...sides.values()].map((side) => side.stop(envelope.drainMs))).finally(() => {
      send({ type: 'stopped' });
      port.close();
      process.exit(0);
    });
  }
});
// Before anything is served: what loading the code needed goes back, 3 MB per thread (bin/tuning.js exposes this).
globalThis.gc?.({ type: 'major', execution: 'sync', flavor: 'last-resort' });
send({ type: 'ready' });
flushCompileCache();
