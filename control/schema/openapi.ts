// OpenAPI documents of the API server: `/openapi/v3` (index), `/openapi/v3/api/v1`, `/openapi/v3/apis/GROUP/VERSION`, `/openapi/v2`.
// kubectl fetches the index on every create, apply, edit and explain, and a document once per hash. It reads merge keys (its three-way
// merge is built from them), descriptions, and the PATCH operation of each kind (query parameters, content types).
//   index = openApiIndex(crds)                         // JSON object, cheap: hashes only
//   document = openApiDocument('apis/apps/v1', crds)   // { json, hash }, built on first use; send with the hash as ETag, immutable
// Built-in documents are made from data/types, data/docs and `facts`; those of custom groups from the CRDs' own schemas.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { atomicTypes } from './facts.ts';
import type { KindRow } from './kinds.ts';
import { apiVersionOf, componentName, isBodyOnly, kindsOf, packageGroups, packageOf, packages } from './kinds.ts';
import { typeCodes, typeSchema } from './load.ts';
import type { CrdObject } from './openapi-crd.ts';
import { crdComponents, crdGroupVersions, crdKinds } from './openapi-crd.ts';
import type { PathKind } from './openapi-paths.ts';
import { openApiPaths } from './openapi-paths.ts';
import type { Schema } from './schema.ts';

/** A document ready to send. `hash` is upper-case SHA-512 hex, as Kubernetes has it. */
export interface OpenApiDocument { readonly json: Buffer; readonly hash: string }

type Docs = Readonly<Record<string, Readonly<Record<string, string>>>>;
type Json = Record<string, unknown>;
/** Raised when the form of the documents changes, so that clients with a cached one fetch again. */
const formVersion = 3;

const hashes = new Map<string, string>();
const dataHashes = new Map<string, string>();
const specHashes = new WeakMap<CrdObject, string>();
const documents = new Map<string, OpenApiDocument>();
const docsRead = new Map<string, Docs>();

/** The index object: path → serverRelativeURL with the document's hash. */
export function openApiIndex(crds: readonly CrdObject[] = []): { paths: Record<string, { serverRelativeURL: string }> } {
  const paths: Record<string, { serverRelativeURL: string }> = {};
  const add = (path: string, hash: string): void => { paths[path] = { serverRelativeURL: `/openapi/v3/${path}?hash=${hash}` }; };
  for (const name of packages) if (name !== 'meta/v1') add(pathOf(apiVersionOf(name)), builtinHash(name));
  for (const groupVersion of crdGroupVersions(crds)) add(pathOf(groupVersion), crdHash(groupVersion, crds));
  return { paths };
}

/** The document of `api/v1` or `apis/GROUP/VERSION`; undefined for a group-version that is not served. */
export function openApiDocument(path: string, crds: readonly CrdObject[] = []): OpenApiDocument | undefined {
  const groupVersion = path.replace(/^apis?\//, '');
  const packageName = packageOf(groupVersion);
  if (packageName !== undefined && packageName !== 'meta/v1') {
    return cached(path, builtinHash(packageName), () => builtinDocument(packageName));
  }
  if (!crdGroupVersions(crds).includes(groupVersion)) return undefined;
  return cached(path, crdHash(groupVersion, crds), () => crdDocument(groupVersion, crds));
}

/** `/openapi/v2` as JSON: kubectl needs the document to exist, not what is in it. */
export const openApiV2: Json = { swagger: '2.0', info: { title: 'Kubernetes', version: 'v1.32.0' }, paths: {} };

/** The same as gnostic protobuf (openapi.v2.Document: 1 swagger, 2 info {1 title, 2 version}, 8 paths), all that kubectl accepts. */
export const openApiV2Protobuf: Buffer = Buffer.concat([
  field(1, Buffer.from('2.0')), field(2, Buffer.concat([field(1, Buffer.from('Kubernetes')), field(2, Buffer.from('v1.32.0'))])), field(8, Buffer.alloc(0)),
]);

function field(number: number, bytes: Buffer): Buffer { return Buffer.concat([Buffer.from([number << 3 | 2, bytes.length]), bytes]); }

function pathOf(groupVersion: string): string { return groupVersion.includes('/') ? `apis/${groupVersion}` : `api/${groupVersion}`; }

function sha512(...parts: (string | Buffer)[]): string {
  const hash = createHash('sha512');
  for (const part of parts) hash.update(part);
  return hash.digest('hex').toUpperCase();
}

function builtinHash(packageName: string): string {
  let hash = hashes.get(packageName);
  if (hash === undefined) {
    hashes.set(packageName, hash = sha512(`form ${formVersion} ${packageName}`, ...['core/v1', 'meta/v1', packageName].map(dataHash)));
  }
  return hash;
}

function dataHash(packageName: string): string {
  let hash = dataHashes.get(packageName);
  if (hash === undefined) dataHashes.set(packageName, hash = sha512(dataFile('types', packageName), dataFile('docs', packageName)));
  return hash;
}

function crdHash(groupVersion: string, crds: readonly CrdObject[]): string {
  const parts = crds.filter((crd) => groupVersion.startsWith(`${crd.spec?.group}/`)).map(specHash);
  return sha512(`form ${formVersion} ${groupVersion}`, ...parts);
}

/** Stored definitions are never changed in place, so each is hashed once: kubectl asks for the index on every command. */
function specHash(crd: CrdObject): string {
  let hash = specHashes.get(crd);
  if (hash === undefined) specHashes.set(crd, hash = sha512(JSON.stringify(crd.spec)));
  return hash;
}

/** One document per path is kept: a changed CRD replaces its predecessor. */
function cached(path: string, hash: string, build: () => Json): OpenApiDocument {
  const known = documents.get(path);
  if (known?.hash === hash) return known;
  const document = { json: Buffer.from(JSON.stringify(build())), hash };
  documents.set(path, document);
  return document;
}

function dataFile(folder: 'types' | 'docs', packageName: string): Buffer {
  return readFileSync(new URL(`./data/${folder}/${packageName.replace('/', '.')}.json`, import.meta.url));
}

function builtinDocument(packageName: string): Json {
  const group = packageGroups[packageName] ?? '';
  const version = packageName.slice(packageName.indexOf('/') + 1);
  const kinds = kindsOf(packageName).filter((row) => !isBodyOnly(packageName, row.kind)).map((row: KindRow): PathKind => ({ group, version, ...row, schemaName: componentName(`${packageName}.${row.kind}`), hasStrategicMerge: true }));
  return wrap(componentsOf(kindsOf(packageName).map((row) => `${packageName}.${row.kind}`).concat('meta/v1.DeleteOptions', 'meta/v1.Status')), openApiPaths(kinds));
}

function crdDocument(groupVersion: string, crds: readonly CrdObject[]): Json {
  const kinds = crdKinds(groupVersion, crds);
  const components = { ...componentsOf(['meta/v1.ObjectMeta', 'meta/v1.DeleteOptions', 'meta/v1.Status']), ...crdComponents(groupVersion, crds) };
  return wrap(components, openApiPaths(kinds));
}

function wrap(schemas: Json, paths: Json): Json {
  return { openapi: '3.0.0', info: { title: 'Kubernetes', version: 'v1.32.0' }, paths, components: { schemas } };
}

/** The named types and all types that they refer to, as OpenAPI components. */
function componentsOf(roots: readonly string[]): Json {
  const out: Json = {
    'io.k8s.apimachinery.pkg.api.resource.Quantity': { description: 'Quantity is a fixed-point representation of a number, such as 500m or 1Gi.', oneOf: [{ type: 'string' }, { type: 'number' }] },
    'io.k8s.apimachinery.pkg.util.intstr.IntOrString': { description: 'IntOrString is a type that can hold an int32 or a string.', format: 'int-or-string', oneOf: [{ type: 'integer' }, { type: 'string' }] },
  };
  const queue = [...roots];
  const seen = new Set(queue);
  for (let name = queue.pop(); name !== undefined; name = queue.pop()) {
    out[componentName(name)] = component(name, (ref) => { if (!seen.has(ref)) { seen.add(ref); queue.push(ref); } });
  }
  return out;
}

function docsOf(packageName: string): Docs {
  let docs = docsRead.get(packageName);
  if (docs === undefined) docsRead.set(packageName, docs = JSON.parse(dataFile('docs', packageName).toString()) as Docs);
  return docs;
}

function component(typeName: string, onRef: (name: string) => void): Json {
  const dot = typeName.indexOf('.');
  const packageName = typeName.slice(0, dot);
  const docs = docsOf(packageName)[typeName.slice(dot + 1)] ?? {};
  const schema = typeSchema(typeName);
  const properties: Json = {};
  for (const name of Object.keys(typeCodes(typeName))) {
    const child = schema.properties?.get(name);
    if (child !== undefined) properties[name] = propertyOf(child, docs[name], onRef);
  }
  const out: Json = { type: 'object', ...(docs[''] === undefined ? {} : { description: docs[''] }), properties };
  if (schema.required.length > 0) out['required'] = schema.required;
  if (atomicTypes.has(typeName)) out['x-kubernetes-map-type'] = 'atomic';
  const row = kindsOf(packageName).find((kind) => typeName === `${packageName}.${kind.kind}`);
  if (row !== undefined) out['x-kubernetes-group-version-kind'] = [{ group: packageGroups[packageName] === 'meta.k8s.io' ? '' : packageGroups[packageName] ?? '', version: packageName.slice(packageName.indexOf('/') + 1), kind: row.kind }];
  return out;
}

function propertyOf(schema: Schema, description: string | undefined, onRef: (name: string) => void): Json {
  const facts: Json = description === undefined ? {} : { description };
  if (schema.default !== undefined) facts['default'] = schema.default;
  if (schema.type === 'list') {
    facts['x-kubernetes-list-type'] = schema.listType;
    if (schema.listType === 'map') facts['x-kubernetes-list-map-keys'] = schema.listMapKeys;
  } else if (schema.type === 'map' && schema.isAtomic) facts['x-kubernetes-map-type'] = 'atomic';
  if (schema.mergeKey !== undefined && schema.mergeKey !== '') facts['x-kubernetes-patch-merge-key'] = schema.mergeKey;
  const strategy = [...(schema.mergeKey === undefined ? [] : ['merge']), ...(schema.hasRetainKeys ? ['retainKeys'] : []), ...(schema.isReplaced ? ['replace'] : [])].join(',');
  if (strategy !== '') facts['x-kubernetes-patch-strategy'] = strategy;
  const shape = shapeOf(schema, onRef);
  // A reference with siblings is ignored by readers of OpenAPI 3.0, so the reference goes into allOf.
  return '$ref' in shape && Object.keys(facts).length > 0 ? { ...facts, allOf: [shape] } : { ...facts, ...shape };
}

function shapeOf(schema: Schema, onRef: (name: string) => void): Json {
  switch (schema.type) {
    case 'object':
      onRef(schema.name ?? '');
      return { $ref: `#/components/schemas/${componentName(schema.name ?? '')}` };
    case 'list': return { type: 'array', items: shapeOf(schema.items as Schema, onRef) };
    case 'map': return { type: 'object', additionalProperties: shapeOf(schema.items as Schema, onRef) };
    case 'bool': return { type: 'boolean' };
    case 'int32': case 'int64': return { type: 'integer', format: schema.type };
    case 'double': return { type: 'number', format: 'double' };
    case 'byte': return { type: 'string', format: 'byte' };
    case 'time': case 'microtime': return { type: 'string', format: 'date-time' };
    case 'quantity': return { $ref: '#/components/schemas/io.k8s.apimachinery.pkg.api.resource.Quantity' };
    case 'intstr': return { $ref: '#/components/schemas/io.k8s.apimachinery.pkg.util.intstr.IntOrString' };
    case 'any': return { type: 'object' };
    default: return { type: 'string' };
  }
}
