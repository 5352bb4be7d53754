// Columns of the workload kinds.
// Source: kubernetes/kubernetes pkg/printers/internalversion/printers.go.

import { age, formatDuration, formatLabels, formatSelector, none } from './cells.ts';
import { printer, type CellContext, type Loose, type Printer } from './columns.ts';

const ageOf = (object: Loose, context: CellContext): string => age(object.metadata.creationTimestamp, context.nowMs);
const names = (object: Loose): string => (object.spec?.template?.spec?.containers ?? []).map((item: Loose) => item.name).join(',');
const images = (object: Loose): string => (object.spec?.template?.spec?.containers ?? []).map((item: Loose) => item.image ?? '').join(',');
const count = (value: unknown): number => (typeof value === 'number' ? value : 0);

export const workloadPrinters: Readonly<Record<string, Printer>> = {
  'deployments.apps': printer('Name, Ready, Up-to-date:integer, Available:integer, Age, *Containers, *Images, *Selector', (item, context) => [
    item.metadata.name, `${count(item.status?.readyReplicas)}/${count(item.spec?.replicas)}`, count(item.status?.updatedReplicas), count(item.status?.availableReplicas), ageOf(item, context), names(item), images(item), formatSelector(item.spec?.selector)]),
  'replicasets.apps': printer('Name, Desired:integer, Current:integer, Ready:integer, Age, *Containers, *Images, *Selector', (item, context) => [
    item.metadata.name, count(item.spec?.replicas), count(item.status?.replicas), count(item.status?.readyReplicas), ageOf(item, context), names(item), images(item), formatSelector(item.spec?.selector)]),
  replicationcontrollers: printer('Name, Desired:integer, Current:integer, Ready:integer, Age, *Containers, *Images, *Selector', (item, context) => [
    item.metadata.name, count(item.spec?.replicas), count(item.status?.replicas), count(item.status?.readyReplicas), ageOf(item, context), names(item), images(item), formatLabels(item.spec?.selector)]),
  'statefulsets.apps': printer('Name, Ready, Age, *Containers, *Images', (item, context) => [
    item.metadata.name, `${count(item.status?.readyReplicas)}/${count(item.spec?.replicas)}`, ageOf(item, context), names(item), images(item)]),
  'daemonsets.apps': printer('Name, Desired:integer, Current:integer, Ready:integer, Up-to-date:integer, Available:integer, Node Selector, Age, *Containers, *Images, *Selector', (item, context) => [
    item.metadata.name, count(item.status?.desiredNumberScheduled), count(item.status?.currentNumberScheduled), count(item.status?.numberReady), count(item.status?.updatedNumberScheduled), count(item.status?.numberAvailable),
    formatLabels(item.spec?.template?.spec?.nodeSelector), ageOf(item, context), names(item), images(item), formatSelector(item.spec?.selector)]),
  'jobs.batch': printer('Name, Status, Completions, Duration, Age, *Containers, *Images, *Selector', jobCells),
  'cronjobs.batch': printer('Name, Schedule, Timezone, Suspend, Active:integer, Last Schedule, Age, *Containers, *Images, *Selector', cronJobCells),
  'horizontalpodautoscalers.autoscaling': printer('Name, Reference, Targets, MinPods, MaxPods:integer, Replicas:integer, Age', autoscalerCells),
  'poddisruptionbudgets.policy': printer('Name, Min Available, Max Unavailable, Allowed Disruptions:integer, Age', (item, context) => [
    item.metadata.name, String(item.spec?.minAvailable ?? 'N/A'), String(item.spec?.maxUnavailable ?? 'N/A'), count(item.status?.disruptionsAllowed), ageOf(item, context)]),
  'controllerrevisions.apps': printer('Name, Controller, Revision:integer, Age', (item, context) => {
    const owner = item.metadata.ownerReferences?.find((reference: Loose) => reference.controller === true);
    return [item.metadata.name, owner === undefined ? none : `${String(owner.kind).toLowerCase()}.${String(owner.apiVersion).split('/')[0]}/${owner.name}`, item.revision ?? 0, ageOf(item, context)];
  }),
};

function jobCells(job: Loose, context: CellContext): unknown[] {
  const { spec = {}, status = {} } = job;
  const isTrue = (type: string): boolean => (status.conditions ?? []).some((condition: Loose) => condition.type === type && condition.status === 'True');
  const word = isTrue('Complete') ? 'Complete' : isTrue('Failed') ? 'Failed' : job.metadata.deletionTimestamp !== undefined ? 'Terminating' : isTrue('Suspended') ? 'Suspended' : isTrue('FailureTarget') ? 'FailureTarget' : isTrue('SuccessCriteriaMet') ? 'SuccessCriteriaMet' : 'Running';
  const completions = spec.completions !== undefined ? `${count(status.succeeded)}/${spec.completions}` : (spec.parallelism ?? 1) > 1 ? `${count(status.succeeded)}/1 of ${spec.parallelism}` : `${count(status.succeeded)}/1`;
  const duration = status.startTime === undefined ? '' : formatDuration((status.completionTime === undefined ? context.nowMs : Date.parse(status.completionTime)) - Date.parse(status.startTime));
  return [job.metadata.name, word, completions, duration, ageOf(job, context), names(job), images(job), formatSelector(spec.selector)];
}

function cronJobCells(item: Loose, context: CellContext): unknown[] {
  const { spec = {}, status = {} } = item;
  const template = { spec: spec.jobTemplate?.spec };
  return [item.metadata.name, spec.schedule ?? '', spec.timeZone ?? none, spec.suspend === true ? 'True' : 'False', (status.active ?? []).length, status.lastScheduleTime === undefined ? none : age(status.lastScheduleTime, context.nowMs), ageOf(item, context), names(template), images(template), formatSelector(spec.jobTemplate?.spec?.selector)];
}

function autoscalerCells(item: Loose, context: CellContext): unknown[] {
  const { spec = {}, status = {} } = item;
  const targets = (spec.metrics ?? []).map((metric: Loose, index: number) => {
    const target = metric.resource?.target ?? metric.pods?.target ?? metric.object?.target ?? metric.external?.target ?? {};
    const current = status.currentMetrics?.[index]?.resource?.current ?? {};
    const label = metric.resource?.name === undefined ? '' : `${metric.resource.name}: `;
    if (target.averageUtilization !== undefined) return `${label}${current.averageUtilization === undefined ? '<unknown>' : `${current.averageUtilization}%`}/${target.averageUtilization}%`;
    return `${label}${current.averageValue ?? '<unknown>'}/${target.averageValue ?? target.value ?? '<auto>'}`;
  });
  const reference = spec.scaleTargetRef ?? {};
  const shown = targets.length === 0 ? none : targets.length > 2 ? `${targets.slice(0, 2).join(', ')} + ${targets.length - 2} more...` : targets.join(', ');
  return [item.metadata.name, `${reference.kind ?? ''}/${reference.name ?? ''}`, shown, spec.minReplicas === undefined ? '<unset>' : String(spec.minReplicas), count(spec.maxReplicas), count(status.currentReplicas), ageOf(item, context)];
}
