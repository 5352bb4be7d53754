// /api, /apis and below: which groups, versions and resources there are, in the aggregated form (one answer for all) and
// the legacy form (one document per group-version). Documents are made once per set of custom kinds.
// Source: Kubernetes apidiscovery/v2, meta/v1 APIResourceList; order of groups is the clients' preference.

import { groupVersion, type ResourceInfo, type SubresourceInfo } from '../resources.ts';
import { compareVersions, type Registry } from './registry.ts';

const versionsOfAggregated = ['v2', 'v2beta1'] as const;
type AggregatedVersion = typeof versionsOfAggregated[number];

export interface DiscoveryDocument { body: string; contentType: string }

/** Serves and caches discovery documents. */
export class Discovery {
  readonly #registry: Registry;
  #fingerprint = '';
  #documents = new Map<string, DiscoveryDocument | undefined>();

  constructor(registry: Registry) { this.#registry = registry; }

  /** The document at this path for this Accept header; undefined where there is none. */
  find(path: string, accept: string): DiscoveryDocument | undefined {
    const fingerprint = this.#registry.fingerprint();
    if (fingerprint !== this.#fingerprint) {
      this.#documents.clear();
      this.#fingerprint = fingerprint;
    }
    const aggregated = path === '/api' || path === '/apis' ? aggregatedVersion(accept) : undefined;
    const key = `${path} ${aggregated ?? ''}`;
    if (!this.#documents.has(key)) {
      const made = this.#make(path, aggregated);
      if (made === undefined) return undefined;
      this.#documents.set(key, made);
    }
    return this.#documents.get(key);
  }

  #make(path: string, aggregated: AggregatedVersion | undefined): DiscoveryDocument | undefined {
    const all = this.#registry.all();
    if (aggregated !== undefined) {
      const body = JSON.stringify(aggregatedList(all.filter((info) => (info.group === '') === (path === '/api')), aggregated));
      return { body, contentType: `application/json;g=apidiscovery.k8s.io;v=${aggregated};as=APIGroupDiscoveryList` };
    }
    const document = legacyDocument(path, all);
    return document === undefined ? undefined : { body: JSON.stringify(document), contentType: 'application/json' };
  }
}

/** The first acceptable aggregated version in the client's order. */
function aggregatedVersion(accept: string): AggregatedVersion | undefined {
  for (const part of accept.split(',')) {
    if (!part.includes('as=APIGroupDiscoveryList') || !part.includes('g=apidiscovery.k8s.io')) {
      if (part.trim().startsWith('application/json') && !part.includes('as=')) return undefined;
      continue;
    }
    const version = /v=(v2beta1|v2)(?:;|\s|$)/.exec(part)?.[1];
    if (version !== undefined) return version as AggregatedVersion;
  }
  return undefined;
}

/** Groups in table order; inside a group versions by preference, inside a version resources by name. */
function grouped(all: readonly ResourceInfo[]): Map<string, Map<string, ResourceInfo[]>> {
  const groups = new Map<string, Map<string, ResourceInfo[]>>();
  for (const info of all) {
    let versions = groups.get(info.group);
    if (versions === undefined) groups.set(info.group, versions = new Map());
    const list = versions.get(info.version);
    if (list === undefined) versions.set(info.version, [info]); else list.push(info);
  }
  for (const [group, versions] of groups) {
    const sorted = [...versions].sort(([a], [b]) => compareVersions(a, b));
    for (const [, list] of sorted) list.sort((a, b) => (a.resource < b.resource ? -1 : 1));
    groups.set(group, new Map(sorted));
  }
  return groups;
}

function aggregatedList(all: readonly ResourceInfo[], version: AggregatedVersion): object {
  const items = [...grouped(all)].map(([group, versions]) => ({
    metadata: { ...(group === '' ? {} : { name: group }), creationTimestamp: null },
    versions: [...versions].map(([name, list]) => ({ version: name, resources: list.map((info) => aggregatedResource(info)), freshness: 'Current' })),
  }));
  return { kind: 'APIGroupDiscoveryList', apiVersion: `apidiscovery.k8s.io/${version}`, metadata: {}, items };
}

function aggregatedResource(info: ResourceInfo): object {
  const subresources = Object.entries(info.subresources).sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, sub]) => ({
    subresource: name, responseKind: { group: sub.group ?? info.group, version: sub.version ?? info.version, kind: sub.kind }, verbs: sub.verbs,
  }));
  return {
    resource: info.resource, responseKind: { group: info.group, version: info.version, kind: info.kind }, scope: info.isNamespaced ? 'Namespaced' : 'Cluster',
    singularResource: info.singular, verbs: info.verbs,
    ...(info.shortNames.length > 0 ? { shortNames: info.shortNames } : {}), ...(info.categories.length > 0 ? { categories: info.categories } : {}),
    ...(subresources.length > 0 ? { subresources } : {}),
  };
}

function legacyDocument(path: string, all: readonly ResourceInfo[]): object | undefined {
  if (path === '/api') return { kind: 'APIVersions', versions: ['v1'], serverAddressByClientCIDRs: [] };
  const groups = grouped(all);
  if (path === '/apis') return { kind: 'APIGroupList', apiVersion: 'v1', groups: [...groups].filter(([group]) => group !== '').map(([group, versions]) => apiGroup(group, versions)) };
  const parts = path.split('/').slice(1);
  if (parts[0] === 'apis' && parts.length === 2) {
    const versions = groups.get(parts[1] ?? '');
    return versions === undefined || parts[1] === '' ? undefined : { kind: 'APIGroup', apiVersion: 'v1', ...apiGroup(parts[1] ?? '', versions) };
  }
  const list = parts[0] === 'api' && parts.length === 2 ? groups.get('')?.get(parts[1] ?? '')
    : parts[0] === 'apis' && parts.length === 3 ? groups.get(parts[1] ?? '')?.get(parts[2] ?? '') : undefined;
  return list === undefined ? undefined : resourceList(list);
}

function apiGroup(name: string, versions: ReadonlyMap<string, unknown>): { name: string; versions: object[]; preferredVersion: object | undefined } {
  const list = [...versions.keys()].map((version) => ({ groupVersion: `${name}/${version}`, version }));
  return { name, versions: list, preferredVersion: list[0] };
}

function resourceList(list: readonly ResourceInfo[]): object {
  const entries = list.flatMap((info) => [
    { name: info.resource, singularName: info.singular, namespaced: info.isNamespaced, kind: info.kind, verbs: info.verbs,
      ...(info.shortNames.length > 0 ? { shortNames: info.shortNames } : {}), ...(info.categories.length > 0 ? { categories: info.categories } : {}) },
    ...Object.entries(info.subresources).map(([name, sub]) => subresourceEntry(info, name, sub)),
  ]);
  const first = list[0] as ResourceInfo;
  return { kind: 'APIResourceList', apiVersion: 'v1', groupVersion: groupVersion(first), resources: entries };
}

function subresourceEntry(info: ResourceInfo, name: string, sub: SubresourceInfo): object {
  return {
    name: `${info.resource}/${name}`, singularName: '', namespaced: info.isNamespaced,
    ...(sub.group === undefined ? {} : { group: sub.group, version: sub.version }), kind: sub.kind, verbs: sub.verbs,
  };
}
