// The DaemonSet controller: one Pod on every node that it fits, replaced a few at a time when the template changes.
// Source: kubernetes pkg/controller/daemon.

import { resources } from '../../../api/resources.ts';
import type { Node, Pod, PodSpec } from '../../../api/types.ts';
import type { Controller, ControllerContext } from '../context.ts';
import { conditionOf, isPodReady, isPodTerminal } from '../endpoints/pod-endpoint.ts';
import { isTolerated, matchesAffinity } from '../nodes/fit.ts';
import type { WorkQueue } from '../work-queue.ts';
import { generatePrefix, isActive, isAvailable } from './pod-control.ts';
import { revisionHashLabel, Revisions } from './revisions.ts';
import { share } from './rollout.ts';
import type { DaemonSet, PodTemplate } from './types.ts';
import { WorkloadBase } from './workload-base.ts';

/** Node troubles that a daemon rides out. */
const tolerated: NonNullable<PodSpec['tolerations']> = [
  ...['not-ready', 'unreachable'].map((key) => ({ key: `node.kubernetes.io/${key}`, operator: 'Exists', effect: 'NoExecute' })),
  ...['disk-pressure', 'memory-pressure', 'pid-pressure', 'unschedulable'].map((key) => ({ key: `node.kubernetes.io/${key}`, operator: 'Exists', effect: 'NoSchedule' })),
];

type SpecWithAffinity = PodSpec & { affinity?: Parameters<typeof matchesAffinity>[0] };

export class DaemonSetController implements Controller {
  readonly name = 'daemonset';
  readonly queues: readonly WorkQueue[];
  readonly #context: ControllerContext;
  readonly #base: WorkloadBase<DaemonSet>;
  readonly #revisions: Revisions;
  readonly #unsubscribe: () => void;

  constructor(context: ControllerContext) {
    this.#context = context;
    this.#base = new WorkloadBase<DaemonSet>(context, this.name, resources.daemonsets, (key) => this.#sync(key));
    this.#revisions = new Revisions(context, resources.daemonsets);
    this.queues = [this.#base.queue];
    this.#unsubscribe = context.informers.nodes.onChange(({ type, object, old }) => { if (type !== 'update' || nodeKey(object) !== nodeKey(old)) this.#base.markAll(); });
  }

  start(): void { this.#base.start(); }
  stop(): void { this.#unsubscribe(); this.#revisions.stop(); this.#base.stop(); }

  async #sync(key: string): Promise<void> {
    const set = this.#base.objects.store.get(key);
    if (set === undefined || set.metadata.deletionTimestamp !== undefined) return;
    await this.#base.pods.claim(set, set.spec?.selector);
    const hash = await this.#revisions.current(set);
    const nodes = [...this.#context.informers.nodes.store.values()].filter((node) => fits(set, node));
    await this.#place(set, nodes, hash);
    if (set.spec?.updateStrategy?.type !== 'OnDelete') await this.#roll(set, nodes, hash);
    const pods = this.#base.pods.podsOf(set);
    await this.#revisions.trim(set, new Set([hash, ...pods.map((pod) => pod.metadata.labels?.[revisionHashLabel] ?? '')]));
    await this.#writeStatus(set, nodes, pods, hash);
  }

  /** Exactly one living Pod per fitting node, none elsewhere; a failed one is replaced. */
  async #place(set: DaemonSet, nodes: readonly Node[], hash: string): Promise<void> {
    const byNode = new Map<string, Pod[]>();
    for (const pod of this.#base.pods.podsOf(set)) {
      if (isPodTerminal(pod)) { if (pod.metadata.deletionTimestamp === undefined) await this.#base.pods.remove(set, pod); continue; }
      const name = nodeOf(pod);
      byNode.set(name, [...(byNode.get(name) ?? []), pod]);
    }
    const wanted = new Set(nodes.map((node) => node.metadata.name));
    const tasks: Promise<unknown>[] = [];
    for (const [name, pods] of byNode) {
      const active = pods.filter(isActive).sort((a, b) => ((a.metadata.creationTimestamp ?? '') < (b.metadata.creationTimestamp ?? '') ? -1 : 1));
      for (const pod of wanted.has(name) ? active.slice(1) : active) tasks.push(this.#base.pods.remove(set, pod));
    }
    for (const name of wanted) if ((byNode.get(name) ?? []).length === 0) tasks.push(this.#create(set, name, hash));
    await Promise.all(tasks);
  }

  async #create(set: DaemonSet, nodeName: string, hash: string): Promise<void> {
    const template: PodTemplate = set.spec?.template ?? {};
    const spec = template.spec as SpecWithAffinity | undefined;
    const terms = [{ matchFields: [{ key: 'metadata.name', operator: 'In', values: [nodeName] }] }];
    const affinity = { ...spec?.affinity, nodeAffinity: { ...spec?.affinity?.nodeAffinity, requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: terms } } };
    const tolerations = [...(spec?.tolerations ?? []), ...tolerated];
    await this.#base.pods.create(set, template, { generateName: generatePrefix(set.metadata.name), labels: { [revisionHashLabel]: hash } }, { affinity, tolerations } as Partial<PodSpec>);
  }

  /** Old Pods that are not available go at once, others as far as maxUnavailable allows. */
  async #roll(set: DaemonSet, nodes: readonly Node[], hash: string): Promise<void> {
    const nowMs = this.#context.clock.nowMs();
    const pods = this.#base.pods.podsOf(set).filter(isActive);
    const available = pods.filter((pod) => isAvailable(pod, set.spec?.minReadySeconds ?? 0, nowMs));
    let budget = Math.max(1, share(set.spec?.updateStrategy?.rollingUpdate?.maxUnavailable ?? 1, nodes.length, Math.ceil)) - (nodes.length - available.length);
    for (const pod of pods) {
      if (pod.metadata.labels?.[revisionHashLabel] === hash) continue;
      if (available.includes(pod)) { if (budget <= 0) continue; budget -= 1; }
      await this.#base.pods.remove(set, pod);
    }
  }

  async #writeStatus(set: DaemonSet, nodes: readonly Node[], pods: readonly Pod[], hash: string): Promise<void> {
    const nowMs = this.#context.clock.nowMs();
    const wanted = new Set(nodes.map((node) => node.metadata.name));
    const placed = pods.filter((pod) => isActive(pod) && wanted.has(nodeOf(pod)));
    const available = placed.filter((pod) => isAvailable(pod, set.spec?.minReadySeconds ?? 0, nowMs)).length;
    await this.#base.writeStatus(set, set.status ?? {}, {
      desiredNumberScheduled: wanted.size, currentNumberScheduled: placed.length, numberMisscheduled: pods.filter((pod) => isActive(pod) && !wanted.has(nodeOf(pod))).length,
      numberReady: placed.filter(isPodReady).length, numberAvailable: available, numberUnavailable: wanted.size - available,
      updatedNumberScheduled: placed.filter((pod) => pod.metadata.labels?.[revisionHashLabel] === hash).length, observedGeneration: set.metadata.generation ?? 0,
    });
  }
}

function fits(set: DaemonSet, node: Node): boolean {
  const spec = set.spec?.template?.spec as SpecWithAffinity | undefined;
  if (node.metadata.deletionTimestamp !== undefined) return false;
  for (const [name, value] of Object.entries(spec?.nodeSelector ?? {})) if (node.metadata.labels?.[name] !== value) return false;
  if (!matchesAffinity(spec?.affinity, node)) return false;
  const tolerations = [...(spec?.tolerations ?? []), ...tolerated];
  const isLost = (key: string): boolean => key === 'node.kubernetes.io/not-ready' || key === 'node.kubernetes.io/unreachable';
  return (node.spec?.taints ?? []).every((taint) => taint.effect === 'PreferNoSchedule' || isLost(taint.key) || isTolerated(taint, tolerations));
}

/** The node that the Pod is on, or is meant for while it is not bound. */
function nodeOf(pod: Pod): string {
  if (pod.spec?.nodeName !== undefined && pod.spec.nodeName !== '') return pod.spec.nodeName;
  const terms = (pod.spec as SpecWithAffinity | undefined)?.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms ?? [];
  return terms.flatMap((term) => term.matchFields ?? []).find((field) => field.key === 'metadata.name')?.values?.[0] ?? '';
}

function nodeKey(node: Node | undefined): string {
  return JSON.stringify([node?.metadata.labels, node?.spec?.taints, node === undefined ? '' : conditionOf(node, 'Ready')?.status, node?.metadata.deletionTimestamp]);
}
