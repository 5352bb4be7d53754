// What CustomResourceDefinitions add to the OpenAPI documents: their group-versions, kinds and published schemas. Called by `openapi`.
// A published schema is the CRD's own with apiVersion, kind and metadata put in, as the API server publishes it. Pure.

import type { KubeObject } from '../../api/types.ts';
import type { PathKind } from './openapi-paths.ts';
import { cloneJson, isRecord } from './schema.ts';

/** One entry of spec.versions. */
export interface CrdVersion {
  name: string; served?: boolean; storage?: boolean; deprecated?: boolean;
  schema?: { openAPIV3Schema?: Record<string, unknown> };
  subresources?: { status?: Record<string, unknown>; scale?: { specReplicasPath?: string; statusReplicasPath?: string; labelSelectorPath?: string } };
  additionalPrinterColumns?: { name: string; type: string; format?: string; description?: string; priority?: number; jsonPath: string }[];
  selectableFields?: { jsonPath: string }[];
}

/** A CustomResourceDefinition, as far as netloom reads it. */
export interface CrdObject extends KubeObject {
  spec?: {
    group: string; scope: string; preserveUnknownFields?: boolean;
    names: { plural: string; singular?: string; kind: string; listKind?: string; shortNames?: string[]; categories?: string[] };
    versions: CrdVersion[];
  };
  status?: Record<string, unknown>;
}

/** `GROUP/VERSION` of every served version, sorted, once each. */
export function crdGroupVersions(crds: readonly CrdObject[]): string[] {
  const found = new Set<string>();
  for (const crd of crds) for (const version of crd.spec?.versions ?? []) if (version.served !== false) found.add(`${crd.spec?.group}/${version.name}`);
  return [...found].sort();
}

/** Component name of a custom kind: group reversed, version, kind. */
export function crdSchemaName(group: string, version: string, kind: string): string {
  return `${group.split('.').reverse().join('.')}.${version}.${kind}`;
}

/** The kinds of one group-version for `openApiPaths`. */
export function crdKinds(groupVersion: string, crds: readonly CrdObject[]): PathKind[] {
  return servedIn(groupVersion, crds).map(({ crd, version }) => ({
    group: crd.spec?.group ?? '', version: version.name, kind: crd.spec?.names.kind ?? '', plural: crd.spec?.names.plural ?? '', isNamespaced: crd.spec?.scope === 'Namespaced',
    sub: Object.keys(version.subresources ?? {}), isCreateOnly: false, hasStrategicMerge: false,
    schemaName: crdSchemaName(crd.spec?.group ?? '', version.name, crd.spec?.names.kind ?? ''),
  }));
}

/** The components of one group-version. */
export function crdComponents(groupVersion: string, crds: readonly CrdObject[]): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const { crd, version } of servedIn(groupVersion, crds)) {
    const group = crd.spec?.group ?? '';
    const kind = crd.spec?.names.kind ?? '';
    const schema = cloneJson(version.schema?.openAPIV3Schema ?? { type: 'object', 'x-kubernetes-preserve-unknown-fields': true });
    const properties = isRecord(schema['properties']) ? schema['properties'] : {};
    schema['properties'] = {
      ...properties,
      apiVersion: { type: 'string', description: 'APIVersion defines the versioned schema of this representation of an object.' },
      kind: { type: 'string', description: 'Kind is a string value representing the REST resource this object represents.' },
      metadata: { description: "Standard object's metadata.", allOf: [{ $ref: '#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta' }] },
    };
    schema['x-kubernetes-group-version-kind'] = [{ group, version: version.name, kind }];
    out[crdSchemaName(group, version.name, kind)] = schema;
  }
  return out;
}

function servedIn(groupVersion: string, crds: readonly CrdObject[]): { crd: CrdObject; version: CrdVersion }[] {
  return crds.flatMap((crd) => (crd.spec?.versions ?? []).filter((version) => version.served !== false && `${crd.spec?.group}/${version.name}` === groupVersion).map((version) => ({ crd, version })));
}
