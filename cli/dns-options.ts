// The DNS flags in the form in which the DNS server takes them: extra listeners (TLS, HTTPS, the kube-dns ClusterIP),
// stub domains, fixed names, autopath and zone transfer. Flags are checked while they are parsed.

import { InvalidArgumentError, Option, type Command } from 'commander';
import { canonicalIP, parseCIDR } from '../api/address.ts';
import type { DnsServerOptions } from '../dns/config.ts';
import { parseUpstream } from '../dns/resolv-conf.ts';
import type { Settings } from './settings.ts';

export interface DnsFlags {
  dnsTlsPort?: number; dnsHttpsPort?: number; dnsStubDomain?: [zone: string, upstream: string][]; dnsHost?: string[]; dnsAutopath?: boolean; dnsTransferTo?: string[];
}

function parseStubDomain(text: string): [string, string] {
  const [zone, upstream] = [text.slice(0, text.indexOf('=')).replace(/\.$/, ''), text.slice(text.indexOf('=') + 1)];
  const isGood = text.indexOf('=') > 0 && /^[a-z0-9_-]+(\.[a-z0-9_-]+)*$/i.test(zone);
  try { if (isGood) { parseUpstream(upstream); return [zone.toLowerCase(), upstream]; } } catch { /* said below */ }
  throw new InvalidArgumentError('must be zone=ip[:port] such as corp.example=192.0.2.53');
}

function parseHost(text: string): string {
  const [ip = '', name = ''] = text.split('=');
  if (canonicalIP(ip) === undefined || !/^[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?$/i.test(name)) throw new InvalidArgumentError('must be ip=name such as 192.0.2.7=db.example');
  return `${ip} ${name}`;
}

function parseNetwork(text: string): string {
  const cidr = parseCIDR(text.includes('/') ? text : `${text}/${text.includes(':') ? 128 : 32}`);
  if (cidr === undefined) throw new InvalidArgumentError('must be a CIDR such as 192.0.2.0/24');
  return cidr.toString();
}

const collect = <T>(parse: (text: string) => T) => (text: string, all: T[] | undefined): T[] => [...(all ?? []), parse(text)];

export function addDnsFlags(command: Command, parsePort: (text: string) => number): Command {
  return command
    .addOption(new Option('--dns-tls-port <port>', 'DNS over TLS as well').argParser(parsePort))
    .addOption(new Option('--dns-https-port <port>', 'DNS over HTTPS as well').argParser(parsePort))
    .addOption(new Option('--dns-stub-domain <zone=ip[:port]>', 'resolver for one domain (repeatable)').argParser(collect(parseStubDomain)))
    .addOption(new Option('--dns-host <ip=name>', 'a fixed name, as in /etc/hosts (repeatable)').argParser(collect(parseHost)))
    .option('--dns-autopath', 'walk the search path for Pods')
    .addOption(new Option('--dns-transfer-to <cidr>', 'who may transfer the zone (default nobody; repeatable)').argParser(collect(parseNetwork)));
}

/** What the flags add to the DNS server's options. `certificate` is asked only for TLS and HTTPS. */
export function dnsOptions(settings: Settings, certificate: () => { certPem: string; keyPem: string } | undefined): Partial<DnsServerOptions> {
  const { flags, bind } = settings;
  const stubDomains: Record<string, string[]> = {};
  for (const [zone, upstream] of flags.dnsStubDomain ?? []) (stubDomains[zone] ??= []).push(upstream);
  const isSecure = flags.dnsTlsPort !== undefined || flags.dnsHttpsPort !== undefined;
  // In the kernel the kube-dns Service leads to the server; in userspace the server takes the ClusterIP itself where it may.
  const isOwnClusterIP = settings.proxyMode === 'userspace' && settings.has.proxy && settings.dnsClusterIP.startsWith('127.');
  return {
    ...(isOwnClusterIP ? { listenOptional: [{ address: settings.dnsClusterIP, port: 53 }] } : {}),
    ...(flags.dnsTlsPort === undefined ? {} : { listenTls: [{ address: bind, port: flags.dnsTlsPort }] }),
    ...(flags.dnsHttpsPort === undefined ? {} : { listenHttps: [{ address: bind, port: flags.dnsHttpsPort }] }),
    ...(isSecure ? { certificate: certificate() } : {}),
    stubDomains, hosts: flags.dnsHost ?? [], isAutopathOn: flags.dnsAutopath === true, transferTo: flags.dnsTransferTo ?? [],
  };
}
