// The scale subresource (autoscaling/v1 Scale) of workloads and of custom kinds that declare it: a small view of spec
// replicas, status replicas and the selector as text. Writing it writes spec.replicas only.
// Source: kubernetes pkg/registry/apps/deployment/storage (ScaleREST), apiextensions-apiserver scale.

import { NetloomError } from '../../../api/errors.ts';
import { selectorFromLabelSelector, selectorFromMap } from '../../../api/meta.ts';
import type { KubeObject, LabelSelector } from '../../../api/types.ts';
import type { RequestContext } from '../context.ts';
import { toServed } from '../conversion.ts';
import { sendObject } from '../http/respond.ts';
import { methodNotAllowed } from '../errors.ts';
import { readObject } from '../verbs/body.ts';
import { applyPatch, readPatch } from '../verbs/patch.ts';
import { getStored, keyOf, notFoundError } from '../verbs/read.ts';
import { throwCauses, updateFrom } from '../verbs/write.ts';
import { readWriteOptions } from '../verbs/write-options.ts';
import { cloneJson } from '../../schema/schema.ts';

interface Scale extends KubeObject { spec: { replicas?: number }; status: { replicas: number; selector?: string } }
type Json = Record<string, unknown>;
interface Paths { spec: string[]; status: string[]; selector: string[] | undefined }

const scaleType = { apiVersion: 'autoscaling/v1', kind: 'Scale' };

/** GET, PUT and PATCH of .../scale. */
export async function serveScale(context: RequestContext): Promise<void> {
  const { info, exchange, negotiated, warnings } = context;
  const paths = pathsOf(context);
  const answer = { exchange, warnings, mediaType: negotiated.mediaType };
  if (info.verb === 'get') { await sendObject(answer, 200, scaleOf(toServed(getStored(context).object, context.resource), paths)); return; }
  if (info.verb !== 'update' && info.verb !== 'patch') throw methodNotAllowed(info);
  if (context.server.storage.get(context.resource.storage, keyOf(context.resource, info.namespace, info.name)) === undefined) throw notFoundError(context.resource, info.name);
  const options = readWriteOptions(exchange, info.verb === 'update' ? 'UpdateOptions' : 'PatchOptions');
  const compute = info.verb === 'update' ? await fromPut(context) : await fromPatch(context, paths);
  const result = await updateFrom(context, options, 'other', false, (live) => {
    const wanted = compute(live);
    checkReplicas(context, wanted);
    return withReplicas(live, paths, wanted);
  });
  await sendObject(answer, 200, scaleOf(toServed(result.object, context.resource), paths));
}

async function fromPut(context: RequestContext): Promise<(live: KubeObject) => Scale> {
  const scale = await readObject(context, { fieldValidation: 'Warn' }, scaleType) as Scale;
  return () => scale;
}

async function fromPatch(context: RequestContext, paths: Paths): Promise<(live: KubeObject) => Scale> {
  const patch = await readPatch(context, ['json', 'merge', 'strategic']);
  const kind = patch.kind === 'strategic' ? 'merge' : patch.kind;
  return (live) => applyPatch(kind, scaleOf(live, paths), patch.value, context) as Scale;
}

function checkReplicas(context: RequestContext, scale: Scale): void {
  const replicas = scale.spec?.replicas ?? 0;
  if (!Number.isInteger(replicas)) throw new NetloomError('BadRequest', `Scale in version "v1" cannot be handled as a Scale: spec.replicas is not a number`, { source: 'downstream' });
  if (replicas >= 0 && replicas <= 2_147_483_647) return;
  throwCauses({ ...context.resource, kind: 'Scale', group: 'autoscaling' }, scale, [{ reason: 'FieldValueInvalid', message: `Invalid value: ${replicas}: must be greater than or equal to 0`, field: 'spec.replicas' }]);
}

function pathsOf(context: RequestContext): Paths {
  const custom = context.server.registry.definitionVersion(context.resource)?.subresources?.scale;
  const split = (path: string): string[] => path.replace(/^\./, '').split('.');
  if (custom === undefined) return { spec: ['spec', 'replicas'], status: ['status', 'replicas'], selector: undefined };
  return { spec: split(custom.specReplicasPath), status: split(custom.statusReplicasPath), selector: custom.labelSelectorPath === undefined ? undefined : split(custom.labelSelectorPath) };
}

function at(object: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>((value, part) => (typeof value === 'object' && value !== null && Object.hasOwn(value, part) ? (value as Json)[part] : undefined), object);
}

function scaleOf(object: KubeObject, paths: Paths): Scale {
  const { name, namespace, uid, resourceVersion, creationTimestamp } = object.metadata;
  const selector = paths.selector === undefined ? selectorText((object as { spec?: { selector?: unknown } }).spec?.selector) : at(object, paths.selector);
  return {
    ...scaleType, metadata: { name, ...(namespace === undefined ? {} : { namespace }), ...(uid === undefined ? {} : { uid }), ...(resourceVersion === undefined ? {} : { resourceVersion }), ...(creationTimestamp === undefined ? {} : { creationTimestamp }) },
    spec: { replicas: Number(at(object, paths.spec) ?? 0) }, status: { replicas: Number(at(object, paths.status) ?? 0), ...(typeof selector === 'string' && selector !== '' ? { selector } : {}) },
  };
}

function selectorText(selector: unknown): string {
  if (typeof selector !== 'object' || selector === null) return '';
  const isSelector = 'matchLabels' in selector || 'matchExpressions' in selector;
  return (isSelector ? selectorFromLabelSelector(selector as LabelSelector) : selectorFromMap(selector as Record<string, string>)).toString();
}

function withReplicas(live: KubeObject, paths: Paths, scale: Scale): KubeObject {
  const next = cloneJson(live) as KubeObject & Json;
  if (scale.metadata?.resourceVersion !== undefined) next.metadata.resourceVersion = scale.metadata.resourceVersion;
  let target: Json = next;
  for (const part of paths.spec.slice(0, -1)) target = (target[part] ??= {}) as Json;
  target[paths.spec.at(-1) as string] = scale.spec?.replicas ?? 0;
  return next;
}
