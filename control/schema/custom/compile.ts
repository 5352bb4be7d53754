// Turns the openAPIV3Schema of a CustomResourceDefinition (a structural schema) into the one schema form of `schema`. Called by `crd`.
// Pure. Patterns and rules are compiled here once; schemas that are not structural have been refused by validation/crd.

import type { CelRule, Schema, SchemaType, ValueRules, ValueSchema } from '../schema.ts';
import { isRecord, plainSchema } from '../schema.ts';
import { typeSchema } from '../load.ts';

type Json = Record<string, unknown>;

/** The schema of a whole custom object: the CRD's, with apiVersion, kind and metadata as every object has them. */
export function compileRoot(json: Json): Schema {
  const root = compileSchema({ ...json, type: 'object' });
  const properties = new Map(root.properties);
  properties.set('apiVersion', { ...plainSchema, type: 'string' });
  properties.set('kind', { ...plainSchema, type: 'string' });
  properties.set('metadata', typeSchema('meta/v1.ObjectMeta'));
  return { ...root, type: 'object', items: undefined, properties };
}

/** One node with its children. */
export function compileSchema(json: Json): Schema {
  const type = typeOf(json);
  const base: Schema = {
    ...plainSchema, type,
    preservesUnknown: json['x-kubernetes-preserve-unknown-fields'] === true, isEmbedded: json['x-kubernetes-embedded-resource'] === true,
    isNullable: json['nullable'] === true, default: json['default'], required: strings(json['required']),
    isAtomic: json['x-kubernetes-map-type'] === 'atomic', rules: rulesOf(json),
  };
  if (type === 'list') {
    const listType = json['x-kubernetes-list-type'];
    return {
      ...base, items: isRecord(json['items']) ? compileSchema(json['items']) : plainSchema,
      listType: listType === 'map' || listType === 'set' ? listType : 'atomic', listMapKeys: strings(json['x-kubernetes-list-map-keys']),
    };
  }
  if (type === 'map') return { ...base, items: isRecord(json['additionalProperties']) ? compileSchema(json['additionalProperties']) : plainSchema };
  if (type !== 'object') return base;
  const properties = new Map<string, Schema>();
  if (isRecord(json['properties'])) for (const [name, child] of Object.entries(json['properties'])) if (isRecord(child)) properties.set(name, compileSchema(child));
  return { ...base, properties };
}

function typeOf(json: Json): SchemaType {
  if (json['x-kubernetes-int-or-string'] === true) return 'intstr';
  switch (json['type']) {
    case 'object': return json['additionalProperties'] !== undefined && json['additionalProperties'] !== false && json['properties'] === undefined ? 'map' : 'object';
    case 'array': return 'list';
    case 'string': return 'string';
    case 'integer': return 'int64';
    case 'number': return 'double';
    case 'boolean': return 'bool';
    default: return 'any';
  }
}

function strings(value: unknown): string[] { return Array.isArray(value) ? value.filter((item): item is string => typeof item === 'string') : []; }

function rulesOf(json: Json): ValueRules | undefined {
  const rules: { -readonly [K in keyof ValueRules]?: ValueRules[K] } = {};
  if (Array.isArray(json['enum'])) rules.enum = json['enum'];
  if (typeof json['format'] === 'string') rules.format = json['format'];
  if (typeof json['pattern'] === 'string') { rules.patternText = json['pattern']; rules.pattern = toPattern(json['pattern']); }
  for (const name of ['minLength', 'maxLength', 'minimum', 'maximum', 'multipleOf', 'minItems', 'maxItems', 'minProperties', 'maxProperties'] as const) {
    if (typeof json[name] === 'number') rules[name] = json[name];
  }
  if (json['exclusiveMinimum'] === true) rules.isMinimumExclusive = true;
  if (json['exclusiveMaximum'] === true) rules.isMaximumExclusive = true;
  if (json['uniqueItems'] === true) rules.isUnique = true;
  for (const name of ['allOf', 'anyOf', 'oneOf'] as const) if (Array.isArray(json[name])) rules[name] = json[name].filter(isRecord).map(valueSchema);
  if (isRecord(json['not'])) rules.not = valueSchema(json['not']);
  if (Array.isArray(json['x-kubernetes-validations'])) rules.cel = json['x-kubernetes-validations'].filter(isRecord) as unknown as CelRule[];
  return Object.keys(rules).length === 0 ? undefined : rules;
}

/** Patterns are Go's RE2; the few with inline flags or other syntax that JavaScript lacks match everything. */
function toPattern(text: string): RegExp {
  for (const flags of ['u', '']) {
    try {
      return new RegExp(text, flags);
    } catch {
      // Not valid with these flags: the next form may take it.
    }
  }
  return /(?:)/;
}

function valueSchema(json: Json): ValueSchema {
  const out: { -readonly [K in keyof ValueSchema]?: ValueSchema[K] } = { ...rulesOf(json) };
  if (Array.isArray(json['required'])) out.required = strings(json['required']);
  if (isRecord(json['properties'])) out.properties = new Map(Object.entries(json['properties']).flatMap(([name, child]) => (isRecord(child) ? [[name, valueSchema(child)]] : [])));
  if (isRecord(json['items'])) out.items = valueSchema(json['items']);
  if (isRecord(json['additionalProperties'])) out.values = valueSchema(json['additionalProperties']);
  if (typeof json['type'] === 'string') out.type = json['type'];
  return out;
}
