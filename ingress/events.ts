// Events on objects, so that `kubectl describe ingress` says what is wrong with which field. The same message about the
// same object is written once per process and object version; at most a few per object and bounded in all.

import type { ApiClient } from '../api/client.ts';
import { formatMicroTime, formatTime, type Clock } from '../api/clock.ts';
import type { Log } from '../api/log.ts';
import { apiVersionOf, resources, type ResourceRef } from '../api/resources.ts';
import type { Event, KubeObject } from '../api/types.ts';

const rememberedMax = 10_000;
const queuedMax = 1_000;

export class EventWriter {
  readonly #client: ApiClient;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #written = new Set<string>();
  readonly #queue: { resource: ResourceRef; object: KubeObject; type: 'Normal' | 'Warning'; reason: string; message: string }[] = [];
  #isBusy = false;
  #counter = 0;

  constructor(client: ApiClient, clock: Clock, log: Log) {
    this.#client = client;
    this.#clock = clock;
    this.#log = log;
  }

  /** Queues an Event; duplicates are dropped. Never fails the caller. */
  write(resource: ResourceRef, object: KubeObject, type: 'Normal' | 'Warning', reason: string, message: string): void {
    const id = `${object.metadata.uid ?? object.metadata.name} ${reason} ${message}`;
    if (this.#written.has(id) || this.#queue.length >= queuedMax) return;
    if (this.#written.size >= rememberedMax) this.#written.clear();
    this.#written.add(id);
    this.#queue.push({ resource, object, type, reason, message });
    if (!this.#isBusy) void this.#flush();
  }

  /** Forgets an object, so that the same fault is told again when it comes back. */
  forget(uid: string): void { for (const id of this.#written) if (id.startsWith(`${uid} `)) this.#written.delete(id); }

  async #flush(): Promise<void> {
    this.#isBusy = true;
    for (let item = this.#queue.shift(); item !== undefined; item = this.#queue.shift()) {
      const { resource, object, type, reason, message } = item;
      const nowMs = this.#clock.nowMs();
      const { name, namespace = 'default', uid, resourceVersion } = object.metadata;
      const event: Event = {
        metadata: { name: `${name}.${nowMs.toString(16)}${(this.#counter++ % 65_536).toString(16).padStart(4, '0')}`, namespace },
        involvedObject: { apiVersion: apiVersionOf(resource), kind: resource.kind, name, namespace, ...(uid === undefined ? {} : { uid }), ...(resourceVersion === undefined ? {} : { resourceVersion }) },
        type, reason, message: message.slice(0, 1_024), source: { component: 'netloom-ingress' }, reportingComponent: 'netloom.dev/ingress', reportingInstance: 'netloom',
        firstTimestamp: formatTime(nowMs), lastTimestamp: formatTime(nowMs), eventTime: formatMicroTime(nowMs), count: 1, action: 'Sync',
      };
      try { await this.#client.create(resources.events, namespace, event); } catch (error) { this.#log.debug('event not written', { object: `${namespace}/${name}`, err: error }); }
    }
    this.#isBusy = false;
  }
}
