// `netloom bench`: hands over to bench/, which nothing of the product imports; it is loaded only here.

export async function bench(args: readonly string[]): Promise<void> {
  const { runBench } = await import('../bench/main.ts');
  process.exitCode = await runBench(args);
}
