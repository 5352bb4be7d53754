// Binds Pods to nodes: the node must be ready, not cordoned, tolerated, match the nodeSelector and required node
// affinity, and have the host ports free; of those the one with the fewest Pods is taken. A Pod that fits nowhere stays
// Pending, says why, and is tried again as soon as something changes that could help.
// Source: kubernetes pkg/scheduler (default filters), in the small.

import { formatTime } from '../../../api/clock.ts';
import { isConflict, isNotFound } from '../../../api/errors.ts';
import { objectKey } from '../../../api/meta.ts';
import { resourcePath, resources } from '../../../api/resources.ts';
import type { Condition, Node, Pod } from '../../../api/types.ts';
import type { Controller, ControllerContext } from '../context.ts';
import { conditionOf, isPodTerminal } from '../endpoints/pod-endpoint.ts';
import { WorkQueue } from '../work-queue.ts';
import { whyNot } from './fit.ts';

export const schedulerName = 'default-scheduler';

export class Scheduler implements Controller {
  readonly name = 'scheduler';
  readonly queues: readonly WorkQueue[];
  readonly #context: ControllerContext;
  readonly #queue: WorkQueue;
  /** Pods that count on each node, those just bound included. */
  readonly #podsByNode = new Map<string, Map<string, Pod>>();
  /** Node of a Pod that was bound here and is not yet seen bound. */
  readonly #assumed = new Map<string, { nodeName: string; uid: string }>();
  readonly #unschedulable = new Set<string>();
  readonly #unsubscribe: (() => void)[];

  constructor(context: ControllerContext) {
    this.#context = context;
    const { clock, log, informers } = context;
    // One at a time: each decision counts the ones before it.
    this.#queue = new WorkQueue({ name: this.name, clock, log, concurrency: 1, sync: (key) => this.#sync(key) });
    this.queues = [this.#queue];
    for (const pod of informers.pods.store.values()) this.#count(pod);
    this.#unsubscribe = [
      informers.pods.onChange(({ type, key, object, old }) => this.#onPod(key, type === 'delete' ? undefined : object, old)),
      informers.nodes.onChange(({ object, old, type }) => { if (type !== 'update' || schedulingKey(object) !== schedulingKey(old)) this.#retryAll(); }),
    ];
  }

  start(): void {
    for (const [key, pod] of this.#context.informers.pods.store.entries()) if (this.#isMine(pod)) this.#queue.add(key);
    this.#queue.start();
  }

  stop(): void {
    for (const end of this.#unsubscribe) end();
    this.#queue.stop();
  }

  #isMine(pod: Pod): boolean {
    return (pod.spec?.nodeName ?? '') === '' && pod.metadata.deletionTimestamp === undefined && !isPodTerminal(pod) && (pod.spec?.schedulerName ?? schedulerName) === schedulerName;
  }

  #onPod(key: string, pod: Pod | undefined, old: Pod | undefined): void {
    const assumed = this.#assumed.get(key);
    if (assumed !== undefined && (pod === undefined || pod.metadata.uid !== assumed.uid || (pod.spec?.nodeName ?? '') !== '')) {
      this.#assumed.delete(key);
      this.#podsByNode.get(assumed.nodeName)?.delete(key);
    }
    if (old?.spec?.nodeName !== undefined) this.#podsByNode.get(old.spec.nodeName)?.delete(key);
    if (pod !== undefined) this.#count(pod);
    const isRoomMade = pod === undefined || (isPodTerminal(pod) && old !== undefined && !isPodTerminal(old));
    if (pod === undefined) this.#unschedulable.delete(key);
    else if (this.#isMine(pod) && old === undefined) this.#queue.add(key);
    if (isRoomMade) this.#retryAll();
  }

  #count(pod: Pod): void {
    const nodeName = pod.spec?.nodeName ?? '';
    if (nodeName === '' || isPodTerminal(pod)) return;
    let pods = this.#podsByNode.get(nodeName);
    if (pods === undefined) this.#podsByNode.set(nodeName, pods = new Map());
    pods.set(objectKey(pod), pod);
  }

  #retryAll(): void { for (const key of this.#unschedulable) this.#queue.add(key); }

  async #sync(key: string): Promise<void> {
    const pod = this.#context.informers.pods.store.get(key);
    if (pod === undefined || !this.#isMine(pod) || this.#assumed.has(key)) { this.#unschedulable.delete(key); return; }
    const reasons = new Map<string, number>();
    const node = this.#choose(pod, reasons);
    if (node === undefined) { await this.#tellUnschedulable(key, pod, reasons); return; }
    this.#unschedulable.delete(key);
    await this.#bind(key, pod, node.metadata.name);
  }

  #choose(pod: Pod, reasons: Map<string, number>): Node | undefined {
    let best: Node | undefined;
    let fewest = Number.POSITIVE_INFINITY;
    for (const node of this.#context.informers.nodes.store.values()) {
      const pods = this.#podsByNode.get(node.metadata.name);
      const why = whyNot(pod, node, pods?.values() ?? []);
      if (why !== undefined) { reasons.set(why, (reasons.get(why) ?? 0) + 1); continue; }
      const count = pods?.size ?? 0;
      if (count < fewest || (count === fewest && node.metadata.name < (best?.metadata.name ?? ''))) { best = node; fewest = count; }
    }
    return best;
  }

  async #bind(key: string, pod: Pod, nodeName: string): Promise<void> {
    const { client, events } = this.#context;
    const { namespace, name, uid } = pod.metadata;
    this.#assumed.set(key, { nodeName, uid: uid ?? '' });
    this.#count({ ...pod, spec: { ...pod.spec, nodeName } } as Pod);
    try {
      await client.raw('POST', resourcePath(resources.pods, namespace, name, 'binding'), {
        apiVersion: 'v1', kind: 'Binding', metadata: { name, namespace, uid }, target: { apiVersion: 'v1', kind: 'Node', name: nodeName },
      });
    } catch (error) {
      this.#assumed.delete(key);
      this.#podsByNode.get(nodeName)?.delete(key);
      if (isNotFound(error) || isConflict(error)) return;
      throw error;
    }
    events.record(resources.pods, pod, 'Normal', 'Scheduled', `Successfully assigned ${key} to ${nodeName}`);
  }

  async #tellUnschedulable(key: string, pod: Pod, reasons: ReadonlyMap<string, number>): Promise<void> {
    const { client, clock, events, informers } = this.#context;
    this.#unschedulable.add(key);
    const parts = [...reasons].map(([why, count]) => `${count} ${why}`).sort();
    const message = `0/${informers.nodes.store.size} nodes are available${parts.length === 0 ? ': no nodes are registered' : `: ${parts.join(', ')}`}.`;
    const known = conditionOf(pod, 'PodScheduled');
    if (known?.status === 'False' && known.message === message) return;
    const condition: Condition = { type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message, lastProbeTime: null, lastTransitionTime: known?.status === 'False' ? (known.lastTransitionTime ?? formatTime(clock.nowMs())) : formatTime(clock.nowMs()) };
    events.record(resources.pods, pod, 'Warning', 'FailedScheduling', message);
    try {
      await client.patch(resources.pods, pod.metadata.namespace, pod.metadata.name, { metadata: { uid: pod.metadata.uid }, status: { conditions: [condition] } }, { type: 'strategic', subresource: 'status' });
    } catch (error) { if (!isNotFound(error) && !isConflict(error)) throw error; }
  }
}

/** What of a node decides about new Pods. */
function schedulingKey(node: Node | undefined): string {
  return JSON.stringify([node?.metadata.labels, node?.spec?.unschedulable, node?.spec?.taints, node === undefined ? '' : conditionOf(node, 'Ready')?.status, node?.metadata.deletionTimestamp]);
}
