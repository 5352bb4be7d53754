// Names, labels and selectors follow Kubernetes.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { isDnsLabel, isDnsSubdomain, isLabelValue, isQualifiedName, objectKey, parseLabelSelector, selectorFromLabelSelector, selectorFromMap, splitKey } from '../../api/meta.ts';

const shop = { app: 'web', tier: 'front', 'example.com/version': '3' };

test.each([
  ['app=web', true], ['app==web', true], ['app!=web', false], ['app in (web, api)', true], ['app notin (web)', false],
  ['app', true], ['!app', false], ['!missing', true], ['missing!=x', true], ['missing notin (x)', true], ['example.com/version>2', true],
  ['example.com/version<3', false], ['app=web,tier=front', true], ['app=web,tier=back', false], ['', true], ['app=', false], ['app in ()', false],
])('selector %s matches the shop labels: %s', (text, expected) => {
  expect(parseLabelSelector(text).matches(shop)).toBe(expected);
});

test.each(['=web', 'app in web', 'app in (web', 'a b', 'app=web,', '!', 'app=we b', 'app><2', 'app>x', '-a=b'])('selector %s is refused with BadRequest', (text) => {
  expect(() => parseLabelSelector(text)).toThrow(expect.objectContaining({ code: 'BadRequest' }));
});

test('a parsed selector prints a text that parses to the same meaning', () => {
  const key = fc.stringMatching(/^[a-z]([a-z0-9]{0,5})$/);
  const value = fc.stringMatching(/^[a-z0-9]{1,5}$/);
  const requirement = fc.oneof(
    fc.tuple(key, fc.constantFrom('=', '!='), value).map(([k, o, v]) => `${k}${o}${v}`),
    fc.tuple(key, fc.constantFrom('in', 'notin'), fc.array(value, { minLength: 1, maxLength: 3 })).map(([k, o, v]) => `${k} ${o} (${v.join(',')})`),
    key, key.map((k) => `!${k}`),
  );
  fc.assert(fc.property(fc.array(requirement, { maxLength: 4 }), fc.dictionary(key, value), (parts, labels) => {
    const first = parseLabelSelector(parts.join(','));
    expect(parseLabelSelector(first.toString()).matches(labels)).toBe(first.matches(labels));
  }));
});

test('any text either parses or is refused with BadRequest', () => {
  fc.assert(fc.property(fc.string({ maxLength: 30 }), (text) => {
    try { parseLabelSelector(text); } catch (error) { expect(error).toMatchObject({ code: 'BadRequest' }); }
  }));
});

test('labels named like object internals do not match by accident', () => {
  expect(parseLabelSelector('constructor').matches({})).toBe(false);
  expect(selectorFromMap({ toString: 'x' }).matches({})).toBe(false);
});

test('LabelSelector objects use all four operators', () => {
  const selector = selectorFromLabelSelector({ matchLabels: { app: 'web' }, matchExpressions: [
    { key: 'tier', operator: 'In', values: ['front'] }, { key: 'tier', operator: 'NotIn', values: ['back'] }, { key: 'app', operator: 'Exists' }, { key: 'x', operator: 'DoesNotExist' }] });
  expect(selector.matches(shop)).toBe(true);
  expect(selector.matches({ ...shop, x: '1' })).toBe(false);
});

test('names keep the RFC 1123 rules', () => {
  expect(isDnsLabel('a-1')).toBe(true);
  for (const wrong of ['', '-a', 'a-', 'A', 'a.b', 'a'.repeat(64)]) expect(isDnsLabel(wrong), wrong).toBe(false);
  expect(isDnsSubdomain('a.b-c.d')).toBe(true);
  for (const wrong of ['a..b', '.a', 'a.', 'a_b', `${'a.'.repeat(130)}a`]) expect(isDnsSubdomain(wrong), wrong).toBe(false);
  expect(isQualifiedName('example.com/My_name.1')).toBe(true);
  for (const wrong of ['a/b/c', '/a', 'a/', 'UPPER.com/a', '_a']) expect(isQualifiedName(wrong), wrong).toBe(false);
  expect(isLabelValue('')).toBe(true);
  expect(isLabelValue('a b')).toBe(false);
});

test('keys come apart as they were put together', () => {
  expect(splitKey(objectKey({ metadata: { namespace: 'shop', name: 'web' } }))).toEqual({ namespace: 'shop', name: 'web' });
  expect(splitKey(objectKey({ metadata: { name: 'node-1' } }))).toEqual({ namespace: '', name: 'node-1' });
});
