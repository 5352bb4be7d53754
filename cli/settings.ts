// From flags to the settings of one run: fills in what depends on the machine (root or not, Linux or not, nft present)
// and says why when something that was asked for cannot be had. Pure but for looking at the machine.

import { existsSync, readFileSync, readdirSync, readlinkSync as readLink } from 'node:fs';
import { availableParallelism, hostname, networkInterfaces, release } from 'node:os';
import { join, resolve } from 'node:path';
import { formatIPv4, parseCIDR, parseIPv4 } from '../api/address.ts';
import { NetloomError } from '../api/errors.ts';
import type { LogLevel } from '../api/log.ts';
import type { AllFlags } from './flags.ts';

export type RunKind = 'up' | 'server' | 'node' | 'dns';

export interface Settings {
  kind: RunKind; isRoot: boolean; dataDir: string; bind: string; clusterDomain: string; nodeName: string; nodeIPs: string[];
  proxyMode: 'nftables' | 'userspace'; proxyModeReason: string; podNetwork: 'netns' | 'loopback';
  serviceCIDRs: string[]; podCIDR: string; nodePodCIDR: string; podGateway: string; dnsClusterIP: string;
  apiPort: number; httpPort: number; httpsPort: number; dnsPort: number; adminPort: number;
  /** Undefined = what this machine itself asks, found by the DNS server. */
  dnsUpstreams: string[] | undefined; dnsPods: 'verified' | 'insecure' | 'disabled'; workerCount: number; drainMs: number;
  logLevel: LogLevel; logFormat: 'text' | 'json'; kubeconfigOut: string; flags: AllFlags;
  has: { agent: boolean; proxy: boolean; dns: boolean; ingress: boolean };
}

/** Throws ToolMissing or PermissionDenied when the asked-for engine cannot run here. */
export function makeSettings(flags: AllFlags, kind: RunKind): Settings {
  const isRoot = process.getuid?.() === 0;
  const chosen = chooseProxyMode(flags.proxyMode ?? 'auto', isRoot, flags.proxy !== false);
  const podNetwork = choosePodNetwork(flags.podNetwork ?? 'auto', isRoot, chosen.proxyMode);
  const { proxyMode, proxyModeReason } = podNetwork === 'loopback' && kind === 'up' && flags.agent !== false && chosen.proxyMode === 'nftables' ? withoutKernel(flags) : chosen;
  const serviceCIDRs = flags.serviceCidr ?? [proxyMode === 'userspace' && kind !== 'server' ? '127.96.0.0/16' : '10.96.0.0/16'];
  const podCIDR = flags.podCidr ?? (podNetwork === 'loopback' && kind !== 'server' ? '127.64.0.0/16' : '10.244.0.0/16');
  const nodePodCIDR = firstSubnet(podCIDR);
  const dataDir = resolve(flags.dataDir);
  return {
    kind, isRoot, dataDir, bind: flags.bind, clusterDomain: flags.clusterDomain,
    nodeName: flags.nodeName ?? defaultNodeName(), nodeIPs: flags.nodeIp ?? defaultNodeIPs(flags.bind),
    proxyMode, proxyModeReason, podNetwork, serviceCIDRs, podCIDR, nodePodCIDR,
    podGateway: addressAt(nodePodCIDR, 1), dnsClusterIP: addressAt(serviceCIDRs[0] ?? '10.96.0.0/16', 10),
    apiPort: flags.apiPort, httpPort: flags.httpPort ?? (isRoot ? 80 : 8080), httpsPort: flags.httpsPort ?? (isRoot ? 443 : 8443),
    dnsPort: flags.dnsPort ?? (isRoot ? 53 : 1053), adminPort: flags.adminPort,
    dnsUpstreams: flags.dnsUpstream, dnsPods: flags.dnsPods ?? 'verified',
    workerCount: flags.workers ?? Math.max(1, availableParallelism()), drainMs: flags.drain,
    logLevel: flags.logLevel ?? (kind === 'up' ? 'warn' : 'info'), logFormat: flags.logFormat,
    kubeconfigOut: resolve(flags.kubeconfigOut ?? join(dataDir, 'kubeconfig')), flags,
    has: partsOf(flags, kind),
  };
}

function partsOf(flags: AllFlags, kind: RunKind): Settings['has'] {
  if (kind === 'server') return { agent: false, proxy: false, dns: false, ingress: false };
  if (kind === 'dns') return { agent: false, proxy: false, dns: true, ingress: false };
  if (flags.proxyOnly === true) return { agent: false, proxy: true, dns: false, ingress: false };
  return { agent: flags.agent !== false, proxy: flags.proxy !== false, dns: flags.dns !== false, ingress: flags.ingress !== false };
}

function chooseProxyMode(asked: 'auto' | 'nftables' | 'userspace', isRoot: boolean, isProxyOn: boolean): { proxyMode: 'nftables' | 'userspace'; proxyModeReason: string } {
  if (asked === 'userspace') return { proxyMode: 'userspace', proxyModeReason: 'asked for' };
  const missing = !isProxyOn ? undefined : process.platform !== 'linux' ? 'this is not Linux' : !isRoot ? 'not root' : !hasNft() ? 'nft is not installed' : undefined;
  if (missing === undefined) return { proxyMode: 'nftables', proxyModeReason: asked === 'auto' ? 'root on Linux' : 'asked for' };
  if (asked === 'auto') return { proxyMode: 'userspace', proxyModeReason: missing };
  if (missing === 'nft is not installed') throw new NetloomError('ToolMissing', 'proxy mode nftables needs nft or libnftables, and neither is installed', { source: 'config', hint: 'apt-get install nftables, or use --proxy-mode userspace' });
  throw new NetloomError('PermissionDenied', `proxy mode nftables cannot run here: ${missing}`, { source: 'config', hint: 'run as root on Linux, or use --proxy-mode userspace' });
}

function choosePodNetwork(asked: 'auto' | 'netns' | 'loopback', isRoot: boolean, proxyMode: 'nftables' | 'userspace'): 'netns' | 'loopback' {
  if (asked === 'netns' && !isRoot) throw new NetloomError('PermissionDenied', 'Pod network namespaces need root', { source: 'config', hint: 'run as root, or use --pod-network loopback' });
  if (asked !== 'auto') return asked;
  return isRoot && proxyMode === 'nftables' && findTool('ip') !== undefined ? 'netns' : 'loopback';
}

/** The kernel forwards nothing to loopback addresses: Pods there need the userspace engine. */
function withoutKernel(flags: AllFlags): { proxyMode: 'userspace'; proxyModeReason: string } {
  if (flags.proxyMode === 'nftables' && flags.proxy !== false) throw new NetloomError('ConfigInvalid', 'proxy mode nftables cannot reach Pods on loopback', { source: 'config', hint: 'use --pod-network netns (needs root and ip), or leave --proxy-mode to auto' });
  return { proxyMode: 'userspace', proxyModeReason: 'Pods are on loopback' };
}

/** nft itself or the library that it is made of. */
export function hasNft(): boolean {
  if (findTool('nft') !== undefined) return true;
  return ['/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu', '/usr/lib64', '/usr/lib', '/lib'].some((folder) => existsSync(join(folder, 'libnftables.so.1')));
}

/** Full path of a system tool, looked for in PATH and the sbin folders. */
export function findTool(name: string): string | undefined {
  const folders = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin', '/usr/local/sbin'];
  return folders.map((folder) => join(folder, name)).find((path) => existsSync(path));
}

function defaultNodeName(): string {
  const name = hostname().toLowerCase().replace(/[^a-z0-9.-]/g, '-').replace(/^[.-]+|[.-]+$/g, '');
  return name === '' ? 'node' : name;
}

/** The bind address when it is a real one, else the first global address of the machine, else loopback. */
function defaultNodeIPs(bind: string): string[] {
  if (bind !== '0.0.0.0' && bind !== '::') return [bind];
  const found = Object.values(networkInterfaces()).flatMap((list) => list ?? []).filter((item) => !item.internal && !item.address.startsWith('fe80:'));
  const v4 = found.find((item) => item.family === 'IPv4')?.address;
  const v6 = found.find((item) => item.family === 'IPv6')?.address;
  return [v4, v6].filter((item): item is string => item !== undefined).concat(v4 === undefined && v6 === undefined ? ['127.0.0.1'] : []);
}

/** The address `index` places after the start of the range (IPv4). */
export function addressAt(cidr: string, index: number): string {
  return formatIPv4((parseIPv4(parseCIDR(cidr)?.base ?? '') ?? 0) + index);
}

/** The first /24 of a pod range: what the first node gets. */
function firstSubnet(podCIDR: string): string {
  const cidr = parseCIDR(podCIDR);
  return cidr === undefined ? podCIDR : `${cidr.base}/${Math.max(cidr.prefixLength, cidr.family === 'IPv4' ? 24 : 64)}`;
}

/** Who holds a TCP or UDP port, as "name (pid N)", from /proc; undefined when it cannot be told. */
export function portHolder(port: number): string | undefined {
  const hex = port.toString(16).toUpperCase().padStart(4, '0');
  const inodes = new Set<string>();
  for (const table of ['tcp', 'tcp6', 'udp', 'udp6']) {
    let text: string;
    try { text = readFileSync(`/proc/net/${table}`, 'utf8'); } catch { continue; }
    for (const line of text.split('\n').slice(1)) {
      const fields = line.trim().split(/\s+/);
      if (fields[1]?.endsWith(`:${hex}`) === true && (fields[3] === '0A' || table.startsWith('udp'))) inodes.add(`socket:[${fields[9]}]`);
    }
  }
  if (inodes.size === 0) return undefined;
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    if (holdsOne(pid, inodes)) return `${commandName(pid)} (pid ${pid})`;
  }
  return undefined;
}

function holdsOne(pid: string, inodes: Set<string>): boolean {
  try { return readdirSync(`/proc/${pid}/fd`).some((fd) => { try { return inodes.has(readLink(`/proc/${pid}/fd/${fd}`)); } catch { return false; } }); } catch { return false; }
}
function commandName(pid: string): string { try { return readFileSync(`/proc/${pid}/comm`, 'utf8').trim(); } catch { return 'a process'; } }

/** First line of `netloom up`. */
export function describeMachine(): string { return `node ${process.versions.node}   ${process.platform} ${release().replace(/^(\d+\.\d+).*/, '$1')}`; }
