// The watches that are open: counted for limits and metrics, ended together at shutdown.

import { NetloomError } from '../../../api/errors.ts';

/** Something that can be ended in an orderly way. */
export interface OpenWatch { end(): void }

/** All open watches of a server. */
export class WatchSet {
  readonly #open = new Set<OpenWatch>();
  readonly #byUser = new Map<string, number>();
  readonly #limits: { total: number; perUser: number };
  #isClosed = false;

  constructor(limits: { total: number; perUser: number }) { this.#limits = limits; }

  get count(): number { return this.#open.size; }

  /** Registers a watch; returns what to call when it is over. Throws TooManyRequests. */
  add(watch: OpenWatch, username: string): () => void {
    const own = this.#byUser.get(username) ?? 0;
    if (this.#isClosed) throw new NetloomError('ServiceUnavailable', 'the API server is shutting down', { source: 'api', details: { retryAfterSeconds: 1 } });
    if (this.#open.size >= this.#limits.total || own >= this.#limits.perUser) {
      throw new NetloomError('TooManyRequests', 'too many open watches, please try again later', { source: 'api', details: { retryAfterSeconds: 5 } });
    }
    this.#open.add(watch);
    this.#byUser.set(username, own + 1);
    return () => {
      if (!this.#open.delete(watch)) return;
      const left = (this.#byUser.get(username) ?? 1) - 1;
      if (left === 0) this.#byUser.delete(username); else this.#byUser.set(username, left);
    };
  }

  /** Ends every watch cleanly; clients come back and resume where they were. */
  endAll(): void {
    this.#isClosed = true;
    for (const watch of [...this.#open]) watch.end();
  }
}
