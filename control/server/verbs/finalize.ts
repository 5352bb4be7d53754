// When a deletion is complete: the object is marked, nothing holds it back any more, and its grace time is over.
// Source: kubernetes/apiserver pkg/registry/generic/registry/store.go (deleteWithoutFinalizers, ShouldDeleteDuringUpdate).

import { isConflict, isNotFound, NetloomError } from '../../../api/errors.ts';
import type { KubeObject } from '../../../api/types.ts';
import type { ResourceInfo } from '../../resources.ts';
import type { Stored } from '../../storage/store.ts';
import type { RequestContext } from '../context.ts';

/** Whether storing this state would leave an object that only waits to vanish. */
export function completesDeletion(object: KubeObject, resource: ResourceInfo): boolean {
  const { deletionTimestamp, deletionGracePeriodSeconds, finalizers } = object.metadata;
  if (deletionTimestamp === undefined || (finalizers?.length ?? 0) > 0) return false;
  if (resource.storage === 'namespaces') return ((object as { spec?: { finalizers?: string[] } }).spec?.finalizers?.length ?? 0) === 0;
  return deletionGracePeriodSeconds === undefined || deletionGracePeriodSeconds === 0;
}

/** Removes the object; its last state is what the write made of it. */
export async function commitDeletion(context: Pick<RequestContext, 'server' | 'resource'>, live: Stored, last: KubeObject): Promise<KubeObject> {
  try {
    return (await context.server.writes.delete(context.resource.storage, live.key, live, last)).object;
  } catch (error) {
    if (isConflict(error) || isNotFound(error)) throw new NetloomError('Conflict', 'the object changed meanwhile', { source: 'internal', cause: error });
    throw error;
  }
}
