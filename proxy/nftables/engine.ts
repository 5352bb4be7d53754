// The nftables engine: keeps the kernel's tables equal to the plans of all Services, one transaction per sync and
// family. Called by proxier; walks plan (elements) → diff (mirror) → commit (kernel). A Service that the kernel refuses
// is left out and reported, all others of the batch are applied.

import { createHash } from 'node:crypto';
import { NetloomError } from '../../api/errors.ts';
import type { Log } from '../../api/log.ts';
import type { IPFamily } from '../../api/types.ts';
import type { PlanChanges, ServicePlan, SyncResult } from '../backend.ts';
import { Claims } from './claims.ts';
import type { ServiceCount } from './counters.ts';
import { ServiceCounters } from './counters.ts';
import type { ElementContext } from './elements.ts';
import { elementId, planElements } from './elements.ts';
import { limits, marks, readMark, setLayouts, sets } from './layout.ts';
import type { Stage, Wanted } from './mirror.ts';
import { Mirror } from './mirror.ts';
import type { KernelPort, Ownership } from './port.ts';
import type { ProgramOptions } from './program.ts';
import { staticProgram, timeoutProgram } from './program.ts';

/** A transaction of this many small Services, planned and sent, holds the event loop for about 30 ms. */
const servicesPerTransaction = 500;

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
  /** Service → ServicePort → affinity pool. */
  readonly #pools = new Map<string, Map<string, number>>();
  readonly #claims = new Claims();
  readonly #counters = new ServiceCounters();
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
    this.#pools.clear();
    this.#claims.clear();
    this.#nextPool = 0;
    for (const [id, data] of found) if (isPool(id)) this.#nextPool = Math.max(this.#nextPool, poolOf(data) + 1);
    this.#generation = await this.#options.port.generation();
  }

  /**
   * Plans, diffs and commits these Services, the ones that go first. Large syncs go in several transactions, so that
   * the event loop is never held for long; each Service is in one of them whole.
   */
  async sync(changes: PlanChanges): Promise<SyncResult> {
    const { isFull } = changes;
    const plans = [...changes.services];
    const failures = new Map<string, string>();
    const queue = [...plans.filter(([, plan]) => plan === undefined), ...plans.filter(([, plan]) => plan !== undefined)];
    if (isFull) {
      const seen = new Set(plans.map(([key]) => key));
      for (const key of this.#mirror.services()) if (!seen.has(key)) queue.unshift([key, undefined]);
      for (const key of this.#claims.keys()) if (!seen.has(key) && !this.#mirror.has(key)) queue.unshift([key, undefined]);
    }
    let operationCount = 0;
    for (let at = 0; at < Math.max(1, queue.length); at += servicesPerTransaction) {
      if (at > 0) await new Promise((resolve) => { setImmediate(resolve); });
      const isLast = at + servicesPerTransaction >= queue.length;
      operationCount += await this.#syncSome(queue.slice(at, at + servicesPerTransaction), isFull && isLast, failures, changes);
    }
    return { appliedCount: plans.length - failures.size, operationCount, failures: [...failures].map(([key, reason]) => ({ key, reason })) };
  }

  async #syncSome(plans: readonly [string, ServicePlan | undefined][], isFull: boolean, failures: Map<string, string>, changes: PlanChanges): Promise<number> {
    const all = this.#claim(plans, changes);
    const wanted: Wanted[] = [];
    for (const [key, plan] of all) {
      failures.delete(key);
      wanted.push(await this.#plan(key, plan, failures));
      const winner = this.#claims.winnerOver(key);
      if (winner !== undefined) failures.set(key, `an address and port of it belong to Service ${winner}`);
    }
    return (await this.#commit(wanted, isFull, failures)).operationCount;
  }

  /** Settles who has which address; Services that win or lose one by these changes are planned with them. */
  #claim(plans: readonly [string, ServicePlan | undefined][], changes: PlanChanges): Map<string, ServicePlan | undefined> {
    const all = new Map(plans);
    const disturbed = new Set<string>();
    for (const [key, plan] of plans) this.#claims.update(key, plan?.info.service.metadata.creationTimestamp ?? '', plan?.ports.filter((port) => port.family === this.family) ?? [], disturbed);
    for (const key of disturbed) if (!all.has(key)) all.set(key, changes.services.get(key) ?? changes.planOf?.(key));
    return all;
  }

  async #plan(key: string, plan: ServicePlan | undefined, failures: Map<string, string>): Promise<Wanted> {
    if (plan === undefined) { this.#dropPools(key, new Set()); return { key, elements: undefined }; }
    for (const port of plan.ports) if (port.family === this.family && port.affinityTimeoutSeconds > 0) await this.#ensureTimeout(port.affinityTimeoutSeconds);
    const usedPools = new Set<string>();
    const context: ElementContext = {
      family: this.family, nodeName: this.#options.nodeName, nodeIPs: this.#options.nodeIPs,
      previous: (id) => this.#mirror.data(id), own: this.#mirror.elements(key),
      owns: (target) => this.#claims.owns(key, target),
      poolOf: (portKey, present) => { usedPools.add(portKey); return this.#poolOf(key, portKey, present); },
      timeoutClass: (seconds) => this.#timeouts.get(seconds) ?? 0,
    };
    const { elements, problems } = planElements(plan.ports, context);
    if (problems.length > 0) failures.set(key, problems.slice(0, 3).join('; '));
    this.#dropPools(key, usedPools);
    return { key, elements };
  }

  /** Tries all at once; Services that the kernel names are left out, and when it names none the batch is halved. */
  async #commit(wanted: readonly Wanted[], isFull: boolean, failures: Map<string, string>): Promise<Stage> {
    let remaining = wanted;
    for (let attempt = 0; ; attempt++) {
      const stage = this.#mirror.stage(remaining, isFull);
      const result = await this.#options.port.apply(stage.groups);
      if (result.isApplied) {
        this.#mirror.commit();
        if (stage.operationCount > 0) this.#generation = await this.#options.port.generation();
        return stage;
      }
      const bad = new Set(result.failed.map((index) => stage.keys[index] ?? ''));
      if (bad.size === 0) for (const key of await this.#bisect(remaining)) bad.add(key);
      for (const key of bad) failures.set(key, `the kernel refused it (${result.reason})`);
      remaining = remaining.filter((item) => !bad.has(item.key));
      // Halves that all went through mean that the batch was only too large: what is left to do now is nothing.
      if (bad.size === 0 && attempt > 0) throw new NetloomError('KernelRejected', `the kernel refused the batch (${result.reason})`, { source: 'kernel' });
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

  /** The ServicePort's own pool, else the one its addresses had before a restart, else the next in the ring. */
  #poolOf(serviceKey: string, portKey: string, present: number | undefined): number | undefined {
    const known = this.#pools.get(serviceKey)?.get(portKey);
    if (known !== undefined) return known;
    const pool = present !== undefined && !this.#poolsInUse.has(present) ? present : this.#nextFreePool();
    if (pool === undefined) return undefined;
    this.#poolsInUse.add(pool);
    const pools = this.#pools.get(serviceKey) ?? new Map<string, number>();
    this.#pools.set(serviceKey, pools.set(portKey, pool));
    return pool;
  }

  /** A ring: a freed number comes back only after all others, when old sticky entries have timed out. */
  #nextFreePool(): number | undefined {
    if (this.#poolsInUse.size >= limits.poolsMax) return undefined;
    while (this.#poolsInUse.has(this.#nextPool % limits.poolsMax)) this.#nextPool += 1;
    const pool = this.#nextPool % limits.poolsMax;
    this.#nextPool = pool + 1;
    return pool;
  }

  #dropPools(serviceKey: string, used: ReadonlySet<string>): void {
    const pools = this.#pools.get(serviceKey);
    if (pools === undefined) return;
    for (const [portKey, pool] of pools) if (!used.has(portKey)) { pools.delete(portKey); this.#poolsInUse.delete(pool); }
    if (pools.size === 0) this.#pools.delete(serviceKey);
  }

  /**
   * Says what is wrong when somebody else changed our table. An owned table can only vanish with its namespace, so a
   * look at its handle is enough; an ordinary one is read back whenever anybody's rules changed.
   */
  async checkDrift(): Promise<string | undefined> {
    const generation = await this.#options.port.generation();
    if (generation === this.#generation) return undefined;
    if (generation === undefined) { await this.restore(); return 'the table was removed'; }
    this.#generation = generation;
    if (this.ownership !== 'none') return undefined;
    if (!await this.#options.port.isIntact()) { await this.restore(); return 'rules were changed'; }
    const differences = await this.differences();
    if (differences === 0) return undefined;
    await this.#readBack(true);
    return `${differences} elements were changed`;
  }

  /** Elements of the kernel that differ from the mirror. O(all elements). */
  async differences(): Promise<number> {
    let count = 0;
    let found = 0;
    for (let set = 0; set < setLayouts.length; set++) {
      for (const [key, data] of await this.#options.port.dump(set)) {
        found += 1;
        if (this.#mirror.data(elementId(set, key)) !== data) count += 1;
      }
    }
    return count + Math.max(0, this.#mirror.size - found);
  }

  /** New connections and refusals by Service since this process started. O(addresses). */
  readCounters(): Promise<ReadonlyMap<string, ServiceCount>> { return this.#counters.read(this.#options.port, this.#mirror); }

  /** Opens the table again, whatever state it is in; a full sync must follow. */
  async restore(): Promise<void> { await this.start(); }

  async stop(isCleanup: boolean): Promise<void> {
    if (isCleanup) await this.#options.port.remove();
    await this.#options.port.close();
  }
}

function isPool(id: string): boolean { return id.charCodeAt(0) === sets.vipPools || id.charCodeAt(0) === sets.nodeportPools; }
function poolOf(data: string): number { return (readMark(data, 0) & marks.poolMask) >>> marks.poolShift; }
