// create, update and patch. Order as in Kubernetes: decode → place → server's metadata → defaults → admission (which may
// reserve addresses) → validation → commit; what admission reserved is given back when anything after it fails.
// A patch is an update whose object is computed from the live one; without a revision of its own it is tried again when
// somebody else was faster.
// Source: kubernetes/apiserver pkg/endpoints/handlers/{create,update,patch}.go, pkg/registry/generic/registry/store.go.

import { invalid, isAlreadyExists, isConflict, isNotFound, NetloomError } from '../../../api/errors.ts';

import type { KubeObject, StatusCause } from '../../../api/types.ts';
import { qualifiedResource, type ResourceInfo } from '../../resources.ts';
import { isNoopWrite } from '../../storage/stored.ts';
import type { Stored } from '../../storage/store.ts';
import type { RequestContext } from '../context.ts';
import { toServed } from '../conversion.ts';
import { requestProblems, requestStorage, stampRequester } from '../subresources/signing.ts';
import { readObject, storedForm } from './body.ts';
import { claimHolder, isClaimTaken } from './claims.ts';
import { completesDeletion, commitDeletion } from './finalize.ts';
import { checkPlace, generateName, inOrder, prepareCreate, prepareUpdate, staleError, uidError, type WritePart } from './meta.ts';
import { keyOf, notFoundError, sendShown, sendStored } from './read.ts';
import { readWriteOptions, type WriteOptions } from './write-options.ts';

type Whole = KubeObject & Record<string, unknown>;

/** Tries of a generated name that is taken, and of an unconditional write that lost a race. */
const generatedNameTries = 8;
const raceTries = 8;
/** Tries of a write whose numbers other servers took. */
const claimTries = 20;

/** POST to a collection. */
export async function createObject(context: RequestContext): Promise<void> {
  const options = readWriteOptions(context.exchange, 'CreateOptions');
  const object = await readObject(context, options);
  checkPlace(object, context.resource, context.info.namespace, '');
  await sendCreated(context, await createFrom(context, object, options));
}

async function sendCreated(context: RequestContext, result: WriteResult): Promise<void> {
  if (result.stored !== undefined) await sendStored(context, 201, result.stored);
  else await sendShown(context, 201, toServed(result.object, context.resource));
}

export interface WriteResult { readonly object: KubeObject; readonly stored: Stored | undefined; readonly isCreated: boolean }

/** The answer is the stored text as a rule, so the object is only read from it when somebody asks. */
function writtenAs(stored: Stored, isCreated: boolean): WriteResult {
  return { get object() { return stored.object; }, stored, isCreated };
}

/** Creates the decoded object. Throws AlreadyExists, Invalid, Forbidden. */
export async function createFrom(context: RequestContext, received: KubeObject, options: WriteOptions, manages: 'update' | 'applied' = 'update'): Promise<WriteResult> {
  const { resource, server } = context;
  if (server.registry.definition(resource)?.metadata.deletionTimestamp !== undefined) throw new NetloomError('MethodNotAllowed', 'create not allowed while custom resource definition is terminating', { source: 'downstream' });
  const isGenerated = received.metadata.name === undefined || received.metadata.name === '';
  const object = storedForm(context, inOrder(received, resource)) as Whole;
  prepareCreate(object, resource, server.clock);
  if (resource.storage === requestStorage) {
    stampRequester(object, context.user);
    throwCauses(resource, object, requestProblems(object));
  }
  for (let tries = 1; ; tries++) {
    try {
      return await createOnce(context, object, options, manages);
    } catch (error) {
      if (isClaimTaken(error)) { await learnHolder(context, object.metadata.name, error, tries); continue; }
      if (!isGenerated || !isAlreadyExists(error) || tries === generatedNameTries) throw error;
      object.metadata.name = generateName(object.metadata.generateName ?? '');
    }
  }
}

async function createOnce(context: RequestContext, prepared: Whole, options: WriteOptions, manages: 'update' | 'applied'): Promise<WriteResult> {
  const { resource, server, user } = context;
  const { storage, hooks } = server;
  const key = keyOf(resource, prepared.metadata.namespace ?? '', prepared.metadata.name);
  const defaulted = hooks.applyDefaults(prepared, resource);
  hooks.checkWriter(user, resource, defaulted, undefined);
  // What admission adds belongs to nobody: ownership is recorded before it.
  const owned = manages === 'applied' ? defaulted : hooks.trackUpdate({ live: undefined, updated: defaulted, resource, options, subresource: '' });
  const admitted = await hooks.admit({ operation: 'create', subresource: '', resource, object: owned, old: undefined, userInfo: user, dryRun: options.isDryRun });
  try {
    context.warnings.push(...admitted.warnings);
    throwCauses(resource, admitted.object, hooks.validateCreate(admitted.object, resource, user));
    const object = admitted.object;
    if (options.isDryRun) {
      if (storage.get(resource.storage, key) !== undefined) throw existsError(resource, prepared.metadata.name);
      admitted.onFailed();
      return { object, stored: undefined, isCreated: true };
    }
    const stored = await server.writes.create(resource.storage, key, object);
    admitted.onCommitted();
    return writtenAs(stored, true);
  } catch (error) {
    admitted.onFailed();
    if (isAlreadyExists(error) && !isClaimTaken(error)) throw existsError(resource, prepared.metadata.name);
    throw error;
  }
}

function existsError(resource: ResourceInfo, name: string): NetloomError {
  return new NetloomError('AlreadyExists', `${qualifiedResource(resource)} "${name}" already exists`, { source: 'downstream', details: { name, group: resource.group, kind: resource.resource } });
}

export function throwCauses(resource: ResourceInfo, object: KubeObject, causes: StatusCause[]): void {
  if (causes.length > 0) throw invalid(resource.kind, resource.group, object.metadata.name, causes);
}

/** PUT of one object. */
export async function updateObject(context: RequestContext, part: WritePart = 'main'): Promise<void> {
  const { resource, info, exchange } = context;
  const options = readWriteOptions(exchange, 'UpdateOptions');
  const received = await readObject(context, options);
  checkPlace(received, resource, info.namespace, info.name);
  if (received.metadata.name === undefined || received.metadata.name === '') received.metadata.name = info.name;
  const isThere = context.server.storage.get(resource.storage, keyOf(resource, info.namespace, info.name)) !== undefined;
  if (!isThere && resource.mayCreateOnUpdate && part === 'main' && received.metadata.uid === undefined && (received.metadata.resourceVersion ?? '') === '') {
    await sendCreated(context, await createFrom(context, received, options));
    return;
  }
  if (part === 'main' && resource.needsVersionOnUpdate && isThere && (received.metadata.resourceVersion ?? '') === '') {
    throw invalid(resource.kind, resource.group, info.name, [{ reason: 'FieldValueInvalid', message: 'Invalid value: 0x0: must be specified for an update', field: 'metadata.resourceVersion' }]);
  }
  const version = received.metadata.resourceVersion ?? '';
  const result = await updateFrom(context, options, part, version !== '', () => ({ ...received, metadata: { ...received.metadata } }));
  await sendUpdated(context, result);
}

export async function sendUpdated(context: RequestContext, result: WriteResult): Promise<void> {
  if (result.stored !== undefined) await sendStored(context, 200, result.stored);
  else await sendShown(context, 200, toServed(result.object, context.resource));
}

/**
 * Replaces the live object by what `compute` makes of it. `compute` gets the live object in the request's version and
 * returns a new object; with `isConditional` false it is called again when another write came between.
 */
export async function updateFrom(context: RequestContext, options: WriteOptions, part: WritePart, isConditional: boolean, compute: (live: KubeObject) => KubeObject | Promise<KubeObject>, manages: 'update' | 'applied' = 'update'): Promise<WriteResult> {
  const { resource, info, server } = context;
  const once = (): Promise<WriteResult> => updateOnce(context, options, part, compute, manages);
  for (let tries = 1; ; tries++) {
    try {
      return await (tries === 1 ? once() : server.retries.run(`${resource.storage}/${info.namespace}/${info.name}`, once));
    } catch (error) {
      if (isClaimTaken(error)) { await learnHolder(context, info.name, error, tries); continue; }
      if (!(isConflict(error) && (error as NetloomError).source === 'internal') || tries === raceTries) throw error;
      if (isConditional) throw staleError(context.resource, context.info.name);
    }
  }
}

/** Another server gave out the same number at the same moment: with its holder known, allocating again finds another one or refuses. */
async function learnHolder(context: RequestContext, name: string, error: NetloomError, tries: number): Promise<void> {
  const { resource, server } = context;
  if (tries === claimTries) throw invalid(resource.kind, resource.group, name, [{ reason: 'FieldValueInvalid', message: `Invalid value: "${error.details?.name ?? ''}": provided address or port is already allocated`, field: 'spec' }]);
  const holder = await claimHolder(server.storage, error);
  if (holder !== undefined) server.hooks.noteHolder(holder);
}

/** A conflict inside the store: somebody wrote between our read and our commit. */
function raceLost(): NetloomError { return new NetloomError('Conflict', 'the object changed meanwhile', { source: 'internal' }); }

async function updateOnce(context: RequestContext, options: WriteOptions, part: WritePart, compute: (live: KubeObject) => KubeObject | Promise<KubeObject>, manages: 'update' | 'applied'): Promise<WriteResult> {
  const { resource, server, user, info } = context;
  const { storage, hooks } = server;
  const key = keyOf(resource, info.namespace, info.name);
  const live = storage.get(resource.storage, key);
  if (live === undefined) throw notFoundError(resource, info.name);
  const computed = await compute(toServed(live.object, resource));
  checkPreconditions(resource, info.name, computed, live.object);
  // Defaults come first: what they fill in is no change that would raise the generation.
  const defaulted = hooks.applyDefaults(storedForm(context, inOrder(computed, resource)), resource) as Whole;
  const old = live.object as Whole;
  prepareUpdate(defaulted, old, resource, part, server.clock);
  hooks.checkWriter(user, resource, defaulted, old);
  const subresource = part === 'main' || part === 'other' ? '' : info.subresource;
  const owned = manages === 'applied' ? defaulted : hooks.trackUpdate({ live: old, updated: defaulted, resource, options, subresource });
  const admitted = await hooks.admit({ operation: 'update', subresource: info.subresource, resource, object: owned, old, userInfo: user, dryRun: options.isDryRun });
  let isKept = false;
  try {
    context.warnings.push(...admitted.warnings);
    throwCauses(resource, admitted.object, hooks.validateUpdate(admitted.object, old, resource, user, part === 'other' ? info.subresource : subresource));
    const next = admitted.object;
    if (options.isDryRun) return { object: next, stored: undefined, isCreated: false };
    if (completesDeletion(next, resource)) return { object: await commitDeletion(context, live, next), stored: undefined, isCreated: false };
    if (isNoopWrite(live, next)) return writtenAs(live, false);
    const stored = await server.writes.update(resource.storage, key, next, live).catch((error: unknown) => { throw !isClaimTaken(error) && (isConflict(error) || isNotFound(error)) ? raceLost() : error; });
    admitted.onCommitted();
    isKept = true;
    return writtenAs(stored, false);
  } finally {
    if (!isKept) admitted.onFailed();
  }
}

function checkPreconditions(resource: ResourceInfo, name: string, wanted: KubeObject, live: KubeObject): void {
  const { uid, resourceVersion } = wanted.metadata;
  if (uid !== undefined && uid !== '' && uid !== live.metadata.uid) throw uidError(resource, name, uid, live.metadata.uid ?? '');
  if (resourceVersion !== undefined && resourceVersion !== '' && resourceVersion !== '0' && resourceVersion !== live.metadata.resourceVersion) throw staleError(resource, name);
}
