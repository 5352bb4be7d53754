// JSON patch (RFC 6902) and JSON merge patch (RFC 7386): the RFCs' own examples, limits, errors, and no pollution.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { NetloomError } from '../../../api/errors.ts';
import { jsonPatch } from '../../../control/patch/json-patch.ts';
import { mergePatch } from '../../../control/patch/merge-patch.ts';

function code(run: () => unknown): number {
  try {
    run();
  } catch (error) {
    if (error instanceof NetloomError) return error.httpStatus;
    throw error;
  }
  return 200;
}

describe('JSON patch', () => {
  test.each<[string, unknown, unknown[], unknown]>([
    ['A.1 add a member', { foo: 'bar' }, [{ op: 'add', path: '/baz', value: 'qux' }], { foo: 'bar', baz: 'qux' }],
    ['A.2 add an array element', { foo: ['bar', 'baz'] }, [{ op: 'add', path: '/foo/1', value: 'qux' }], { foo: ['bar', 'qux', 'baz'] }],
    ['A.3 remove a member', { baz: 'qux', foo: 'bar' }, [{ op: 'remove', path: '/baz' }], { foo: 'bar' }],
    ['A.4 remove an array element', { foo: ['bar', 'qux', 'baz'] }, [{ op: 'remove', path: '/foo/1' }], { foo: ['bar', 'baz'] }],
    ['A.5 replace a value', { baz: 'qux' }, [{ op: 'replace', path: '/baz', value: 'boo' }], { baz: 'boo' }],
    ['A.6 move a value', { foo: { bar: 1, waldo: 'fred' }, qux: {} }, [{ op: 'move', from: '/foo/waldo', path: '/qux/thud' }], { foo: { bar: 1 }, qux: { thud: 'fred' } }],
    ['A.7 move an array element', { foo: ['all', 'grass', 'cows', 'eat'] }, [{ op: 'move', from: '/foo/1', path: '/foo/3' }], { foo: ['all', 'cows', 'eat', 'grass'] }],
    ['A.8 test', { baz: 'qux', foo: ['a', 2, 'c'] }, [{ op: 'test', path: '/foo/1', value: 2 }], { baz: 'qux', foo: ['a', 2, 'c'] }],
    ['A.10 add a nested member', { foo: 'bar' }, [{ op: 'add', path: '/child', value: { grandchild: {} } }], { foo: 'bar', child: { grandchild: {} } }],
    ['A.11 unknown members of an operation are ignored', {}, [{ op: 'add', path: '/a', value: 1, xyz: 2 }], { a: 1 }],
    ['A.14 escapes', { '/': 9, '~1': 10 }, [{ op: 'test', path: '/~01', value: 10 }, { op: 'replace', path: '/~1', value: 1 }], { '/': 1, '~1': 10 }],
    ['A.16 append', { foo: ['bar'] }, [{ op: 'add', path: '/foo/-', value: ['abc'] }], { foo: ['bar', ['abc']] }],
    ['copy', { a: { b: 1 } }, [{ op: 'copy', from: '/a', path: '/c' }], { a: { b: 1 }, c: { b: 1 } }],
    ['replace the document', { a: 1 }, [{ op: 'replace', path: '', value: { b: 2 } }], { b: 2 }],
  ])('%s', (_name, original, patch, expected) => {
    const before = structuredClone(original);
    expect(jsonPatch(original, patch)).toEqual(expected);
    expect(original).toEqual(before);
  });

  test.each<[string, unknown[]]>([
    ['remove what is not there', [{ op: 'remove', path: '/x' }]], ['replace what is not there', [{ op: 'replace', path: '/x', value: 1 }]],
    ['add below nothing', [{ op: 'add', path: '/x/y', value: 1 }]], ['an index beyond the end', [{ op: 'add', path: '/l/3', value: 1 }]],
    ['an index with a leading zero', [{ op: 'remove', path: '/l/01' }]], ['a failed test', [{ op: 'test', path: '/a', value: 2 }]],
    ['move into itself', [{ op: 'move', from: '/o', path: '/o/x' }]], ['an inherited name', [{ op: 'copy', from: '/constructor', path: '/y' }]],
  ])('%s is a 422', (_name, patch) => { expect(code(() => jsonPatch({ a: 1, l: [1], o: { p: 1 } }, patch))).toBe(422); });

  test.each<[unknown]>([[{}], ['x'], [[1]], [[{ op: 'nope', path: '/a' }]], [[{ op: 'add', path: '/a' }]], [[{ op: 'add', path: 'a', value: 1 }]], [[{ op: 'move', path: '/a' }]]])('%j is a 400', (patch) => {
    expect(code(() => jsonPatch({}, patch))).toBe(400);
  });

  test('10,001 operations are refused, and so are copies that grow without bound', () => {
    expect(code(() => jsonPatch({}, Array.from({ length: 10_001 }, () => ({ op: 'add', path: '/a', value: 1 }))))).toBe(413);
    const doubling = Array.from({ length: 40 }, () => ({ op: 'copy', from: '', path: '/l/-' }));
    expect(code(() => jsonPatch({ l: ['xxxxxxxxxxxxxxxx'] }, doubling))).toBe(422);
  });

  test('__proto__ is an ordinary key', () => {
    const result = jsonPatch({ a: {} }, [{ op: 'add', path: '/__proto__', value: { polluted: 1 } }, { op: 'add', path: '/a/__proto__', value: { polluted: 1 } }]) as Record<string, unknown>;
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
    expect(Object.keys(result)).toContain('__proto__');
    expect(code(() => jsonPatch({}, [{ op: 'add', path: '/__proto__/polluted', value: 1 }]))).toBe(422);
  });
});

describe('JSON merge patch', () => {
  test.each<[unknown, unknown, unknown]>([
    [{ a: 'b' }, { a: 'c' }, { a: 'c' }], [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }], [{ a: 'b' }, { a: null }, {}], [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }],
    [{ a: ['b'] }, { a: 'c' }, { a: 'c' }], [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }], [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
    [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }], [['a', 'b'], ['c', 'd'], ['c', 'd']], [{ a: 'b' }, ['c'], ['c']], [{ e: null }, { a: 1 }, { e: null, a: 1 }],
    [[1, 2], { a: 'b', c: null }, { a: 'b' }], [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
  ])('%j with %j is %j', (original, patch, expected) => { expect(mergePatch(original, patch)).toEqual(expected); });

  test('a patch made from two objects turns one into the other', () => {
    const plain = fc.object({ maxDepth: 3, values: [fc.integer(), fc.string(), fc.boolean()] }).filter((value) => !JSON.stringify(value).includes('null'));
    fc.assert(fc.property(plain, plain, (before, after) => { expect(mergePatch(before, diff(before, after))).toEqual(JSON.parse(JSON.stringify(after))); }));
  });

  test('__proto__ pollutes nothing', () => {
    mergePatch({ a: {} }, JSON.parse('{"__proto__":{"polluted":1},"a":{"__proto__":{"polluted":1}},"constructor":{"prototype":{"polluted":1}}}'));
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
  });
});

type Json = Record<string, unknown>;
const isObject = (value: unknown): value is Json => typeof value === 'object' && value !== null && !Array.isArray(value);
function diff(before: unknown, after: unknown): unknown {
  if (!isObject(before) || !isObject(after)) return JSON.parse(JSON.stringify(after)) as unknown;
  const out: Json = {};
  const set = (key: string, value: unknown): void => { Object.defineProperty(out, key, { value, enumerable: true, configurable: true, writable: true }); };
  for (const key of Object.keys(before)) if (!Object.hasOwn(after, key)) set(key, null);
  for (const key of Object.keys(after)) {
    const inner = Object.hasOwn(before, key) ? before[key] : undefined;
    // A list where an object was, or the other way round, is replaced whole, which for an object needs its old keys named as null.
    if (isObject(after[key]) && !isObject(inner)) set(key, after[key]);
    else set(key, diff(inner, after[key]));
  }
  return out;
}
