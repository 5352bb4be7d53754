// Rules of workload kinds: Deployment, ReplicaSet, ReplicationController, DaemonSet, StatefulSet, Job, CronJob. Called by `validate`.
// Source: kubernetes pkg/apis/apps/validation, pkg/apis/batch/validation.

import type { Fields } from './fields.ts';
import { maybePart, number, part, text } from './fields.ts';
import { immutable, isEmptySelector, validateLabelSelector, validateLabels } from './metadata.ts';
import { validatePodTemplate } from './pod.ts';
import type { Problems } from './problems.ts';
import { selectorFromLabelSelector } from '../../api/meta.ts';
import type { LabelSelector } from '../../api/types.ts';

const notNegative = 'must be greater than or equal to 0';

/** Checks a workload of apps/v1 or core/v1; `kind` picks the rules. */
export function validateWorkload(object: unknown, kind: string, problems: Problems): void {
  const spec = part(object, 'spec');
  for (const field of ['replicas', 'minReadySeconds', 'revisionHistoryLimit', 'progressDeadlineSeconds']) {
    const value = number(spec, field);
    if (value !== undefined && value < 0) problems.invalid(`spec.${field}`, value, notNegative);
  }
  const deadline = number(spec, 'progressDeadlineSeconds');
  const minReady = number(spec, 'minReadySeconds') ?? 0;
  if (deadline !== undefined && deadline >= 0 && deadline <= minReady) problems.invalid('spec.progressDeadlineSeconds', deadline, 'must be greater than minReadySeconds');
  if (kind === 'ReplicationController') validateMapSelector(spec, problems); else validateSelector(spec, kind, problems);
  const template = maybePart(spec, 'template');
  if (template === undefined) problems.required('spec.template'); else {
    validatePodTemplate(template, 'spec.template', problems);
    const restart = text(part(template, 'spec'), 'restartPolicy');
    if (restart !== '' && restart !== 'Always') problems.notSupported('spec.template.spec.restartPolicy', restart, ['Always']);
    if (part(template, 'spec')['activeDeadlineSeconds'] !== undefined) problems.forbidden('spec.template.spec.activeDeadlineSeconds', `activeDeadlineSeconds in ${kind === 'Deployment' ? 'ReplicaSet' : kind} is not Supported`);
  }
  if (kind === 'Deployment') validateStrategy(part(spec, 'strategy'), 'spec.strategy', ['Recreate', 'RollingUpdate'], problems);
  else if (kind === 'DaemonSet' || kind === 'StatefulSet') validateStrategy(part(spec, 'updateStrategy'), 'spec.updateStrategy', ['OnDelete', 'RollingUpdate'], problems);
  if (kind === 'StatefulSet' && !['OrderedReady', 'Parallel'].includes(text(spec, 'podManagementPolicy'))) problems.notSupported('spec.podManagementPolicy', text(spec, 'podManagementPolicy'), ['OrderedReady', 'Parallel']);
}

function validateSelector(spec: Fields, kind: string, problems: Problems): void {
  const selector = maybePart(spec, 'selector');
  if (selector === undefined) { problems.required('spec.selector'); return; }
  const countBefore = problems.count;
  validateLabelSelector(selector, 'spec.selector', problems);
  if (isEmptySelector(selector)) problems.invalid('spec.selector', selector, `empty selector is invalid for ${kind === 'ReplicaSet' || kind === 'Deployment' ? 'deployment' : kind.toLowerCase()}`);
  if (problems.count > countBefore) return;
  const labels = part(part(part(spec, 'template'), 'metadata'), 'labels');
  if (!selectorFromLabelSelector(selector as LabelSelector).matches(labels as Record<string, string>)) problems.invalid('spec.template.metadata.labels', labels, '`selector` does not match template `labels`');
}

function validateMapSelector(spec: Fields, problems: Problems): void {
  const selector = part(spec, 'selector');
  validateLabels(spec, 'selector', 'spec.selector', problems);
  if (Object.keys(selector).length === 0) problems.required('spec.selector');
  const labels = part(part(part(spec, 'template'), 'metadata'), 'labels');
  if (Object.keys(selector).some((key) => selector[key] !== labels[key])) problems.invalid('spec.template.metadata.labels', labels, '`selector` does not match template `labels`');
}

function validateStrategy(strategy: Fields, path: string, types: readonly string[], problems: Problems): void {
  const type = text(strategy, 'type');
  const rolling = maybePart(strategy, 'rollingUpdate');
  if (type === '') { problems.required(`${path}.type`); return; }
  if (!types.includes(type)) { problems.notSupported(`${path}.type`, type, types); return; }
  if (type !== 'RollingUpdate') {
    if (rolling !== undefined && type === 'Recreate') problems.forbidden(`${path}.rollingUpdate`, "may not be specified when strategy `type` is 'Recreate'");
    return;
  }
  if (rolling === undefined) { problems.required(`${path}.rollingUpdate`, 'this should be defaulted and never be nil'); return; }
  for (const field of ['maxUnavailable', 'maxSurge']) validateShare(rolling[field], `${path}.rollingUpdate.${field}`, problems);
  if (isZero(rolling['maxUnavailable']) && isZero(rolling['maxSurge'])) problems.invalid(`${path}.rollingUpdate.maxUnavailable`, rolling['maxUnavailable'], 'may not be 0 when `maxSurge` is 0');
}

function validateShare(value: unknown, path: string, problems: Problems): void {
  if (typeof value === 'number') { if (value < 0) problems.invalid(path, value, notNegative); return; }
  if (typeof value !== 'string') return;
  if (!/^\d+%$/.test(value)) problems.invalid(path, value, "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')");
  else if (path.endsWith('maxUnavailable') && Number(value.slice(0, -1)) > 100) problems.invalid(path, value, 'must not be greater than 100%');
}

function isZero(value: unknown): boolean { return value === 0 || value === '0%'; }

/** Selectors of apps/v1 kinds never change; StatefulSets change little else. */
export function validateWorkloadUpdate(object: unknown, old: unknown, kind: string, problems: Problems): void {
  if (kind === 'ReplicationController') return;
  const spec = part(object, 'spec');
  const before = part(old, 'spec');
  immutable(spec['selector'], before['selector'], 'spec.selector', problems);
  if (kind !== 'StatefulSet') return;
  for (const field of ['serviceName', 'podManagementPolicy', 'volumeClaimTemplates']) {
    if (JSON.stringify(spec[field]) !== JSON.stringify(before[field])) {
      problems.forbidden('spec', "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden");
      return;
    }
  }
}

/** Checks a Job spec at `path` (`spec`, or `spec.jobTemplate.spec` of a CronJob). */
export function validateJobSpec(spec: Fields, path: string, problems: Problems): void {
  for (const field of ['parallelism', 'completions', 'activeDeadlineSeconds', 'backoffLimit', 'ttlSecondsAfterFinished']) {
    const value = number(spec, field);
    if (value !== undefined && value < 0) problems.invalid(`${path}.${field}`, value, notNegative);
  }
  validateLabelSelector(maybePart(spec, 'selector'), `${path}.selector`, problems);
  const template = maybePart(spec, 'template');
  if (template === undefined) { problems.required(`${path}.template`); return; }
  validatePodTemplate(template, `${path}.template`, problems);
  const restart = text(part(template, 'spec'), 'restartPolicy');
  if (restart === 'Always') problems.required(`${path}.template.spec.restartPolicy`, 'valid values: "OnFailure", "Never"');
  else if (restart !== 'OnFailure' && restart !== 'Never') problems.notSupported(`${path}.template.spec.restartPolicy`, restart, ['Never', 'OnFailure']);
}

/** Checks a CronJob. */
export function validateCronJob(object: unknown, problems: Problems): void {
  const spec = part(object, 'spec');
  const schedule = text(spec, 'schedule');
  if (schedule === '') problems.required('spec.schedule');
  else if (!isSchedule(schedule)) problems.invalid('spec.schedule', schedule, `expected exactly 5 fields, found ${schedule.trim().split(/\s+/).length}: ${schedule}`);
  const policy = text(spec, 'concurrencyPolicy');
  if (!['Allow', 'Forbid', 'Replace'].includes(policy)) problems.notSupported('spec.concurrencyPolicy', policy, ['Allow', 'Forbid', 'Replace']);
  for (const field of ['startingDeadlineSeconds', 'successfulJobsHistoryLimit', 'failedJobsHistoryLimit']) {
    const value = number(spec, field);
    if (value !== undefined && value < 0) problems.invalid(`spec.${field}`, value, notNegative);
  }
  validateJobSpec(part(part(spec, 'jobTemplate'), 'spec'), 'spec.jobTemplate.spec', problems);
}

function isSchedule(schedule: string): boolean {
  if (schedule.startsWith('@')) return /^@(yearly|annually|monthly|weekly|daily|midnight|hourly|every \S+)$/.test(schedule);
  const fields = schedule.trim().split(/\s+/);
  return fields.length === 5 && fields.every((field) => /^[\d*,/\-?A-Za-z#L]+$/.test(field));
}

/** Checks a PodDisruptionBudget. */
export function validateDisruptionBudget(object: unknown, problems: Problems): void {
  const spec = part(object, 'spec');
  if (spec['minAvailable'] !== undefined && spec['maxUnavailable'] !== undefined) problems.invalid('spec', spec, 'minAvailable and maxUnavailable cannot be both set');
  for (const field of ['minAvailable', 'maxUnavailable']) validateShare(spec[field], `spec.${field}`, problems);
  validateLabelSelector(maybePart(spec, 'selector'), 'spec.selector', problems);
}
