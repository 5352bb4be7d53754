// A real control plane in this process, in memory, with controllers, for tests of controllers and admission. Everything
// goes through the API: what a test sees is what kubectl would see.

import { ApiClient } from '../../api/client.ts';
import { systemClock, type Clock } from '../../api/clock.ts';
import { SharedInformers } from '../../api/informer.ts';
import { silentLog, type Log } from '../../api/log.ts';
import { resources } from '../../api/resources.ts';
import type { Condition, KubeObject, Lease, Node, Pod, PodSpec } from '../../api/types.ts';
import type { ControllersConfig } from '../../control/controllers/config.ts';
import { startControllers, type RunningControllers } from '../../control/controllers/manager.ts';
import { start, type ControlPlane, type StartOptions } from '../../control/start.ts';
import { waitFor } from './wait-for.ts';

export interface WorldOptions extends StartOptions { controllers?: Partial<ControllersConfig>; controllerClock?: Clock; controllerLog?: Log }

export class ControlWorld {
  readonly plane: ControlPlane;
  readonly client: ApiClient;
  readonly #options: WorldOptions;
  informers: SharedInformers;
  controllers: RunningControllers;

  private constructor(plane: ControlPlane, options: WorldOptions) {
    this.plane = plane;
    this.#options = options;
    this.client = new ApiClient(plane.transport({ user: 'test', groups: ['system:masters'] }));
    [this.informers, this.controllers] = this.#run();
  }

  static async start(options: WorldOptions = {}): Promise<ControlWorld> {
    const { controllers: _controllers, controllerClock: _clock, controllerLog: _log, ...startOptions } = options;
    const plane = await start({ ephemeral: true, isControllersOn: false, ...startOptions });
    const world = new ControlWorld(plane, options);
    await world.controllers.whenSynced();
    return world;
  }

  #run(): [SharedInformers, RunningControllers] {
    const { controllerClock: clock = systemClock, controllerLog: log = silentLog, controllers = {}, serviceCIDRs } = this.#options;
    const client = new ApiClient(this.plane.transport({ user: 'system:kube-controller-manager', groups: ['system:masters'] }));
    const informers = new SharedInformers(client, { clock, log });
    return [informers, startControllers({ client, informers, clock, log, config: { ...(serviceCIDRs === undefined ? {} : { serviceCIDRs }), ...controllers } })];
  }

  /** Ends the controllers and starts new ones, as a restart or a change of leader does. */
  async restartControllers(): Promise<void> {
    this.controllers.stop();
    this.informers.stop();
    [this.informers, this.controllers] = this.#run();
    await this.controllers.whenSynced();
  }

  async stop(): Promise<void> {
    this.controllers.stop();
    this.informers.stop();
    await this.plane.stop();
  }

  /** A ready Node with a fresh Lease. */
  async node(name: string, options: { labels?: Record<string, string>; cpu?: string; lease?: boolean; taints?: NonNullable<Node['spec']>['taints'] } = {}): Promise<Node> {
    const conditions: Condition[] = [{ type: 'Ready', status: 'True', reason: 'NodeReady', message: '', lastHeartbeatTime: '2026-01-01T00:00:00Z', lastTransitionTime: '2026-01-01T00:00:00Z' }];
    const capacity = { cpu: options.cpu ?? '4', memory: '8Gi', pods: '110' };
    const node = await this.client.create<Node>(resources.nodes, undefined, { metadata: { name, ...(options.labels === undefined ? {} : { labels: options.labels }) }, spec: options.taints === undefined ? {} : { taints: options.taints }, status: { conditions, capacity, allocatable: capacity } });
    if (options.lease !== false) await this.renew(name);
    return node;
  }

  /** Renews the Lease of a node. */
  async renew(name: string): Promise<void> {
    const renewTime = `${new Date(Date.now() + Math.floor(Math.random() * 1000)).toISOString().slice(0, 23)}${String(Math.floor(Math.random() * 1000)).padStart(3, '0')}Z`;
    const found = await this.client.list<Lease>(resources.leases, 'kube-node-lease', { fieldSelector: `metadata.name=${name}` });
    const old = found.items[0];
    const spec = { holderIdentity: name, leaseDurationSeconds: 40, renewTime };
    if (old === undefined) await this.client.create<Lease>(resources.leases, 'kube-node-lease', { metadata: { name, namespace: 'kube-node-lease' }, spec });
    else await this.client.update<Lease>(resources.leases, { ...old, spec });
  }

  /** A Pod, bound and with a status as its agent would have written it. */
  async pod(key: string, options: { labels?: Record<string, string>; ip?: string; ips?: string[]; node?: string; isReady?: boolean; phase?: NonNullable<Pod['status']>['phase']; spec?: Partial<PodSpec> } = {}): Promise<Pod> {
    const [namespace, name] = key.includes('/') ? (key.split('/') as [string, string]) : ['default', key];
    const spec: PodSpec = { containers: [{ name: 'main', image: 'app' }], ...options.spec, ...(options.node === undefined ? {} : { nodeName: options.node }) };
    const pod = await this.client.create<Pod>(resources.pods, namespace, { metadata: { name, namespace, ...(options.labels === undefined ? {} : { labels: options.labels }) }, spec });
    if (options.ip === undefined && options.ips === undefined && options.phase === undefined) return pod;
    return this.podStatus(key, options);
  }

  /** Writes a Pod's address, phase and readiness. */
  async podStatus(key: string, options: { ip?: string; ips?: string[]; isReady?: boolean; phase?: NonNullable<Pod['status']>['phase'] }): Promise<Pod> {
    const [namespace, name] = key.includes('/') ? (key.split('/') as [string, string]) : ['default', key];
    const ips = options.ips ?? (options.ip === undefined ? undefined : [options.ip]);
    const isReady = options.isReady ?? true;
    const time = '2026-01-01T00:00:00Z';
    const condition = (type: string): Condition => ({ type, status: isReady ? 'True' : 'False', lastTransitionTime: time });
    const status: NonNullable<Pod['status']> = { phase: options.phase ?? 'Running', conditions: [condition('Ready'), condition('ContainersReady'), { type: 'PodScheduled', status: 'True', lastTransitionTime: time }], ...(ips === undefined ? {} : { podIP: ips[0] ?? '', podIPs: ips.map((ip) => ({ ip })) }) };
    return this.client.patch<Pod>(resources.pods, namespace, name, { status }, { type: 'merge', subresource: 'status' });
  }

  /** Resolves when the controllers have done all they can. */
  async settled(): Promise<void> {
    let revision = '';
    for (;;) {
      await this.controllers.whenIdle();
      await new Promise<void>((resolve) => { setImmediate(resolve); });
      const now = (await this.client.list(resources.namespaces, undefined, { limit: 1 })).metadata.resourceVersion ?? '';
      const isSeen = [...this.informers.all()].every((informer) => informer.hasSynced);
      if (now === revision && isSeen && this.controllers.stats().every((each) => each.depth === 0)) return;
      revision = now;
    }
  }

  /** Waits until `check` gives something. */
  until<T>(what: string, check: () => T | Promise<T>, timeoutMs = 10_000): Promise<NonNullable<T>> { return waitFor(check, { what, timeoutMs, everyMs: 3 }); }

  async gone(resource: Parameters<ApiClient['get']>[0], namespace: string | undefined, name: string): Promise<void> {
    await this.until(`${resource.resource} ${name} to be gone`, async () => (await this.client.list<KubeObject>(resource, namespace, { fieldSelector: `metadata.name=${name}` })).items.length === 0);
  }
}
