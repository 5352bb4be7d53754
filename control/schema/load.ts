// Built-in schemas: reads control/schema/data/types/GROUP.VERSION.json on first use of that group-version and joins the facts.
// Called by decoding, patching, OpenAPI and the API server (`schemaFor`). Reading core/v1, the largest, costs about a millisecond;
// nothing is read at import.

import { readFileSync } from 'node:fs';
import { atomicTypes, fieldDefaults, fieldFacts, granularFields } from './facts.ts';
import { kindsOf, packageOf } from './kinds.ts';
import type { Schema, SchemaType } from './schema.ts';
import { plainSchema } from './schema.ts';

type Codes = Readonly<Record<string, string>>;
const packagesRead = new Map<string, Readonly<Record<string, Codes>>>();
const typesMade = new Map<string, TypeDefinition>();
const rootsMade = new Map<string, Schema | undefined>();

/** The schema of a built-in kind, undefined where netloom has none (custom kinds: `crd`). Memoised. */
export function schemaFor(apiVersion: string, kind: string): Schema | undefined {
  const key = `${apiVersion}/${kind}`;
  if (rootsMade.has(key)) return rootsMade.get(key);
  const packageName = packageOf(apiVersion);
  const schema = packageName === undefined || !kindsOf(packageName).some((row) => row.kind === kind) ? undefined : typeSchema(`${packageName}.${kind}`);
  if (schema !== undefined) rootsMade.set(key, schema);
  return schema;
}

/** The schema of a built-in type by name (`meta/v1.ObjectMeta`). Throws for an unknown name: a fault in our data. */
export function typeSchema(name: string): Schema { return objectNode(definition(name), {}); }

/** All type names of a package, as generated. */
export function typeNames(packageName: string): string[] { return Object.keys(readPackage(packageName)); }

/** The generated codes of one type: field → code (grammar: see `generate`). */
export function typeCodes(name: string): Codes { return definition(name).codes; }

function readPackage(packageName: string): Readonly<Record<string, Codes>> {
  let data = packagesRead.get(packageName);
  if (data === undefined) {
    const url = new URL(`./data/types/${packageName.replace('/', '.')}.json`, import.meta.url);
    packagesRead.set(packageName, data = JSON.parse(readFileSync(url, 'utf8')) as Record<string, Codes>);
  }
  return data;
}

function definition(name: string): TypeDefinition {
  let made = typesMade.get(name);
  if (made === undefined) {
    const dot = name.indexOf('.');
    const codes = readPackage(name.slice(0, dot))[name.slice(dot + 1)];
    if (codes === undefined) throw new Error(`no schema data for type ${name}`);
    typesMade.set(name, made = new TypeDefinition(name, codes));
  }
  return made;
}

/** The fields of one type, resolved on first use so that recursive types end. */
class TypeDefinition {
  readonly name: string;
  readonly codes: Codes;
  readonly required: readonly string[];
  #properties: ReadonlyMap<string, Schema> | undefined;

  constructor(name: string, codes: Codes) {
    this.name = name;
    this.codes = codes;
    this.required = Object.keys(codes).filter((field) => codes[field]?.includes('!') === true);
  }

  get properties(): ReadonlyMap<string, Schema> {
    if (this.#properties !== undefined) return this.#properties;
    const packageName = this.name.slice(0, this.name.indexOf('.'));
    const facts = fieldFacts[this.name] ?? {};
    const defaults = fieldDefaults[this.name] ?? {};
    const properties = new Map<string, Schema>();
    for (const [field, code] of Object.entries(this.codes)) {
      const place = { ...placeFacts(facts[field] ?? ''), default: defaults[field], dropsZero: code.endsWith('~') };
      properties.set(field, node(code.replace(/[!~]+$/, ''), packageName, place, granularFields.has(`${this.name}.${field}`)));
    }
    return this.#properties = properties;
  }
}

function node(code: string, packageName: string, place: Partial<Schema>, isGranular: boolean): Schema {
  if (code.startsWith('[]') || code.startsWith('{}')) {
    const items = node(code.slice(2), packageName, {}, false);
    return { ...plainSchema, ...place, type: code.startsWith('[]') ? 'list' : 'map', items };
  }
  if (!/[A-Z]/.test(code)) return { ...plainSchema, ...place, type: code as SchemaType };
  const made = objectNode(definition(code.includes('.') ? code : `${packageName}.${code}`), place);
  return isGranular ? Object.defineProperty(made, 'isAtomic', { value: false, enumerable: true }) : made;
}

function objectNode(type: TypeDefinition, place: Partial<Schema>): Schema {
  return Object.defineProperty({ ...plainSchema, ...place, type: 'object', name: type.name, required: type.required, isAtomic: atomicTypes.has(type.name) } as Schema, 'properties', {
    get: () => type.properties, enumerable: true,
  });
}

function placeFacts(words: string): Partial<Schema> {
  const facts: { -readonly [K in keyof Schema]?: Schema[K] } = {};
  for (const word of words.split(' ')) {
    const [name, value] = word.split('=');
    if (name === 'merge') facts.mergeKey = value ?? '';
    else if (name === 'map') { facts.listType = 'map'; facts.listMapKeys = (value ?? '').split(','); }
    else if (name === 'set') facts.listType = 'set';
    else if (name === 'retainKeys') facts.hasRetainKeys = true;
    else if (name === 'replace') facts.isReplaced = true;
    else if (name === 'atomic') facts.isAtomic = true;
  }
  return facts;
}
