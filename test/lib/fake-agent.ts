// Stands in for node agents in controller tests: gives bound Pods an address, makes them ready unless told otherwise,
// finishes those whose container is named `finish-…`, and lets deleted Pods go.

import { SharedInformers } from '../../api/informer.ts';
import { systemClock } from '../../api/clock.ts';
import { silentLog } from '../../api/log.ts';
import { resources } from '../../api/resources.ts';
import type { Condition, Pod } from '../../api/types.ts';
import type { ApiClient } from '../../api/client.ts';

export class FakeAgent {
  readonly #world: { client: ApiClient };
  readonly #informers: SharedInformers;
  #addressCount = 0;
  /** Pods for which this is false stay not ready. */
  isReady: (pod: Pod) => boolean = () => true;

  constructor(world: { client: ApiClient }) {
    this.#world = world;
    this.#informers = new SharedInformers(world.client, { clock: systemClock, log: silentLog });
    this.#informers.pods.onChange(({ type, object }) => { if (type !== 'delete') void this.#run(object).catch(() => {}); });
  }

  stop(): void { this.#informers.stop(); }

  /** Applies `isReady` anew to every Pod. */
  async refresh(): Promise<void> { for (const pod of [...this.#informers.pods.store.values()]) await this.#run(pod, true).catch(() => {}); }

  async #run(pod: Pod, isForced = false): Promise<void> {
    const { namespace, name, uid } = pod.metadata;
    if ((pod.spec?.nodeName ?? '') === '') return;
    if (pod.metadata.deletionTimestamp !== undefined) {
      await this.#world.client.delete(resources.pods, namespace, name, { gracePeriodSeconds: 0, preconditions: { uid } });
      return;
    }
    if (pod.status?.podIP !== undefined && !isForced) return;
    this.#addressCount += 1;
    const ip = pod.status?.podIP ?? `10.244.${Math.floor(this.#addressCount / 250)}.${(this.#addressCount % 250) + 1}`;
    const finish = pod.spec?.containers.find((container) => container.name.startsWith('finish-'))?.name.slice('finish-'.length);
    const phase = finish === undefined ? 'Running' : finish === 'ok' ? 'Succeeded' : 'Failed';
    const isReady = phase === 'Running' && this.isReady(pod);
    const time = new Date().toISOString();
    const condition = (type: string): Condition => ({ type, status: isReady ? 'True' : 'False', lastTransitionTime: time });
    await this.#world.client.patch(resources.pods, namespace, name, { metadata: { uid }, status: { phase, podIP: ip, podIPs: [{ ip }], conditions: [condition('Ready'), condition('ContainersReady')] } }, { type: 'merge', subresource: 'status' });
  }
}
