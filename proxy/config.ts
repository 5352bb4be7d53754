// Settings of the Service proxy, with defaults and checks. Called by proxier; cli maps flags onto it. Names of the
// peer's (kube-proxy's) settings stand beside each field.

import type { Cidr } from '../api/address.ts';
import { canonicalIP, isLoopback, isUnspecified, parseCIDR } from '../api/address.ts';
import { NetloomError } from '../api/errors.ts';
import type { NodePortAddresses } from './backend.ts';

export type ProxyMode = 'auto' | 'nftables' | 'userspace';

export interface ProxyConfig {
  /** Engine; auto = nftables where the kernel lets us, else userspace. Peer: --proxy-mode. */
  readonly mode: ProxyMode;
  /** Address that external paths are served on: loopback = nothing from outside, 0.0.0.0 or :: = everything. */
  readonly bind: string;
  /** NodePort addresses, overriding `bind`: CIDRs, `primary`, `localhost`. Peer: --nodeport-addresses. */
  readonly nodePortAddresses: readonly string[] | undefined;
  /** Networks of ClusterIPs: unallocated addresses in them are dropped, and routed to this host. */
  readonly serviceCIDRs: readonly string[];
  /** Networks of all Pods: their source address is kept. Empty = nobody can be told apart. Peer: --cluster-cidr. */
  readonly clusterCIDRs: readonly string[];
  /** Masquerade everything that goes to a ClusterIP. Peer: --masquerade-all. */
  readonly isMasqueradeAll: boolean;
  /** Shortest time between two syncs. Peer: --nftables-min-sync-period (1 s there). */
  readonly syncPeriodMsMin: number;
  /** Longest delay of a retry after a failed sync; a change that waits twice as long makes /healthz fail. Peer: --nftables-sync-period. */
  readonly syncPeriodMs: number;
  /** How often the kernel is asked whether somebody else changed our rules. 0 = never. */
  readonly driftPeriodMs: number;
  /** Leave the kernel's own limits alone (containers, tests). */
  readonly isSysctlOn: boolean;
  /** Route service networks to this host, so that a host without a default route reaches them. */
  readonly isServiceRouteOn: boolean;
}

export const defaults: ProxyConfig = Object.freeze({
  mode: 'auto', bind: '127.0.0.1', nodePortAddresses: undefined, serviceCIDRs: ['10.96.0.0/16'], clusterCIDRs: ['10.244.0.0/16'],
  isMasqueradeAll: false, syncPeriodMsMin: 10, syncPeriodMs: 30_000, driftPeriodMs: 250, isSysctlOn: true, isServiceRouteOn: true,
});

/** Parses CIDRs; throws ConfigInvalid naming the setting. */
export function parseCIDRs(setting: string, texts: readonly string[]): Cidr[] {
  return texts.map((text) => {
    const cidr = parseCIDR(text);
    if (cidr === undefined) throw new NetloomError('ConfigInvalid', `${setting}: ${JSON.stringify(text)} is not a CIDR`, { source: 'config', hint: 'write it like 10.96.0.0/16 or fd00::/112' });
    return cidr;
  });
}

/** Where NodePorts are served. `nodeIPs` are the Node object's addresses, primary of each family first. */
export function resolveNodePortAddresses(config: Pick<ProxyConfig, 'bind' | 'nodePortAddresses'>, nodeIPs: readonly string[]): NodePortAddresses {
  if (config.nodePortAddresses !== undefined && config.nodePortAddresses.length > 0) return resolveListed(config.nodePortAddresses, nodeIPs);
  const bind = canonicalIP(config.bind);
  if (bind === undefined) throw new NetloomError('ConfigInvalid', `bind: ${JSON.stringify(config.bind)} is not an address`, { source: 'config' });
  if (isLoopback(bind)) return { kernel: [], loopback: ['127.0.0.1', '::1'] };
  if (isUnspecified(bind)) return { kernel: 'all', loopback: ['127.0.0.1', '::1'] };
  return { kernel: [`${bind}/${bind.includes(':') ? 128 : 32}`], loopback: [] };
}

function resolveListed(listed: readonly string[], nodeIPs: readonly string[]): NodePortAddresses {
  const kernel: string[] = [];
  const loopback: string[] = [];
  for (const item of listed) {
    if (item === 'localhost') loopback.push('127.0.0.1', '::1');
    else if (item === 'primary') {
      for (const isV6 of [false, true]) {
        const ip = nodeIPs.find((address) => address.includes(':') === isV6);
        if (ip !== undefined) kernel.push(`${ip}/${isV6 ? 128 : 32}`);
      }
    } else {
      const cidr = parseCIDRs('nodePortAddresses', [item])[0];
      if (cidr === undefined) continue;
      if (isLoopback(cidr.base)) loopback.push(cidr.base === '::1' ? '::1' : '127.0.0.1');
      else kernel.push(cidr.toString());
    }
  }
  return { kernel, loopback: [...new Set(loopback)] };
}
