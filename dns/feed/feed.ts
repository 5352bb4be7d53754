// Feeds the DNS threads with the zone: watch events mark Services dirty, the next turn of the loop plans and posts them
// together, and a thread that (re)starts gets the whole state first. Until the control plane has answered, the state of
// the last run stands in, marked stale; names are then replaced one batch at a time, so that nothing known is ever
// missing in between. Measures how long a change takes from its cause to being answered. Called by dns/server.ts.

import type { Clock } from '../../api/clock.ts';
import type { Pod } from '../../api/types.ts';
import type { DnsServerOptions } from '../config.ts';
import { planService } from './plan.ts';
import type { Snapshot } from './snapshot.ts';
import type { DnsRequest } from '../worker.ts';
import { serviceKey, type ServiceRecords } from '../zone/records.ts';
import type { PodsMode } from '../zone/zone.ts';

export type ServiceKind = 'cluster_ip' | 'headless_with_selector' | 'headless_without_selector' | 'external_name';
export type ProgrammingListener = (kind: ServiceKind, seconds: number) => void;

export interface ZoneFeedOptions {
  source: Pick<DnsServerOptions, 'view' | 'namespaces' | 'pods' | 'visibleNamespaces'>;
  podsMode: PodsMode;
  threadCount: number;
  /** To all threads, or to one. */
  post(message: DnsRequest, index?: number): void;
  onChanged(): void;
  onProgrammed: ProgrammingListener;
  clock: Clock;
}

/** Services per message while a whole state is replayed, so that neither thread stalls. */
const batchSize = 500;
/** Programming measurements that wait for their acknowledgement. */
const pendingMax = 10_000;
const staleCheckMs = 5_000;
/** Without an answer from the API server for this long the state counts as old. */
const staleAfterMs = 15_000;

export class ZoneFeed {
  readonly #options: ZoneFeedOptions;
  /** Service key → wall time of the cause of its oldest unposted change. */
  readonly #dirty = new Map<string, number>();
  readonly #pending = new Map<number, { left: number; changes: (readonly [ServiceKind, number])[] }>();
  readonly #unsubscribe: (() => void)[] = [];
  /** Thread → how often it was given the state: an older replay stops counting. */
  readonly #replays = new Map<number, number>();
  #isScheduled = false;
  #sequence = 0;
  #serial = 0;
  #snapshot: Snapshot | undefined;
  #staleSinceMs = 0;

  constructor(options: ZoneFeedOptions) { this.#options = options; }

  get isSynced(): boolean {
    const { view, namespaces, pods } = this.#options.source;
    return view.hasSynced && namespaces.hasSynced && (pods?.hasSynced ?? true);
  }

  get serial(): number { return this.#serial; }
  /** Wall time since when the state is only the last known one; 0 = live. */
  get staleSinceMs(): number { return this.#staleSinceMs; }

  async whenSynced(): Promise<void> {
    const { view, namespaces, pods } = this.#options.source;
    await Promise.all([view.whenSynced(), namespaces.whenSynced(), pods?.whenSynced()]);
  }

  /** Begins to follow the watch. With a snapshot its state is served until the control plane has answered. */
  start(snapshot: Snapshot | undefined): void {
    const { source, podsMode, clock } = this.#options;
    const { view, namespaces, pods } = source;
    this.#serial = snapshot?.serial ?? 0;
    if (!this.isSynced && snapshot !== undefined) {
      this.#snapshot = snapshot;
      this.#staleSinceMs = snapshot.savedMs;
    }
    this.#unsubscribe.push(view.onDirty((key, triggerMs) => {
      if (!this.#dirty.has(key)) this.#dirty.set(key, triggerMs ?? clock.nowMs());
      this.#schedule();
    }));
    this.#unsubscribe.push(namespaces.onChange(({ key, type }) => this.#setNamespace(key, type === 'delete')));
    if (pods !== undefined && podsMode === 'verified') this.#unsubscribe.push(pods.onChange(({ key, object, type }) => this.#setPod(key, object, type === 'delete')));
    if (this.#snapshot === undefined) this.#nextSerial();
    const timer = clock.every(staleCheckMs, () => this.#checkAge());
    this.#unsubscribe.push(() => timer.cancel());
    if (!this.isSynced) void this.whenSynced().then(async () => this.#goLive());
  }

  stop(): void { for (const unsubscribe of this.#unsubscribe.splice(0)) unsubscribe(); }

  /**
   * Gives one thread that has nothing yet the whole state, batch by batch; changes may slip in between, since each batch
   * is planned from the newest view. False when the thread started again meanwhile, so that this replay is void.
   */
  async replay(index: number): Promise<boolean> {
    const { post } = this.#options;
    const turn = (this.#replays.get(index) ?? 0) + 1;
    this.#replays.set(index, turn);
    const snapshot = this.#snapshot;
    if (snapshot === undefined) await this.#postAll(index);
    else {
      post({ type: 'namespaces', set: snapshot.namespaces, gone: [] }, index);
      for (let start = 0; start < snapshot.services.length; start += batchSize) {
        post({ type: 'services', set: snapshot.services.slice(start, start + batchSize), gone: [] }, index);
        await nextTurn();
      }
      post({ type: 'pods', set: snapshot.pods, gone: [] }, index);
    }
    if (this.#replays.get(index) !== turn) return false;
    this.#postState(index);
    return true;
  }

  acknowledge(sequence: number): void {
    const entry = this.#pending.get(sequence);
    if (entry === undefined) return;
    entry.left -= 1;
    if (entry.left > 0) return;
    this.#pending.delete(sequence);
    const nowMs = this.#options.clock.nowMs();
    for (const [kind, causeMs] of entry.changes) this.#options.onProgrammed(kind, Math.max(0, nowMs - causeMs) / 1000);
  }

  /** Everything that is served, for the snapshot file. */
  *records(): Generator<ServiceRecords> {
    for (const key of this.#options.source.view.keys()) {
      const records = this.#plan(key);
      if (records !== undefined) yield records;
    }
  }

  namespaceNames(): string[] {
    const { namespaces, visibleNamespaces } = this.#options.source;
    return [...namespaces.store.keys()].filter((name) => visibleNamespaces?.includes(name) ?? true);
  }

  podRecords(): (readonly [string, string, readonly string[]])[] {
    const { pods } = this.#options.source;
    if (pods === undefined || this.#options.podsMode !== 'verified') return [];
    return [...pods.store.values()].map((pod) => [pod.metadata.namespace ?? '', pod.metadata.name, podAddresses(pod)] as const).filter((item) => item[2].length > 0);
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => this.#flush());
  }

  #flush(): void {
    this.#isScheduled = false;
    const set: ServiceRecords[] = [];
    const gone: string[] = [];
    const changes: (readonly [ServiceKind, number])[] = [];
    for (const [key, causeMs] of this.#dirty) {
      const records = this.#plan(key);
      if (records === undefined) gone.push(key);
      else set.push(records);
      changes.push([this.#kindOf(key, records), causeMs]);
    }
    this.#dirty.clear();
    this.#nextSerial();
    this.#options.post({ type: 'services', set, gone });
    this.#postState();
    if (this.#pending.size < pendingMax) {
      this.#sequence += 1;
      this.#pending.set(this.#sequence, { left: this.#options.threadCount, changes });
      this.#options.post({ type: 'barrier', sequence: this.#sequence });
    }
    this.#options.onChanged();
  }

  #kindOf(key: string, records: ServiceRecords | undefined): ServiceKind {
    if (records === undefined || records.kind === 'cluster') return 'cluster_ip';
    if (records.kind === 'external') return 'external_name';
    return this.#options.source.view.get(key)?.service.spec?.selector === undefined ? 'headless_without_selector' : 'headless_with_selector';
  }

  #plan(key: string): ServiceRecords | undefined {
    const { view, visibleNamespaces } = this.#options.source;
    if (visibleNamespaces !== undefined && !visibleNamespaces.includes(key.slice(0, key.indexOf('/')))) return undefined;
    const info = view.get(key);
    return info === undefined ? undefined : planService(info);
  }

  /** Unix time, but never the same twice: a secondary that asks within the second must see the change. */
  #nextSerial(): void { this.#serial = Math.max(this.#serial + 1, Math.floor(this.#options.clock.nowMs() / 1000)); }

  #postState(index?: number): void {
    this.#options.post({ type: 'state', isSynced: this.isSynced, staleSinceMs: this.#staleSinceMs, serial: this.#serial }, index);
  }

  async #postAll(index?: number): Promise<void> {
    const { post } = this.#options;
    post({ type: 'namespaces', set: this.namespaceNames(), gone: [] }, index);
    let batch: ServiceRecords[] = [];
    for (const records of this.records()) {
      batch.push(records);
      if (batch.length < batchSize) continue;
      post({ type: 'services', set: batch, gone: [] }, index);
      batch = [];
      await nextTurn();
    }
    post({ type: 'services', set: batch, gone: [] }, index);
    post({ type: 'pods', set: this.podRecords(), gone: [] }, index);
  }

  /** The control plane has answered: the true state replaces the old one, then what is no longer there goes. */
  async #goLive(): Promise<void> {
    const snapshot = this.#snapshot;
    this.#snapshot = undefined;
    this.#nextSerial();
    await this.#postAll();
    if (snapshot !== undefined) {
      const { post, source } = this.#options;
      const namespaces = new Set(this.namespaceNames());
      const pods = new Set(this.podRecords().map(([namespace, name]) => `${namespace}/${name}`));
      post({ type: 'services', set: [], gone: snapshot.services.map(serviceKey).filter((key) => source.view.get(key) === undefined) });
      post({ type: 'pods', set: [], gone: snapshot.pods.map(([namespace, name]) => `${namespace}/${name}`).filter((key) => !pods.has(key)) });
      post({ type: 'namespaces', set: [], gone: snapshot.namespaces.filter((name) => !namespaces.has(name)) });
    }
    this.#staleSinceMs = 0;
    this.#postState();
    this.#options.onChanged();
  }

  /** Says so in answers when the API server has been silent and failing for a while. */
  #checkAge(): void {
    if (!this.isSynced || this.#snapshot !== undefined) return;
    const { namespaces } = this.#options.source;
    const ageMs = this.#options.clock.monotonicMs() - namespaces.lastContactMs;
    const isStale = namespaces.failureCount > 0 && ageMs > staleAfterMs;
    if (isStale === this.#staleSinceMs > 0) return;
    this.#staleSinceMs = isStale ? this.#options.clock.nowMs() - ageMs : 0;
    this.#options.post({ type: 'state', isSynced: true, staleSinceMs: this.#staleSinceMs, serial: this.#serial });
  }

  #setNamespace(name: string, isGone: boolean): void {
    const { visibleNamespaces } = this.#options.source;
    if (visibleNamespaces !== undefined && !visibleNamespaces.includes(name)) return;
    this.#options.post({ type: 'namespaces', set: isGone ? [] : [name], gone: isGone ? [name] : [] });
    this.#options.onChanged();
  }

  #setPod(key: string, pod: Pod, isGone: boolean): void {
    const addresses = isGone ? [] : podAddresses(pod);
    const { name, namespace = '' } = pod.metadata;
    this.#options.post(addresses.length === 0 ? { type: 'pods', set: [], gone: [key] } : { type: 'pods', set: [[namespace, name, addresses]], gone: [] });
  }
}

function nextTurn(): Promise<void> { return new Promise((resolve) => { setImmediate(resolve); }); }

/** Addresses of a Pod that may have a name: it must not have ended or be about to. */
function podAddresses(pod: Pod): string[] {
  const { phase, podIP, podIPs } = pod.status ?? {};
  if (pod.metadata.deletionTimestamp !== undefined || phase === 'Succeeded' || phase === 'Failed' || phase === 'Unknown') return [];
  return [...new Set([...(podIPs ?? []).map((item) => item.ip), ...(podIP === undefined ? [] : [podIP])])];
}
