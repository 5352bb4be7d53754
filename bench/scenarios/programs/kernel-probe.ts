// Runs in a network namespace: the nftables engine at several numbers of Services × 3 endpoints. Per size: the first full
// sync of a proxier that starts with the objects present, single endpoint changes, and new connections per second beside
// direct ones; the kernel's tables must equal the plan before and after.
// argv = { sizes, changeCount, connectMs, rounds, core }.

import { endpointAddress, makeSlice, World } from '../../lib/world.ts';
import { compareWithDirect, endpointIP, makeProxier, medianRates, percentile, serveWith, sleep, startBackend } from './kernel-bed.ts';

const input = JSON.parse(process.argv[2] ?? '{}') as { sizes: number[]; changeCount: number; connectMs: number; rounds: number; core: number };
const backend = await startBackend(input.core);
const results: object[] = [];
try { for (const size of input.sizes) results.push(await measure(size)); } finally { await backend.stop(); }
process.stdout.write(`${JSON.stringify(results)}\n`);
process.exit(0);

async function measure(size: number): Promise<object> {
  const world = new World(size);
  serveWith(world, size - 1, backend.port);
  // No rule and no connection tracking yet: what a connection costs without any proxy.
  const [bare = 0] = await medianRates([{ host: endpointIP, port: backend.port }], input.connectMs, input.rounds);
  const proxier = makeProxier(world);
  const started = performance.now();
  await proxier.start();
  const fullSyncMs = performance.now() - started;
  try {
    await mustEqual(proxier, 'after the full sync');
    const rates = await compareWithDirect(size - 1, backend.port, input.connectMs, input.rounds);
    const changes = await change(world, proxier, size);
    await mustEqual(proxier, 'after the changes');
    return { size, fullSyncMs, elements: proxier.elementCount, bare, ...rates, changeP50: percentile(changes, 0.5), changeP99: percentile(changes, 0.99) };
  } finally { await proxier.stop({ isCleanup: true, drainMs: 0 }); }
}

/** From the watch event of one EndpointSlice until the kernel has it; each alone. */
async function change(world: World, proxier: ReturnType<typeof makeProxier>, size: number): Promise<number[]> {
  const times: number[] = [];
  for (let round = 0; round < input.changeCount; round++) {
    const index = (round * 7919) % Math.max(1, size - 1);
    // The loop gathers changes for 10 ms after a sync; a lone change comes later than that.
    await sleep(15);
    const slice = makeSlice(index, [endpointAddress(index, 0), endpointAddress(index, 1), endpointAddress(index, 3 + (round % 8))]);
    const started = performance.now();
    world.slices.apply(slice);
    await proxier.whenIdle();
    times.push(performance.now() - started);
  }
  return times;
}

async function mustEqual(proxier: ReturnType<typeof makeProxier>, when: string): Promise<void> {
  const differences = await proxier.compareWithKernel();
  if (differences > 0 || proxier.failures.size > 0) throw new Error(`${differences} elements of the kernel differ from the plan ${when}, ${proxier.failures.size} Services failed`);
}
