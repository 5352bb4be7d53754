// Taint-based eviction, and Pods whose node is gone for good. A NoExecute taint drives out every Pod that does not
// tolerate it, at once or after its tolerationSeconds; Pods of a deleted Node are removed without waiting for an agent
// that no longer exists. When every node is lost, it is this side that is cut off: nobody is evicted for it.
// Source: kubernetes pkg/controller/tainteviction, pkg/controller/podgc.

import { isConflict, isNotFound } from '../../../api/errors.ts';
import { resources } from '../../../api/resources.ts';
import type { Node, Pod } from '../../../api/types.ts';
import type { Controller, ControllerContext } from '../context.ts';
import { WorkQueue } from '../work-queue.ts';
import { tolerates } from './fit.ts';
import { notReadyTaint, unreachableTaint } from './lifecycle.ts';

export class EvictionController implements Controller {
  readonly name = 'taint-eviction';
  readonly queues: readonly WorkQueue[];
  readonly #context: ControllerContext;
  readonly #queue: WorkQueue;
  /** When the Node of a Pod was first missed. */
  readonly #missingSince = new Map<string, number>();
  /** Time before which no toleration runs: start, or the end of a loss of all nodes. */
  #startedAtMs = 0;
  #isEveryNodeLost = false;
  readonly #unsubscribe: (() => void)[];

  constructor(context: ControllerContext) {
    this.#context = context;
    const { clock, log, informers } = context;
    this.#queue = new WorkQueue({ name: this.name, clock, log, sync: (key) => this.#sync(key) });
    this.queues = [this.#queue];
    informers.pods.store.addIndex('nodeName', (pod) => (pod.spec?.nodeName === undefined ? [] : [pod.spec.nodeName]));
    this.#unsubscribe = [
      informers.pods.onChange(({ type, key, object, old }) => { if (type === 'add' || (type === 'update' && object.spec?.nodeName !== old?.spec?.nodeName)) this.#queue.add(key); }),
      informers.nodes.onChange(({ type, object, old }) => {
        if (type === 'update' && JSON.stringify(noExecute(object)) === JSON.stringify(noExecute(old))) return;
        this.#missingSince.delete(object.metadata.name);
        if (this.#checkNodes()) this.#markAll(); else this.#markNode(object.metadata.name);
      }),
    ];
  }

  start(): void {
    this.#startedAtMs = this.#context.clock.nowMs();
    this.#checkNodes();
    this.#markAll();
    this.#queue.start();
  }

  stop(): void {
    for (const end of this.#unsubscribe) end();
    this.#queue.stop();
  }

  /** Returns true when the first node is back after all were lost. */
  #checkNodes(): boolean {
    const { clock, informers } = this.#context;
    let isLost = informers.nodes.store.size > 0;
    for (const node of informers.nodes.store.values()) isLost &&= noExecute(node).some((taint) => isLossTaint(taint.key));
    const isBack = this.#isEveryNodeLost && !isLost;
    this.#isEveryNodeLost = isLost;
    if (isBack) this.#startedAtMs = clock.nowMs();
    return isBack;
  }

  #markAll(): void { for (const key of this.#context.informers.pods.store.keys()) this.#queue.add(key); }

  #markNode(name: string): void {
    for (const pod of this.#context.informers.pods.store.byIndex('nodeName', name)) this.#queue.add(`${pod.metadata.namespace}/${pod.metadata.name}`);
  }

  async #sync(key: string): Promise<void> {
    const { informers } = this.#context;
    const pod = informers.pods.store.get(key);
    const nodeName = pod?.spec?.nodeName ?? '';
    if (pod === undefined || nodeName === '') return;
    const node = informers.nodes.store.get(nodeName);
    if (node === undefined) { await this.#collectOrphan(key, pod, nodeName); return; }
    if (pod.metadata.deletionTimestamp !== undefined) return;
    const waitMs = this.#waitMs(pod, node);
    if (waitMs === undefined) return;
    if (waitMs > 0) { this.#queue.addAfter(key, waitMs); return; }
    await this.#remove(pod, {});
    this.#context.events.record(resources.pods, pod, 'Normal', 'TaintManagerEviction', `Marking for deletion Pod ${key}`);
  }

  /** Time until the Pod has to go; undefined when it may stay. */
  #waitMs(pod: Pod, node: Node): number | undefined {
    let soonest: number | undefined;
    for (const taint of noExecute(node)) {
      if (this.#isEveryNodeLost && isLossTaint(taint.key)) continue;
      const fitting = (pod.spec?.tolerations ?? []).filter((each) => tolerates(each, taint));
      let waitMs = 0;
      if (fitting.length > 0) {
        const limits = fitting.flatMap((each) => (each.tolerationSeconds === undefined ? [] : [each.tolerationSeconds]));
        if (limits.length === 0) continue;
        // Counted from when it was seen here at the earliest: while no controller ran, no node could take its taint off.
        const addedMs = Math.max(this.#startedAtMs, Date.parse(taint.timeAdded ?? '') || this.#context.clock.nowMs());
        waitMs = Math.max(0, addedMs + Math.max(0, Math.min(...limits)) * 1000 - this.#context.clock.nowMs());
      }
      if (soonest === undefined || waitMs < soonest) soonest = waitMs;
    }
    return soonest;
  }

  /** A Node may come back under its name, as after `kubectl delete node` with a living agent: wait the grace time. */
  async #collectOrphan(key: string, pod: Pod, nodeName: string): Promise<void> {
    const { clock, config } = this.#context;
    const since = this.#missingSince.get(nodeName) ?? clock.monotonicMs();
    this.#missingSince.set(nodeName, since);
    const waitMs = since + config.nodeGraceMs - clock.monotonicMs();
    if (waitMs > 0) { this.#queue.addAfter(key, waitMs); return; }
    await this.#remove(pod, { gracePeriodSeconds: 0 });
  }

  async #remove(pod: Pod, options: Record<string, unknown>): Promise<void> {
    const { namespace, name, uid } = pod.metadata;
    try {
      await this.#context.client.delete(resources.pods, namespace, name, { ...options, preconditions: { uid } });
    } catch (error) { if (!isNotFound(error) && !isConflict(error)) throw error; }
  }
}

const isLossTaint = (key: string): boolean => key === notReadyTaint || key === unreachableTaint;

function noExecute(node: Node | undefined): NonNullable<NonNullable<Node['spec']>['taints']> {
  return (node?.spec?.taints ?? []).filter((taint) => taint.effect === 'NoExecute');
}
