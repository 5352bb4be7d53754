// Status and conditions of a Deployment: what `kubectl rollout status` and `kubectl wait` read. Pure.
// Source: kubernetes pkg/controller/deployment/{progress.go,sync.go}.

import { formatTime } from '../../../api/clock.ts';
import type { Condition } from '../../../api/types.ts';
import { availableOf, isComplete, limitsOf, replicasOf, sum } from './rollout.ts';
import type { Deployment, DeploymentStatus, ReplicaSet } from './types.ts';

/** The counts of the status. */
export function countStatus(deployment: Deployment, sets: readonly ReplicaSet[], newSet: ReplicaSet | undefined): DeploymentStatus {
  const live = sum(sets, (set) => set.status?.replicas ?? 0);
  const available = sum(sets, availableOf);
  return {
    ...(deployment.metadata.generation === undefined ? {} : { observedGeneration: deployment.metadata.generation }),
    replicas: live, updatedReplicas: newSet?.status?.replicas ?? 0, readyReplicas: sum(sets, (set) => set.status?.readyReplicas ?? 0), availableReplicas: available,
    unavailableReplicas: Math.max(0, sum(sets, replicasOf) - available),
    ...(deployment.status?.collisionCount === undefined ? {} : { collisionCount: deployment.status.collisionCount }),
  };
}

/** Conditions that follow from the new counts; `nowMs` is wall time. */
export function nextConditions(deployment: Deployment, status: DeploymentStatus, newSet: ReplicaSet | undefined, sets: readonly ReplicaSet[], nowMs: number): Condition[] {
  const now = formatTime(nowMs);
  let conditions = [...(deployment.status?.conditions ?? [])];
  const { maxUnavailable } = limitsOf(deployment);
  const isAvailable = (status.availableReplicas ?? 0) >= replicasOf(deployment) - maxUnavailable;
  conditions = set(conditions, isAvailable ? make('Available', 'True', 'MinimumReplicasAvailable', 'Deployment has minimum availability.', now) : make('Available', 'False', 'MinimumReplicasUnavailable', 'Deployment does not have minimum availability.', now));
  conditions = setProgress(conditions, deployment, status, newSet, now, nowMs);
  const failure = [newSet, ...sets].flatMap((each) => each?.status?.conditions ?? []).find((each) => each.type === 'ReplicaFailure');
  return failure === undefined ? conditions.filter((each) => each.type !== 'ReplicaFailure') : set(conditions, { ...failure, lastUpdateTime: now });
}

function setProgress(conditions: Condition[], deployment: Deployment, status: DeploymentStatus, newSet: ReplicaSet | undefined, now: string, nowMs: number): Condition[] {
  if (deployment.spec?.progressDeadlineSeconds === 2_147_483_647) return conditions;
  const current = conditions.find((each) => each.type === 'Progressing');
  const what = newSet === undefined ? `Deployment "${deployment.metadata.name}"` : `ReplicaSet "${newSet.metadata.name}"`;
  if (deployment.spec?.paused === true) {
    if (current?.reason === 'DeploymentPaused') return conditions;
    return set(conditions, make('Progressing', 'Unknown', 'DeploymentPaused', 'Deployment is paused', now));
  }
  const isResumed = current?.reason === 'DeploymentPaused';
  if (isResumed) return set(conditions, make('Progressing', 'Unknown', 'DeploymentResumed', 'Deployment is resumed', now));
  const isDone = status.replicas === status.updatedReplicas && current?.reason === 'NewReplicaSetAvailable';
  if (isDone && isComplete(deployment, status)) return conditions;
  if (isComplete(deployment, status)) return set(conditions, make('Progressing', 'True', 'NewReplicaSetAvailable', `${what} has successfully progressed.`, now));
  if (hasProgressed(deployment, status)) return set(conditions, { ...make('Progressing', 'True', 'ReplicaSetUpdated', `${what} is progressing.`, now), ...(current?.status === 'True' && current.lastTransitionTime !== undefined ? { lastTransitionTime: current.lastTransitionTime } : {}) }, true);
  if (current === undefined) return set(conditions, make('Progressing', 'True', 'NewReplicaSetCreated', `Created new replica set "${newSet?.metadata.name ?? ''}"`, now));
  if (!isDone && deadlineInMs(deployment, current, nowMs) <= 0) return set(conditions, make('Progressing', 'False', 'ProgressDeadlineExceeded', `${what} has timed out progressing.`, now));
  return conditions;
}

/** Time until a rollout that stands still counts as failed. */
export function deadlineInMs(deployment: Deployment, progressing: Condition | undefined, nowMs: number): number {
  const seconds = deployment.spec?.progressDeadlineSeconds ?? 600;
  const since = Date.parse(progressing?.lastUpdateTime ?? '');
  return Number.isNaN(since) ? Number.POSITIVE_INFINITY : since + seconds * 1000 - nowMs;
}

function hasProgressed(deployment: Deployment, status: DeploymentStatus): boolean {
  const old = deployment.status ?? {};
  const oldOnes = (each: DeploymentStatus): number => (each.replicas ?? 0) - (each.updatedReplicas ?? 0);
  return (status.updatedReplicas ?? 0) > (old.updatedReplicas ?? 0) || oldOnes(status) < oldOnes(old) || (status.readyReplicas ?? 0) > (old.readyReplicas ?? 0) || (status.availableReplicas ?? 0) > (old.availableReplicas ?? 0);
}

function make(type: string, status: Condition['status'], reason: string, message: string, now: string): Condition {
  return { type, status, reason, message, lastUpdateTime: now, lastTransitionTime: now };
}

/** Puts a condition in place; one that says the same keeps its times unless `isFresh`. */
function set(conditions: readonly Condition[], next: Condition, isFresh = false): Condition[] {
  const old = conditions.find((each) => each.type === next.type);
  if (!isFresh && old?.status === next.status && old.reason === next.reason && (old.message === next.message || next.type === 'Available')) return [...conditions];
  const kept = old?.status === next.status && old.lastTransitionTime !== undefined ? { ...next, lastTransitionTime: old.lastTransitionTime } : next;
  return [...conditions.filter((each) => each.type !== next.type), kept];
}

/** Whether a status write would change anything. */
export function isSameStatus(a: DeploymentStatus, b: DeploymentStatus): boolean {
  const numbers = ['observedGeneration', 'replicas', 'updatedReplicas', 'readyReplicas', 'availableReplicas', 'unavailableReplicas', 'collisionCount'] as const;
  return numbers.every((name) => (a[name] ?? 0) === (b[name] ?? 0)) && JSON.stringify(a.conditions ?? []) === JSON.stringify(b.conditions ?? []);
}
