// What the main thread tells the data workers, and back. Plain data only (structured clone). An update is applied whole
// between two requests; a worker that starts late gets one update with everything. See controller.ts and worker.ts.

import type { BackendProtocol, BackendTls, EndpointAddress } from '../proxy/http/endpoints.ts';
import type { ExternalNameRules } from '../proxy/http/external-names.ts';
import type { PolicySpec } from '../proxy/http/policy/spec.ts';
import type { RetryRules, RouteTimeouts } from '../proxy/http/route.ts';

/** One Service port as a target. `reason`: why there is no endpoint, a word of netloom-reason. */
export interface BackendSpec { readonly protocol: BackendProtocol; readonly tls?: BackendTls; readonly endpoints: readonly EndpointAddress[]; readonly reason?: string }

/** `path` as written in the rule; `Regex` paths are sources of a linear-time expression that must match whole. */
export interface RouteSpec {
  readonly object: string; readonly rule: string; readonly path: string; readonly type: 'Exact' | 'Prefix' | 'Regex';
  readonly row: number;
  /** Key of a BackendSpec; undefined = there can be none, see `reason`. */
  readonly backend?: string; readonly reason?: string;
  readonly policy?: PolicySpec; readonly timeouts?: RouteTimeouts; readonly retry?: { triesMax: number; retryOn: RetryRules };
}

/** All routes of one host ('' = any host, '*.x' = one label more than x), first of equal ones wins. */
export interface HostSpec { readonly routes: readonly RouteSpec[]; readonly fallback?: RouteSpec; readonly object: string; readonly clientAuth?: string }

/** One certificate and the names it serves ('*.x' allowed). */
export interface CertificateSpec {
  readonly certPem: string; readonly keyPem: string; readonly names: readonly string[];
}
/** Client certificates wanted for one host (auth-tls-*). */
export interface ClientAuthSpec { readonly caPem: string; readonly mode: 'on' | 'optional' | 'optional_no_ca' }

export interface ListenMessage {
  type: 'listen'; bind: string; httpPort: number; httpsPort: number;
  options: ListenOptions;
}
export interface ListenOptions {
  trustedCIDRs: readonly string[]; isProxyProtocolOn: boolean; accessLog?: 'text' | 'json'; accessLogFields?: readonly string[];
  sessionTicketKeys: Uint8Array; isForwardedOn: boolean; loadDelayMsMax?: number;
  /** Key of affinity cookies; memory of rate limits: the same in all workers. */
  secret: string; limitMemory: SharedArrayBuffer;
  connectionsMax: number; connectionsPerSourceMax: number;
  timeouts: Readonly<Record<string, number>>;
  externalNames: ExternalNameRules;
}

export interface UpdateMessage {
  type: 'update'; isFull: boolean;
  /** Monotonically growing; posted back when applied. */
  generation: number;
  hosts: readonly (readonly [string, HostSpec | null])[];
  backends: readonly (readonly [string, BackendSpec | null])[];
  /** undefined = unchanged. The route for requests that no rule takes. */
  fallback?: RouteSpec | null;
  certificates?: readonly CertificateSpec[]; defaultCertificate?: { certPem: string; keyPem: string };
  clientAuths?: readonly (readonly [string, ClientAuthSpec])[];
  /** Requests per second that each worker may let through count over all workers: this is their number. */
  workerCount: number;
}
/** New keys for TLS session tickets, the same in all workers. */
export interface TicketKeysMessage { type: 'ticketKeys'; keys: Uint8Array }
export interface DrainMessage { type: 'drain' }
export type ToWorker = ListenMessage | UpdateMessage | TicketKeysMessage | DrainMessage;

export type FromWorker =
  | { type: 'listening'; httpPort: number; httpsPort: number }
  | { type: 'listenFailed'; code: string; port: number; message: string }
  | { type: 'applied'; generation: number }
  | { type: 'counters'; buffer: SharedArrayBuffer }
  | { type: 'access'; lines: string };
