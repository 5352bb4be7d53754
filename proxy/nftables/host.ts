// Kernel settings and routes that the rules rely on, beside the tables. Settings are raised, never lowered, and only
// where this process may; what cannot be written is reported, since rules work without. Called by the engine.
//
// Route: a packet of a host process is routed before its destination is rewritten, so a ClusterIP needs a route. The
// `local` route of the service networks makes every host able to send to them; it is harmless beside a default route,
// since everything to these networks is rewritten, refused or dropped.

import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import type { Cidr } from '../../api/address.ts';
import { isLoopback } from '../../api/address.ts';
import type { Log } from '../../api/log.ts';
import type { Companion } from './nftables.ts';

export interface HostOptions {
  readonly isSysctlOn: boolean;
  readonly isServiceRouteOn: boolean;
  readonly serviceCIDRs: readonly Cidr[];
  /** Source of host processes on these routes, so that affinity sees one client. */
  readonly nodeIPs: readonly string[];
  readonly log: Log;
}

/** Marks our routes in `ip route` (no other program's number). */
const routeProtocol = '111';

/** Name → least value; `exact` ones are set as they are. Source: kube-proxy's conntrack defaults. */
function settings(): [name: string, value: number, isExact: boolean][] {
  return [
    ['net/netfilter/nf_conntrack_max', Math.max(131_072, 32_768 * availableParallelism()), false],
    ['net/netfilter/nf_conntrack_tcp_timeout_established', 86_400, true],
    ['net/netfilter/nf_conntrack_tcp_timeout_close_wait', 3_600, true],
    ['net/ipv4/ip_forward', 1, false],
    ['net/ipv6/conf/all/forwarding', 1, false],
  ];
}

export class HostSettings implements Companion {
  readonly #options: HostOptions;
  #faults: string[] = [];

  constructor(options: HostOptions) { this.#options = options; }

  async start(): Promise<void> {
    this.#faults = [];
    if (this.#options.isSysctlOn) for (const [name, value, isExact] of settings()) await this.#set(name, value, isExact);
    if (this.#options.isServiceRouteOn) for (const cidr of this.#options.serviceCIDRs) await this.#route('replace', cidr);
    if (this.#faults.length > 0) this.#options.log.warn('some kernel settings were left as they are', { faults: this.#faults });
  }

  async #set(name: string, value: number, isExact: boolean): Promise<void> {
    const file = `/proc/sys/${name}`;
    try {
      const present = Number(await readFile(file, 'utf8'));
      if (present === value || (!isExact && present > value)) return;
      await writeFile(file, String(value));
    } catch {
      this.#faults.push(name.replaceAll('/', '.'));
    }
  }

  async #route(action: 'replace' | 'del', cidr: Cidr): Promise<void> {
    const source = this.#options.nodeIPs.find((ip) => ip.includes(':') === (cidr.family === 'IPv6') && !isLoopback(ip));
    const full = ['route', action, 'local', cidr.toString(), 'dev', 'lo', 'proto', routeProtocol];
    const isDone = (source !== undefined && action === 'replace' && await runIp([...full, 'src', source])) || await runIp(full);
    if (!isDone && action === 'replace') this.#faults.push(`route to ${cidr}`);
  }

  afterSync(): Promise<void> { return Promise.resolve(); }

  async stop(isCleanup: boolean): Promise<void> {
    if (isCleanup && this.#options.isServiceRouteOn) for (const cidr of this.#options.serviceCIDRs) await this.#route('del', cidr);
  }

  status(): readonly string[] { return this.#faults.length === 0 ? [] : [`not set: ${this.#faults.join(', ')}`]; }
}

/** Runs `ip` without a shell; false when it fails or is missing. Also of use to routes between nodes. */
export function runIp(args: readonly string[]): Promise<boolean> {
  return new Promise((resolve) => {
    execFile('ip', [...args], { timeout: 5_000, env: { PATH: '/usr/sbin:/sbin:/usr/bin:/bin' } }, (error) => { resolve(error === null); });
  });
}
