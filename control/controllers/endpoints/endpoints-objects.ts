// The Endpoints controller: the older, single object per Service that some clients still read. Proxies and DNS of
// netloom work from EndpointSlices alone.
// Source: kubernetes pkg/controller/endpoint/endpoints_controller.go.

import { parseCIDR, type Cidr } from '../../../api/address.ts';
import { isAlreadyExists, isNotFound } from '../../../api/errors.ts';
import type { Informer } from '../../../api/informer.ts';
import { annotations, labels, objectKey } from '../../../api/meta.ts';
import { resources } from '../../../api/resources.ts';
import type { Endpoints, Service } from '../../../api/types.ts';
import type { Controller, ControllerContext } from '../context.ts';
import { OwnWrites } from '../own-writes.ts';
import { WorkQueue } from '../work-queue.ts';
import { isUsableAddress, isWithoutClusterIP } from './pod-endpoint.ts';
import type { ServiceMatcher } from './service-matcher.ts';
import { makeSubsets } from './subsets.ts';

const managedBy = 'endpoints.kubernetes.io/managed-by';
export const endpointsManager = 'endpoint-controller';

export class EndpointsController implements Controller {
  readonly name = 'endpoint';
  readonly queues: readonly WorkQueue[];
  readonly #context: ControllerContext;
  readonly #matcher: ServiceMatcher;
  readonly #queue: WorkQueue;
  readonly #informer: Informer<Endpoints>;
  readonly #own: OwnWrites<Endpoints>;
  readonly #triggers = new Map<string, number>();
  readonly #podRanges: readonly Cidr[];
  readonly #unsubscribe: (() => void)[];

  constructor(context: ControllerContext, matcher: ServiceMatcher) {
    this.#context = context;
    this.#podRanges = context.config.podCIDRs.map((text) => parseCIDR(text)).filter((cidr) => cidr !== undefined);
    this.#matcher = matcher;
    const { clock, log, informers, config } = context;
    this.#informer = informers.for<Endpoints>(resources.endpoints);
    this.#own = new OwnWrites(this.#informer, 'endpointsKey', (object) => [objectKey(object)]);
    this.#queue = new WorkQueue({ name: this.name, clock, log, concurrency: config.concurrency, sync: (key) => this.#sync(key) });
    this.queues = [this.#queue];
    this.#unsubscribe = [
      matcher.onDirty((key, triggerMs) => {
        const known = this.#triggers.get(key);
        if (triggerMs !== undefined && (known === undefined || triggerMs < known)) this.#triggers.set(key, triggerMs);
        this.#queue.add(key);
      }),
      this.#informer.onChange(({ key }) => this.#queue.add(key)),
    ];
  }

  start(): void {
    for (const key of this.#context.informers.services.store.keys()) this.#queue.add(key);
    for (const key of this.#informer.store.keys()) this.#queue.add(key);
    this.#queue.start();
  }

  stop(): void {
    for (const end of this.#unsubscribe) end();
    this.#own.stop();
    this.#queue.stop();
  }

  async #sync(key: string): Promise<void> {
    const { client, informers } = this.#context;
    const service = informers.services.store.get(key);
    const old = this.#own.get(key);
    const triggerMs = this.#triggers.get(key);
    this.#triggers.delete(key);
    if (service === undefined) {
      if (old?.metadata.labels?.[managedBy] !== endpointsManager) return;
      try { await client.delete(resources.endpoints, old.metadata.namespace, old.metadata.name, { preconditions: { uid: old.metadata.uid } }); } catch (error) { if (!isNotFound(error)) throw error; }
      this.#own.removed(old);
      return;
    }
    if (Object.keys(service.spec?.selector ?? {}).length === 0 || service.spec?.type === 'ExternalName') return;
    const wanted = this.#wanted(service, old, triggerMs);
    if (wanted === undefined) return;
    try {
      this.#own.wrote(old === undefined ? await client.create<Endpoints>(resources.endpoints, service.metadata.namespace, wanted) : await client.update<Endpoints>(resources.endpoints, wanted));
    } catch (error) {
      if (triggerMs !== undefined && !this.#triggers.has(key)) this.#triggers.set(key, triggerMs);
      if (!isAlreadyExists(error)) throw error;
      this.#queue.addAfter(key, 20);
    }
  }

  /** The object to write; undefined when it is there already. */
  #wanted(service: Service, old: Endpoints | undefined, triggerMs: number | undefined): Endpoints | undefined {
    const { name, namespace } = service.metadata;
    const { subsets, isTruncated } = makeSubsets(service, this.#matcher.podsOf(service), this.#context.config.endpointsAddressesMax,
      (ip, pod) => isUsableAddress(ip, this.#context.informers.nodes.store.get(pod.spec?.nodeName ?? ''), this.#podRanges));
    const ownLabels: Record<string, string> = { ...service.metadata.labels, [managedBy]: endpointsManager };
    if (isWithoutClusterIP(service)) ownLabels[labels.headless] = '';
    const notes: Record<string, string> = { ...old?.metadata.annotations };
    if (isTruncated) notes[annotations.overCapacity] = 'truncated'; else delete notes[annotations.overCapacity];
    const isSame = old !== undefined && isSameSubsets(old.subsets, subsets) && isSameMap(old.metadata.labels, ownLabels) && isSameMap(old.metadata.annotations, notes);
    if (isSame) return undefined;
    if (triggerMs === undefined) delete notes[annotations.lastChangeTriggerTime]; else notes[annotations.lastChangeTriggerTime] = new Date(triggerMs).toISOString();
    const metadata = { ...old?.metadata, name, ...(namespace === undefined ? {} : { namespace }), labels: ownLabels, annotations: notes };
    return { metadata, ...(subsets.length === 0 ? {} : { subsets }) };
  }
}

function isSameMap(a: Record<string, string> | undefined, b: Record<string, string>): boolean {
  const names = Object.keys(b);
  return names.length === Object.keys(a ?? {}).length && names.every((name) => a?.[name] === b[name]);
}

/** Field order may differ between what was sent and what came back. */
function isSameSubsets(a: Endpoints['subsets'], b: NonNullable<Endpoints['subsets']>): boolean {
  return JSON.stringify(sortKeys(a ?? [])) === JSON.stringify(sortKeys(b));
}

function sortKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sortKeys);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, each]) => [key, sortKeys(each)]));
}
