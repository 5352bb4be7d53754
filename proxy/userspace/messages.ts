// What the main side (backend.ts) and the data threads (worker.ts) say to each other. Plain data only.

/** One address that a port is served on. */
export interface ListenSpec {
  readonly address: string; readonly port: number;
  /** Which candidates a peer gets: `cluster` everybody the cluster set, `local` everybody the local set (internal policy), `external` off-cluster peers the local set. */
  readonly candidates: 'cluster' | 'local' | 'external';
  /** Peers that may connect, as CIDRs; empty = everybody. */
  readonly sourceRanges: readonly string[];
  /** Only processes of this host and Pods may connect (the engine is bound to loopback). */
  readonly isHostOnly: boolean;
}

export interface EndpointSpec { readonly ip: string; readonly port: number; readonly isSameHost: boolean }

/** A ServicePort in one family, ready to serve. `key` is unique over families. */
export interface PortSpec {
  readonly key: string;
  /** Key of the affinity table: the ServicePort, without family. */
  readonly portKey: string;
  readonly service: string;
  readonly protocol: 'TCP' | 'UDP';
  readonly l7: 'http' | 'h2c' | undefined;
  readonly listeners: readonly ListenSpec[];
  readonly cluster: readonly EndpointSpec[];
  readonly local: readonly EndpointSpec[];
  /** UDP: addresses whose sessions may go on. */
  readonly serving: readonly string[];
  /** 0 = none. */
  readonly affinityTimeoutSeconds: number;
  /** Version of the PROXY header sent to endpoints; 0 = none. */
  readonly proxyProtocolOut: 0 | 1 | 2;
  /** Peers from which a PROXY header is expected, as CIDRs; empty = none. */
  readonly proxyProtocolFrom: readonly string[];
  /** 0 = no limit. */
  readonly connectionAgeMsMax: number;
  /** Row of the counters. */
  readonly row: number;
}

export interface InitMessage {
  readonly type: 'init'; readonly affinity: SharedArrayBuffer; readonly counters: SharedArrayBuffer;
  readonly hostAddresses: readonly string[]; readonly clusterCIDRs: readonly string[];
  readonly connectionsMax: number; readonly connectionsPerSourceMax: number; readonly sessionsMax: number;
  /** False makes the relay use net.Socket (tests, and a way out). */
  readonly mayUseRawWires: boolean;
}
export interface SyncMessage { readonly type: 'sync'; readonly id: number; readonly isFull: boolean; readonly ports: readonly PortSpec[]; readonly removed: readonly string[] }
export type ToWorker = InitMessage | SyncMessage;

export interface ListenFailure { readonly service: string; readonly address: string; readonly reason: string }
export interface AppliedMessage { readonly type: 'applied'; readonly id: number; readonly operations: number; readonly failures: readonly ListenFailure[] }
export type FromWorker = AppliedMessage;
