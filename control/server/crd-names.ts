// Definitions whose names were taken are looked at again whenever a definition changes: the one that held a name may be
// gone. A look is a write of the definition as it is; admission decides anew, and nothing is stored when nothing changed.

import { isConflict, isNotFound } from '../../api/errors.ts';
import type { Log } from '../../api/log.ts';
import { follow } from '../storage/follow.ts';
import type { Storage } from '../storage/store.ts';
import { crdStorage, type Registry } from './registry.ts';

export interface FreedNamesOptions { storage: Storage; registry: Registry; log: Log; rewrite: (name: string) => Promise<void> }

/** Starts looking. */
export function acceptFreedNames({ storage, registry, log, rewrite }: FreedNamesOptions): { stop(): void } {
  let isScheduled = false;
  let isStopped = false;
  const look = async (): Promise<void> => {
    isScheduled = false;
    for (const { metadata, status } of registry.definitions()) {
      const isRefused = status?.conditions?.some((condition) => condition.type === 'NamesAccepted' && condition.status === 'False') === true;
      if (!isRefused || metadata.deletionTimestamp !== undefined || isStopped) continue;
      try { await rewrite(metadata.name); } catch (error) { if (!isConflict(error) && !isNotFound(error) && !isStopped) log.warn('names of a definition cannot be checked again', { definition: metadata.name, err: error }); }
    }
  };
  const watch = follow(storage, crdStorage, () => {
    if (isScheduled || isStopped) return;
    isScheduled = true;
    setImmediate(() => { void look(); });
  });
  return { stop: () => { isStopped = true; watch.stop(); } };
}
