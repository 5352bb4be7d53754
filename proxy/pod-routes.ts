// Routes from this node to the Pods of other nodes, for hosts without a network plug-in: straight through the other
// node's address where it is on the same link (host-gw), through one VXLAN device where a router stands between. Nodes
// are watched; a change is worked off by one reconciler. Called by proxier when asked for; needs root.
//
// A VXLAN device's hardware address is derived from its node's address, so nodes need not tell each other anything.
// Only ranges inside the Pod networks of the configuration are ever routed, whatever a Node object says.

import { execFile } from 'node:child_process';
import type { Cidr } from '../api/address.ts';
import { canonicalIP, familyOf, parseCIDR, parseIPv4 } from '../api/address.ts';
import type { Clock } from '../api/clock.ts';
import type { Informer } from '../api/informer.ts';
import type { Log } from '../api/log.ts';
import type { Node } from '../api/types.ts';
import { SyncLoop } from './sync-loop.ts';

export interface PodRoutesOptions {
  readonly nodes: Informer<Node>;
  readonly nodeName: string;
  readonly nodeIPs: readonly string[];
  readonly clusterCIDRs: readonly Cidr[];
  readonly clock: Clock;
  readonly log: Log;
}

/** One remote range and the node behind it. */
export interface PodRoute { readonly range: string; readonly nodeIP: string }

/** Marks our routes, as in nftables/host. */
const routeProtocol = '111';
const device = 'netloom-vxlan';
const vxlanId = '4877';
const vxlanPort = '4789';

/** Routes that a set of Nodes asks for: other nodes' Pod ranges inside the Pod networks. Pure. */
export function planPodRoutes(nodes: Iterable<Node>, nodeName: string, clusterCIDRs: readonly Cidr[]): PodRoute[] {
  const routes: PodRoute[] = [];
  for (const node of nodes) {
    if (node.metadata.name === nodeName) continue;
    const ips = (node.status?.addresses ?? []).filter((item) => item.type === 'InternalIP').map((item) => canonicalIP(item.address) ?? '');
    for (const text of node.spec?.podCIDRs ?? [node.spec?.podCIDR ?? '']) {
      const range = parseCIDR(text);
      const nodeIP = range === undefined ? undefined : ips.find((ip) => ip !== '' && familyOf(ip) === range.family);
      if (range === undefined || nodeIP === undefined) continue;
      const isInside = clusterCIDRs.some((cidr) => cidr.family === range.family && cidr.prefixLength <= range.prefixLength && cidr.contains(range.base));
      if (isInside && !routes.some((route) => route.range === range.toString())) routes.push({ range: range.toString(), nodeIP });
    }
  }
  return routes;
}

/** Locally administered hardware address of a node's VXLAN device. */
export function hardwareAddress(nodeIP: string): string {
  const value = parseIPv4(nodeIP) ?? 0;
  return ['0a', '58', ...[24, 16, 8, 0].map((shift) => ((value >>> shift) & 255).toString(16).padStart(2, '0'))].join(':');
}

export class PodRoutes {
  readonly #options: PodRoutesOptions;
  readonly #applied = new Map<string, { nodeIP: string; isTunnel: boolean }>();
  readonly #loop: SyncLoop;
  #stop: (() => void) | undefined;
  #hasDevice = false;

  constructor(options: PodRoutesOptions) {
    this.#options = options;
    this.#loop = new SyncLoop({ clock: options.clock, periodMsMin: 100, retryMsMin: 500, retryMsMax: 30_000, sync: () => this.#reconcile() });
  }

  async start(): Promise<void> {
    for (const family of ['-4', '-6']) {
      const listed = await ip([family, '-j', 'route', 'show', 'proto', routeProtocol]);
      for (const route of parseJson<{ dst: string; gateway?: string; dev?: string }[]>(listed.output) ?? []) {
        const range = parseCIDR(route.dst)?.toString();
        if (range !== undefined) this.#applied.set(range, { nodeIP: route.gateway ?? '', isTunnel: route.dev === device });
      }
    }
    this.#stop = this.#options.nodes.onChange(() => { this.#loop.request(false); });
    this.#loop.request(false);
    await this.#loop.whenIdle();
  }

  /** Ranges and how they are reached, for `status`. */
  status(): string[] { return [...this.#applied].map(([range, { nodeIP, isTunnel }]) => `${range} via ${nodeIP}${isTunnel ? ' (vxlan)' : ''}`); }

  async #reconcile(): Promise<void> {
    const wanted = planPodRoutes(this.#options.nodes.store.values(), this.#options.nodeName, this.#options.clusterCIDRs);
    const ranges = new Set(wanted.map((route) => route.range));
    for (const range of [...this.#applied.keys()]) {
      if (ranges.has(range)) continue;
      await ip(['route', 'del', range, 'proto', routeProtocol]);
      this.#applied.delete(range);
    }
    const failed: string[] = [];
    for (const route of wanted) if (!await this.#apply(route)) failed.push(route.range);
    if (failed.length === 0) return;
    this.#options.log.warn('routes to pods of other nodes could not be set', { ranges: failed });
    throw new Error('routes failed');
  }

  async #apply({ range, nodeIP }: PodRoute): Promise<boolean> {
    const isTunnel = !await isOnLink(nodeIP) && familyOf(nodeIP) === 'IPv4';
    const present = this.#applied.get(range);
    if (present?.nodeIP === nodeIP && present.isTunnel === isTunnel) return true;
    const isDone = isTunnel ? await this.#tunnel(range, nodeIP) : (await ip(['route', 'replace', range, 'via', nodeIP, 'proto', routeProtocol, 'onlink', 'dev', await deviceOf(nodeIP)])).isOk;
    if (isDone) this.#applied.set(range, { nodeIP, isTunnel });
    return isDone;
  }

  async #tunnel(range: string, nodeIP: string): Promise<boolean> {
    if (!this.#hasDevice) this.#hasDevice = await this.#makeDevice();
    const hardware = hardwareAddress(nodeIP);
    const gateway = range.slice(0, range.indexOf('/'));
    const steps: [string, string[]][] = [
      ['bridge', ['fdb', 'replace', hardware, 'dev', device, 'dst', nodeIP]],
      ['ip', ['neigh', 'replace', gateway, 'lladdr', hardware, 'dev', device, 'nud', 'permanent']],
      ['ip', ['route', 'replace', range, 'via', gateway, 'dev', device, 'onlink', 'proto', routeProtocol]],
    ];
    for (const [file, args] of steps) if (!(await run(file, args)).isOk) return false;
    return this.#hasDevice;
  }

  async #makeDevice(): Promise<boolean> {
    const local = this.#options.nodeIPs.find((address) => familyOf(address) === 'IPv4');
    if (local === undefined) return false;
    await ip(['link', 'add', device, 'address', hardwareAddress(local), 'type', 'vxlan', 'id', vxlanId, 'dstport', vxlanPort, 'local', local, 'nolearning']);
    return (await ip(['link', 'set', device, 'up'])).isOk;
  }

  async stop(isCleanup: boolean): Promise<void> {
    this.#stop?.();
    await this.#loop.stop();
    if (!isCleanup) return;
    for (const range of this.#applied.keys()) await ip(['route', 'del', range, 'proto', routeProtocol]);
    await ip(['link', 'del', device]);
  }
}

interface Result { readonly isOk: boolean; readonly output: string }

function run(file: string, args: readonly string[]): Promise<Result> {
  return new Promise((resolve) => {
    execFile(file, [...args], { timeout: 5_000, env: { PATH: '/usr/sbin:/sbin:/usr/bin:/bin' } }, (error, stdout) => { resolve({ isOk: error === null, output: stdout }); });
  });
}
const ip = (args: readonly string[]): Promise<Result> => run('ip', args);

function parseJson<T>(text: string): T | undefined {
  try { return JSON.parse(text) as T; } catch { return undefined; }
}

/** Whether the address is reached without a router in between. */
async function isOnLink(address: string): Promise<boolean> {
  const route = await routeTo(address);
  return route !== undefined && route.gateway === undefined;
}
async function deviceOf(address: string): Promise<string> { return (await routeTo(address))?.dev ?? 'lo'; }

async function routeTo(address: string): Promise<{ gateway?: string; dev?: string } | undefined> {
  return parseJson<{ gateway?: string; dev?: string }[]>((await ip(['-j', 'route', 'get', address])).output)?.[0];
}
