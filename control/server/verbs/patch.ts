// PATCH: JSON patch, merge patch, strategic merge patch and server-side apply. Each computes the new object from the
// live one, fits it to the kind's schema and goes the way of an update.
// Source: RFC 6902, RFC 7386, Kubernetes strategic merge patch; kubernetes/apiserver endpoints/handlers/patch.go.

import { invalid, NetloomError } from '../../../api/errors.ts';
import type { KubeObject } from '../../../api/types.ts';
import { jsonPatch } from '../../patch/json-patch.ts';
import { mergePatch } from '../../patch/merge-patch.ts';
import { strategicMerge } from '../../patch/strategic.ts';
import { groupVersion } from '../../resources.ts';
import { decodeValue, parsePatch } from '../../schema/decode.ts';
import { cloneJson, isRecord } from '../../schema/schema.ts';
import type { RequestContext } from '../context.ts';
import { bodyBytesMax } from './body.ts';
import type { WritePart } from './meta.ts';
import { keyOf, notFoundError, sendStored, sendShown } from './read.ts';
import { createFrom, sendUpdated, updateFrom, type WriteResult } from './write.ts';
import { readWriteOptions, type WriteOptions } from './write-options.ts';

export type PatchKind = 'json' | 'merge' | 'strategic' | 'apply';
const patchKinds: Record<string, PatchKind> = {
  'application/json-patch+json': 'json', 'application/merge-patch+json': 'merge',
  'application/strategic-merge-patch+json': 'strategic', 'application/apply-patch+yaml': 'apply',
};

/** The patch in a request's body. Throws UnsupportedMediaType, BadRequest. */
export async function readPatch(context: RequestContext, allowed: readonly PatchKind[] = ['json', 'merge', 'strategic', 'apply']): Promise<{ kind: PatchKind; value: unknown; duplicates: readonly string[] }> {
  const type = (context.exchange.headers['content-type'] ?? '').split(';')[0]?.trim() ?? '';
  const kind = patchKinds[type];
  const isCustom = context.resource.crdName !== undefined;
  if (kind === undefined || !allowed.includes(kind) || (isCustom && kind === 'strategic')) {
    const names = Object.keys(patchKinds).filter((name) => allowed.includes(patchKinds[name] as PatchKind) && !(isCustom && patchKinds[name] === 'strategic'));
    throw new NetloomError('UnsupportedMediaType', `the body of the request was in an unknown format - accepted media types include: ${names.join(', ')}`, { source: 'downstream' });
  }
  const bytes = await context.exchange.readBody(bodyBytesMax);
  const { value, duplicates } = parsePatch(bytes, type);
  if (kind !== 'json' && !isRecord(value)) throw new NetloomError('BadRequest', 'the body of a patch must be an object', { source: 'downstream' });
  return { kind, value, duplicates };
}

/** Applies a patch other than server-side apply to a JSON value. Never changes its inputs. */
export function applyPatch(kind: PatchKind, live: unknown, patch: unknown, context: Pick<RequestContext, 'server' | 'resource'>): unknown {
  if (kind === 'json') return jsonPatch(cloneJson(live), patch);
  if (kind === 'merge') return mergePatch(cloneJson(live), cloneJson(patch));
  return strategicMerge(cloneJson(live), cloneJson(patch), context.server.hooks.schemaOf(context.resource));
}

/** PATCH of one object or of a subresource that is part of it. */
export async function patchObject(context: RequestContext, part: WritePart = 'main'): Promise<void> {
  const options = readWriteOptions(context.exchange, 'PatchOptions');
  const patch = await readPatch(context);
  if (patch.kind === 'apply') { await applyObject(context, patch, options, part); return; }
  if (options.force !== undefined) throw invalid('PatchOptions', 'meta.k8s.io', '', [{ reason: 'FieldValueForbidden', message: 'Forbidden: may not be specified for non-apply patch', field: 'force' }]);
  const isConditional = isRecord(patch.value) && isRecord(patch.value['metadata']) && patch.value['metadata']['resourceVersion'] !== undefined;
  const result = await updateFrom(context, options, part, isConditional, (live) => fit(context, applyPatch(patch.kind, live, patch.value, context), options, patch.duplicates));
  await sendUpdated(context, result);
}

/** The patched value as an object of the kind: unknown fields and wrong types are told as for any other body. */
function fit(context: RequestContext, value: unknown, options: WriteOptions, duplicates: readonly string[]): KubeObject {
  const { resource, server, info } = context;
  const { object, warnings } = decodeValue(value, {
    strict: options.fieldValidation, expect: { apiVersion: groupVersion(resource), kind: resource.kind },
    ...(resource.crdName === undefined ? {} : { schemaOf: () => server.hooks.schemaOf(resource) }),
  }, duplicates);
  for (const warning of warnings) if (!context.warnings.includes(warning)) context.warnings.push(warning);
  if (object.metadata.name !== info.name) {
    throw new NetloomError('BadRequest', `the name of the object (${object.metadata.name}) does not match the name on the URL (${info.name})`, { source: 'downstream' });
  }
  if ((object.metadata.namespace ?? '') !== (resource.isNamespaced ? info.namespace : '')) throw new NetloomError('BadRequest', 'the namespace of the provided object does not match the namespace sent on the request', { source: 'downstream' });
  return object;
}

/** Server-side apply: creates the object or merges what this manager wants into it. */
async function applyObject(context: RequestContext, patch: { value: unknown; duplicates: readonly string[] }, options: WriteOptions, part: WritePart): Promise<void> {
  const { resource, server, info, exchange } = context;
  if (!exchange.query.has('fieldManager') || exchange.query.get('fieldManager') === '') {
    throw invalid('PatchOptions', 'meta.k8s.io', '', [{ reason: 'FieldValueRequired', message: 'Required value: is required for apply patch', field: 'fieldManager' }]);
  }
  const applied = decodeValue(cloneJson(patch.value), {
    strict: options.fieldValidation, expect: { apiVersion: groupVersion(resource), kind: resource.kind },
    ...(resource.crdName === undefined ? {} : { schemaOf: () => server.hooks.schemaOf(resource) }),
  }, patch.duplicates);
  context.warnings.push(...applied.warnings);
  const wanted = applied.object;
  if (wanted.metadata.managedFields !== undefined) throw new NetloomError('BadRequest', 'metadata.managedFields must be nil', { source: 'downstream' });
  wanted.metadata.name ??= info.name;
  if (resource.isNamespaced) wanted.metadata.namespace ??= info.namespace;
  const key = keyOf(resource, info.namespace, info.name);
  const apply = (live: KubeObject | undefined): KubeObject => server.hooks.apply({ live, applied: cloneJson(wanted), resource, options, subresource: part === 'main' ? '' : info.subresource });
  if (server.storage.get(resource.storage, key) === undefined) {
    if (part !== 'main') throw notFoundError(resource, info.name);
    if (wanted.metadata.uid !== undefined) throw notFoundError(resource, info.name);
    await sendResult(context, 201, await createFrom(context, apply(undefined), options, 'applied'));
    return;
  }
  const isConditional = wanted.metadata.resourceVersion !== undefined;
  await sendUpdated(context, await updateFrom(context, options, part, isConditional, (live) => apply(cloneJson(live)), 'applied'));
}

async function sendResult(context: RequestContext, status: number, result: WriteResult): Promise<void> {
  if (result.stored !== undefined) await sendStored(context, status, result.stored); else await sendShown(context, status, result.object);
}
