// Options of the DNS server with their defaults. The cli fills them from its flags.

import type { ApiClient } from '../api/client.ts';
import type { Clock } from '../api/clock.ts';
import type { Informer } from '../api/informer.ts';
import type { Log } from '../api/log.ts';
import type { ServiceView } from '../api/services.ts';
import type { Namespace, Pod } from '../api/types.ts';
import type { PodsMode } from './zone/zone.ts';

export interface DnsServerOptions {
  view: ServiceView;
  namespaces: Informer<Namespace>;
  /** Needed for `podsMode: 'verified'` and for autopath. */
  pods?: Informer<Pod> | undefined;
  /** Default cluster.local. */
  clusterDomain?: string | undefined;
  /** Port 0 = a free one, the same for UDP and TCP. Default 127.0.0.1:1053. */
  listen?: readonly { address: string; port: number }[] | undefined;
  /** `IP` or `IP:PORT` or `[IPv6]:PORT`; empty = no forwarding. Default: nameservers of /etc/resolv.conf. */
  upstreams?: readonly string[] | undefined;
  /** Default verified when `pods` is given, else disabled. */
  podsMode?: PodsMode | undefined;
  /** DNS threads. Default 1. */
  workers?: number | undefined;
  /** Where the last known state is kept; undefined = nowhere. */
  dataDir?: string | undefined;
  /** TTL of every cluster record. Default 5. */
  ttlSeconds?: number | undefined;
  /** Only these Namespaces exist. Default all. */
  visibleNamespaces?: readonly string[] | undefined;
  /** Serve `zone.pin._zone.svc.ns.svc` names. Default false. */
  isZonal?: boolean | undefined;
  /** Addresses under which clients reach this server, for NS records. Default: the listen addresses. */
  ownAddresses?: readonly string[] | undefined;
  /** Share the port with a predecessor that is about to drain, instead of failing because it is in use. Default false. */
  isHandover?: boolean | undefined;
  client?: ApiClient | undefined;
  clock: Clock;
  log: Log;
}
