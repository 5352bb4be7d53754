// Rules of metadata that hold for every kind: name, namespace, labels, annotations, owner references, finalizers, managed fields, and
// what an update may not change. Called by `validate` before the rules of the kind.
// Source: apimachinery pkg/api/validation/objectmeta.go, kubernetes pkg/apis/core/validation ValidateObjectMeta.

import { equalJson } from '../schema/schema.ts';
import type { Fields } from './fields.ts';
import { entries, maybePart, part, parts, text, texts } from './fields.ts';
import type { NameCheck } from './names.ts';
import { checkDnsLabel, checkLabelValue, checkQualifiedName } from './names.ts';
import type { Problems } from './problems.ts';

/** Bytes of all annotation keys and values together. */
export const annotationBytesMax = 256 * 1024;
const standardFinalizers = ['kubernetes', 'orphan', 'foregroundDeletion'];

/** Checks `metadata` of a new or changed object. */
export function validateMetadata(object: unknown, isNamespaced: boolean, checkName: NameCheck, problems: Problems): void {
  const metadata = part(object, 'metadata');
  const generateName = text(metadata, 'generateName');
  if (generateName !== '') problems.invalidEach('metadata.generateName', generateName, checkName(generateName, true));
  const name = text(metadata, 'name');
  if (name === '') problems.required('metadata.name', 'name or generateName is required');
  else problems.invalidEach('metadata.name', name, checkName(name, false));
  const namespace = text(metadata, 'namespace');
  if (!isNamespaced) { if (namespace !== '') problems.forbidden('metadata.namespace', 'not allowed on this type'); }
  else if (namespace === '') problems.required('metadata.namespace');
  else problems.invalidEach('metadata.namespace', namespace, checkDnsLabel(namespace));
  validateLabels(metadata, 'labels', 'metadata.labels', problems);
  validateAnnotations(metadata, 'metadata.annotations', problems);
  validateOwners(metadata, problems);
  validateFinalizers(metadata, problems);
  validateManagedFields(metadata, problems);
}

/** Checks a map of labels at `field` of `target`; all complaints carry `path`. */
export function validateLabels(target: Fields, field: string, path: string, problems: Problems): void {
  for (const [key, value] of entries(target, field)) {
    problems.invalidEach(path, key, checkQualifiedName(key));
    if (typeof value === 'string') problems.invalidEach(path, value, checkLabelValue(value));
  }
}

/** Checks annotation keys and the size of all together. */
export function validateAnnotations(metadata: Fields, path: string, problems: Problems): void {
  let bytes = 0;
  for (const [key, value] of entries(metadata, 'annotations')) {
    problems.invalidEach(path, key, checkQualifiedName(key.toLowerCase()));
    bytes += Buffer.byteLength(key) + Buffer.byteLength(String(value));
  }
  if (bytes > annotationBytesMax) problems.tooLong(path, annotationBytesMax);
}

function validateOwners(metadata: Fields, problems: Problems): void {
  const path = 'metadata.ownerReferences';
  let controller = '';
  for (const owner of parts(metadata, 'ownerReferences')) {
    const apiVersion = text(owner, 'apiVersion');
    const name = text(owner, 'name');
    if (apiVersion.slice(apiVersion.indexOf('/') + 1) === '' || apiVersion.split('/').length > 2) problems.invalid(`${path}.apiVersion`, apiVersion, 'version must not be empty');
    if (text(owner, 'kind') === '') problems.invalid(`${path}.kind`, '', 'must not be empty');
    if (name === '') problems.invalid(`${path}.name`, '', 'must not be empty');
    if (text(owner, 'uid') === '') problems.invalid(`${path}.uid`, '', 'must not be empty');
    if (apiVersion === 'v1' && owner['kind'] === 'Event') problems.invalid(path, owner, '/v1, Kind=Event is disallowed from being an owner');
    if (owner['controller'] !== true) continue;
    if (controller === '') controller = name;
    else problems.invalid(path, parts(metadata, 'ownerReferences'), `Only one reference can have Controller set to true. Found "true" in references for ${controller} and ${name}`);
  }
}

function validateFinalizers(metadata: Fields, problems: Problems): void {
  const finalizers = texts(metadata, 'finalizers');
  for (const name of finalizers) {
    problems.invalidEach('metadata.finalizers', name, checkQualifiedName(name));
    if (!name.includes('/') && !standardFinalizers.includes(name)) problems.invalid('metadata.finalizers', name, 'name is neither a standard finalizer name nor is it fully qualified');
  }
  if (finalizers.includes('orphan') && finalizers.includes('foregroundDeletion')) {
    problems.invalid('metadata.finalizers', finalizers, 'finalizer foregroundDeletion and orphan cannot be both set');
  }
}

function validateManagedFields(metadata: Fields, problems: Problems): void {
  parts(metadata, 'managedFields').forEach((entry, index) => {
    const path = `metadata.managedFields[${index}]`;
    if (entry['operation'] !== 'Apply' && entry['operation'] !== 'Update') problems.invalid(`${path}.operation`, entry['operation'] ?? '', 'must be `Apply` or `Update`');
    const fieldsType = text(entry, 'fieldsType');
    if (fieldsType !== '' && fieldsType !== 'FieldsV1') problems.invalid(`${path}.fieldsType`, fieldsType, 'must be `FieldsV1`');
    if (text(entry, 'manager').length > 128) problems.tooLong(`${path}.manager`, 128);
  });
}

/** Checks what an update may not change in `metadata`. */
export function validateMetadataUpdate(object: unknown, old: unknown, problems: Problems): void {
  const metadata = part(object, 'metadata');
  const before = part(old, 'metadata');
  if (text(before, 'deletionTimestamp') !== '') {
    const added = texts(metadata, 'finalizers').filter((name) => !texts(before, 'finalizers').includes(name));
    if (added.length > 0) problems.forbidden('metadata.finalizers', `no new finalizers can be added if the object is being deleted, found new finalizers []string{${added.map((name) => JSON.stringify(name)).join(', ')}}`);
  }
  for (const field of ['name', 'namespace', 'uid', 'creationTimestamp', 'deletionTimestamp', 'deletionGracePeriodSeconds']) {
    immutable(metadata[field], before[field], `metadata.${field}`, problems);
  }
}

/** The complaint of a field that may not change once set. */
export function immutable(value: unknown, before: unknown, path: string, problems: Problems): void {
  if (!equalJson(value ?? null, before ?? null)) problems.invalid(path, value, 'field is immutable');
}

/** Checks a LabelSelector object. */
export function validateLabelSelector(selector: Fields | undefined, path: string, problems: Problems): void {
  if (selector === undefined) return;
  validateLabels(selector, 'matchLabels', `${path}.matchLabels`, problems);
  parts(selector, 'matchExpressions').forEach((expression, index) => {
    const at = `${path}.matchExpressions[${index}]`;
    const operator = text(expression, 'operator');
    const values = texts(expression, 'values');
    if (operator === 'In' || operator === 'NotIn') { if (values.length === 0) problems.required(`${at}.values`, "must be specified when `operator` is 'In' or 'NotIn'"); }
    else if (operator === 'Exists' || operator === 'DoesNotExist') { if (values.length > 0) problems.forbidden(`${at}.values`, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"); }
    else problems.invalid(`${at}.operator`, operator, 'not a valid selector operator');
    problems.invalidEach(`${at}.key`, text(expression, 'key'), checkQualifiedName(text(expression, 'key')));
    values.forEach((value, valueIndex) => problems.invalidEach(`${at}.values[${valueIndex}]`, value, checkLabelValue(value)));
  });
}

/** True when a selector object selects everything. */
export function isEmptySelector(selector: Fields | undefined): boolean {
  return selector === undefined || (Object.keys(maybePart(selector, 'matchLabels') ?? {}).length === 0 && parts(selector, 'matchExpressions').length === 0);
}
