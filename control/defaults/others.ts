// Defaults of the kinds that netloom stores for others: policies, storage, RBAC, autoscaling, CRDs, webhooks. Called by `defaults`.
// Source: kubernetes pkg/apis/{networking,storage,core,rbac,autoscaling,admissionregistration}/v1/defaults.go, apiextensions v1.

import type { Fields } from './fill.ts';
import { fieldsOf, fill, listOf, maybeFields } from './fill.ts';

/** NetworkPolicy: ports are TCP; policyTypes follow from the rules. */
export function setNetworkPolicyDefaults(object: Fields): void {
  const spec = fieldsOf(object, 'spec');
  fieldsOf(spec, 'podSelector');
  for (const rule of [...listOf(spec, 'ingress'), ...listOf(spec, 'egress')]) for (const port of listOf(rule, 'ports')) fill(port, 'protocol', 'TCP');
  fill(spec, 'policyTypes', listOf(spec, 'egress').length > 0 ? ['Ingress', 'Egress'] : ['Ingress']);
}

/** PersistentVolume, PersistentVolumeClaim, StorageClass, CSIDriver. */
export function setStorageDefaults(object: Fields): void {
  switch (object['kind']) {
    case 'PersistentVolume': {
      const spec = fieldsOf(object, 'spec');
      fill(spec, 'persistentVolumeReclaimPolicy', 'Retain');
      fill(spec, 'volumeMode', 'Filesystem');
      const hostPath = maybeFields(spec, 'hostPath');
      if (hostPath !== undefined) fill(hostPath, 'type', '');
      return fill(fieldsOf(object, 'status'), 'phase', 'Pending');
    }
    case 'PersistentVolumeClaim':
      fill(fieldsOf(object, 'spec'), 'volumeMode', 'Filesystem');
      return fill(fieldsOf(object, 'status'), 'phase', 'Pending');
    case 'StorageClass':
      fill(object, 'reclaimPolicy', 'Delete');
      return fill(object, 'volumeBindingMode', 'Immediate');
    default: {
      const values = { attachRequired: true, podInfoOnMount: false, storageCapacity: false, fsGroupPolicy: 'ReadWriteOnceWithFSType', volumeLifecycleModes: ['Persistent'], requiresRepublish: false, seLinuxMount: false };
      for (const [field, value] of Object.entries(values)) fill(fieldsOf(object, 'spec'), field, value);
    }
  }
}

/** RoleBinding, ClusterRoleBinding: apiGroup of subjects and role. */
export function setRbacDefaults(object: Fields): void {
  for (const subject of listOf(object, 'subjects')) if (subject['kind'] === 'User' || subject['kind'] === 'Group') fill(subject, 'apiGroup', 'rbac.authorization.k8s.io');
  fill(fieldsOf(object, 'roleRef'), 'apiGroup', 'rbac.authorization.k8s.io');
}

/** HorizontalPodAutoscaler: at least one replica; 80 % CPU when no metric is named. */
export function setHpaDefaults(object: Fields): void {
  const spec = fieldsOf(object, 'spec');
  fill(spec, 'minReplicas', 1);
  if (object['apiVersion'] === 'autoscaling/v2' && listOf(spec, 'metrics').length === 0) {
    spec['metrics'] = [{ type: 'Resource', resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: 80 } } }];
  }
}

/** CustomResourceDefinition: names from the kind, no conversion. */
export function setCrdDefaults(object: Fields): void {
  const spec = fieldsOf(object, 'spec');
  const names = fieldsOf(spec, 'names');
  const kind = typeof names['kind'] === 'string' ? names['kind'] : '';
  if (kind !== '') {
    fill(names, 'singular', kind.toLowerCase());
    fill(names, 'listKind', `${kind}List`);
  }
  fill(fieldsOf(spec, 'conversion'), 'strategy', 'None');
}

/** Webhook configurations: fail closed, match equivalents, ten seconds, everything selected. */
export function setWebhookDefaults(object: Fields): void {
  for (const hook of listOf(object, 'webhooks')) {
    fill(hook, 'failurePolicy', 'Fail');
    fill(hook, 'matchPolicy', 'Equivalent');
    fill(hook, 'timeoutSeconds', 10);
    fieldsOf(hook, 'namespaceSelector');
    fieldsOf(hook, 'objectSelector');
    if (object['kind'] === 'MutatingWebhookConfiguration') fill(hook, 'reinvocationPolicy', 'Never');
    const service = maybeFields(maybeFields(hook, 'clientConfig'), 'service');
    if (service !== undefined) fill(service, 'port', 443);
    for (const rule of listOf(hook, 'rules')) fill(rule, 'scope', '*');
  }
}
