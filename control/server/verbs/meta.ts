// The server's part of an object's metadata and the split between spec and status: what a create fills in, what an
// update may not change, when the generation grows.
// Source: kubernetes/apiserver pkg/registry/rest/{create,update,meta}.go, kubernetes pkg/registry/*/strategy.go.

import { randomInt, randomUUID } from 'node:crypto';
import { formatTime, type Clock } from '../../../api/clock.ts';
import { invalid, NetloomError } from '../../../api/errors.ts';
import type { KubeObject, ObjectMeta } from '../../../api/types.ts';
import { groupVersion, qualifiedResource, type ResourceInfo } from '../../resources.ts';
import { initialStatus } from '../../defaults/defaults.ts';
import { crdStatus, type CrdObject } from '../../schema/crd.ts';
import { cloneJson } from '../../schema/schema.ts';
import { isSameJson } from '../../storage/stored.ts';
import { crdStorage } from '../registry.ts';

type Json = Record<string, unknown>;
type Whole = KubeObject & Json;

const suffixLetters = 'bcdfghjklmnpqrstvwxz2456789';
/** A generated name keeps at most this much of its prefix. */
const generatedPrefixMax = 58;

/** The name for `generateName`: the prefix and five random letters that spell no words. */
export function generateName(prefix: string): string {
  let name = prefix.slice(0, generatedPrefixMax);
  for (let index = 0; index < 5; index++) name += suffixLetters[randomInt(suffixLetters.length)] as string;
  return name;
}

/** Kinds that register with their status in one request. */
const keepsStatusOnCreate = new Set(['Node']);

/** Checks what the URL says against what the object says, and fills in the namespace. Throws BadRequest. */
export function checkPlace(object: KubeObject, resource: ResourceInfo, namespace: string, name: string): void {
  const { metadata } = object;
  if (resource.isNamespaced) {
    if (metadata.namespace === undefined || metadata.namespace === '') metadata.namespace = namespace;
    else if (metadata.namespace !== namespace) throw new NetloomError('BadRequest', `the namespace of the provided object does not match the namespace sent on the request`, { source: 'downstream' });
  } else if (metadata.namespace !== undefined) {
    if (metadata.namespace !== '' ) throw new NetloomError('BadRequest', `the namespace of the provided object does not match the namespace sent on the request`, { source: 'downstream' });
    delete metadata.namespace;
  }
  if (name !== '' && metadata.name !== undefined && metadata.name !== '' && metadata.name !== name) {
    throw new NetloomError('BadRequest', `the name of the object (${metadata.name}) does not match the name on the URL (${name})`, { source: 'downstream' });
  }
}

/** The object with apiVersion, kind and metadata first: lists cut the type off the stored text by its length. */
export function inOrder(object: KubeObject, resource: ResourceInfo): Whole {
  const { apiVersion: _version, kind: _kind, metadata, ...rest } = object as Whole;
  return { apiVersion: groupVersion(resource), kind: resource.kind, metadata, ...rest } as Whole;
}

/** Fills in what the server decides about a new object. The object is changed. Throws BadRequest, Invalid. */
export function prepareCreate(object: Whole, resource: ResourceInfo, clock: Clock): void {
  const metadata = object.metadata as ObjectMeta & { selfLink?: string };
  if (metadata.resourceVersion !== undefined && metadata.resourceVersion !== '') throw new NetloomError('BadRequest', 'resourceVersion should not be set on objects to be created', { source: 'downstream' });
  delete metadata.resourceVersion;
  delete metadata.deletionTimestamp;
  delete metadata.deletionGracePeriodSeconds;
  delete metadata.selfLink;
  if (metadata.name === undefined || metadata.name === '') {
    if (metadata.generateName === undefined || metadata.generateName === '') {
      throw invalid(resource.kind, resource.group, '', [{ reason: 'FieldValueRequired', message: 'Required value: name or generateName is required', field: 'metadata.name' }]);
    }
    metadata.name = generateName(metadata.generateName);
  }
  metadata.uid = randomUUID();
  metadata.creationTimestamp = formatTime(clock.nowMs());
  if (resource.hasGeneration) metadata.generation = 1; else delete metadata.generation;
  resetStatus(object, resource);
  if (resource.storage === 'namespaces') prepareNamespace(object);
  if (resource.storage === crdStorage) object['status'] = definitionStatus(object, metadata.creationTimestamp);
}

/** Names and conditions of a definition; nothing for one that validation is going to refuse. */
function definitionStatus(object: Whole, now: string): Json {
  const crd = object as unknown as CrdObject;
  return Array.isArray(crd.spec?.versions) ? crdStatus(crd, now) : {};
}

function resetStatus(object: Whole, resource: ResourceInfo): void {
  if (!resource.hasStatus || keepsStatusOnCreate.has(resource.kind)) return;
  if (resource.crdName !== undefined) delete object['status'];
  else object['status'] = initialStatus(object) ?? {};
}

function prepareNamespace(object: Whole): void {
  const spec = (object['spec'] ?? {}) as { finalizers?: string[] };
  if (spec.finalizers === undefined || !spec.finalizers.includes('kubernetes')) spec.finalizers = [...(spec.finalizers ?? []), 'kubernetes'];
  object['spec'] = spec;
  object.metadata.labels = { ...object.metadata.labels, 'kubernetes.io/metadata.name': object.metadata.name };
}

/** Which part of an object a write may change. */
export type WritePart = 'main' | 'status' | 'finalize' | 'approval' | 'other';

/** Takes over from the old object what this write may not change and counts the generation. The object is changed. */
export function prepareUpdate(object: Whole, old: Whole, resource: ResourceInfo, part: WritePart, clock: Clock): void {
  const metadata = object.metadata as ObjectMeta & { selfLink?: string };
  const previous = old.metadata;
  delete metadata.selfLink;
  metadata.name = previous.name;
  if (previous.namespace !== undefined) metadata.namespace = previous.namespace;
  keep(metadata, previous, 'uid');
  keep(metadata, previous, 'creationTimestamp');
  keep(metadata, previous, 'deletionTimestamp');
  keep(metadata, previous, 'deletionGracePeriodSeconds');
  metadata.resourceVersion = previous.resourceVersion as string;
  if (part === 'status') keepAllButStatus(object, old, resource);
  else if (part === 'main' && resource.hasStatus) keepField(object, old, 'status');
  else if (part === 'finalize') keepField(object, old, 'status');
  else if (part === 'approval') keepAllButConditions(object, old, resource);
  if (part === 'main' && resource.storage === 'namespaces') keepNamespaceFinalizers(object, old);
  if (part === 'main' && resource.storage === crdStorage) object['status'] = { ...object['status'] as Json, ...definitionStatus(object, formatTime(clock.nowMs())) };
  keep(metadata, previous, 'generation');
  if (resource.hasGeneration && part !== 'status' && hasNewGeneration(object, old)) metadata.generation = (previous.generation ?? 0) + 1;
}

function keep<K extends keyof ObjectMeta>(metadata: ObjectMeta, previous: ObjectMeta, field: K): void {
  if (previous[field] === undefined) delete metadata[field]; else metadata[field] = previous[field];
}

function keepField(object: Whole, old: Whole, field: string): void {
  // A copy, since defaulting works in place and the old object belongs to the store.
  if (old[field] === undefined) delete object[field]; else object[field] = cloneJson(old[field]);
}

/** A status write changes status, and of the metadata what clients may change; custom kinds keep their metadata. */
function keepAllButStatus(object: Whole, old: Whole, resource: ResourceInfo): void {
  for (const field of new Set([...Object.keys(object), ...Object.keys(old)])) if (field !== 'status' && field !== 'metadata' && field !== 'apiVersion' && field !== 'kind') keepField(object, old, field);
  keep(object.metadata, old.metadata, 'finalizers');
  keep(object.metadata, old.metadata, 'ownerReferences');
  if (resource.crdName === undefined) return;
  keep(object.metadata, old.metadata, 'labels');
  keep(object.metadata, old.metadata, 'annotations');
}

/** Approving changes conditions and nothing else. */
function keepAllButConditions(object: Whole, old: Whole, resource: ResourceInfo): void {
  keepAllButStatus(object, old, resource);
  const { conditions } = (object['status'] ?? {}) as { conditions?: unknown };
  object['status'] = { ...cloneJson(old['status'] as Json | undefined), ...(conditions === undefined ? {} : { conditions }) };
}

function keepNamespaceFinalizers(object: Whole, old: Whole): void {
  object['spec'] = { ...(object['spec'] as Json | undefined), finalizers: (old['spec'] as { finalizers?: string[] } | undefined)?.finalizers };
}

function hasNewGeneration(object: Whole, old: Whole): boolean {
  if (object.metadata.deletionTimestamp !== old.metadata.deletionTimestamp) return true;
  for (const field of new Set([...Object.keys(object), ...Object.keys(old)])) {
    if (field === 'metadata' || field === 'status' || field === 'apiVersion' || field === 'kind') continue;
    if (!isSameJson(object[field], old[field])) return true;
  }
  return false;
}

/** 409 for a write that was made from an older state. */
export function staleError(resource: ResourceInfo, name: string): NetloomError {
  return new NetloomError('Conflict', `Operation cannot be fulfilled on ${qualifiedResource(resource)} "${name}": the object has been modified; please apply your changes to the latest version and try again`, {
    source: 'downstream', details: { name, group: resource.group, kind: resource.resource },
  });
}

/** 409 for a precondition on the uid. */
export function uidError(resource: ResourceInfo, name: string, wanted: string, found: string): NetloomError {
  return new NetloomError('Conflict', `Operation cannot be fulfilled on ${qualifiedResource(resource)} "${name}": Precondition failed: UID in precondition: ${wanted}, UID in object meta: ${found}`, {
    source: 'downstream', details: { name, group: resource.group, kind: resource.resource },
  });
}
