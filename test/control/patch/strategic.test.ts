// Strategic merge patch: merge keys, directives, order, retainKeys, sets of scalars, and what is replaced whole.

import { describe, expect, test } from 'vitest';
import { NetloomError } from '../../../api/errors.ts';
import { strategicMerge } from '../../../control/patch/strategic.ts';
import { schemaFor } from '../../../control/schema/load.ts';

const pod = schemaFor('v1', 'Pod');
const service = schemaFor('v1', 'Service');
const deployment = schemaFor('apps/v1', 'Deployment');
type Json = Record<string, unknown>;
const containers = (object: unknown): Json[] => ((object as Json)['spec'] as Json)['containers'] as Json[];
const names = (object: unknown): unknown[] => containers(object).map((item) => item['name']);
const podOf = (...list: Json[]): Json => ({ spec: { containers: list } });

describe('lists with a merge key', () => {
  test('items are merged by key, fields inside by name; what the patch names comes first', () => {
    const result = strategicMerge(podOf({ name: 'a', image: 'x', env: [{ name: 'A', value: '1' }] }, { name: 'b' }), podOf({ name: 'a', image: 'y', env: [{ name: 'B', value: '2' }] }), pod);
    expect(containers(result)).toEqual([{ name: 'a', image: 'y', env: [{ name: 'B', value: '2' }, { name: 'A', value: '1' }] }, { name: 'b' }]);
  });
  test('$patch: delete removes one item, null removes a field', () => {
    const result = strategicMerge(podOf({ name: 'a', image: 'x' }, { name: 'b' }), podOf({ name: 'b', $patch: 'delete' }, { name: 'a', image: null }), pod);
    expect(containers(result)).toEqual([{ name: 'a' }]);
  });
  test('$patch: replace replaces the list', () => {
    expect(containers(strategicMerge(podOf({ name: 'a' }, { name: 'b' }), podOf({ name: 'c' }, { $patch: 'replace' }), pod))).toEqual([{ name: 'c' }]);
  });
  test('deleting what is not there does nothing', () => { expect(names(strategicMerge(podOf({ name: 'a' }), podOf({ name: 'z', $patch: 'delete' }), pod))).toEqual(['a']); });
  test('$setElementOrder orders named items; others keep their place', () => {
    const order = (...list: string[]): Json => ({ spec: { '$setElementOrder/containers': list.map((name) => ({ name })) } });
    expect(names(strategicMerge(podOf({ name: 'a' }, { name: 'b' }, { name: 'c' }), order('c', 'a', 'b'), pod))).toEqual(['c', 'a', 'b']);
    expect(names(strategicMerge(podOf({ name: 'sidecar' }, { name: 'a' }, { name: 'b' }), order('b', 'a'), pod))).toEqual(['sidecar', 'b', 'a']);
    const added = { spec: { '$setElementOrder/containers': [{ name: 'new' }, { name: 'a' }], containers: [{ name: 'new', image: 'n' }] } };
    expect(names(strategicMerge(podOf({ name: 'a' }, { name: 'sidecar' }), added, pod))).toEqual(['new', 'a', 'sidecar']);
  });
  test('an item without its key is refused', () => { expect(() => strategicMerge(podOf({ name: 'a' }), podOf({ image: 'x' }), pod)).toThrow(NetloomError); });
  test('ports of a Service merge by port', () => {
    expect(strategicMerge({ spec: { ports: [{ port: 80, name: 'a' }, { port: 81 }] } }, { spec: { ports: [{ port: 80, targetPort: 8080 }] } }, service)).toEqual({ spec: { ports: [{ port: 80, name: 'a', targetPort: 8080 }, { port: 81 }] } });
  });
});

describe('everything else', () => {
  test('lists without a key are replaced', () => {
    expect(strategicMerge({ spec: { externalIPs: ['192.0.2.1'] } }, { spec: { externalIPs: ['192.0.2.2'] } }, service)).toEqual({ spec: { externalIPs: ['192.0.2.2'] } });
    const slice = schemaFor('discovery.k8s.io/v1', 'EndpointSlice');
    expect(strategicMerge({ endpoints: [{ addresses: ['a'] }] }, { endpoints: [{ addresses: ['b'] }] }, slice)).toEqual({ endpoints: [{ addresses: ['b'] }] });
  });
  test('sets of scalars grow, $deleteFromPrimitiveList shrinks them', () => {
    const patch = { metadata: { finalizers: ['c/c'], '$deleteFromPrimitiveList/finalizers': ['a/a'], '$setElementOrder/finalizers': ['c/c', 'b/b'] } };
    expect(strategicMerge({ metadata: { finalizers: ['a/a', 'b/b'] } }, patch, pod)).toEqual({ metadata: { finalizers: ['c/c', 'b/b'] } });
  });
  test('$retainKeys drops what it does not name', () => {
    const live = { spec: { strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: 1 } } } };
    expect(strategicMerge(live, { spec: { strategy: { $retainKeys: ['type'], type: 'Recreate' } } }, deployment)).toEqual({ spec: { strategy: { type: 'Recreate' } } });
  });
  test('maps merge, null removes a key, $patch: replace replaces', () => {
    expect(strategicMerge({ metadata: { labels: { a: '1', b: '2' } } }, { metadata: { labels: { a: null, c: '3' } } }, service)).toEqual({ metadata: { labels: { b: '2', c: '3' } } });
    expect(strategicMerge({ metadata: { labels: { a: '1' } } }, { metadata: { labels: { $patch: 'replace', c: '3' } } }, service)).toEqual({ metadata: { labels: { c: '3' } } });
    expect(strategicMerge({ metadata: { labels: { a: '1' } } }, { metadata: { labels: { $patch: 'delete' } } }, service)).toEqual({ metadata: {} });
  });
  test('a field with the strategy replace is taken whole', () => {
    const budget = schemaFor('policy/v1', 'PodDisruptionBudget');
    expect(strategicMerge({ spec: { selector: { matchLabels: { a: 'b' } } } }, { spec: { selector: { matchLabels: { c: 'd' } } } }, budget)).toEqual({ spec: { selector: { matchLabels: { c: 'd' } } } });
  });
  test('directives never reach the object', () => {
    const patch = { spec: { containers: [{ name: 'n', $patch: 'merge', ports: [{ containerPort: 1, $patch: 'delete' }], env: [] }], '$setElementOrder/volumes': [{ name: 'v' }] }, metadata: { '$retainKeys': ['name'], name: 'x' } };
    expect(JSON.stringify(strategicMerge({}, patch, pod))).not.toContain('$');
  });
  test('bad directives are a 400', () => {
    for (const patch of [{ $patch: 'nope' }, { metadata: { $retainKeys: 'x' } }, { metadata: { '$deleteFromPrimitiveList/finalizers': 'x' } }, []]) expect(() => strategicMerge({ metadata: {} }, patch, pod)).toThrow(NetloomError);
  });
  test('neither argument is changed, __proto__ pollutes nothing', () => {
    const live = podOf({ name: 'a', image: 'x' });
    const patch = JSON.parse('{"spec":{"containers":[{"name":"a","image":"y"}]},"__proto__":{"polluted":1},"metadata":{"__proto__":{"polluted":1}}}') as Json;
    const before = JSON.stringify([live, patch]);
    strategicMerge(live, patch, pod);
    expect(JSON.stringify([live, patch])).toBe(before);
    expect(({} as Json)['polluted']).toBeUndefined();
  });
});
