// One load worker: builds the slots of its share of the plan, runs the pacer and reports twice a second.

import { parentPort, workerData } from 'node:worker_threads';
import { DnsConnection } from './dns-client.ts';
import { Http2Connection, Http2Slot } from './h2-client.ts';
import { makeHistogram } from './histogram.ts';
import { Http1Slot } from './http1-client.ts';
import { Pacer } from './pacer.ts';
import type { LoadPlan, WorkerReport } from './plan.ts';
import { TcpSlot } from './tcp-client.ts';
import { WebSocketSlot } from './websocket-client.ts';

const plan = workerData as LoadPlan;
const pacer = new Pacer(plan);
const startCpu = process.threadCpuUsage();

async function makeSlots(): Promise<void> {
  if (plan.protocol === 'dns-udp' || plan.protocol === 'dns-tcp') {
    for (let count = 0; count < plan.connections; count++) {
      const connection = new DnsConnection(plan, pacer, Math.min(4096, plan.streams));
      await connection.open();
      for (const slot of connection.slots) pacer.add(slot);
    }
    return;
  }
  for (let count = 0; count < plan.connections; count++) {
    if (plan.protocol === 'http2') {
      const connection = new Http2Connection(plan);
      for (let stream = 0; stream < plan.streams; stream++) pacer.add(new Http2Slot(plan, pacer, connection));
    } else pacer.add(plan.protocol === 'tcp' ? new TcpSlot(plan, pacer) : plan.protocol === 'websocket' ? new WebSocketSlot(plan, pacer) : new Http1Slot(plan, pacer));
  }
}

function report(type: WorkerReport['type']): void {
  const { tally, window } = pacer;
  const cpu = process.threadCpuUsage(startCpu);
  parentPort?.postMessage({
    type, count: tally.count, bytes: tally.bytes, errors: { ...tally.errors }, statuses: { ...tally.statuses }, distribution: { ...tally.distribution },
    window, windowErrors: tally.windowErrors, lag: pacer.lag, unsentCount: pacer.backlog, cpuMs: (cpu.user + cpu.system) / 1_000, elapsedMs: pacer.elapsedMs,
  } satisfies WorkerReport);
  pacer.window = makeHistogram();
  tally.windowErrors = 0;
}

parentPort?.on('message', (message: string) => { if (message === 'stop') pacer.stop(); });
await makeSlots();
const timer = setInterval(() => report('progress'), 500);
await pacer.run();
clearInterval(timer);
report('done');
process.exit(0);
