// Rules of CustomResourceDefinitions: names, versions and that each schema is structural. Called by `validate`.
// Source: apiextensions-apiserver pkg/apis/apiextensions/validation, pkg/apiserver/schema/validation.go.

import { compileSchema } from '../schema/custom/compile.ts';
import { validateBySchema } from '../schema/custom/values.ts';
import { cloneJson, plainSchema } from '../schema/schema.ts';
import type { Fields } from './fields.ts';
import { entries, maybePart, part, parts, text, texts } from './fields.ts';
import { immutable } from './metadata.ts';
import { checkDns1035Label, checkSubdomain } from './names.ts';
import type { Problems } from './problems.ts';

const forbiddenWords: Readonly<Record<string, string>> = {
  $ref: '$ref is not supported', definitions: 'definitions is not supported', dependencies: 'dependencies is not supported',
  patternProperties: 'patternProperties is not supported', additionalItems: 'additionalItems is not supported', id: 'id is not supported',
};
const schemaTypes = ['array', 'boolean', 'integer', 'number', 'object', 'string'];
/** Deepest nesting of a schema. */
const schemaDepthMax = 128;

/** Checks a CustomResourceDefinition. */
export function validateCrd(crd: unknown, problems: Problems): void {
  const spec = part(crd, 'spec');
  const names = part(spec, 'names');
  const group = text(spec, 'group');
  const name = text(part(crd, 'metadata'), 'name');
  if (name !== '' && name !== `${text(names, 'plural')}.${group}`) problems.invalid('metadata.name', name, 'must be spec.names.plural+"."+spec.group');
  if (group === '') problems.required('spec.group');
  else if (!group.includes('.')) problems.invalid('spec.group', group, 'should be a domain with at least one dot');
  else problems.invalidEach('spec.group', group, checkSubdomain(group));
  const scope = text(spec, 'scope');
  if (scope === '') problems.required('spec.scope'); else if (scope !== 'Cluster' && scope !== 'Namespaced') problems.notSupported('spec.scope', scope, ['Cluster', 'Namespaced']);
  validateNames(names, problems);
  if (spec['preserveUnknownFields'] === true) problems.invalid('spec.preserveUnknownFields', true, 'must be false');
  const conversion = text(part(spec, 'conversion'), 'strategy');
  if (conversion !== '' && conversion !== 'None' && conversion !== 'Webhook') problems.notSupported('spec.conversion.strategy', conversion, ['None', 'Webhook']);
  validateVersions(parts(spec, 'versions'), problems);
}

function validateNames(names: Fields, problems: Problems): void {
  for (const field of ['plural', 'singular', 'kind', 'listKind'] as const) {
    const value = text(names, field);
    const isKind = field === 'kind' || field === 'listKind';
    if (value === '') { problems.required(`spec.names.${field}`); continue; }
    const complaints = checkDns1035Label(isKind ? value.toLowerCase() : value);
    problems.invalidEach(`spec.names.${field}`, value, isKind ? complaints.map((complaint) => `may have mixed case, but should otherwise match: ${complaint}`) : complaints);
  }
  if (text(names, 'kind') !== '' && text(names, 'kind') === text(names, 'listKind')) problems.invalid('spec.names.listKind', text(names, 'listKind'), 'kind and listKind may not be the same');
  for (const field of ['shortNames', 'categories']) texts(names, field).forEach((value, index) => problems.invalidEach(`spec.names.${field}[${index}]`, value, checkDns1035Label(value)));
}

function validateVersions(versions: readonly Fields[], problems: Problems): void {
  const names = new Set<string>();
  let storageCount = 0;
  versions.forEach((version, index) => {
    const path = `spec.versions[${index}]`;
    const name = text(version, 'name');
    problems.invalidEach(`${path}.name`, name, checkDns1035Label(name));
    if (names.has(name)) problems.invalid('spec.versions', name, 'must contain unique version names');
    names.add(name);
    if (version['storage'] === true) storageCount++;
    const schema = maybePart(maybePart(version, 'schema'), 'openAPIV3Schema');
    if (schema === undefined) problems.required(`${path}.schema.openAPIV3Schema`, 'schemas are required');
    else validateStructure(schema, `${path}.schema.openAPIV3Schema`, 'root', 0, problems);
    parts(version, 'additionalPrinterColumns').forEach((column, at) => {
      for (const field of ['name', 'jsonPath', 'type']) if (text(column, field) === '') problems.required(`${path}.additionalPrinterColumns[${at}].${field === 'jsonPath' ? 'JSONPath' : field}`);
      const type = text(column, 'type');
      if (type !== '' && !['boolean', 'date', 'integer', 'number', 'string'].includes(type)) problems.notSupported(`${path}.additionalPrinterColumns[${at}].type`, type, ['boolean', 'date', 'integer', 'number', 'string']);
    });
    const scale = maybePart(maybePart(version, 'subresources'), 'scale');
    for (const field of scale === undefined ? [] : ['specReplicasPath', 'statusReplicasPath'] as const) if (text(scale, field) === '') problems.required(`${path}.subresources.scale.${field}`);
  });
  if (versions.length === 0) problems.required('spec.versions', 'must have at least one version');
  if (storageCount !== 1) problems.invalid('spec.versions', versions.map((version) => text(version, 'name')), 'must have exactly one version marked as storage version');
}

type Place = 'root' | 'field' | 'item' | 'value';
const placeWords: Readonly<Record<Place, string>> = {
  root: 'must not be empty at the root', field: 'must not be empty for specified object fields', item: 'must not be empty for specified array items', value: 'must not be empty for specified object fields',
};

function validateStructure(schema: Fields, path: string, place: Place, depth: number, problems: Problems): void {
  if (depth > schemaDepthMax) { problems.invalid(path, '', `nested deeper than ${schemaDepthMax}`); return; }
  const type = text(schema, 'type');
  const isFree = schema['x-kubernetes-int-or-string'] === true || (schema['x-kubernetes-preserve-unknown-fields'] === true && place !== 'root');
  if (type === '' && !isFree) problems.required(`${path}.type`, placeWords[place]);
  else if (type !== '' && !schemaTypes.includes(type)) problems.notSupported(`${path}.type`, type, schemaTypes);
  else if (place === 'root' && type !== 'object' && type !== '') problems.invalid(`${path}.type`, type, 'must be object at the root');
  for (const [word, complaint] of Object.entries(forbiddenWords)) if (schema[word] !== undefined) problems.forbidden(`${path}.${word}`, complaint);
  if (schema['uniqueItems'] === true) problems.forbidden(`${path}.uniqueItems`, 'uniqueItems cannot be set to true since the runtime complexity becomes quadratic');
  const properties = entries(schema, 'properties');
  const values = schema['additionalProperties'];
  if (properties.length > 0 && values !== undefined && values !== false) problems.forbidden(`${path}.additionalProperties`, 'additionalProperties and properties are mutual exclusive');
  if (type === 'array' && schema['items'] === undefined && !isFree) problems.required(`${path}.items`, 'must be specified');
  validatePattern(schema, path, problems);
  if (schema['default'] !== undefined && problems.count === 0) validateDefault(schema, `${path}.default`, place, problems);
  validateListType(schema, type, path, problems);
  for (const [key, child] of properties) validateStructure(child as Fields, `${path}.properties[${key}]`, 'field', depth + 1, problems);
  if (typeof values === 'object' && values !== null) validateStructure(values as Fields, `${path}.additionalProperties`, 'value', depth + 1, problems);
  if (typeof schema['items'] === 'object' && schema['items'] !== null && !Array.isArray(schema['items'])) validateStructure(schema['items'] as Fields, `${path}.items`, 'item', depth + 1, problems);
}

function validatePattern(schema: Fields, path: string, problems: Problems): void {
  const pattern = text(schema, 'pattern');
  if (pattern === '') return;
  try {
    new RegExp(pattern, 'u');
  } catch {
    try {
      new RegExp(pattern);
    } catch (error) {
      problems.invalid(`${path}.pattern`, pattern, `must be a valid regular expression, but isn't: ${(error as Error).message}`);
    }
  }
}

/** A default must hold against its own schema: it is stored without further checks. */
function validateDefault(schema: Fields, path: string, place: Place, problems: Problems): void {
  if (place === 'root') { problems.forbidden(path, 'must not be set at the root'); return; }
  const holder = { ...plainSchema, type: 'object' as const, properties: new Map([['default', compileSchema(schema)]]) };
  for (const cause of validateBySchema({ default: cloneJson(schema['default']) }, undefined, holder)) problems.invalid(path, schema['default'], cause.message ?? '');
}

function validateListType(schema: Fields, type: string, path: string, problems: Problems): void {
  const listType = text(schema, 'x-kubernetes-list-type');
  if (listType === '') return;
  if (type !== 'array') problems.invalid(`${path}.type`, type, 'must be array if x-kubernetes-list-type is specified');
  if (!['atomic', 'map', 'set'].includes(listType)) problems.notSupported(`${path}.x-kubernetes-list-type`, listType, ['atomic', 'map', 'set']);
  const keys = texts(schema, 'x-kubernetes-list-map-keys');
  if (listType === 'map' && keys.length === 0) problems.required(`${path}.x-kubernetes-list-map-keys`, 'must not be empty if x-kubernetes-list-type is map');
  if (listType !== 'map' && keys.length > 0) problems.forbidden(`${path}.x-kubernetes-list-map-keys`, 'must not be set if x-kubernetes-list-type is not map');
  const items = part(schema, 'items');
  for (const key of keys) {
    const field = maybePart(maybePart(items, 'properties'), key);
    if (field === undefined) problems.invalid(`${path}.x-kubernetes-list-map-keys`, keys, 'entries must all be names of item properties');
    else if (!texts(items, 'required').includes(key) && field['default'] === undefined) problems.required(`${path}.items.properties[${key}].default`, 'this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property');
  }
}

/** Group, scope and names of an established definition never change. */
export function validateCrdUpdate(crd: unknown, old: unknown, problems: Problems): void {
  for (const field of ['group', 'scope']) immutable(part(crd, 'spec')[field], part(old, 'spec')[field], `spec.${field}`, problems);
  for (const field of ['kind', 'plural']) immutable(part(part(crd, 'spec'), 'names')[field], part(part(old, 'spec'), 'names')[field], `spec.names.${field}`, problems);
}
