// Kinds that netloom only stores for others have no rules of their own; what their schema calls required must still be there.
// Called by `validate`. Numbers, booleans and lists count as given, since their zero value may be meant.

import { getKey, isRecord } from '../schema/schema.ts';
import type { Schema } from '../schema/schema.ts';
import type { Problems } from './problems.ts';

/** Adds a complaint for each required text or object that is absent below `value`; `status` is not looked at. */
export function validateRequired(value: unknown, schema: Schema | undefined, path: string, problems: Problems): void {
  if (schema === undefined || schema.name === 'meta/v1.ObjectMeta') return;
  if (Array.isArray(value)) {
    value.forEach((item, index) => validateRequired(item, schema.items, `${path}[${index}]`, problems));
    return;
  }
  if (!isRecord(value)) return;
  if (schema.type === 'map') {
    for (const key of Object.keys(value)) validateRequired(value[key], schema.items, `${path}[${key}]`, problems);
    return;
  }
  for (const [name, child] of schema.properties ?? []) {
    if (path === '' && (name === 'status' || name === 'metadata')) continue;
    const inner = path === '' ? name : `${path}.${name}`;
    const field = getKey(value, name);
    if (field !== undefined && field !== '') validateRequired(field, child, inner, problems);
    else if (schema.required.includes(name) && ['string', 'byte', 'object'].includes(child.type)) problems.required(inner);
  }
}
