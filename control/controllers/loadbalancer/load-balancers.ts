// Gives Services of type LoadBalancer addresses from the pool and writes them to status.loadBalancer, from where the
// proxies take them. Serves Services without a loadBalancerClass and those of its own class; others belong to others.
// Source: kubernetes cloud-provider controllers/service, KEP-1959 (loadBalancerClass), KEP-1860 (ipMode).

import { canonicalIP } from '../../../api/address.ts';
import { isNotFound } from '../../../api/errors.ts';
import { resources } from '../../../api/resources.ts';
import type { LoadBalancerIngress, Service } from '../../../api/types.ts';
import type { Controller, ControllerContext } from '../context.ts';
import { familiesOf } from '../endpoints/pod-endpoint.ts';
import { WorkQueue } from '../work-queue.ts';
import { AddressPool, type PortSet } from './address-pool.ts';

/** Asks for addresses: `10.0.0.5` or `10.0.0.5,fd00::5`. Outranks the deprecated spec.loadBalancerIP. */
export const addressesAnnotation = 'netloom.dev/load-balancer-ips';

export class LoadBalancerController implements Controller {
  readonly name = 'service-lb';
  readonly queues: readonly WorkQueue[];
  readonly #context: ControllerContext;
  readonly #queue: WorkQueue;
  readonly #pool: AddressPool;
  /** Services that wait for an address. */
  readonly #waiting = new Map<string, string>();
  readonly #unsubscribe: () => void;

  constructor(context: ControllerContext) {
    this.#context = context;
    const { clock, log, informers, config } = context;
    this.#pool = new AddressPool(config.loadBalancerPool);
    this.#queue = new WorkQueue({ name: this.name, clock, log, concurrency: 1, sync: (key) => this.#sync(key) });
    this.queues = [this.#queue];
    this.#unsubscribe = informers.services.onChange(({ type, key, object, old }) => {
      if (object.spec?.type === 'LoadBalancer' || old?.spec?.type === 'LoadBalancer' || type === 'delete') this.#queue.add(key);
    });
  }

  start(): void {
    // What is given out is taken first, so that nothing is given out twice after a restart.
    for (const [key, service] of this.#context.informers.services.store.entries()) {
      if (!this.#isMine(service)) continue;
      for (const { ip } of service.status?.loadBalancer?.ingress ?? []) if (ip !== undefined && this.#pool.contains(ip)) this.#pool.hold(ip, key, portsOf(service));
      this.#queue.add(key);
    }
    this.#queue.start();
  }

  stop(): void {
    this.#unsubscribe();
    this.#queue.stop();
  }

  #isMine(service: Service): boolean {
    const { type, loadBalancerClass } = service.spec ?? {};
    return type === 'LoadBalancer' && (loadBalancerClass === undefined || loadBalancerClass === this.#context.config.loadBalancerClass) && service.metadata.deletionTimestamp === undefined;
  }

  async #sync(key: string): Promise<void> {
    const service = this.#context.informers.services.store.get(key);
    if (service === undefined || !this.#isMine(service)) {
      this.#waiting.delete(key);
      if (this.#pool.free(key)) this.#retryWaiting();
      return;
    }
    const have = (service.status?.loadBalancer?.ingress ?? []).flatMap(({ ip }) => (ip === undefined ? [] : [canonicalIP(ip) ?? ip]));
    const { ips, problem } = this.#choose(key, service, have);
    if (problem !== '') this.#tell(key, service, problem); else this.#waiting.delete(key);
    for (const ip of have) if (!ips.includes(ip) && this.#pool.free(key, ip)) this.#retryWaiting();
    for (const ip of ips) this.#pool.hold(ip, key, portsOf(service));
    if (ips.length === have.length && ips.every((ip, index) => ip === have[index])) return;
    const ingress = ips.map((ip): LoadBalancerIngress => ({ ip, ipMode: 'VIP' }));
    try {
      await this.#context.client.patch(resources.services, service.metadata.namespace, service.metadata.name, { metadata: { uid: service.metadata.uid }, status: { loadBalancer: ingress.length === 0 ? { ingress: null } : { ingress } } }, { type: 'merge', subresource: 'status' });
    } catch (error) { if (!isNotFound(error)) throw error; }
    if (ips.length > 0) this.#context.events.record(resources.services, service, 'Normal', 'IPAllocated', `Assigned IP ${ips.join(', ')}`);
  }

  /** One address per family that the pool has; an address that the Service has is kept while it may be. */
  #choose(key: string, service: Service, have: readonly string[]): { ips: string[]; problem: string } {
    if (this.#pool.isEmpty) return { ips: [], problem: 'no address pool is configured: start the control plane with --load-balancer-pool' };
    const ports = portsOf(service);
    const asked = askedFor(service);
    const ips: string[] = [];
    for (const family of familiesOf(service)) {
      if (!this.#pool.has(family)) continue;
      const isOfFamily = (ip: string): boolean => ip.includes(':') === (family === 'IPv6');
      const wanted = asked.find(isOfFamily);
      if (wanted !== undefined) {
        if (!this.#pool.contains(wanted)) return { ips: [], problem: `${wanted} is not in the address pool` };
        if (!this.#pool.mayHold(wanted, key, ports)) return { ips: [], problem: `${wanted} is in use on the same ports` };
        ips.push(wanted);
        continue;
      }
      const kept = have.find((ip) => isOfFamily(ip) && this.#pool.contains(ip) && this.#pool.mayHold(ip, key, ports));
      const ip = kept ?? this.#pool.pick(family, key, ports);
      if (ip === undefined) return { ips, problem: `the ${family} address pool is used up` };
      ips.push(ip);
    }
    return ips.length === 0 ? { ips, problem: `the address pool has no ${familiesOf(service).join(' or ')} addresses` } : { ips, problem: '' };
  }

  #tell(key: string, service: Service, problem: string): void {
    if (this.#waiting.get(key) === problem) return;
    this.#waiting.set(key, problem);
    this.#context.events.record(resources.services, service, 'Warning', 'AllocationFailed', `No load balancer address for Service ${key}: ${problem}`);
  }

  #retryWaiting(): void { for (const key of this.#waiting.keys()) this.#queue.add(key); }
}

function askedFor(service: Service): string[] {
  const annotated = service.metadata.annotations?.[addressesAnnotation];
  const texts = annotated !== undefined ? annotated.split(',').map((text) => text.trim()) : [service.spec?.loadBalancerIP ?? ''];
  return texts.map((text) => canonicalIP(text)).filter((ip) => ip !== undefined);
}

function portsOf(service: Service): PortSet {
  const local = service.spec?.externalTrafficPolicy === 'Local' ? ['local'] : [];
  return new Set([...(service.spec?.ports ?? []).map((port) => `${port.protocol ?? 'TCP'}/${port.port}`), ...local]);
}
