// Pure parts of a write to etcd: the guard that makes it safe, what a refusal means, what came of it.
// Used by ./storage.ts.

import { NetloomError } from '../../../api/errors.ts';
import type { StoreOp } from '../store.ts';
import { alreadyExists, conflict, notFound, StoredChange } from '../stored.ts';
import type { StoredObject } from '../stored.ts';
import { etcdCode } from './client.ts';
import type { EtcdError } from './client.ts';
import { decodeValue } from './codec.ts';
import type { EtcdEvent } from './watch-stream.ts';

interface KeyValue { mod_revision: string }

/** The comparison that must hold for the write to happen. */
export function guardOf(op: StoreOp, key: string): object {
  if (op.verb === 'create') return { key, target: 'MOD', result: 'EQUAL', mod_revision: '0' };
  if (op.expectedRevision === undefined) return { key, target: 'VERSION', result: 'GREATER', version: '0' };
  return { key, target: 'MOD', result: 'EQUAL', mod_revision: String(op.expectedRevision) };
}

/** Why the guards did not hold, from what lies under the keys. */
export function refusal(ops: readonly StoreOp[], present: readonly (KeyValue | undefined)[]): NetloomError {
  for (const [index, op] of ops.entries()) {
    const kv = present[index];
    if (op.verb === 'create') {
      if (kv !== undefined) return alreadyExists(op.resource, op.key);
      continue;
    }
    if (kv === undefined) return notFound(op.resource, op.key);
    if (op.expectedRevision !== undefined && Number(kv.mod_revision) !== op.expectedRevision) return conflict(op.resource, op.key);
  }
  return new NetloomError('InternalError', 'etcd refused a transaction whose guards hold');
}

/** True when an event is what this write, sent before, would have made. The first change of a transaction stands for all. */
export function isOwnWork(event: StoredChange, op: StoreOp, value: string | undefined): boolean {
  if (event.key !== op.key || (event.type === 'DELETED') !== (op.verb === 'delete')) return false;
  if (op.verb === 'create' ? event.previous !== undefined : op.expectedRevision !== undefined && event.previous?.revision !== op.expectedRevision) return false;
  return value === undefined || event.object.json() === decodeValue(op.key, event.revision, Buffer.from(value, 'base64')).json();
}

/** What the write answers: the version that it made, for a deletion the last one with the new revision. */
export function resultOf(op: StoreOp, revision: number, value: string | undefined, before: StoredObject | undefined): StoredObject {
  if (op.verb !== 'delete') return decodeValue(op.key, revision, Buffer.from(value as string, 'base64'));
  return withRevision(op.key, revision, before ?? decodeValue(op.key, revision, Buffer.from(JSON.stringify(op.lastObject ?? { metadata: { name: op.key } }))));
}

/** The change that an event makes to a state that shows `previous`; undefined when there is none. */
export function toChange(event: EtcdEvent, resource: string, key: string, previous: StoredObject | undefined, nowMs: number): StoredChange | undefined {
  const revision = Number(event.kv.mod_revision);
  if (event.type !== 'DELETE') {
    const object = decodeValue(key, revision, Buffer.from(event.kv.value ?? '', 'base64'));
    return new StoredChange(previous === undefined ? 'ADDED' : 'MODIFIED', resource, object, previous, nowMs);
  }
  return previous === undefined ? undefined : new StoredChange('DELETED', resource, withRevision(key, revision, previous), previous, nowMs);
}

function withRevision(key: string, revision: number, stored: StoredObject): StoredObject {
  const text = stored.json().replace(`"resourceVersion":"${stored.revision}",`, '');
  return decodeValue(key, revision, Buffer.from(text));
}

/** The error of a write that etcd will not take. */
export function writeError(error: EtcdError): NetloomError {
  if (error.code === etcdCode.resourceExhausted) {
    return new NetloomError('InsufficientStorage', `etcd has no space left: ${error.message}`, { cause: error, hint: 'compact and defragment etcd, then disarm its NOSPACE alarm' });
  }
  if (error.message.includes('too large')) return new NetloomError('RequestEntityTooLarge', `etcd: ${error.message}`, { cause: error });
  return new NetloomError('InternalError', `etcd: ${error.message}`, { cause: error });
}

/** The error of a write that found no etcd in time. */
export function unreachable(error: EtcdError, mayHaveWorked: boolean): NetloomError {
  return mayHaveWorked
    ? new NetloomError('Timeout', 'etcd did not answer in time; the write may or may not have happened', { cause: error })
    : new NetloomError('ServiceUnavailable', `etcd cannot be reached: ${error.message}`, { cause: error, details: { retryAfterSeconds: 1 } });
}
