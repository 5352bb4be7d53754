// Prints the plain closing line of a test run as the very last output: "N passed, N failed, N skipped".
// Files that could not be collected and errors outside tests count as failures, so that the line never looks green
// when the run was not.

import type { Reporter, TestModule } from 'vitest/node';

export default class CountReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], errors: readonly unknown[]): void {
    let passed = 0;
    let failed = errors.length;
    let skipped = 0;
    for (const module of modules) {
      if (module.errors().length > 0) failed += 1;
      for (const test of module.children.allTests()) {
        const state = test.result().state;
        if (state === 'passed') passed += 1;
        else if (state === 'failed') failed += 1;
        else skipped += 1;
      }
    }
    process.on('exit', () => { process.stdout.write(`${passed} passed, ${failed} failed, ${skipped} skipped\n`); });
  }
}
