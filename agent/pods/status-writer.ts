// Writes Pod statuses to the API: at most one write per Pod in flight, always the newest state next, so that a burst of
// changes costs two writes. While the API is away the newest state waits. Called by pods.ts.

import type { ApiClient } from '../../api/client.ts';
import type { Clock } from '../../api/clock.ts';
import { isConflict, isNotFound } from '../../api/errors.ts';
import type { Log } from '../../api/log.ts';
import { resources } from '../../api/resources.ts';
import type { Pod, PodStatus } from '../../api/types.ts';

interface Entry { readonly pod: Pod; next: PodStatus | undefined; written: string; isBusy: boolean; retryMs: number; idle: (() => void)[] }

const retryMsMin = 50;
const retryMsMax = 5_000;

export class StatusWriter {
  readonly #client: ApiClient;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #entries = new Map<string, Entry>();
  #writeCount = 0;

  constructor(options: { client: ApiClient; clock: Clock; log: Log }) {
    this.#client = options.client;
    this.#clock = options.clock;
    this.#log = options.log;
  }

  get writeCount(): number { return this.#writeCount; }

  /** Queues the status; an unchanged one is not written. */
  write(pod: Pod, status: PodStatus): void {
    const uid = pod.metadata.uid ?? '';
    let entry = this.#entries.get(uid);
    if (entry === undefined) {
      entry = { pod, next: undefined, written: '', isBusy: false, retryMs: retryMsMin, idle: [] };
      this.#entries.set(uid, entry);
    }
    entry.next = status;
    if (!entry.isBusy) void this.#run(uid, entry);
  }

  /** Resolves when everything queued for the Pod is written (or the Pod is gone). */
  whenIdle(uid: string): Promise<void> {
    const entry = this.#entries.get(uid);
    if (entry === undefined || (!entry.isBusy && entry.next === undefined)) return Promise.resolve();
    return new Promise((resolve) => { entry.idle.push(resolve); });
  }

  forget(uid: string): void {
    const entry = this.#entries.get(uid);
    this.#entries.delete(uid);
    for (const done of entry?.idle ?? []) done();
  }

  async #run(uid: string, entry: Entry): Promise<void> {
    entry.isBusy = true;
    // One turn of the loop lets changes of the same moment become one write.
    await new Promise<void>((resolve) => { setImmediate(resolve); });
    while (entry.next !== undefined && this.#entries.get(uid) === entry) {
      const status = entry.next;
      entry.next = undefined;
      const text = JSON.stringify(status);
      if (text === entry.written) continue;
      try {
        const { namespace, name } = entry.pod.metadata;
        // The uid makes a write to a newer Pod of the same name fail.
        const patch = { metadata: { uid }, status: { reason: null, message: null, ...status } };
        await this.#client.patch(resources.pods, namespace, name, patch, { type: 'merge', subresource: 'status' });
        this.#writeCount += 1;
        entry.written = text;
        entry.retryMs = retryMsMin;
      } catch (error) {
        if (isNotFound(error) || isConflict(error)) { this.forget(uid); return; }
        this.#log.debug('pod status not written yet', { pod: entry.pod.metadata.name, err: error });
        entry.next ??= status;
        await new Promise<void>((resolve) => { this.#clock.after(entry.retryMs, resolve); });
        entry.retryMs = Math.min(retryMsMax, entry.retryMs * 2);
      }
    }
    entry.isBusy = false;
    for (const done of entry.idle.splice(0)) done();
  }
}
