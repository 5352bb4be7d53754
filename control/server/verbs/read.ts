// get and list. Reads are served from memory; the resourceVersion parameter decides how recent the state must be.
// A list of plain objects is put together from the texts that the store keeps, piece by piece.
// Source: Kubernetes API concepts "Resource versions", "Retrieving large results sets in chunks".

import { NetloomError } from '../../../api/errors.ts';
import type { KubeObject } from '../../../api/types.ts';
import { groupVersion, qualifiedResource, type ResourceInfo } from '../../resources.ts';
import type { ListPage, Storage, Stored } from '../../storage/store.ts';
import type { RequestContext } from '../context.ts';
import { mayNeedConversion, toServed } from '../conversion.ts';
import { sendObject, sendPieces, sendText } from '../http/respond.ts';
import { metadataOf, tableOf } from '../printing/table.ts';
import { hasSelectors, isSelected, readContinueToken, readListOptions, writeContinueToken, type ListOptions } from './list-options.ts';

/** How long a read waits for a revision that is not here yet. */
const futureRevisionWaitMs = 3_000;

/** Key of an object in the store. */
export function keyOf(resource: ResourceInfo, namespace: string, name: string): string {
  return resource.isNamespaced ? `${namespace}/${name}` : name;
}

export function notFoundError(resource: ResourceInfo, name: string): NetloomError {
  return new NetloomError('NotFound', `${qualifiedResource(resource)} "${name}" not found`, { source: 'downstream', details: { name, group: resource.group, kind: resource.resource } });
}

/** The object, or NotFound. */
export function getStored(context: Pick<RequestContext, 'server' | 'resource' | 'info'>): Stored {
  const { server, resource, info } = context;
  const stored = server.storage.get(resource.storage, keyOf(resource, info.namespace, info.name));
  if (stored === undefined) throw notFoundError(resource, info.name);
  return stored;
}

/** GET of one object. */
export async function getObject(context: RequestContext): Promise<void> {
  await awaitRevision(context.server.storage, readListOptions(context.exchange.query, context.resource).revision);
  await sendStored(context, 200, getStored(context));
}

/** Answers with one stored object in the form that the client asked for. */
export async function sendStored(context: RequestContext, status: number, stored: Stored): Promise<void> {
  const answer = { exchange: context.exchange, warnings: context.warnings, mediaType: context.negotiated.mediaType };
  const isPlain = context.negotiated.form === 'object' && context.negotiated.mediaType === 'application/json';
  if (isPlain && (!mayNeedConversion(context.resource) || stored.object.apiVersion === groupVersion(context.resource))) { sendText(answer, status, stored.json()); return; }
  await sendShown(context, status, toServed(stored.object, context.resource));
}

/** Answers with one object that may not be stored (dry run). */
export async function sendShown(context: RequestContext, status: number, object: KubeObject): Promise<void> {
  const answer = { exchange: context.exchange, warnings: context.warnings, mediaType: context.negotiated.mediaType };
  const { form, version } = context.negotiated;
  const shown = form === 'table' ? tableOf(context, [object], {}) : form === 'metadata' ? metadataOf(object, version) : object;
  await sendObject(answer, status, shown);
}

/** Waits until the state is at least as recent as asked: undefined = most recent, 0 = whatever is here. */
export async function awaitRevision(storage: Storage, revision: number | undefined): Promise<void> {
  if (revision === 0) return;
  const wanted = revision ?? await storage.consistentRevision();
  if (wanted <= storage.revision || await storage.waitFor(wanted, futureRevisionWaitMs)) return;
  throw tooLargeRevision(wanted, storage.revision);
}

export function tooLargeRevision(wanted: number, current: number): NetloomError {
  return new NetloomError('Timeout', `Too large resource version: ${wanted}, current: ${current}`, {
    source: 'downstream', details: { causes: [{ reason: 'ResourceVersionTooLarge', message: 'Too large resource version' }], retryAfterSeconds: 1 },
  });
}

/** A page of a selection, sorted by key. */
export interface Selection { items: Stored[]; revision: number; continueToken: string | undefined; remaining: number | undefined }

/** Reads what a list asks for. Throws Expired with a token to go on inconsistently. */
export async function selectPage(storage: Storage, resource: ResourceInfo, namespace: string, options: ListOptions): Promise<Selection> {
  const token = options.continueToken === undefined ? undefined : readContinueToken(options.continueToken);
  if (token === undefined) await awaitRevision(storage, options.revision);
  const isExact = options.match === 'Exact' || (options.match === undefined && options.limit !== undefined && options.revision !== undefined && options.revision > 0);
  const atRevision = token !== undefined ? (token.revision < 0 ? undefined : token.revision) : isExact ? options.revision : undefined;
  const prefix = resource.isNamespaced && namespace !== '' ? `${namespace}/` : undefined;
  const isSelecting = hasSelectors(options);
  const direct = singleKey(resource, namespace, options);
  if (direct !== undefined && atRevision === undefined && token === undefined) {
    const stored = storage.get(resource.storage, direct);
    return { items: stored !== undefined && isSelected(stored.object, options) ? [stored] : [], revision: storage.revision, continueToken: undefined, remaining: undefined };
  }
  let page: ListPage;
  try {
    page = storage.list(resource.storage, { prefix, continueKey: token?.after, atRevision, ...(isSelecting ? {} : { limit: options.limit }) });
  } catch (error) {
    if (!(error instanceof NetloomError) || error.code !== 'Expired') throw error;
    throw token === undefined ? error : expiredContinue(token.after);
  }
  if (!isSelecting) {
    const { nextKey, remaining } = page;
    return { items: page.items, revision: page.revision, continueToken: nextKey === undefined ? undefined : writeContinueToken({ revision: page.revision, after: nextKey }), remaining };
  }
  return filterPage(page, options);
}

function filterPage(page: ListPage, options: ListOptions): Selection {
  const limit = options.limit ?? Infinity;
  const items: Stored[] = [];
  for (const stored of page.items) {
    if (!isSelected(stored.object, options)) continue;
    if (items.length === limit) return { items, revision: page.revision, continueToken: writeContinueToken({ revision: page.revision, after: (items.at(-1) as Stored).key }), remaining: undefined };
    items.push(stored);
  }
  return { items, revision: page.revision, continueToken: undefined, remaining: undefined };
}

/** The one key that a selection on metadata.name can match. */
export function singleKey(resource: ResourceInfo, namespace: string, options: Pick<ListOptions, 'name' | 'fields'>): string | undefined {
  if (options.name === undefined) return undefined;
  if (!resource.isNamespaced) return options.name;
  const inNamespace = namespace !== '' ? namespace : options.fields.find((field) => field.label === 'metadata.namespace' && !field.isNegated)?.value;
  return inNamespace === undefined ? undefined : `${inNamespace}/${options.name}`;
}

function expiredContinue(after: string): NetloomError {
  return new NetloomError('Expired', 'The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.', {
    source: 'downstream', context: { continue: writeContinueToken({ revision: -1, after }) },
  });
}

/** GET of a collection. */
export async function listObjects(context: RequestContext): Promise<void> {
  const { server, resource, info, exchange, negotiated } = context;
  const options = readListOptions(exchange.query, resource);
  const selection = await selectPage(server.storage, resource, info.namespace, options);
  const answer = { exchange, warnings: context.warnings, mediaType: negotiated.mediaType };
  const meta: Record<string, unknown> = { resourceVersion: String(selection.revision) };
  if (selection.continueToken !== undefined) meta['continue'] = selection.continueToken;
  if (selection.remaining !== undefined) meta['remainingItemCount'] = selection.remaining;
  const served = (): KubeObject[] => selection.items.map((stored) => toServed(stored.object, resource));
  if (negotiated.form === 'table') { await sendObject(answer, 200, tableOf(context, served(), meta)); return; }
  if (negotiated.form === 'metadata') {
    const apiVersion = `meta.k8s.io/${negotiated.version}`;
    await sendObject(answer, 200, { kind: 'PartialObjectMetadataList', apiVersion, metadata: meta, items: served().map((object) => metadataOf(object, negotiated.version)) });
    return;
  }
  const head = { kind: listKind(context), apiVersion: groupVersion(resource), metadata: meta };
  if (negotiated.mediaType === 'application/yaml') { await sendObject(answer, 200, { ...head, items: served() }); return; }
  await sendPieces(answer, 200, listParts(head, selection.items, resource));
}

function listKind(context: RequestContext): string {
  return context.server.registry.definition(context.resource)?.spec.names.listKind ?? `${context.resource.kind}List`;
}

/** The list's text in parts. Items of built-in kinds go without apiVersion and kind, as Kubernetes sends them. */
function* listParts(head: object, items: readonly Stored[], resource: ResourceInfo): Generator<string> {
  const needsConversion = mayNeedConversion(resource);
  const typePrefix = `{"apiVersion":"${groupVersion(resource)}","kind":"${resource.kind}",`;
  yield `${JSON.stringify(head).slice(0, -1)},"items":[`;
  let separator = '';
  for (const stored of items) {
    const text = needsConversion ? JSON.stringify(toServed(stored.object, resource)) : stored.json();
    yield separator;
    if (resource.crdName === undefined && text.startsWith(typePrefix)) {
      yield '{';
      yield text.slice(typePrefix.length);
    } else yield text;
    separator = ',';
  }
  yield ']}';
}
