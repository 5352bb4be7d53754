// metadata.managedFields: reading it into one field set per manager, writing it back, and the two ways in which a write changes it.
// The API server calls
//   serverSideApply({ live, applied, manager, force, schema, now })      PATCH application/apply-patch+yaml
//   trackUpdate({ live, updated, manager, schema, now, subresource })    every other write, after defaults and admission
// Both return objects with managedFields set; neither changes its arguments. `applied` must have been decoded (pruned, canonical).
// Source: apimachinery pkg/util/managedfields, structured-merge-diff merge/update.go.

import { NetloomError } from '../../../api/errors.ts';
import type { KubeObject, ManagedFieldsEntry, StatusCause } from '../../../api/types.ts';
import type { Schema } from '../../schema/schema.ts';
import { equalJson } from '../../schema/schema.ts';
import type { FieldNode } from './field-set.ts';
import { compactSet, differenceSets, equalSets, fromFieldsV1, intersectSets, isEmptySet, memberPaths, newSet, pathText, toFieldsV1, unionSets } from './field-set.ts';
import type { Comparison } from './walk.ts';
import { addedFields, compareValues, fieldsOf, mergeApplied, removeFields } from './walk.ts';

/** Most Update managers of one object; the oldest beyond that share one entry. */
const updateManagerCountMax = 10;
const ancientManager = 'ancient-changes';

interface Manager { readonly manager: string; readonly operation: 'Apply' | 'Update'; readonly apiVersion: string; readonly subresource: string; readonly time: string | undefined; readonly set: FieldNode }
type Managers = Map<string, Manager>;

interface Common {
  /** Schema of the kind; undefined = everything is deduced (objects granular, lists atomic). */
  readonly schema: Schema | undefined;
  /** Field manager: query parameter, else the user agent up to "/". */
  readonly manager: string;
  readonly subresource?: string;
  /** RFC 3339 seconds, from the caller's clock. */
  readonly now: string;
  /** Top-level fields that this endpoint resets (`status` on the main one, `spec` on /status): never owned. */
  readonly ignore?: readonly string[];
}
export interface ApplyOptions extends Common { readonly live: KubeObject | undefined; readonly applied: KubeObject; readonly force: boolean }
export interface UpdateOptions extends Common { readonly live: KubeObject | undefined; readonly updated: KubeObject }

/** Steps of fields that nobody owns, at the top and in metadata. */
const neverOwned: ReadonlySet<string> = new Set(['f:apiVersion', 'f:kind']);
const neverOwnedMeta: ReadonlySet<string> = new Set(['name', 'namespace', 'creationTimestamp', 'selfLink', 'uid', 'generation', 'managedFields', 'resourceVersion'].map((name) => `f:${name}`));

/** Applies a configuration. `isChanged` is false when the live object already is what results. Throws Conflict with causes, BadRequest. */
export function serverSideApply(options: ApplyOptions): { object: KubeObject; isChanged: boolean } {
  const { live, applied, schema, manager, force } = options;
  if (applied.metadata.managedFields !== undefined) throw new NetloomError('BadRequest', 'metadata.managedFields must be nil', { source: 'downstream' });
  const managers = readManagers(live);
  if (live !== undefined && managers.size === 0) addBeforeFirst(managers, live, options);
  const self: Manager = { manager, operation: 'Apply', apiVersion: applied.apiVersion ?? '', subresource: options.subresource ?? '', time: options.now, set: newSet() };
  const id = identity(self);
  const last = managers.get(id);
  const wanted = owned(applied, schema, options.ignore);
  managers.set(id, { ...self, set: wanted });
  const base = live === undefined ? undefined : bare(live);
  let object = mergeApplied(base, without(bare(applied), options.ignore), schema) as KubeObject;
  if (last !== undefined) {
    const kept = [...managers.values()].reduce((all, entry) => unionSets(all, entry.set), newSet());
    object = removeFields(object, schema, last.set, keptAlways(kept)) as KubeObject;
  }
  const comparison = compare(base, object, schema);
  settle(managers, id, comparison, force);
  const isSame = last !== undefined && last.apiVersion === self.apiVersion && equalSets(last.set, wanted);
  if (isSame && last.time !== undefined) managers.set(id, { ...self, set: wanted, time: last.time });
  const result = withManagers(object, managers);
  return { object: result, isChanged: live === undefined || !equalJson(result, live) };
}

/** Records who owns what after an ordinary write. `updated` may carry managedFields of its own: those are taken as the base. */
export function trackUpdate(options: UpdateOptions): KubeObject {
  const { live, updated, schema, manager } = options;
  const managers = baseManagers(live, updated, options.subresource);
  const self: Manager = { manager: manager === '' ? 'unknown' : manager, operation: 'Update', apiVersion: updated.apiVersion ?? '', subresource: options.subresource ?? '', time: options.now, set: newSet() };
  const id = identity(self);
  const ignore = options.ignore ?? [];
  if (live === undefined && managers.size === 0) {
    const set = newFields(updated, schema, ignore);
    if (!isEmptySet(set)) managers.set(id, { ...self, set });
    return withManagers(updated, managers);
  }
  const comparison = compare(live === undefined ? undefined : without(bare(live), ignore), without(bare(updated), ignore), schema);
  const changed = strip(unionSets(comparison.added, comparison.modified), ignore);
  settle(managers, id, comparison, true);
  const before = managers.get(id);
  const set = unionSets(before === undefined ? newSet() : differenceSets(before.set, comparison.removed), changed);
  if (isEmptySet(set)) managers.delete(id);
  else managers.set(id, before !== undefined && equalSets(before.set, set) ? before : { ...self, set });
  capUpdaters(managers);
  return withManagers(updated, managers);
}

/** Takes changed fields from the other managers (Conflict unless forced) and removed fields from all. */
function settle(managers: Managers, self: string, comparison: Comparison, force: boolean): void {
  const changed = unionSets(comparison.added, comparison.modified);
  const conflicts: { entry: Manager; path: string[] }[] = [];
  for (const [id, entry] of managers) {
    const lost = id === self ? newSet() : intersectSets(entry.set, changed);
    if (!force) for (const path of memberPaths(lost)) conflicts.push({ entry, path });
    const set = differenceSets(differenceSets(entry.set, lost), id === self ? newSet() : comparison.removed);
    if (isEmptySet(set) && id !== self) managers.delete(id); else managers.set(id, { ...entry, set });
  }
  if (conflicts.length > 0) throw conflictError(conflicts);
}

function conflictError(conflicts: readonly { entry: Manager; path: string[] }[]): NetloomError {
  const causes: StatusCause[] = conflicts.map(({ entry, path }) => ({ reason: 'FieldManagerConflict', message: `conflict with ${managerText(entry)}`, field: pathText(path) }));
  const lines: string[] = [];
  if (conflicts.length === 1) lines.push(`${causes[0]?.message}: ${causes[0]?.field}`);
  else for (const text of [...new Set(causes.map((cause) => (cause.message ?? '').replace(/^conflict/, 'conflicts')))].sort()) {
    lines.push(`${text}:`, ...causes.filter((cause) => cause.message?.replace(/^conflict/, 'conflicts') === text).map((cause) => `- ${cause.field}`));
  }
  return new NetloomError('Conflict', `Apply failed with ${conflicts.length} conflict${conflicts.length === 1 ? '' : 's'}: ${lines.join('\n')}`, { source: 'downstream', details: { causes } });
}

function managerText(entry: Manager): string {
  if (entry.operation === 'Apply') return JSON.stringify(entry.manager);
  const subresource = entry.subresource === '' ? '' : ` with subresource ${JSON.stringify(entry.subresource)}`;
  return `${JSON.stringify(entry.manager)}${subresource} using ${entry.apiVersion}`;
}

function compare(live: unknown, value: unknown, schema: Schema | undefined): Comparison {
  const found = { added: newSet(), modified: newSet(), removed: newSet() };
  // The root and its metadata, spec and status are there before anything is: they are nobody's.
  compareValues(live ?? {}, value, schema, found);
  const comparison = { added: compactSet(found.added), modified: compactSet(found.modified), removed: compactSet(found.removed) };
  disownRoots(comparison.added);
  disownRoots(comparison.modified);
  return { added: strip(comparison.added), modified: strip(comparison.modified), removed: comparison.removed };
}

function disownRoots(set: FieldNode): void {
  for (const step of ['f:metadata', 'f:spec', 'f:status']) {
    const node = set.children.get(step);
    if (node !== undefined && node.children.size > 0) node.isMember = false;
  }
}

/** The fields of an object that comes into being. */
function newFields(object: KubeObject, schema: Schema | undefined, ignore: readonly string[]): FieldNode {
  const added = newSet();
  addedFields(object.metadata.managedFields === undefined ? object : bare(object), schema, added);
  const set = compactSet(added);
  disownRoots(set);
  return strip(set, ignore);
}

function owned(object: KubeObject, schema: Schema | undefined, ignore: readonly string[] = []): FieldNode {
  const set = newSet();
  fieldsOf(bare(object), schema, set);
  return strip(set, ignore);
}

/** The set without what nobody owns; the set itself when it has none of that. */
function strip(set: FieldNode, ignore: readonly string[] = []): FieldNode {
  const children = new Map<string, FieldNode>();
  let isChanged = false;
  for (const [step, child] of set.children) {
    const kept = neverOwned.has(step) || ignore.includes(step.slice(2)) ? undefined : step === 'f:metadata' ? stripMetadata(child) : child;
    if (kept !== child) isChanged = true;
    if (kept !== undefined) children.set(step, kept);
  }
  return isChanged ? { isMember: set.isMember, children } : set;
}

function stripMetadata(metadata: FieldNode): FieldNode | undefined {
  const children = new Map<string, FieldNode>();
  for (const [step, child] of metadata.children) if (!neverOwnedMeta.has(step)) children.set(step, child);
  if (children.size === metadata.children.size && children.size > 0) return metadata;
  const kept: FieldNode = { isMember: metadata.isMember, children };
  return children.size === 0 || isEmptySet(kept) ? undefined : kept;
}

/** What apply must not remove though no manager owns it. */
function keptAlways(kept: FieldNode): FieldNode {
  const always = newSet();
  for (const step of neverOwned) always.children.set(step, { isMember: true, children: new Map() });
  const metadata: FieldNode = { isMember: false, children: new Map([...neverOwnedMeta].map((step) => [step, { isMember: true, children: new Map() }])) };
  always.children.set('f:metadata', metadata);
  return unionSets(kept, always);
}

function bare(object: KubeObject): KubeObject {
  const { managedFields: _dropped, ...metadata } = object.metadata;
  return { ...object, metadata };
}

function without(object: KubeObject, ignore: readonly string[] = []): KubeObject {
  if (!ignore.some((field) => field in object)) return object;
  return Object.fromEntries(Object.entries(object).filter(([key]) => !ignore.includes(key))) as unknown as KubeObject;
}

/** An object that was never tracked: what it has belongs to nobody in particular. */
function addBeforeFirst(managers: Managers, live: KubeObject, options: ApplyOptions): void {
  const entry: Manager = { manager: 'before-first-apply', operation: 'Update', apiVersion: live.apiVersion ?? '', subresource: '', time: options.now, set: strip(compare(undefined, bare(live), options.schema).added, options.ignore) };
  if (!isEmptySet(entry.set)) managers.set(identity(entry), entry);
}

function identity(entry: Manager): string {
  return JSON.stringify([entry.manager, entry.operation, entry.operation === 'Apply' ? '' : entry.apiVersion, entry.subresource]);
}

/** The sent managedFields when they can be read and are not empty; `[{}]` resets; else those of the live object. */
function baseManagers(live: KubeObject | undefined, updated: KubeObject, subresource: string | undefined): Managers {
  const sent = updated.metadata.managedFields;
  if (subresource === undefined || subresource === '') {
    if (sent?.length === 1 && Object.keys(sent[0] ?? {}).length === 0) return new Map();
    const managers = readManagers(updated);
    if (managers.size > 0) return managers;
  }
  return readManagers(live);
}

function readManagers(object: KubeObject | undefined): Managers {
  const managers: Managers = new Map();
  for (const entry of object?.metadata.managedFields ?? []) {
    const set = readSet(entry.fieldsV1 ?? {});
    if (set === undefined || (entry.operation !== 'Apply' && entry.operation !== 'Update')) continue;
    const manager: Manager = { manager: entry.manager ?? '', operation: entry.operation, apiVersion: entry.apiVersion ?? '', subresource: entry.subresource ?? '', time: entry.time, set };
    managers.set(identity(manager), manager);
  }
  return managers;
}

// Stored objects are shared and never changed, so the sets of their entries are read once; sets are not changed either.
// Both maps start anew after so many sets: a set takes more memory than the fieldsV1 that it was read from.
const setsReadMax = 2000;
let setsRead = new WeakMap<object, FieldNode>();
let fieldsWritten = new WeakMap<FieldNode, Record<string, unknown>>();
let setsReadCount = 0;

function readSet(fields: Record<string, unknown>): FieldNode | undefined {
  const known = setsRead.get(fields);
  if (known !== undefined) return known;
  const set = fromFieldsV1(fields);
  if (set === undefined) return undefined;
  if (++setsReadCount > setsReadMax) {
    setsRead = new WeakMap();
    fieldsWritten = new WeakMap();
    setsReadCount = 0;
  }
  setsRead.set(fields, set);
  fieldsWritten.set(set, fields);
  return set;
}

function capUpdaters(managers: Managers): void {
  const updaters = [...managers].filter(([, entry]) => entry.operation === 'Update').sort(([, a], [, b]) => (a.time ?? '').localeCompare(b.time ?? ''));
  const surplus = updaters.length - updateManagerCountMax;
  if (surplus <= 0) return;
  // One more than the surplus, since the merged entry is one itself.
  const merged = updaters.slice(0, surplus + 1);
  for (const [id] of merged) managers.delete(id);
  const newest = (merged.at(-1) as [string, Manager])[1];
  const entry: Manager = { ...newest, manager: ancientManager, subresource: '', set: merged.reduce((all, [, one]) => unionSets(all, one.set), newSet()) };
  managers.set(identity(entry), entry);
}

function withManagers(object: KubeObject, managers: Managers): KubeObject {
  const entries = [...managers.values()].filter((entry) => !isEmptySet(entry.set)).sort((a, b) =>
    a.operation.localeCompare(b.operation) || (a.time ?? '').localeCompare(b.time ?? '') || a.manager.localeCompare(b.manager) || a.apiVersion.localeCompare(b.apiVersion) || a.subresource.localeCompare(b.subresource));
  const metadata = { ...object.metadata };
  if (entries.length === 0) delete metadata.managedFields; else metadata.managedFields = entries.map(toEntry);
  return { ...object, metadata };
}

function toEntry(entry: Manager): ManagedFieldsEntry {
  return {
    manager: entry.manager, operation: entry.operation, apiVersion: entry.apiVersion, ...(entry.time === undefined ? {} : { time: entry.time }),
    fieldsType: 'FieldsV1', fieldsV1: fieldsWritten.get(entry.set) ?? toFieldsV1(entry.set), ...(entry.subresource === '' ? {} : { subresource: entry.subresource }),
  };
}
