// Watches the metadata of every kind that can have owners, custom kinds included, for garbage collection. Kinds that
// other controllers watch anyway are shared; of the others only metadata is kept.

import { Informer, type InformerEvent } from '../../../api/informer.ts';
import { apiVersionOf, resources, type ResourceRef } from '../../../api/resources.ts';
import type { KubeObject } from '../../../api/types.ts';
import { builtInResources } from '../../resources.ts';
import type { ControllerContext } from '../context.ts';

/** Kinds of which whole objects are kept in the shared informers. */
const sharedKinds: ReadonlySet<string> = new Set(['pods', 'services', 'endpoints', 'nodes', 'namespaces', 'configmaps', 'serviceaccounts', 'endpointslices', 'replicasets', 'deployments', 'statefulsets', 'daemonsets', 'jobs', 'cronjobs', 'customresourcedefinitions']);
/** Kinds that never have owners and change all the time. */
const skippedKinds: ReadonlySet<string> = new Set(['events']);

interface Definition extends KubeObject { spec?: { group: string; scope: string; names: { plural: string; kind: string }; versions: { name: string; served: boolean }[] }; status?: { conditions?: { type: string; status: string }[] } }
export type KindEvent = (kind: WatchedKind, event: InformerEvent<KubeObject>) => void;
export interface WatchedKind { readonly ref: ResourceRef; readonly informer: Informer<KubeObject>; readonly isPrivate: boolean }

export class WatchedKinds {
  readonly #context: ControllerContext;
  readonly #onEvent: KindEvent;
  readonly #kinds = new Map<string, WatchedKind>();
  readonly #unsubscribe = new Map<string, () => void>();
  readonly #definitions: Informer<Definition>;
  readonly #stopDefinitions: () => void;

  constructor(context: ControllerContext, onEvent: KindEvent) {
    this.#context = context;
    this.#onEvent = onEvent;
    const seen = new Set<string>();
    for (const info of builtInResources) {
      if (skippedKinds.has(info.resource) || seen.has(info.storage) || !info.verbs.includes('watch') || !info.verbs.includes('delete')) continue;
      seen.add(info.storage);
      this.#add({ group: info.group, version: info.version, resource: info.resource, kind: info.kind, isNamespaced: info.isNamespaced });
    }
    this.#definitions = context.informers.for<Definition>(resources.customresourcedefinitions);
    this.#stopDefinitions = this.#definitions.onChange(({ type, object }) => { if (type === 'delete') this.#drop(object); else this.#addCustom(object); });
    for (const definition of this.#definitions.store.values()) this.#addCustom(definition);
  }

  /** Resolves when everything that is watched now has been listed. */
  async whenSynced(): Promise<void> { await Promise.all([...this.#kinds.values()].map(({ informer }) => informer.whenSynced())); }

  stop(): void {
    this.#stopDefinitions();
    for (const end of this.#unsubscribe.values()) end();
    for (const { informer, isPrivate } of this.#kinds.values()) if (isPrivate) informer.stop();
  }

  values(): Iterable<WatchedKind> { return this.#kinds.values(); }

  /** The kind that an owner reference names. Versions of one kind are the same objects. */
  find(apiVersion: string, kind: string): WatchedKind | undefined {
    const exact = this.#kinds.get(`${apiVersion}/${kind}`);
    if (exact !== undefined) return exact;
    const group = apiVersion.includes('/') ? apiVersion.slice(0, apiVersion.indexOf('/')) : '';
    for (const each of this.#kinds.values()) if (each.ref.group === group && each.ref.kind === kind) return each;
    return undefined;
  }

  #add(ref: ResourceRef): void {
    const key = `${apiVersionOf(ref)}/${ref.kind}`;
    if (this.#kinds.has(key)) return;
    const { client, clock, log, informers } = this.#context;
    const isPrivate = !sharedKinds.has(ref.resource);
    const informer = isPrivate ? new Informer<KubeObject>(client, ref, { clock, log, transform: onlyMetadata }) : informers.for<KubeObject>(ref);
    const kind: WatchedKind = { ref, informer, isPrivate };
    this.#kinds.set(key, kind);
    this.#unsubscribe.set(key, informer.onChange((event) => this.#onEvent(kind, event)));
    if (isPrivate) informer.start();
  }

  #addCustom(definition: Definition): void {
    const { spec, status } = definition;
    const version = spec?.versions.find((each) => each.served);
    const isServed = status?.conditions?.some((each) => each.type === 'Established' && each.status === 'True') === true;
    if (spec !== undefined && version !== undefined && isServed) this.#add({ group: spec.group, version: version.name, resource: spec.names.plural, kind: spec.names.kind, isNamespaced: spec.scope === 'Namespaced' });
  }

  #drop(definition: Definition): void {
    for (const [key, kind] of [...this.#kinds]) {
      if (kind.ref.group !== definition.spec?.group || kind.ref.resource !== definition.spec.names.plural) continue;
      kind.informer.stop();
      this.#unsubscribe.get(key)?.();
      this.#kinds.delete(key);
    }
  }
}

function onlyMetadata(object: KubeObject): KubeObject {
  const { managedFields: _fields, annotations: _annotations, labels: _labels, ...metadata } = object.metadata;
  return { metadata };
}
