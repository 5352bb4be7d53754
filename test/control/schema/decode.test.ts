// Request bodies become objects: kinds, unknown and duplicate fields, wrong types, canonical scalars, limits, YAML's corners, hostile keys.

import { describe, expect, test } from 'vitest';
import { NetloomError } from '../../../api/errors.ts';
import type { DecodeOptions } from '../../../control/schema/decode.ts';
import { decodeBody } from '../../../control/schema/decode.ts';
import { isProtobuf } from '../../../control/schema/body/protobuf.ts';

const service = { expect: { apiVersion: 'v1', kind: 'Service' } } as const;
const decode = (text: string, options: DecodeOptions = {}, type = 'application/json') => decodeBody(Buffer.from(text), type, options);
function complaint(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof NetloomError) return `${error.httpStatus} ${error.message}`;
    throw error;
  }
  return 'none';
}

describe('kind and version', () => {
  test('a body without kind and version gets those of the URL, in front', () => {
    const { object } = decode('{"metadata":{"name":"a"}}', service);
    expect(Object.keys(object)).toEqual(['apiVersion', 'kind', 'metadata']);
    expect(object.kind).toBe('Service');
  });
  test('another kind or version is refused', () => {
    expect(complaint(() => decode('{"kind":"Pod"}', service))).toMatch(/^400 Pod in version "v1" cannot be handled as a Service/);
    expect(complaint(() => decode('{"apiVersion":"v2"}', service))).toBe('400 the API version in the data (v2) does not match the expected API version (v1)');
  });
  test('no object is no body', () => {
    for (const text of ['[]', '"x"', '1', 'null', '{}{}', '', '{', '{"a":}']) expect(complaint(() => decode(text, service))).toMatch(/^400 /);
  });
  test('without expectation the body must name kind and version', () => {
    expect(complaint(() => decode('{"apiVersion":"v1"}'))).toContain("'Kind' is missing");
    expect(complaint(() => decode('{"apiVersion":"v1","kind":"Nope"}'))).toContain('no kind "Nope" is registered for version "v1"');
  });
  test('DeleteOptions come under several versions', () => {
    const options = { expect: { apiVersion: 'v1', kind: 'DeleteOptions' } };
    for (const version of ['v1', 'meta.k8s.io/v1', 'apps/v1']) {
      const { object } = decode(`{"kind":"DeleteOptions","apiVersion":"${version}","propagationPolicy":"Orphan","dryRun":["All"]}`, options);
      expect(object).toMatchObject({ kind: 'DeleteOptions', propagationPolicy: 'Orphan', dryRun: ['All'] });
    }
    expect(decode('{}', options).object.kind).toBe('DeleteOptions');
  });
  test('an unknown content type is 415', () => { expect(complaint(() => decode('{}', service, 'text/plain'))).toMatch(/^415 /); });
});

describe('field validation', () => {
  const body = '{"metadata":{"name":"a","labels":{"x":"1","x":"2"}},"spec":{"ports":[{"port":1,"port":2,"targetport":3}],"nope":{"a":{"b":1}}}}';
  test('Strict refuses unknown and duplicate fields with full paths', () => {
    expect(complaint(() => decode(body, { ...service, strict: 'Strict' }))).toBe('400 Service in version "v1" cannot be handled as a Service: strict decoding error: '
      + 'unknown field "spec.ports[0].targetport", unknown field "spec.nope", duplicate field "metadata.labels.x", duplicate field "spec.ports[0].port"');
  });
  test('Warn prunes and says so, the last duplicate wins', () => {
    const { object, warnings } = decode(body, { ...service, strict: 'Warn' });
    expect(object).toMatchObject({ spec: { ports: [{ port: 2 }] }, metadata: { labels: { x: '2' } } });
    expect(JSON.stringify(object)).not.toContain('nope');
    expect(warnings).toHaveLength(4);
    expect(warnings[0]).toBe('unknown field "spec.ports[0].targetport"');
  });
  test('Ignore is silent', () => { expect(decode(body, { ...service, strict: 'Ignore' }).warnings).toEqual([]); });
  test('an escaped key is the same key', () => {
    expect(decode('{"spec":{"type":"a","t\\u0079pe":"b"}}', service).warnings).toEqual(['duplicate field "spec.type"']);
  });
  test('braces, colons and quotes inside strings are text', () => {
    expect(decode('{"metadata":{"annotations":{"a":"{\\"b\\":1,\\"b\\":2}","c:d":"\\\\"}}}', service).warnings).toEqual([]);
  });
});

describe('types', () => {
  const cases: [string, string][] = [
    ['{"spec":{"ports":[{"port":"80"}]}}', 'json: cannot unmarshal string into Go struct field ServicePort.spec.ports.port of type int32'],
    ['{"spec":{"ports":[{"port":80.5}]}}', 'json: cannot unmarshal number 80.5 into Go struct field ServicePort.spec.ports.port of type int32'],
    ['{"spec":{"ports":[{"port":4294967296}]}}', 'json: cannot unmarshal number 4294967296 into Go struct field ServicePort.spec.ports.port of type int32'],
    ['{"spec":{"ports":{}}}', 'json: cannot unmarshal object into Go struct field ServiceSpec.spec.ports of type []v1.ServicePort'],
    ['{"spec":{"selector":["a"]}}', 'json: cannot unmarshal array into Go struct field ServiceSpec.spec.selector of type map[string]string'],
    ['{"spec":{"publishNotReadyAddresses":"true"}}', 'json: cannot unmarshal string into Go struct field ServiceSpec.spec.publishNotReadyAddresses of type bool'],
    ['{"spec":{"ports":[{"targetPort":true}]}}', 'json: cannot unmarshal bool into Go struct field ServicePort.spec.ports.targetPort of type intstr.IntOrString'],
    ['{"metadata":{"labels":{"a":1}}}', 'json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string'],
    ['{"metadata":"x"}', 'json: cannot unmarshal string into Go struct field Service.metadata of type v1.ObjectMeta'],
    ['{"metadata":{"creationTimestamp":"yesterday"}}', 'parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse'],
  ];
  test.each(cases)('%s', (text, why) => {
    for (const strict of ['Strict', 'Warn', 'Ignore'] as const) {
      expect(complaint(() => decode(text, { ...service, strict }))).toBe(`400 Service in version "v1" cannot be handled as a Service: ${why}`);
    }
  });
  test('base64 is checked', () => {
    expect(complaint(() => decode('{"apiVersion":"v1","kind":"Secret","data":{"a":"x!"}}'))).toContain('illegal base64 data at input byte 1');
    expect(complaint(() => decode('{"apiVersion":"v1","kind":"Secret","data":{"a":"YQ=="}}'))).toBe('none');
  });
  test('times become UTC, quantities canonical', () => {
    const { object } = decode('{"apiVersion":"v1","kind":"Pod","metadata":{"creationTimestamp":"2026-01-01T01:00:00.9+01:00"},"spec":{"containers":[{"name":"a","resources":{"limits":{"cpu":0.5,"memory":"1024Mi"}}}]}}');
    expect(object.metadata.creationTimestamp).toBe('2026-01-01T00:00:00Z');
    expect(object).toMatchObject({ spec: { containers: [{ resources: { limits: { cpu: '500m', memory: '1Gi' } } }] } });
  });
  test('null and omitted zero values are absent, pointers keep their zero', () => {
    const { object } = decode('{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a","labels":null,"annotations":{}},"spec":{"replicas":0,"paused":false,"minReadySeconds":0}}');
    expect(object.metadata).toEqual({ name: 'a' });
    expect((object as unknown as { spec: unknown }).spec).toEqual({ replicas: 0 });
  });
});

describe('limits and hostile input', () => {
  test('depth and keys are bounded', () => {
    expect(complaint(() => decode(`{"a":${'['.repeat(600)}${']'.repeat(600)}}`, service))).toContain('nested deeper than 512');
    expect(complaint(() => decode(`{"a":{${Array.from({ length: 250_001 }, (_, index) => `"${index}":1`).join(',')}}}`, service))).toContain('more than 250000 keys');
    expect(complaint(() => decode('['.repeat(100_000), service, 'application/yaml'))).toMatch(/^400 /);
  });
  test('aliases cannot explode', () => {
    const text = `a: &a [x,x,x,x,x,x,x,x,x,x]\n${'bcdefghij'.split('').map((name, index) => `${name}: &${name} [${Array(10).fill(`*${'abcdefghij'[index]}`).join(',')}]`).join('\n')}\n`;
    expect(complaint(() => decode(text, service, 'application/yaml'))).toMatch(/^400 /);
  });
  test('__proto__, constructor and prototype pollute nothing', () => {
    for (const [text, type] of [
      ['{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}},"metadata":{"name":"a","__proto__":{"polluted":1},"labels":{"__proto__":"x","constructor":"y"}}}', 'application/json'],
      ['__proto__: {polluted: 1}\nmetadata:\n  name: a\n  labels: {__proto__: x, constructor: z}\n', 'application/yaml'],
    ] as const) {
      const { object, warnings } = decode(text, service, type);
      expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
      expect(Object.getPrototypeOf(object.metadata)).toBe(Object.prototype);
      expect(Object.keys(object.metadata.labels ?? {})).toEqual(['__proto__', 'constructor']);
      expect(warnings).toContain('unknown field "__proto__"');
    }
  });
});

describe('YAML as the API server reads it', () => {
  const yaml = (text: string, options: DecodeOptions = {}) => decode(text, options, 'application/yaml');
  test('octal, booleans, and no timestamps', () => {
    const { object } = yaml('apiVersion: v1\nkind: Pod\nmetadata: {name: a, annotations: {t: 2020-01-01, s: 12:30:45}}\nspec:\n  hostNetwork: yes\n  volumes: [{name: v, secret: {defaultMode: 0644}}]\n');
    expect(object).toMatchObject({ metadata: { annotations: { t: '2020-01-01', s: '12:30:45' } }, spec: { hostNetwork: true, volumes: [{ secret: { defaultMode: 420 } }] } });
  });
  test('duplicate keys carry their line', () => {
    expect(yaml('metadata: {name: a}\nspec:\n  type: ClusterIP\n  type: NodePort\n', service).warnings).toEqual(['yaml: unmarshal errors:\n  line 4: key "type" already set in map']);
  });
  test('two documents, tabs and broken text are refused', () => {
    for (const text of ['a: 1\n---\nb: 2\n', 'a:\n\t- 1\n', 'a: [1\n', ': :\n- x']) expect(complaint(() => yaml(text, service))).toMatch(/^400 /);
  });
  test('JSON is YAML too', () => { expect(yaml('{"metadata":{"name":"a"}}', service).object.metadata.name).toBe('a'); });
});

describe('protobuf', () => {
  test('what is not the envelope is a 400', () => {
    for (const bytes of ['', 'k8s', 'k8s\0\x0a\xff', '{}']) expect(complaint(() => decodeBody(Buffer.from(bytes, 'latin1'), 'application/vnd.kubernetes.protobuf', service))).toMatch(/^4(00|15) /);
    expect(isProtobuf(Buffer.from('k8s\0x'))).toBe(true);
  });
});
