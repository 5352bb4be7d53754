// What the smaller workload controllers have in common: a queue fed by their objects and by the Pods they own, and
// status writes that happen only when something changed.

import { isConflict, isNotFound } from '../../../api/errors.ts';
import type { Informer } from '../../../api/informer.ts';
import { objectKey, selectorFromLabelSelector } from '../../../api/meta.ts';
import type { ResourceRef } from '../../../api/resources.ts';
import type { KubeObject, LabelSelector, Pod } from '../../../api/types.ts';
import type { ControllerContext } from '../context.ts';
import { WorkQueue } from '../work-queue.ts';
import { PodControl } from './pod-control.ts';

interface Selecting extends KubeObject { spec?: { selector?: LabelSelector } }

export class WorkloadBase<T extends Selecting> {
  readonly objects: Informer<T>;
  readonly pods: PodControl;
  readonly queue: WorkQueue;
  readonly #context: ControllerContext;
  readonly #resource: ResourceRef;
  readonly #unsubscribe: (() => void)[];

  constructor(context: ControllerContext, name: string, resource: ResourceRef, sync: (key: string) => Promise<void>) {
    this.#context = context;
    this.#resource = resource;
    const { clock, log, informers, config } = context;
    this.objects = informers.for<T>(resource);
    this.objects.store.addIndex('namespace', (each) => [each.metadata.namespace ?? '']);
    this.pods = new PodControl(context, resource);
    this.queue = new WorkQueue({ name, clock, log, concurrency: config.concurrency, sync });
    this.#unsubscribe = [
      this.objects.onChange(({ key }) => this.queue.add(key)),
      this.pods.watchOwners((key) => this.queue.add(key), (pod) => this.#markAdopters(pod)),
    ];
  }

  start(): void {
    for (const key of this.objects.store.keys()) this.queue.add(key);
    this.queue.start();
  }

  stop(): void {
    for (const end of this.#unsubscribe) end();
    this.pods.stop();
    this.queue.stop();
  }

  markAll(): void { for (const key of this.objects.store.keys()) this.queue.add(key); }

  #markAdopters(pod: Pod): void {
    for (const object of this.objects.store.byIndex('namespace', pod.metadata.namespace ?? '')) {
      const selector = selectorFromLabelSelector(object.spec?.selector ?? {});
      if (!selector.isEmpty && selector.matches(pod.metadata.labels)) this.queue.add(objectKey(object));
    }
  }

  /** Writes what differs of the status; null removes a field. */
  async writeStatus(object: T, old: Record<string, unknown>, next: Record<string, unknown>): Promise<void> {
    if (Object.keys(next).every((name) => JSON.stringify(next[name] ?? null) === JSON.stringify(old[name] ?? null))) return;
    try {
      await this.#context.client.patch(this.#resource, object.metadata.namespace, object.metadata.name, { metadata: { uid: object.metadata.uid }, status: next }, { type: 'merge', subresource: 'status' });
    } catch (error) { if (!isNotFound(error) && !isConflict(error)) throw error; }
  }
}
