// CustomResourceDefinitions made usable: `crdSchema(crd, version)` compiles one version once (memoised by CRD object) into what the
// API server needs for its custom kind:
//   decodeBody(bytes, type, { expect, schemaOf: (apiVersion, kind) => compiled.schema })   prunes, fits metadata
//   compiled.applyDefaults(object)                                                          instead of `applyDefaults`
//   validateCreate(object, { custom: compiled })                                            metadata rules + schema + CEL rules
//   compiled.columns, compiled.cells(object)                                                kubectl's table
// Next to it: `validation/crd` refuses definitions that are not structural; `crdConditions` is the status a definition gets.

import type { Condition, KubeObject, StatusCause } from '../../api/types.ts';
import { celProblem } from './custom/cel.ts';
import { compileRoot } from './custom/compile.ts';
import { applySchemaDefaults, validateBySchema } from './custom/values.ts';
import { findByJsonPath, parseJsonPath } from './custom/json-path.ts';
import type { CrdObject, CrdVersion } from './openapi-crd.ts';
import type { Schema } from './schema.ts';

export type { CrdObject, CrdVersion } from './openapi-crd.ts';

/** A column of kubectl's table; `priority` 0 is always shown. */
export interface CrdColumn { readonly name: string; readonly type: string; readonly format: string; readonly description: string; readonly priority: number }

export interface CompiledCrd {
  readonly apiVersion: string;
  readonly kind: string;
  readonly isNamespaced: boolean;
  readonly schema: Schema;
  readonly hasStatus: boolean;
  readonly scale: NonNullable<CrdVersion['subresources']>['scale'];
  /** Columns after NAME; without any in the definition: Age. */
  readonly columns: readonly CrdColumn[];
  /** CEL rules that are stored but not enforced, with the reason. */
  readonly unenforced: readonly string[];
  applyDefaults(object: KubeObject): void;
  validate(object: KubeObject, old: KubeObject | undefined): StatusCause[];
  /** Cells of the columns: date columns as RFC 3339 text, absent values as null. */
  cells(object: KubeObject): unknown[];
}

const made = new WeakMap<CrdObject, Map<string, CompiledCrd>>();

/** Compiles one version of a definition; undefined when it has no such version. Cost O(schema) once per stored CRD object. */
export function crdSchema(crd: CrdObject, versionName: string): CompiledCrd | undefined {
  let versions = made.get(crd);
  if (versions === undefined) made.set(crd, versions = new Map());
  const known = versions.get(versionName);
  if (known !== undefined) return known;
  const version = crd.spec?.versions.find((entry) => entry.name === versionName);
  if (version === undefined) return undefined;
  const compiled = compile(crd, version);
  versions.set(versionName, compiled);
  return compiled;
}

function compile(crd: CrdObject, version: CrdVersion): CompiledCrd {
  const schema = compileRoot(version.schema?.openAPIV3Schema ?? { 'x-kubernetes-preserve-unknown-fields': true });
  const columns = version.additionalPrinterColumns ?? [{ name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp' }];
  const paths = columns.map((column) => parseJsonPath(column.jsonPath));
  return {
    apiVersion: `${crd.spec?.group}/${version.name}`, kind: crd.spec?.names.kind ?? '', isNamespaced: crd.spec?.scope === 'Namespaced', schema,
    hasStatus: version.subresources?.status !== undefined, scale: version.subresources?.scale,
    columns: columns.map((column) => ({ name: column.name, type: column.type, format: column.format ?? '', description: column.description ?? '', priority: column.priority ?? 0 })),
    get unenforced() { return celRules(schema).flatMap((rule) => { const problem = celProblem(rule); return problem === undefined ? [] : [`${rule}: ${problem}`]; }); },
    applyDefaults: (object) => applySchemaDefaults(object, schema),
    validate: (object, old) => validateBySchema(object as unknown as Record<string, unknown>, old as unknown as Record<string, unknown> | undefined, schema),
    cells: (object) => paths.map((path, index) => cell(object, path, columns[index]?.type ?? 'string')),
  };
}

function cell(object: KubeObject, path: ReturnType<typeof parseJsonPath>, type: string): unknown {
  const values = path === undefined ? [] : findByJsonPath(object, path);
  const [first] = values;
  if (first === undefined || first === null) return null;
  switch (type) {
    case 'integer': return typeof first === 'number' ? Math.trunc(first) : null;
    case 'number': return typeof first === 'number' ? first : null;
    case 'boolean': return typeof first === 'boolean' ? first : null;
    default: return values.map((value) => (typeof value === 'string' ? value : JSON.stringify(value))).join(',');
  }
}

function celRules(schema: Schema): string[] {
  const own = (schema.rules?.cel ?? []).map((rule) => rule.rule);
  const items = schema.items === undefined ? [] : celRules(schema.items);
  const children = schema.name !== undefined || schema.properties === undefined ? [] : [...schema.properties.values()].filter((child) => child.name === undefined).flatMap(celRules);
  return [...own, ...items, ...children];
}

/** The status of an accepted definition: its names and the two conditions that clients wait for. `now` is RFC 3339. */
export function crdStatus(crd: CrdObject, now: string): Record<string, unknown> {
  const conditions: Condition[] = [
    { type: 'NamesAccepted', status: 'True', lastTransitionTime: now, reason: 'NoConflicts', message: 'no conflicts found' },
    { type: 'Established', status: 'True', lastTransitionTime: now, reason: 'InitialNamesAccepted', message: 'the initial names have been accepted' },
  ];
  const before = new Map(((crd.status?.['conditions'] ?? []) as Condition[]).map((condition) => [condition.type, condition]));
  const stored = crd.spec?.versions.filter((version) => version.storage === true).map((version) => version.name) ?? [];
  return {
    conditions: conditions.map((condition) => (before.get(condition.type)?.status === condition.status ? before.get(condition.type) : condition)),
    acceptedNames: crd.spec?.names, storedVersions: [...new Set([...((crd.status?.['storedVersions'] ?? []) as string[]), ...stored])],
  };
}
