// The committed schema data: it is what the generator makes, the hand-kept facts name real fields, and every document is whole.

import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { atomicTypes, fieldDefaults, fieldFacts, granularFields } from '../../../control/schema/facts.ts';
import { generate } from '../../../control/schema/generate.ts';
import { kindsOf, packages } from '../../../control/schema/kinds.ts';
import { schemaFor, typeCodes, typeSchema } from '../../../control/schema/load.ts';
import { openApiDocument, openApiIndex } from '../../../control/schema/openapi.ts';
import type { CrdObject } from '../../../control/schema/openapi-crd.ts';

const dataFile = (path: string): string => readFileSync(new URL(`../../../control/schema/data/${path}`, import.meta.url), 'utf8');

test('the generator makes exactly the committed files', () => {
  for (const [path, text] of generate()) expect(dataFile(path) === text, `${path} drifted: node control/schema/generate.ts`).toBe(true);
});

test('every kind has a schema with metadata', () => {
  for (const name of packages.filter((one) => one !== 'meta/v1')) for (const row of kindsOf(name)) expect(typeSchema(`${name}.${row.kind}`).properties?.has('metadata'), `${name} ${row.kind}`).toBe(true);
  expect(schemaFor('v1', 'Nope')).toBeUndefined();
  expect(schemaFor('nope/v1', 'Service')).toBeUndefined();
});

test('facts name fields that exist, and list keys are fields of the items', () => {
  for (const [type, fields] of Object.entries(fieldFacts)) {
    const schema = typeSchema(type);
    for (const field of Object.keys(fields)) {
      const child = schema.properties?.get(field);
      expect(child, `${type}.${field}`).toBeDefined();
      for (const key of [...(child?.listMapKeys ?? []), ...(child?.mergeKey === undefined || child.mergeKey === '' ? [] : [child.mergeKey])]) {
        if (child?.items?.type === 'object') expect(child.items.properties?.has(key), `${type}.${field} ${key}`).toBe(true);
      }
    }
  }
  for (const type of atomicTypes) expect(Object.keys(typeCodes(type)).length, type).toBeGreaterThan(0);
  for (const type of Object.keys(fieldDefaults)) expect(typeSchema(type).properties).toBeDefined();
  for (const path of granularFields) expect(typeSchema(path.split('.').slice(0, 2).join('.')).properties?.has(path.split('.')[2] ?? '')).toBe(true);
});

test('protobuf field names are JSON names of the schema or newer than it', () => {
  const table = JSON.parse(dataFile('protobuf.json')) as Record<string, string>;
  const served = schemaFor('v1', 'Service')?.properties?.get('spec')?.properties;
  const names = (table['core/v1.ServiceSpec'] ?? '').split(' ').map((word) => word.slice(0, word.indexOf('=')));
  for (const name of served?.keys() ?? []) expect(names, name).toContain(name);
  for (const line of Object.values(table)) {
    const numbers = line.split(' ').map((word) => /=(\d+)/.exec(word)?.[1]);
    expect(new Set(numbers).size).toBe(numbers.length);
  }
});

const crd: CrdObject = {
  apiVersion: 'apiextensions.k8s.io/v1', kind: 'CustomResourceDefinition', metadata: { name: 'things.example.com' },
  spec: { group: 'example.com', scope: 'Namespaced', names: { plural: 'things', kind: 'Thing' }, versions: [{ name: 'v1', served: true, storage: true, subresources: { status: {} }, schema: { openAPIV3Schema: { type: 'object', properties: { spec: { type: 'object', properties: { size: { type: 'integer', description: 'how big' } } } } } } }] },
};

describe('OpenAPI', () => {
  test('every document parses, its references resolve, and each writable kind can be patched', () => {
    for (const path of Object.keys(openApiIndex([crd]).paths)) {
      const text = openApiDocument(path, [crd])?.json.toString() ?? '';
      const document = JSON.parse(text) as { components: { schemas: Record<string, unknown> }; paths: Record<string, { patch?: { parameters: { name: string }[]; 'x-kubernetes-group-version-kind': unknown } }> };
      for (const match of text.matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g)) expect(document.components.schemas, `${path} ${match[1]}`).toHaveProperty([match[1] ?? '']);
      const patches = Object.values(document.paths).flatMap((item) => (item.patch === undefined ? [] : [item.patch]));
      for (const patch of patches) expect(patch.parameters.map((parameter) => parameter.name)).toEqual(expect.arrayContaining(['fieldValidation', 'dryRun', 'fieldManager', 'force']));
    }
  });
  test('a changed definition changes its hash and nobody else’s', () => {
    const changed = structuredClone(crd);
    const version = changed.spec?.versions[0];
    if (version !== undefined) version.additionalPrinterColumns = [{ name: 'Size', type: 'integer', jsonPath: '.spec.size' }];
    const before = openApiIndex([crd]).paths;
    const after = openApiIndex([changed]).paths;
    expect(Object.keys(before).filter((path) => before[path]?.serverRelativeURL !== after[path]?.serverRelativeURL)).toEqual(['apis/example.com/v1']);
    expect(before['apis/example.com/v1']?.serverRelativeURL).toMatch(/^\/openapi\/v3\/apis\/example.com\/v1\?hash=[0-9A-F]{128}$/);
  });
  test('custom kinds are published under the reversed group, without strategic merge', () => {
    const text = openApiDocument('apis/example.com/v1', [crd])?.json.toString() ?? '';
    expect(text).toContain('"com.example.v1.Thing"');
    expect(text).not.toContain('strategic-merge');
    expect(openApiDocument('apis/example.com/v2', [crd])).toBeUndefined();
  });
});
