// Defaults of Pods and of Pod templates inside workloads. Called by `defaults` and `workloads`.
// Source: kubernetes pkg/apis/core/v1/defaults.go (SetDefaults_Pod, _PodSpec, _Container, _Probe, _Volume…), v1 conversion of serviceAccount.

import type { Fields } from './fill.ts';
import { fieldsOf, fill, listOf, maybeFields } from './fill.ts';
import { isRecord } from '../schema/schema.ts';

/** Fills a Pod: the spec of a template, and what only real Pods get (requests from limits, service links). */
export function setPodDefaults(object: Fields): void {
  const spec = fieldsOf(object, 'spec');
  for (const container of [...listOf(spec, 'containers'), ...listOf(spec, 'initContainers')]) {
    const resources = maybeFields(container, 'resources');
    const limits = maybeFields(resources, 'limits');
    if (resources !== undefined && limits !== undefined) resources['requests'] = { ...limits, ...maybeFields(resources, 'requests') };
  }
  fill(spec, 'enableServiceLinks', true);
  setPodSpecDefaults(spec);
}

/** Fills a Pod template (`spec.template` of a workload); does nothing when it is absent. */
export function setTemplateDefaults(template: unknown): void {
  if (!isRecord(template)) return;
  // Go writes an unset time as null; without it every apply of `kubectl create --dry-run -o yaml` output would find a difference.
  fill(fieldsOf(template, 'metadata'), 'creationTimestamp', null);
  setPodSpecDefaults(fieldsOf(template, 'spec'));
}

function setPodSpecDefaults(spec: Fields): void {
  fill(spec, 'dnsPolicy', 'ClusterFirst');
  fill(spec, 'restartPolicy', 'Always');
  fill(spec, 'terminationGracePeriodSeconds', 30);
  fill(spec, 'schedulerName', 'default-scheduler');
  fieldsOf(spec, 'securityContext');
  fill(spec, 'serviceAccountName', spec['serviceAccount'] ?? '');
  if (spec['serviceAccountName'] === '') delete spec['serviceAccountName']; else spec['serviceAccount'] = spec['serviceAccountName'];
  for (const volume of listOf(spec, 'volumes')) setVolumeDefaults(volume);
  for (const field of ['containers', 'initContainers', 'ephemeralContainers']) {
    for (const container of listOf(spec, field)) setContainerDefaults(container, spec['hostNetwork'] === true && field !== 'ephemeralContainers');
  }
}

function setContainerDefaults(container: Fields, isHostNetwork: boolean): void {
  fill(container, 'imagePullPolicy', isLatest(typeof container['image'] === 'string' ? container['image'] : '') ? 'Always' : 'IfNotPresent');
  fill(container, 'terminationMessagePath', '/dev/termination-log');
  fill(container, 'terminationMessagePolicy', 'File');
  fieldsOf(container, 'resources');
  for (const port of listOf(container, 'ports')) {
    fill(port, 'protocol', 'TCP');
    if (isHostNetwork && (port['hostPort'] === undefined || port['hostPort'] === 0)) port['hostPort'] = port['containerPort'];
  }
  for (const variable of listOf(container, 'env')) setFieldRef(maybeFields(maybeFields(variable, 'valueFrom'), 'fieldRef'));
  for (const name of ['livenessProbe', 'readinessProbe', 'startupProbe']) setProbeDefaults(maybeFields(container, name));
  const lifecycle = maybeFields(container, 'lifecycle');
  setHandlerDefaults(maybeFields(lifecycle, 'postStart'));
  setHandlerDefaults(maybeFields(lifecycle, 'preStop'));
}

/** An image without tag or digest, or with the tag latest. */
function isLatest(image: string): boolean {
  if (image.includes('@')) return false;
  const tag = /:([^/:]+)$/.exec(image)?.[1];
  return tag === undefined || tag === 'latest';
}

function setProbeDefaults(probe: Fields | undefined): void {
  if (probe === undefined) return;
  for (const [field, value] of [['timeoutSeconds', 1], ['periodSeconds', 10], ['successThreshold', 1], ['failureThreshold', 3]] as const) {
    if (probe[field] === 0) delete probe[field];
    fill(probe, field, value);
  }
  setHandlerDefaults(probe);
  const grpc = maybeFields(probe, 'grpc');
  if (grpc !== undefined) fill(grpc, 'service', '');
}

function setHandlerDefaults(handler: Fields | undefined): void {
  const get = maybeFields(handler, 'httpGet');
  if (get === undefined) return;
  fill(get, 'path', '/');
  fill(get, 'scheme', 'HTTP');
}

function setFieldRef(ref: Fields | undefined): void { if (ref !== undefined) fill(ref, 'apiVersion', 'v1'); }

function setVolumeDefaults(volume: Fields): void {
  if (Object.keys(volume).every((key) => key === 'name')) volume['emptyDir'] = {};
  for (const kind of ['secret', 'configMap', 'downwardAPI', 'projected']) {
    const source = maybeFields(volume, kind);
    if (source !== undefined) fill(source, 'defaultMode', 420);
  }
  const hostPath = maybeFields(volume, 'hostPath');
  if (hostPath !== undefined) fill(hostPath, 'type', '');
  for (const item of listOf(maybeFields(volume, 'downwardAPI'), 'items')) setFieldRef(maybeFields(item, 'fieldRef'));
  for (const source of listOf(maybeFields(volume, 'projected'), 'sources')) {
    for (const item of listOf(maybeFields(source, 'downwardAPI'), 'items')) setFieldRef(maybeFields(item, 'fieldRef'));
    const token = maybeFields(source, 'serviceAccountToken');
    if (token !== undefined) fill(token, 'expirationSeconds', 3600);
  }
  const iscsi = maybeFields(volume, 'iscsi');
  if (iscsi !== undefined) fill(iscsi, 'iscsiInterface', 'default');
  const claim = maybeFields(maybeFields(volume, 'ephemeral'), 'volumeClaimTemplate');
  if (claim !== undefined) fill(fieldsOf(claim, 'spec'), 'volumeMode', 'Filesystem');
}

/** Guaranteed, Burstable or BestEffort, from cpu and memory of all containers. */
export function qosClass(spec: Fields): string {
  const containers = [...listOf(spec, 'containers'), ...listOf(spec, 'initContainers')];
  let isAnySet = false;
  let isGuaranteed = true;
  for (const container of containers) {
    const resources = maybeFields(container, 'resources');
    const limits = maybeFields(resources, 'limits');
    const requests = maybeFields(resources, 'requests');
    for (const name of ['cpu', 'memory']) {
      const limit = limits?.[name];
      const request = requests?.[name] ?? limit;
      if (limit !== undefined || request !== undefined) isAnySet = true;
      if (limit === undefined || limit !== request) isGuaranteed = false;
    }
  }
  return !isAnySet ? 'BestEffort' : isGuaranteed ? 'Guaranteed' : 'Burstable';
}
