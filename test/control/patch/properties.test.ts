// Properties over generated objects: a patch made from two objects turns one into the other, apply keeps its ownership invariants, and
// no body, however broken, makes the decoder throw anything but a NetloomError.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { NetloomError } from '../../../api/errors.ts';
import type { KubeObject } from '../../../api/types.ts';
import { fromFieldsV1, memberPaths } from '../../../control/patch/apply/field-set.ts';
import { serverSideApply, trackUpdate } from '../../../control/patch/apply/managers.ts';
import { itemStep } from '../../../control/patch/apply/walk.ts';
import { jsonPatch } from '../../../control/patch/json-patch.ts';
import { mergePatch } from '../../../control/patch/merge-patch.ts';
import { strategicMerge } from '../../../control/patch/strategic.ts';
import { bodyTypes, decodeBody, parsePatch } from '../../../control/schema/decode.ts';
import { kindsOf, packages, apiVersionOf } from '../../../control/schema/kinds.ts';
import { schemaFor } from '../../../control/schema/load.ts';
import type { Schema } from '../../../control/schema/schema.ts';
import { isRecord } from '../../../control/schema/schema.ts';
import { validateCreate } from '../../../control/validation/validate.ts';
import { applyDefaults } from '../../../control/defaults/defaults.ts';

type Json = Record<string, unknown>;
const serviceSchema = schemaFor('v1', 'Service');
const podSchema = schemaFor('v1', 'Pod');
const now = '2026-01-01T00:00:00Z';
const runs = process.env['NETLOOM_SOAK'] === '1' ? 20_000 : 300;

/** What kubectl makes of a list of named items: order, deletions, changed items. */
function listPatch(before: Json[], after: Json[]): Json {
  const gone = before.filter((item) => !after.some((other) => other['name'] === item['name'])).map((item) => ({ $patch: 'delete', name: item['name'] }));
  const changed = after.map((item) => {
    const old = before.find((other) => other['name'] === item['name']) ?? {};
    const nulls = Object.fromEntries(Object.keys(old).filter((key) => !(key in item)).map((key) => [key, null]));
    return { ...item, ...nulls };
  });
  return { '$setElementOrder/containers': after.map((item) => ({ name: item['name'] })), containers: [...gone, ...changed] };
}

const container = fc.record({ name: fc.constantFrom('a', 'b', 'c', 'd', 'e'), image: fc.constantFrom('x', 'y'), workingDir: fc.constantFrom('/a', '/b') }, { requiredKeys: ['name'] });
const containers = fc.uniqueArray(container, { selector: (item) => item.name, maxLength: 5 });

test('a strategic patch made the way kubectl makes it turns one list into the other, in its order', () => {
  fc.assert(fc.property(containers, containers, (before, after) => {
    const result = strategicMerge({ spec: { containers: before } }, { spec: listPatch(before as Json[], after as Json[]) }, podSchema) as { spec: { containers: unknown[] } };
    expect(result.spec.containers).toEqual(after);
  }), { numRuns: runs });
});

const port = fc.record({ port: fc.constantFrom(80, 81, 82), protocol: fc.constantFrom('TCP', 'UDP'), name: fc.constantFrom('a', 'b', 'c'), targetPort: fc.constantFrom(1, 2, 'x') }, { requiredKeys: ['port', 'protocol'] });
const config = fc.record({
  ports: fc.uniqueArray(port, { selector: (item) => `${item.port}/${item.protocol}`, maxLength: 4 }), selector: fc.constantFrom({ app: 'x' }, { app: 'y' }), type: fc.constantFrom('ClusterIP', 'NodePort'),
  externalIPs: fc.constantFrom(['192.0.2.1'], ['192.0.2.2']), sessionAffinityConfig: fc.record({ clientIP: fc.record({ timeoutSeconds: fc.constantFrom(1, 2) }, { requiredKeys: [] }) }, { requiredKeys: [] }),
}, { requiredKeys: [] });
const labels = fc.dictionary(fc.constantFrom('a', 'b', 'c'), fc.constantFrom('1', '2'), { maxKeys: 3 });
const step = fc.record({ manager: fc.constantFrom('one', 'two', 'three'), isApply: fc.boolean(), force: fc.boolean(), config, labels });

function find(value: unknown, schema: Schema | undefined, path: readonly string[]): boolean {
  const [first, ...rest] = path;
  if (first === undefined) return true;
  if (first.startsWith('f:')) {
    const key = first.slice(2);
    if (!isRecord(value) || !Object.hasOwn(value, key)) return false;
    return find(value[key], schema?.type === 'map' ? schema.items : schema?.properties?.get(key), rest);
  }
  return Array.isArray(value) && value.some((item) => itemStep(item, schema as Schema) === first && find(item, schema?.items, rest));
}

function contains(value: unknown, part: unknown, schema: Schema | undefined): boolean {
  if (isRecord(part)) return isRecord(value) && Object.keys(part).every((key) => contains(value[key], part[key], schema?.type === 'map' ? schema.items : schema?.properties?.get(key)));
  if (Array.isArray(part) && schema?.type === 'list' && schema.listType === 'map') {
    return part.every((item) => Array.isArray(value) && value.some((other) => itemStep(other, schema) === itemStep(item, schema) && contains(other, item, schema.items)));
  }
  return JSON.stringify(value) === JSON.stringify(part);
}

test('apply and update: what is applied is there, what is owned exists, and applying twice changes nothing', () => {
  fc.assert(fc.property(fc.array(step, { maxLength: 8 }), (steps) => {
    let live: KubeObject | undefined;
    for (const { manager, isApply, force, config: spec, labels: wanted } of steps) {
      const object = { apiVersion: 'v1', kind: 'Service', metadata: { name: 'a', ...(Object.keys(wanted).length === 0 ? {} : { labels: wanted }) }, spec: structuredClone(spec) } as unknown as KubeObject;
      if (isApply || live === undefined) {
        const options = { applied: object, manager, force: force || live === undefined, schema: serviceSchema, now };
        const before = JSON.stringify(live);
        let result: KubeObject;
        try {
          result = serverSideApply({ live, ...options }).object;
        } catch (error) {
          expect(error).toBeInstanceOf(NetloomError);
          expect(options.force).toBe(false);
          expect(JSON.stringify(live)).toBe(before);
          continue;
        }
        expect(contains(result, object, serviceSchema)).toBe(true);
        expect(serverSideApply({ live: result, ...options }).isChanged).toBe(false);
        live = result;
      } else live = trackUpdate({ live, updated: { ...object, metadata: { ...object.metadata } }, manager, schema: serviceSchema, now });
      for (const entry of live.metadata.managedFields ?? []) {
        const set = fromFieldsV1(entry.fieldsV1);
        expect(set).toBeDefined();
        if (set !== undefined) for (const path of memberPaths(set)) expect(find(live, serviceSchema, path), `${entry.manager} ${path.join(' ')}`).toBe(true);
      }
    }
  }), { numRuns: runs });
});

describe('nothing but a NetloomError comes out', () => {
  const onlyOurs = (run: () => unknown): void => {
    try {
      run();
    } catch (error) {
      if (!(error instanceof NetloomError) || error.httpStatus >= 500) throw error;
    }
  };
  const kinds = packages.flatMap((name) => kindsOf(name).map((row) => ({ apiVersion: apiVersionOf(name), kind: row.kind })));
  const anyKind = fc.constantFrom(...kinds);

  test('of any bytes in any format', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), fc.constantFrom(...bodyTypes), anyKind, (bytes, type, expect_) => {
      onlyOurs(() => decodeBody(bytes, type, { expect: expect_ }));
      onlyOurs(() => decodeBody(Buffer.concat([Buffer.from('k8s\0\x0a\x0c\x0a\x02v1\x12\x06Secret\x12\x7f', 'latin1'), bytes]), 'application/vnd.kubernetes.protobuf'));
    }), { numRuns: runs });
  });
  test('of any JSON value, through defaults and validation', () => {
    fc.assert(fc.property(fc.jsonValue(), anyKind, (value, expect_) => {
      onlyOurs(() => {
        const { object } = decodeBody(Buffer.from(JSON.stringify(value)), 'application/json', { expect: expect_ });
        validateCreate(applyDefaults(object));
      });
    }), { numRuns: runs });
  });
  test('of objects that follow the schema with odd values', () => {
    fc.assert(fc.property(anyKind.chain((kind) => fc.tuple(fc.constant(kind), shaped(schemaFor(kind.apiVersion, kind.kind), 5))), ([kind, value]) => {
      onlyOurs(() => {
        const { object } = decodeBody(Buffer.from(JSON.stringify({ ...(value as Json), apiVersion: undefined, kind: undefined })), 'application/json', { expect: kind });
        validateCreate(applyDefaults(object), { families: ['IPv4'] });
        expect(JSON.stringify(applyDefaults(structuredClone(object)))).toBe(JSON.stringify(object));
      });
    }), { numRuns: runs });
  });
  test('of any patch', () => {
    fc.assert(fc.property(fc.jsonValue(), fc.jsonValue(), fc.string(), (live, patch, text) => {
      onlyOurs(() => mergePatch(live, patch));
      onlyOurs(() => jsonPatch(live, patch));
      onlyOurs(() => strategicMerge(live, patch, podSchema));
      onlyOurs(() => parsePatch(Buffer.from(text), 'application/apply-patch+yaml'));
    }), { numRuns: runs });
  });
});

/** Values that have the schema's shape, now and then with something odd. */
function shaped(schema: Schema | undefined, depth: number): fc.Arbitrary<unknown> {
  if (schema === undefined || depth === 0) return fc.constant(null);
  switch (schema.type) {
    case 'object': return fc.record(Object.fromEntries([...(schema.properties ?? [])].map(([key, child]) => [key, shaped(child, depth - 1)])), { requiredKeys: [] });
    case 'list': return fc.array(shaped(schema.items, depth - 1), { maxLength: 2 });
    case 'map': return fc.dictionary(fc.constantFrom('a', 'B_', '__proto__', '', 'x/y/z'), shaped(schema.items, depth - 1), { maxKeys: 2 });
    case 'bool': return fc.boolean();
    case 'int32': case 'int64': return fc.constantFrom(-1, 0, 1, 80, 65536);
    case 'double': return fc.constantFrom(0.5, -1);
    case 'intstr': return fc.constantFrom(0, 80, 'http', '25%', '-');
    case 'byte': return fc.constantFrom('', 'YQ==');
    case 'time': return fc.constantFrom(now, null);
    case 'microtime': return fc.constantFrom('2026-01-01T00:00:00.000000Z', null);
    case 'quantity': return fc.constantFrom('1', '100m', '-1Gi');
    case 'string': return fc.constantFrom('', 'a', 'TCP', 'None', '10.0.0.1', 'A b', '*', '..', 'é');
    default: return fc.jsonValue({ maxDepth: 2 });
  }
}
