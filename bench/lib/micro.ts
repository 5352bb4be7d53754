// Micro benchmarks of single hot pieces: nanoseconds per call, median of several timed batches after warm-up. A hash of
// the work is printed so that two runs that did different things cannot be compared by mistake.

export interface MicroBench {
  name: string;
  /** Prepares once and returns the piece to time; its result feeds the work hash. */
  setup(): () => number | Promise<number>;
  /** Calls per timed batch; found by itself when left out. */
  isAsync?: boolean;
}
export interface MicroResult { name: string; nanoseconds: number; spreadPercent: number; hash: number }

const batchMs = 40;
const batches = 9;

export async function measureMicro(bench: MicroBench, isSmoke = false): Promise<MicroResult> {
  const run = bench.setup();
  let hash = 0;
  const batch = async (count: number): Promise<number> => {
    const started = performance.now();
    if (bench.isAsync === true) for (let index = 0; index < count; index++) hash = (hash + (await run())) | 0;
    else for (let index = 0; index < count; index++) hash = (hash + (run() as number)) | 0;
    return performance.now() - started;
  };
  const first = run();
  const workHash = typeof first === 'number' ? first : await first;
  if (isSmoke) { await batch(3); return { name: bench.name, nanoseconds: 0, spreadPercent: 0, hash: workHash }; }
  let count = 16;
  while ((await batch(count)) < batchMs / 2 && count < 1e8) count *= 2;
  const times: number[] = [];
  for (let index = 0; index < batches; index++) times.push(((await batch(count)) * 1e6) / count);
  times.sort((a, b) => a - b);
  const middle = times[batches >> 1] ?? 0;
  return { name: bench.name, nanoseconds: middle, spreadPercent: (((times[batches - 2] ?? 0) - (times[1] ?? 0)) / middle) * 100, hash: workHash };
}
