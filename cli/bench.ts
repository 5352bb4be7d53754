// `netloom bench`: hands over to bench/, which nothing of the product imports; it is loaded only here.

import { ExitCode } from './exit.ts';

export async function bench(args: readonly string[]): Promise<void> {
  const { runBench } = await import('../bench/main.ts');
  const code = await runBench(args);
  if (code !== 0) throw new ExitCode(code);
}
