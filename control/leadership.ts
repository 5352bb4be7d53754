// Runs the controllers on the server that leads, and tells the cluster where this server can be reached. With the
// embedded store there is one server, which leads at once; with etcd the servers elect one through a Lease.
// Called by ./runner.ts after the API serves.

import { randomUUID } from 'node:crypto';
import { hostname, networkInterfaces } from 'node:os';
import { ApiClient, type ApiTransport } from '../api/client.ts';
import type { TimerHandle } from '../api/clock.ts';
import { SharedInformers } from '../api/informer.ts';
import type { ControlConfig } from './config.ts';
import { publishApiServer, withdrawApiServer, type ApiServerEndpoint } from './controllers/bootstrap/endpoints.ts';
import { startControllers, type RunningControllers } from './controllers/manager.ts';
import { Election } from './storage/election.ts';
import type { Storage } from './storage/store.ts';

export interface LeadershipOptions {
  config: ControlConfig; storage: Storage; caPem: string; port: number; address: string;
  transport: (user: string) => ApiTransport;
}

/** How often a server of several renews its place behind default/kubernetes. */
const publishPeriodMs = 5_000;

export class Leadership {
  readonly #options: LeadershipOptions;
  readonly #election: Election;
  readonly #own: ApiServerEndpoint;
  readonly #publisher: ApiClient;
  #controllers: RunningControllers | undefined;
  #informers: SharedInformers | undefined;
  #transport: ApiTransport | undefined;
  #ticker: TimerHandle | undefined;
  #synced = Promise.withResolvers<void>();

  constructor(options: LeadershipOptions) {
    this.#options = options;
    const { config, storage } = options;
    const isShared = config.store.kind === 'etcd';
    const identity = isShared ? `${hostname()}-${randomUUID().slice(0, 8)}` : 'single';
    this.#own = { identity, address: config.advertiseAddress ?? reachableAddress(options.address), port: options.port };
    this.#publisher = new ApiClient(options.transport('system:apiserver'), { userAgent: 'netloom-apiserver' });
    this.#election = new Election({ storage, clock: config.clock, log: config.log, identity, onStart: () => this.#lead(), onStop: () => this.#follow() });
  }

  get isLeader(): boolean { return this.#election.isLeader; }
  get controllers(): RunningControllers | undefined { return this.#controllers; }

  async start(): Promise<void> {
    const { config } = this.#options;
    await publishApiServer(this.#publisher, config.clock, this.#own);
    if (config.store.kind === 'etcd') this.#ticker = config.clock.every(publishPeriodMs, () => { void this.#publish(); });
    if (config.isControllersOn) this.#election.start();
    else this.#synced.resolve();
  }

  /** Resolves when the controllers run on a whole view, here or on the server that leads. */
  whenReady(): Promise<void> { return this.#election.isLeader || this.#controllers !== undefined || this.#election.leader === undefined ? this.#synced.promise : Promise.resolve(); }

  health(): { ok: boolean; detail?: string } { return this.#controllers?.health() ?? { ok: true }; }

  async stop(): Promise<void> {
    this.#ticker?.cancel();
    await this.#election.stop();
    this.#follow();
    if (this.#options.config.store.kind === 'etcd') await withdrawApiServer(this.#publisher, this.#own).catch(() => undefined);
    await this.#publisher.transport.close();
  }

  async #publish(): Promise<void> {
    try { await publishApiServer(this.#publisher, this.#options.config.clock, this.#own); } catch (error) { this.#options.config.log.warn('own address cannot be published', { err: error }); }
  }

  #lead(): void {
    const { config, caPem, port } = this.#options;
    this.#transport = this.#options.transport('system:kube-controller-manager');
    const client = new ApiClient(this.#transport, { userAgent: 'netloom-controllers' });
    this.#informers = new SharedInformers(client, { clock: config.clock, log: config.log });
    this.#controllers = startControllers({
      client, informers: this.#informers, clock: config.clock, log: config.log, storage: this.#options.storage,
      config: {
        serviceCIDRs: config.serviceCIDRs, podCIDRs: [config.podCIDR], clusterDomain: config.clusterDomain, apiAddress: this.#own.address, apiPort: port,
        dnsServiceIP: config.dnsServiceIP, loadBalancerPool: config.loadBalancerPool, caPem,
      },
    });
    this.#controllers.whenSynced().then(() => this.#synced.resolve(), () => undefined);
  }

  #follow(): void {
    this.#controllers?.stop();
    this.#informers?.stop();
    void this.#transport?.close();
    this.#controllers = undefined;
    this.#informers = undefined;
    this.#transport = undefined;
  }
}

/** The address that others use: the one listened on, or for a wildcard the first of this machine that is not loopback. */
function reachableAddress(listened: string): string {
  if (listened !== '0.0.0.0' && listened !== '::') return listened;
  const family = listened === '::' ? 'IPv6' : 'IPv4';
  for (const list of Object.values(networkInterfaces())) for (const item of list ?? []) if (!item.internal && item.family === family && !item.address.startsWith('fe80')) return item.address;
  return family === 'IPv6' ? '::1' : '127.0.0.1';
}
