// Custom resources: pruning, defaults, validation in Kubernetes' words, CEL rules, list types for apply, printer columns, definitions.

import { describe, expect, test } from 'vitest';
import type { KubeObject } from '../../../api/types.ts';
import { applyDefaults } from '../../../control/defaults/defaults.ts';
import { serverSideApply } from '../../../control/patch/apply/managers.ts';
import type { CompiledCrd, CrdObject } from '../../../control/schema/crd.ts';
import { crdSchema, crdStatus } from '../../../control/schema/crd.ts';
import { decodeBody } from '../../../control/schema/decode.ts';
import { findByJsonPath, parseJsonPath } from '../../../control/schema/custom/json-path.ts';
import { validateCreate, validateUpdate } from '../../../control/validation/validate.ts';

type Json = Record<string, unknown>;

function definition(spec: Json, more: Json = {}): CrdObject {
  return {
    apiVersion: 'apiextensions.k8s.io/v1', kind: 'CustomResourceDefinition', metadata: { name: 'gadgets.example.com' },
    spec: {
      group: 'example.com', scope: 'Namespaced', names: { plural: 'gadgets', kind: 'Gadget', singular: 'gadget', listKind: 'GadgetList' },
      versions: [{ name: 'v1', served: true, storage: true, schema: { openAPIV3Schema: { type: 'object', properties: { spec } } }, ...more }],
    },
  } as CrdObject;
}
function compile(spec: Json, more?: Json): CompiledCrd {
  const compiled = crdSchema(definition(spec, more), 'v1');
  if (compiled === undefined) throw new Error('no such version');
  return compiled;
}
const gadget = (spec: unknown, metadata: Json = {}): KubeObject => ({ apiVersion: 'example.com/v1', kind: 'Gadget', metadata: { name: 'a', namespace: 'default', ...metadata }, spec } as unknown as KubeObject);
const decode = (compiled: CompiledCrd, object: unknown, strict: 'Strict' | 'Warn' = 'Warn') =>
  decodeBody(Buffer.from(JSON.stringify(object)), 'application/json', { strict, expect: { apiVersion: 'example.com/v1', kind: 'Gadget' }, schemaOf: () => compiled.schema });
const specOf = (object: KubeObject): unknown => (object as unknown as { spec: unknown }).spec;
const texts = (compiled: CompiledCrd, spec: unknown, old?: unknown): string[] => {
  const context = { custom: compiled };
  const causes = old === undefined ? validateCreate(gadget(spec), context) : validateUpdate(gadget(spec), gadget(old), context);
  return causes.map((cause) => `${cause.reason} ${cause.field}: ${cause.message}`);
};

describe('pruning', () => {
  const compiled = compile({
    type: 'object', properties: {
      known: { type: 'string' }, map: { type: 'object', additionalProperties: { type: 'object', properties: { a: { type: 'integer' } } } },
      free: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true, properties: { inner: { type: 'object', properties: { a: { type: 'string' } } } } },
      list: { type: 'array', items: { type: 'object', properties: { a: { type: 'string' } } } }, embedded: { type: 'object', 'x-kubernetes-embedded-resource': true, 'x-kubernetes-preserve-unknown-fields': true },
    },
  });
  test('unknown fields go, except where they are preserved', () => {
    const { object, warnings } = decode(compiled, gadget({ known: 'a', nope: 1, map: { k: { a: 1, b: 2 } }, free: { x: 1, inner: { a: 'b', c: 1 } }, list: [{ a: 'x', b: 1 }], embedded: { apiVersion: 'v1', kind: 'Pod', spec: { x: 1 } } }));
    expect(specOf(object)).toEqual({ known: 'a', map: { k: { a: 1 } }, free: { x: 1, inner: { a: 'b' } }, list: [{ a: 'x' }], embedded: { apiVersion: 'v1', kind: 'Pod', spec: { x: 1 } } });
    expect(warnings).toEqual(['unknown field "spec.nope"', 'unknown field "spec.map.k.b"', 'unknown field "spec.free.inner.c"', 'unknown field "spec.list[0].b"']);
  });
  test('Strict refuses them', () => { expect(() => decode(compiled, gadget({ nope: 1 }), 'Strict')).toThrow('strict decoding error: unknown field "spec.nope"'); });
  test('wrong types below spec are left to validation, in metadata they are a 400', () => {
    expect(specOf(decode(compiled, gadget({ known: 1 })).object)).toEqual({ known: 1 });
    expect(() => decode(compiled, gadget({}, { labels: 'x' }))).toThrow('cannot unmarshal string into Go struct field');
  });
  test('zero values are kept: custom resources have no omitempty', () => { expect(specOf(decode(compiled, gadget({ known: '', list: [] })).object)).toEqual({ known: '', list: [] }); });
});

test('defaults fill what is absent, inside lists and maps, and replace forbidden nulls', () => {
  const compiled = compile({
    type: 'object', properties: {
      size: { type: 'integer', default: 3 }, mode: { type: 'string', default: 'a', nullable: true }, drop: { type: 'string' },
      outer: { type: 'object', default: {}, properties: { inner: { type: 'object', default: { x: 1 }, properties: { x: { type: 'integer' }, y: { type: 'integer', default: 2 } } } } },
      list: { type: 'array', items: { type: 'object', properties: { p: { type: 'string', default: 'TCP' } } } }, map: { type: 'object', additionalProperties: { type: 'object', properties: { q: { type: 'boolean', default: false } } } },
      absent: { type: 'object', properties: { z: { type: 'integer', default: 1 } } },
    },
  });
  const object = gadget({ size: null, mode: null, drop: null, list: [{}], map: { k: {} } });
  compiled.applyDefaults(object);
  expect(specOf(object)).toEqual({ size: 3, mode: null, outer: { inner: { x: 1, y: 2 } }, list: [{ p: 'TCP' }], map: { k: { q: false } } });
});

describe('validation', () => {
  test.each<[Json, unknown, string[]]>([
    [{ type: 'integer' }, '3', ['FieldValueTypeInvalid spec.v: Invalid value: "string": spec.v in body must be of type integer: "string"']],
    [{ type: 'string' }, null, ['FieldValueTypeInvalid spec.v: Invalid value: "null": spec.v in body must be of type string: "null"']],
    [{ type: 'integer', minimum: 1, maximum: 5 }, 9, ['FieldValueInvalid spec.v: Invalid value: 9: spec.v in body should be less than or equal to 5']],
    [{ type: 'integer', minimum: 1, exclusiveMinimum: true }, 1, ['FieldValueInvalid spec.v: Invalid value: 1: spec.v in body should be greater than 1']],
    [{ type: 'number', multipleOf: 0.5 }, 0.7, ['FieldValueInvalid spec.v: Invalid value: 0.7: spec.v in body should be a multiple of 0.5']],
    [{ type: 'string', enum: ['a', 'b'] }, 'c', ['FieldValueNotSupported spec.v: Unsupported value: "c": supported values: "a", "b"']],
    [{ type: 'string', pattern: '^a+$' }, 'b', ["FieldValueInvalid spec.v: Invalid value: \"b\": spec.v in body should match '^a+$'"]],
    [{ type: 'string', maxLength: 2 }, 'abc', ['FieldValueTooLong spec.v: Too long: may not be more than 2 bytes']],
    [{ type: 'string', minLength: 2 }, 'a', ['FieldValueInvalid spec.v: Invalid value: "a": spec.v in body should be at least 2 chars long']],
    [{ type: 'string', format: 'ipv4' }, 'x', ['FieldValueInvalid spec.v: Invalid value: "x": spec.v in body must be of type ipv4: "x"']],
    [{ type: 'array', maxItems: 1, items: { type: 'string' } }, ['a', 'b'], ['FieldValueTooMany spec.v: Too many: 2: must have at most 1 items']],
    [{ type: 'array', 'x-kubernetes-list-type': 'set', items: { type: 'string' } }, ['a', 'a'], ['FieldValueDuplicate spec.v[1]: Duplicate value: "a"']],
    [{ type: 'array', 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': ['n'], items: { type: 'object', properties: { n: { type: 'string' } } } }, [{ n: 'a' }, { n: 'a' }], ['FieldValueDuplicate spec.v[1]: Duplicate value: {"n":"a"}']],
    [{ type: 'object', required: ['x'], properties: { x: { type: 'string' } } }, {}, ['FieldValueRequired spec.v.x: Required value']],
    [{ type: 'object', maxProperties: 1, additionalProperties: { type: 'integer' } }, { a: 1, b: 'x' }, ['FieldValueTypeInvalid spec.v.b: Invalid value: "string": spec.v.b in body must be of type integer: "string"', 'FieldValueTooMany spec.v: Too many: 2: must have at most 1 items']],
    [{ 'x-kubernetes-int-or-string': true, anyOf: [{ type: 'integer' }, { type: 'string' }] }, true, ['FieldValueTypeInvalid spec.v: Invalid value: "boolean": spec.v in body must be of type integer,string: "boolean"']],
    [{ type: 'object', properties: { a: { type: 'string' }, b: { type: 'string' } }, oneOf: [{ required: ['a'] }, { required: ['b'] }] }, { a: 'x', b: 'y' }, ['FieldValueInvalid spec.v: Invalid value: "object": "spec.v" must validate one and only one schema (oneOf). Found 2 valid alternatives']],
    [{ type: 'string', not: { enum: ['x'] } }, 'x', ['FieldValueInvalid spec.v: Invalid value: "x": "spec.v" must not validate the schema (not)']],
    [{ type: 'string', anyOf: [{ format: 'ipv4' }, { format: 'ipv6' }] }, 'x', ['FieldValueInvalid spec.v: Invalid value: "x": "spec.v" must validate at least one schema (anyOf)']],
    [{ type: 'string', nullable: true }, null, []], [{ 'x-kubernetes-int-or-string': true }, '25%', []], [{ type: 'number' }, 1, []],
  ])('%j with %j', (schema, value, expected) => { expect(texts(compile({ type: 'object', properties: { v: schema } }), { v: value })).toEqual(expected); });

  test('names and namespaces follow the rules of every object', () => {
    expect(validateCreate(gadget({}, { name: 'A_b', namespace: '' }), { custom: compile({ type: 'object' }) }).map((cause) => cause.field)).toEqual(['metadata.name', 'metadata.namespace']);
  });
});

describe('CEL rules', () => {
  const rule = (text: string, more: Json = {}): Json => ({ type: 'object', properties: { v: { type: 'integer' }, s: { type: 'string' }, l: { type: 'array', items: { type: 'string' } }, o: { type: 'array', items: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } }, 'a-b': { type: 'string' } }, 'x-kubernetes-validations': [{ rule: text, message: 'no', ...more }] });
  test.each<[string, Json, boolean]>([
    ['self.v > 3', { v: 4 }, true], ['self.v > 3', { v: 3 }, false], ['!has(self.s) || self.s.startsWith("a")', {}, true], ['self.l.all(x, size(x) < 3)', { l: ['aa', 'bbb'] }, false],
    ['self.a__dash__b == "x"', { 'a-b': 'x' }, true], ['self.s.matches("^[a-z]+$") && self.l.exists(x, x == self.s)', { s: 'a', l: ['a'] }, true], ['isIP(self.s)', { s: '10.0.0.1' }, true], ['self.l.isSorted()', { l: ['b', 'a'] }, false],
    ['has(self.o[0].x.y) && !has(self.o[1].x)', { o: [{ x: { y: 1 } }, {}] }, true],
    ['self.s in ["a", "b"] ? self.v == 1 : self.v == 2', { s: 'z', v: 2 }, true],
  ])('%s of %j is %s', (text, value, holds) => { expect(texts(compile(rule(text)), value)).toEqual(holds ? [] : ['FieldValueInvalid spec: Invalid value: "object": no']); });

  test('transition rules hold on updates only', () => {
    const compiled = compile(rule('self.v == oldSelf.v', { message: 'v is immutable', reason: 'FieldValueForbidden', fieldPath: '.v' }));
    expect(texts(compiled, { v: 1 })).toEqual([]);
    expect(texts(compiled, { v: 1 }, { v: 1 })).toEqual([]);
    expect(texts(compiled, { v: 2 }, { v: 1 })).toEqual(['FieldValueForbidden spec.v: Forbidden: v is immutable']);
  });
  test('messageExpression words the complaint; without any message the rule does', () => {
    expect(texts(compile(rule('self.v < 3', { messageExpression: '"v is " + string(self.v)' })), { v: 5 })[0]).toContain('v is 5');
    expect(texts(compile({ type: 'object', properties: { v: { type: 'integer' } }, 'x-kubernetes-validations': [{ rule: 'self.v < 3' }] }), { v: 5 })[0]).toContain('failed rule: self.v < 3');
  });
  test('a rule that fails to evaluate is a complaint, one that does not compile is named and skipped', () => {
    expect(texts(compile(rule('self.s.size() > 0')), {})[0]).toContain('evaluation failed');
    const compiled = compile(rule('url(self.s).getHost() == "x"'));
    expect(texts(compiled, { s: 'a' })).toEqual([]);
    expect(compiled.unenforced).toHaveLength(1);
  });
  test('rules are skipped when the value is wrong already', () => { expect(texts(compile(rule('self.v > 3')), { v: 'x' })).toHaveLength(1); });
});

test('apply follows list types of the schema', () => {
  const compiled = compile({ type: 'object', properties: { items: { type: 'array', 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': ['n'], items: { type: 'object', required: ['n'], properties: { n: { type: 'string' }, v: { type: 'integer' } } } } } });
  const base = { schema: compiled.schema, force: false, now: '2026-01-01T00:00:00Z' };
  const one = serverSideApply({ ...base, live: undefined, applied: gadget({ items: [{ n: 'a', v: 1 }] }), manager: 'one' }).object;
  const two = serverSideApply({ ...base, live: one, applied: gadget({ items: [{ n: 'b', v: 2 }] }), manager: 'two' }).object;
  expect(specOf(two)).toEqual({ items: [{ n: 'a', v: 1 }, { n: 'b', v: 2 }] });
});

describe('printer columns', () => {
  test('cells by type; Age when none are named', () => {
    const compiled = compile({ type: 'object' }, { additionalPrinterColumns: [{ name: 'Size', type: 'integer', jsonPath: '.spec.size' }, { name: 'Ready', type: 'string', jsonPath: '.status.conditions[?(@.type=="Ready")].status' }, { name: 'Hosts', type: 'string', jsonPath: '.spec.hosts', priority: 1 }, { name: 'None', type: 'string', jsonPath: '.spec.none' }] });
    const object = { ...gadget({ size: 3, hosts: ['a', 'b'] }), status: { conditions: [{ type: 'X', status: 'False' }, { type: 'Ready', status: 'True' }] } };
    expect(compiled.cells(object)).toEqual([3, 'True', '["a","b"]', null]);
    expect(compile({ type: 'object' }).columns.map((column) => column.name)).toEqual(['Age']);
  });
  test.each<[string, unknown[]]>([
    ['.a.b', [1]], ['{.a.b}', [1]], ['$.a.b', [1]], ["['x.y']", [2]], ['.x\\.y', [2]], ['.l[0].n', ['p']], ['.l[-1].n', ['q']], ['.l[*].n', ['p', 'q']], ['.l[?(@.v>1)].n', ['q']], ['.l[?(@.n=="p")].v', [1]], ['..n', ['p', 'q']], ['.none', []], ['.l[?(@.w)].n', []],
  ])('%s', (path, expected) => { expect(findByJsonPath({ a: { b: 1 }, 'x.y': 2, l: [{ n: 'p', v: 1 }, { n: 'q', v: 2 }] }, parseJsonPath(path) ?? [])).toEqual(expected); });
  test('what is not of the subset does not parse', () => { for (const path of ['.a[', '.a b', '.a[?(@.x=~/y/)]']) expect(parseJsonPath(path)).toBeUndefined(); });
});

describe('definitions', () => {
  const causes = (crd: CrdObject): string[] => validateCreate(applyDefaults(structuredClone(crd)) as KubeObject).map((cause) => `${cause.reason} ${cause.field}`);
  test('a structural definition is accepted and gets its conditions', () => {
    const crd = definition({ type: 'object' });
    expect(causes(crd)).toEqual([]);
    expect(crdStatus(crd, '2026-01-01T00:00:00Z')).toMatchObject({ storedVersions: ['v1'], conditions: [{ type: 'NamesAccepted', status: 'True' }, { type: 'Established', status: 'True' }] });
  });
  test.each<[string, (crd: CrdObject) => void, string]>([
    ['a name that is not plural.group', (crd) => { crd.metadata.name = 'x.example.com'; }, 'FieldValueInvalid metadata.name'],
    ['no storage version', (crd) => { for (const version of crd.spec?.versions ?? []) version.storage = false; }, 'FieldValueInvalid spec.versions'],
    ['no schema', (crd) => { for (const version of crd.spec?.versions ?? []) delete version.schema; }, 'FieldValueRequired spec.versions[0].schema.openAPIV3Schema'],
    ['a scope that is none', (crd) => { if (crd.spec !== undefined) crd.spec.scope = 'World'; }, 'FieldValueNotSupported spec.scope'],
    ['preserveUnknownFields', (crd) => { if (crd.spec !== undefined) crd.spec.preserveUnknownFields = true; }, 'FieldValueInvalid spec.preserveUnknownFields'],
  ])('%s is refused', (_name, change, expected) => {
    const crd = definition({ type: 'object' });
    change(crd);
    expect(causes(crd)).toContain(expected);
  });
  test.each<[Json, string]>([
    [{ properties: {} }, 'FieldValueRequired spec.versions[0].schema.openAPIV3Schema.properties[spec].type'],
    [{ type: 'object', properties: { a: { type: 'array' } } }, 'FieldValueRequired spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[a].items'],
    [{ type: 'object', properties: { a: { type: 'string' } }, additionalProperties: { type: 'string' } }, 'FieldValueForbidden spec.versions[0].schema.openAPIV3Schema.properties[spec].additionalProperties'],
    [{ type: 'object', $ref: '#/x' }, 'FieldValueForbidden spec.versions[0].schema.openAPIV3Schema.properties[spec].$ref'],
    [{ type: 'object', properties: { a: { type: 'string', pattern: '(' } } }, 'FieldValueInvalid spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[a].pattern'],
    [{ type: 'object', properties: { a: { type: 'integer', default: 'x' } } }, 'FieldValueInvalid spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[a].default'],
    [{ type: 'array', items: { type: 'object' }, 'x-kubernetes-list-type': 'map' }, 'FieldValueRequired spec.versions[0].schema.openAPIV3Schema.properties[spec].x-kubernetes-list-map-keys'],
  ])('a schema that is not structural is refused: %j', (schema, expected) => { expect(causes(definition(schema))).toContain(expected); });
});
