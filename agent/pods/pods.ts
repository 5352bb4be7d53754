// Desired Pods → running Pods: watches the Pods bound to this node and keeps one PodRunner per uid. Deleting a Pod ends
// it gracefully and then removes the object; a Pod that vanished is ended at once. Pods that ran under an earlier
// agent are started again (their processes died with that agent).

import type { ApiClient } from '../../api/client.ts';
import type { Clock } from '../../api/clock.ts';
import { isNotFound, isConflict } from '../../api/errors.ts';
import { Informer, dropManagedFields, type InformerEvent } from '../../api/informer.ts';
import type { Log } from '../../api/log.ts';
import { resources } from '../../api/resources.ts';
import type { Pod } from '../../api/types.ts';
import { PodRunner, type PodRunnerOptions } from './pod-runner.ts';
import { StatusWriter } from './status-writer.ts';

export interface PodsOptions extends Omit<PodRunnerOptions, 'onStatus'> { nodeName: string }

const forcedGraceMs = 2_000;
const deleteRetryMs = 500;

export class Pods {
  readonly informer: Informer<Pod>;
  readonly #options: PodsOptions;
  readonly #client: ApiClient;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #runners = new Map<string, PodRunner>();
  readonly #writer: StatusWriter;
  #isStopping = false;

  constructor(options: PodsOptions) {
    this.#options = options;
    this.#client = options.client;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#writer = new StatusWriter(options);
    this.informer = new Informer<Pod>(options.client, resources.pods, {
      fieldSelector: `spec.nodeName=${options.nodeName}`, clock: options.clock, log: options.log, transform: dropManagedFields,
    });
    this.informer.onChange((event) => this.#onChange(event));
  }

  get count(): number { return this.#runners.size; }
  values(): IterableIterator<PodRunner> { return this.#runners.values(); }

  find(namespace: string, name: string): PodRunner | undefined {
    for (const runner of this.#runners.values()) {
      if (runner.pod.metadata.name === name && runner.pod.metadata.namespace === namespace && !isReplaced(runner, this.informer)) return runner;
    }
    return undefined;
  }

  start(): void { this.informer.start(); }

  /** Takes all Pods out of service, ends them within `graceMs` and tells the API what it still can. */
  async stop(graceMs: number): Promise<void> {
    this.#isStopping = true;
    this.informer.stop();
    const runners = [...this.#runners.values()];
    for (const runner of runners) runner.drain();
    const writes = Promise.all(runners.map((runner) => this.#writer.whenIdle(runner.uid)));
    await Promise.race([writes, new Promise<void>((resolve) => { this.#clock.after(Math.min(1_000, graceMs), resolve); })]);
    await Promise.all(runners.map((runner) => runner.stop(Math.min(graceMs, graceOf(runner.pod)))));
    for (const runner of runners) this.#writer.forget(runner.uid);
    this.#runners.clear();
  }

  #onChange(event: InformerEvent<Pod>): void {
    if (this.#isStopping) return;
    const pod = event.object;
    if (event.old !== undefined && event.type === 'update' && event.old.metadata.uid !== pod.metadata.uid) this.#vanish(event.old);
    if (event.type === 'delete') { this.#vanish(pod); return; }
    const uid = pod.metadata.uid ?? '';
    let runner = this.#runners.get(uid);
    if (runner === undefined) {
      if (pod.metadata.deletionTimestamp !== undefined) { void this.#removeObject(pod); return; }
      if (pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed') return;
      runner = new PodRunner(pod, { ...this.#options, onStatus: (each) => this.#writer.write(each.pod, each.status()) });
      this.#runners.set(uid, runner);
      runner.start();
      return;
    }
    runner.pod = pod;
    if (pod.metadata.deletionTimestamp !== undefined && !runner.isStopping) void this.#end(runner, (pod.metadata.deletionGracePeriodSeconds ?? 30) * 1000);
  }

  #vanish(pod: Pod): void {
    const runner = this.#runners.get(pod.metadata.uid ?? '');
    if (runner === undefined) return;
    this.#writer.forget(runner.uid);
    void this.#finish(runner, runner.isStopping ? 0 : forcedGraceMs);
  }

  async #end(runner: PodRunner, graceMs: number): Promise<void> {
    await runner.stop(graceMs);
    if (this.#runners.get(runner.uid) !== runner) return;
    await this.#writer.whenIdle(runner.uid);
    await this.#removeObject(runner.pod);
    await this.#finish(runner, 0);
  }

  async #finish(runner: PodRunner, graceMs: number): Promise<void> {
    await runner.stop(graceMs);
    if (this.#runners.get(runner.uid) === runner) this.#runners.delete(runner.uid);
    this.#writer.forget(runner.uid);
    await runner.removeFiles().catch((err: unknown) => this.#log.warn('pod files not removed', { pod: runner.pod.metadata.name, err }));
  }

  /** The last step of a deletion: grace 0 with the uid as precondition, until the object is gone. */
  async #removeObject(pod: Pod): Promise<void> {
    const { namespace, name, uid } = pod.metadata;
    while (!this.#isStopping) {
      try {
        await this.#client.delete(resources.pods, namespace, name, { gracePeriodSeconds: 0, preconditions: { uid } });
        return;
      } catch (error) {
        if (isNotFound(error) || isConflict(error)) return;
        await new Promise<void>((resolve) => { this.#clock.after(deleteRetryMs, resolve); });
      }
    }
  }
}

function graceOf(pod: Pod): number {
  return pod.metadata.deletionGracePeriodSeconds !== undefined ? pod.metadata.deletionGracePeriodSeconds * 1000 : (pod.spec?.terminationGracePeriodSeconds ?? 30) * 1000;
}

function isReplaced(runner: PodRunner, informer: Informer<Pod>): boolean {
  const current = informer.store.get(`${runner.pod.metadata.namespace ?? ''}/${runner.pod.metadata.name}`);
  return current !== undefined && current.metadata.uid !== runner.uid;
}
