// The node's own entry in the API: the Node object (addresses, capacity, conditions, kubelet port) and its Lease, whose
// renewal tells the control plane that the node is alive. Source: core/v1 Node, coordination/v1 Lease, KEP-589.

import { readFileSync } from 'node:fs';
import { arch, cpus, hostname, release, totalmem } from 'node:os';
import type { ApiClient } from '../api/client.ts';
import { formatMicroTime, formatTime, type Clock, type TimerHandle } from '../api/clock.ts';
import { isAlreadyExists, isNotFound, NetloomError } from '../api/errors.ts';
import type { Log } from '../api/log.ts';
import { resources } from '../api/resources.ts';
import type { Condition, Lease, Node } from '../api/types.ts';

export interface NodeRegistrationOptions {
  client: ApiClient; nodeName: string; nodeIPs: readonly string[]; podCIDR: string; podCountMax: number;
  labels: Readonly<Record<string, string>>; version: string;
  clock: Clock; log: Log;
  /** Port of the agent's HTTPS server, 0 when there is none. */
  port: () => number;
}

const leaseNamespace = 'kube-node-lease';
const leaseSeconds = 40;
const renewPeriodMs = 10_000;
const renewTimeoutMs = 8_000;
const statusPeriodMs = 300_000;
const retryMsMax = 5_000;

export class NodeRegistration {
  readonly #options: NodeRegistrationOptions;
  readonly #abort = new AbortController();
  #timer: TimerHandle | undefined;
  #lease: Lease | undefined;
  #node: Node | undefined;
  #isReady = true;
  #lastRenewMs = -Infinity;
  #lastStatusMs = -Infinity;
  #renewing: Promise<void> = Promise.resolve();

  constructor(options: NodeRegistrationOptions) { this.#options = options; }

  get node(): Node | undefined { return this.#node; }
  /** Monotonic time of the last renewal that the API acknowledged. */
  get lastRenewMs(): number { return this.#lastRenewMs; }

  /** Resolves when the Node object exists; retries until then or until stop(). */
  async start(): Promise<void> {
    let delayMs = 50;
    while (!this.#abort.signal.aborted) {
      try {
        await this.#register();
        break;
      } catch (err) {
        this.#options.log.warn('node not registered yet', { node: this.#options.nodeName, err });
        await new Promise<void>((resolve) => { this.#options.clock.after(delayMs, resolve); });
        delayMs = Math.min(retryMsMax, delayMs * 2);
      }
    }
    this.#renewing = this.#renew();
    this.#timer = this.#options.clock.every(renewPeriodMs, () => { this.#renewing = this.#renew(); });
    await this.#renewing;
  }

  /** Marks the node NotReady, so that others stop sending before the Pods end. */
  async stop(): Promise<void> {
    this.#abort.abort();
    this.#timer?.cancel();
    this.#isReady = false;
    if (this.#node === undefined) return;
    await this.#writeStatus().catch(() => {});
  }

  async #register(): Promise<void> {
    const { client, nodeName, podCIDR, labels } = this.#options;
    const wanted = { 'kubernetes.io/hostname': nodeName, 'kubernetes.io/os': 'linux', 'kubernetes.io/arch': architecture(), ...labels };
    const node: Node = { metadata: { name: nodeName, labels: wanted }, spec: { podCIDR, podCIDRs: [podCIDR] }, status: this.#status(undefined) };
    try {
      this.#node = await client.create<Node>(resources.nodes, undefined, node);
    } catch (error) {
      if (!isAlreadyExists(error)) throw error;
      const old = await client.get<Node>(resources.nodes, undefined, nodeName);
      const patch = { metadata: { labels: wanted }, ...(old.spec?.podCIDR === undefined || old.spec.podCIDR === '' ? { spec: { podCIDR, podCIDRs: [podCIDR] } } : {}) };
      this.#node = await client.patch<Node>(resources.nodes, undefined, nodeName, patch, { type: 'merge' });
    }
    await this.#writeStatus();
  }

  #status(previous: Node['status']): NonNullable<Node['status']> {
    const { nodeIPs, nodeName, podCountMax, port, version, clock } = this.#options;
    const capacity = { cpu: String(cpus().length), memory: `${Math.floor(totalmem() / 1024)}Ki`, pods: String(podCountMax) };
    const now = formatTime(clock.nowMs());
    const conditions = [
      condition('MemoryPressure', 'False', 'NodeHasSufficientMemory', 'no limit is enforced', now, previous),
      condition('DiskPressure', 'False', 'NodeHasNoDiskPressure', 'no limit is enforced', now, previous),
      condition('PIDPressure', 'False', 'NodeHasSufficientPID', 'no limit is enforced', now, previous),
      this.#isReady ? condition('Ready', 'True', 'NodeReady', 'the agent runs Pods as processes of this host', now, previous)
        : condition('Ready', 'False', 'NodeStopping', 'the agent is stopping', now, previous),
    ];
    return {
      addresses: [...nodeIPs.map((address) => ({ type: 'InternalIP', address })), { type: 'Hostname', address: hostname() || nodeName }],
      capacity, allocatable: capacity, conditions, nodeInfo: nodeInfo(version),
      ...(port() === 0 ? {} : { daemonEndpoints: { kubeletEndpoint: { Port: port() } } }),
    };
  }

  async #writeStatus(): Promise<void> {
    const { client, nodeName, clock } = this.#options;
    this.#node = await client.patch<Node>(resources.nodes, undefined, nodeName, { status: this.#status(this.#node?.status) }, { type: 'merge', subresource: 'status' });
    this.#lastStatusMs = clock.monotonicMs();
  }

  /** Renews the Lease; also brings the Node back when somebody deleted it. */
  async #renew(): Promise<void> {
    const { client, nodeName, clock, log } = this.#options;
    const renewTime = formatMicroTime(clock.nowMs());
    try {
      this.#lease = await this.#inTime(this.#lease === undefined ? this.#takeLease(renewTime)
        : client.update<Lease>(resources.leases, { ...this.#lease, spec: { ...this.#lease.spec, renewTime } }));
      this.#lastRenewMs = clock.monotonicMs();
      if (clock.monotonicMs() - this.#lastStatusMs >= statusPeriodMs) await this.#writeStatus();
    } catch (err) {
      // Read again next time: what became of a write without an answer is not known.
      this.#lease = undefined;
      if (isNotFound(err)) await this.#register().catch(() => {});
      log.warn('node lease not renewed', { node: nodeName, err });
    }
  }

  /** A write that hangs in a broken network must not keep the next one from being tried. */
  #inTime<T>(work: Promise<T>): Promise<T> {
    work.catch(() => {});
    return new Promise((resolve, reject) => {
      const timer = this.#options.clock.after(renewTimeoutMs, () => reject(new NetloomError('Timeout', `no answer to the lease renewal within ${renewTimeoutMs} ms`, { source: 'api' })));
      work.then(resolve, reject).finally(() => timer.cancel());
    });
  }

  async #takeLease(renewTime: string): Promise<Lease> {
    const { client, nodeName } = this.#options;
    const owner = this.#node?.metadata.uid === undefined ? {} : { ownerReferences: [{ apiVersion: 'v1', kind: 'Node', name: nodeName, uid: this.#node.metadata.uid }] };
    const spec = { holderIdentity: nodeName, leaseDurationSeconds: leaseSeconds, renewTime };
    try {
      return await client.create<Lease>(resources.leases, leaseNamespace, { metadata: { name: nodeName, namespace: leaseNamespace, ...owner }, spec });
    } catch (error) {
      if (!isAlreadyExists(error)) throw error;
      const old = await client.get<Lease>(resources.leases, leaseNamespace, nodeName);
      return client.update<Lease>(resources.leases, { ...old, metadata: { ...old.metadata, ...owner }, spec: { ...old.spec, ...spec } });
    }
  }
}

function condition(type: string, status: 'True' | 'False', reason: string, message: string, now: string, previous: Node['status']): Condition {
  const old = previous?.conditions?.find((each) => each.type === type);
  return { type, status, reason, message, lastHeartbeatTime: now, lastTransitionTime: old?.status === status && old.lastTransitionTime !== undefined ? old.lastTransitionTime : now };
}

const architecture = (): string => ({ x64: 'amd64' } as Record<string, string>)[arch()] ?? arch();

function nodeInfo(version: string): Record<string, string> {
  const read = (path: string): string => { try { return readFileSync(path, 'utf8').trim(); } catch { return ''; } };
  const osImage = /^PRETTY_NAME="?([^"\n]*)/m.exec(read('/etc/os-release'))?.[1] ?? process.platform;
  const machineID = read('/etc/machine-id');
  return {
    machineID, systemUUID: machineID, bootID: read('/proc/sys/kernel/random/boot_id'), kernelVersion: release(), osImage,
    containerRuntimeVersion: `netloom://${version}`, kubeletVersion: `v1.32.0+netloom.${version}`, kubeProxyVersion: `v1.32.0+netloom.${version}`,
    operatingSystem: process.platform, architecture: architecture(),
  };
}
