// Objects whose collection is served under several versions: Event (core and events.k8s.io share one collection, stored
// in the core form), HorizontalPodAutoscaler (stored as autoscaling/v2), and custom kinds with several versions, whose
// conversion is the change of apiVersion only. Everything else passes through untouched.
// Source: kubernetes/kubernetes pkg/apis/events/v1/conversion.go, pkg/apis/autoscaling/v1/conversion.go.

import type { KubeObject } from '../../api/types.ts';
import { builtInResources, groupVersion, type ResourceInfo } from '../resources.ts';

type Json = Record<string, unknown>;

const shared = new Map<string, number>();
for (const info of builtInResources) shared.set(info.storage, (shared.get(info.storage) ?? 0) + 1);

/** Whether stored objects of this kind may carry another version than the one that is served. */
export function mayNeedConversion(info: ResourceInfo): boolean { return info.crdName !== undefined || (shared.get(info.storage) ?? 0) > 1; }

/** The stored object in the version of `info`. The given object is never changed. */
export function toServed(object: KubeObject, info: ResourceInfo): KubeObject {
  const wanted = groupVersion(info);
  if (object.apiVersion === wanted) return object;
  if (info.storage === 'events') return info.group === '' ? object : eventToNew(object as KubeObject & Json, wanted);
  if (info.storage === 'horizontalpodautoscalers.autoscaling') return autoscalerToV1(object as KubeObject & Json);
  return { ...object, apiVersion: wanted };
}

/** The received object in the version that is stored. */
export function toStored(object: KubeObject, info: ResourceInfo, storedVersion: string | undefined): KubeObject {
  if (info.storage === 'events') return info.group === '' ? object : eventToCore(object as KubeObject & Json);
  if (info.storage === 'horizontalpodautoscalers.autoscaling') return info.version === 'v1' ? autoscalerToV2(object as KubeObject & Json) : object;
  if (info.crdName === undefined || storedVersion === undefined || storedVersion === info.version) return object;
  return { ...object, apiVersion: `${info.group}/${storedVersion}` };
}

const eventNames: readonly [core: string, events: string][] = [
  ['involvedObject', 'regarding'], ['message', 'note'], ['reportingComponent', 'reportingController'], ['source', 'deprecatedSource'],
  ['firstTimestamp', 'deprecatedFirstTimestamp'], ['lastTimestamp', 'deprecatedLastTimestamp'], ['count', 'deprecatedCount'],
];

function eventToNew(event: KubeObject & Json, apiVersion: string): KubeObject {
  return rename({ ...event, apiVersion }, eventNames);
}

function eventToCore(event: KubeObject & Json): KubeObject {
  return rename({ ...event, apiVersion: 'v1' }, eventNames.map(([core, events]) => [events, core]));
}

function rename(object: KubeObject & Json, names: readonly (readonly [string, string])[]): KubeObject {
  const map = new Map(names);
  const out: Json = {};
  for (const [key, value] of Object.entries(object)) out[map.get(key) ?? key] = value;
  return out as unknown as KubeObject;
}

function autoscalerToV1(object: KubeObject & Json): KubeObject {
  const spec = { ...(object['spec'] as Json | undefined) };
  const status = { ...(object['status'] as Json | undefined) };
  const utilization = cpuMetric(spec['metrics'], 'target', 'averageUtilization');
  const current = cpuMetric(status['currentMetrics'], 'current', 'averageUtilization');
  delete spec['metrics'];
  delete spec['behavior'];
  delete status['currentMetrics'];
  delete status['conditions'];
  if (utilization !== undefined) spec['targetCPUUtilizationPercentage'] = utilization;
  if (current !== undefined) status['currentCPUUtilizationPercentage'] = current;
  return { ...object, apiVersion: 'autoscaling/v1', spec, status } as KubeObject;
}

function cpuMetric(metrics: unknown, side: string, field: string): unknown {
  if (!Array.isArray(metrics)) return undefined;
  const metric = (metrics as { resource?: { name?: string } & Json }[]).find((item) => item.resource?.name === 'cpu');
  return (metric?.resource?.[side] as Json | undefined)?.[field];
}

function autoscalerToV2(object: KubeObject & Json): KubeObject {
  const spec = { ...(object['spec'] as Json | undefined) };
  const status = { ...(object['status'] as Json | undefined) };
  const utilization = spec['targetCPUUtilizationPercentage'];
  const current = status['currentCPUUtilizationPercentage'];
  delete spec['targetCPUUtilizationPercentage'];
  delete status['currentCPUUtilizationPercentage'];
  if (utilization !== undefined) spec['metrics'] = [{ type: 'Resource', resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: utilization } } }];
  if (current !== undefined) status['currentMetrics'] = [{ type: 'Resource', resource: { name: 'cpu', current: { averageUtilization: current } } }];
  return { ...object, apiVersion: 'autoscaling/v2', spec, status } as KubeObject;
}
