// Settings of the control plane: what the embedder of `start` may choose, with defaults, checked all at once.

import { parseCIDR, parseIP } from '../api/address.ts';
import { systemClock, type Clock } from '../api/clock.ts';
import { NetloomError } from '../api/errors.ts';
import { silentLog, type Log } from '../api/log.ts';
import { isDnsSubdomain } from '../api/meta.ts';
import { parseEtcdUrl, type EtcdAddress } from './storage/etcd/url.ts';
import type { StorageLimits } from './storage/store.ts';

/** Options of `start`; every one can be left out. */
export interface StartOptions {
  /** Folder of the store, the keys and the kubeconfig (made with mode 0700). Without it, or with `ephemeral`, nothing is written. */
  dataDir?: string | undefined;
  /** Keep objects in memory only. */
  ephemeral?: boolean | undefined;
  /** `etcd://host:port,host:port` for a shared store (all forms: ./storage/etcd/url.ts); the embedded one otherwise. */
  store?: string | undefined;
  /** Address to listen on; 127.0.0.1 by default. */
  bind?: string | undefined;
  /** Port to listen on; 0 (the default) picks a free one. */
  port?: number | undefined;
  /** Ranges of ClusterIPs, at most one per family; 10.96.0.0/16 by default. */
  serviceCIDRs?: readonly string[] | undefined;
  /** Range of Pod addresses; 10.244.0.0/16 by default. */
  podCIDR?: string | undefined;
  /** DNS domain of the cluster; cluster.local by default. */
  clusterDomain?: string | undefined;
  /** Addresses, ranges or CIDRs for Services of type LoadBalancer. */
  loadBalancerPool?: readonly string[] | undefined;
  /** Where to write the admin's kubeconfig; DATA_DIR/kubeconfig by default. */
  kubeconfigOut?: string | undefined;
  /** ClusterIP of kube-system/kube-dns; the tenth address of the first range by default. */
  dnsServiceIP?: string | undefined;
  /** Run controllers in this process; true by default. */
  isControllersOn?: boolean | undefined;
  /** Ranges that spec.externalIPs may use; none by default. */
  externalIPRanges?: readonly string[] | undefined;
  /** Address under which Pods reach the API server: the endpoint of default/kubernetes. The bind address by default. */
  advertiseAddress?: string | undefined;
  /** More names and addresses for the serving certificate. */
  names?: readonly string[] | undefined;
  /** NodePorts, first and last; 30000-32767 by default. */
  nodePortRange?: readonly [number, number] | undefined;
  /** File for the audit log, one JSON line per write and refused request; off by default. */
  auditLog?: string | undefined;
  limits?: Partial<ServerLimits> | undefined;
  /** Bounds of the store and its watch history. */
  storageLimits?: Partial<StorageLimits> | undefined;
  clock?: Clock | undefined;
  log?: Log | undefined;
}

/** Bounds of the API server; each refuses with 429 and Retry-After, or 413. */
export interface ServerLimits {
  /** Requests being worked on at a time, other than watches and streams (kube-apiserver's defaults). */
  readsInFlight: number; writesInFlight: number;
  /** Requests a second and burst of one user, by kind of request; system:masters and nodes of this process are not counted. */
  userRequestsPerSecond: number; userRequestsBurst: number;
  watches: number; watchesPerUser: number;
  /** Long-running streams (logs, exec, port-forward, proxy). */
  streams: number;
}

export const defaultServerLimits: Readonly<ServerLimits> = Object.freeze({
  readsInFlight: 400, writesInFlight: 200, userRequestsPerSecond: 2_000, userRequestsBurst: 4_000, watches: 10_000, watchesPerUser: 5_000, streams: 1_000,
});

export interface ControlConfig {
  readonly dataDir: string | undefined; readonly isEphemeral: boolean; readonly store: { kind: 'memory' | 'sqlite' | 'etcd' } & EtcdAddress;
  readonly bind: string; readonly port: number; readonly serviceCIDRs: readonly string[]; readonly podCIDR: string; readonly clusterDomain: string;
  readonly loadBalancerPool: readonly string[]; readonly kubeconfigOut: string | undefined; readonly dnsServiceIP: string; readonly isControllersOn: boolean;
  readonly externalIPRanges: readonly string[]; readonly names: readonly string[]; readonly advertiseAddress: string | undefined; readonly nodePortRange: readonly [number, number]; readonly auditLog: string | undefined;
  readonly limits: ServerLimits; readonly storageLimits: Partial<StorageLimits> | undefined; readonly clock: Clock; readonly log: Log;
}

const knownOptions = new Set<keyof StartOptions>([
  'dataDir', 'ephemeral', 'store', 'bind', 'port', 'serviceCIDRs', 'podCIDR', 'clusterDomain', 'loadBalancerPool', 'kubeconfigOut', 'dnsServiceIP', 'isControllersOn',
  'externalIPRanges', 'names', 'advertiseAddress', 'nodePortRange', 'auditLog', 'limits', 'storageLimits', 'clock', 'log',
]);

/** Fills in defaults. Throws ConfigInvalid that names every problem. */
export function parseConfig(options: StartOptions): ControlConfig {
  const problems: string[] = [];
  for (const key of Object.keys(options)) if (!knownOptions.has(key as keyof StartOptions)) problems.push(`${key}: no such option`);
  const serviceCIDRs = options.serviceCIDRs === undefined || options.serviceCIDRs.length === 0 ? ['10.96.0.0/16'] : options.serviceCIDRs;
  for (const text of serviceCIDRs) if (parseCIDR(text) === undefined) problems.push(`serviceCIDRs: "${text}" is not a network like 10.96.0.0/16`);
  const families = serviceCIDRs.map((text) => parseCIDR(text)?.family);
  if (new Set(families).size !== families.length) problems.push('serviceCIDRs: at most one range per address family');
  const podCIDR = options.podCIDR ?? '10.244.0.0/16';
  if (parseCIDR(podCIDR) === undefined) problems.push(`podCIDR: "${podCIDR}" is not a network like 10.244.0.0/16`);
  const bind = options.bind ?? '127.0.0.1';
  if (parseIP(bind) === undefined) problems.push(`bind: "${bind}" is not an IP address`);
  const port = options.port ?? 0;
  if (!Number.isInteger(port) || port < 0 || port > 65_535) problems.push(`port: ${port} is not in 0-65535`);
  const clusterDomain = options.clusterDomain ?? 'cluster.local';
  if (!isDnsSubdomain(clusterDomain)) problems.push(`clusterDomain: "${clusterDomain}" is not a DNS name`);
  const dnsServiceIP = options.dnsServiceIP ?? nthAddress(serviceCIDRs[0] ?? '', 10);
  if (!serviceCIDRs.some((text) => parseCIDR(text)?.contains(dnsServiceIP))) problems.push(`dnsServiceIP: ${dnsServiceIP} is not in ${serviceCIDRs.join(' or ')}`);
  const store = readStore(options, problems);
  if (problems.length > 0) throw new NetloomError('ConfigInvalid', problems.join('; '), { source: 'config' });
  return Object.freeze({
    dataDir: options.ephemeral === true && options.dataDir === undefined ? undefined : options.dataDir, isEphemeral: store.kind === 'memory', store, bind, port, serviceCIDRs, podCIDR, clusterDomain,
    loadBalancerPool: options.loadBalancerPool ?? [], kubeconfigOut: options.kubeconfigOut, dnsServiceIP, isControllersOn: options.isControllersOn ?? true,
    externalIPRanges: options.externalIPRanges ?? [], names: options.names ?? [], advertiseAddress: options.advertiseAddress, nodePortRange: options.nodePortRange ?? ([30_000, 32_767] as const), auditLog: options.auditLog,
    limits: { ...defaultServerLimits, ...options.limits }, storageLimits: options.storageLimits, clock: options.clock ?? systemClock, log: options.log ?? silentLog,
  });
}

function readStore(options: StartOptions, problems: string[]): ControlConfig['store'] {
  if (options.store !== undefined && options.store !== '') {
    try {
      return { kind: 'etcd', ...parseEtcdUrl(options.store) };
    } catch (error) {
      problems.push(`store: ${(error as Error).message}`);
    }
  }
  return { kind: options.ephemeral === true || options.dataDir === undefined ? 'memory' : 'sqlite', endpoints: [] };
}

/** The address that lies `offset` above the start of a network. */
export function nthAddress(cidr: string, offset: number): string {
  const network = parseCIDR(cidr);
  if (network === undefined) return '';
  if (network.family === 'IPv4') {
    const value = network.bytes.reduce((sum, byte) => sum * 256 + byte, 0) + offset;
    return `${(value >>> 24) & 255}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}`;
  }
  return network.base.endsWith('::') ? `${network.base}${offset.toString(16)}` : network.base;
}
