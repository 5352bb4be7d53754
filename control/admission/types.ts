// What an admission step sees and gives back. The verbs of the API server build a request after defaults were filled
// in and before validation; the chain hands it to each step in turn. A step may replace `request.object`, add warnings,
// refuse by throwing a NetloomError, or hold something until the write is known to have committed or failed.

import type { Clock } from '../../api/clock.ts';
import type { Log } from '../../api/log.ts';
import type { KubeObject } from '../../api/types.ts';
import type { UserInfo } from '../server/auth/user.ts';
import type { Storage } from '../storage/store.ts';

export type AdmissionOperation = 'create' | 'update' | 'delete';

export interface AdmissionRequest {
  readonly operation: AdmissionOperation;
  /** '' for the object itself, 'status', 'scale', … for its subresources. */
  readonly subresource: string;
  /** Any row of the table of kinds fits. */
  readonly resource: { readonly group: string; readonly resource: string; readonly kind: string; readonly isNamespaced: boolean };
  /** The object about to be stored; for a deletion the stored one. Steps replace it, or parts of it: what hangs below may be shared with `old`. */
  object: KubeObject;
  /** The stored object of an update or deletion; never changed. */
  readonly old: KubeObject | undefined;
  readonly userInfo: UserInfo;
  readonly dryRun: boolean;
}

export interface AdmissionResult {
  readonly object: KubeObject;
  readonly warnings: readonly string[];
  /** Call once after the write is durable. */
  onCommitted(): void;
  /** Call once when the write did not happen: refused later, conflict, or dry run. */
  onFailed(): void;
}

/** What a step may hold until the outcome is known. */
export interface Reservation { commit(): void; release(): void }

export interface AdmissionOutcome { warnings?: string[]; reservation?: Reservation | undefined }

export interface AdmissionStep {
  readonly name: string;
  /** Returns nothing when it has no opinion. */
  admit(request: AdmissionRequest): AdmissionOutcome | void | Promise<AdmissionOutcome | void>;
}

/** Asks whether a user has a verb; absent in small set-ups, where only masters and in-process callers pass. */
export type MayDo = (user: UserInfo, attributes: { verb: string; group: string; resource: string; subresource?: string; namespace?: string; name?: string }) => boolean;

export interface AdmissionConfig {
  /** First is the primary range; at most one per family. */
  serviceCIDRs: readonly string[];
  podCIDRs: readonly string[];
  nodePortRange: { readonly from: number; readonly to: number };
  /** Ranges from which Services may take externalIPs; empty refuses all. */
  externalIPRanges: readonly string[];
  /** Loopback ranges that endpoints may lie in: the pod range of a node without root. */
  loopbackEndpointRanges: readonly string[];
  /** When not empty, hand-written endpoints must lie in one of these. */
  endpointRanges: readonly string[];
}

export interface AdmissionContext {
  storage: Storage; clock: Clock; log: Log; config: AdmissionConfig;
  mayDo?: MayDo | undefined; random?: () => number;
}

/** Whether the caller is netloom itself. */
export function isTrusted(user: UserInfo): boolean { return user.method === 'inProcess'; }
