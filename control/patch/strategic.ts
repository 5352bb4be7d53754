// Strategic merge patch, the form that `kubectl apply`, `edit`, `set` and `patch` send for built-in kinds: lists of objects with a merge
// key are merged item by item, all other lists are replaced. Called by the API server's PATCH with the kind's schema. Pure.
// Directives: `$patch: delete|replace|merge`, `$retainKeys`, `$setElementOrder/FIELD`, `$deleteFromPrimitiveList/FIELD`.
// Order of a merged list: patched items in the order that the patch names, server-only items keep their place relative to them.
// Source: apimachinery pkg/util/strategicpatch (mergeMap, mergeSlice, normalizeElementOrder).

import { NetloomError } from '../../api/errors.ts';
import type { Schema } from '../schema/schema.ts';
import { cloneJson, equalJson, isRecord, setKey } from '../schema/schema.ts';

type Fields = Record<string, unknown>;
const orderPrefix = '$setElementOrder/';
const deletePrefix = '$deleteFromPrimitiveList/';

/** The merged object. Throws BadRequest for a directive that makes no sense. Cost O(size · list length). */
export function strategicMerge(original: unknown, patch: unknown, schema: Schema | undefined): unknown {
  if (!isRecord(patch)) throw bad('the patch is no object');
  return mergeObject(isRecord(original) ? original : {}, patch, schema) ?? {};
}

/** Undefined when the patch says that the object goes. */
function mergeObject(original: Fields, patch: Fields, schema: Schema | undefined): Fields | undefined {
  const directive = patch['$patch'];
  if (directive === 'delete') return undefined;
  if (directive === 'replace') return withoutDirectives(patch) as Fields;
  if (directive !== undefined && directive !== 'merge') throw bad(`unknown patch type: ${String(directive)}`);
  const kept = retained(original, patch);
  const out: Fields = {};
  for (const key of Object.keys(kept)) setKey(out, key, cloneJson(kept[key]));
  for (const key of Object.keys(patch)) {
    if (key === '$patch' || key === '$retainKeys' || key.startsWith(orderPrefix)) continue;
    if (key.startsWith(deletePrefix)) { deleteScalars(out, key.slice(deletePrefix.length), patch[key]); continue; }
    const merged = mergeField(Object.hasOwn(out, key) ? out[key] : undefined, patch[key], childOf(schema, key), patch[orderPrefix + key]);
    if (merged === undefined) delete out[key]; else setKey(out, key, merged);
  }
  for (const key of Object.keys(patch)) {
    const field = key.slice(orderPrefix.length);
    if (!key.startsWith(orderPrefix) || Object.hasOwn(patch, field)) continue;
    const list = out[field];
    if (Array.isArray(list)) out[field] = ordered(list, list, patch[key], childOf(schema, field)?.mergeKey);
  }
  return out;
}

function childOf(schema: Schema | undefined, key: string): Schema | undefined {
  return schema?.type === 'map' ? schema.items : schema?.properties?.get(key);
}

function mergeField(current: unknown, change: unknown, schema: Schema | undefined, order: unknown): unknown {
  if (change === null) return undefined;
  if (isRecord(change) && schema?.isReplaced === true) return withoutDirectives(change);
  if (isRecord(change)) return mergeObject(isRecord(current) ? current : {}, change, schema);
  if (!Array.isArray(change)) return change;
  const mergeKey = schema?.mergeKey;
  if (mergeKey === undefined) return change.map((item) => withoutDirectives(item as unknown));
  const list = Array.isArray(current) ? current as unknown[] : [];
  return mergeKey === '' ? mergeScalars(list, change, order) : mergeItems(list, change as unknown[], schema as Schema, mergeKey, order);
}

/** `$retainKeys` keeps only the named keys of the original (union types such as Deployment strategy). */
function retained(original: Fields, patch: Fields): Fields {
  const keys = patch['$retainKeys'];
  if (keys === undefined) return original;
  if (!Array.isArray(keys)) throw bad('$retainKeys must be a list');
  return Object.fromEntries(Object.entries(original).filter(([key]) => keys.includes(key)));
}

function mergeScalars(list: readonly unknown[], change: readonly unknown[], order: unknown): unknown[] {
  const out = [...list];
  for (const item of change) if (!out.some((other) => equalJson(other, item))) out.push(cloneJson(item));
  return ordered(out, list, order ?? change, '');
}

function deleteScalars(out: Fields, field: string, values: unknown): void {
  if (!Array.isArray(values)) throw bad(`${deletePrefix}${field} must be a list`);
  const list = out[field];
  if (Array.isArray(list)) out[field] = list.filter((item) => !values.some((value) => equalJson(value, item)));
}

function mergeItems(list: readonly unknown[], change: readonly unknown[], schema: Schema, mergeKey: string, order: unknown): unknown[] {
  if (change.some((item) => isRecord(item) && item['$patch'] === 'replace' && !Object.hasOwn(item, mergeKey))) {
    return change.filter((item) => !(isRecord(item) && item['$patch'] === 'replace' && !Object.hasOwn(item, mergeKey))).map(withoutDirectives);
  }
  let out = list.map((item) => cloneJson(item));
  const touched: unknown[] = [];
  for (const item of change) {
    if (!isRecord(item)) throw bad('a list with a merge key has an item that is no object');
    const key = item[mergeKey];
    if (key === undefined) throw bad(`map: ${JSON.stringify(item)} does not contain declared merge key: ${mergeKey}`);
    if (item['$patch'] === 'delete') { out = out.filter((other) => !hasKey(other, mergeKey, key)); continue; }
    const index = out.findIndex((other) => hasKey(other, mergeKey, key));
    if (index < 0) out.push(mergeObject({}, item, schema.items) ?? {});
    else out[index] = mergeObject(out[index] as Fields, item, schema.items) ?? {};
    touched.push({ [mergeKey]: key });
  }
  return ordered(out, list, order ?? touched, mergeKey);
}

function hasKey(item: unknown, mergeKey: string, key: unknown): boolean { return isRecord(item) && equalJson(item[mergeKey], key); }

/**
 * Puts the items that `order` names into that order; each other item stays behind the item that stood before it on the server.
 * `before` is the server's list; '' as key compares scalars.
 */
function ordered(items: readonly unknown[], before: readonly unknown[], order: unknown, mergeKey: string | undefined): unknown[] {
  if (!Array.isArray(order) || mergeKey === undefined) return [...items];
  const keyOf = (item: unknown): string => JSON.stringify(mergeKey === '' ? item : isRecord(item) ? item[mergeKey] ?? null : null);
  const rank = new Map<string, number>();
  for (const entry of order as unknown[]) if (!rank.has(keyOf(entry))) rank.set(keyOf(entry), rank.size);
  const named = items.filter((item) => rank.has(keyOf(item))).sort((a, b) => (rank.get(keyOf(a)) ?? 0) - (rank.get(keyOf(b)) ?? 0));
  const others = items.filter((item) => !rank.has(keyOf(item)));
  const serverIndex = new Map(before.map((item, index) => [keyOf(item), index]));
  const out: unknown[] = [];
  let next = 0;
  for (const item of named) {
    const limit = serverIndex.get(keyOf(item));
    while (limit !== undefined && next < others.length && (serverIndex.get(keyOf(others[next])) ?? Infinity) < limit) out.push(others[next++]);
    out.push(item);
  }
  return [...out, ...others.slice(next)];
}

/** A value of the patch as it is stored: directives gone, nulls gone. */
function withoutDirectives(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutDirectives);
  if (!isRecord(value)) return value;
  const out: Fields = {};
  for (const key of Object.keys(value)) {
    if (key === '$patch' || key === '$retainKeys' || key.startsWith(orderPrefix) || key.startsWith(deletePrefix) || value[key] === null) continue;
    setKey(out, key, withoutDirectives(value[key]));
  }
  return out;
}

function bad(why: string): NetloomError { return new NetloomError('BadRequest', `unable to apply strategic merge patch: ${why}`, { source: 'downstream' }); }
