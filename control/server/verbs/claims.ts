// Addresses and node ports that servers of one cluster give out at the same moment: each server allocates from its own
// memory, so with a shared store every Service's addresses are also keys of a collection of their own, written in the
// same transaction. The second of two equal claims fails, its server learns who holds it, and allocates again. A node
// port is one number whatever the protocol, as in the allocator. The repair pass frees claims that no Service backs and
// adds those that are missing (Services that an embedded store brought along).
// Only used when several servers may share the store; one server's allocator needs no second opinion.

import { isAlreadyExists, isConflict, isNotFound, NetloomError } from '../../../api/errors.ts';
import type { KubeObject, Service } from '../../../api/types.ts';
import type { Storage, StoreOp, Stored } from '../../storage/store.ts';

export const claimStorage = 'claims.netloom.dev';
interface Claim extends KubeObject { owner: string }

/** What a Service holds for itself alone. */
function claimsOf(object: KubeObject | undefined): string[] {
  const { spec } = (object ?? {}) as Partial<Service>;
  if (spec === undefined || spec.type === 'ExternalName') return [];
  const claims = new Set<string>();
  for (const ip of spec.clusterIPs ?? []) if (ip !== 'None' && ip !== '') claims.add(`ip-${ip}`);
  for (const port of spec.ports ?? []) if (port.nodePort !== undefined && port.nodePort > 0) claims.add(`port-${port.nodePort}`);
  if (spec.healthCheckNodePort !== undefined && spec.healthCheckNodePort > 0) claims.add(`port-${spec.healthCheckNodePort}`);
  return [...claims];
}

function newClaim(name: string, owner: string): KubeObject { return { apiVersion: 'netloom.dev/v1', kind: 'Claim', metadata: { name }, owner } as KubeObject; }

/** Operations that move the claims of `key` from the old object to the new one. */
function claimOps(storage: Storage, key: string, old: KubeObject | undefined, next: KubeObject | undefined): StoreOp[] {
  const [before, after] = [claimsOf(old), claimsOf(next)];
  const isOwn = (name: string): boolean => (storage.get(claimStorage, name)?.object as Claim | undefined)?.owner === key;
  return [
    ...after.filter((name) => !before.includes(name)).map((name): StoreOp => ({ verb: 'create', resource: claimStorage, key: name, object: newClaim(name, key) })),
    ...before.filter((name) => !after.includes(name) && isOwn(name)).map((name): StoreOp => ({ verb: 'delete', resource: claimStorage, key: name })),
  ];
}

/** True for the failure of a claim, as opposed to that of the object itself. */
export function isClaimTaken(error: unknown): error is NetloomError {
  return error instanceof NetloomError && (error.code === 'AlreadyExists' || error.code === 'Conflict' || error.code === 'NotFound') && error.details?.kind === 'claims';
}

/** How long the state may take to show the claim that was in the way. */
const claimShownMs = 2_000;

/** Waits until the claim that was in the way is seen here; returns the Service that holds it, if it still does. */
export async function claimHolder(storage: Storage, error: NetloomError): Promise<Service | undefined> {
  await storage.waitFor(await storage.consistentRevision(), claimShownMs);
  const claim = storage.get(claimStorage, error.details?.name ?? '')?.object as Claim | undefined;
  return claim === undefined ? undefined : storage.get('services', claim.owner)?.object as Service | undefined;
}

/** Passes that must find a claim without its Service before it is freed. */
const leakPasses = 3;

/** Brings claims and Services together again. Every server may run it: each step is guarded by the store. */
export class ClaimRepair {
  readonly #storage: Storage;
  readonly #leaks = new Map<string, number>();

  constructor(storage: Storage) { this.#storage = storage; }

  /** One pass: adds missing claims, frees those that three passes found without a Service that has the number. */
  async pass(): Promise<void> {
    const storage = this.#storage;
    const wanted = new Map<string, string>();
    for (const { key, object } of storage.list('services').items) for (const name of claimsOf(object)) if (!wanted.has(name)) wanted.set(name, key);
    for (const { key: name, revision, object } of storage.list(claimStorage).items) {
      const owner = storage.get('services', (object as Claim).owner)?.object;
      if (owner !== undefined && claimsOf(owner).includes(name)) { this.#leaks.delete(name); continue; }
      const count = (this.#leaks.get(name) ?? 0) + 1;
      this.#leaks.set(name, count);
      if (count < leakPasses) continue;
      this.#leaks.delete(name);
      await storage.delete(claimStorage, name, revision).catch(ignoreRace);
    }
    for (const [name, owner] of wanted) if (storage.get(claimStorage, name) === undefined) await storage.create(claimStorage, name, newClaim(name, owner)).catch(ignoreRace);
  }
}

/** Somebody else did it meanwhile. */
function ignoreRace(error: unknown): void {
  if (!isAlreadyExists(error) && !isConflict(error) && !isNotFound(error)) throw error;
}

/** The writes of the store, with claims where the store is shared. */
export class ClaimingWrites {
  readonly #storage: Storage;
  readonly #isShared: boolean;

  constructor(storage: Storage, isShared: boolean) {
    this.#storage = storage;
    this.#isShared = isShared;
  }

  create(resource: string, key: string, object: KubeObject): Promise<Stored> {
    const ops = this.#ops(resource, key, undefined, object);
    return ops.length === 0 ? this.#storage.create(resource, key, object) : this.#commit([{ verb: 'create', resource, key, object }, ...ops]);
  }

  update(resource: string, key: string, object: KubeObject, live: Stored): Promise<Stored> {
    const ops = this.#ops(resource, key, live.object, object);
    return ops.length === 0 ? this.#storage.update(resource, key, object, live.revision) : this.#commit([{ verb: 'update', resource, key, object, expectedRevision: live.revision }, ...ops]);
  }

  delete(resource: string, key: string, live: Stored, last: KubeObject): Promise<Stored> {
    const ops = this.#ops(resource, key, live.object, undefined);
    return ops.length === 0 ? this.#storage.delete(resource, key, live.revision, last) : this.#commit([{ verb: 'delete', resource, key, expectedRevision: live.revision, lastObject: last }, ...ops]);
  }

  #ops(resource: string, key: string, old: KubeObject | undefined, next: KubeObject | undefined): StoreOp[] {
    return this.#isShared && resource === 'services' ? claimOps(this.#storage, key, old, next) : [];
  }

  async #commit(ops: readonly StoreOp[]): Promise<Stored> { return (await this.#storage.commit(ops))[0] as Stored; }
}
