// The userspace engine as the sync loop sees it: turns plans into listeners and candidate sets (listen-plan.ts), posts
// them to the data threads and reports what could not be served. State that must outlive a thread is kept here: the
// specs for replay, the affinity table, the counters.

import type { TimerHandle } from '../../api/clock.ts';
import { createAffinityMemory, startAffinityClock, AffinityTable } from '../affinity.ts';
import type { Backend, BackendStatus, PlanChanges, ServiceFailure, ServicePlan, SyncResult, UserspaceBackendOptions } from '../backend.ts';
import { createCounters, readCounter, rowsMax, type Column } from './counters.ts';
import { HostAddresses, listHostAddresses } from './host-addresses.ts';
import { connectionLimits, connectionsMaxOf } from './limits.ts';
import { planListeners } from './listen-plan.ts';
import type { FromWorker, InitMessage, PortSpec, SyncMessage } from './messages.ts';

interface Sync { readonly waiting: Set<number>; readonly failures: Map<string, string>; operations: number; readonly done: () => void }

const sessionsMaxDefault = 16_384;
const replyMsMax = 5_000;

export class UserspaceBackend implements Backend {
  readonly name = 'userspace';
  readonly #options: UserspaceBackendOptions;
  readonly #plans = new Map<string, ServicePlan>();
  readonly #specs = new Map<string, PortSpec>();
  readonly #specKeys = new Map<string, readonly string[]>();
  /** `address port protocol` → keys of the specs that want it; the first has it. */
  readonly #claims = new Map<string, string[]>();
  readonly #rows = new Map<string, number>();
  readonly #freeRows: number[] = [];
  readonly #affinity = createAffinityMemory();
  readonly #counters: SharedArrayBuffer[];
  readonly #addresses: HostAddresses;
  readonly #alive = new Set<number>();
  readonly #syncs = new Map<number, Sync>();
  readonly #failed = new Set<string>();
  #clockTimer: TimerHandle | undefined;
  #nextId = 1;
  #nextRow = 1;
  #failureCount = 0;
  #replayCount = 0;
  #hostAddresses: readonly string[] = [];

  constructor(options: UserspaceBackendOptions) {
    this.#options = options;
    this.#counters = Array.from({ length: options.channel.count }, () => createCounters());
    this.#addresses = new HostAddresses({ log: options.log, isAllowed: options.scope === 'all' && process.platform === 'linux' && process.getuid?.() === 0 });
  }

  start(): Promise<void> {
    const { channel, clock } = this.#options;
    this.#clockTimer = startAffinityClock(this.#affinity, clock);
    channel.onMessage((index, message) => this.#onReply(index, message as FromWorker));
    channel.onStart((index) => this.#onStart(index));
    return Promise.resolve();
  }

  async sync(changes: PlanChanges): Promise<SyncResult> {
    const failures = new Map<string, string>();
    const removed: string[] = [];
    const gone = changes.isFull ? [...this.#plans.keys()].filter((key) => changes.services.get(key) === undefined) : [];
    const changed: PortSpec[] = [];
    this.#hostAddresses = listHostAddresses();
    for (const key of gone) this.#forget(key, removed, changed);
    for (const [key, plan] of changes.services) {
      if (plan === undefined) this.#forget(key, removed, changed);
      else this.#plan(key, plan, changed, removed, failures);
    }
    if (changed.length + removed.length > 0) await this.#addresses.ensure(this.#wantedAddresses());
    const operations = changed.length + removed.length === 0 ? 0 : await this.#post({ isFull: false, ports: this.#withoutConflicts(changed, failures), removed }, failures);
    this.#failureCount = failures.size;
    const list: ServiceFailure[] = [...failures].map(([key, reason]) => ({ key, reason }));
    return { appliedCount: changes.services.size - list.filter((each) => changes.services.has(each.key)).length, operationCount: operations, failures: list };
  }

  async stop(_options: { isCleanup: boolean; drainMs: number }): Promise<void> {
    // Listeners close when the pool stops its threads; removing the ports here would cut the drain short.
    this.#clockTimer?.cancel();
    await this.#addresses.removeAll();
  }

  status(): BackendStatus {
    const scope = this.#options.scope === 'all' ? 'all Services' : 'NodePorts on loopback';
    return {
      ok: this.#alive.size > 0 || this.#options.channel.count === 0,
      detail: [`userspace engine: ${scope}, ${this.#specs.size} ports on ${this.#alive.size} threads${this.#failureCount === 0 ? '' : `, ${this.#failureCount} Services not fully served`}`],
    };
  }

  /** Counter of one Service over all threads; undefined without a row of its own. */
  counter(serviceKey: string, column: Column): number | undefined {
    const row = this.#rows.get(serviceKey);
    return row === undefined ? undefined : readCounter(this.#counters, row, column);
  }

  /** How often a thread has got everything and opened its listeners since the start. */
  get replayCount(): number { return this.#replayCount; }

  serviceKeys(): IterableIterator<string> { return this.#rows.keys(); }
  affinityCount(): number { return new AffinityTable(this.#affinity).count(); }

  #plan(key: string, plan: ServicePlan, changed: PortSpec[], removed: string[], failures: Map<string, string>): void {
    const { scope, bind, nodePorts, nodeName } = this.#options;
    this.#plans.set(key, plan);
    const { ports, problems } = planListeners(plan, { scope, bind, nodePorts, nodeName, hostAddresses: this.#hostAddresses }, this.#rowOf(key));
    if (problems.length > 0) failures.set(key, problems.join('; '));
    const present = new Set(ports.map((spec) => spec.key));
    for (const specKey of this.#specKeys.get(key) ?? []) if (!present.has(specKey)) this.#drop(specKey, removed, changed);
    this.#specKeys.set(key, [...present]);
    for (const spec of ports) {
      const before = this.#specs.get(spec.key);
      if (before !== undefined && !this.#failed.has(key) && JSON.stringify(before) === JSON.stringify(spec)) continue;
      this.#release(before, changed);
      this.#specs.set(spec.key, spec);
      for (const address of addressesOf(spec)) {
        const claims = this.#claims.get(address);
        if (claims === undefined) this.#claims.set(address, [spec.key]); else claims.push(spec.key);
      }
      changed.push(spec);
    }
    this.#failed.delete(key);
  }

  #drop(specKey: string, removed: string[], changed: PortSpec[]): void {
    this.#release(this.#specs.get(specKey), changed);
    this.#specs.delete(specKey);
    removed.push(specKey);
  }

  /** Gives up the addresses of a spec; whoever waited for one is planned again. */
  #release(spec: PortSpec | undefined, changed: PortSpec[]): void {
    if (spec === undefined) return;
    for (const address of addressesOf(spec)) {
      const claims = this.#claims.get(address) ?? [];
      const left = claims.filter((each) => each !== spec.key);
      if (left.length === 0) this.#claims.delete(address); else this.#claims.set(address, left);
      const next = claims[0] === spec.key ? this.#specs.get(left[0] ?? '') : undefined;
      if (next !== undefined) changed.push(next);
    }
  }

  #forget(key: string, removed: string[], changed: PortSpec[]): void {
    this.#plans.delete(key);
    for (const specKey of this.#specKeys.get(key) ?? []) this.#drop(specKey, removed, changed);
    this.#specKeys.delete(key);
    this.#failed.delete(key);
    const row = this.#rows.get(key);
    this.#rows.delete(key);
    if (row === undefined || row === 0) return;
    for (const memory of this.#counters) new Float64Array(memory).fill(0, row * 8, row * 8 + 8);
    this.#freeRows.push(row);
  }

  #rowOf(key: string): number {
    let row = this.#rows.get(key);
    if (row === undefined) {
      row = this.#freeRows.pop() ?? (this.#nextRow < rowsMax ? this.#nextRow++ : 0);
      this.#rows.set(key, row);
    }
    return row;
  }

  #wantedAddresses(): Set<string> {
    const wanted = new Set<string>();
    if (!this.#addresses.isAllowed) return wanted;
    for (const spec of this.#specs.values()) for (const listener of spec.listeners) if (listener.address !== '0.0.0.0' && listener.address !== '::') wanted.add(listener.address);
    return wanted;
  }

  /** An address and port belong to the first Service that claims them; others of the same are reported. */
  #withoutConflicts(changed: readonly PortSpec[], failures: Map<string, string>): PortSpec[] {
    return [...new Set(changed)].map((spec) => {
      const listeners = spec.listeners.filter((listener) => {
        const owner = this.#claims.get(`${listener.address} ${listener.port} ${spec.protocol}`)?.[0];
        if (owner === undefined || owner === spec.key) return true;
        failures.set(spec.service, `${listener.address}:${listener.port} is already served for ${this.#specs.get(owner)?.service ?? owner}`);
        return false;
      });
      return listeners.length === spec.listeners.length ? spec : { ...spec, listeners };
    });
  }

  /** Posts to every live thread and waits until all have applied it. */
  async #post(message: Pick<SyncMessage, 'isFull' | 'ports' | 'removed'>, failures: Map<string, string>): Promise<number> {
    const { channel, clock } = this.#options;
    if (this.#alive.size === 0) return 0;
    const id = this.#nextId++;
    return new Promise((resolve) => {
      const sync: Sync = { waiting: new Set(this.#alive), failures, operations: 0, done: () => {
        timer.cancel();
        this.#syncs.delete(id);
        resolve(sync.operations);
      } };
      // A thread that crashed meanwhile gets everything when it is back.
      const timer = clock.after(replyMsMax, () => sync.done());
      this.#syncs.set(id, sync);
      for (const index of sync.waiting) channel.send(index, { type: 'sync', id, ...message } satisfies SyncMessage);
    });
  }

  #onReply(index: number, message: FromWorker): void {
    if (message.id === 0) this.#replayCount += 1;
    const sync = this.#syncs.get(message.id);
    if (sync === undefined) return;
    for (const failure of message.failures) {
      sync.failures.set(failure.service, failureText(failure.address, failure.reason));
      // Remembered, so that the next full sync tries again.
      this.#failed.add(failure.service);
    }
    sync.operations = Math.max(sync.operations, message.operations);
    if (sync.waiting.delete(index) && sync.waiting.size === 0) sync.done();
  }

  /** A thread started, maybe again: it gets the shared memories and every spec. */
  #onStart(index: number): void {
    const { channel, clusterCIDRs } = this.#options;
    this.#alive.add(index);
    channel.send(index, {
      type: 'init', affinity: this.#affinity, counters: this.#counters[index] as SharedArrayBuffer, hostAddresses: listHostAddresses(), clusterCIDRs,
      connectionsMax: connectionsMaxOf(), connectionsPerSourceMax: connectionLimits.perSourceMax, sessionsMax: sessionsMaxDefault, mayUseRawWires: process.env['NETLOOM_SOCKET_WIRES'] !== '1',
    } satisfies InitMessage);
    resetActive(this.#counters[index] as SharedArrayBuffer);
    channel.send(index, { type: 'sync', id: 0, isFull: true, ports: this.#withoutConflicts([...this.#specs.values()], new Map()), removed: [] } satisfies SyncMessage);
    for (const sync of this.#syncs.values()) if (sync.waiting.delete(index) && sync.waiting.size === 0) sync.done();
  }
}

function addressesOf(spec: PortSpec): string[] {
  return spec.listeners.map((listener) => `${listener.address} ${listener.port} ${spec.protocol}`);
}

/** Connections of a thread that died are gone. */
function resetActive(memory: SharedArrayBuffer): void {
  const values = new Float64Array(memory);
  for (let index = 1; index < values.length; index += 8) values[index] = 0;
}

function failureText(address: string, reason: string): string {
  if (reason === 'EADDRINUSE') return `cannot listen on ${address}: another process holds it`;
  if (reason === 'EACCES') return `cannot listen on ${address}: ports below 1024 need root, or sysctl net.ipv4.ip_unprivileged_port_start=0`;
  if (reason === 'EADDRNOTAVAIL') return `cannot listen on ${address}: the address is not on this host`;
  return `cannot listen on ${address}: ${reason}`;
}
