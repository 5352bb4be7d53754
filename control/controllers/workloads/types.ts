// Workload kinds, field for field as far as the controllers here read or write them.
// Source: Kubernetes API 1.32 (apps/v1, batch/v1).

import type { Condition, KubeObject, LabelSelector, ObjectMeta, PodSpec } from '../../../api/types.ts';

export interface PodTemplate { metadata?: Partial<ObjectMeta>; spec?: PodSpec }
export type IntOrPercent = number | string;

export interface ReplicaSet extends KubeObject {
  spec?: { replicas?: number; minReadySeconds?: number; selector?: LabelSelector; template?: PodTemplate };
  status?: { replicas?: number; fullyLabeledReplicas?: number; readyReplicas?: number; availableReplicas?: number; observedGeneration?: number; conditions?: Condition[] };
}

export interface DeploymentStatus {
  observedGeneration?: number; replicas?: number; updatedReplicas?: number; readyReplicas?: number; availableReplicas?: number; unavailableReplicas?: number;
  conditions?: Condition[]; collisionCount?: number;
}
export interface Deployment extends KubeObject {
  spec?: {
    replicas?: number; minReadySeconds?: number; revisionHistoryLimit?: number; paused?: boolean; progressDeadlineSeconds?: number;
    selector?: LabelSelector; template?: PodTemplate;
    strategy?: { type?: 'RollingUpdate' | 'Recreate'; rollingUpdate?: { maxSurge?: IntOrPercent; maxUnavailable?: IntOrPercent } };
  };
  status?: DeploymentStatus;
}

export interface DaemonSet extends KubeObject {
  spec?: {
    minReadySeconds?: number; selector?: LabelSelector; template?: PodTemplate;
    updateStrategy?: { type?: 'RollingUpdate' | 'OnDelete'; rollingUpdate?: { maxUnavailable?: IntOrPercent } };
  };
  status?: Record<string, unknown> & { observedGeneration?: number; conditions?: Condition[] };
}

export interface StatefulSet extends KubeObject {
  spec?: {
    replicas?: number; minReadySeconds?: number; serviceName?: string; podManagementPolicy?: 'OrderedReady' | 'Parallel'; selector?: LabelSelector; template?: PodTemplate;
    updateStrategy?: { type?: 'RollingUpdate' | 'OnDelete'; rollingUpdate?: { partition?: number } }; ordinals?: { start?: number };
  };
  status?: Record<string, unknown> & { observedGeneration?: number };
}

export interface JobSpec {
  parallelism?: number; completions?: number; backoffLimit?: number; activeDeadlineSeconds?: number; ttlSecondsAfterFinished?: number; suspend?: boolean;
  completionMode?: 'NonIndexed' | 'Indexed'; selector?: LabelSelector; template?: PodTemplate; manualSelector?: boolean;
}
export interface Job extends KubeObject {
  spec?: JobSpec;
  status?: { active?: number; succeeded?: number; failed?: number; ready?: number; startTime?: string; completionTime?: string; conditions?: Condition[] };
}

export interface CronJob extends KubeObject {
  spec?: {
    schedule: string; timeZone?: string; suspend?: boolean; concurrencyPolicy?: 'Allow' | 'Forbid' | 'Replace'; startingDeadlineSeconds?: number;
    successfulJobsHistoryLimit?: number; failedJobsHistoryLimit?: number; jobTemplate?: { metadata?: Partial<ObjectMeta>; spec?: JobSpec };
  };
  status?: { active?: { name?: string; namespace?: string; uid?: string; apiVersion?: string; kind?: string }[]; lastScheduleTime?: string; lastSuccessfulTime?: string };
}
