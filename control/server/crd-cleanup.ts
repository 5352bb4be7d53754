// Deleting a CustomResourceDefinition takes its objects along: the definition is marked and held by a finalizer, its
// objects are deleted (their own finalizers are kept to), and when none is left the definition goes.
// Called by the delete verb after it marked a definition, and at start for those that a stop interrupted.
// Source: apiextensions-apiserver pkg/controller/finalizer/crd_finalizer.go.

import type { TimerHandle } from '../../api/clock.ts';
import { isConflict, isNotFound } from '../../api/errors.ts';
import type { ServerParts } from './context.ts';
import { crdCleanupFinalizer, crdStorage, type Crd } from './registry.ts';

const retryMs = 1_000;

/** Watches definitions that are being deleted. */
export class CrdCleanup {
  readonly #parts: ServerParts;
  readonly #deleteAll: (crd: Crd) => Promise<void>;
  readonly #timers = new Map<string, TimerHandle>();
  #isStopped = false;

  /** `deleteAll` asks for the deletion of every object of a definition. */
  constructor(parts: ServerParts, deleteAll: (crd: Crd) => Promise<void>) {
    this.#parts = parts;
    this.#deleteAll = deleteAll;
  }

  /** Takes up what an earlier run left. */
  start(): void {
    for (const crd of this.#parts.registry.definitions()) if (crd.metadata.deletionTimestamp !== undefined) this.run(crd.metadata.name);
  }

  stop(): void {
    this.#isStopped = true;
    for (const timer of this.#timers.values()) timer.cancel();
  }

  /** Works on one definition until it is gone. */
  run(name: string): void {
    if (this.#isStopped || this.#timers.has(name)) return;
    this.#timers.set(name, this.#parts.clock.after(0, () => { void this.#step(name); }));
  }

  async #step(name: string): Promise<void> {
    let isDone = false;
    try {
      isDone = await this.#tryFinish(name);
    } catch (error) {
      if (!isConflict(error) && !isNotFound(error)) this.#parts.log.warn('custom objects cannot be cleaned up yet', { definition: name, err: error });
    }
    this.#timers.delete(name);
    if (!isDone && !this.#isStopped) this.#timers.set(name, this.#parts.clock.after(retryMs, () => { void this.#step(name); }));
  }

  async #tryFinish(name: string): Promise<boolean> {
    const { storage } = this.#parts;
    const stored = storage.get(crdStorage, name);
    const crd = stored?.object as Crd | undefined;
    if (stored === undefined || crd === undefined || crd.metadata.deletionTimestamp === undefined) return true;
    const collection = `${crd.spec.names.plural}.${crd.spec.group}`;
    if (storage.count(collection) > 0) await this.#deleteAll(crd);
    if (storage.count(collection) > 0) return false;
    const finalizers = (crd.metadata.finalizers ?? []).filter((item) => item !== crdCleanupFinalizer);
    if (finalizers.length === 0) await storage.delete(crdStorage, name, stored.revision, crd);
    else await storage.update(crdStorage, name, { ...crd, metadata: { ...crd.metadata, finalizers } }, stored.revision);
    return finalizers.length === 0;
  }
}
