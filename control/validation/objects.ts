// Rules of the small core kinds: Namespace, Node, Secret, ConfigMap, Lease, Event, RBAC. Called by `validate`.
// Source: kubernetes pkg/apis/core/validation/{validation,events}.go, pkg/apis/coordination/validation, pkg/apis/rbac/validation.

import { base64ByteLength } from '../schema/body/scalars.ts';
import { equalJson } from '../schema/schema.ts';
import type { Fields } from './fields.ts';
import { entries, maybePart, number, part, parts, text, texts } from './fields.ts';
import { immutable } from './metadata.ts';
import { checkCidr, checkConfigKey, checkLabelValue, checkQualifiedName, checkSubdomain } from './names.ts';
import type { Problems } from './problems.ts';

/** Bytes of all values of a Secret or ConfigMap. */
export const dataBytesMax = 1024 * 1024;
const redacted = '<secret contents redacted>';

/** Checks a Secret: keys, size and what its type asks for. */
export function validateSecret(secret: unknown, problems: Problems): void {
  const data = new Map(entries(secret, 'data'));
  let bytes = 0;
  for (const [key, value] of data) {
    problems.invalidEach(`data[${key}]`, key, checkConfigKey(key));
    bytes += base64ByteLength(String(value));
  }
  if (bytes > dataBytesMax) problems.tooLong('data', dataBytesMax);
  const need = (key: string): void => { if (!data.has(key)) problems.required(`data[${key}]`); };
  switch (text(secret, 'type')) {
    case 'kubernetes.io/service-account-token': {
      const name = part(part(secret, 'metadata'), 'annotations')['kubernetes.io/service-account.name'];
      if (typeof name !== 'string' || name === '') problems.required('metadata.annotations[kubernetes.io/service-account.name]');
      return;
    }
    case 'kubernetes.io/dockercfg': return validateJsonKey(data, '.dockercfg', problems);
    case 'kubernetes.io/dockerconfigjson': return validateJsonKey(data, '.dockerconfigjson', problems);
    case 'kubernetes.io/basic-auth':
      if (!data.has('username') && !data.has('password')) { need('username'); need('password'); }
      return;
    case 'kubernetes.io/ssh-auth':
      if (String(data.get('ssh-privatekey') ?? '') === '') problems.required('data[ssh-privatekey]');
      return;
    case 'kubernetes.io/tls':
      need('tls.crt');
      return need('tls.key');
    default:
  }
}

function validateJsonKey(data: ReadonlyMap<string, unknown>, key: string, problems: Problems): void {
  const value = data.get(key);
  if (value === undefined) { problems.required(`data[${key}]`); return; }
  try {
    JSON.parse(Buffer.from(String(value), 'base64').toString());
  } catch {
    problems.invalid(`data[${key}]`, redacted, 'must be valid JSON');
  }
}

/** Type never changes; nothing does once `immutable` is set. */
export function validateSecretUpdate(secret: unknown, old: unknown, problems: Problems): void {
  immutable(text(secret, 'type'), text(old, 'type'), 'type', problems);
  validateImmutableData(secret, old, ['data'], problems);
}

/** Checks a ConfigMap: keys in one of the two maps only, and the size. */
export function validateConfigMap(map: unknown, problems: Problems): void {
  const binary = new Map(entries(map, 'binaryData'));
  let bytes = 0;
  for (const [key, value] of entries(map, 'data')) {
    problems.invalidEach(`data[${key}]`, key, checkConfigKey(key));
    if (binary.has(key)) problems.invalid(`data[${key}]`, key, 'duplicate of key present in binaryData');
    bytes += Buffer.byteLength(String(value));
  }
  for (const [key, value] of binary) {
    problems.invalidEach(`binaryData[${key}]`, key, checkConfigKey(key));
    bytes += base64ByteLength(String(value));
  }
  if (bytes > dataBytesMax) problems.tooLong('', dataBytesMax);
}

/** Nothing changes once `immutable` is set. */
export function validateConfigMapUpdate(map: unknown, old: unknown, problems: Problems): void { validateImmutableData(map, old, ['data', 'binaryData'], problems); }

function validateImmutableData(object: unknown, old: unknown, fields: readonly string[], problems: Problems): void {
  if ((old as Fields)['immutable'] !== true) return;
  if ((object as Fields)['immutable'] !== true) problems.forbidden('immutable', 'field is immutable when `immutable` is set');
  for (const field of fields) if (!equalJson(part(object, field), part(old, field))) problems.forbidden(field, 'field is immutable when `immutable` is set');
}

/** Checks a Lease: positive duration, transitions that count up. */
export function validateLease(lease: unknown, problems: Problems): void {
  const spec = part(lease, 'spec');
  const duration = number(spec, 'leaseDurationSeconds');
  if (duration !== undefined && duration <= 0) problems.invalid('spec.leaseDurationSeconds', duration, 'must be greater than 0');
  const transitions = number(spec, 'leaseTransitions');
  if (transitions !== undefined && transitions < 0) problems.invalid('spec.leaseTransitions', transitions, 'must be greater than or equal to 0');
}

/** Checks a Node: taints and Pod ranges. */
export function validateNode(node: unknown, problems: Problems): void {
  const spec = part(node, 'spec');
  const seen = new Set<string>();
  parts(spec, 'taints').forEach((taint, index) => {
    const path = `spec.taints[${index}]`;
    const effect = text(taint, 'effect');
    problems.invalidEach(`${path}.key`, text(taint, 'key'), checkQualifiedName(text(taint, 'key')));
    problems.invalidEach(`${path}.value`, text(taint, 'value'), checkLabelValue(text(taint, 'value')));
    if (effect === '') problems.required(`${path}.effect`);
    else if (!['NoExecute', 'NoSchedule', 'PreferNoSchedule'].includes(effect)) problems.notSupported(`${path}.effect`, effect, ['NoExecute', 'NoSchedule', 'PreferNoSchedule']);
    const key = `${text(taint, 'key')}:${effect}`;
    if (seen.has(key)) problems.duplicate(path, taint);
    seen.add(key);
  });
  const ranges = texts(spec, 'podCIDRs');
  ranges.forEach((range, index) => problems.invalidEach(`spec.podCIDRs[${index}]`, range, checkCidr(range)));
  if (ranges.length > 2) problems.invalid('spec.podCIDRs', ranges, 'may specify no more than one CIDR for each IP family');
  const addresses = new Set<string>();
  parts(part(node, 'status'), 'addresses').forEach((address, index) => {
    const key = `${text(address, 'type')}/${text(address, 'address')}`;
    if (addresses.has(key)) problems.duplicate(`status.addresses[${index}]`, address);
    addresses.add(key);
  });
}

/** Pod ranges and provider id are set once. */
export function validateNodeUpdate(node: unknown, old: unknown, problems: Problems): void {
  const before = part(old, 'spec');
  const spec = part(node, 'spec');
  if (texts(before, 'podCIDRs').length > 0 && !equalJson(texts(spec, 'podCIDRs'), texts(before, 'podCIDRs'))) problems.forbidden('spec.podCIDRs', 'node updates may not change podCIDR except from "" to valid');
  if (text(before, 'providerID') !== '' && text(spec, 'providerID') !== text(before, 'providerID')) problems.forbidden('spec.providerID', 'node updates may not change providerID except from "" to valid');
}

/** Checks a Namespace's own finalizers. */
export function validateNamespace(namespace: unknown, problems: Problems): void {
  texts(part(namespace, 'spec'), 'finalizers').forEach((name) => {
    problems.invalidEach('spec.finalizers', name, checkQualifiedName(name));
    if (!name.includes('/') && name !== 'kubernetes') problems.invalid('spec.finalizers', name, 'name is neither a standard finalizer name nor is it fully qualified');
  });
}

/** Checks an Event of either group; `apiVersion` says which field names complaints carry. */
export function validateEvent(event: unknown, apiVersion: string, problems: Problems): void {
  const isCore = apiVersion === 'v1';
  const involved = maybePart(event, isCore ? 'involvedObject' : 'regarding') ?? {};
  const namespace = text(part(event, 'metadata'), 'namespace');
  const target = text(involved, 'namespace');
  const path = isCore ? 'involvedObject.namespace' : 'regarding.namespace';
  const isDefault = namespace === 'default' || (namespace === 'kube-system' && text(event, 'eventTime') !== '');
  if (target === '' ? !isDefault : target !== namespace) problems.invalid(path, target, 'does not match event.namespace');
  if (text(event, 'eventTime') === '') { if (!isCore) problems.required('eventTime'); return; }
  const controllerField = isCore ? 'reportingComponent' : 'reportingController';
  const controller = text(event, controllerField);
  if (controller === '') problems.required(controllerField); else problems.invalidEach(controllerField, controller, checkQualifiedName(controller));
  for (const field of ['reportingInstance', 'action', 'reason']) {
    if (text(event, field) === '') problems.required(field);
    else if (text(event, field).length > 128) problems.invalid(field, '', 'can have at most 128 characters');
  }
  const note = isCore ? 'message' : 'note';
  if (Buffer.byteLength(text(event, note)) > 1024) problems.invalid(note, '', 'can have at most 1024 bytes');
  if (!isCore && !['Normal', 'Warning'].includes(text(event, 'type'))) problems.invalid('type', text(event, 'type'), 'has invalid value');
}

/** Checks a RoleBinding or ClusterRoleBinding. */
export function validateRoleBinding(binding: unknown, isNamespaced: boolean, problems: Problems): void {
  const role = part(binding, 'roleRef');
  const kinds = isNamespaced ? ['ClusterRole', 'Role'] : ['ClusterRole'];
  if (text(role, 'apiGroup') !== 'rbac.authorization.k8s.io') problems.notSupported('roleRef.apiGroup', text(role, 'apiGroup'), ['rbac.authorization.k8s.io']);
  if (!kinds.includes(text(role, 'kind'))) problems.notSupported('roleRef.kind', text(role, 'kind'), kinds);
  if (text(role, 'name') === '') problems.required('roleRef.name');
  parts(binding, 'subjects').forEach((subject, index) => {
    const path = `subjects[${index}]`;
    const kind = text(subject, 'kind');
    const group = text(subject, 'apiGroup');
    if (text(subject, 'name') === '') problems.required(`${path}.name`);
    if (kind === 'ServiceAccount') {
      if (text(subject, 'name') !== '') problems.invalidEach(`${path}.name`, text(subject, 'name'), checkSubdomain(text(subject, 'name')));
      if (group !== '') problems.notSupported(`${path}.apiGroup`, group, ['']);
      if (!isNamespaced && text(subject, 'namespace') === '') problems.required(`${path}.namespace`);
    } else if (kind === 'User' || kind === 'Group') {
      if (group !== 'rbac.authorization.k8s.io') problems.notSupported(`${path}.apiGroup`, group, ['rbac.authorization.k8s.io']);
    } else problems.notSupported(`${path}.kind`, kind, ['Group', 'ServiceAccount', 'User']);
  });
}

/** roleRef never changes. */
export function validateRoleBindingUpdate(binding: unknown, old: unknown, problems: Problems): void {
  if (!equalJson(part(binding, 'roleRef'), part(old, 'roleRef'))) problems.invalid('roleRef', part(binding, 'roleRef'), 'cannot change roleRef');
}

/** Checks a Role or ClusterRole. */
export function validateRole(role: unknown, isNamespaced: boolean, problems: Problems): void {
  parts(role, 'rules').forEach((rule, index) => {
    const path = `rules[${index}]`;
    if (texts(rule, 'verbs').length === 0) problems.required(`${path}.verbs`, 'verbs must contain at least one value');
    if (texts(rule, 'nonResourceURLs').length > 0) {
      if (isNamespaced) problems.invalid(`${path}.nonResourceURLs`, texts(rule, 'nonResourceURLs'), 'namespaced rules cannot apply to non-resource URLs');
      if (texts(rule, 'apiGroups').length + texts(rule, 'resources').length + texts(rule, 'resourceNames').length > 0) problems.invalid(`${path}.nonResourceURLs`, texts(rule, 'nonResourceURLs'), 'rules cannot apply to both regular resources and non-resource URLs');
      return;
    }
    if (texts(rule, 'apiGroups').length === 0) problems.required(`${path}.apiGroups`, 'resource rules must supply at least one api group');
    if (texts(rule, 'resources').length === 0) problems.required(`${path}.resources`, 'resource rules must supply at least one resource');
  });
}
