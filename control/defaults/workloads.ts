// Defaults of Deployments, StatefulSets, DaemonSets, Jobs, CronJobs and ReplicationControllers. Called by `defaults`.
// Source: kubernetes pkg/apis/apps/v1/defaults.go, pkg/apis/batch/v1/defaults.go, pkg/apis/core/v1/defaults.go.

import type { Fields } from './fill.ts';
import { fieldsOf, fill, listOf, maybeFields } from './fill.ts';
import { setTemplateDefaults } from './pod.ts';

/** Deployment: one replica, rolling update by quarters. */
export function setDeploymentDefaults(object: Fields): void {
  const spec = fieldsOf(object, 'spec');
  fill(spec, 'replicas', 1);
  const strategy = fieldsOf(spec, 'strategy');
  fill(strategy, 'type', 'RollingUpdate');
  if (strategy['type'] === 'RollingUpdate') {
    const rolling = fieldsOf(strategy, 'rollingUpdate');
    fill(rolling, 'maxUnavailable', '25%');
    fill(rolling, 'maxSurge', '25%');
  }
  fill(spec, 'revisionHistoryLimit', 10);
  fill(spec, 'progressDeadlineSeconds', 600);
  setTemplateDefaults(spec['template']);
}

/** StatefulSet: ordered, rolling, claims retained. */
export function setStatefulSetDefaults(object: Fields): void {
  const spec = fieldsOf(object, 'spec');
  fill(spec, 'podManagementPolicy', 'OrderedReady');
  const strategy = fieldsOf(spec, 'updateStrategy');
  fill(strategy, 'type', 'RollingUpdate');
  if (strategy['type'] === 'RollingUpdate') fill(fieldsOf(strategy, 'rollingUpdate'), 'partition', 0);
  const retention = fieldsOf(spec, 'persistentVolumeClaimRetentionPolicy');
  fill(retention, 'whenDeleted', 'Retain');
  fill(retention, 'whenScaled', 'Retain');
  fill(spec, 'replicas', 1);
  fill(spec, 'revisionHistoryLimit', 10);
  for (const claim of listOf(spec, 'volumeClaimTemplates')) {
    fill(fieldsOf(claim, 'spec'), 'volumeMode', 'Filesystem');
    fill(fieldsOf(claim, 'status'), 'phase', 'Pending');
  }
  setTemplateDefaults(spec['template']);
}

/** DaemonSet: rolling, one node at a time. */
export function setDaemonSetDefaults(object: Fields): void {
  const spec = fieldsOf(object, 'spec');
  const strategy = fieldsOf(spec, 'updateStrategy');
  fill(strategy, 'type', 'RollingUpdate');
  if (strategy['type'] === 'RollingUpdate') {
    const rolling = fieldsOf(strategy, 'rollingUpdate');
    fill(rolling, 'maxUnavailable', 1);
    fill(rolling, 'maxSurge', 0);
  }
  fill(spec, 'revisionHistoryLimit', 10);
  setTemplateDefaults(spec['template']);
}

/** Job: one completion, six retries. */
export function setJobDefaults(object: Fields): void {
  const spec = fieldsOf(object, 'spec');
  if (spec['completions'] === undefined && spec['parallelism'] === undefined) spec['completions'] = 1;
  fill(spec, 'parallelism', 1);
  fill(spec, 'backoffLimit', spec['backoffLimitPerIndex'] === undefined ? 6 : 2147483647);
  fill(spec, 'completionMode', 'NonIndexed');
  fill(spec, 'suspend', false);
  fill(spec, 'manualSelector', false);
  fill(spec, 'podReplacementPolicy', maybeFields(spec, 'podFailurePolicy') === undefined ? 'TerminatingOrFailed' : 'Failed');
  setTemplateDefaults(spec['template']);
}

/** CronJob: runs may overlap; three good and one failed Job are kept. */
export function setCronJobDefaults(object: Fields): void {
  const spec = fieldsOf(object, 'spec');
  fill(spec, 'concurrencyPolicy', 'Allow');
  fill(spec, 'suspend', false);
  fill(spec, 'successfulJobsHistoryLimit', 3);
  fill(spec, 'failedJobsHistoryLimit', 1);
  setTemplateDefaults(maybeFields(maybeFields(spec, 'jobTemplate'), 'spec')?.['template']);
}

/** ReplicationController: selector and labels come from the template. */
export function setReplicationControllerDefaults(object: Fields): void {
  const spec = fieldsOf(object, 'spec');
  fill(spec, 'replicas', 1);
  const labels = maybeFields(maybeFields(maybeFields(spec, 'template'), 'metadata'), 'labels');
  if (labels !== undefined) {
    fill(spec, 'selector', { ...labels });
    fill(fieldsOf(object, 'metadata'), 'labels', { ...labels });
  }
  setTemplateDefaults(spec['template']);
}
