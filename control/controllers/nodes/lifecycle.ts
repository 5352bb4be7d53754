// Node life cycle: a node that stops renewing its Lease becomes Unknown, its Pods not ready (so their endpoints leave
// the rotation), and it is tainted so that nothing new lands there; all of that is taken back when it returns. Time
// counts from when a renewal was seen here, never by comparing clocks of two machines.
// Source: kubernetes pkg/controller/nodelifecycle, KEP-589.

import { formatTime, type TimerHandle } from '../../../api/clock.ts';
import { isConflict, isNotFound } from '../../../api/errors.ts';
import type { Informer } from '../../../api/informer.ts';
import { objectKey } from '../../../api/meta.ts';
import { resources } from '../../../api/resources.ts';
import type { Condition, Lease, Node, Pod } from '../../../api/types.ts';
import type { Controller, ControllerContext } from '../context.ts';
import { conditionOf } from '../endpoints/pod-endpoint.ts';
import { WorkQueue } from '../work-queue.ts';

export const notReadyTaint = 'node.kubernetes.io/not-ready';
export const unreachableTaint = 'node.kubernetes.io/unreachable';
export const unschedulableTaint = 'node.kubernetes.io/unschedulable';
const managedTaints: readonly string[] = [notReadyTaint, unreachableTaint, unschedulableTaint];
const leaseNamespace = 'kube-node-lease';
const lostReason = 'NodeStatusUnknown';
/** Reason of the Ready condition of Pods that were marked here, by which they are found again. */
const podReason = 'NodeNotReady';
const podWritesParallel = 16;

type Taint = NonNullable<NonNullable<Node['spec']>['taints']>[number];
interface Seen { key: string; atMs: number; timer: TimerHandle | undefined; dueMs: number }

export class NodeLifecycleController implements Controller {
  readonly name = 'node-lifecycle';
  readonly queues: readonly WorkQueue[];
  readonly #context: ControllerContext;
  readonly #queue: WorkQueue;
  readonly #leases: Informer<Lease>;
  readonly #seen = new Map<string, Seen>();
  readonly #unsubscribe: (() => void)[];
  #isStarted = false;

  constructor(context: ControllerContext) {
    this.#context = context;
    const { clock, log, informers } = context;
    this.#leases = informers.for<Lease>(resources.leases, { namespace: leaseNamespace });
    this.#queue = new WorkQueue({ name: this.name, clock, log, sync: (key) => this.#sync(key), retryMsMax: 5_000 });
    this.queues = [this.#queue];
    informers.pods.store.addIndex('nodeName', (pod) => (pod.spec?.nodeName === undefined ? [] : [pod.spec.nodeName]));
    this.#unsubscribe = [
      informers.nodes.onChange(({ type, key, object, old }) => {
        if (type === 'delete') this.#forget(key);
        else this.#observe(key);
        if (type !== 'update' || stateKey(object) !== stateKey(old)) this.#queue.add(key);
      }),
      this.#leases.onChange(({ type, object }) => { if (type !== 'delete') this.#observe(object.metadata.name); }),
      informers.pods.onChange(({ type, object, old }) => this.#onPod(type, object, old)),
    ];
  }

  start(): void {
    this.#isStarted = true;
    for (const name of this.#context.informers.nodes.store.keys()) {
      this.#observe(name);
      this.#queue.add(name);
    }
    this.#queue.start();
  }

  stop(): void {
    for (const end of this.#unsubscribe) end();
    for (const name of [...this.#seen.keys()]) this.#forget(name);
    this.#queue.stop();
  }

  /** Whether the node has not been heard of for the grace time. */
  isLost(name: string): boolean {
    const seen = this.#seen.get(name);
    return seen !== undefined && this.#context.clock.monotonicMs() - seen.atMs >= this.#context.config.nodeGraceMs;
  }

  #forget(name: string): void {
    this.#seen.get(name)?.timer?.cancel();
    this.#seen.delete(name);
  }

  /** A new renewal, or a new heartbeat of a node that has no Lease, puts the deadline off. */
  #observe(name: string): void {
    if (!this.#isStarted) return;
    const { clock, informers } = this.#context;
    const node = informers.nodes.store.get(name);
    if (node === undefined) return;
    const lease = this.#leases.store.get(`${leaseNamespace}/${name}`);
    const ready = conditionOf(node, 'Ready');
    const key = `${lease?.spec?.renewTime ?? ''} ${ready?.reason === lostReason ? '' : (ready?.lastHeartbeatTime ?? '')}`;
    const seen = this.#seen.get(name);
    if (seen !== undefined && seen.key === key) return;
    // The mark that was set here is no sign of life.
    const isOwnMark = seen !== undefined && ready?.reason === lostReason && key.split(' ')[0] === seen.key.split(' ')[0];
    if (isOwnMark) { seen.key = key; return; }
    const wasLost = this.isLost(name);
    seen?.timer?.cancel();
    const next: Seen = { key, atMs: clock.monotonicMs(), timer: undefined, dueMs: 0 };
    this.#seen.set(name, next);
    this.#arm(name, next);
    if (wasLost || ready?.reason === lostReason) this.#queue.add(name);
  }

  #arm(name: string, seen: Seen): void {
    const { clock, config } = this.#context;
    seen.dueMs = clock.monotonicMs() + config.nodeGraceMs;
    seen.timer = clock.after(config.nodeGraceMs, () => {
      // A timer that is far too late says that this process itself stood still: renewals may be waiting to be read.
      const lateMs = clock.monotonicMs() - seen.dueMs;
      if (lateMs > config.nodeGraceMs / 2) { seen.atMs = clock.monotonicMs(); this.#arm(name, seen); } else this.#queue.add(name);
    });
  }

  /** The agent of a lost node cannot take its Pods out of service: a Pod that looks ready there is marked here. */
  #onPod(type: string, pod: Pod, old: Pod | undefined): void {
    const name = pod.spec?.nodeName ?? '';
    if (type === 'delete' || name === '' || (old !== undefined && conditionOf(pod, 'Ready')?.status === conditionOf(old, 'Ready')?.status)) return;
    const node = this.#context.informers.nodes.store.get(name);
    if (node !== undefined && conditionOf(node, 'Ready')?.status !== 'True' && conditionOf(pod, 'Ready')?.status === 'True') this.#queue.add(name);
  }

  async #sync(name: string): Promise<void> {
    let node = this.#context.informers.nodes.store.get(name);
    if (node === undefined || node.metadata.deletionTimestamp !== undefined) return;
    const ready = conditionOf(node, 'Ready');
    if (this.isLost(name) && ready?.status !== 'Unknown') node = await this.#setReady(node, 'Unknown', lostReason, 'The node stopped renewing its Lease.');
    else if (!this.isLost(name) && ready?.status === 'Unknown' && ready.reason === lostReason) node = await this.#setReady(node, 'True', 'NodeReady', 'The node renews its Lease again.');
    await this.#setTaints(node);
    await this.#markPods(node);
  }

  async #setReady(node: Node, status: 'Unknown' | 'True', reason: string, message: string): Promise<Node> {
    const { client, clock, events, log } = this.#context;
    const now = formatTime(clock.nowMs());
    const types = status === 'Unknown' ? ['Ready', 'MemoryPressure', 'DiskPressure', 'PIDPressure'] : ['Ready'];
    const conditions = (node.status?.conditions ?? []).filter((each) => !types.includes(each.type));
    for (const type of types) {
      const old = conditionOf(node, type);
      if (type !== 'Ready' && old === undefined) continue;
      conditions.push({ ...old, type, status, reason, message, lastTransitionTime: now } as Condition);
    }
    const patch = { metadata: { resourceVersion: node.metadata.resourceVersion }, status: { conditions } };
    const written = await client.patch<Node>(resources.nodes, undefined, node.metadata.name, patch, { type: 'merge', subresource: 'status' });
    if (status === 'Unknown') {
      log.warn('node is lost', { node: node.metadata.name });
      events.record(resources.nodes, written, 'Warning', 'NodeNotReady', `Node ${node.metadata.name} status is now: NodeNotReady: it stopped renewing its Lease`);
    } else {
      log.info('node is back', { node: node.metadata.name });
      events.record(resources.nodes, written, 'Normal', 'NodeReady', `Node ${node.metadata.name} status is now: NodeReady`);
    }
    return written;
  }

  async #setTaints(node: Node): Promise<void> {
    const { client, clock } = this.#context;
    const status = conditionOf(node, 'Ready')?.status;
    const wanted: Taint[] = [];
    const timeAdded = formatTime(clock.nowMs());
    const lost = status === 'True' || status === undefined ? undefined : status === 'Unknown' ? unreachableTaint : notReadyTaint;
    if (lost !== undefined) wanted.push({ key: lost, effect: 'NoSchedule', timeAdded }, { key: lost, effect: 'NoExecute', timeAdded });
    if (node.spec?.unschedulable === true) wanted.push({ key: unschedulableTaint, effect: 'NoSchedule', timeAdded });
    const have = node.spec?.taints ?? [];
    const taints: Taint[] = have.filter((each) => !managedTaints.includes(each.key));
    for (const taint of wanted) taints.push(have.find((each) => each.key === taint.key && each.effect === taint.effect) ?? taint);
    const isSame = taints.length === have.length && taints.every((taint) => have.includes(taint));
    if (isSame) return;
    await client.patch(resources.nodes, undefined, node.metadata.name, { metadata: { resourceVersion: node.metadata.resourceVersion }, spec: { taints: taints.length === 0 ? null : taints } }, { type: 'merge' });
  }

  /** Pods of a node that is not ready are not ready; of one that is back, those marked here are as ready as before. */
  async #markPods(node: Node): Promise<void> {
    const isUp = conditionOf(node, 'Ready')?.status === 'True';
    const pods = this.#context.informers.pods.store.byIndex('nodeName', node.metadata.name).filter((pod) => {
      const ready = conditionOf(pod, 'Ready');
      return isUp ? ready?.status === 'False' && ready.reason === podReason && conditionOf(pod, 'ContainersReady')?.status === 'True' : ready?.status === 'True';
    });
    for (let from = 0; from < pods.length; from += podWritesParallel) await Promise.all(pods.slice(from, from + podWritesParallel).map((pod) => this.#markPod(pod, isUp)));
  }

  async #markPod(pod: Pod, isReady: boolean): Promise<void> {
    const { client, clock } = this.#context;
    const { namespace, name, uid, resourceVersion } = pod.metadata;
    const now = formatTime(clock.nowMs());
    const { reason: _reason, message: _message, ...old } = conditionOf(pod, 'Ready') as Condition;
    const next: Condition = isReady ? { ...old, status: 'True', lastTransitionTime: now } : { ...old, status: 'False', reason: podReason, message: 'The node of this Pod is not ready.', lastTransitionTime: now };
    const conditions = (pod.status?.conditions ?? []).map((each) => (each.type === 'Ready' ? next : each));
    try {
      await client.patch(resources.pods, namespace, name, { metadata: { uid, resourceVersion }, status: { conditions } }, { type: 'merge', subresource: 'status' });
    } catch (error) {
      if (isNotFound(error)) return;
      if (!isConflict(error)) throw error;
      this.#queue.addAfter(pod.spec?.nodeName ?? objectKey(pod), 20);
    }
  }
}

/** What of a node this controller acts on. */
function stateKey(node: Node | undefined): string {
  const ready = node === undefined ? undefined : conditionOf(node, 'Ready');
  return JSON.stringify([ready?.status, ready?.reason, node?.spec?.taints, node?.spec?.unschedulable]);
}
