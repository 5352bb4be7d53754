// The journal that keeps nothing: `--ephemeral` and tests. History lives in memory only.

import type { Journal } from './local.ts';

/** Makes a journal for a store that ends with its process. */
export function memoryJournal(): Journal {
  return {
    kind: 'memory',
    older: undefined,
    revision: 0,
    load: () => {},
    write: () => {},
    checkWritable: () => {},
    afterCommit: () => {},
    compact: () => Promise.resolve({ removedCount: 0 }),
    stats: () => ({ walBytes: 0, fileBytes: 0, isWritable: true }),
    close: () => {},
  };
}
