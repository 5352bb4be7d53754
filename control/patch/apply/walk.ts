// The four walks of server-side apply over typed values: which fields a value has (`fieldsOf`), what changed between two values
// (`compareValues`), an applied configuration laid over a live object (`mergeApplied`), and fields taken out (`removeFields`).
// All follow the schema: atomic values are one field, `map` lists are walked by their keys, sets by value; where there is no schema,
// objects are granular and lists atomic. Used by `managers`. Pure; `fieldsOf` and `compareValues` fill the sets they are given.
// Source: sigs.k8s.io/structured-merge-diff typed (tofieldset.go, compare.go, merge.go, remove.go).

import { NetloomError } from '../../../api/errors.ts';
import type { Schema } from '../../schema/schema.ts';
import { cloneJson, equalJson, isRecord, setKey } from '../../schema/schema.ts';
import type { FieldNode } from './field-set.ts';
import { childNode, pathText } from './field-set.ts';

type Fields = Record<string, unknown>;
type Shape = 'leaf' | 'object' | 'list';

/** How a value is walked: as one field, by names, or item by item. */
function shapeOf(value: unknown, schema: Schema | undefined): Shape {
  if (isRecord(value)) return schema?.isAtomic === true || (schema !== undefined && !['object', 'map', 'any'].includes(schema.type)) ? 'leaf' : 'object';
  if (Array.isArray(value)) return schema?.type === 'list' && schema.listType !== 'atomic' ? 'list' : 'leaf';
  return 'leaf';
}

function childSchema(schema: Schema | undefined, key: string): Schema | undefined {
  if (schema?.type === 'map') return schema.items;
  return schema?.properties?.get(key);
}

/** The step of a list item: `k:{"port":80,"protocol":"TCP"}` with absent keys defaulted, or `v:"x"`. */
export function itemStep(item: unknown, schema: Schema): string {
  if (schema.listType === 'set') return `v:${JSON.stringify(item)}`;
  const keys: Fields = {};
  for (const key of [...schema.listMapKeys].sort()) {
    const value = isRecord(item) ? item[key] : undefined;
    const known = value ?? schema.items?.properties?.get(key)?.default;
    if (known !== undefined) keys[key] = known;
  }
  return `k:${JSON.stringify(keys)}`;
}

/** Adds the fields that an applied configuration names: leaves, list items, empty objects. Throws BadRequest for a key twice or missing. */
export function fieldsOf(value: unknown, schema: Schema | undefined, node: FieldNode): void {
  switch (shapeOf(value, schema)) {
    case 'leaf': node.isMember = true; return;
    case 'list':
      for (const item of value as unknown[]) {
        const step = itemStep(item, schema as Schema);
        const child = childNode(node, step);
        if (child.isMember) throw badList(`duplicate entries for key ${pathText([step])}`);
        fieldsOf(item, schema?.items, child);
        child.isMember = true;
      }
      return;
    default: {
      const keys = Object.keys(value as Fields);
      if (keys.length === 0) node.isMember = true;
      for (const key of keys) fieldsOf((value as Fields)[key], childSchema(schema, key), childNode(node, `f:${key}`));
    }
  }
}

function badList(why: string): NetloomError { return new NetloomError('BadRequest', `failed to create typed patch object: ${why}`, { source: 'downstream' }); }

/** What differs between a live and a new value. */
export interface Comparison { readonly added: FieldNode; readonly modified: FieldNode; readonly removed: FieldNode }

interface Cursor { readonly added: FieldNode; readonly modified: FieldNode; readonly removed: FieldNode }

function descend(at: Cursor, step: string): Cursor {
  return { added: childNode(at.added, step), modified: childNode(at.modified, step), removed: childNode(at.removed, step) };
}

/** Fills the comparison; undefined stands for an absent value. */
export function compareValues(live: unknown, value: unknown, schema: Schema | undefined, at: Comparison): void {
  if (live === undefined && value === undefined) return;
  if (live === undefined) { addWhole(value, schema, at.added, schema?.dropsZero !== true); return; }
  if (value === undefined) { addWhole(live, schema, at.removed, true); return; }
  const shape = shapeOf(value, schema);
  if (shape === 'leaf' || shapeOf(live, schema) !== shape) { if (!equalJson(live, value)) at.modified.isMember = true; return; }
  if (shape === 'object') {
    const before = live as Fields;
    const after = value as Fields;
    for (const key of new Set([...Object.keys(before), ...Object.keys(after)])) {
      const left = Object.hasOwn(before, key) ? before[key] : undefined;
      const right = Object.hasOwn(after, key) ? after[key] : undefined;
      if (left !== right) compareValues(left, right, childSchema(schema, key), descend(at, `f:${key}`));
    }
    return;
  }
  const before = itemsByStep(live as unknown[], schema as Schema);
  const after = itemsByStep(value as unknown[], schema as Schema);
  for (const step of new Set([...before.keys(), ...after.keys()])) compareValues(before.get(step), after.get(step), schema?.items, descend(at, step));
}

/** What `compareValues` adds when there was nothing before: for new objects, at half the cost. */
export function addedFields(value: object, schema: Schema | undefined, added: FieldNode): void {
  for (const [key, field] of Object.entries(value)) {
    const child = childSchema(schema, key);
    if (field !== undefined) addWhole(field, child, childNode(added, `f:${key}`), child?.dropsZero !== true);
  }
}

/** Items by their step. Items that share a step (a client may store two variables of one name) come as one list. */
function itemsByStep(list: readonly unknown[], schema: Schema): Map<string, unknown> {
  const out = new Map<string, unknown>();
  const shared = new Map<string, unknown[]>();
  for (const item of list) {
    const step = itemStep(item, schema);
    if (!out.has(step)) { out.set(step, item); continue; }
    const group = shared.get(step) ?? [out.get(step)];
    shared.set(step, group);
    group.push(item);
    out.set(step, group);
  }
  return out;
}

/** Every field of a value that came or went as a whole, with its containers where those can be absent. */
function addWhole(value: unknown, schema: Schema | undefined, node: FieldNode, ownsContainer: boolean): void {
  const shape = shapeOf(value, schema);
  // A null is Go's way to write "not set" (template.metadata.creationTimestamp): nobody owns it.
  if (shape === 'leaf') { node.isMember = value !== null; return; }
  if (ownsContainer || schema?.type !== 'object') node.isMember = true;
  if (shape === 'list') {
    for (const [step, item] of itemsByStep(value as unknown[], schema as Schema)) addWhole(item, schema?.items, childNode(node, step), true);
    return;
  }
  const keys = Object.keys(value as Fields);
  if (keys.length === 0) node.isMember = true;
  for (const key of keys) {
    const child = childSchema(schema, key);
    addWhole((value as Fields)[key], child, childNode(node, `f:${key}`), child?.dropsZero !== true);
  }
}

/** The live value with the applied one laid over it. Lists of items keep live order around the applied order. */
export function mergeApplied(live: unknown, applied: unknown, schema: Schema | undefined): unknown {
  if (applied === undefined) return cloneJson(live);
  const shape = shapeOf(applied, schema);
  if (live === undefined || shape === 'leaf' || shapeOf(live, schema) !== shape) return shape === 'list' ? mergeList([], applied as unknown[], schema as Schema) : cloneJson(applied);
  if (shape === 'list') return mergeList(live as unknown[], applied as unknown[], schema as Schema);
  const before = live as Fields;
  const after = applied as Fields;
  const out: Fields = {};
  for (const key of Object.keys(before)) setKey(out, key, mergeApplied(before[key], Object.hasOwn(after, key) ? after[key] : undefined, childSchema(schema, key)));
  for (const key of Object.keys(after)) if (!Object.hasOwn(before, key)) setKey(out, key, mergeApplied(undefined, after[key], childSchema(schema, key)));
  return out;
}

function mergeList(live: readonly unknown[], applied: readonly unknown[], schema: Schema): unknown[] {
  const before = new Map<string, unknown>();
  const after = itemsByStep(applied, schema);
  const liveSteps = live.map((item) => itemStep(item, schema));
  liveSteps.forEach((step, index) => { if (!before.has(step)) before.set(step, live[index]); });
  const appliedSteps = [...after.keys()];
  const done = new Set<string>();
  const out: unknown[] = [];
  let liveIndex = 0;
  let appliedIndex = 0;
  while (liveIndex < liveSteps.length || appliedIndex < appliedSteps.length) {
    const liveStep = liveSteps[liveIndex];
    if (liveStep !== undefined && !after.has(liveStep)) { out.push(cloneJson(live[liveIndex++])); continue; }
    if (liveStep !== undefined && done.has(liveStep)) { liveIndex++; continue; }
    const step = appliedSteps[appliedIndex++];
    if (step === undefined) break;
    out.push(mergeApplied(before.get(step), after.get(step), schema.items));
    done.add(step);
  }
  return out;
}

/**
 * Takes out of `value` the fields of `last` that nobody in `kept` owns, and returns it (undefined: the whole value goes).
 * Named fields on the way to an owned field count as owned, list items only when they are members themselves.
 */
export function removeFields(value: unknown, schema: Schema | undefined, last: FieldNode, kept: FieldNode | undefined): unknown {
  const shape = shapeOf(value, schema);
  if (shape === 'leaf') return value;
  if (shape === 'list') {
    return (value as unknown[]).flatMap((item) => {
      const step = itemStep(item, schema as Schema);
      const child = last.children.get(step);
      if (child === undefined) return [item];
      const owner = kept?.children.get(step);
      if (child.isMember && owner?.isMember !== true) return [];
      return [removeFields(item, schema?.items, child, owner)];
    });
  }
  const out: Fields = {};
  for (const key of Object.keys(value as Fields)) {
    const child = last.children.get(`f:${key}`);
    const owner = kept?.children.get(`f:${key}`);
    const field = (value as Fields)[key];
    if (child === undefined) setKey(out, key, field);
    else if (owner !== undefined) setKey(out, key, removeFields(field, childSchema(schema, key), child, owner));
  }
  return out;
}
