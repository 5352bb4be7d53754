// Reading decoded objects in validation: a field is there with the right type or it counts as absent. Decoding has already refused
// wrong types, so these are for optional parts, not for guarding. Pure.

import { isRecord } from '../schema/schema.ts';

export type Fields = Record<string, unknown>;

/** The object at a field; an empty one when absent. */
export function part(target: unknown, field: string): Fields {
  const value = isRecord(target) ? target[field] : undefined;
  return isRecord(value) ? value : {};
}

/** The object at a field; undefined when absent. */
export function maybePart(target: unknown, field: string): Fields | undefined {
  const value = isRecord(target) ? target[field] : undefined;
  return isRecord(value) ? value : undefined;
}

/** The objects of a list; empty when absent. */
export function parts(target: unknown, field: string): Fields[] {
  const value = isRecord(target) ? target[field] : undefined;
  return Array.isArray(value) ? value.filter(isRecord) : [];
}

/** The strings of a list; empty when absent. */
export function texts(target: unknown, field: string): string[] {
  const value = isRecord(target) ? target[field] : undefined;
  return Array.isArray(value) ? value.filter((item): item is string => typeof item === 'string') : [];
}

/** A string field; '' when absent. */
export function text(target: unknown, field: string): string {
  const value = isRecord(target) ? target[field] : undefined;
  return typeof value === 'string' ? value : '';
}

/** A number field; undefined when absent. */
export function number(target: unknown, field: string): number | undefined {
  const value = isRecord(target) ? target[field] : undefined;
  return typeof value === 'number' ? value : undefined;
}

/** The string entries of a map. */
export function entries(target: unknown, field: string): [string, unknown][] {
  const value = isRecord(target) ? target[field] : undefined;
  return isRecord(value) ? Object.keys(value).map((key) => [key, value[key]]) : [];
}
