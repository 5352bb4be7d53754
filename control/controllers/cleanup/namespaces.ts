// Namespace life cycle: a new namespace gets its default ServiceAccount and the ConfigMap with the cluster's authority;
// a namespace on its way out is emptied kind by kind and then let go. Whatever still holds it is told in its conditions.
// Source: kubernetes pkg/controller/namespace, pkg/controller/serviceaccount, pkg/controller/certificates/rootcacertpublisher.

import { hasCode, isAlreadyExists, isConflict, isNotFound, NetloomError } from '../../../api/errors.ts';
import { formatTime } from '../../../api/clock.ts';
import type { Informer } from '../../../api/informer.ts';
import { resourcePath, resources, type ResourceRef } from '../../../api/resources.ts';
import type { Condition, ConfigMap, KubeList, KubeObject, Namespace } from '../../../api/types.ts';
import { builtInResources, type ResourceInfo } from '../../resources.ts';
import type { Controller, ControllerContext } from '../context.ts';
import { WorkQueue } from '../work-queue.ts';

export const rootCaConfigMap = 'kube-root-ca.crt';
/** A namespace that still holds something is looked at again this soon; what it holds may end by itself. */
const recheckMsMin = 20;
const recheckMsMax = 5_000;
/** Kinds deleted in one go; Pods and their owners first, so that nothing is made anew. */
const deleteParallel = 8;

interface Definition extends KubeObject { spec?: { group: string; scope: string; names: { plural: string; kind: string }; versions: { name: string; served: boolean }[] } }

export class NamespaceController implements Controller {
  readonly name = 'namespace';
  readonly queues: readonly WorkQueue[];
  readonly #context: ControllerContext;
  readonly #queue: WorkQueue;
  readonly #accounts: Informer<KubeObject>;
  readonly #definitions: Informer<Definition>;
  readonly #rechecks = new Map<string, number>();
  readonly #unsubscribe: (() => void)[];

  constructor(context: ControllerContext) {
    this.#context = context;
    const { clock, log, informers } = context;
    this.#queue = new WorkQueue({ name: this.name, clock, log, sync: (key) => this.#sync(key) });
    this.queues = [this.#queue];
    this.#accounts = informers.for<KubeObject>(resources.serviceaccounts);
    this.#definitions = informers.for<Definition>(resources.customresourcedefinitions);
    this.#unsubscribe = [
      informers.namespaces.onChange(({ key }) => this.#queue.add(key)),
      this.#accounts.onChange(({ type, object }) => { if (type === 'delete') this.#queue.add(object.metadata.namespace ?? ''); }),
      informers.configMaps.onChange(({ type, object }) => { if (type !== 'add' && object.metadata.name === rootCaConfigMap) this.#queue.add(object.metadata.namespace ?? ''); }),
      informers.pods.onChange(({ type, object }) => { if (type === 'delete' && this.#isTerminating(object.metadata.namespace ?? '')) this.#queue.add(object.metadata.namespace ?? ''); }),
    ];
  }

  start(): void {
    for (const key of this.#context.informers.namespaces.store.keys()) this.#queue.add(key);
    this.#queue.start();
  }

  stop(): void {
    for (const end of this.#unsubscribe) end();
    this.#queue.stop();
  }

  #isTerminating(name: string): boolean { return this.#context.informers.namespaces.store.get(name)?.metadata.deletionTimestamp !== undefined; }

  async #sync(name: string): Promise<void> {
    const namespace = this.#context.informers.namespaces.store.get(name);
    if (namespace === undefined) { this.#rechecks.delete(name); return; }
    if (namespace.metadata.deletionTimestamp === undefined) await this.#furnish(name);
    else if ((namespace.spec?.finalizers ?? []).includes('kubernetes')) await this.#empty(namespace);
  }

  async #furnish(name: string): Promise<void> {
    const { client, informers, config } = this.#context;
    const tasks: Promise<unknown>[] = [];
    if (this.#accounts.store.get(`${name}/default`) === undefined) tasks.push(ignoreExisting(client.create(resources.serviceaccounts, name, { metadata: { name: 'default', namespace: name } })));
    const authority = informers.configMaps.store.get(`${name}/${rootCaConfigMap}`);
    const data = { 'ca.crt': config.caPem };
    if (config.caPem !== '' && authority === undefined) {
      const annotation = { 'kubernetes.io/description': 'Contains a CA bundle that can be used to verify the API server when using internal endpoints such as the internal service IP or kubernetes.default.svc.' };
      tasks.push(ignoreExisting(client.create<ConfigMap>(resources.configmaps, name, { metadata: { name: rootCaConfigMap, namespace: name, annotations: annotation }, data })));
    } else if (config.caPem !== '' && authority?.data?.['ca.crt'] !== config.caPem) tasks.push(client.patch(resources.configmaps, name, rootCaConfigMap, { data }, { type: 'merge' }));
    await Promise.all(tasks);
  }

  async #empty(namespace: Namespace): Promise<void> {
    const { client } = this.#context;
    const name = namespace.metadata.name;
    const kinds = this.#kinds();
    const left: string[] = [];
    for (let from = 0; from < kinds.length; from += deleteParallel) {
      await Promise.all(kinds.slice(from, from + deleteParallel).map(async (kind) => {
        const remaining = await this.#emptyKind(kind, name);
        if (remaining > 0) left.push(`${kind.resource}${kind.group === '' ? '' : `.${kind.group}`} has ${remaining} resource instances`);
      }));
    }
    if (left.length > 0) { await this.#waitForRest(namespace, left.sort()); return; }
    this.#rechecks.delete(name);
    const live = await client.get<Namespace>(resources.namespaces, undefined, name);
    await client.raw('PUT', resourcePath(resources.namespaces, undefined, name, 'finalize'), { ...live, apiVersion: 'v1', kind: 'Namespace', spec: { finalizers: (live.spec?.finalizers ?? []).filter((each) => each !== 'kubernetes') } }).catch((error: unknown) => { if (!isNotFound(error)) throw error; });
  }

  /** Every namespaced kind that can be listed and deleted; what makes other objects comes first. */
  #kinds(): ResourceRef[] {
    const rank = (kind: ResourceRef): number => (['deployments', 'cronjobs'].includes(kind.resource) ? 0 : kind.group === 'apps' || kind.group === 'batch' ? 1 : kind.resource === 'events' ? 3 : 2);
    const seen = new Set<string>();
    const kinds: ResourceRef[] = builtInResources.filter((info: ResourceInfo) => {
      if (!info.isNamespaced || !info.verbs.includes('list') || !info.verbs.includes('delete') || seen.has(info.storage)) return false;
      seen.add(info.storage);
      return true;
    });
    for (const { spec } of this.#definitions.store.values()) {
      const version = spec?.versions.find((each) => each.served);
      if (spec?.scope === 'Namespaced' && version !== undefined) kinds.push({ group: spec.group, version: version.name, resource: spec.names.plural, kind: spec.names.kind, isNamespaced: true });
    }
    return [...kinds].sort((a, b) => rank(a) - rank(b));
  }

  /** Deletes everything of one kind; returns how many objects are left, because they have finalizers or grace. */
  async #emptyKind(kind: ResourceRef, namespace: string): Promise<number> {
    const { client } = this.#context;
    const path = resourcePath(kind, namespace);
    try {
      if (await countOf(client.list(kind, namespace, { limit: 1 })) === 0) return 0;
      await client.raw('DELETE', path, { kind: 'DeleteOptions', apiVersion: 'v1', propagationPolicy: 'Background' });
      return await countOf(client.list(kind, namespace, { limit: 1 }));
    } catch (error) {
      if (isNotFound(error) || hasCode(error, 'MethodNotAllowed')) return 0;
      throw new NetloomError('InternalError', `cannot empty ${kind.resource} of namespace ${namespace}: ${(error as Error).message}`, { cause: error });
    }
  }

  async #waitForRest(namespace: Namespace, left: readonly string[]): Promise<void> {
    const { clock, client } = this.#context;
    const name = namespace.metadata.name;
    const count = this.#rechecks.get(name) ?? 0;
    this.#rechecks.set(name, count + 1);
    this.#queue.addAfter(name, Math.min(recheckMsMax, recheckMsMin * 2 ** Math.min(count, 10)));
    const message = `Some resources are remaining: ${left.join(', ')}`;
    if (count < 3 || namespace.status?.conditions?.some((condition) => condition.type === 'NamespaceContentRemaining' && condition.message === message) === true) return;
    const condition: Condition = { type: 'NamespaceContentRemaining', status: 'True', reason: 'SomeResourcesRemain', message, lastTransitionTime: formatTime(clock.nowMs()) };
    const conditions = [...(namespace.status?.conditions ?? []).filter((each) => each.type !== condition.type), condition];
    await client.patch(resources.namespaces, undefined, name, { status: { conditions } }, { type: 'merge', subresource: 'status' }).catch((error: unknown) => { if (!isNotFound(error) && !isConflict(error)) throw error; });
  }
}

async function countOf(listing: Promise<KubeList>): Promise<number> {
  const list = await listing;
  return list.items.length + (list.metadata.remainingItemCount ?? 0);
}

async function ignoreExisting(task: Promise<unknown>): Promise<void> {
  try { await task; } catch (error) {
    // A namespace that is going away refuses new content; nothing is missing there.
    if (!isAlreadyExists(error) && !isNotFound(error) && !hasCode(error, 'Forbidden')) throw error;
  }
}
