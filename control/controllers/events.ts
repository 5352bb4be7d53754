// Records Kubernetes Events about objects. The same event again within ten minutes raises the count of the first; many
// different messages about one thing are folded into one; a source that talks too much about one object is held back.
// Recording never waits and never fails its caller: writes go out one after another from a bounded queue.
// Source: client-go tools/record/events_cache.go (aggregation and spam filter).

import type { ApiClient } from '../../api/client.ts';
import { formatTime, type Clock } from '../../api/clock.ts';
import { isNotFound } from '../../api/errors.ts';
import type { Log } from '../../api/log.ts';
import { apiVersionOf, resources, type ResourceRef } from '../../api/resources.ts';
import type { Event, KubeObject, ObjectReference } from '../../api/types.ts';

export type EventType = 'Normal' | 'Warning';

const queueMax = 1_000;
const cacheMax = 4_096;
const aggregateWindowMs = 600_000;
const similarMax = 10;
const burst = 25;
const refillMs = 300_000;

interface Known { name: string; namespace: string; count: number; firstMs: number; lastMs: number }
interface Similar { messages: Set<string>; lastMs: number }
interface Bucket { tokens: number; atMs: number }

export interface EventRecorderOptions { client: ApiClient; clock: Clock; log: Log; component: string; host?: string; random?: () => number }

export class EventRecorder {
  readonly #options: EventRecorderOptions;
  readonly #known = new Map<string, Known>();
  readonly #similar = new Map<string, Similar>();
  readonly #buckets = new Map<string, Bucket>();
  readonly #queue: (() => Promise<void>)[] = [];
  #isDraining = false;
  #isStopped = false;
  #nameCount = 0;
  /** Events that were not recorded because of a limit. */
  droppedCount = 0;

  constructor(options: EventRecorderOptions) { this.#options = options; }

  stop(): void { this.#isStopped = true; this.#queue.length = 0; }

  /** Records what happened to an object of the given kind. */
  record(resource: ResourceRef, object: KubeObject, type: EventType, reason: string, message: string): void {
    const about = referenceTo(resource, object);
    const nowMs = this.#options.clock.nowMs();
    if (this.#isStopped || !this.#mayTalk(about, nowMs)) { this.droppedCount += 1; return; }
    const base = [this.#options.component, about.kind, about.namespace, about.name, about.uid, type, reason].join('\n');
    const { key, text } = this.#fold(base, message, nowMs);
    const known = this.#known.get(key);
    if (known !== undefined && nowMs - known.lastMs < aggregateWindowMs) {
      known.count += 1;
      known.lastMs = nowMs;
      this.#send(() => this.#raise(known, about, type, reason, text));
      return;
    }
    const namespace = about.namespace ?? 'default';
    const fresh: Known = { name: `${about.name ?? 'unknown'}.${this.#suffix(nowMs)}`, namespace, count: 1, firstMs: nowMs, lastMs: nowMs };
    remember(this.#known, key, fresh);
    this.#send(() => this.#create(fresh, about, type, reason, text));
  }

  /** More than ten different messages of one reason about one object become one line. */
  #fold(base: string, message: string, nowMs: number): { key: string; text: string } {
    let similar = this.#similar.get(base);
    if (similar === undefined || nowMs - similar.lastMs > aggregateWindowMs) similar = { messages: new Set(), lastMs: nowMs };
    similar.lastMs = nowMs;
    if (similar.messages.size < similarMax) similar.messages.add(message);
    remember(this.#similar, base, similar);
    return similar.messages.has(message) ? { key: `${base}\n${message}`, text: message } : { key: `${base}\n`, text: `(combined from similar events): ${message}` };
  }

  #mayTalk(about: ObjectReference, nowMs: number): boolean {
    const key = `${about.kind} ${about.namespace} ${about.name} ${about.uid}`;
    const bucket = this.#buckets.get(key) ?? { tokens: burst, atMs: nowMs };
    const refilled = Math.floor((nowMs - bucket.atMs) / refillMs);
    if (refilled > 0) { bucket.tokens = Math.min(burst, bucket.tokens + refilled); bucket.atMs += refilled * refillMs; }
    remember(this.#buckets, key, bucket);
    if (bucket.tokens < 1) return false;
    bucket.tokens -= 1;
    return true;
  }

  #suffix(nowMs: number): string {
    this.#nameCount += 1;
    return (BigInt(Math.round(nowMs)) * 1_000_000n + BigInt(this.#nameCount % 1_000_000)).toString(16);
  }

  #send(task: () => Promise<void>): void {
    if (this.#queue.length >= queueMax) { this.droppedCount += 1; return; }
    this.#queue.push(task);
    if (!this.#isDraining) void this.#drain();
  }

  async #drain(): Promise<void> {
    this.#isDraining = true;
    for (let task = this.#queue.shift(); task !== undefined; task = this.#queue.shift()) {
      try { await task(); } catch (error) { this.#options.log.debug('event was not recorded', { err: error }); }
    }
    this.#isDraining = false;
  }

  async #create(known: Known, about: ObjectReference, type: EventType, reason: string, message: string): Promise<void> {
    const { component, host, client } = this.#options;
    const event: Event = {
      metadata: { name: known.name, namespace: known.namespace }, involvedObject: about, reason, message, type,
      source: { component, ...(host === undefined ? {} : { host }) }, reportingComponent: component, reportingInstance: host ?? '',
      firstTimestamp: formatTime(known.firstMs), lastTimestamp: formatTime(known.lastMs), eventTime: null, count: known.count,
    };
    await client.create(resources.events, known.namespace, event);
  }

  async #raise(known: Known, about: ObjectReference, type: EventType, reason: string, message: string): Promise<void> {
    const patch = { count: known.count, lastTimestamp: formatTime(known.lastMs), message };
    try {
      await this.#options.client.patch(resources.events, known.namespace, known.name, patch, { type: 'merge' });
    } catch (error) {
      if (!isNotFound(error)) throw error;
      await this.#create(known, about, type, reason, message);
    }
  }
}

/** Reference by which `kubectl describe` finds the event. */
export function referenceTo(resource: ResourceRef, object: KubeObject): ObjectReference {
  const { name, namespace, uid, resourceVersion } = object.metadata;
  return {
    apiVersion: apiVersionOf(resource), kind: resource.kind, name,
    ...(namespace === undefined ? {} : { namespace }), ...(uid === undefined ? {} : { uid }), ...(resourceVersion === undefined ? {} : { resourceVersion }),
  };
}

/** Keeps a map below its limit by dropping what was least recently used. */
function remember<V>(map: Map<string, V>, key: string, value: V): void {
  map.delete(key);
  map.set(key, value);
  if (map.size > cacheMax) map.delete(map.keys().next().value as string);
}
