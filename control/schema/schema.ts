// The one form that a schema has in memory, whether it comes from the built-in data (`load`) or from a CustomResourceDefinition
// (`crd`). Decoding, pruning, strategic merge, server-side apply, defaulting of custom resources and OpenAPI all read this.
// A schema node stands at one place in a kind: facts about the place (merge key, list type) are on the node, the fields of the
// type behind it are reached through `properties`, which built-in types resolve on first use.

/** `object` has named properties, `map` free keys over `items`, `list` elements over `items`, `any` takes every JSON value. */
export type SchemaType = 'object' | 'map' | 'list' | 'string' | 'bool' | 'int32' | 'int64' | 'double' | 'byte' | 'time' | 'microtime' | 'intstr' | 'quantity' | 'any';

/** Value rules of a custom resource's schema (OpenAPI v3 subset); built-in kinds have hand-written validation instead. */
export interface ValueRules {
  readonly enum?: readonly unknown[];
  readonly format?: string; readonly pattern?: RegExp; readonly patternText?: string;
  readonly minLength?: number; readonly maxLength?: number;
  readonly minimum?: number; readonly maximum?: number; readonly isMinimumExclusive?: boolean; readonly isMaximumExclusive?: boolean; readonly multipleOf?: number;
  readonly minItems?: number; readonly maxItems?: number; readonly isUnique?: boolean;
  readonly minProperties?: number; readonly maxProperties?: number;
  readonly allOf?: readonly ValueSchema[]; readonly anyOf?: readonly ValueSchema[]; readonly oneOf?: readonly ValueSchema[]; readonly not?: ValueSchema;
  readonly cel?: readonly CelRule[];
}

/** A value-validation-only subtree of allOf/anyOf/oneOf/not: rules plus what they say about children. */
export interface ValueSchema extends ValueRules {
  readonly required?: readonly string[];
  readonly properties?: ReadonlyMap<string, ValueSchema>;
  readonly items?: ValueSchema; readonly values?: ValueSchema;
  readonly type?: string;
}

/** One entry of x-kubernetes-validations, as written. */
export interface CelRule { readonly rule: string; readonly message?: string; readonly messageExpression?: string; readonly reason?: string; readonly fieldPath?: string; readonly optionalOldSelf?: boolean }

export interface Schema {
  readonly type: SchemaType;
  /** Type name of a built-in object (`core/v1.ServicePort`); undefined elsewhere. */
  readonly name: string | undefined;
  /** Fields of an `object`; undefined for every other type. */
  readonly properties: ReadonlyMap<string, Schema> | undefined;
  /** Element of a `list`, value of a `map`. */
  readonly items: Schema | undefined;
  readonly required: readonly string[];
  /** Unknown fields are kept (custom resources with x-kubernetes-preserve-unknown-fields). */
  readonly preservesUnknown: boolean;
  /** The object is a whole Kubernetes object: apiVersion, kind and metadata are known whatever `properties` says. */
  readonly isEmbedded: boolean;
  readonly isNullable: boolean;
  /** A zero value is the same as none (Go's omitempty on a field that is no pointer). */
  readonly dropsZero: boolean;
  readonly listType: 'atomic' | 'set' | 'map';
  readonly listMapKeys: readonly string[];
  /** Server-side apply owns the map or object as one value. */
  readonly isAtomic: boolean;
  /** Strategic merge: key of a mergeable list of objects; '' for a mergeable list of scalars; undefined where the list is replaced. */
  readonly mergeKey: string | undefined;
  readonly hasRetainKeys: boolean;
  /** Strategic merge: the object is replaced as a whole. */
  readonly isReplaced: boolean;
  /** Default value: applied by `applySchemaDefaults` in custom resources, used for list keys in built-in kinds. */
  readonly default: unknown;
  readonly rules: ValueRules | undefined;
}

/** A schema node with every fact at its neutral value; builders override what they know. */
export const plainSchema: Schema = Object.freeze({
  type: 'any', name: undefined, properties: undefined, items: undefined, required: [], preservesUnknown: false, isEmbedded: false,
  isNullable: false, dropsZero: false, listType: 'atomic', listMapKeys: [], isAtomic: false, mergeKey: undefined, hasRetainKeys: false, isReplaced: false,
  default: undefined, rules: undefined,
} satisfies Schema);

/** True for a JSON object (not null, not a list). */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Sets an own property whatever its name: `__proto__` never reaches the setter of Object.prototype. */
export function setKey(target: Record<string, unknown>, key: string, value: unknown): void {
  if (key === '__proto__') Object.defineProperty(target, key, { value, enumerable: true, configurable: true, writable: true });
  else target[key] = value;
}

/** Reads an own property; inherited names (`constructor`, `toString`) count as absent. */
export function getKey(source: Record<string, unknown>, key: string): unknown {
  return Object.hasOwn(source, key) ? source[key] : undefined;
}

/** A deep copy of JSON data; own `__proto__` keys stay own keys. Cost O(size). */
export function cloneJson<T>(value: T): T {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map((item) => cloneJson(item as unknown)) as T;
  const out: Record<string, unknown> = {};
  for (const key of Object.keys(value)) setKey(out, key, cloneJson((value as Record<string, unknown>)[key]));
  return out as T;
}

/** True when two JSON values are equal; the order of object keys does not count. */
export function equalJson(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (Array.isArray(a)) return Array.isArray(b) && a.length === b.length && a.every((item, index) => equalJson(item, b[index]));
  if (!isRecord(a) || !isRecord(b)) return false;
  const keys = Object.keys(a);
  if (keys.length !== Object.keys(b).length) return false;
  return keys.every((key) => Object.hasOwn(b, key) && equalJson(a[key], b[key]));
}
