// Protobuf bodies of kinds that no kubectl command creates in protobuf: encoded here by a small independent writer from the same field
// numbers, so that shapes (unions, maps, times, raw JSON, embedded structs, zero values) are pinned.

import { describe, expect, test } from 'vitest';
import { decodeBody } from '../../../control/schema/decode.ts';
import { protobufTypes } from '../../../control/schema/body/protobuf.ts';
import { kindsOf, packages } from '../../../control/schema/kinds.ts';

type Part = Buffer;
function varint(value: number | bigint): Buffer {
  let rest = BigInt.asUintN(64, BigInt(value));
  const out: number[] = [];
  do {
    const byte = Number(rest & 127n);
    rest >>= 7n;
    out.push(rest === 0n ? byte : byte | 128);
  } while (rest !== 0n);
  return Buffer.from(out);
}
const int = (field: number, value: number | bigint): Part => Buffer.concat([varint(field << 3), varint(value)]);
const bytes = (field: number, value: Buffer | string): Part => {
  const body = Buffer.from(value as string);
  return Buffer.concat([varint(field << 3 | 2), varint(body.length), body]);
};
const message = (field: number, ...parts: Part[]): Part => bytes(field, Buffer.concat(parts));
const double = (field: number, value: number): Part => {
  const body = Buffer.alloc(8);
  body.writeDoubleLE(value);
  return Buffer.concat([varint(field << 3 | 1), body]);
};
function decode(apiVersion: string, kind: string, ...parts: Part[]): Record<string, unknown> {
  const envelope = Buffer.concat([Buffer.from('k8s\0', 'latin1'), message(1, bytes(1, apiVersion), bytes(2, kind)), message(2, ...parts), bytes(3, ''), bytes(4, '')]);
  return decodeBody(envelope, 'application/vnd.kubernetes.protobuf').object as unknown as Record<string, unknown>;
}

test('every served kind has its field table', () => {
  const known = new Set(protobufTypes());
  expect(packages.flatMap((name) => kindsOf(name).map((row) => `${name}.${row.kind}`)).filter((type) => !known.has(type))).toEqual([]);
});

describe('shapes', () => {
  test('zero values: pointers keep them, plain fields drop them', () => {
    expect(decode('apps/v1', 'Deployment', message(2, int(1, 0), int(5, 0), int(7, 0)))).toMatchObject({ spec: { replicas: 0 } });
    expect(Object.keys(decode('apps/v1', 'Deployment', message(2, int(1, 0), int(5, 0), int(7, 0)))['spec'] as object)).toEqual(['replicas']);
  });
  test('negative integers, big ones, unknown fields of every wire type', () => {
    const object = decode('scheduling.k8s.io/v1', 'PriorityClass', int(2, -5), int(99, 1), bytes(98, 'x'), double(97, 1), Buffer.concat([varint(96 << 3 | 5), Buffer.alloc(4)]));
    expect(object).toMatchObject({ value: -5 });
  });
  test('times, micro times, IntOrString', () => {
    const lease = decode('coordination.k8s.io/v1', 'Lease', message(1, bytes(1, 'a'), message(8, int(1, 1767225600))), message(2, bytes(1, 'me'), int(2, 15), message(4, int(1, 1767225600), int(2, 123456000))));
    expect(lease).toMatchObject({ metadata: { creationTimestamp: '2026-01-01T00:00:00Z' }, spec: { holderIdentity: 'me', renewTime: '2026-01-01T00:00:00.123456Z' } });
    expect(decode('policy/v1', 'PodDisruptionBudget', message(2, message(1, int(1, 1), bytes(3, '50%')), message(3, int(1, 0), int(2, 2))))).toMatchObject({ spec: { minAvailable: '50%', maxUnavailable: 2 } });
  });
  test('an unset time is absent', () => { expect(decode('v1', 'ConfigMap', message(1, bytes(1, 'a'), message(8)))['metadata']).toEqual({ name: 'a' }); });
  test('maps of bytes and of strings, hostile keys included', () => {
    expect(decode('v1', 'Secret', message(2, bytes(1, 'k'), bytes(2, 'v')), message(2, bytes(1, 'empty')))).toMatchObject({ data: { k: 'dg==', empty: '' } });
    decode('v1', 'ConfigMap', message(2, bytes(1, '__proto__'), bytes(2, 'x')));
    expect(({} as Record<string, unknown>)['x']).toBeUndefined();
  });
  test('embedded structs are inlined: volume sources, probe handlers', () => {
    const pod = decode('v1', 'Pod', message(2, message(1, bytes(1, 'v'), message(2, message(1, bytes(1, '/x')))), message(2, bytes(1, 'c'), message(10, message(1, message(2, bytes(1, '/'), message(2, int(2, 80)))), int(2, 5)))));
    expect(pod).toMatchObject({ spec: { volumes: [{ name: 'v', hostPath: { path: '/x' } }], containers: [{ name: 'c', livenessProbe: { httpGet: { path: '/', port: 80 }, initialDelaySeconds: 5 } }] } });
  });
  test('schemas of definitions: unions are plain, raw JSON is parsed, zero maximum is kept', () => {
    const schema = message(1, bytes(5, 'object'), message(29, bytes(1, 'a'), message(2, bytes(5, 'array'), message(24, message(1, bytes(5, 'string'))))),
      message(29, bytes(1, 'b'), message(2, bytes(5, 'object'), message(30, int(1, 1)))), message(29, bytes(1, 'c'), message(2, bytes(5, 'number'), double(9, 0), message(8, bytes(1, '{"x":[1]}')), message(20, bytes(1, '"e"')))),
      message(29, bytes(1, 'd'), message(2, bytes(5, 'object'), message(30, int(1, 1), message(2, bytes(5, 'integer'))))));
    const object = decode('apiextensions.k8s.io/v1', 'CustomResourceDefinition', message(1, bytes(1, 'x.y.z')), message(2, bytes(1, 'y.z'), message(7, bytes(1, 'v1'), int(2, 1), int(3, 0), message(4, schema), message(5, message(1)))));
    expect(object).toMatchObject({ spec: { group: 'y.z', versions: [{ name: 'v1', served: true, storage: false, subresources: { status: {} }, schema: { openAPIV3Schema: { type: 'object', properties: {
      a: { type: 'array', items: { type: 'string' } }, b: { type: 'object', additionalProperties: true }, c: { type: 'number', maximum: 0, default: { x: [1] }, enum: ['e'] }, d: { additionalProperties: { type: 'integer' } },
    } } } }] } });
  });
  test('fields newer than the served level are pruned', () => {
    expect(JSON.stringify(decode('v1', 'Pod', message(2, bytes(41, 'host'))))).not.toContain('hostnameOverride');
  });
  test('a wrong wire type, a cut body and a kind without table are refused', () => {
    expect(() => decode('v1', 'ConfigMap', int(1, 5))).toThrow('wrong wire type');
    expect(() => decode('v1', 'ConfigMap', bytes(1, 'abc').subarray(0, 3))).toThrow('unexpected end');
    expect(() => decode('v1', 'Nope')).toThrow('no protobuf field table');
  });
});
