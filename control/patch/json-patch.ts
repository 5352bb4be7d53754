// JSON patch (RFC 6902), used for `application/json-patch+json`. Called by the API server's PATCH. Pure: the original is not changed.
// Limits keep a small request from costing much (CVE-2019-1002100): operations are counted, and so are the bytes that `copy` adds.
// A patch that does not apply is a 422, a patch that is no patch a 400, as the Kubernetes API server has it.

import { NetloomError } from '../../api/errors.ts';
import { cloneJson, equalJson, isRecord, setKey } from '../schema/schema.ts';

/** Most operations in one patch. */
export const operationCountMax = 10_000;
/** Most bytes that all `copy` operations of one patch may add. */
export const copyBytesMax = 3 * 1024 * 1024;

interface Operation { readonly op: string; readonly path: string[]; readonly from: string[]; readonly value: unknown; readonly text: string }

/** Applies the operations in order; all or nothing. Throws BadRequest (no JSON patch), RequestEntityTooLarge, Invalid (does not apply). */
export function jsonPatch(original: unknown, patch: unknown): unknown {
  if (!Array.isArray(patch)) throw new NetloomError('BadRequest', 'error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch', { source: 'downstream' });
  if (patch.length > operationCountMax) {
    throw new NetloomError('RequestEntityTooLarge', `The allowed maximum operations in a JSON patch is ${operationCountMax}, got ${patch.length}`, { source: 'downstream' });
  }
  const holder = { root: cloneJson(original) };
  let copiedBytes = 0;
  for (const entry of patch) {
    const operation = readOperation(entry);
    if (operation.op === 'copy') {
      copiedBytes += JSON.stringify(read(holder.root, operation.from, operation)).length;
      if (copiedBytes > copyBytesMax) throw inapplicable(operation, `copy size limit of ${copyBytesMax} bytes exceeded`);
    }
    apply(holder, operation);
  }
  return holder.root;
}

function readOperation(entry: unknown): Operation {
  if (!isRecord(entry)) throw new NetloomError('BadRequest', 'error decoding patch: an operation is no object', { source: 'downstream' });
  const { op, path, from } = entry;
  const text = `${String(op)} operation`;
  if (typeof op !== 'string' || !['add', 'remove', 'replace', 'move', 'copy', 'test'].includes(op)) throw malformed(`Unexpected kind: ${String(op)}`);
  if (typeof path !== 'string') throw malformed(`${text} does not contain a path`);
  if ((op === 'move' || op === 'copy') && typeof from !== 'string') throw malformed(`${text} does not contain from`);
  if ((op === 'add' || op === 'replace' || op === 'test') && !Object.hasOwn(entry, 'value')) throw malformed(`${text} does not contain a value`);
  return { op, path: pointer(path), from: typeof from === 'string' ? pointer(from) : [], value: entry['value'], text: `${op} operation at ${path}` };
}

function pointer(text: string): string[] {
  if (text === '') return [];
  if (!text.startsWith('/')) throw malformed(`the path ${JSON.stringify(text)} does not start with a slash`);
  return text.slice(1).split('/').map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
}

function apply(holder: { root: unknown }, operation: Operation): void {
  switch (operation.op) {
    case 'add': return put(holder, operation.path, cloneJson(operation.value), operation);
    case 'remove': return void take(holder, operation.path, operation);
    case 'replace':
      if (operation.path.length > 0) take(holder, operation.path, operation);
      return put(holder, operation.path, cloneJson(operation.value), operation);
    case 'move':
      if (operation.path.length > operation.from.length && operation.from.every((part, index) => part === operation.path[index])) throw inapplicable(operation, 'a value cannot move into itself');
      return put(holder, operation.path, take(holder, operation.from, operation), operation);
    case 'copy': return put(holder, operation.path, cloneJson(read(holder.root, operation.from, operation)), operation);
    default:
      if (!equalJson(readOrUndefined(holder.root, operation.path) ?? null, operation.value)) throw inapplicable(operation, 'testing value failed');
  }
}

function readOrUndefined(root: unknown, path: readonly string[]): unknown {
  let value = root;
  for (const part of path) {
    if (Array.isArray(value)) value = /^(0|[1-9]\d*)$/.test(part) ? value[Number(part)] as unknown : undefined;
    else if (isRecord(value) && Object.hasOwn(value, part)) value = value[part];
    else return undefined;
  }
  return value;
}

function read(root: unknown, path: readonly string[], operation: Operation): unknown {
  const value = readOrUndefined(root, path);
  if (value === undefined) throw inapplicable(operation, 'missing value');
  return value;
}

function put(holder: { root: unknown }, path: readonly string[], value: unknown, operation: Operation): void {
  const last = path.at(-1);
  if (last === undefined) { holder.root = value; return; }
  const parent = readOrUndefined(holder.root, path.slice(0, -1));
  if (Array.isArray(parent)) parent.splice(last === '-' ? parent.length : listIndex(last, parent.length, operation), 0, value);
  else if (isRecord(parent)) setKey(parent, last, value);
  else throw inapplicable(operation, 'missing path');
}

function take(holder: { root: unknown }, path: readonly string[], operation: Operation): unknown {
  const last = path.at(-1);
  if (last === undefined) throw inapplicable(operation, 'the whole document cannot be removed');
  const parent = readOrUndefined(holder.root, path.slice(0, -1));
  if (Array.isArray(parent)) return parent.splice(listIndex(last, parent.length - 1, operation), 1)[0];
  if (!isRecord(parent) || !Object.hasOwn(parent, last)) throw inapplicable(operation, `Unable to remove nonexistent key: ${last}`);
  const value = parent[last];
  delete parent[last];
  return value;
}

function listIndex(part: string, indexMax: number, operation: Operation): number {
  const index = /^(0|[1-9]\d*)$/.test(part) ? Number(part) : -1;
  if (index < 0 || index > indexMax) throw inapplicable(operation, `invalid index ${part}`);
  return index;
}

function malformed(why: string): NetloomError { return new NetloomError('BadRequest', `error decoding patch: ${why}`, { source: 'downstream' }); }

/** The API server's words; the cause says which operation failed. */
function inapplicable(operation: Operation, why: string): NetloomError {
  return new NetloomError('Invalid', 'the server rejected our request due to an error in our request', {
    source: 'downstream', details: { causes: [{ reason: 'FieldValueInvalid', message: `${operation.text}: ${why}`, field: `/${operation.path.join('/')}` }] },
  });
}
