// Writes Kubernetes Events about Pods and the Node. Repeated ones become a higher count of the first. Events are
// written after what they tell about and are dropped when the API is away or too many wait: nothing depends on them.

import { randomBytes } from 'node:crypto';
import type { ApiClient } from '../api/client.ts';
import { formatTime, type Clock } from '../api/clock.ts';
import type { Log } from '../api/log.ts';
import { resources } from '../api/resources.ts';
import type { Event, KubeObject } from '../api/types.ts';

export interface EventRecorderOptions { client: ApiClient; clock: Clock; log: Log; component: string; host: string }

interface Pending { regarding: KubeObject; type: 'Normal' | 'Warning'; reason: string; message: string; count: number }
interface Written { name: string; namespace: string; count: number }

const queueMax = 1_000;
const writtenMax = 2_000;
const batchDelayMs = 100;

export class EventRecorder {
  readonly #options: EventRecorderOptions;
  readonly #queue = new Map<string, Pending>();
  readonly #written = new Map<string, Written>();
  #isBusy = false;
  #isStopped = false;

  constructor(options: EventRecorderOptions) { this.#options = options; }

  record(regarding: KubeObject, type: 'Normal' | 'Warning', reason: string, message: string): void {
    if (this.#isStopped) return;
    const key = `${regarding.metadata.uid ?? regarding.metadata.name}/${type}/${reason}/${message}`;
    const waiting = this.#queue.get(key);
    if (waiting !== undefined) { waiting.count += 1; return; }
    if (this.#queue.size >= queueMax) return;
    this.#queue.set(key, { regarding, type, reason, message, count: 1 });
    if (!this.#isBusy) {
      this.#isBusy = true;
      this.#options.clock.after(batchDelayMs, () => { void this.#flush(); });
    }
  }

  stop(): void {
    this.#isStopped = true;
    this.#queue.clear();
  }

  async #flush(): Promise<void> {
    for (const [key, pending] of this.#queue) {
      this.#queue.delete(key);
      try { await this.#write(key, pending); } catch (err) { this.#options.log.debug('event not written', { reason: pending.reason, err }); }
    }
    this.#isBusy = false;
  }

  async #write(key: string, pending: Pending): Promise<void> {
    const { client, clock } = this.#options;
    const now = formatTime(clock.nowMs());
    const known = this.#written.get(key);
    if (known !== undefined) {
      known.count += pending.count;
      try {
        await client.patch(resources.events, known.namespace, known.name, { count: known.count, lastTimestamp: now }, { type: 'merge' });
        return;
      } catch { this.#written.delete(key); }
    }
    const event = this.#build(pending, now);
    await client.create(resources.events, event.metadata.namespace, event);
    if (this.#written.size >= writtenMax) this.#written.delete(this.#written.keys().next().value as string);
    this.#written.set(key, { name: event.metadata.name, namespace: event.metadata.namespace as string, count: pending.count });
  }

  #build(pending: Pending, now: string): Event {
    const { regarding } = pending;
    const namespace = regarding.metadata.namespace ?? 'default';
    return {
      apiVersion: 'v1', kind: 'Event',
      metadata: { name: `${regarding.metadata.name}.${randomBytes(8).toString('hex')}`, namespace },
      involvedObject: {
        apiVersion: regarding.apiVersion ?? 'v1', kind: regarding.kind ?? 'Pod', name: regarding.metadata.name,
        ...(regarding.metadata.namespace === undefined ? {} : { namespace: regarding.metadata.namespace }),
        ...(regarding.metadata.uid === undefined ? {} : { uid: regarding.metadata.uid }),
      },
      type: pending.type, reason: pending.reason, message: pending.message.slice(0, 1024), count: pending.count,
      firstTimestamp: now, lastTimestamp: now, eventTime: null,
      source: { component: this.#options.component, host: this.#options.host }, reportingComponent: this.#options.component, reportingInstance: this.#options.host,
    };
  }
}
