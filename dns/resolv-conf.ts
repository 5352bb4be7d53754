// Reads and writes resolv.conf, and reads upstream addresses as people write them. Used for the default list of
// upstreams, for what agent-run Pods get, and by install.ts. Source: resolv.conf(5); Kubernetes "DNS for Services and Pods".

import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { canonicalIP, isLoopback } from '../api/address.ts';
import { NetloomError } from '../api/errors.ts';
import type { UpstreamAddress } from './forward/upstream.ts';

export interface ResolvConf { readonly nameservers: readonly string[]; readonly search: readonly string[]; readonly options: readonly string[] }

/** At most this many upstreams are used, as in CoreDNS. */
const upstreamsMax = 15;

export function parseResolvConf(text: string): ResolvConf {
  const nameservers: string[] = [];
  let search: string[] = [];
  const options: string[] = [];
  for (const line of text.split('\n')) {
    const [word, ...rest] = line.replace(/[#;].*/, '').trim().split(/\s+/);
    if (word === 'nameserver' && rest[0] !== undefined && isIP(rest[0].replace(/%.*$/, '')) !== 0) nameservers.push(rest[0]);
    else if (word === 'search' || word === 'domain') search = rest.filter((domain) => domain !== '.');
    else if (word === 'options') options.push(...rest);
  }
  return { nameservers, search, options };
}

/** `IP`, `IP:PORT` or `[IPv6]:PORT`; port 53 when left out. Throws ConfigInvalid. */
export function parseUpstream(text: string): UpstreamAddress {
  const match = /^(?:\[([^\]]+)\]|([^:]+)|([0-9a-fA-F:]+:[0-9a-fA-F:.]*))(?::(\d{1,5}))?$/.exec(text.trim());
  const plain = canonicalIP(text.trim());
  if (plain !== undefined) return { address: plain, port: 53 };
  const address = canonicalIP(match?.[1] ?? match?.[2] ?? '');
  const port = match?.[4] === undefined ? 53 : Number(match[4]);
  if (address === undefined || port < 1 || port > 65_535) {
    throw new NetloomError('ConfigInvalid', `DNS upstream "${text}" is not an address`, { source: 'config', hint: 'write IP, IP:PORT or [IPv6]:PORT, for example --dns-upstream 9.9.9.9' });
  }
  return { address, port };
}

/**
 * Upstreams of this machine: what systemd-resolved itself asks where it runs, else resolv.conf, else the copy that
 * `dns install` put aside. Addresses in `exclude` (our own) are left out, since they would lead back here.
 */
export function systemUpstreams(exclude: readonly UpstreamAddress[], paths: readonly string[] = systemPaths): UpstreamAddress[] {
  for (const path of paths) {
    let text: string;
    try { text = readFileSync(path, 'utf8'); } catch { continue; }
    if (text.includes(installMark)) continue;
    const found = parseResolvConf(text).nameservers.map((address) => canonicalIP(address)).filter((address) => address !== undefined)
      .map((address) => ({ address, port: 53 }))
      .filter((target) => !exclude.some((own) => own.port === target.port && (own.address === target.address || (own.address === '0.0.0.0' && isLoopback(target.address)))));
    if (found.length > 0) return found.slice(0, upstreamsMax);
  }
  return [];
}

/** First line of a resolv.conf that `netloom dns install` wrote. */
export const installMark = '# written by netloom';
export const backupPath = '/etc/resolv.conf.before-netloom';
const systemPaths: readonly string[] = ['/run/systemd/resolve/resolv.conf', '/etc/resolv.conf', backupPath];

export interface PodResolvConfOptions {
  readonly nameserver: string;
  readonly namespace: string;
  readonly clusterDomain: string;
  /** Search domains of the host, put behind the cluster's. */
  readonly hostSearch?: readonly string[];
  /** The pod's spec.dnsPolicy; Default = the host's own file. */
  readonly dnsPolicy?: string;
  readonly dnsConfig?: { readonly nameservers?: readonly string[]; readonly searches?: readonly string[]; readonly options?: readonly { readonly name: string; readonly value?: string }[] };
  /** Text of the host's resolv.conf, for dnsPolicy Default. */
  readonly hostText?: string;
}

/** The text of a Pod's resolv.conf by dnsPolicy and dnsConfig, limits of Kubernetes applied (3 servers, 32 domains, 2,048 characters). */
export function podResolvConf(options: PodResolvConfOptions): string {
  const { namespace, clusterDomain: domain, dnsPolicy = 'ClusterFirst', dnsConfig = {} } = options;
  const host = parseResolvConf(options.hostText ?? '');
  let base: ResolvConf = { nameservers: [], search: [], options: [] };
  if (dnsPolicy === 'Default') base = host;
  else if (dnsPolicy !== 'None') {
    const search = [`${namespace}.svc.${domain}`, `svc.${domain}`, domain, ...(options.hostSearch ?? host.search)];
    base = { nameservers: [options.nameserver], search, options: ['ndots:5'] };
  }
  const nameservers = [...new Set([...base.nameservers, ...(dnsConfig.nameservers ?? [])])].slice(0, 3);
  const search: string[] = [];
  for (const name of new Set([...base.search, ...(dnsConfig.searches ?? [])])) {
    if (search.length < 32 && [...search, name].join(' ').length <= 2_048) search.push(name);
  }
  const settings = new Map(base.options.map((option) => [option.split(':', 1)[0] ?? option, option]));
  for (const { name, value } of dnsConfig.options ?? []) settings.set(name, value === undefined || value === '' ? name : `${name}:${value}`);
  const lines = nameservers.map((address) => `nameserver ${address}`);
  if (search.length > 0) lines.push(`search ${search.join(' ')}`);
  if (settings.size > 0) lines.push(`options ${[...settings.values()].join(' ')}`);
  return `${lines.join('\n')}\n`;
}
