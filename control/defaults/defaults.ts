// Default values of the built-in kinds: what the API server fills in before admission and validation. Called by the API server after
// decoding (create, update, and after every patch, before server-side apply matches list keys). One entry per kind; the rules are in
// the files beside. Custom resources get their defaults from their schema (`crd`).
// Source: kubernetes pkg/apis/*/v1/defaults.go, 1.32.

import type { KubeObject } from '../../api/types.ts';
import { setCrdDefaults, setHpaDefaults, setNetworkPolicyDefaults, setRbacDefaults, setStorageDefaults, setWebhookDefaults } from './others.ts';
import { setPodDefaults, setTemplateDefaults, qosClass } from './pod.ts';
import { setEndpointsDefaults, setIngressClassDefaults, setServiceDefaults, setSliceDefaults } from './service.ts';
import type { Fields } from './fill.ts';
import { fieldsOf, fill, listOf } from './fill.ts';
import { kindsOf, packageOf } from '../schema/kinds.ts';
import { isRecord, setKey } from '../schema/schema.ts';
import { setCronJobDefaults, setDaemonSetDefaults, setDeploymentDefaults, setJobDefaults, setReplicationControllerDefaults, setStatefulSetDefaults } from './workloads.ts';

const rules: Readonly<Record<string, (object: Fields) => void>> = {
  'v1/Service': setServiceDefaults,
  'v1/Endpoints': setEndpointsDefaults,
  'discovery.k8s.io/v1/EndpointSlice': setSliceDefaults,
  'networking.k8s.io/v1/Ingress': (object) => { fill(fieldsOf(object, 'status'), 'loadBalancer', {}); },
  'networking.k8s.io/v1/IngressClass': setIngressClassDefaults,
  'networking.k8s.io/v1/NetworkPolicy': setNetworkPolicyDefaults,
  'v1/Pod': setPodDefaults,
  'v1/PodTemplate': (object) => setTemplateDefaults(object['template']),
  'v1/ReplicationController': setReplicationControllerDefaults,
  'v1/Secret': setSecretDefaults,
  'v1/Namespace': setNamespaceDefaults,
  'v1/Node': setNodeDefaults,
  'v1/LimitRange': setLimitRangeDefaults,
  'apps/v1/Deployment': setDeploymentDefaults,
  'apps/v1/ReplicaSet': (object) => { fill(fieldsOf(object, 'spec'), 'replicas', 1); setTemplateDefaults(fieldsOf(object, 'spec')['template']); },
  'apps/v1/StatefulSet': setStatefulSetDefaults,
  'apps/v1/DaemonSet': setDaemonSetDefaults,
  'batch/v1/Job': setJobDefaults,
  'batch/v1/CronJob': setCronJobDefaults,
  'v1/PersistentVolume': setStorageDefaults, 'v1/PersistentVolumeClaim': setStorageDefaults,
  'storage.k8s.io/v1/StorageClass': setStorageDefaults, 'storage.k8s.io/v1/CSIDriver': setStorageDefaults,
  'scheduling.k8s.io/v1/PriorityClass': (object) => fill(object, 'preemptionPolicy', 'PreemptLowerPriority'),
  'rbac.authorization.k8s.io/v1/RoleBinding': setRbacDefaults, 'rbac.authorization.k8s.io/v1/ClusterRoleBinding': setRbacDefaults,
  'autoscaling/v1/HorizontalPodAutoscaler': setHpaDefaults, 'autoscaling/v2/HorizontalPodAutoscaler': setHpaDefaults,
  'apiextensions.k8s.io/v1/CustomResourceDefinition': setCrdDefaults,
  'admissionregistration.k8s.io/v1/MutatingWebhookConfiguration': setWebhookDefaults, 'admissionregistration.k8s.io/v1/ValidatingWebhookConfiguration': setWebhookDefaults,
};

/** Fills absent fields of `object` in place and returns it. Does nothing for kinds without defaults. Idempotent. */
export function applyDefaults<T extends KubeObject>(object: T): T {
  rules[`${object.apiVersion}/${object.kind}`]?.(object as unknown as Fields);
  return object;
}

/** The status that a new object starts with, whatever the client sent (PrepareForCreate of the strategies); undefined for kinds without. */
export function initialStatus(object: KubeObject): Fields | undefined {
  switch (`${object.apiVersion}/${object.kind}`) {
    case 'v1/Pod': return { phase: 'Pending', qosClass: qosClass(fieldsOf(object as unknown as Fields, 'spec')) };
    case 'v1/Namespace': return { phase: 'Active' };
    case 'v1/Service': case 'networking.k8s.io/v1/Ingress': return { loadBalancer: {} };
    case 'v1/PersistentVolume': case 'v1/PersistentVolumeClaim': return { phase: 'Pending' };
    case 'v1/ReplicationController': case 'apps/v1/ReplicaSet': case 'apps/v1/StatefulSet': return { replicas: 0 };
    default: {
      const row = kindsOf(packageOf(object.apiVersion ?? '') ?? '').find((entry) => entry.kind === object.kind);
      return row?.sub.includes('status') === true ? {} : undefined;
    }
  }
}

function setNamespaceDefaults(object: Fields): void {
  fill(fieldsOf(object, 'status'), 'phase', 'Active');
  const metadata = fieldsOf(object, 'metadata');
  if (typeof metadata['name'] === 'string' && metadata['name'] !== '') fieldsOf(metadata, 'labels')['kubernetes.io/metadata.name'] = metadata['name'];
}

/** `stringData` is write-only: its values become base64 in `data`. */
function setSecretDefaults(object: Fields): void {
  fill(object, 'type', 'Opaque');
  const plain = object['stringData'];
  if (!isRecord(plain)) return;
  for (const key of Object.keys(plain)) setKey(fieldsOf(object, 'data'), key, Buffer.from(String(plain[key])).toString('base64'));
  delete object['stringData'];
}

function setNodeDefaults(object: Fields): void {
  const status = object['status'];
  if (typeof status === 'object' && status !== null && (status as Fields)['capacity'] !== undefined) fill(status as Fields, 'allocatable', { ...(status as Fields)['capacity'] as Fields });
}

function setLimitRangeDefaults(object: Fields): void {
  for (const item of listOf(fieldsOf(object, 'spec'), 'limits')) {
    if (item['type'] !== 'Container' || item['max'] === undefined) continue;
    item['default'] = { ...item['max'] as Fields, ...item['default'] as Fields | undefined };
    item['defaultRequest'] = { ...item['default'] as Fields, ...item['defaultRequest'] as Fields | undefined };
  }
}
