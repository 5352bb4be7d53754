// What the sync loop (proxier) hands to an engine and what it gets back. One plan per Service says, for each of its
// ports and each IP family, which addresses are served and which endpoints this node may use: everything that depends
// on this node's name, zone and policies is already decided (topology). Engines (nftables, userspace) only apply it.
// Called by proxier; implemented by nftables/engine and userspace/backend.

import type { Clock } from '../api/clock.ts';
import type { Log } from '../api/log.ts';
import type { Endpoint, ServiceInfo } from '../api/services.ts';
import type { IPFamily, Protocol } from '../api/types.ts';
import type { WorkerChannel } from '../api/workers.ts';

/**
 * One ServicePort in one family. Addresses are canonical and of `family`; `cluster` and `local` are the candidate
 * sets of topology, deduplicated by ip:port. `affinityTimeoutSeconds` 0 = no ClientIP affinity; `nodePort` 0 = none.
 * `sourceRanges` holds for `loadBalancerIPs` only and may name both families; an empty list lets everybody in.
 */
export interface PortPlan {
  readonly key: string;
  readonly namespace: string;
  readonly name: string;
  readonly portName: string;
  readonly family: IPFamily;
  readonly protocol: Protocol;
  readonly port: number;
  readonly nodePort: number;
  readonly appProtocol: string | undefined;
  readonly clusterIP: string | undefined;
  readonly externalIPs: readonly string[];
  readonly loadBalancerIPs: readonly string[];
  readonly sourceRanges: readonly string[];
  readonly isInternalLocal: boolean;
  readonly isExternalLocal: boolean;
  readonly affinityTimeoutSeconds: number;
  readonly cluster: readonly Endpoint[];
  readonly local: readonly Endpoint[];
  readonly hasAny: boolean;
  /** IPs whose UDP flows may go on: every endpoint that still serves, whatever the policies say. */
  readonly serving: readonly string[];
}

/** `info` is the view's object: for Events, log fields and annotations, never for decisions of an engine. */
export interface ServicePlan {
  readonly key: string;
  readonly info: ServiceInfo;
  readonly ports: readonly PortPlan[];
}

/** A Service maps to undefined when it is gone or not proxied any more. `isFull`: `services` is everything there is. */
export interface PlanChanges {
  readonly isFull: boolean;
  readonly services: ReadonlyMap<string, ServicePlan | undefined>;
  /** The plan of any other Service, when an engine has to apply one again. */
  readonly planOf?: ((key: string) => ServicePlan | undefined) | undefined;
}

/** One Service that an engine could not apply; all others of the batch are applied. */
export interface ServiceFailure { readonly key: string; readonly reason: string }

export interface SyncResult {
  /** Services of the changes that are applied now, failures left out. */
  readonly appliedCount: number;
  /** Kernel element operations, or listeners opened and closed. */
  readonly operationCount: number;
  readonly failures: readonly ServiceFailure[];
}

/** `detail` lines are for `netloom status`: which mechanism is in use, what is degraded. */
export interface BackendStatus { readonly ok: boolean; readonly detail: readonly string[] }

/**
 * An engine. `sync` is never called twice at a time; it rejects only when nothing could be applied (the loop retries
 * with a full plan). `onDrift` asks for a full sync because someone else changed the engine's state.
 */
export interface Backend {
  readonly name: 'nftables' | 'userspace';
  start(): Promise<void>;
  sync(changes: PlanChanges): Promise<SyncResult>;
  /** `isCleanup` removes everything that the engine ever made; otherwise traffic goes on where the kernel can. */
  stop(options: { isCleanup: boolean; drainMs: number }): Promise<void>;
  status(): BackendStatus;
  onDrift?: (listener: (reason: string) => void) => void;
}

/**
 * Which addresses a NodePort is served on. `kernel`: every local address but loopback ('all'), the addresses inside
 * these CIDRs, or none. `loopback`: 127.0.0.1 and ::1 by a userspace TCP and UDP listener, since the kernel does not
 * deliver DNATed loopback traffic (and must not: CVE-2020-8558).
 */
export interface NodePortAddresses { readonly kernel: 'all' | readonly string[]; readonly loopback: readonly string[] }

/**
 * What the userspace engine (userspace/backend, class UserspaceBackend) is made with. `scope` 'all': every path is its
 * own. `scope` 'loopbackNodePorts': the kernel engine runs beside it and it serves nothing but NodePorts on
 * `nodePorts.loopback`. Both engines get the same plans.
 */
export interface UserspaceBackendOptions {
  readonly channel: WorkerChannel;
  readonly scope: 'all' | 'loopbackNodePorts';
  readonly nodePorts: NodePortAddresses;
  /** Where externalIPs, load-balancer VIPs and (scope 'all') NodePorts may listen: loopback = nothing from outside. */
  readonly bind: string;
  readonly nodeName: string;
  readonly nodeIPs: readonly string[];
  readonly clusterCIDRs: readonly string[];
  readonly clock: Clock;
  readonly log: Log;
}
