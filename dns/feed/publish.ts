// Keeps an EndpointSlice of the kube-dns Service that leads to this server, since kube-dns has no Pods here: the proxy
// then carries its ClusterIP:53 to us like any other Service. One slice per node, so that several servers never write the
// same object; it is put back when somebody removes or changes it, and taken away when the server stops.
// Called by dns/server.ts.

import { familyOf } from '../../api/address.ts';
import type { ApiClient } from '../../api/client.ts';
import type { Clock, TimerHandle } from '../../api/clock.ts';
import { isAlreadyExists, isNotFound } from '../../api/errors.ts';
import type { Log } from '../../api/log.ts';
import { labels } from '../../api/meta.ts';
import { resources } from '../../api/resources.ts';
import type { EndpointSlice } from '../../api/types.ts';

export interface PublishOptions {
  readonly client: ApiClient;
  /** Address under which proxies reach this server; the API refuses loopback ones. */
  readonly address: string;
  /** 0 or left out = the port that the server has bound. */
  readonly port?: number | undefined;
  readonly nodeName?: string | undefined;
}

const namespace = 'kube-system';
const service = 'kube-dns';
const managedBy = 'dns.netloom.dev';
const checkPeriodMs = 30_000;
const retryDelayMsMin = 200;
const retryDelayMsMax = 10_000;

/** The slice that leads to `address`:`port`. */
export function dnsSlice(address: string, port: number, nodeName: string | undefined): EndpointSlice {
  const suffix = (nodeName ?? address).toLowerCase().replace(/[^a-z0-9-]/g, '-').replace(/^-+|-+$/g, '').slice(0, 40);
  return {
    apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice',
    metadata: { name: `${service}-${suffix}`, namespace, labels: { [labels.serviceName]: service, [labels.sliceManagedBy]: managedBy } },
    addressType: familyOf(address),
    endpoints: [{ addresses: [address], conditions: { ready: true, serving: true, terminating: false }, ...(nodeName === undefined ? {} : { nodeName }) }],
    ports: [{ name: 'dns', protocol: 'UDP', port }, { name: 'dns-tcp', protocol: 'TCP', port }],
  };
}

export class EndpointPublisher {
  readonly #client: ApiClient;
  readonly #slice: EndpointSlice;
  readonly #clock: Clock;
  readonly #log: Log;
  #timer: TimerHandle | undefined;
  #running: Promise<void> | undefined;
  #isStopped = false;
  #failureCount = 0;
  /** Whether the last attempt went through. */
  isPublished = false;

  constructor(options: PublishOptions & { port: number; clock: Clock; log: Log }) {
    this.#client = options.client;
    this.#slice = dnsSlice(options.address, options.port, options.nodeName);
    this.#clock = options.clock;
    this.#log = options.log;
  }

  /** Puts the slice right now (or soon, if an attempt runs) and again every 30 s. */
  ensure(): void {
    if (this.#running !== undefined || this.#isStopped) return;
    this.#timer?.cancel();
    this.#running = this.#put().then(() => {
      this.#failureCount = 0;
      this.isPublished = true;
    }, (error: unknown) => {
      this.isPublished = false;
      this.#failureCount += 1;
      if (this.#failureCount === 3) this.#log.warn('dns endpoint could not be published', { service: `${namespace}/${service}`, err: error });
    }).finally(() => {
      this.#running = undefined;
      if (this.#isStopped) return;
      const delayMs = this.#failureCount === 0 ? checkPeriodMs : Math.min(retryDelayMsMax, retryDelayMsMin * 2 ** this.#failureCount);
      this.#timer = this.#clock.after(delayMs, () => this.ensure());
    });
  }

  /** Resolves after the attempt that runs, if any. */
  async settled(): Promise<void> { await this.#running; }

  /** Takes the slice away unless a successor on this node goes on (`isHandover`). */
  async stop(isHandover: boolean): Promise<void> {
    this.#isStopped = true;
    this.#timer?.cancel();
    await this.#running;
    if (isHandover || !this.isPublished) return;
    try {
      await this.#client.delete(resources.endpointslices, namespace, this.#slice.metadata.name);
    } catch (error) {
      if (!isNotFound(error)) this.#log.debug('dns endpoint could not be removed', { err: error });
    }
  }

  async #put(): Promise<void> {
    const { name } = this.#slice.metadata;
    let present: EndpointSlice;
    try {
      present = await this.#client.get<EndpointSlice>(resources.endpointslices, namespace, name);
    } catch (error) {
      if (!isNotFound(error)) throw error;
      try {
        await this.#client.create(resources.endpointslices, namespace, this.#slice);
        return;
      } catch (again) {
        if (!isAlreadyExists(again)) throw again;
        present = await this.#client.get<EndpointSlice>(resources.endpointslices, namespace, name);
      }
    }
    if (isSame(present, this.#slice)) return;
    const resourceVersion = present.metadata.resourceVersion;
    await this.#client.update(resources.endpointslices, { ...this.#slice, metadata: { ...this.#slice.metadata, ...(resourceVersion === undefined ? {} : { resourceVersion }) } });
  }
}

function isSame(present: EndpointSlice, wanted: EndpointSlice): boolean {
  const [endpoint] = present.endpoints ?? [];
  const ports = (present.ports ?? []).map((port) => `${port.name} ${port.protocol} ${port.port}`).sort().join();
  return present.endpoints?.length === 1 && endpoint?.addresses[0] === wanted.endpoints?.[0]?.addresses[0] && endpoint?.conditions?.ready === true
    && present.metadata.labels?.[labels.serviceName] === service && ports === (wanted.ports ?? []).map((port) => `${port.name} ${port.protocol} ${port.port}`).sort().join();
}
