// Test runner settings: every *.test.ts below test/, each file in its own process, two at a time, with a plain
// closing line "N passed, N failed, N skipped" from test/lib/count-reporter.ts.

import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    root: new URL('..', import.meta.url).pathname,
    include: ['test/**/*.test.ts'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    reporters: ['default', new URL('./lib/count-reporter.ts', import.meta.url).pathname],
    dangerouslyIgnoreUnhandledErrors: false,
  },
});
