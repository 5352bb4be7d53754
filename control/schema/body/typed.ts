// Fits a parsed body to its schema, in place: wrong types are a BadRequest in Go's words, unknown fields are collected and removed,
// null fields go, scalars become canonical (times in UTC, quantities, base64 checked). Called by `decode` for whole objects and after
// every patch. In a custom resource wrong types are left alone: its validation reports them as 422 with a path.
// Source: sigs.k8s.io/json (strict decoding), kube-apiserver's pruning.

import { NetloomError } from '../../../api/errors.ts';
import type { Schema } from '../schema.ts';
import { isRecord, setKey } from '../schema.ts';
import { canonicalQuantity, canonicalTime, isBase64 } from './scalars.ts';

/** What a walk found: paths of unknown fields, `spec.ports[0].targetport`, in document order. */
export interface FitReport { readonly unknown: string[] }

/** `at` is where the walk stands: field names, list indexes, and map keys (marked, since Go's messages leave them out). */
interface Walk { readonly kind: string; readonly version: string; readonly unknown: string[]; isLenient: boolean; readonly at: (string | number | MapKey)[] }
interface MapKey { readonly key: string }

/**
 * Fits `object` to `schema`, changing it in place. `isLenient` (custom resources) skips type errors below metadata.
 * Throws BadRequest: `Service in version "v1" cannot be handled as a Service: json: cannot unmarshal …`.
 */
export function fitToSchema(object: Record<string, unknown>, schema: Schema, gvk: { version: string; kind: string }, isLenient = false): FitReport {
  const walk: Walk = { kind: gvk.kind, version: gvk.version, unknown: [], isLenient, at: [] };
  fitObject(object, schema, walk);
  return { unknown: walk.unknown };
}

function fitObject(object: Record<string, unknown>, schema: Schema, walk: Walk): void {
  const properties = schema.properties;
  for (const key of Object.keys(object)) {
    const child = properties?.get(key);
    if (child === undefined) {
      if (schema.preservesUnknown && key !== '__proto__') continue;
      if (schema.isEmbedded && (key === 'apiVersion' || key === 'kind' || key === 'metadata')) continue;
      walk.unknown.push(pathOf([...walk.at, key]));
      delete object[key];
      continue;
    }
    const value = object[key];
    if (value === null && !child.isNullable && !walk.isLenient) { delete object[key]; continue; }
    walk.at.push(key);
    const fitted = fitValue(value, child, schema, walk);
    walk.at.pop();
    if (fitted === undefined || (child.dropsZero && isZero(fitted, child))) delete object[key];
    else if (fitted !== value) object[key] = fitted;
  }
}

/** `spec.ports[0].port`. */
function pathOf(at: Walk['at']): string {
  let path = '';
  for (const step of at) path += typeof step === 'number' ? `[${step}]` : `${path === '' ? '' : '.'}${typeof step === 'string' ? step : step.key}`;
  return path;
}

/** `spec.ports.port`: Go names the fields only, up to the first map. */
function goPathOf(at: Walk['at']): string {
  const end = at.findIndex((step) => typeof step === 'object');
  return at.slice(0, end < 0 ? at.length : end).filter((step) => typeof step === 'string').join('.');
}

function isZero(value: unknown, schema: Schema): boolean {
  if (value === '' || value === 0 || value === false) return schema.type !== 'intstr';
  if (Array.isArray(value)) return value.length === 0;
  return schema.type === 'map' && isRecord(value) && Object.keys(value).length === 0;
}

function fitValue(value: unknown, schema: Schema, owner: Schema, walk: Walk): unknown {
  if (value === null) return schema.isNullable || walk.isLenient ? null : zeroOf(schema);
  switch (schema.type) {
    case 'string': return typeof value === 'string' ? value : mismatch(value, schema, owner, walk);
    case 'object':
      if (!isRecord(value)) return mismatch(value, schema, owner, walk);
      if (walk.isLenient && schema.name === 'meta/v1.ObjectMeta') {
        walk.isLenient = false;
        fitObject(value, schema, walk);
        walk.isLenient = true;
      } else fitObject(value, schema, walk);
      return value;
    case 'list': return Array.isArray(value) ? fitList(value, schema, owner, walk) : mismatch(value, schema, owner, walk);
    case 'map': return isRecord(value) ? fitMap(value, schema, owner, walk) : mismatch(value, schema, owner, walk);
    case 'any': return value;
    default: return walk.isLenient ? value : fitScalar(value, schema, owner, walk);
  }
}

function fitList(list: unknown[], schema: Schema, owner: Schema, walk: Walk): unknown {
  for (let index = 0; index < list.length; index++) {
    walk.at.push(index);
    const fitted = fitValue(list[index], schema.items as Schema, owner, walk);
    walk.at.pop();
    if (fitted !== list[index]) list[index] = fitted;
  }
  return list;
}

function fitMap(map: Record<string, unknown>, schema: Schema, owner: Schema, walk: Walk): unknown {
  const items = schema.items as Schema;
  for (const key of Object.keys(map)) {
    const value = map[key];
    if (items.type === 'string' && typeof value === 'string') continue;
    walk.at.push({ key });
    const fitted = fitValue(value, items, owner, walk);
    walk.at.pop();
    if (fitted !== value) setKey(map, key, fitted);
  }
  return map;
}

function fitScalar(value: unknown, schema: Schema, owner: Schema, walk: Walk): unknown {
  switch (schema.type) {
    case 'bool': return typeof value === 'boolean' ? value : mismatch(value, schema, owner, walk);
    case 'int32': return Number.isInteger(value) && (value as number) >= -2147483648 && (value as number) <= 2147483647 ? value : mismatch(value, schema, owner, walk);
    case 'int64': return Number.isInteger(value) && Math.abs(value as number) <= 9223372036854775807 ? value : mismatch(value, schema, owner, walk);
    case 'double': return typeof value === 'number' ? value : mismatch(value, schema, owner, walk);
    case 'intstr':
      if (typeof value === 'string' || (Number.isInteger(value) && Math.abs(value as number) <= 2147483647)) return value;
      return mismatch(value, schema, owner, walk);
    case 'byte':
      if (typeof value !== 'string') return mismatch(value, schema, owner, walk);
      return isBase64(value) ? value : refuse(`illegal base64 data at input byte ${base64Fault(value)}`, walk);
    case 'time': case 'microtime': return fitTime(value, schema, owner, walk);
    case 'quantity': return fitQuantity(value, walk);
    default: return value;
  }
}

function fitTime(value: unknown, schema: Schema, owner: Schema, walk: Walk): unknown {
  if (typeof value !== 'string') return mismatch(value, schema, owner, walk);
  const layout = schema.type === 'time' ? '2006-01-02T15:04:05Z07:00' : '2006-01-02T15:04:05.000000Z07:00';
  return canonicalTime(value, schema.type === 'time' ? 0 : 6) ?? refuse(`parsing time ${JSON.stringify(value)} as ${JSON.stringify(layout)}: cannot parse`, walk);
}

function fitQuantity(value: unknown, walk: Walk): unknown {
  const text = typeof value === 'number' ? String(value) : value;
  const canonical = typeof text === 'string' ? canonicalQuantity(text) : undefined;
  return canonical ?? refuse("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'", walk);
}

/** Where Go's decoder would stop: the first byte that is not of the alphabet, else the end. */
function base64Fault(text: string): number {
  const at = text.search(/[^A-Za-z0-9+/\r\n]/);
  return at < 0 ? text.length - text.length % 4 : at;
}

function zeroOf(schema: Schema): unknown {
  switch (schema.type) {
    case 'object': case 'map': return {};
    case 'list': return [];
    case 'string': case 'byte': return '';
    case 'bool': return false;
    case 'int32': case 'int64': case 'double': case 'intstr': return 0;
    case 'quantity': return '0';
    default: return null;
  }
}

function mismatch(value: unknown, schema: Schema, owner: Schema, walk: Walk): unknown {
  if (walk.isLenient) return value;
  const struct = owner.name === undefined ? walk.kind : owner.name.slice(owner.name.indexOf('.') + 1);
  return refuse(`json: cannot unmarshal ${goWord(value)} into Go struct field ${struct}.${goPathOf(walk.at)} of type ${goType(schema)}`, walk);
}

function refuse(why: string, walk: Walk): never {
  throw new NetloomError('BadRequest', `${walk.kind} in version ${JSON.stringify(walk.version)} cannot be handled as a ${walk.kind}: ${why}`, { source: 'downstream' });
}

function goWord(value: unknown): string {
  if (typeof value === 'string') return 'string';
  if (typeof value === 'boolean') return 'bool';
  if (typeof value === 'number') return Number.isInteger(value) && Math.abs(value) < 2147483648 ? 'number' : `number ${value}`;
  return Array.isArray(value) ? 'array' : 'object';
}

function goType(schema: Schema): string {
  switch (schema.type) {
    case 'list': return `[]${goType(schema.items as Schema)}`;
    case 'map': return `map[string]${goType(schema.items as Schema)}`;
    case 'object': return schema.name === undefined ? 'map[string]interface {}' : schema.name.replace(/^.*\/(v\w+)\./, '$1.');
    case 'byte': return '[]uint8';
    case 'double': return 'float64';
    case 'time': return 'v1.Time';
    case 'microtime': return 'v1.MicroTime';
    case 'intstr': return 'intstr.IntOrString';
    default: return schema.type;
  }
}
