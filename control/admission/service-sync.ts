// Keeps the allocator in step with the stored Services: at start, on every change however it was made (another server
// on the same etcd, namespace deletion, restore), and by a repair pass that frees what no Service holds any more.
// Source: kubernetes pkg/registry/core/service/{ipallocator,portallocator}/controller/repair.go.

import type { Clock, TimerHandle } from '../../api/clock.ts';
import type { Log } from '../../api/log.ts';
import type { Service } from '../../api/types.ts';
import type { Storage, StoredEvent, StoreWatch } from '../storage/store.ts';
import { ClaimRepair } from '../server/verbs/claims.ts';
import type { AllocationConflict, ServiceAllocator } from './service-allocation.ts';

const repairPeriodMs = 180_000;
/** Passes that must find an address without owner before it is freed: a write may be under way. */
const leakPasses = 3;
const reconnectDelayMs = 1_000;

export interface ServiceSyncOptions {
  storage: Storage; allocator: ServiceAllocator; clock: Clock; log: Log;
  /** Told what repair found, once per pass; the controllers turn it into Events. */
  onConflicts?: ((conflicts: AllocationConflict[]) => void) | undefined;
}

export class ServiceSync {
  readonly #options: ServiceSyncOptions;
  readonly #leaks = new Map<string, number>();
  /** Only where servers share a store. */
  readonly #claims: ClaimRepair | undefined;
  #watch: StoreWatch | undefined;
  #timers: TimerHandle[] = [];
  #isStopped = false;
  /** Conflicts of the last pass. */
  conflicts: readonly AllocationConflict[] = [];

  constructor(options: ServiceSyncOptions) {
    this.#options = options;
    this.#claims = options.storage.stats().kind === 'etcd' ? new ClaimRepair(options.storage) : undefined;
  }

  /** Takes what is stored and follows changes from there. */
  start(): void {
    const { storage, allocator, clock } = this.#options;
    const page = storage.list('services');
    this.conflicts = allocator.reserveFromExisting(page.items.map((item) => item.object as Service));
    this.#follow(page.revision);
    this.#repairClaims();
    this.#timers.push(clock.every(repairPeriodMs, () => this.repair()));
  }

  stop(): void {
    this.#isStopped = true;
    this.#watch?.stop();
    for (const timer of this.#timers.splice(0)) timer.cancel();
  }

  #follow(revision: number): void {
    const { storage, clock, log } = this.#options;
    const restart = (error?: unknown): void => {
      if (this.#isStopped) return;
      if (error !== undefined) log.debug('service watch of the allocator ended', { err: error });
      this.#timers.push(clock.after(reconnectDelayMs, () => {
        if (this.#isStopped) return;
        this.repair();
        this.#follow(storage.revision);
      }));
    };
    try {
      this.#watch = storage.watch('services', revision, (events) => { for (const event of events) this.#apply(event); }, restart);
    } catch (error) { restart(error); }
  }

  #apply(event: StoredEvent): void {
    const { allocator } = this.#options;
    const service = event.object.object as Service;
    if (event.type === 'DELETED') { allocator.free(service); return; }
    const previous = event.previous?.object as Service | undefined;
    if (previous !== undefined) allocator.free(previous, previous.metadata.uid === service.metadata.uid ? service : undefined);
    // What is held here by a write under way may already be another server's: that write will be refused and ask again.
    allocator.reserve(service);
  }

  #repairClaims(): void {
    this.#claims?.pass().catch((error: unknown) => { this.#options.log.warn('claims of addresses cannot be repaired', { err: error }); });
  }

  /** One pass: re-reserves from the stored Services, frees what nobody owned for three passes, reports conflicts. */
  repair(): readonly AllocationConflict[] {
    const { storage, allocator, log } = this.#options;
    this.#repairClaims();
    const services = storage.list('services').items.map((item) => item.object as Service);
    this.conflicts = allocator.reserveFromExisting(services);
    const owners = new Map(services.map((service) => [service.metadata.uid ?? '', service]));
    const holds = (uid: string, isHeld: (spec: NonNullable<Service['spec']>) => boolean): boolean => {
      const spec = owners.get(uid)?.spec;
      return spec !== undefined && isHeld(spec);
    };
    const seen = new Set<string>();
    for (const range of allocator.ranges.values()) for (const [offset, uid] of [...range.entries()]) {
      const ip = range.at(offset);
      if (!holds(uid, (spec) => spec.clusterIPs?.includes(ip) === true || spec.clusterIP === ip)) this.#countLeak(`${ip} ${uid}`, seen, () => range.free(offset, uid));
    }
    for (const [port, uid] of [...allocator.ports.entries()]) {
      const isHeld = (spec: NonNullable<Service['spec']>): boolean => spec.healthCheckNodePort === port || (spec.ports ?? []).some((each) => each.nodePort === port);
      if (!holds(uid, isHeld)) this.#countLeak(`${port} ${uid}`, seen, () => allocator.ports.free(port, uid));
    }
    for (const key of [...this.#leaks.keys()]) if (!seen.has(key)) this.#leaks.delete(key);
    if (this.conflicts.length > 0) {
      log.warn('services hold addresses or ports that are not theirs', { count: this.conflicts.length, service: this.conflicts[0]?.serviceKey });
      this.#options.onConflicts?.([...this.conflicts]);
    }
    return this.conflicts;
  }

  #countLeak(key: string, seen: Set<string>, free: () => void): void {
    const count = (this.#leaks.get(key) ?? 0) + 1;
    if (count >= leakPasses) { free(); this.#leaks.delete(key); return; }
    seen.add(key);
    this.#leaks.set(key, count);
  }
}
