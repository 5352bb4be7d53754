// Options of the DNS server with their defaults, checked and turned into the start data of its threads. The cli fills
// them from its flags; every problem is a ConfigInvalid with a hint.

import { randomBytes } from 'node:crypto';
import { parseCIDR, parseIPv4 } from '../api/address.ts';
import type { Clock } from '../api/clock.ts';
import { NetloomError } from '../api/errors.ts';
import type { Informer } from '../api/informer.ts';
import type { Log } from '../api/log.ts';
import type { ServiceView } from '../api/services.ts';
import type { Namespace, Pod } from '../api/types.ts';
import { defaultAllowFrom } from './engine/access.ts';
import type { UpstreamAddress } from './forward/upstream.ts';
import type { ListenAddress } from './listeners.ts';
import type { PublishOptions } from './feed/publish.ts';
import { parseUpstream, systemUpstreams } from './resolv-conf.ts';
import type { TcpLimits } from './transport/tcp.ts';
import { nameKey } from './wire/names.ts';
import { udpPayloadBytesMax } from './wire/constants.ts';
import type { DnsWorkerData } from './worker.ts';
import type { PodsMode } from './zone/zone.ts';

export interface DnsServerOptions {
  view: ServiceView;
  namespaces: Informer<Namespace>;
  /** Needed for `podsMode: 'verified'` and for autopath. */
  pods?: Informer<Pod> | undefined;
  /** Default cluster.local. */
  clusterDomain?: string | undefined;
  /** UDP and TCP. Port 0 = a free one, the same for both. Default 127.0.0.1:1053. */
  listen?: readonly ListenAddress[] | undefined;
  /** More UDP and TCP addresses that are left out when they cannot be opened, such as the kube-dns ClusterIP, port 53. */
  listenOptional?: readonly ListenAddress[] | undefined;
  /** DNS over TLS and over HTTPS (HTTP/2 and 1.1); need `certificate`. Default none. */
  listenTls?: readonly ListenAddress[] | undefined;
  listenHttps?: readonly ListenAddress[] | undefined;
  certificate?: { certPem: string; keyPem: string } | undefined;
  /** `IP`, `IP:PORT` or `[IPv6]:PORT`; empty = no forwarding. Default: nameservers of this machine. */
  upstreams?: readonly string[] | undefined;
  /** Domain → its own upstreams. */
  stubDomains?: Readonly<Record<string, readonly string[]>> | undefined;
  /** Lines `address name…` like /etc/hosts. */
  hosts?: readonly string[] | undefined;
  /** Default verified when `pods` is given, else disabled. */
  podsMode?: PodsMode | undefined;
  /** DNS threads. Default 1. */
  workers?: number | undefined;
  /** Where the last known state is kept; undefined = nowhere. */
  dataDir?: string | undefined;
  /** TTL of every cluster record in seconds, 0…3600. Default 5. */
  ttlSeconds?: number | undefined;
  /** Only these Namespaces exist. Default all. */
  visibleNamespaces?: readonly string[] | undefined;
  /** Serve `zone.pin._zone.svc.ns.svc` names. Default false. */
  isZonal?: boolean | undefined;
  /** Walk the search path for Pods. Needs `pods`. Default false. */
  isAutopathOn?: boolean | undefined;
  /** Search domains that Pods get behind the cluster's own (autopath). Default none. */
  hostSearch?: readonly string[] | undefined;
  /** Serve expired upstream answers while upstreams fail. Default true. */
  isStaleServed?: boolean | undefined;
  /** Networks that may use recursion and are not rate-limited. Default loopback, private and link-local ones. */
  allowFrom?: readonly string[] | undefined;
  /** Networks that may transfer the zone. Default none. */
  transferTo?: readonly string[] | undefined;
  /** Drop upstream answers that point outside names at loopback, link-local or `clusterNetworks`. Default true. */
  isRebindingBlocked?: boolean | undefined;
  /** Service (and pod) networks, for the check above. Default none. */
  clusterNetworks?: readonly string[] | undefined;
  /** UDP replies per second for each /24 or /56 outside `allowFrom`; 0 = no limit. Default 100. */
  repliesPerSecond?: number | undefined;
  /** Largest UDP reply, 512…4096. Default 1232. */
  udpLimit?: number | undefined;
  tcpLimits?: Partial<TcpLimits> | undefined;
  /** Addresses under which clients reach this server, for NS records. Default: the published or the listen addresses. */
  ownAddresses?: readonly string[] | undefined;
  /** Keep an EndpointSlice of kube-system/kube-dns that leads here. */
  publish?: PublishOptions | undefined;
  /** Share the port with a predecessor that is about to drain, instead of failing because it is in use. Default false. */
  isHandover?: boolean | undefined;
  clock: Clock;
  log: Log;
}

const loopbackAndLinkLocal: readonly string[] = ['127.0.0.0/8', '0.0.0.0/8', '169.254.0.0/16', '::1/128', 'fe80::/10', '::ffff:127.0.0.0/104'];

function bad(message: string, hint: string): NetloomError { return new NetloomError('ConfigInvalid', message, { source: 'config', hint }); }

function domainKey(text: string, what: string): string {
  const key = nameKey(text);
  if (key === undefined || key.length < 3) throw bad(`${what} "${text}" is not a domain name`, 'write letters, digits and dashes with dots between, for example cluster.local');
  return key;
}

function networks(list: readonly string[] | undefined, what: string): string[] {
  return (list ?? []).map((text) => {
    const cidr = parseCIDR(text.includes('/') ? text : `${text}/${parseIPv4(text) === undefined ? 128 : 32}`);
    if (cidr === undefined) throw bad(`${what} "${text}" is not a network`, 'write ADDRESS/LENGTH, for example 10.0.0.0/8');
    return cidr.toString();
  });
}

/** Checks the options. Throws ConfigInvalid. Reads resolv.conf when no upstreams are given. */
export function workerData(options: DnsServerOptions, podsMode: PodsMode, listen: readonly ListenAddress[]): DnsWorkerData {
  const { ttlSeconds = 5, udpLimit = udpPayloadBytesMax } = options;
  if (!Number.isInteger(ttlSeconds) || ttlSeconds < 0 || ttlSeconds > 3_600) throw bad(`DNS TTL ${ttlSeconds} is out of range`, 'use 0 to 3600 seconds');
  if (!Number.isInteger(udpLimit) || udpLimit < 512 || udpLimit > 4_096) throw bad(`DNS UDP size ${udpLimit} is out of range`, 'use 512 to 4096');
  if (podsMode === 'verified' && options.pods === undefined) throw bad('DNS pod names cannot be verified without the list of Pods', 'use --dns-pods insecure or disabled');
  const upstreams: UpstreamAddress[] = options.upstreams === undefined ? systemUpstreams(listen) : options.upstreams.map(parseUpstream);
  const published = options.publish === undefined ? [] : [options.publish.address];
  return {
    zone: {
      zoneKey: domainKey(options.clusterDomain ?? 'cluster.local', 'cluster domain'), ttlSeconds, podsMode, isZonal: options.isZonal ?? false,
      ownAddresses: options.ownAddresses ?? [...new Set([...published, ...listen.map((item) => item.address).filter((address) => address !== '0.0.0.0' && address !== '::')])],
    },
    upstreams: upstreams.filter((target) => !listen.some((own) => own.address === target.address && own.port === target.port)),
    stubDomains: Object.entries(options.stubDomains ?? {}).map(([domain, targets]) => [domainKey(domain, 'stub domain'), targets.map(parseUpstream)] as const),
    hostLines: options.hosts ?? [],
    hostSearch: (options.hostSearch ?? []).map((domain) => domainKey(domain, 'search domain')),
    recursionFrom: networks(options.allowFrom ?? defaultAllowFrom, 'allowed network'),
    transferTo: networks(options.transferTo, 'transfer network'),
    blockedAnswers: options.isRebindingBlocked === false ? [] : [...loopbackAndLinkLocal, ...networks(options.clusterNetworks, 'cluster network')],
    repliesPerSecond: options.repliesPerSecond ?? 100,
    cookieSecret: Uint8Array.from(randomBytes(16)),
    isAutopathOn: options.isAutopathOn ?? false,
    isStaleServed: options.isStaleServed ?? true,
    udpLimit,
  };
}
