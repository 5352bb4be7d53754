// Runs in a network namespace: endpoint changes at a fixed rate and flat out over 1,000 Services, connections to a
// Service that stays; at the end the kernel's tables must equal the plan of the final state.
// argv = { serviceCount, perSecond, seconds, core }.

import { endpointAddress, makeSlice, World } from '../../lib/world.ts';
import { connectionRate, makeProxier, serveWith, sleep, startBackend } from './kernel-bed.ts';
import { serviceAddress } from '../../lib/world.ts';

const { serviceCount, perSecond, seconds, core } = JSON.parse(process.argv[2] ?? '{}') as { serviceCount: number; perSecond: number; seconds: number; core: number };
const tickMs = 10;
const backend = await startBackend(core);
const world = new World(serviceCount);
serveWith(world, serviceCount - 1, backend.port);
const proxier = makeProxier(world);
let done = 0;
const applyOne = (): void => {
  const index = (done * 7919) % (serviceCount - 1);
  world.slices.apply(makeSlice(index, [0, 1, 2].map((number) => endpointAddress(index, (number + done) % 12))));
  done += 1;
};
try {
  await proxier.start();
  const started = performance.now();
  const connections = connectionRate(serviceAddress(serviceCount - 1), 80, seconds * 1_000);
  while (performance.now() - started < seconds * 1_000) {
    const due = Math.floor(((performance.now() - started) * perSecond) / 1_000);
    while (done < due) applyOne();
    await sleep(tickMs);
  }
  const atRate = done / ((performance.now() - started) / 1_000);
  const settleStart = performance.now();
  await proxier.whenIdle();
  const settleMs = performance.now() - settleStart;
  const differences = await proxier.compareWithKernel();
  const answers = await connections;
  const flatStart = performance.now();
  const before = done;
  while (performance.now() - flatStart < (seconds * 1_000) / 2) { for (let item = 0; item < 200; item++) applyOne(); await proxier.whenIdle(); }
  const flatOut = (done - before) / ((performance.now() - flatStart) / 1_000);
  const after = await proxier.compareWithKernel();
  process.stdout.write(`${JSON.stringify({ atRate, settleMs, flatOut, differences: differences + after, failures: proxier.failures.size, connectionsPerSecond: answers })}\n`);
} finally {
  await proxier.stop({ isCleanup: true, drainMs: 0 });
  await backend.stop();
}
process.exit(0);
