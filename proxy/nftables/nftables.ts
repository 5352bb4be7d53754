// Both address families behind the engine interface of the sync loop, with what belongs to neither alone: the watch for
// changes by other programs, UDP flows that must move, routes and kernel settings. Called by proxier through open.

import type { Clock, TimerHandle } from '../../api/clock.ts';
import type { Log } from '../../api/log.ts';
import type { Backend, BackendStatus, PlanChanges, SyncResult } from '../backend.ts';
import type { FamilyEngine } from './engine.ts';

/** Kernel state beside the tables. `afterSync` gets the changes that were applied. */
export interface Companion {
  start(): Promise<void>;
  afterSync(changes: PlanChanges): Promise<void>;
  stop(isCleanup: boolean): Promise<void>;
  status(): readonly string[];
  /** UDP flows removed so far, where the companion does that. */
  readonly deletedCount?: number;
}

export interface NftablesEngineOptions {
  readonly families: readonly FamilyEngine[];
  readonly companions: readonly Companion[];
  /** How often to ask whether somebody else changed our rules; 0 = never. */
  readonly driftPeriodMs: number;
  readonly clock: Clock;
  readonly log: Log;
}

export class NftablesEngine implements Backend {
  readonly name = 'nftables';
  readonly #options: NftablesEngineOptions;
  readonly #listeners: ((reason: string) => void)[] = [];
  #timer: TimerHandle | undefined;
  #isChecking = false;
  #isSyncing = false;
  #driftCount = 0;
  #fault: string | undefined;

  constructor(options: NftablesEngineOptions) { this.#options = options; }

  /** Times that rules had to be restored. */
  get driftCount(): number { return this.#driftCount; }
  get conntrackDeletedCount(): number { return this.#options.companions.reduce((sum, companion) => sum + (companion.deletedCount ?? 0), 0); }
  get families(): readonly FamilyEngine[] { return this.#options.families; }

  async start(): Promise<void> {
    for (const family of this.#options.families) await family.start();
    for (const companion of this.#options.companions) await companion.start();
    const { driftPeriodMs, clock } = this.#options;
    if (driftPeriodMs > 0) this.#timer = clock.every(driftPeriodMs, () => { void this.#checkDrift(); });
  }

  async sync(changes: PlanChanges): Promise<SyncResult> {
    this.#isSyncing = true;
    try {
      const result = await this.#syncFamilies(changes);
      for (const companion of this.#options.companions) await companion.afterSync(changes);
      this.#fault = undefined;
      return result;
    } catch (error) {
      this.#fault = error instanceof Error ? error.message : String(error);
      for (const family of this.#options.families) await family.restore();
      throw error;
    } finally {
      this.#isSyncing = false;
    }
  }

  async #syncFamilies(changes: PlanChanges): Promise<SyncResult> {
    const failures = new Map<string, string>();
    let operationCount = 0;
    for (const family of this.#options.families) {
      const result = await family.sync(changes);
      operationCount += result.operationCount;
      for (const failure of result.failures) failures.set(failure.key, failure.reason);
    }
    return { appliedCount: changes.services.size - failures.size, operationCount, failures: [...failures].map(([key, reason]) => ({ key, reason })) };
  }

  onDrift(listener: (reason: string) => void): void { this.#listeners.push(listener); }

  async #checkDrift(): Promise<void> {
    if (this.#isChecking || this.#isSyncing) return;
    this.#isChecking = true;
    try {
      for (const family of this.#options.families) {
        const reason = await family.checkDrift();
        if (reason === undefined) continue;
        this.#driftCount += 1;
        for (const listener of this.#listeners) listener(`${family.family}: ${reason}`);
      }
    } catch (err) {
      this.#options.log.warn('cannot check the rules', { err });
    }
    this.#isChecking = false;
  }

  async stop(options: { isCleanup: boolean }): Promise<void> {
    this.#timer?.cancel();
    for (const companion of this.#options.companions) await companion.stop(options.isCleanup);
    for (const family of this.#options.families) await family.stop(options.isCleanup);
  }

  status(): BackendStatus {
    const detail = this.#options.families.map((family) => `nftables ${family.family}: ${family.mechanism}, table ${describeOwnership[family.ownership]}, ${family.elementCount} elements`);
    for (const companion of this.#options.companions) detail.push(...companion.status());
    if (this.#options.companions.every((companion) => companion.deletedCount === undefined)) detail.push('UDP flows are not moved when an endpoint goes: koffi is missing');
    if (this.#fault !== undefined) detail.push(`last sync failed: ${this.#fault}`);
    return { ok: this.#fault === undefined, detail };
  }
}

const describeOwnership = { vanish: 'vanishes with this process', persist: 'stays when this process ends', none: 'is not owned (watched for changes)' };
