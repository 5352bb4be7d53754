// The sync loop of this node's Service proxy: mark → collect → plan → diff → commit. Watch events only mark Services
// dirty; a sync collects them from the shared view, plans each for this node (plan, topology) and hands the plans to
// the engines. Nothing is written before both lists were received whole once. Called by cli.

import { networkInterfaces } from 'node:os';
import { familyOf, isLinkLocal } from '../api/address.ts';
import type { Clock, TimerHandle } from '../api/clock.ts';
import type { Log } from '../api/log.ts';
import type { Informer } from '../api/informer.ts';
import { labels } from '../api/meta.ts';
import type { ApiClient } from '../api/client.ts';
import type { ServiceView } from '../api/services.ts';
import type { IPFamily, Node, Pod } from '../api/types.ts';
import type { WorkerChannel } from '../api/workers.ts';
import type { Backend, PortPlan, ServicePlan } from './backend.ts';
import type { ProxyConfig, ProxyMode } from './config.ts';
import { defaults, parseCIDRs, resolveNodePortAddresses } from './config.ts';
import type { OpenOptions } from './nftables/open.ts';
import { openNftables } from './nftables/open.ts';
import type { Ownership } from './nftables/port.ts';
import type { EventRecorder } from './events.ts';
import { createEventRecorder } from './events.ts';
import type { HealthAnswer } from './healthcheck.ts';
import { HealthServer, ProxyHealth, ServiceHealth } from './healthcheck.ts';
import { hasHostPorts, hostPortKey, planHostPorts, podKeyOf } from './host-ports.ts';
import { ProxyMetrics } from './metrics.ts';
import type { MetricsRegistry, ProxyMetricsSource } from './metrics.ts';
import type { NftablesEngine } from './nftables/nftables.ts';
import { planService } from './plan.ts';
import { PodRoutes } from './pod-routes.ts';
import { SyncLoop } from './sync-loop.ts';
import type { NodeTopology } from './topology.ts';
import { UserspaceBackend } from './userspace/backend.ts';
import { registerUserspaceMetrics } from './userspace/metrics.ts';

/** Everything is planned and compared again this often, as a safety net; changes by others are found in between. */
const fullSyncPeriodMs = 3_600_000;

export interface ProxierOptions extends Partial<ProxyConfig> {
  readonly view: ServiceView;
  readonly nodes?: Informer<Node> | undefined;
  /** For host ports of Pods on this node; none are served without. */
  readonly pods?: Informer<Pod> | undefined;
  /** Port of /healthz and /livez on `bind` (kube-proxy: 10256); undefined = not served, 0 = a free one. */
  readonly healthPort?: number | undefined;
  /** Route to the Pods of other nodes (hosts without a network plug-in). */
  readonly isPodRoutingOn?: boolean;
  readonly nodeName: string;
  /** Addresses of this node, primary of each family first; default: those of the Node object. */
  readonly nodeIPs?: readonly string[];
  readonly families?: readonly IPFamily[];
  readonly clock: Clock;
  readonly log: Log;
  /** True: the rules vanish with this process (`up`). False: they stay and the next process adopts them (`node`). */
  readonly isOwnedTableVanishing: boolean;
  /** Overrides what follows from isOwnedTableVanishing; 'none' = an ordinary table. */
  readonly ownership?: Ownership | undefined;
  /** How the kernel is reached; default the fastest that works. */
  readonly nftMechanism?: OpenOptions['mechanism'];
  readonly eventRecorder?: EventRecorder | undefined;
  /** For Events of Services that cannot be applied, when no recorder is given. */
  readonly client?: ApiClient | undefined;
  /** Data workers of the userspace engine: all Services in userspace mode, loopback NodePorts beside the kernel engine. */
  readonly workers?: WorkerChannel | undefined;
  /** Networks of all Pods, of this node's Pods: shorthand for `clusterCIDRs`. */
  readonly clusterCIDR?: string | undefined;
  readonly podCIDR?: string | undefined;
}

export class Proxier implements ProxyMetricsSource {
  readonly #options: ProxierOptions;
  readonly #config: ProxyConfig;
  readonly #families: readonly IPFamily[];
  readonly #loop: SyncLoop;
  readonly #dirty = new Map<string, number | undefined>();
  readonly #failures = new Map<string, string>();
  /** Services that drop traffic now, by policy: their local set is empty while others exist. */
  readonly #dropping = { internal: new Set<string>(), external: new Set<string>() };
  readonly #health: ProxyHealth;
  readonly #serviceHealth: ServiceHealth;
  readonly #recordEvent: EventRecorder | undefined;
  #metrics: ProxyMetrics | undefined;
  #kernel: NftablesEngine | undefined;
  #userspace: UserspaceBackend | undefined;
  /** Rejects when the very first sync fails: then the proxy does not start. */
  readonly #firstSync = Promise.withResolvers<void>();
  #healthServer: HealthServer | undefined;
  #podRoutes: PodRoutes | undefined;
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
    this.#firstSync.promise.catch(() => { /* told by start */ });
    this.#families = options.families ?? familiesOf(options.isOwnedTableVanishing ? this.#config.serviceCIDRs : []);
    const { clock, log, nodeName, client } = options;
    this.#recordEvent = options.eventRecorder ?? (client === undefined ? undefined : createEventRecorder({ client, nodeName, clock, log }));
    this.#health = new ProxyHealth({ clock, limitMs: 2 * this.#config.syncPeriodMs, families: this.#families });
    this.#serviceHealth = new ServiceHealth({
      addresses: [this.#config.bind], nodeName, clock, log, isProxyHealthy: () => this.#health.isHealthy,
      onFault: (service, message) => { log.warn('health check port not opened', { service: service.key, reason: message }); this.#recordEvent?.({ service, type: 'Warning', reason: 'FailedToStartServiceHealthcheck', message }); },
    });
    this.#loop = new SyncLoop({
      clock: options.clock, periodMsMin: this.#config.syncPeriodMsMin, retryMsMin: 100, retryMsMax: this.#config.syncPeriodMs,
      sync: (isFull) => this.#sync(isFull),
    });
  }

  /** The engine in use once started. */
  get mode(): Exclude<ProxyMode, 'auto'> { return this.#mode; }
  get pendingCount(): number { return this.#dirty.size; }
  get serviceCount(): number { return this.#options.view.size; }
  get failedCount(): number { return this.#failures.size; }
  get elementCount(): number { return this.#kernel?.families.reduce((sum, family) => sum + family.elementCount, 0) ?? 0; }
  get driftCount(): number { return this.#kernel?.driftCount ?? 0; }
  get conntrackDeletedCount(): number { return this.#kernel?.conntrackDeletedCount ?? 0; }
  async kernelCounters(): Promise<ReadonlyMap<string, { connections: number; refused: number }>[]> { return Promise.all(this.#kernel?.families.map((family) => family.readCounters()) ?? []); }
  dropping(policy: 'internal' | 'external'): number { return this.#dropping[policy].size; }
  /** Bound port of /healthz; 0 = not served. */
  get healthPort(): number { return this.#healthServer?.port ?? 0; }
  /** Services that are not, or not wholly, applied, with the reason. */
  get failures(): ReadonlyMap<string, string> { return this.#failures; }

  /** Opens the engines, waits for the first whole view and its sync; rejects when that sync can apply nothing. */
  async start(): Promise<void> {
    const { view, nodes, pods } = this.#options;
    await Promise.all([view.whenSynced(), nodes?.whenSynced(), pods?.whenSynced()]);
    this.#zone = this.#node().zone;
    this.#health.setNode(nodes?.store.get(this.#options.nodeName));
    await this.#openBackends();
    this.#stops.push(view.onDirty((key, triggerTimeMs) => { this.#mark(key, triggerTimeMs); }));
    if (pods !== undefined) this.#stops.push(pods.onChange(({ object, old }) => {
      const { nodeName } = this.#options;
      if (hasHostPorts(object, nodeName) || (old !== undefined && hasHostPorts(old, nodeName))) this.#mark(hostPortKey(object), undefined);
    }));
    if (nodes !== undefined) this.#stops.push(nodes.onChange(({ key }) => { if (key === this.#options.nodeName) this.#onNode(); }));
    this.#loop.request(true);
    await Promise.race([this.#loop.whenIdle(), this.#firstSync.promise]);
    this.#firstSync.resolve();
    if (this.#options.healthPort !== undefined) {
      this.#healthServer = new HealthServer(this.#health);
      await this.#healthServer.listen(this.#config.bind, this.#options.healthPort);
    }
    this.#timer = this.#options.clock.every(fullSyncPeriodMs, () => { this.#loop.request(true); });
  }

  #mark(key: string, triggerTimeMs: number | undefined): void {
    if (!this.#dirty.has(key) || triggerTimeMs !== undefined) this.#dirty.set(key, triggerTimeMs);
    this.#health.queued();
    this.#metrics?.queued(this.#options.clock.nowMs());
    this.#loop.request(false);
  }

  async #openBackends(): Promise<void> {
    const { log } = this.#options;
    const backends: Backend[] = [];
    if (this.#config.mode !== 'userspace') {
      try {
        this.#kernel = await this.#openKernel();
        backends.push(this.#kernel);
      } catch (error) {
        if (this.#config.mode === 'nftables' || this.#options.workers === undefined) throw error;
        log.warn('nftables is not available, services run in userspace', { err: error });
      }
    }
    this.#mode = this.#kernel === undefined ? 'userspace' : 'nftables';
    this.#userspace = await this.#openUserspace();
    if (this.#userspace !== undefined) backends.push(this.#userspace);
    this.#backends = backends;
    await this.#openPodRoutes();
    for (const backend of backends) backend.onDrift?.((reason) => { log.warn('rules were changed by somebody else, repairing', { engine: backend.name, reason }); this.#loop.request(true); });
  }

  /** Beside the kernel engine only for NodePorts on loopback, which the kernel cannot serve. */
  async #openUserspace(): Promise<UserspaceBackend | undefined> {
    const { workers, nodeName, clock, log } = this.#options;
    const nodeIPs = this.#nodeIPs();
    const nodePorts = resolveNodePortAddresses(this.#config, nodeIPs);
    if (workers === undefined || (this.#kernel !== undefined && nodePorts.loopback.length === 0)) return undefined;
    const userspace = new UserspaceBackend({
      channel: workers, scope: this.#kernel === undefined ? 'all' : 'loopbackNodePorts', nodePorts, bind: this.#config.bind,
      nodeName, nodeIPs, clusterCIDRs: this.#config.clusterCIDRs, clock, log,
    });
    await userspace.start();
    return userspace;
  }

  async #openPodRoutes(): Promise<void> {
    const { isPodRoutingOn, nodes, nodeName, clock, log } = this.#options;
    if (isPodRoutingOn !== true || nodes === undefined || this.#kernel === undefined) return;
    this.#podRoutes = new PodRoutes({ nodes, nodeName, nodeIPs: this.#nodeIPs(), clusterCIDRs: parseCIDRs('clusterCIDRs', this.#config.clusterCIDRs), clock, log });
    await this.#podRoutes.start();
  }

  async #openKernel(): Promise<NftablesEngine> {
    const { nodeName, clock, log, isOwnedTableVanishing } = this.#options;
    const addresses = this.#nodeIPs();
    const backend = await openNftables({
      families: this.#families, nodeName, nodeIPs: addresses, clock, log,
      serviceCIDRs: parseCIDRs('serviceCIDRs', this.#config.serviceCIDRs), clusterCIDRs: parseCIDRs('clusterCIDRs', this.#config.clusterCIDRs),
      nodePorts: resolveNodePortAddresses(this.#config, addresses).kernel, bind: this.#config.bind,
      isMasqueradeAll: this.#config.isMasqueradeAll, ownership: this.#options.ownership ?? (isOwnedTableVanishing ? 'vanish' : 'persist'), driftPeriodMs: this.#config.driftPeriodMs,
      mechanism: this.#options.nftMechanism, isSysctlOn: this.#config.isSysctlOn, isServiceRouteOn: this.#config.isServiceRouteOn,
    });
    await backend.start();
    return backend;
  }

  /** Resolves when every change so far is applied. */
  whenIdle(): Promise<void> { return this.#loop.whenIdle(); }

  /** Elements in which the kernel differs from what was planned last; for checks and tests. Lists the tables. */
  async compareWithKernel(): Promise<number> {
    let count = 0;
    for (const family of this.#kernel?.families ?? []) count += await family.differences();
    return count;
  }

  async stop(options: { isCleanup?: boolean; drainMs?: number } = {}): Promise<void> {
    for (const stop of this.#stops) stop();
    this.#timer?.cancel();
    await this.#loop.stop();
    this.#serviceHealth.closeAll();
    this.#healthServer?.close();
    await this.#podRoutes?.stop(options.isCleanup ?? false);
    for (const backend of this.#backends) await backend.stop({ isCleanup: options.isCleanup ?? false, drainMs: options.drainMs ?? 10_000 });
  }

  registerMetrics(registry: MetricsRegistry): void {
    this.#metrics = new ProxyMetrics(registry, this);
    if (this.#userspace !== undefined) registerUserspaceMetrics(registry, this.#userspace);
  }

  /** Answers of :10256 /healthz (with node eligibility) and /livez. */
  healthz(): HealthAnswer { return this.#health.healthz(); }
  livez(): HealthAnswer { return this.#health.livez(); }

  /** Lines for `netloom status`: engines, mechanism, what is degraded. */
  status(): { mode: string; detail: readonly string[]; failures: Record<string, string> } {
    return { mode: this.#mode, detail: [...this.#backends.flatMap((backend) => backend.status().detail), ...(this.#podRoutes?.status() ?? [])], failures: Object.fromEntries(this.#failures) };
  }

  health(): { ok: boolean; detail?: string } {
    const lines = this.#backends.flatMap((backend) => backend.status().detail);
    return { ok: this.#health.isHealthy && this.#backends.every((backend) => backend.status().ok), detail: lines.join('; ') };
  }

  async #sync(isFull: boolean): Promise<void> {
    const { clock, log } = this.#options;
    const startedMs = clock.monotonicMs();
    const collected = new Map(this.#dirty);
    this.#dirty.clear();
    const services = this.#plan(isFull ? this.#allKeys() : collected.keys());
    const failed = new Map<string, string>();
    let operationCount = 0;
    try {
      for (const backend of this.#backends) {
        const result = await backend.sync({ isFull, services, planOf: (key) => this.#planOne(key) });
        operationCount += result.operationCount;
        for (const failure of result.failures) failed.set(failure.key, failure.reason);
      }
    } catch (error) {
      for (const [key, time] of collected) if (!this.#dirty.has(key)) this.#dirty.set(key, time);
      this.#metrics?.failed();
      this.#firstSync.reject(error);
      log.error('sync failed, trying again', { err: error });
      throw error;
    }
    this.#afterSync(services, isFull, failed);
    const durationMs = clock.monotonicMs() - startedMs;
    this.#metrics?.synced(durationMs, isFull, services.size, operationCount, clock.nowMs());
    for (const [key, triggerTimeMs] of collected) if (triggerTimeMs !== undefined && !failed.has(key)) this.#metrics?.programmed(clock.nowMs() - triggerTimeMs);
    log.debug('synced', { services: services.size, isFull, operations: operationCount, durationMs: Math.round(durationMs * 100) / 100 });
  }

  #afterSync(services: ReadonlyMap<string, ServicePlan | undefined>, isFull: boolean, failed: ReadonlyMap<string, string>): void {
    this.#health.synced(this.#dirty.size === 0);
    this.#report(services, failed);
    for (const [key, plan] of services) {
      this.#serviceHealth.update(key, plan?.info);
      this.#note('internal', key, plan?.ports.some((port) => port.isInternalLocal && port.hasAny && port.local.length === 0) ?? false);
      this.#note('external', key, plan?.ports.some((port) => port.isExternalLocal && port.hasAny && port.local.length === 0 && isExternal(port)) ?? false);
    }
    if (!isFull) return;
    for (const key of [...this.#serviceHealth.keys()]) if (!services.has(key)) this.#serviceHealth.update(key, undefined);
  }

  #note(policy: 'internal' | 'external', key: string, isDropping: boolean): void {
    if (isDropping) this.#dropping[policy].add(key); else this.#dropping[policy].delete(key);
  }

  #plan(keys: Iterable<string>): Map<string, ServicePlan | undefined> {
    const node = this.#node();
    const plans = new Map<string, ServicePlan | undefined>();
    for (const key of keys) plans.set(key, this.#planOne(key, node));
    return plans;
  }

  *#allKeys(): Generator<string> {
    yield* this.#options.view.keys();
    for (const pod of this.#options.pods?.store.values() ?? []) if (hasHostPorts(pod, this.#options.nodeName)) yield hostPortKey(pod);
  }

  #planOne(key: string, node: NodeTopology = this.#node()): ServicePlan | undefined {
    const podKey = podKeyOf(key);
    if (podKey !== undefined) {
      const pod = this.#options.pods?.store.get(podKey);
      return pod === undefined ? undefined : planHostPorts(pod, this.#options.nodeName, this.#families);
    }
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
      this.#recordEvent?.({ service: plan.info, type: 'Warning', reason: 'FailedToProgramService', message: reason });
    }
  }

  /** Given, else those of the Node object, else of this machine. */
  #nodeIPs(): readonly string[] {
    if (this.#options.nodeIPs !== undefined) return this.#options.nodeIPs;
    const node = this.#options.nodes?.store.get(this.#options.nodeName);
    const listed = node?.status?.addresses?.filter((item) => item.type === 'InternalIP').map((item) => item.address) ?? [];
    if (listed.length > 0) return listed;
    const podNetworks = parseCIDRs('clusterCIDRs', this.#config.clusterCIDRs);
    const own = Object.values(networkInterfaces()).flatMap((list) => list ?? []).filter((item) => !item.internal && !isLinkLocal(item.address)).map((item) => item.address);
    return own.filter((ip) => !podNetworks.some((cidr) => cidr.contains(ip)));
  }

  #node(): NodeTopology {
    const node = this.#options.nodes?.store.get(this.#options.nodeName);
    return { name: this.#options.nodeName, zone: node?.metadata.labels?.[labels.zone] };
  }

  /** Hints depend on this node's zone: when it changes, every plan may. */
  #onNode(): void {
    this.#health.setNode(this.#options.nodes?.store.get(this.#options.nodeName));
    const zone = this.#node().zone;
    if (zone === this.#zone) return;
    this.#zone = zone;
    this.#loop.request(true);
  }
}

/** With a control plane of our own there are only ClusterIPs of its networks; a foreign one may have both families. */
function familiesOf(serviceCIDRs: readonly string[]): readonly IPFamily[] {
  const families: IPFamily[] = ['IPv4', 'IPv6'];
  return serviceCIDRs.length === 0 ? families : families.filter((family) => serviceCIDRs.some((text) => familyOf(text) === family));
}

function isExternal(port: PortPlan): boolean { return port.nodePort !== 0 || port.externalIPs.length > 0 || port.loadBalancerIPs.length > 0; }
