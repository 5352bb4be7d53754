// The Deployment controller: one ReplicaSet per template, moved from old to new without losing availability.
// Scale, pause, undo and restart of `kubectl rollout` are ordinary changes of the object; history is in the sets.
// Source: kubernetes pkg/controller/deployment.

import { isAlreadyExists, isConflict, isNotFound } from '../../../api/errors.ts';
import type { Informer } from '../../../api/informer.ts';
import { annotations as names, labels, objectKey, selectorFromLabelSelector } from '../../../api/meta.ts';
import { resources } from '../../../api/resources.ts';
import type { Controller, ControllerContext } from '../context.ts';
import { OwnWrites } from '../own-writes.ts';
import { WorkQueue } from '../work-queue.ts';
import { countStatus, deadlineInMs, isSameStatus, nextConditions } from './deployment-status.ts';
import { controllerOf, controllerRef } from './pod-control.ts';
import { byAge, copiedAnnotations, desiredReplicas, findNewSet, isComplete, limitsOf, maxReplicas, nextNewReplicas, nextOldReplicas, proportionalReplicas, replicasOf, revisionHistory, revisionOf, templateHash } from './rollout.ts';
import type { Deployment, DeploymentStatus, ReplicaSet } from './types.ts';

export class DeploymentController implements Controller {
  readonly name = 'deployment';
  readonly queues: readonly WorkQueue[];
  readonly #context: ControllerContext;
  readonly #queue: WorkQueue;
  readonly #deployments: Informer<Deployment>;
  readonly #own: OwnWrites<Deployment>;
  readonly #sets: OwnWrites<ReplicaSet>;
  readonly #unsubscribe: (() => void)[];

  constructor(context: ControllerContext) {
    this.#context = context;
    const { clock, log, informers, config } = context;
    this.#deployments = informers.for<Deployment>(resources.deployments);
    this.#own = new OwnWrites(this.#deployments, 'self', (each) => [objectKey(each)]);
    const sets = informers.for<ReplicaSet>(resources.replicasets);
    this.#sets = new OwnWrites(sets, 'deploymentUid', (set) => [controllerOf(set)?.uid ?? `orphan ${set.metadata.namespace ?? ''}`]);
    this.#queue = new WorkQueue({ name: this.name, clock, log, concurrency: config.concurrency, sync: (key) => this.#sync(key) });
    this.queues = [this.#queue];
    this.#unsubscribe = [
      this.#deployments.onChange(({ key }) => this.#queue.add(key)),
      sets.onChange(({ object, old }) => { for (const set of old === undefined ? [object] : [object, old]) this.#markOwner(set); }),
    ];
  }

  start(): void {
    for (const key of this.#deployments.store.keys()) this.#queue.add(key);
    this.#queue.start();
  }

  stop(): void {
    for (const end of this.#unsubscribe) end();
    this.#sets.stop();
    this.#own.stop();
    this.#queue.stop();
  }

  #markOwner(set: ReplicaSet): void {
    const owner = controllerOf(set);
    if (owner?.kind === 'Deployment') this.#queue.add(`${set.metadata.namespace}/${owner.name}`);
  }

  async #sync(key: string): Promise<void> {
    const deployment = this.#own.get(key);
    if (deployment === undefined) return;
    const sets = await this.#claim(deployment);
    if (deployment.metadata.deletionTimestamp !== undefined) { await this.#writeStatus(key, deployment, sets, findNewSet(deployment, sets)); return; }
    const newSet = await this.#newSet(deployment, sets, deployment.spec?.paused !== true);
    const all = newSet === undefined ? sets : [...sets.filter((set) => set.metadata.uid !== newSet.metadata.uid), newSet];
    const isScaling = all.some((set) => replicasOf(set) > 0 && set.metadata.annotations?.[desiredReplicas] !== undefined && Number(set.metadata.annotations[desiredReplicas]) !== replicasOf(deployment));
    const isPaused = deployment.spec?.paused === true;
    if (isPaused || isScaling) await this.#rescale(deployment, all, newSet);
    else if (newSet !== undefined && deployment.spec?.strategy?.type === 'Recreate') await this.#recreate(deployment, all, newSet);
    else if (newSet !== undefined) await this.#roll(deployment, all, newSet);
    const written = this.#sets.list(deployment.metadata.uid ?? '');
    const status = await this.#writeStatus(key, deployment, written, findNewSet(deployment, written));
    if (!isPaused && isComplete(deployment, status)) await this.#trimHistory(deployment, written, findNewSet(deployment, written));
  }

  /** The sets that belong to the Deployment, orphans that match its selector included. */
  async #claim(deployment: Deployment): Promise<ReplicaSet[]> {
    const selector = selectorFromLabelSelector(deployment.spec?.selector ?? {});
    if (!selector.isEmpty && deployment.metadata.deletionTimestamp === undefined) {
      for (const set of this.#sets.list(`orphan ${deployment.metadata.namespace ?? ''}`)) {
        if (!selector.matches(set.metadata.labels) || set.metadata.deletionTimestamp !== undefined) continue;
        const ownerReferences = [...(set.metadata.ownerReferences ?? []), controllerRef(resources.deployments, deployment)];
        const patch = { metadata: { uid: set.metadata.uid, resourceVersion: set.metadata.resourceVersion, ownerReferences } };
        this.#sets.wrote(await this.#context.client.patch<ReplicaSet>(resources.replicasets, set.metadata.namespace, set.metadata.name, patch, { type: 'merge' }));
      }
    }
    return this.#sets.list(deployment.metadata.uid ?? '');
  }

  /** The set of the current template with the newest revision; made when it is missing and may be made. */
  async #newSet(deployment: Deployment, sets: readonly ReplicaSet[], mayCreate: boolean): Promise<ReplicaSet | undefined> {
    const known = findNewSet(deployment, sets);
    if (known === undefined && !mayCreate) return undefined;
    const oldMax = Math.max(0, ...sets.filter((set) => set !== known).map(revisionOf));
    const revision = String(known !== undefined && revisionOf(known) > oldMax ? revisionOf(known) : oldMax + 1);
    const notes: Record<string, string> = { ...known?.metadata.annotations, ...copiedAnnotations(deployment), [names.revision]: revision, ...this.#sizeNotes(deployment) };
    if (known !== undefined && revisionOf(known) > 0 && String(revisionOf(known)) !== revision) {
      notes[revisionHistory] = [...(known.metadata.annotations?.[revisionHistory]?.split(',') ?? []), String(revisionOf(known))].join(',');
    }
    const set = known === undefined ? await this.#createSet(deployment, sets, notes) : await this.#annotate(known, deployment, notes);
    if (set !== undefined && deployment.metadata.annotations?.[names.revision] !== revision) await this.#setRevision(deployment, revision);
    return set;
  }

  #sizeNotes(deployment: Deployment): Record<string, string> {
    return { [desiredReplicas]: String(replicasOf(deployment)), [maxReplicas]: String(replicasOf(deployment) + limitsOf(deployment).maxSurge) };
  }

  async #annotate(set: ReplicaSet, deployment: Deployment, wanted: Record<string, string>): Promise<ReplicaSet> {
    // Desired and maximum size change together with the size itself: they tell a scaling apart from a rollout.
    const notes = { ...wanted };
    for (const name of [desiredReplicas, maxReplicas]) if (set.metadata.annotations?.[name] !== undefined) notes[name] = set.metadata.annotations[name];
    const minReadySeconds = deployment.spec?.minReadySeconds ?? 0;
    const isSame = Object.entries(notes).every(([name, value]) => set.metadata.annotations?.[name] === value) && (set.spec?.minReadySeconds ?? 0) === minReadySeconds;
    if (isSame) return set;
    return this.#updateSet({ ...set, metadata: { ...set.metadata, annotations: notes }, spec: { ...set.spec, minReadySeconds } });
  }

  async #updateSet(set: ReplicaSet): Promise<ReplicaSet> {
    const written = await this.#context.client.update<ReplicaSet>(resources.replicasets, set);
    this.#sets.wrote(written);
    return written;
  }

  async #setRevision(deployment: Deployment, revision: string): Promise<void> {
    const { client } = this.#context;
    const { namespace, name, uid } = deployment.metadata;
    this.#own.wrote(await client.patch<Deployment>(resources.deployments, namespace, name, { metadata: { uid, annotations: { [names.revision]: revision } } }, { type: 'merge' }));
  }

  async #createSet(deployment: Deployment, sets: readonly ReplicaSet[], notes: Record<string, string>): Promise<ReplicaSet | undefined> {
    const { client, events } = this.#context;
    const { namespace, name } = deployment.metadata;
    const collisionCount = deployment.status?.collisionCount ?? 0;
    const hash = templateHash(deployment.spec?.template, collisionCount);
    const template = deployment.spec?.template ?? {};
    const hashLabel = { [labels.podTemplateHash]: hash };
    const draft: ReplicaSet = {
      metadata: { name: `${name}-${hash}`, ...(namespace === undefined ? {} : { namespace }), labels: { ...template.metadata?.labels, ...hashLabel }, annotations: notes, ownerReferences: [controllerRef(resources.deployments, deployment)] },
      spec: {
        replicas: 0, minReadySeconds: deployment.spec?.minReadySeconds ?? 0, selector: { ...deployment.spec?.selector, matchLabels: { ...deployment.spec?.selector?.matchLabels, ...hashLabel } },
        template: { ...template, metadata: { ...template.metadata, labels: { ...template.metadata?.labels, ...hashLabel } } },
      },
    };
    draft.spec = { ...draft.spec, replicas: nextNewReplicas(deployment, [...sets, draft], draft) };
    if (deployment.spec?.strategy?.type === 'Recreate' && sets.some((set) => (set.status?.replicas ?? 0) > 0 || replicasOf(set) > 0)) draft.spec.replicas = 0;
    try {
      const set = await client.create<ReplicaSet>(resources.replicasets, namespace, draft);
      this.#sets.wrote(set);
      if (replicasOf(set) > 0) events.record(resources.deployments, deployment, 'Normal', 'ScalingReplicaSet', `Scaled up replica set ${set.metadata.name} from 0 to ${replicasOf(set)}`);
      return set;
    } catch (error) {
      if (!isAlreadyExists(error)) throw error;
      await this.#onNameTaken(deployment, draft.metadata.name, collisionCount);
      return undefined;
    }
  }

  /** The name is taken by a set with another template: count the collision, which changes the hash. */
  async #onNameTaken(deployment: Deployment, setName: string, collisionCount: number): Promise<void> {
    const { client } = this.#context;
    const { namespace, name, uid } = deployment.metadata;
    const other = await client.get<ReplicaSet>(resources.replicasets, namespace, setName).catch(() => undefined);
    if (other === undefined || controllerOf(other)?.uid === uid) { this.#queue.addAfter(objectKey(deployment), 20); return; }
    this.#own.wrote(await client.patch<Deployment>(resources.deployments, namespace, name, { metadata: { uid }, status: { collisionCount: collisionCount + 1 } }, { type: 'merge', subresource: 'status' }));
    this.#queue.add(objectKey(deployment));
  }

  async #resize(deployment: Deployment, set: ReplicaSet, replicas: number): Promise<ReplicaSet> {
    const notes = this.#sizeNotes(deployment);
    const before = replicasOf(set);
    const isAnnotated = Object.entries(notes).every(([name, value]) => set.metadata.annotations?.[name] === value);
    if (before === replicas && (isAnnotated || replicas === 0)) return set;
    const written = await this.#updateSet({ ...set, metadata: { ...set.metadata, annotations: { ...set.metadata.annotations, ...notes } }, spec: { ...set.spec, replicas } });
    if (before !== replicas) this.#context.events.record(resources.deployments, deployment, 'Normal', 'ScalingReplicaSet', `Scaled ${before < replicas ? 'up' : 'down'} replica set ${set.metadata.name} from ${before} to ${replicas}`);
    return written;
  }

  async #roll(deployment: Deployment, all: readonly ReplicaSet[], newSet: ReplicaSet): Promise<void> {
    const grown = await this.#resize(deployment, newSet, nextNewReplicas(deployment, all, newSet));
    const olds = all.filter((set) => set.metadata.uid !== newSet.metadata.uid && replicasOf(set) > 0);
    for (const [set, replicas] of nextOldReplicas(deployment, olds, grown)) if (replicas !== replicasOf(set)) await this.#resize(deployment, set, replicas);
  }

  /** Old Pods have to be gone before new ones start. */
  async #recreate(deployment: Deployment, all: readonly ReplicaSet[], newSet: ReplicaSet): Promise<void> {
    const olds = all.filter((set) => set.metadata.uid !== newSet.metadata.uid);
    for (const set of olds) if (replicasOf(set) > 0) await this.#resize(deployment, set, 0);
    const { store } = this.#context.informers.pods;
    const uids = new Set(olds.map((set) => set.metadata.uid));
    const isRunning = olds.some((set) => (set.status?.replicas ?? 0) > 0) || [...uids].some((uid) => store.byIndex('controllerUid', uid ?? '').some((pod) => pod.status?.phase !== 'Succeeded' && pod.status?.phase !== 'Failed'));
    if (isRunning) this.#queue.addAfter(objectKey(deployment), 100);
    else await this.#resize(deployment, newSet, replicasOf(deployment));
  }

  async #rescale(deployment: Deployment, all: readonly ReplicaSet[], newSet: ReplicaSet | undefined): Promise<void> {
    const active = all.filter((set) => replicasOf(set) > 0);
    const only = active.length === 1 ? active[0] : active.length === 0 ? (newSet ?? [...all].sort(byAge).at(-1)) : undefined;
    if (only !== undefined) { await this.#resize(deployment, only, replicasOf(deployment)); return; }
    const isSettled = newSet !== undefined && replicasOf(newSet) === replicasOf(deployment) && newSet.status?.availableReplicas === replicasOf(deployment);
    const sizes = isSettled ? new Map(active.filter((set) => set.metadata.uid !== newSet.metadata.uid).map((set) => [set, 0])) : proportionalReplicas(deployment, active);
    for (const [set, replicas] of sizes) await this.#resize(deployment, set, replicas);
  }

  async #writeStatus(key: string, deployment: Deployment, sets: readonly ReplicaSet[], newSet: ReplicaSet | undefined): Promise<DeploymentStatus> {
    const { clock, client } = this.#context;
    const live = this.#own.get(key) ?? deployment;
    const status = countStatus(deployment, sets, newSet);
    status.conditions = nextConditions({ ...deployment, ...(live.status === undefined ? {} : { status: live.status }) }, status, newSet, sets, clock.nowMs());
    const progressing = status.conditions.find((each) => each.type === 'Progressing');
    const waitMs = deadlineInMs(deployment, progressing, clock.nowMs());
    if (!isComplete(deployment, status) && progressing?.status === 'True' && Number.isFinite(waitMs)) this.#queue.addAfter(key, Math.max(1_000, waitMs + 1_000));
    // Once more after the change to it: the rollout goes on from the state that was written.
    if (progressing?.reason === 'DeploymentResumed' && live.status?.conditions?.some((each) => each.type === 'Progressing' && each.reason === 'DeploymentResumed') !== true) this.#queue.add(key);
    if (isSameStatus(live.status ?? {}, status)) return status;
    try {
      const { namespace, name, uid } = deployment.metadata;
      this.#own.wrote(await client.patch<Deployment>(resources.deployments, namespace, name, { metadata: { uid }, status }, { type: 'merge', subresource: 'status' }));
    } catch (error) { if (!isNotFound(error) && !isConflict(error)) throw error; }
    return status;
  }

  /** Keeps the last `revisionHistoryLimit` old sets for undo. */
  async #trimHistory(deployment: Deployment, sets: readonly ReplicaSet[], newSet: ReplicaSet | undefined): Promise<void> {
    const limit = deployment.spec?.revisionHistoryLimit ?? 10;
    const olds = sets.filter((set) => set.metadata.uid !== newSet?.metadata.uid && replicasOf(set) === 0 && (set.status?.replicas ?? 0) === 0 && set.metadata.deletionTimestamp === undefined).sort((a, b) => revisionOf(a) - revisionOf(b));
    for (const set of olds.slice(0, Math.max(0, olds.length - limit))) {
      try { await this.#context.client.delete(resources.replicasets, set.metadata.namespace, set.metadata.name, { preconditions: { uid: set.metadata.uid } }); } catch (error) { if (!isNotFound(error)) throw error; }
      this.#sets.removed(set);
    }
  }
}
