// A watch for the server's own caches that never ends by itself: after Expired (an etcd gap, a lagging watcher) it calls
// back without events, whereupon the owner reads the kind anew, and goes on from there.
// Used by ./election.ts and by caches of the API server that are derived from stored objects.

import { hasCode } from '../../api/errors.ts';
import type { Storage, StoredEvent, StoreWatch, WatchOptions } from './store.ts';

/** Calls back with each batch of events, with an empty one after a gap. Ends when the store closes or on `stop()`. */
export function follow(storage: Storage, resource: string, onChange: (events: readonly StoredEvent[]) => void, options: WatchOptions = {}): { stop(): void } {
  let watch: StoreWatch | undefined;
  let isStopped = false;
  const begin = (): void => {
    if (isStopped) return;
    watch = storage.watch(resource, storage.revision, (events) => { onChange(events); }, (error) => {
      // Ended in the middle of replacing the state: look again once that is done.
      if (error !== undefined) setImmediate(again);
    }, options);
  };
  const again = (): void => {
    try {
      begin();
    } catch (error) {
      if (hasCode(error, 'StoreClosed')) return;
      throw error;
    }
    if (!isStopped) onChange([]);
  };
  begin();
  return { stop: () => { isStopped = true; watch?.stop(); } };
}
