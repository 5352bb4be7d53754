// The sync loop of this node's Service proxy: mark → collect → plan → diff → commit. Watch events only mark Services
// dirty; a sync collects them from the shared view, plans each for this node (plan, topology) and hands the plans to
// the engines. Nothing is written before both lists were received whole once. Called by cli.

import type { Registry } from 'prom-client';
import type { Clock, TimerHandle } from '../api/clock.ts';
import type { Log } from '../api/log.ts';
import type { Informer } from '../api/informer.ts';
import { labels } from '../api/meta.ts';
import type { ApiClient } from '../api/client.ts';
import type { ServiceInfo, ServiceView } from '../api/services.ts';
import type { IPFamily, Node } from '../api/types.ts';
import type { WorkerChannel } from '../api/workers.ts';
import type { Backend, ServiceFailure, ServicePlan } from './backend.ts';
import type { ProxyConfig, ProxyMode } from './config.ts';
import { defaults, parseCIDRs, resolveNodePortAddresses } from './config.ts';
import { openNftables } from './nftables/open.ts';
import type { Ownership } from './nftables/port.ts';
import { planService } from './plan.ts';
import { SyncLoop } from './sync-loop.ts';
import type { NodeTopology } from './topology.ts';
import { UserspaceBackend } from './userspace/backend.ts';

export type EventRecorder = (event: { service: ServiceInfo; type: 'Normal' | 'Warning'; reason: string; message: string }) => void;

export interface ProxierOptions extends Partial<ProxyConfig> {
  readonly view: ServiceView;
  readonly nodes?: Informer<Node> | undefined;
  readonly nodeName: string;
  /** Addresses of this node, used until the Node object is known. */
  readonly nodeIPs?: readonly string[];
  readonly families?: readonly IPFamily[];
  readonly clock: Clock;
  readonly log: Log;
  /** True: the rules vanish with this process (`up`). False: they stay and the next process adopts them (`node`). */
  readonly isOwnedTableVanishing: boolean;
  /** Overrides what follows from isOwnedTableVanishing; 'none' = an ordinary table. */
  readonly ownership?: Ownership | undefined;
  readonly eventRecorder?: EventRecorder | undefined;
  /** For Events of Services that cannot be applied, when no recorder is given. */
  readonly client?: ApiClient | undefined;
  /** Data workers of the userspace engine: all Services in userspace mode, loopback NodePorts beside the kernel engine. */
  readonly workers?: WorkerChannel | undefined;
  /** Networks of all Pods, of this node's Pods: shorthand for `clusterCIDRs`. */
  readonly clusterCIDR?: string | undefined;
  readonly podCIDR?: string | undefined;
}

export class Proxier {
  readonly #options: ProxierOptions;
  readonly #config: ProxyConfig;
  readonly #families: readonly IPFamily[];
  readonly #loop: SyncLoop;
  readonly #dirty = new Map<string, number | undefined>();
  readonly #failures = new Map<string, string>();
  #backends: readonly Backend[] = [];
  #mode: Exclude<ProxyMode, 'auto'> = 'nftables';
  #zone: string | undefined;
  #stops: (() => void)[] = [];
  #timer: TimerHandle | undefined;

  constructor(options: ProxierOptions) {
    this.#options = options;
    const given = Object.fromEntries(Object.entries(options).filter(([key, value]) => key in defaults && value !== undefined));
    const shorthand = options.clusterCIDR ?? options.podCIDR;
    this.#config = Object.freeze({ ...defaults, ...(shorthand === undefined ? {} : { clusterCIDRs: shorthand.split(',') }), ...given });
    this.#families = options.families ?? ['IPv4', 'IPv6'];
    this.#loop = new SyncLoop({
      clock: options.clock, periodMsMin: this.#config.syncPeriodMsMin, retryMsMin: 100, retryMsMax: this.#config.syncPeriodMs,
      sync: (isFull) => this.#sync(isFull),
    });
  }

  /** The engine in use once started. */
  get mode(): Exclude<ProxyMode, 'auto'> { return this.#mode; }
  /** Services that are not, or not wholly, applied, with the reason. */
  get failures(): ReadonlyMap<string, string> { return this.#failures; }

  /** Opens the engines, waits for the first whole view and its sync. */
  async start(): Promise<void> {
    const { view, nodes } = this.#options;
    await Promise.all([view.whenSynced(), nodes?.whenSynced()]);
    this.#zone = this.#node().zone;
    await this.#openBackends();
    this.#stops.push(view.onDirty((key, triggerTimeMs) => {
      if (!this.#dirty.has(key) || triggerTimeMs !== undefined) this.#dirty.set(key, triggerTimeMs);
      this.#loop.request(false);
    }));
    if (nodes !== undefined) this.#stops.push(nodes.onChange(({ key }) => { if (key === this.#options.nodeName) this.#onNode(); }));
    this.#loop.request(true);
    await this.#loop.whenIdle();
    this.#timer = this.#options.clock.every(this.#config.syncPeriodMs, () => { this.#loop.request(true); });
  }

  async #openBackends(): Promise<void> {
    const { log } = this.#options;
    const backends: Backend[] = [];
    if (this.#config.mode !== 'userspace') {
      try {
        backends.push(await this.#openKernel());
        this.#mode = 'nftables';
      } catch (error) {
        if (this.#config.mode === 'nftables' || this.#options.workers === undefined) throw error;
        log.warn('nftables is not available, services run in userspace', { err: error });
      }
    }
    if (backends.length === 0) this.#mode = 'userspace';
    const userspace = this.#makeUserspace();
    if (userspace !== undefined) { await userspace.start(); backends.push(userspace); }
    this.#backends = backends;
    for (const backend of backends) backend.onDrift?.((reason) => { log.warn('rules were changed by somebody else, repairing', { engine: backend.name, reason }); this.#loop.request(true); });
  }

  /** All paths when it runs alone, NodePorts on loopback beside the kernel engine; none without data workers. */
  #makeUserspace(): Backend | undefined {
    const { workers, nodeName, nodeIPs, clock, log } = this.#options;
    if (workers === undefined) return undefined;
    return new UserspaceBackend({
      channel: workers, scope: this.#mode === 'userspace' ? 'all' : 'loopbackNodePorts', nodePorts: resolveNodePortAddresses(this.#config, nodeIPs ?? []),
      bind: this.#config.bind, nodeName, nodeIPs: nodeIPs ?? [], clusterCIDRs: this.#config.clusterCIDRs, clock, log,
    });
  }

  async #openKernel(): Promise<Backend> {
    const { nodeName, nodeIPs, clock, log, isOwnedTableVanishing } = this.#options;
    const addresses = nodeIPs ?? [];
    const backend = await openNftables({
      families: this.#families, nodeName, nodeIPs: addresses, clock, log,
      serviceCIDRs: parseCIDRs('serviceCIDRs', this.#config.serviceCIDRs), clusterCIDRs: parseCIDRs('clusterCIDRs', this.#config.clusterCIDRs),
      nodePorts: resolveNodePortAddresses(this.#config, addresses).kernel, bind: this.#config.bind,
      isMasqueradeAll: this.#config.isMasqueradeAll, ownership: this.#options.ownership ?? (isOwnedTableVanishing ? 'vanish' : 'persist'), driftPeriodMs: this.#config.driftPeriodMs,
      isSysctlOn: this.#config.isSysctlOn, isServiceRouteOn: this.#config.isServiceRouteOn,
    });
    await backend.start();
    return backend;
  }

  /** Resolves when every change so far is applied. */
  whenIdle(): Promise<void> { return this.#loop.whenIdle(); }

  async stop(options: { isCleanup?: boolean; drainMs?: number } = {}): Promise<void> {
    for (const stop of this.#stops) stop();
    this.#timer?.cancel();
    await this.#loop.stop();
    for (const backend of this.#backends) await backend.stop({ isCleanup: options.isCleanup ?? false, drainMs: options.drainMs ?? 10_000 });
  }

  registerMetrics(_registry: Registry): void {}

  health(): { ok: boolean; detail?: string } {
    const lines = this.#backends.flatMap((backend) => backend.status().detail);
    return { ok: this.#backends.every((backend) => backend.status().ok), detail: lines.join('; ') };
  }

  async #sync(isFull: boolean): Promise<void> {
    const startedMs = this.#options.clock.monotonicMs();
    const collected = new Map(this.#dirty);
    this.#dirty.clear();
    const services = this.#plan(isFull ? this.#options.view.keys() : collected.keys());
    const failed = new Map<string, string>();
    try {
      for (const backend of this.#backends) {
        const result = await backend.sync({ isFull, services, planOf: (key) => this.#planOne(key) });
        for (const failure of result.failures) failed.set(failure.key, failure.reason);
      }
    } catch (error) {
      for (const [key, time] of collected) if (!this.#dirty.has(key)) this.#dirty.set(key, time);
      this.#options.log.error('sync failed, trying again', { err: error });
      throw error;
    }
    this.#report(services, failed);
    this.#options.log.debug('synced', { services: services.size, isFull, durationMs: Math.round((this.#options.clock.monotonicMs() - startedMs) * 100) / 100 });
  }

  #plan(keys: Iterable<string>): Map<string, ServicePlan | undefined> {
    const node = this.#node();
    const plans = new Map<string, ServicePlan | undefined>();
    for (const key of keys) plans.set(key, this.#planOne(key, node));
    return plans;
  }

  #planOne(key: string, node: NodeTopology = this.#node()): ServicePlan | undefined {
    const info = this.#options.view.get(key);
    return info === undefined ? undefined : planService(info, node, this.#families);
  }

  /** One Event when a Service starts to fail or fails for another reason; silence while nothing changes. */
  #report(services: ReadonlyMap<string, ServicePlan | undefined>, failed: ReadonlyMap<string, string>): void {
    for (const [key, plan] of services) {
      const reason = failed.get(key);
      if (reason === undefined) { this.#failures.delete(key); continue; }
      if (this.#failures.get(key) === reason || plan === undefined) continue;
      this.#failures.set(key, reason);
      this.#options.log.warn('service is not fully applied', { service: key, reason });
      this.#options.eventRecorder?.({ service: plan.info, type: 'Warning', reason: 'FailedToProgramService', message: reason });
    }
  }

  #node(): NodeTopology {
    const node = this.#options.nodes?.store.get(this.#options.nodeName);
    return { name: this.#options.nodeName, zone: node?.metadata.labels?.[labels.zone] };
  }

  /** Hints depend on this node's zone: when it changes, every plan may. */
  #onNode(): void {
    const zone = this.#node().zone;
    if (zone === this.#zone) return;
    this.#zone = zone;
    this.#loop.request(true);
  }
}

export type { ServiceFailure };
