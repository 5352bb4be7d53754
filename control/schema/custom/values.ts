// Defaults and validation of custom resources by their compiled schema. Called by `crd`. Complaints carry the reasons, paths and words
// of the Kubernetes API server (`spec.replicas in body must be of type integer: "string"`).
// Source: apiextensions-apiserver pkg/apiserver/{schema/defaulting,validation}, kube-openapi pkg/validation.

import type { StatusCause } from '../../../api/types.ts';
import { checkRule, isTransitionRule } from './cel.ts';
import { hasFormat } from './formats.ts';
import type { Schema, ValueRules, ValueSchema } from '../schema.ts';
import { cloneJson, equalJson, isRecord, setKey } from '../schema.ts';

/** Most complaints about one object; the rest would not be read. */
const causeCountMax = 100;

/** Fills absent fields and drops nulls that the schema does not allow, in place. */
export function applySchemaDefaults(value: unknown, schema: Schema): void {
  if (isRecord(value)) {
    if (schema.properties !== undefined) {
      for (const [name, child] of schema.properties) {
        const current = Object.hasOwn(value, name) ? value[name] : undefined;
        if (current === null && !child.isNullable) { if (name !== 'metadata') delete value[name]; }
        if (child.default !== undefined && (current === undefined || (current === null && !child.isNullable))) setKey(value, name, cloneJson(child.default));
        const filled = Object.hasOwn(value, name) ? value[name] : undefined;
        if (filled !== undefined && child.name === undefined) applySchemaDefaults(filled, child);
      }
    } else if (schema.type === 'map' && schema.items !== undefined) for (const key of Object.keys(value)) applySchemaDefaults(value[key], schema.items);
  } else if (Array.isArray(value) && schema.items !== undefined) for (const item of value) applySchemaDefaults(item, schema.items);
}

/** What is wrong with a custom object; `old` is the stored one on updates. */
export function validateBySchema(object: Record<string, unknown>, old: Record<string, unknown> | undefined, schema: Schema): StatusCause[] {
  const causes: StatusCause[] = [];
  checkValue(object, old, schema, '', causes);
  return causes.slice(0, causeCountMax);
}

function add(causes: StatusCause[], reason: string, path: string, message: string): void { if (causes.length < causeCountMax) causes.push({ reason, message, field: path === '' ? '<nil>' : path }); }

function checkValue(value: unknown, old: unknown, schema: Schema, path: string, causes: StatusCause[]): void {
  if (value === null && schema.isNullable) return;
  if (!hasType(value, schema)) {
    add(causes, 'FieldValueTypeInvalid', path, `Invalid value: ${JSON.stringify(typeWord(value))}: ${path} in body must be of type ${schemaWord(schema)}: ${JSON.stringify(typeWord(value))}`);
    return;
  }
  const countBefore = causes.length;
  if (isRecord(value)) checkObject(value, isRecord(old) ? old : undefined, schema, path, causes);
  else if (Array.isArray(value)) checkList(value, Array.isArray(old) ? old : undefined, schema, path, causes);
  if (schema.rules === undefined) return;
  checkRules(value, schema.rules, path, causes);
  // Rules in CEL assume a value of the right form, so they are skipped when something below is wrong already.
  if (schema.rules.cel !== undefined && causes.length === countBefore) checkCel(value, old, schema, path, causes);
}

function checkObject(value: Record<string, unknown>, old: Record<string, unknown> | undefined, schema: Schema, path: string, causes: StatusCause[]): void {
  for (const name of schema.required) if (!Object.hasOwn(value, name) || value[name] === undefined) add(causes, 'FieldValueRequired', join(path, name), 'Required value');
  for (const key of Object.keys(value)) {
    const child = schema.type === 'map' ? schema.items : schema.properties?.get(key);
    // metadata and other built-in types were fitted when the object was decoded.
    if (child === undefined || child.name !== undefined || value[key] === undefined) continue;
    checkValue(value[key], old !== undefined && Object.hasOwn(old, key) ? old[key] : undefined, child, join(path, key), causes);
  }
  if (schema.isEmbedded) {
    for (const name of ['apiVersion', 'kind']) if (typeof value[name] !== 'string' || value[name] === '') add(causes, 'FieldValueRequired', join(path, name), 'Required value: must not be empty');
  }
}

function join(path: string, key: string): string { return path === '' ? key : `${path}.${key}`; }

function checkList(value: readonly unknown[], old: readonly unknown[] | undefined, schema: Schema, path: string, causes: StatusCause[]): void {
  const before = schema.listType === 'map' && old !== undefined ? new Map(old.map((item) => [keyOf(item, schema), item])) : undefined;
  const seen = new Set<string>();
  value.forEach((item, index) => {
    const at = `${path}[${index}]`;
    if (schema.listType !== 'atomic') {
      const key = keyOf(item, schema);
      if (seen.has(key)) add(causes, 'FieldValueDuplicate', at, `Duplicate value: ${key}`);
      seen.add(key);
    }
    if (schema.items !== undefined) checkValue(item, before?.get(keyOf(item, schema)), schema.items, at, causes);
  });
}

function keyOf(item: unknown, schema: Schema): string {
  if (schema.listType !== 'map' || !isRecord(item)) return JSON.stringify(item);
  return JSON.stringify(Object.fromEntries(schema.listMapKeys.map((key) => [key, item[key] ?? schema.items?.properties?.get(key)?.default])));
}

function hasType(value: unknown, schema: Schema): boolean {
  switch (schema.type) {
    case 'object': case 'map': return isRecord(value);
    case 'list': return Array.isArray(value);
    case 'string': return typeof value === 'string';
    case 'bool': return typeof value === 'boolean';
    case 'int64': return Number.isInteger(value);
    case 'double': return typeof value === 'number';
    case 'intstr': return typeof value === 'string' || Number.isInteger(value);
    default: return true;
  }
}

function schemaWord(schema: Schema): string {
  const words: Record<string, string> = { map: 'object', list: 'array', bool: 'boolean', int64: 'integer', double: 'number', intstr: 'integer,string' };
  return words[schema.type] ?? schema.type;
}

function typeWord(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  return typeof value === 'number' ? (Number.isInteger(value) ? 'integer' : 'number') : typeof value;
}

function goText(value: unknown): string { return isRecord(value) ? '"object"' : Array.isArray(value) ? '"array"' : JSON.stringify(value); }

function checkRules(value: unknown, rules: ValueRules, path: string, causes: StatusCause[]): void {
  const invalid = (text: string): void => add(causes, 'FieldValueInvalid', path, `Invalid value: ${goText(value)}: ${path} in body ${text}`);
  if (rules.enum !== undefined && !rules.enum.some((item) => equalJson(item, value))) {
    add(causes, 'FieldValueNotSupported', path, `Unsupported value: ${goText(value)}: supported values: ${rules.enum.map((item) => JSON.stringify(item)).join(', ')}`);
  }
  if (typeof value === 'string') checkText(value, rules, path, causes, invalid);
  else if (typeof value === 'number') checkNumber(value, rules, invalid);
  else if (Array.isArray(value)) {
    if (rules.minItems !== undefined && value.length < rules.minItems) invalid(`should have at least ${rules.minItems} items`);
    if (rules.maxItems !== undefined && value.length > rules.maxItems) add(causes, 'FieldValueTooMany', path, `Too many: ${value.length}: must have at most ${rules.maxItems} items`);
  } else if (isRecord(value)) {
    const count = Object.keys(value).length;
    if (rules.minProperties !== undefined && count < rules.minProperties) invalid(`should have at least ${rules.minProperties} properties`);
    if (rules.maxProperties !== undefined && count > rules.maxProperties) add(causes, 'FieldValueTooMany', path, `Too many: ${count}: must have at most ${rules.maxProperties} items`);
  }
  checkCombinations(value, rules, path, causes);
}

function checkText(value: string, rules: ValueRules, path: string, causes: StatusCause[], invalid: (text: string) => void): void {
  const length = rules.minLength === undefined && rules.maxLength === undefined ? 0 : [...value].length;
  if (rules.minLength !== undefined && length < rules.minLength) invalid(`should be at least ${rules.minLength} chars long`);
  if (rules.maxLength !== undefined && length > rules.maxLength) add(causes, 'FieldValueTooLong', path, `Too long: may not be more than ${rules.maxLength} bytes`);
  if (rules.pattern !== undefined && !rules.pattern.test(value)) invalid(`should match '${rules.patternText}'`);
  if (rules.format !== undefined && !hasFormat(value, rules.format)) invalid(`must be of type ${rules.format}: ${JSON.stringify(value)}`);
}

function checkNumber(value: number, rules: ValueRules, invalid: (text: string) => void): void {
  const { minimum, maximum, multipleOf } = rules;
  if (minimum !== undefined && (rules.isMinimumExclusive === true ? value <= minimum : value < minimum)) invalid(`should be greater than ${rules.isMinimumExclusive === true ? '' : 'or equal to '}${minimum}`);
  if (maximum !== undefined && (rules.isMaximumExclusive === true ? value >= maximum : value > maximum)) invalid(`should be less than ${rules.isMaximumExclusive === true ? '' : 'or equal to '}${maximum}`);
  if (multipleOf !== undefined && multipleOf !== 0 && !Number.isInteger(value / multipleOf)) invalid(`should be a multiple of ${multipleOf}`);
  if (rules.format === 'int32' && (value < -2147483648 || value > 2147483647)) invalid(`must be of type int32: "${value}"`);
}

function checkCombinations(value: unknown, rules: ValueRules, path: string, causes: StatusCause[]): void {
  const name = JSON.stringify(path);
  const complain = (text: string): void => add(causes, 'FieldValueInvalid', path, `Invalid value: ${goText(value)}: ${name} ${text}`);
  for (const part of rules.allOf ?? []) causes.push(...valueCauses(value, part, path));
  if (rules.anyOf !== undefined && !rules.anyOf.some((part) => valueCauses(value, part, path).length === 0)) complain('must validate at least one schema (anyOf)');
  if (rules.oneOf !== undefined) {
    const count = rules.oneOf.filter((part) => valueCauses(value, part, path).length === 0).length;
    if (count !== 1) complain(`must validate one and only one schema (oneOf). Found ${count === 0 ? 'none valid' : `${count} valid alternatives`}`);
  }
  if (rules.not !== undefined && valueCauses(value, rules.not, path).length === 0) complain('must not validate the schema (not)');
}

/** Complaints of a value-only subtree (inside allOf, anyOf, oneOf, not). */
function valueCauses(value: unknown, schema: ValueSchema, path: string): StatusCause[] {
  const causes: StatusCause[] = [];
  if (schema.type !== undefined && typeWord(value) !== schema.type && !(schema.type === 'number' && typeof value === 'number')) {
    add(causes, 'FieldValueTypeInvalid', path, `Invalid value: ${JSON.stringify(typeWord(value))}: ${path} in body must be of type ${schema.type}: ${JSON.stringify(typeWord(value))}`);
  }
  checkRules(value, schema, path, causes);
  if (isRecord(value)) {
    for (const name of schema.required ?? []) if (!Object.hasOwn(value, name)) add(causes, 'FieldValueRequired', join(path, name), 'Required value');
    for (const [name, child] of schema.properties ?? []) if (Object.hasOwn(value, name)) causes.push(...valueCauses(value[name], child, join(path, name)));
    if (schema.values !== undefined) for (const key of Object.keys(value)) causes.push(...valueCauses(value[key], schema.values, join(path, key)));
  } else if (Array.isArray(value) && schema.items !== undefined) {
    const items = schema.items;
    value.forEach((item, index) => causes.push(...valueCauses(item, items, `${path}[${index}]`)));
  }
  return causes;
}

function checkCel(value: unknown, old: unknown, schema: Schema, path: string, causes: StatusCause[]): void {
  for (const rule of schema.rules?.cel ?? []) {
    if (isTransitionRule(rule) && old === undefined) continue;
    const complaint = checkRule(rule, value, old, schema);
    if (complaint === undefined) continue;
    const reason = rule.reason ?? 'FieldValueInvalid';
    const at = rule.fieldPath === undefined ? path : `${path}${rule.fieldPath.startsWith('.') && path === '' ? rule.fieldPath.slice(1) : rule.fieldPath}`;
    const prefix = reason === 'FieldValueForbidden' ? 'Forbidden' : reason === 'FieldValueRequired' ? 'Required value' : reason === 'FieldValueDuplicate' ? `Duplicate value: ${goText(value)}` : `Invalid value: ${goText(value)}`;
    add(causes, reason, at, `${prefix}: ${complaint}`);
  }
}
