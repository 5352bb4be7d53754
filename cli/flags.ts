// Flags that several commands share, with their checks and environment variables (NETLOOM_…), and the typed form in
// which commands read them. Every problem is a usage error (exit code 2) that names the flag and what is allowed.

import { InvalidArgumentError, Option, type Command } from 'commander';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { parseCIDR, parseIP } from '../api/address.ts';
import { addDnsFlags, type DnsFlags } from './dns-options.ts';

export interface DataDirFlags { dataDir: string }
export interface ManifestFlags { file?: string[]; watch?: boolean }
export interface ControlFlags {
  ephemeral?: boolean; store?: string; apiPort: number; serviceCidr?: string[]; loadBalancerPool?: string[]; externalIpRange?: string[]; kubeconfigOut?: string;
}
export interface NodeFlags {
  httpPort?: number; httpsPort?: number; dnsPort?: number; adminPort: number; bind: string; proxyMode: 'auto' | 'nftables' | 'userspace';
  podCidr?: string; podNetwork: 'auto' | 'netns' | 'loopback'; clusterDomain: string; dnsUpstream?: string[]; dnsPods: 'verified' | 'insecure' | 'disabled';
  nodeName?: string; nodeIp?: string[]; logLevel?: 'debug' | 'info' | 'warn' | 'error'; logFormat: 'text' | 'json'; readyFile?: string; workers?: number; drain: number;
  healthzPort: number; agent: boolean; proxy: boolean; dns: boolean; ingress: boolean; nodeportAddresses?: string[]; cleanup?: boolean; accessLog?: string; ingressExternalNames?: true | string[];
}
export type AllFlags = DnsFlags & DataDirFlags & ManifestFlags & ControlFlags & NodeFlags & { server?: string; token?: string; kubeconfig?: string; context?: string; proxyOnly?: boolean };

export function parsePort(text: string): number {
  const port = Number(text);
  if (!/^\d{1,5}$/.test(text) || port > 65_535) throw new InvalidArgumentError('must be a port from 0 (pick a free one) to 65535');
  return port;
}

function parseCidrFlag(text: string): string {
  const cidr = parseCIDR(text);
  if (cidr === undefined) throw new InvalidArgumentError('must be a CIDR such as 10.96.0.0/16');
  return cidr.toString();
}

function parseAddress(text: string): string {
  if (parseIP(text) === undefined) throw new InvalidArgumentError('must be an IP address such as 127.0.0.1 or 0.0.0.0');
  return text;
}

/** `500ms`, `10s`, `2m` or a number of seconds; milliseconds out. */
export function parseDuration(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)?$/.exec(text);
  if (match === null) throw new InvalidArgumentError('must be a duration such as 500ms, 10s or 2m');
  return Number(match[1]) * ({ ms: 1, s: 1_000, m: 60_000, h: 3_600_000 } as Record<string, number>)[match[2] ?? 's']!;
}

function parseNodeName(text: string): string {
  if (text.length > 253 || !/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/.test(text)) throw new InvalidArgumentError('must be a lower-case DNS name');
  return text;
}

function parseWorkers(text: string): number {
  if (!/^[1-9]\d?$/.test(text)) throw new InvalidArgumentError('must be a number from 1 to 99');
  return Number(text);
}

const collect = <T>(parse: (text: string) => T) => (text: string, all: T[] | undefined): T[] => [...(all ?? []), ...text.split(',').map(parse)];
const same = (text: string): string => text;

export function addDataDirFlag(command: Command): Command {
  return command.addOption(new Option('--data-dir <dir>', 'state, keys and kubeconfig').env('NETLOOM_HOME').default(join(homedir(), '.netloom')).argParser((text) => (text === '' ? join(homedir(), '.netloom') : text)));
}

export function addOutputFlag(command: Command): Command {
  return command.addOption(new Option('-o, --output <format>', 'output format').choices(['text', 'json']).default('text'));
}

export function addManifestFlags(command: Command): Command {
  return command.option('-f, --file <path...>', 'manifest files or folders to apply once ready').option('--watch', 'apply them again when they change');
}

export function addControlFlags(command: Command): Command {
  return addCommonFlags(command)
    .addOption(new Option('--api-port <port>', 'API server port').env('NETLOOM_API_PORT').default(6443).argParser(parsePort))
    .option('--ephemeral', 'keep state in memory only')
    .addOption(new Option('--store <url>', 'etcd://host:2379[,host:2379…] in place of the embedded store').env('NETLOOM_STORE'))
    .addOption(new Option('--service-cidr <cidr>', 'ClusterIP range (default 10.96.0.0/16; 127.96.0.0/16 in userspace mode)').argParser(collect(parseCidrFlag)))
    .addOption(new Option('--load-balancer-pool <cidr>', 'addresses for Services of type LoadBalancer').argParser(collect(parseCidrFlag)))
    .addOption(new Option('--external-ip-range <cidr>', 'addresses that spec.externalIPs may use (default none)').argParser(collect(parseCidrFlag)))
    .option('--kubeconfig-out <file>', 'where the admin kubeconfig is written (default DATA_DIR/kubeconfig)');
}

function addCommonFlags(command: Command): Command {
  const has = (name: string): boolean => command.options.some((option) => option.long === name);
  if (has('--bind')) return command;
  return command
    .addOption(new Option('--bind <address>', 'address for API, Ingress, DNS and NodePorts').env('NETLOOM_BIND').default('127.0.0.1').argParser(parseAddress))
    .addOption(new Option('--admin-port <port>', '/metrics, /healthz, /readyz, /livez on loopback').env('NETLOOM_ADMIN_PORT').default(10249).argParser(parsePort))
    .addOption(new Option('--pod-cidr <cidr>', 'Pod addresses (default 10.244.0.0/16; 127.64.0.0/16 without root)').argParser(parseCidrFlag))
    .addOption(new Option('--cluster-domain <domain>', 'DNS zone of the cluster').default('cluster.local').argParser(parseNodeName))
    .addOption(new Option('--log-level <level>', 'least level shown').env('NETLOOM_LOG_LEVEL').choices(['debug', 'info', 'warn', 'error']))
    .addOption(new Option('--log-format <format>', 'log lines').env('NETLOOM_LOG_FORMAT').choices(['text', 'json']).default('text'))
    .option('--ready-file <file>', 'JSON with every address and port, written when all of it serves')
    .addOption(new Option('--drain <duration>', 'how long open connections may finish on stop').default(10_000, '10s').argParser(parseDuration));
}

export function addNodeFlags(command: Command): Command {
  return addDnsFlags(addCommonFlags(command), parsePort)
    .addOption(new Option('--http-port <port>', 'Ingress HTTP (default 80 as root, else 8080)').env('NETLOOM_HTTP_PORT').argParser(parsePort))
    .addOption(new Option('--https-port <port>', 'Ingress HTTPS (default 443 as root, else 8443)').env('NETLOOM_HTTPS_PORT').argParser(parsePort))
    .addOption(new Option('--dns-port <port>', 'DNS (default 53 as root, else 1053)').env('NETLOOM_DNS_PORT').argParser(parsePort))
    .addOption(new Option('--proxy-mode <mode>', 'Service proxy engine').env('NETLOOM_PROXY_MODE').choices(['auto', 'nftables', 'userspace']).default('auto'))
    .addOption(new Option('--pod-network <mode>', 'Pod addresses: own network namespaces or loopback').choices(['auto', 'netns', 'loopback']).default('auto'))
    .addOption(new Option('--dns-upstream <ip[:port]>', 'resolver for other names (default from resolv.conf)').argParser(collect(same)))
    .addOption(new Option('--dns-pods <mode>', 'names of Pods by address').choices(['verified', 'insecure', 'disabled']).default('verified'))
    .addOption(new Option('--node-name <name>', 'name of this Node (default the host name)').env('NETLOOM_NODE_NAME').argParser(parseNodeName))
    .addOption(new Option('--node-ip <ip>', 'addresses of this Node').argParser(collect(parseAddress)))
    .addOption(new Option('--nodeport-addresses <cidr>', 'addresses on which NodePorts are served: CIDRs or "primary"').argParser(collect(same)))
    .addOption(new Option('--healthz-port <port>', "the Service proxy's /healthz and /livez for load balancers, with `netloom node`").default(10256).argParser(parsePort))
    .addOption(new Option('--workers <count>', 'data worker threads (default one per core)').argParser(parseWorkers))
    .addOption(new Option('--ingress-external-names [cidr]', 'let Ingress reach ExternalName Services: public addresses, and private ones in these ranges').argParser((text, all: unknown) => collect(parseCidrFlag)(text, Array.isArray(all) ? all as string[] : undefined)))
    .addOption(new Option('--access-log <format>', 'log every HTTP request').choices(['text', 'json']))
    .option('--cleanup', 'remove kernel rules on stop')
    .option('--no-agent', 'run no Pods here').option('--no-proxy', 'no Service proxy').option('--no-dns', 'no DNS').option('--no-ingress', 'no Ingress controller');
}
