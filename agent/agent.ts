// A node's own duties: registers the Node and keeps its Lease, runs the Pods bound to it as processes of this host,
// probes them, writes their status, keeps their logs and serves exec, logs and port-forward to the API server.
// Nothing outlives it: stop() ends and removes everything, after a kill the reaper does, and what both missed is
// removed at the next start (by the marks in /proc/*/environ and the names of network namespaces). Pods are not
// adopted across a restart of the agent: they are killed and started again.

import { createHash, randomBytes } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ApiClient } from '../api/client.ts';
import type { Clock } from '../api/clock.ts';
import type { SharedInformers } from '../api/informer.ts';
import type { Log } from '../api/log.ts';
import type { Registry } from 'prom-client';
import { EventRecorder } from './events.ts';
import { registerAgentMetrics } from './metrics.ts';
import { LoopbackNetwork } from './network/loopback.ts';
import { NetnsNetwork } from './network/netns.ts';
import type { NetworkDriver } from './network/network.ts';
import { NodeRegistration } from './node.ts';
import { logDefaults } from './pods/log-file.ts';
import { Pods } from './pods/pods.ts';
import { agentMark, killMarked } from './pods/process.ts';
import { Reaper } from './pods/reaper.ts';
import { Sweeper } from './pods/sweeper.ts';
import { AgentServer } from './server/server.ts';

export interface AgentOptions {
  client: ApiClient;
  /** Gives Pods their service variables (NAME_SERVICE_HOST); without it there are none. */
  informers?: SharedInformers | undefined;
  nodeName: string;
  /** The node's addresses; the first is the hostIP of its Pods. */
  nodeIPs: readonly string[];
  podCIDR: string;
  mode: 'netns' | 'loopback';
  /** Holds logs, the agent's id and Pod files. */
  dataDir: string;
  /** Without it, there is no HTTPS server and `kubectl logs` and `exec` cannot work. */
  servingCert: { certPem: string; keyPem: string; clientCaPem: string } | undefined;
  /** Nameserver for Pods with a network namespace; undefined leaves the host's resolv.conf. */
  dnsAddress: string | undefined;
  clusterDomain: string;
  /** Address and port of the HTTPS server; 0 = a free port. */
  bind: string; port: number;
  clock: Clock; log: Log;
  labels?: Readonly<Record<string, string>> | undefined;
  /** Folder in which commands run unless a container names another; default: the present one. */
  workingDir?: string | undefined;
  bridgeName?: string | undefined;
  podCountMax?: number | undefined;
  logBytesMax?: number | undefined;
  version?: string | undefined;
  /** Environment from which Pods inherit PATH, HOME and the like; default: this process's. */
  hostEnv?: Readonly<Record<string, string | undefined>> | undefined;
}

const drainMsDefault = 10_000;
const podCountMaxDefault = 1_000;

export class Agent {
  readonly #options: AgentOptions;
  readonly #events: EventRecorder;
  readonly #sweeper = new Sweeper();
  #network: NetworkDriver | undefined;
  #reaper: Reaper | undefined;
  #node: NodeRegistration | undefined;
  #pods: Pods | undefined;
  #server: AgentServer | undefined;
  #agentId = '';

  constructor(options: AgentOptions) {
    this.#options = options;
    this.#events = new EventRecorder({ client: options.client, clock: options.clock, log: options.log, component: 'kubelet', host: options.nodeName });
  }

  /** Port of the HTTPS server after start(); 0 when there is none. */
  get port(): number { return this.#server?.port ?? 0; }
  get podCount(): number { return this.#pods?.count ?? 0; }

  /** Resolves when the node is registered and Pods are being run. Throws ToolMissing, PermissionDenied, PortInUse. */
  async start(): Promise<void> {
    const options = this.#options;
    await mkdir(options.dataDir, { recursive: true, mode: 0o700 });
    this.#agentId = await loadAgentId(join(options.dataDir, 'agent-id'));
    const killed = await killMarked(agentMark, this.#agentId);
    if (killed > 0) options.log.warn('killed processes of an earlier agent', { count: killed });
    const prefix = `nl${createHash('sha256').update(this.#agentId).digest('hex').slice(0, 4)}`;
    this.#network = options.mode === 'loopback' ? new LoopbackNetwork({ podCIDR: options.podCIDR })
      : new NetnsNetwork({ podCIDR: options.podCIDR, bridgeName: options.bridgeName ?? 'netloom0', prefix, dataDir: options.dataDir, log: options.log });
    await this.#network.start();
    this.#reaper = new Reaper({ agentId: this.#agentId, cleanupScript: this.#network.cleanupScript(), log: options.log });
    this.#pods = this.#makePods(this.#network);
    if (options.servingCert !== undefined) {
      this.#server = new AgentServer({ ...options, servingCert: options.servingCert, pods: this.#pods, workingDir: options.workingDir ?? process.cwd() });
      await this.#server.start();
    }
    this.#node = new NodeRegistration({
      client: options.client, nodeName: options.nodeName, nodeIPs: options.nodeIPs, podCIDR: options.podCIDR, podCountMax: options.podCountMax ?? podCountMaxDefault,
      labels: options.labels ?? {}, version: options.version ?? '0.1.0', clock: options.clock, log: options.log, port: () => this.port,
    });
    this.#pods.start();
    await this.#node.start();
  }

  /** Marks node and Pods not ready, ends the Pods gracefully within `drainMs`, removes all that was made. */
  async stop(drainMs: number = drainMsDefault): Promise<void> {
    this.#events.stop();
    await Promise.race([this.#node?.stop(), new Promise<void>((resolve) => { this.#options.clock.after(1_000, resolve); })]);
    await this.#pods?.stop(drainMs);
    await this.#server?.stop();
    await killMarked(agentMark, this.#agentId);
    await this.#network?.stop();
    await this.#reaper?.stop();
  }

  health(): { ok: boolean; detail?: string } {
    if (this.#node?.node === undefined) return { ok: false, detail: 'the node is not registered' };
    const ageMs = this.#options.clock.monotonicMs() - this.#node.lastRenewMs;
    return ageMs > 40_000 ? { ok: false, detail: `the node lease was last renewed ${Math.round(ageMs / 1000)} s ago` } : { ok: true };
  }

  registerMetrics(registry: Registry): void {
    registerAgentMetrics(registry, { pods: () => this.#pods?.values() ?? [], leaseAgeSeconds: () => (this.#options.clock.monotonicMs() - (this.#node?.lastRenewMs ?? 0)) / 1000 });
  }

  #makePods(network: NetworkDriver): Pods {
    const options = this.#options;
    const services = options.informers?.services;
    return new Pods({
      client: options.client, network, clock: options.clock, log: options.log, sweeper: this.#sweeper, nodeName: options.nodeName,
      hostIP: options.nodeIPs[0] ?? '127.0.0.1', dnsAddress: options.dnsAddress, clusterDomain: options.clusterDomain,
      dataDir: options.dataDir, workingDir: options.workingDir ?? process.cwd(), logBytesMax: options.logBytesMax ?? logDefaults.fileBytesMax,
      hostEnv: options.hostEnv ?? process.env, marks: { [agentMark]: this.#agentId },
      services: () => services?.store.values() ?? [],
      onEvent: (pod, type, reason, message) => this.#events.record(pod, type, reason, message),
    });
  }
}

/** The id survives restarts, so that an agent recognises what an earlier one left behind. */
async function loadAgentId(path: string): Promise<string> {
  const known = (await readFile(path, 'utf8').catch(() => '')).trim();
  if (/^[0-9a-f]{16}$/.test(known)) return known;
  const id = randomBytes(8).toString('hex');
  await writeFile(path, `${id}\n`, { mode: 0o600 });
  return id;
}
