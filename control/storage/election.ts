// Leader election over the store: the holder renews a Lease, the others watch it and take over when it has not moved for
// a lease duration by their own monotonic clock, so that clocks need not agree. An embedded store has one server, which
// leads at once and writes no Lease.
// Used by control/start.ts to run controllers on one of several servers. Source: client-go leaderelection, Lease (coordination.k8s.io/v1).

import { randomUUID } from 'node:crypto';
import { formatMicroTime, formatTime } from '../../api/clock.ts';
import type { Clock, TimerHandle } from '../../api/clock.ts';
import { isAlreadyExists, isConflict, isNotFound } from '../../api/errors.ts';
import type { Log } from '../../api/log.ts';
import type { Lease } from '../../api/types.ts';
import { follow } from './follow.ts';
import type { Storage, Stored } from './store.ts';

const resource = 'leases.coordination.k8s.io';

export interface ElectionOptions {
  storage: Storage; clock: Clock; log: Log;
  /** Names this server, e.g. 'host_uuid'; must differ between servers. */
  identity: string;
  /** Lease in kube-system; 'netloom-controllers' by default. */
  name?: string;
  /** Others take over this long after the last renewal that they saw. */
  leaseMs?: number;
  /** The holder gives up when it could not renew for this long; well below `leaseMs`. */
  renewDeadlineMs?: number;
  retryMs?: number;
  /** Called when this server begins and ceases to lead, in turn. */
  onStart: () => void;
  onStop: () => void;
}

/** One server's part in the election. */
export class Election {
  readonly #options: ElectionOptions;
  readonly #key: string;
  readonly #leaseMs: number;
  readonly #renewDeadlineMs: number;
  readonly #retryMs: number;
  #isLeader = false;
  #isStopped = true;
  #isBusy = false;
  #seenRevision = 0;
  #seenMs = 0;
  #renewedMs = 0;
  #ticker: TimerHandle | undefined;
  #watch: { stop(): void } | undefined;

  constructor(options: ElectionOptions) {
    this.#options = options;
    this.#key = `kube-system/${options.name ?? 'netloom-controllers'}`;
    this.#leaseMs = options.leaseMs ?? 10_000;
    this.#renewDeadlineMs = options.renewDeadlineMs ?? this.#leaseMs * 0.6;
    this.#retryMs = options.retryMs ?? this.#leaseMs * 0.2;
  }

  get isLeader(): boolean { return this.#isLeader; }
  /** Identity of the server that leads, as far as this one knows. */
  get leader(): string | undefined { return this.#present()?.lease.spec?.holderIdentity || undefined; }

  start(): void {
    this.#isStopped = false;
    if (this.#options.storage.stats().kind !== 'etcd') return this.#lead();
    this.#seenMs = this.#options.clock.monotonicMs();
    // A lease that was let go is taken at once, not at the next tick.
    this.#watch = follow(this.#options.storage, resource, () => { void this.#tick(); }, { prefix: this.#key });
    this.#ticker = this.#options.clock.every(this.#retryMs, () => { void this.#tick(); });
    void this.#tick();
  }

  #present(): { stored: Stored; lease: Lease } | undefined {
    const stored = this.#options.storage.get(resource, this.#key);
    return stored === undefined ? undefined : { stored, lease: stored.object as Lease };
  }

  async #tick(): Promise<void> {
    if (this.#isStopped) return;
    const nowMs = this.#options.clock.monotonicMs();
    if (this.#isLeader && nowMs - this.#renewedMs > this.#renewDeadlineMs) this.#step('lease not renewed in time');
    if (this.#isBusy) return;
    const present = this.#present();
    if (present !== undefined && present.stored.revision !== this.#seenRevision) {
      this.#seenRevision = present.stored.revision;
      this.#seenMs = nowMs;
    }
    const isMine = present?.lease.spec?.holderIdentity === this.#options.identity;
    if (this.#isLeader && !isMine) this.#step('another server took the lease');
    const isDue = isMine ? nowMs - this.#renewedMs >= this.#retryMs * 0.9 : this.#isFree(present?.lease, nowMs);
    if (!isDue) return;
    this.#isBusy = true;
    try {
      await this.#take(present, isMine);
    } finally {
      this.#isBusy = false;
    }
  }

  #isFree(lease: Lease | undefined, nowMs: number): boolean {
    if (lease === undefined || !lease.spec?.holderIdentity) return true;
    return nowMs - this.#seenMs > (lease.spec.leaseDurationSeconds ?? 0) * 1000;
  }

  /** Writes the lease under the revision that was seen; who comes second gets a conflict and waits. */
  async #take(present: { stored: Stored; lease: Lease } | undefined, isMine: boolean): Promise<void> {
    const { storage, clock, log } = this.#options;
    // The lease counts from before the write: a slow answer must not stretch it.
    const sentMs = clock.monotonicMs();
    const lease = this.#renewed(present?.lease, isMine);
    try {
      if (present === undefined) await storage.create(resource, this.#key, lease);
      else await storage.update(resource, this.#key, lease, present.stored.revision);
    } catch (error) {
      if (!isConflict(error) && !isAlreadyExists(error) && !isNotFound(error)) log.warn('leader lease cannot be renewed', { err: error });
      return;
    }
    this.#renewedMs = sentMs;
    if (!this.#isLeader && !this.#isStopped && clock.monotonicMs() - sentMs < this.#renewDeadlineMs) this.#lead();
  }

  #renewed(lease: Lease | undefined, isMine: boolean): Lease {
    const nowMs = this.#options.clock.nowMs();
    const [namespace = '', name = ''] = this.#key.split('/');
    const time = formatMicroTime(nowMs);
    return {
      apiVersion: 'coordination.k8s.io/v1', kind: 'Lease',
      metadata: lease?.metadata ?? { name, namespace, uid: randomUUID(), creationTimestamp: formatTime(nowMs) },
      spec: {
        holderIdentity: this.#options.identity, leaseDurationSeconds: Math.max(1, Math.round(this.#leaseMs / 1000)),
        acquireTime: isMine ? lease?.spec?.acquireTime ?? time : time, renewTime: time,
        leaseTransitions: (lease?.spec?.leaseTransitions ?? 0) + (isMine || lease === undefined ? 0 : 1),
      },
    };
  }

  #lead(): void {
    this.#isLeader = true;
    this.#options.log.info('this server leads', { identity: this.#options.identity });
    this.#options.onStart();
  }

  #step(reason: string): void {
    this.#isLeader = false;
    this.#options.log[reason === 'stopped' ? 'info' : 'warn']('this server leads no longer', { identity: this.#options.identity, reason });
    this.#options.onStop();
  }

  /** Ceases to lead, then lets the lease go, so that another server takes over at once. */
  async stop(): Promise<void> {
    if (this.#isStopped) return;
    this.#isStopped = true;
    this.#ticker?.cancel();
    this.#watch?.stop();
    if (!this.#isLeader) return;
    this.#step('stopped');
    const present = this.#present();
    if (this.#ticker === undefined || present?.lease.spec?.holderIdentity !== this.#options.identity) return;
    const freed: Lease = { ...present.lease, spec: { ...present.lease.spec, holderIdentity: '', leaseDurationSeconds: 1 } };
    await this.#options.storage.update(resource, this.#key, freed, present.stored.revision).catch(() => undefined);
  }
}
