// delete and deletecollection. An object that finalizers or a grace time hold back is only marked; the write that takes
// the last hindrance away removes it (./write.ts). Pods on a node get their grace time; the node's agent deletes them
// with grace 0 when their processes have ended.
// Source: kubernetes/apiserver pkg/registry/generic/registry/store.go, pkg/registry/rest/delete.go; pod strategy.

import { formatTime } from '../../../api/clock.ts';
import { invalid, isConflict, isNotFound, NetloomError } from '../../../api/errors.ts';
import type { KubeObject, ObjectMeta, Pod, StatusCause } from '../../../api/types.ts';
import { groupVersion, type ResourceInfo } from '../../resources.ts';
import { decodeBody } from '../../schema/decode.ts';
import type { Stored } from '../../storage/store.ts';
import type { RequestContext } from '../context.ts';
import { toServed } from '../conversion.ts';
import { sendObject } from '../http/respond.ts';
import { bodyBytesMax } from './body.ts';
import { readListOptions } from './list-options.ts';
import { crdCleanupFinalizer, crdStorage, type Crd } from '../registry.ts';
import { staleError, uidError } from './meta.ts';
import { keyOf, notFoundError, selectPage, sendShown } from './read.ts';

interface DeleteOptions {
  gracePeriodSeconds: number | undefined;
  propagationPolicy: 'Background' | 'Foreground' | 'Orphan' | undefined;
  uid: string | undefined; resourceVersion: string | undefined; isDryRun: boolean;
}

const foregroundFinalizer = 'foregroundDeletion';
const orphanFinalizer = 'orphan';
const raceTries = 8;
/** Objects deleted at the same time by one deletecollection. */
const collectionWorkers = 16;

/** DELETE of one object. */
export async function deleteObject(context: RequestContext): Promise<void> {
  const options = await readDeleteOptions(context);
  const outcome = await deleteByKey(context, keyOf(context.resource, context.info.namespace, context.info.name), context.info.name, options);
  if (outcome.isGone) await sendDeleted(context, outcome.object);
  else await sendShown(context, 200, toServed(outcome.object, context.resource));
}

async function sendDeleted(context: RequestContext, object: KubeObject): Promise<void> {
  const { resource, exchange, warnings, negotiated } = context;
  const details = { name: object.metadata.name, ...(resource.group === '' ? {} : { group: resource.group }), kind: resource.resource, uid: object.metadata.uid };
  await sendObject({ exchange, warnings, mediaType: negotiated.mediaType }, 200, { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', details });
}

/** DELETE of a collection: everything that the list options select. Answers with what was deleted. */
export async function deleteCollection(context: RequestContext): Promise<void> {
  const { server, resource, info, exchange } = context;
  const options = await readDeleteOptions(context);
  const listOptions = readListOptions(exchange.query, resource);
  const { items, revision } = await selectPage(server.storage, resource, info.namespace, { ...listOptions, isWatch: false });
  const queue = [...items];
  const deleted: KubeObject[] = [];
  const work = async (): Promise<void> => {
    for (let stored = queue.shift(); stored !== undefined; stored = queue.shift()) {
      try {
        deleted.push((await deleteByKey(context, stored.key, stored.object.metadata.name, { ...options, uid: undefined, resourceVersion: undefined })).object);
      } catch (error) { if (!isNotFound(error)) throw error; }
    }
  };
  await Promise.all(Array.from({ length: Math.min(collectionWorkers, items.length) }, work));
  await sendObject({ exchange, warnings: context.warnings, mediaType: context.negotiated.mediaType }, 200, {
    kind: `${resource.kind}List`, apiVersion: groupVersion(resource), metadata: { resourceVersion: String(revision) }, items: deleted.map((object) => toServed(object, resource)),
  });
}

/** Deletes or marks one object; tries again when another write came between. */
export async function deleteByKey(context: RequestContext, key: string, name: string, options: DeleteOptions): Promise<{ object: KubeObject; isGone: boolean }> {
  for (let tries = 1; ; tries++) {
    try {
      return await deleteOnce(context, key, name, options);
    } catch (error) {
      if (!(isConflict(error) && (error as NetloomError).source === 'internal') || tries === raceTries) throw error;
    }
  }
}

async function deleteOnce(context: RequestContext, key: string, name: string, options: DeleteOptions): Promise<{ object: KubeObject; isGone: boolean }> {
  const { resource, server, user } = context;
  const { storage, hooks } = server;
  const live = storage.get(resource.storage, key);
  if (live === undefined) throw notFoundError(resource, name);
  const object = live.object;
  if (options.uid !== undefined && options.uid !== object.metadata.uid) throw uidError(resource, name, options.uid, object.metadata.uid ?? '');
  if (options.resourceVersion !== undefined && options.resourceVersion !== object.metadata.resourceVersion) throw staleError(resource, name);
  hooks.checkWriter(user, resource, object, object);
  const admitted = await hooks.admit({ operation: 'delete', subresource: '', resource, object, old: object, userInfo: user, dryRun: options.isDryRun });
  let isKept = false;
  try {
    context.warnings.push(...admitted.warnings);
    const marked = mark(object, resource, options, server.clock.nowMs());
    if (options.isDryRun) return { object: marked ?? object, isGone: marked === undefined };
    if (marked === object) return { object, isGone: false };
    const race = (error: unknown): never => { throw isConflict(error) || isNotFound(error) ? new NetloomError('Conflict', 'the object changed meanwhile', { source: 'internal', cause: error }) : error; };
    const stored: Stored = marked === undefined ? await server.writes.delete(resource.storage, key, live, object).catch(race) : await storage.update(resource.storage, key, marked, live.revision).catch(race);
    if (marked === undefined) { admitted.onCommitted(); isKept = true; } else if (resource.storage === crdStorage) server.onDefinitionMarked(name);
    return { object: stored.object, isGone: marked === undefined };
  } finally {
    if (!isKept) admitted.onFailed();
  }
}

/** The object as it waits for its end; undefined when nothing holds it; the same object when nothing changes. */
function mark(object: KubeObject, resource: ResourceInfo, options: DeleteOptions, nowMs: number): KubeObject | undefined {
  const finalizers = nextFinalizers(object.metadata.finalizers ?? [], options);
  if (resource.storage === crdStorage && object.metadata.deletionTimestamp === undefined) finalizers.push(crdCleanupFinalizer);
  const grace = graceOf(object, resource, options);
  const isHeld = finalizers.length > 0 || (resource.storage === 'namespaces' && ((object as { spec?: { finalizers?: string[] } }).spec?.finalizers?.length ?? 0) > 0);
  if (!isHeld && grace === 0) return undefined;
  const { metadata } = object;
  const isSameFinalizers = finalizers.length === (metadata.finalizers?.length ?? 0) && finalizers.every((item) => metadata.finalizers?.includes(item));
  const previous = metadata.deletionGracePeriodSeconds ?? 0;
  if (metadata.deletionTimestamp !== undefined && isSameFinalizers && grace >= previous) return object;
  const next: ObjectMeta = { ...metadata };
  if (finalizers.length > 0) next.finalizers = finalizers; else delete next.finalizers;
  if (metadata.deletionTimestamp === undefined || grace < previous) {
    const base = metadata.deletionTimestamp === undefined ? nowMs : Date.parse(metadata.deletionTimestamp) - previous * 1000;
    next.deletionTimestamp = formatTime(base + grace * 1000);
    next.deletionGracePeriodSeconds = grace;
    if (resource.hasGeneration && metadata.deletionTimestamp === undefined) next.generation = (metadata.generation ?? 0) + 1;
  }
  const marked: KubeObject & { status?: object } = { ...object, metadata: next };
  if (resource.storage === 'namespaces') marked.status = { ...marked.status, phase: 'Terminating' };
  if (resource.storage === crdStorage) marked.status = terminating(marked.status as Crd['status'], nowMs);
  return marked;
}

function terminating(status: Crd['status'], nowMs: number): object {
  const condition = { type: 'Terminating', status: 'True', lastTransitionTime: formatTime(nowMs), reason: 'InstanceDeletionPending', message: 'CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon' };
  return { ...status, conditions: [...(status?.conditions ?? []).filter((item) => item.type !== 'Terminating'), condition] };
}

/** Foreground and Orphan leave a finalizer for the garbage collector; Background takes such finalizers away. */
function nextFinalizers(present: readonly string[], options: DeleteOptions): string[] {
  if (options.propagationPolicy === undefined) return [...present];
  const others = present.filter((item) => item !== foregroundFinalizer && item !== orphanFinalizer);
  if (options.propagationPolicy === 'Foreground') return [...others, foregroundFinalizer];
  return options.propagationPolicy === 'Orphan' ? [...others, orphanFinalizer] : others;
}

/** Seconds that the object may stay: only Pods that run on a node have any. */
function graceOf(object: KubeObject, resource: ResourceInfo, options: DeleteOptions): number {
  if (resource.storage !== 'pods') return 0;
  const pod = object as Pod;
  if ((pod.spec?.nodeName ?? '') === '' || pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed') return 0;
  return Math.max(0, options.gracePeriodSeconds ?? pod.spec?.terminationGracePeriodSeconds ?? 30);
}

async function readDeleteOptions(context: RequestContext): Promise<DeleteOptions> {
  const { exchange } = context;
  const bytes = await exchange.readBody(bodyBytesMax);
  const body = bytes.length === 0 ? {} : decodeBody(bytes, exchange.headers['content-type'] ?? 'application/json', { strict: 'Ignore', expect: { apiVersion: 'v1', kind: 'DeleteOptions' } }).object as unknown as Record<string, unknown>;
  const { query } = exchange;
  const grace = body['gracePeriodSeconds'] ?? (query.get('gracePeriodSeconds') === null ? undefined : Number(query.get('gracePeriodSeconds')));
  const policy = body['propagationPolicy'] ?? query.get('propagationPolicy') ?? undefined;
  const orphan = body['orphanDependents'] ?? (query.get('orphanDependents') === null ? undefined : query.get('orphanDependents') === 'true');
  const dryRun = [...(body['dryRun'] as string[] | undefined ?? []), ...query.getAll('dryRun')].filter((value) => value !== '');
  const preconditions = (body['preconditions'] ?? {}) as { uid?: string; resourceVersion?: string };
  check(grace, policy, orphan, dryRun);
  return {
    gracePeriodSeconds: grace as number | undefined, isDryRun: dryRun.length > 0, uid: preconditions.uid, resourceVersion: preconditions.resourceVersion,
    propagationPolicy: (orphan === undefined ? policy : orphan === true ? 'Orphan' : 'Background') as DeleteOptions['propagationPolicy'],
  };
}

function check(grace: unknown, policy: unknown, orphan: unknown, dryRun: readonly string[]): void {
  const causes: StatusCause[] = [];
  if (grace !== undefined && !(typeof grace === 'number' && Number.isInteger(grace) && grace >= 0)) causes.push({ reason: 'FieldValueInvalid', message: `Invalid value: ${String(grace)}: must be greater than or equal to 0`, field: 'gracePeriodSeconds' });
  if (policy !== undefined && policy !== 'Background' && policy !== 'Foreground' && policy !== 'Orphan') {
    causes.push({ reason: 'FieldValueNotSupported', message: `Unsupported value: ${JSON.stringify(policy)}: supported values: "Foreground", "Background", "Orphan", "nil"`, field: 'propagationPolicy' });
  }
  if (policy !== undefined && orphan !== undefined) causes.push({ reason: 'FieldValueInvalid', message: `Invalid value: ${JSON.stringify(policy)}: orphanDependents and deletionPropagation cannot be both set`, field: 'propagationPolicy' });
  for (const value of dryRun) if (value !== 'All') causes.push({ reason: 'FieldValueNotSupported', message: `Unsupported value: "${value}": supported values: "All"`, field: 'dryRun' });
  if (causes.length > 0) throw invalid('DeleteOptions', 'meta.k8s.io', '', causes);
}
