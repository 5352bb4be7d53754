// Small tools of the default rules: set what is absent, reach into what may be absent. Pure data handling on decoded objects.

import { isRecord } from '../schema/schema.ts';

export type Fields = Record<string, unknown>;

/** Sets a field that is absent (undefined, null or the empty string, which Go's rules take for absent). */
export function fill(target: Fields, field: string, value: unknown): void {
  const present = target[field];
  if (present === undefined || present === null || present === '') target[field] = value;
}

/** The object at a field, made empty when absent. */
export function fieldsOf(target: Fields, field: string): Fields {
  const present = target[field];
  if (isRecord(present)) return present;
  const made: Fields = {};
  target[field] = made;
  return made;
}

/** The object at a field, undefined when absent. */
export function maybeFields(target: Fields | undefined, field: string): Fields | undefined {
  const present = target?.[field];
  return isRecord(present) ? present : undefined;
}

/** The objects of a list field; empty when absent. */
export function listOf(target: Fields | undefined, field: string): Fields[] {
  const present = target?.[field];
  return Array.isArray(present) ? present.filter(isRecord) : [];
}
