// Finds the kind that a request names, built in or custom. Built-in rows come from the table; a custom kind is looked
// up in the store by its definition's name (`plural.group`), so a new definition is served from the moment it is stored.
// Compiled definitions are kept per stored revision.

import type { KubeObject } from '../../api/types.ts';
import { allVerbs, builtInResources, groupVersion, type ResourceInfo, type SubresourceInfo } from '../resources.ts';
import { crdSchema, type CompiledCrd, type CrdObject } from '../schema/crd.ts';
import type { Storage, Stored } from '../storage/store.ts';

/** The parts of a CustomResourceDefinition that serving reads. */
export interface CrdVersion {
  name: string; served: boolean; storage: boolean; deprecated?: boolean; deprecationWarning?: string;
  schema?: { openAPIV3Schema?: Record<string, unknown> };
  subresources?: { status?: object; scale?: { specReplicasPath: string; statusReplicasPath: string; labelSelectorPath?: string } };
  additionalPrinterColumns?: { name: string; type: string; format?: string; description?: string; priority?: number; jsonPath: string }[];
  selectableFields?: { jsonPath: string }[];
}
export interface Crd extends KubeObject {
  spec: {
    group: string; scope: 'Namespaced' | 'Cluster'; names: { plural: string; singular?: string; kind: string; listKind?: string; shortNames?: string[]; categories?: string[] };
    versions: CrdVersion[]; preserveUnknownFields?: boolean; conversion?: { strategy?: string };
  };
  status?: { conditions?: { type: string; status: string }[]; acceptedNames?: { singular?: string; shortNames?: string[]; categories?: string[] }; storedVersions?: string[] };
}

export const crdStorage = 'customresourcedefinitions.apiextensions.k8s.io';
export const crdCleanupFinalizer = 'customresourcecleanup.apiextensions.k8s.io';

const builtIn = new Map(builtInResources.map((info) => [`${groupVersion(info)}/${info.resource}`, info]));
const builtInGroups = new Set(builtInResources.map((info) => info.group));
/** What the store keeps for the servers themselves: keys, claims. No definition makes it visible. */
const hiddenCollections: ReadonlySet<string> = new Set(['keys.netloom.dev', 'claims.netloom.dev']);
const readWrite = ['get', 'patch', 'update'];

interface MadeCrd { revision: number; crd: Crd; rows: readonly ResourceInfo[] }

/** All kinds of one server. */
export class Registry {
  readonly #storage: Storage;
  readonly #made = new Map<string, MadeCrd>();

  constructor(storage: Storage) { this.#storage = storage; }

  /** The served kind, or undefined. */
  find(group: string, version: string, resource: string): ResourceInfo | undefined {
    const row = builtIn.get(`${group === '' ? version : `${group}/${version}`}/${resource}`);
    if (row !== undefined || builtInGroups.has(group)) return row;
    const stored = this.#storage.get(crdStorage, `${resource}.${group}`);
    return stored === undefined ? undefined : this.#make(stored).rows.find((info) => info.version === version);
  }

  /** The kind of that apiVersion and kind name, for references from one object to another. */
  findKind(apiVersion: string, kind: string): ResourceInfo | undefined {
    return builtInResources.find((info) => info.kind === kind && groupVersion(info) === apiVersion) ?? this.customs().find((info) => info.kind === kind && groupVersion(info) === apiVersion);
  }

  /** The definition behind a custom kind. */
  definition(info: ResourceInfo): Crd | undefined {
    const stored = info.crdName === undefined ? undefined : this.#storage.get(crdStorage, info.crdName);
    return stored === undefined ? undefined : this.#make(stored).crd;
  }

  definitionVersion(info: ResourceInfo): CrdVersion | undefined {
    return this.definition(info)?.spec.versions.find((version) => version.name === info.version);
  }

  /** The compiled schema of a custom kind; undefined for built-in ones. */
  compiled(info: ResourceInfo): CompiledCrd | undefined {
    const crd = this.definition(info);
    return crd === undefined ? undefined : crdSchema(crd as unknown as CrdObject, info.version);
  }

  definitions(): Crd[] { return this.#storage.list(crdStorage).items.map((stored) => this.#make(stored).crd); }

  /** Every served custom kind, by definition name, newest version first. */
  customs(): ResourceInfo[] {
    return this.#storage.list(crdStorage).items.flatMap((stored) => [...this.#make(stored).rows]);
  }

  all(): ResourceInfo[] { return [...builtInResources, ...this.customs()]; }

  /** Changes whenever the set of custom kinds may have changed; keys discovery and OpenAPI caches. */
  fingerprint(): string { return this.#storage.list(crdStorage).items.map((stored) => `${stored.key}@${stored.revision}`).join(','); }

  /** Kept per revision, so that what is compiled from a definition is compiled once. */
  #make(stored: Stored): MadeCrd {
    let made = this.#made.get(stored.key);
    if (made === undefined || made.revision !== stored.revision) {
      const crd = stored.object as Crd;
      made = { revision: stored.revision, crd, rows: rowsOf(crd) };
      this.#made.set(stored.key, made);
    }
    return made;
  }
}

function rowsOf(crd: Crd): ResourceInfo[] {
  const { group, names, scope, versions } = crd.spec;
  if (!isEstablished(crd) || hiddenCollections.has(`${names.plural}.${group}`)) return [];
  return versions.filter((version) => version.served).sort((a, b) => compareVersions(a.name, b.name)).map((version) => {
    const subresources: Record<string, SubresourceInfo> = {};
    if (version.subresources?.status !== undefined) subresources['status'] = { kind: names.kind, verbs: readWrite };
    if (version.subresources?.scale !== undefined) subresources['scale'] = { kind: 'Scale', group: 'autoscaling', version: 'v1', verbs: readWrite };
    const accepted = crd.status?.acceptedNames ?? names;
    return {
      group, version: version.name, resource: names.plural, kind: names.kind, singular: accepted.singular ?? names.kind.toLowerCase(), isNamespaced: scope === 'Namespaced',
      shortNames: accepted.shortNames ?? [], categories: accepted.categories ?? [], verbs: allVerbs, subresources, storage: `${names.plural}.${group}`,
      hasGeneration: true, hasStatus: version.subresources?.status !== undefined, mayCreateOnUpdate: false, needsVersionOnUpdate: true,
      fieldLabels: Object.fromEntries((version.selectableFields ?? []).map(({ jsonPath }) => [jsonPath.replace(/^\./, ''), jsonPath.replace(/^\./, '')])),
      crdName: crd.metadata.name,
    };
  });
}

/** Whether a definition's names were accepted, so that it is served. */
export function isEstablished(crd: Crd): boolean {
  return crd.status?.conditions?.some((condition) => condition.type === 'Established' && condition.status === 'True') ?? false;
}

/** GA before beta before alpha, then higher numbers first (apimachinery version.CompareKubeAwareVersionStrings). */
export function compareVersions(a: string, b: string): number {
  const rank = (text: string): [number, number, number] => {
    const match = /^v(\d+)(?:(alpha|beta)(\d+))?$/.exec(text);
    if (match === null) return [3, 0, 0];
    return [match[2] === undefined ? 0 : match[2] === 'beta' ? 1 : 2, -Number(match[1]), -Number(match[3] ?? 0)];
  };
  const [x, y] = [rank(a), rank(b)];
  return x[0] - y[0] || x[1] - y[1] || x[2] - y[2] || (a < b ? -1 : a > b ? 1 : 0);
}
