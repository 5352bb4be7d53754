// The nftables engine: keeps the kernel's tables equal to the plans of all Services, one transaction per sync and
// family. Called by proxier; walks plan (elements) → diff (mirror) → commit (kernel). A Service that the kernel refuses
// is left out and reported, all others of the batch are applied.

import { createHash } from 'node:crypto';
import type { Clock } from '../../api/clock.ts';
import type { Log } from '../../api/log.ts';
import type { IPFamily } from '../../api/types.ts';
import type { Backend, BackendStatus, PlanChanges, ServiceFailure, ServicePlan, SyncResult } from '../backend.ts';
import type { ElementContext } from './elements.ts';
import { elementId, planElements } from './elements.ts';
import { limits, marks, readMark, setLayouts, sets } from './layout.ts';
import type { Stage, Wanted } from './mirror.ts';
import { Mirror } from './mirror.ts';
import type { KernelPort, Ownership } from './port.ts';
import type { ProgramOptions } from './program.ts';
import { staticProgram, timeoutProgram } from './program.ts';

export interface FamilyEngineOptions {
  readonly port: KernelPort;
  readonly program: ProgramOptions;
  readonly ownership: Ownership;
  readonly nodeName: string;
  readonly nodeIPs: readonly string[];
  readonly log: Log;
}

/** One address family: its table, mirror, pools and affinity timeouts. */
export class FamilyEngine {
  readonly family: IPFamily;
  readonly #options: FamilyEngineOptions;
  readonly #mirror = new Mirror();
  readonly #timeouts = new Map<number, number>();
  #nextPool = 0;
  readonly #poolsInUse = new Set<number>();
  #generation: number | undefined;
  ownership: Ownership;

  constructor(options: FamilyEngineOptions) {
    this.family = options.program.family;
    this.#options = options;
    this.ownership = options.ownership;
  }

  get mechanism(): string { return this.#options.port.mechanism; }
  get elementCount(): number { return this.#mirror.size; }
  get mirror(): Mirror { return this.#mirror; }

  /** Opens or adopts the table and reads what it holds. */
  async start(): Promise<void> {
    const { port, log } = this.#options;
    const program = staticProgram(this.#options.program);
    const version = createHash('sha256').update(program).digest('hex').slice(0, 12);
    const opened = await port.open(this.#options.ownership, version, program);
    this.ownership = opened.ownership;
    this.#timeouts.clear();
    for (const [timeoutClass, seconds] of await port.timeouts()) this.#timeouts.set(seconds, timeoutClass);
    await this.#readBack(opened.isAdopted);
    log.info('nftables table ready', { family: this.family, mechanism: port.mechanism, ownership: this.ownership, isAdopted: opened.isAdopted, elements: this.#mirror.size });
  }

  async #readBack(isAdopted: boolean): Promise<void> {
    const found: [string, string][] = [];
    if (isAdopted) for (let set = 0; set < setLayouts.length; set++) for (const [key, data] of await this.#options.port.dump(set)) found.push([elementId(set, key), data]);
    this.#mirror.adopt(found);
    this.#poolsInUse.clear();
    for (const [id, data] of found) if (isPool(id)) this.#poolsInUse.add(poolOf(data));
    this.#nextPool = Math.max(-1, ...this.#poolsInUse) + 1;
    this.#generation = await this.#options.port.generation();
  }

  /** Plans, diffs and commits these Services. */
  async sync(plans: readonly [string, ServicePlan | undefined][], isFull: boolean): Promise<SyncResult> {
    const failures: ServiceFailure[] = [];
    const seen = new Set(plans.map(([key]) => key));
    const wanted: Wanted[] = [];
    for (const [key, plan] of plans) wanted.push(await this.#plan(key, plan, failures));
    if (isFull) for (const key of this.#mirror.services()) if (!seen.has(key)) wanted.push({ key, elements: undefined, rank: '' });
    const stage = await this.#commit(wanted, isFull, failures);
    for (const [loser, winner] of stage.conflicts) failures.push({ key: loser, reason: `an address and port of it belong to Service ${winner}` });
    return { appliedCount: plans.length - failures.length, operationCount: stage.operationCount, failures };
  }

  async #plan(key: string, plan: ServicePlan | undefined, failures: ServiceFailure[]): Promise<Wanted> {
    if (plan === undefined) return { key, elements: undefined, rank: '' };
    for (const port of plan.ports) if (port.family === this.family && port.affinityTimeoutSeconds > 0) await this.#ensureTimeout(port.affinityTimeoutSeconds);
    const context: ElementContext = {
      family: this.family, nodeName: this.#options.nodeName, nodeIPs: this.#options.nodeIPs,
      previous: (id) => this.#mirror.data(id),
      allocatePool: () => this.#allocatePool(),
      timeoutClass: (seconds) => this.#timeouts.get(seconds) ?? 0,
    };
    const { elements, problems } = planElements(plan.ports, context);
    if (problems.length > 0) failures.push({ key, reason: problems.slice(0, 3).join('; ') });
    return { key, elements, rank: `${plan.info.service.metadata.creationTimestamp ?? ''} ${key}` };
  }

  /** Tries all at once; Services that the kernel names are left out, and when it names none the batch is halved. */
  async #commit(wanted: readonly Wanted[], isFull: boolean, failures: ServiceFailure[]): Promise<Stage> {
    let remaining = wanted;
    for (;;) {
      const stage = this.#mirror.stage(remaining, isFull);
      const result = await this.#options.port.apply(stage.groups);
      if (result.isApplied) {
        this.#mirror.commit();
        this.#releasePools();
        if (stage.operationCount > 0) this.#generation = await this.#options.port.generation();
        return stage;
      }
      const bad = new Set(result.failed.map((index) => stage.keys[index] ?? ''));
      if (bad.size === 0) for (const key of await this.#bisect(remaining)) bad.add(key);
      for (const key of bad) failures.push({ key, reason: `the kernel refused it (${result.reason})` });
      remaining = remaining.filter((item) => !bad.has(item.key));
      if (bad.size === 0) throw new Error(`the kernel refused the batch (${result.reason})`);
    }
  }

  /** Finds the Services that cannot be applied by applying halves; what can be applied is applied on the way. */
  async #bisect(wanted: readonly Wanted[]): Promise<string[]> {
    if (wanted.length === 0) return [];
    const stage = this.#mirror.stage(wanted, false);
    const result = await this.#options.port.apply(stage.groups);
    if (result.isApplied) { this.#mirror.commit(); return []; }
    if (wanted.length === 1) return wanted.map((item) => item.key);
    const middle = wanted.length >> 1;
    return [...await this.#bisect(wanted.slice(0, middle)), ...await this.#bisect(wanted.slice(middle))];
  }

  async #ensureTimeout(seconds: number): Promise<void> {
    if (this.#timeouts.has(seconds)) return;
    const used = new Set(this.#timeouts.values());
    let timeoutClass = 1;
    while (used.has(timeoutClass)) timeoutClass += 1;
    if (timeoutClass > limits.timeoutClassesMax) { this.#timeouts.set(seconds, this.#nearestClass(seconds)); return; }
    await this.#options.port.load(timeoutProgram(this.family, timeoutClass, seconds));
    this.#timeouts.set(seconds, timeoutClass);
  }

  /** With every class taken, the shortest timeout that is long enough serves, else the longest. */
  #nearestClass(seconds: number): number {
    const known = [...this.#timeouts].sort((a, b) => a[0] - b[0]);
    return (known.find(([other]) => other >= seconds) ?? known.at(-1))?.[1] ?? 0;
  }

  #allocatePool(): number | undefined {
    if (this.#poolsInUse.size >= limits.poolsMax) return undefined;
    while (this.#poolsInUse.has(this.#nextPool % limits.poolsMax)) this.#nextPool += 1;
    const pool = this.#nextPool % limits.poolsMax;
    this.#nextPool = pool + 1;
    this.#poolsInUse.add(pool);
    return pool;
  }

  /** Pools are taken in a ring, so a freed number comes back only after all others: old sticky entries have timed out by then. */
  #releasePools(): void {
    if (this.#poolsInUse.size < limits.poolsMax / 2) return;
    this.#poolsInUse.clear();
    for (const [id, data] of this.#mirror.entries()) if (isPool(id)) this.#poolsInUse.add(poolOf(data));
  }

  /** Compares generations; true when somebody else changed rules since our last commit. Cheap. */
  async isChangedByOthers(): Promise<boolean> {
    const generation = await this.#options.port.generation();
    if (generation === this.#generation) return false;
    if (generation !== undefined && this.ownership !== 'none') { this.#generation = generation; return false; }
    return true;
  }

  async stop(isCleanup: boolean): Promise<void> {
    if (isCleanup) await this.#options.port.remove();
    await this.#options.port.close();
  }
}

function isPool(id: string): boolean { return id.charCodeAt(0) === sets.vipPools || id.charCodeAt(0) === sets.nodeportPools; }
function poolOf(data: string): number { return (readMark(data, 0) & marks.poolMask) >>> marks.poolShift; }

export interface NftablesEngineOptions { readonly families: readonly FamilyEngine[]; readonly clock: Clock; readonly log: Log }

/** Both families behind the engine interface of the sync loop. */
export class NftablesEngine implements Backend {
  readonly name = 'nftables';
  readonly #options: NftablesEngineOptions;

  constructor(options: NftablesEngineOptions) { this.#options = options; }

  async start(): Promise<void> { for (const family of this.#options.families) await family.start(); }

  async sync(changes: PlanChanges): Promise<SyncResult> {
    const plans = [...changes.services];
    const failures = new Map<string, string>();
    let operationCount = 0;
    for (const family of this.#options.families) {
      const result = await family.sync(plans, changes.isFull);
      operationCount += result.operationCount;
      for (const failure of result.failures) failures.set(failure.key, failure.reason);
    }
    return { appliedCount: plans.length - failures.size, operationCount, failures: [...failures].map(([key, reason]) => ({ key, reason })) };
  }

  async stop(options: { isCleanup: boolean }): Promise<void> { for (const family of this.#options.families) await family.stop(options.isCleanup); }

  status(): BackendStatus {
    return { ok: true, detail: this.#options.families.map((family) => `nftables ${family.family}: ${family.mechanism}, table ${family.ownership}, ${family.elementCount} elements`) };
  }
}
