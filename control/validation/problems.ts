// Collects what is wrong with an object, in the words and with the reasons of the Kubernetes API server. Every validation file adds to
// one `Problems`; the API server turns its `causes` into a 422 with `invalid()`.
// Source: apimachinery pkg/util/validation/field/errors.go.

import type { StatusCause } from '../../api/types.ts';
import { isRecord } from '../schema/schema.ts';

/** Growing list of causes. Paths are written as `spec.ports[0].name`. */
export class Problems {
  readonly causes: StatusCause[] = [];

  get count(): number { return this.causes.length; }

  required(field: string, detail = ''): void { this.#add('FieldValueRequired', field, `Required value${suffix(detail)}`); }
  invalid(field: string, value: unknown, detail: string): void { this.#add('FieldValueInvalid', field, `Invalid value: ${goValue(value)}${suffix(detail)}`); }
  duplicate(field: string, value: unknown): void { this.#add('FieldValueDuplicate', field, `Duplicate value: ${goValue(value)}`); }
  forbidden(field: string, detail: string): void { this.#add('FieldValueForbidden', field, `Forbidden${suffix(detail)}`); }
  tooLong(field: string, bytesMax: number): void { this.#add('FieldValueTooLong', field, `Too long: may not be more than ${bytesMax} bytes`); }
  tooMany(field: string, count: number, max: number): void { this.#add('FieldValueTooMany', field, `Too many: ${count}: must have at most ${max} items`); }
  typeInvalid(field: string, value: unknown, detail: string): void { this.#add('FieldValueTypeInvalid', field, `Invalid value: ${goValue(value)}${suffix(detail)}`); }

  notSupported(field: string, value: unknown, supported: readonly string[]): void {
    const words = [...supported].sort().map((word) => JSON.stringify(word)).join(', ');
    this.#add('FieldValueNotSupported', field, `Unsupported value: ${goValue(value)}: supported values: ${words}`);
  }

  /** One `invalid` per complaint, as Go's validators return lists of messages. */
  invalidEach(field: string, value: unknown, complaints: readonly string[]): void { for (const text of complaints) this.invalid(field, value, text); }

  #add(reason: string, field: string, message: string): void { this.causes.push({ reason, message, field }); }
}

function suffix(detail: string): string { return detail === '' ? '' : `: ${detail}`; }

/** A value as Go prints it: strings quoted, numbers bare, lists of strings as `[]string{…}`, objects as JSON. */
function goValue(value: unknown): string {
  if (value === undefined || value === null) return 'null';
  if (Array.isArray(value) && value.every((item) => typeof item === 'string')) return `[]string{${value.map((item) => JSON.stringify(item)).join(', ')}}`;
  const text = JSON.stringify(value);
  return (isRecord(value) || Array.isArray(value)) && text.length > 1024 ? `${text.slice(0, 1024)}…` : text;
}
