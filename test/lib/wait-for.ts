// Waiting for a condition instead of sleeping: polls often, fails with the last error or value after the time limit.

export interface WaitOptions { timeoutMs?: number; everyMs?: number; what?: string }

/** Resolves to the first truthy value of `check`; errors thrown by it count as "not yet". */
export async function waitFor<T>(check: () => T | Promise<T>, options: WaitOptions = {}): Promise<NonNullable<T>> {
  const deadline = performance.now() + (options.timeoutMs ?? 10_000);
  let last: unknown;
  for (;;) {
    try {
      last = await check();
      if (last !== undefined && last !== null && last !== false) return last as NonNullable<T>;
    } catch (error) { last = error; }
    if (performance.now() > deadline) throw new Error(`timed out waiting for ${options.what ?? 'a condition'}; last: ${last instanceof Error ? last.message : JSON.stringify(last)}`);
    await new Promise((resolve) => { setTimeout(resolve, options.everyMs ?? 10); });
  }
}
