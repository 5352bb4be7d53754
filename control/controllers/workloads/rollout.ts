// The arithmetic of a Deployment: how many Pods each of its ReplicaSets should have next, names, hashes and revisions.
// Pure; ./deployments.ts does the writing.
// Source: kubernetes pkg/controller/deployment/{rolling.go,sync.go,util/deployment_util.go}.

import { annotations as names, labels } from '../../../api/meta.ts';
import type { Deployment, DeploymentStatus, IntOrPercent, PodTemplate, ReplicaSet } from './types.ts';

export const desiredReplicas = 'deployment.kubernetes.io/desired-replicas';
export const maxReplicas = 'deployment.kubernetes.io/max-replicas';
export const revisionHistory = 'deployment.kubernetes.io/revision-history';
const notCopied: readonly string[] = [names.lastApplied, names.revision, revisionHistory, desiredReplicas, maxReplicas, 'deprecated.deployment.rollback.to'];

export const replicasOf = (object: { spec?: { replicas?: number } }): number => object.spec?.replicas ?? 1;
export const availableOf = (set: ReplicaSet): number => set.status?.availableReplicas ?? 0;
export const sum = (sets: readonly ReplicaSet[], of: (set: ReplicaSet) => number): number => sets.reduce((total, set) => total + of(set), 0);
export const revisionOf = (object: { metadata: { annotations?: Record<string, string> } }): number => Number(object.metadata.annotations?.[names.revision] ?? 0) || 0;

/** Percentages of the replicas; surge rounds up, unavailability down, and not both are zero. */
export function limitsOf(deployment: Deployment): { maxSurge: number; maxUnavailable: number } {
  if (deployment.spec?.strategy?.type === 'Recreate') return { maxSurge: 0, maxUnavailable: 0 };
  const replicas = replicasOf(deployment);
  const { maxSurge = '25%', maxUnavailable = '25%' } = deployment.spec?.strategy?.rollingUpdate ?? {};
  const surge = share(maxSurge, replicas, Math.ceil);
  const unavailable = Math.min(share(maxUnavailable, replicas, Math.floor), replicas);
  return { maxSurge: surge, maxUnavailable: surge === 0 && unavailable === 0 ? 1 : unavailable };
}

export function share(value: IntOrPercent, total: number, round: (value: number) => number): number {
  if (typeof value === 'number') return value;
  return value.endsWith('%') ? round((Number(value.slice(0, -1)) * total) / 100) : Number(value) || 0;
}

/** Size of the newest set: as far up as the surge allows. */
export function nextNewReplicas(deployment: Deployment, all: readonly ReplicaSet[], newSet: ReplicaSet): number {
  const wanted = replicasOf(deployment);
  if (deployment.spec?.strategy?.type === 'Recreate') return wanted;
  const room = wanted + limitsOf(deployment).maxSurge - sum(all, replicasOf);
  if (replicasOf(newSet) >= wanted) return wanted;
  return room <= 0 ? replicasOf(newSet) : Math.min(wanted, replicasOf(newSet) + room);
}

/** New sizes of the old sets: first what is not available anyway, then as many as availability allows. */
export function nextOldReplicas(deployment: Deployment, olds: readonly ReplicaSet[], newSet: ReplicaSet): Map<ReplicaSet, number> {
  const sizes = new Map(olds.map((set) => [set, replicasOf(set)]));
  const { maxUnavailable } = limitsOf(deployment);
  const availableMin = replicasOf(deployment) - maxUnavailable;
  const newUnavailable = replicasOf(newSet) - availableOf(newSet);
  let budget = sum([...olds, newSet], replicasOf) - availableMin - newUnavailable;
  if (budget <= 0) return sizes;
  const ordered = [...olds].sort(byAge);
  for (const set of ordered) {
    const unhealthy = Math.min(budget, Math.max(0, (sizes.get(set) ?? 0) - availableOf(set)));
    sizes.set(set, (sizes.get(set) ?? 0) - unhealthy);
    budget -= unhealthy;
  }
  let spare = Math.min(budget, sum([...olds, newSet], availableOf) - availableMin);
  for (const set of ordered) {
    const count = Math.max(0, Math.min(spare, sizes.get(set) ?? 0));
    sizes.set(set, (sizes.get(set) ?? 0) - count);
    spare -= count;
  }
  return sizes;
}

/** Sizes after `kubectl scale` in the middle of a rollout: every set gets its share of the change. */
export function proportionalReplicas(deployment: Deployment, active: readonly ReplicaSet[]): Map<ReplicaSet, number> {
  const wanted = replicasOf(deployment);
  const total = sum(active, replicasOf);
  const allowed = wanted === 0 ? 0 : wanted + limitsOf(deployment).maxSurge;
  let left = allowed - total;
  const ordered = [...active].sort((a, b) => replicasOf(b) - replicasOf(a) || (left > 0 ? byAge(b, a) : byAge(a, b)));
  const sizes = new Map(ordered.map((set) => [set, replicasOf(set)]));
  const change = left;
  for (const set of ordered) {
    if (left === 0 || total === 0) break;
    const before = Number(set.metadata.annotations?.[maxReplicas] ?? 0) || wanted;
    const ideal = Math.round((replicasOf(set) * allowed) / before) - replicasOf(set);
    const bounded = change > 0 ? Math.max(0, Math.min(ideal, left)) : Math.min(0, Math.max(ideal, left));
    sizes.set(set, replicasOf(set) + bounded);
    left -= bounded;
  }
  const first = ordered[0];
  if (first !== undefined && left !== 0) sizes.set(first, Math.max(0, (sizes.get(first) ?? 0) + left));
  return sizes;
}

export function byAge(a: ReplicaSet, b: ReplicaSet): number {
  const [x, y] = [a.metadata.creationTimestamp ?? '', b.metadata.creationTimestamp ?? ''];
  return x < y ? -1 : x > y ? 1 : a.metadata.name < b.metadata.name ? -1 : 1;
}

/** The set whose template is the Deployment's; the oldest when there are several. */
export function findNewSet(deployment: Deployment, sets: readonly ReplicaSet[]): ReplicaSet | undefined {
  const wanted = templateText(deployment.spec?.template);
  return [...sets].sort(byAge).find((set) => templateText(set.spec?.template) === wanted);
}

/** The template as text that does not depend on field order, without the label that the controller adds. */
export function templateText(template: PodTemplate | undefined): string {
  const { [labels.podTemplateHash]: _hash, ...own } = template?.metadata?.labels ?? {};
  const { creationTimestamp: _time, ...metadata } = template?.metadata ?? {};
  return JSON.stringify(sortKeys({ ...template, metadata: { ...metadata, labels: own } }));
}

function sortKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sortKeys);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).filter(([, each]) => each !== undefined && each !== null).sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, each]) => [key, sortKeys(each)]));
}

const hashLetters = 'bcdfghjklmnpqrstvwxz2456789';

/** Name part that stands for a template: FNV-1a, in letters that spell no words. */
export function templateHash(template: PodTemplate | undefined, collisionCount: number): string {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(`${templateText(template)}${collisionCount === 0 ? '' : String(collisionCount)}`)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return [...String(hash)].map((digit) => hashLetters[digit.charCodeAt(0) % hashLetters.length]).join('');
}

/** Annotations of a set that follow the Deployment: its own, except bookkeeping. */
export function copiedAnnotations(deployment: Deployment): Record<string, string> {
  return Object.fromEntries(Object.entries(deployment.metadata.annotations ?? {}).filter(([name]) => !notCopied.includes(name)));
}

/** Whether every Pod is new, wanted and available. */
export function isComplete(deployment: Deployment, status: DeploymentStatus): boolean {
  const wanted = replicasOf(deployment);
  return status.updatedReplicas === wanted && status.replicas === wanted && status.availableReplicas === wanted && (status.observedGeneration ?? 0) >= (deployment.metadata.generation ?? 0);
}
