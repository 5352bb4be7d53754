// Builds, starts and stops the components of one netloom process in the right order: control plane and worker threads
// first, then informers and the Service view, then agent, proxy, DNS and Ingress side by side. What was started is
// stopped in reverse order, also when a later part fails to start.

import { dirname } from 'node:path';
import { ApiClient, httpTransport, type ApiTransport } from '../api/client.ts';
import { systemClock, type Clock } from '../api/clock.ts';
import { SharedInformers } from '../api/informer.ts';
import type { Log } from '../api/log.ts';
import { ServiceView } from '../api/services.ts';
import { WorkerPool } from '../api/workers.ts';
import type { Registry } from 'prom-client';
import type { Agent } from '../agent/agent.ts';
import type { ControlPlane } from '../control/start.ts';
import type { DnsServer } from '../dns/server.ts';
import type { IngressController } from '../ingress/controller.ts';
import type { ExternalNameRules } from '../proxy/http/external-names.ts';
import type { Proxier } from '../proxy/proxier.ts';
import type { Health } from './admin.ts';
import { dnsOptions } from './dns-options.ts';
import type { Listener } from './instance.ts';
import { adoptCluster, connectNode, type NodeCredentials } from './join.ts';
import type { Settings } from './settings.ts';

/** One started part: how long it took to start, and how it is asked and stopped. */
export interface Part { name: string; startMs: number; /** Where it serves, for the start-up lines; '' is not shown. */ where: string; health(): Health; stop(drainMs: number): Promise<void>; registerMetrics?: (registry: Registry) => void }

export class Stack {
  readonly settings: Settings;
  readonly log: Log;
  readonly clock: Clock;
  readonly parts: Part[] = [];
  control: ControlPlane | undefined;
  client: ApiClient | undefined;
  informers: SharedInformers | undefined;
  view: ServiceView | undefined;
  agent: Agent | undefined;
  proxier: Proxier | undefined;
  dns: DnsServer | undefined;
  ingress: IngressController | undefined;
  #pool: WorkerPool | undefined;
  #preparedDns: DnsServer | undefined;
  #credentials: NodeCredentials | undefined;

  constructor(settings: Settings, log: Log, clock: Clock = systemClock) {
    this.settings = settings;
    this.log = log;
    this.clock = clock;
  }

  /** A client with the admin's rights, for applying manifests where no node runs in this process. */
  adminClient(): ApiClient {
    if (this.control === undefined) throw new Error('no control plane in this process');
    return new ApiClient(this.control.transport({ user: 'netloom-admin', groups: ['system:masters', 'system:authenticated'] }), { userAgent: 'netloom' });
  }

  /** The kubeconfig that this process was given, when it did not write one. */
  get kubeconfigPath(): string | undefined { return this.#credentials?.kubeconfig; }

  /** Starts everything; on failure stops what was started and rethrows. `onPart` hears of each part that serves. */
  async start(onPart: (part: Part) => void): Promise<void> {
    try {
      const pool = this.#startPool(onPart);
      pool.catch(() => {});
      if (this.settings.kind === 'up' || this.settings.kind === 'server') await this.#startControl(onPart);
      else this.#credentials = await connectNode(this.settings, this.log);
      await pool;
      if (this.settings.kind !== 'server') await this.#startNode(onPart);
    } catch (error) {
      await this.stop(0);
      if (this.dns === undefined) await this.#preparedDns?.stop(0).catch(() => {});
      throw error;
    }
  }

  /** Stops in reverse order; every part gets its chance even when one fails. */
  async stop(drainMs: number): Promise<void> {
    for (const part of this.parts.splice(0).reverse()) {
      try { await part.stop(drainMs); } catch (error) { this.log.error('part failed to stop', { part: part.name, err: error }); }
    }
  }

  async #part<T>(name: string, onPart: (part: Part) => void, make: () => Promise<T>, of: (value: T) => Omit<Part, 'name' | 'startMs'>): Promise<T> {
    const started = this.clock.monotonicMs();
    const value = await make();
    const part: Part = { name, startMs: this.clock.monotonicMs() - started, ...of(value) };
    this.parts.push(part);
    onPart(part);
    return value;
  }

  async #startControl(onPart: (part: Part) => void): Promise<void> {
    const { settings } = this;
    const { start } = await import('../control/start.ts');
    this.control = await this.#part('control plane', onPart, () => start({
      dataDir: settings.dataDir, ephemeral: settings.flags.ephemeral === true, bind: settings.bind, port: settings.apiPort,
      ...(settings.flags.store === undefined ? {} : { store: settings.flags.store }),
      serviceCIDRs: settings.serviceCIDRs, podCIDR: settings.podCIDR, clusterDomain: settings.clusterDomain, dnsServiceIP: settings.dnsClusterIP,
      loadBalancerPool: settings.flags.loadBalancerPool ?? [], externalIPRanges: settings.flags.externalIpRange ?? [],
      ...(settings.has.agent ? { advertiseAddress: settings.podGateway } : {}), kubeconfigOut: settings.kubeconfigOut, clock: this.clock, log: this.log.with({ component: 'control' }),
    }), (control) => ({ where: control.url, health: () => control.health(), stop: () => control.stop(), registerMetrics: (registry) => control.registerMetrics(registry) }));
  }

  async #startPool(onPart: (part: Part) => void): Promise<void> {
    const { settings } = this;
    if (!settings.has.proxy && !settings.has.ingress) return;
    const module = (path: string): URL => new URL(path.replace(/\.ts$/, import.meta.filename.endsWith('.ts') ? '.ts' : '.js'), import.meta.url);
    this.#pool = await this.#part('workers', onPart, async () => {
      const pool = new WorkerPool({
        name: 'data', count: settings.workerCount, log: this.log, clock: this.clock,
        modules: {
          ...(settings.has.proxy ? { userspace: { url: module('../proxy/userspace/worker.ts') } } : {}),
          ...(settings.has.ingress ? { ingress: { url: module('../ingress/worker.ts') } } : {}),
        },
      });
      await pool.start();
      return pool;
    }, (pool) => ({
      where: '', health: () => ({ ok: pool.readyCount > 0, detail: `${pool.readyCount} of ${pool.count} threads` }),
      stop: (drainMs) => pool.stop(drainMs),
    }));
  }

  async #startNode(onPart: (part: Part) => void): Promise<void> {
    const { settings, clock, log } = this;
    const transport: ApiTransport = this.control === undefined
      ? httpTransport(this.#credentials?.transport ?? { server: '' })
      : this.control.transport({ user: `system:node:${settings.nodeName}`, groups: ['system:nodes', 'system:masters', 'system:authenticated'] });
    const client = new ApiClient(transport, { userAgent: `netloom/${settings.nodeName}` });
    if (this.#credentials !== undefined) await adoptCluster(settings, this.#credentials, client);
    const informers = new SharedInformers(client, { clock, log });
    const view = new ServiceView(informers, { nodeName: settings.nodeName });
    this.client = client;
    this.informers = informers;
    this.view = view;
    this.parts.push({ name: 'watches', startMs: 0, where: '', health: () => this.#watchHealth(), stop: async () => { informers.stop(); await transport.close(); } });
    if (settings.has.dns) await this.#prepareDns(client, informers, view);
    if (settings.has.agent) {
      await this.#startAgent(client, informers, onPart);
      // The Pods' own way to the API: the node's address on their network, which exists only now.
      await this.control?.listenOn(settings.podGateway);
    }
    await Promise.all([
      settings.has.proxy ? this.#startProxy(client, informers, view, onPart) : undefined,
      settings.has.dns ? this.#startDns(onPart) : undefined,
      settings.has.ingress ? this.#startIngress(client, informers, view, onPart) : undefined,
    ]);
    await informers.whenSynced();
  }

  #watchHealth(): Health {
    let failing = 0;
    let oldest = 0;
    for (const informer of this.informers?.all() ?? []) {
      if (informer.failureCount > 2) failing += 1;
      oldest = Math.max(oldest, this.clock.monotonicMs() - informer.lastContactMs);
    }
    return failing === 0 ? { ok: true } : { ok: false, detail: `${failing} watches cannot reach the API server; state is up to ${Math.round(oldest / 1000)} s old` };
  }

  async #startAgent(client: ApiClient, informers: SharedInformers, onPart: (part: Part) => void): Promise<void> {
    const { settings } = this;
    const { Agent } = await import('../agent/agent.ts');
    const serving = this.control === undefined ? this.#credentials?.serving : { ...this.control.servingCertificate([settings.nodeName, 'localhost'], [...settings.nodeIPs, '127.0.0.1']), clientCaPem: this.control.clientCaPem };
    this.agent = await this.#part('agent', onPart, async () => {
      const agent = new Agent({
        client, informers, nodeName: settings.nodeName, nodeIPs: settings.nodeIPs, podCIDR: settings.nodePodCIDR, mode: settings.podNetwork,
        dataDir: settings.dataDir, servingCert: serving, dnsAddress: settings.dnsClusterIP, clusterDomain: settings.clusterDomain, hostEnv: podEnvironment(),
        bind: settings.kind === 'up' ? '127.0.0.1' : settings.bind, port: settings.kind === 'up' ? 0 : 10250, clock: this.clock, log: this.log.with({ component: 'agent' }),
      });
      await agent.start();
      return agent;
    }, (agent) => ({ where: `Pods ${settings.podNetwork === 'netns' ? 'in network namespaces' : 'on loopback'}, ${settings.nodePodCIDR}`, health: () => agent.health(), stop: (drainMs) => agent.stop(drainMs), registerMetrics: (registry) => agent.registerMetrics(registry) }));
  }

  async #startProxy(client: ApiClient, informers: SharedInformers, view: ServiceView, onPart: (part: Part) => void): Promise<void> {
    const { settings } = this;
    const { Proxier } = await import('../proxy/proxier.ts');
    const workers = this.#pool?.channel('userspace');
    this.proxier = await this.#part('proxy', onPart, async () => {
      const proxier = new Proxier({
        view, nodes: informers.nodes, nodeName: settings.nodeName, nodeIPs: settings.nodeIPs, mode: settings.proxyMode,
        pods: settings.has.agent ? informers.pods : undefined, bind: settings.bind,
        nodePortAddresses: settings.flags.nodeportAddresses ?? [], serviceCIDRs: settings.serviceCIDRs, podCIDR: settings.nodePodCIDR, clusterCIDR: settings.podCIDR,
        ...(workers === undefined ? {} : { workers }), client, clock: this.clock, log: this.log.with({ component: 'proxy' }),
        isOwnedTableVanishing: settings.kind === 'up', ...(settings.kind === 'node' ? { healthPort: settings.flags.healthzPort } : {}), isPodRoutingOn: settings.kind === 'node' && settings.podNetwork === 'netns' && settings.has.agent,
      });
      await proxier.start();
      return proxier;
    }, (proxier) => ({
      where: settings.proxyMode === 'nftables' ? 'kernel rules in tables named netloom' : `userspace listeners, ${settings.serviceCIDRs.join(', ')}`,
      health: () => proxier.health(), stop: (drainMs) => proxier.stop({ isCleanup: settings.kind === 'up' || settings.flags.cleanup === true, drainMs }),
      registerMetrics: (registry) => proxier.registerMetrics(registry),
    }));
  }

  /** Makes the DNS server and starts its thread, which loads its code while the agent starts. */
  async #prepareDns(client: ApiClient, informers: SharedInformers, view: ServiceView): Promise<void> {
    const { settings } = this;
    const { DnsServer } = await import('../dns/server.ts');
    const inside: Listener | undefined = settings.has.agent ? { address: settings.podGateway, port: settings.dnsPort } : undefined;
    this.#preparedDns = new DnsServer({
      view, namespaces: informers.namespaces, pods: settings.dnsPods === 'disabled' ? undefined : informers.pods, clusterDomain: settings.clusterDomain,
      listen: [{ address: settings.bind, port: settings.dnsPort }, ...(inside === undefined ? [] : [inside])],
      upstreams: settings.dnsUpstreams, clusterNetworks: settings.serviceCIDRs, podsMode: settings.dnsPods, workers: 1, dataDir: settings.dataDir, clock: this.clock, log: this.log.with({ component: 'dns' }),
      ...dnsOptions(settings, () => this.control?.servingCertificate([settings.nodeName, 'localhost'], [...settings.nodeIPs, '127.0.0.1', settings.dnsClusterIP]) ?? this.#credentials?.serving),
      ...(inside === undefined ? {} : { publish: { client, address: inside.address, port: inside.port, nodeName: settings.nodeName } }),
    });
    void this.#preparedDns.prepare();
  }

  async #startDns(onPart: (part: Part) => void): Promise<void> {
    const dns = this.#preparedDns;
    if (dns === undefined) return;
    this.dns = await this.#part('dns', onPart, async () => {
      await dns.start();
      return dns;
    }, () => ({ where: [...dns.addresses.map((item) => `${item.address}:${item.port}`), ...dns.tlsAddresses.map((item) => `tls ${item.address}:${item.port}`), ...dns.httpsAddresses.map((item) => `https ${item.address}:${item.port}`)].join(', '), health: () => dns.health(), stop: (drainMs) => dns.stop(drainMs), registerMetrics: (registry) => dns.registerMetrics(registry) }));
  }

  async #startIngress(client: ApiClient, informers: SharedInformers, view: ServiceView, onPart: (part: Part) => void): Promise<void> {
    const { settings } = this;
    const pool = this.#pool;
    if (pool === undefined) return;
    const { IngressController } = await import('../ingress/controller.ts');
    this.ingress = await this.#part('ingress', onPart, async () => {
      const ingress = new IngressController({
        informers, view, client, controllerName: 'netloom.dev/ingress', className: 'netloom', httpPort: settings.httpPort, httpsPort: settings.httpsPort,
        bind: settings.bind, workers: pool.channel('ingress'), publishAddresses: settings.bind === '0.0.0.0' || settings.bind === '::' ? settings.nodeIPs : [settings.bind],
        clock: this.clock, log: this.log.with({ component: 'ingress' }), ...(settings.flags.accessLog === undefined ? {} : { accessLog: settings.flags.accessLog as 'text' | 'json' }),
        ...(settings.flags.ingressExternalNames === undefined ? {} : { externalNames: externalNames(settings) }),
      });
      await ingress.start();
      return ingress;
    }, (ingress) => ({ where: `http ${settings.bind}:${ingress.httpPort}, https ${settings.bind}:${ingress.httpsPort}`, health: () => ingress.health(), stop: (drainMs) => ingress.stop(drainMs), registerMetrics: (registry) => ingress.registerMetrics(registry) }));
  }
}

/** What ExternalName Services may reach: never Services, Pods' gateway or this node's own addresses. */
function externalNames({ flags, serviceCIDRs, nodeIPs, podGateway, dnsUpstreams }: Settings): Partial<ExternalNameRules> {
  const own = [...nodeIPs, podGateway].map((ip) => `${ip}/${ip.includes(':') ? 128 : 32}`);
  return { isAllowed: true, denyRanges: [...serviceCIDRs, ...own], allowRanges: Array.isArray(flags.ingressExternalNames) ? flags.ingressExternalNames : [], servers: dnsUpstreams ?? [] };
}

/** What Pods inherit: this process's environment, with our own Node first in PATH so that `command: [node, app.ts]` works. */
function podEnvironment(): Record<string, string | undefined> {
  return { ...process.env, PATH: `${dirname(process.execPath)}:${process.env['PATH'] ?? '/usr/local/bin:/usr/bin:/bin'}` };
}
