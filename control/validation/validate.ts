// Semantic validation of whole objects: the API server calls `validateCreate` and `validateUpdate` after defaulting, admission and
// allocation, and answers 422 with `invalid(kind, group, name, causes)` when the list is not empty. One row per kind below.
//   validateCreate(service, { families: ['IPv4'] }) → [{ reason: 'FieldValueRequired', field: 'spec.ports', message: 'Required value' }]
// Custom resources: pass `custom` (see schema/crd). Kinds without a row get the rules of metadata only. Pure, never throws.

import type { KubeObject, StatusCause } from '../../api/types.ts';
import { kindsOf, packageOf } from '../schema/kinds.ts';
import { validateCrd, validateCrdUpdate } from './crd.ts';
import type { EndpointOptions } from './endpoints.ts';
import { validateEndpoints, validateSlice, validateSliceUpdate } from './endpoints.ts';
import { validateIngress, validateIngressClass, validateIngressClassUpdate, validateIngressStatus, validateNetworkPolicy } from './ingress.ts';
import { validateMetadata, validateMetadataUpdate } from './metadata.ts';
import type { NameCheck } from './names.ts';
import { checkDns1035Label, checkDnsLabel, checkPathSegment, checkSubdomain } from './names.ts';
import { validateConfigMap, validateConfigMapUpdate, validateEvent, validateLease, validateNamespace, validateNode, validateNodeUpdate, validateRole, validateRoleBinding, validateRoleBindingUpdate, validateSecret, validateSecretUpdate } from './objects.ts';
import { part } from './fields.ts';
import { schemaFor } from '../schema/load.ts';
import { validateRequired } from './required.ts';
import { validatePodSpec, validatePodStatus, validatePodTemplate, validatePodUpdate } from './pod.ts';
import { Problems } from './problems.ts';
import type { ServiceIPOptions } from './service-ips.ts';
import { validateService, validateServiceStatus, validateServiceUpdate } from './service.ts';
import { validateCronJob, validateDisruptionBudget, validateJobSpec, validateWorkload, validateWorkloadUpdate } from './workloads.ts';

/** A custom kind's part in validation: `validate` returns the causes of its schema (schema/crd `CompiledCrd` has this shape). */
export interface CustomValidation {
  readonly isNamespaced: boolean;
  validate(object: KubeObject, old: KubeObject | undefined): StatusCause[];
}

export interface ValidationContext extends ServiceIPOptions, EndpointOptions {
  /** Set for writes to a subresource (`status`, `scale`, …). */
  readonly subresource?: string;
  readonly custom?: CustomValidation;
}

interface Rules {
  readonly name?: NameCheck;
  readonly create?: (object: KubeObject, problems: Problems, context: ValidationContext, isNew: boolean) => void;
  readonly update?: (object: KubeObject, old: KubeObject, problems: Problems) => void;
  readonly status?: (object: KubeObject, problems: Problems, old: KubeObject) => void;
}

const workload = (kind: string): Rules => ({
  create: (object, problems) => validateWorkload(object, kind, problems),
  update: (object, old, problems) => validateWorkloadUpdate(object, old, kind, problems),
});

const rules: Readonly<Record<string, Rules>> = {
  'v1/Service': {
    name: checkDns1035Label, create: (object, problems, context) => validateService(object, context, problems),
    update: (object, old, problems) => validateServiceUpdate(object, old, problems), status: (object, problems) => validateServiceStatus(object, problems),
  },
  'v1/Endpoints': { create: (object, problems, context) => validateEndpoints(object, context, problems) },
  'discovery.k8s.io/v1/EndpointSlice': {
    create: (object, problems, context) => validateSlice(object, context, problems), update: (object, old, problems) => validateSliceUpdate(object, old, problems),
  },
  'networking.k8s.io/v1/Ingress': {
    create: (object, problems, _context, isNew) => validateIngress(object, isNew, problems), status: (object, problems) => validateIngressStatus(object, problems),
  },
  'networking.k8s.io/v1/IngressClass': { create: (object, problems) => validateIngressClass(object, problems), update: (object, old, problems) => validateIngressClassUpdate(object, old, problems) },
  'networking.k8s.io/v1/NetworkPolicy': { create: (object, problems) => validateNetworkPolicy(object, problems) },
  'v1/Pod': {
    create: (object, problems) => validatePodSpec(part(object, 'spec'), 'spec', problems), update: (object, old, problems) => validatePodUpdate(object, old, problems),
    status: (object, problems, old) => validatePodStatus(object, old, problems),
  },
  'v1/PodTemplate': { create: (object, problems) => validatePodTemplate(part(object, 'template'), 'template', problems) },
  'v1/Namespace': { name: checkDnsLabel, create: (object, problems) => validateNamespace(object, problems) },
  'v1/Node': { create: (object, problems) => validateNode(object, problems), update: (object, old, problems) => validateNodeUpdate(object, old, problems) },
  'v1/Secret': { create: (object, problems) => validateSecret(object, problems), update: (object, old, problems) => validateSecretUpdate(object, old, problems) },
  'v1/ConfigMap': { create: (object, problems) => validateConfigMap(object, problems), update: (object, old, problems) => validateConfigMapUpdate(object, old, problems) },
  'v1/Event': { create: (object, problems) => validateEvent(object, 'v1', problems) },
  'events.k8s.io/v1/Event': { create: (object, problems) => validateEvent(object, 'events.k8s.io/v1', problems) },
  'coordination.k8s.io/v1/Lease': { create: (object, problems) => validateLease(object, problems) },
  'v1/ReplicationController': workload('ReplicationController'),
  'apps/v1/Deployment': workload('Deployment'), 'apps/v1/ReplicaSet': workload('ReplicaSet'),
  'apps/v1/DaemonSet': workload('DaemonSet'), 'apps/v1/StatefulSet': { ...workload('StatefulSet'), name: checkDnsLabel },
  'batch/v1/Job': { create: (object, problems) => validateJobSpec(part(object, 'spec'), 'spec', problems) },
  'batch/v1/CronJob': { create: (object, problems) => validateCronJob(object, problems) },
  'policy/v1/PodDisruptionBudget': { create: (object, problems) => validateDisruptionBudget(object, problems) },
  'rbac.authorization.k8s.io/v1/Role': { name: checkPathSegment, create: (object, problems) => validateRole(object, true, problems) },
  'rbac.authorization.k8s.io/v1/ClusterRole': { name: checkPathSegment, create: (object, problems) => validateRole(object, false, problems) },
  'rbac.authorization.k8s.io/v1/RoleBinding': { name: checkPathSegment, create: (object, problems) => validateRoleBinding(object, true, problems), update: (object, old, problems) => validateRoleBindingUpdate(object, old, problems) },
  'rbac.authorization.k8s.io/v1/ClusterRoleBinding': { name: checkPathSegment, create: (object, problems) => validateRoleBinding(object, false, problems), update: (object, old, problems) => validateRoleBindingUpdate(object, old, problems) },
  'apiextensions.k8s.io/v1/CustomResourceDefinition': { create: (object, problems) => validateCrd(object, problems), update: (object, old, problems) => validateCrdUpdate(object, old, problems) },
};

/** What is wrong with a new object; empty when nothing is. */
export function validateCreate(object: KubeObject, context: ValidationContext = {}): StatusCause[] {
  const problems = new Problems();
  const row = rules[`${object.apiVersion}/${object.kind}`];
  validateMetadata(object, isNamespaced(object, context), row?.name ?? checkSubdomain, problems);
  if (row?.create !== undefined) row.create(object, problems, context, true);
  else if (context.custom === undefined) validateRequired(object, schemaFor(object.apiVersion ?? '', object.kind ?? ''), '', problems);
  if (context.custom !== undefined) problems.causes.push(...context.custom.validate(object, undefined));
  return problems.causes;
}

/** What is wrong with a changed object, or with the change; `old` is the stored object. */
export function validateUpdate(object: KubeObject, old: KubeObject, context: ValidationContext = {}): StatusCause[] {
  const problems = new Problems();
  const row = rules[`${object.apiVersion}/${object.kind}`];
  validateMetadata(object, isNamespaced(object, context), row?.name ?? checkSubdomain, problems);
  validateMetadataUpdate(object, old, problems);
  if (context.subresource === 'status') row?.status?.(object, problems, old);
  else {
    if (context.subresource !== 'binding' && context.subresource !== 'ephemeralcontainers') row?.update?.(object, old, problems);
    row?.create?.(object, problems, context, false);
  }
  if (context.custom !== undefined) problems.causes.push(...context.custom.validate(object, old));
  return problems.causes;
}

function isNamespaced(object: KubeObject, context: ValidationContext): boolean {
  if (context.custom !== undefined) return context.custom.isNamespaced;
  const packageName = packageOf(object.apiVersion ?? '');
  return kindsOf(packageName ?? '').find((row) => row.kind === object.kind)?.isNamespaced ?? object.metadata.namespace !== undefined;
}
