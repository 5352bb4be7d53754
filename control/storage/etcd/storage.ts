// The store on etcd v3: several servers on one state. Writes are etcd transactions guarded by mod_revision; every server
// holds the whole state in memory, fed by one watch, and reads are served from there. A write resolves once this server's
// own memory shows it, so that a client reads what it wrote.
// A write whose answer was lost is looked for in the history, where it shows even if another write has replaced it since;
// only when it is not there is it tried again, under the same guard.

import type { Clock, TimerHandle } from '../../../api/clock.ts';
import { sleep } from '../../../api/clock.ts';
import { NetloomError } from '../../../api/errors.ts';
import type { Log } from '../../../api/log.ts';
import type { KubeObject } from '../../../api/types.ts';
import { Cacher } from '../cacher.ts';
import { DurationWindow } from '../durations.ts';
import { makeBackup } from '../sqlite/copies.ts';
import type { CompactOptions, ListOptions, ListPage, OnEvents, OnWatchEnd, Storage, StorageLimits, StorageStats, Stored, StoreOp, StoreWatch, WatchOptions } from '../store.ts';
import { storeClosed } from '../stored.ts';
import type { StoredChange, StoredObject } from '../stored.ts';
import { EtcdClient, EtcdError, etcdCode } from './client.ts';
import { base64, decodeValue, encodeValue, rangeEnd, splitEtcdKey } from './codec.ts';
import { guardOf, isOwnWork, refusal, resultOf, toChange, unreachable, writeError } from './outcome.ts';
import { WatchStream } from './watch-stream.ts';
import type { EtcdEvent } from './watch-stream.ts';

/** How long a write may be tried before its outcome is called unknown. */
const writeDeadlineMs = 8_000;
const retryPauseMs = 100;
/** How long a write waits to see itself in this server's memory. */
const ownWriteWaitMs = 2_000;
const pageSize = 2_000;
/** Revisions of history that a starting server reads back, so that watches move to it without a relist. */
const historyRevisions = 10_000;
/** How often etcd is asked whether the stream still keeps up, and how long it may take. */
const watchdogMs = 2_000;
const watchdogTimeoutMs = 1_500;
const openDeadlineMs = 3_000;
const compactPeriodMs = 300_000;
const markPeriodMs = 30_000;
const progressKey = '_progress';

interface Header { revision: string }
interface KeyValue { key: string; value?: string; mod_revision: string }
interface RangeAnswer { header: Header; kvs?: KeyValue[]; more?: boolean; count?: string }
interface TxnAnswer { header: Header; succeeded?: boolean; responses?: { response_range?: { kvs?: KeyValue[] } }[] }

export interface EtcdStorageOptions {
  endpoints: readonly string[]; keyPrefix: string; clock: Clock; log: Log; limits: StorageLimits;
  tls?: { caPem?: string; certPem?: string; keyPem?: string }; username?: string; password?: string;
}

/** Connects, loads the state and starts the watch. Throws ConnectFailed, ConfigInvalid. */
export async function openEtcd(options: EtcdStorageOptions): Promise<Storage> {
  const storage = new EtcdStorage(options);
  try {
    await storage.open();
    return storage;
  } catch (error) {
    await storage.close();
    if (error instanceof NetloomError) throw error;
    throw new NetloomError('ConnectFailed', `cannot use etcd at ${options.endpoints.join(', ')}: ${(error as Error).message}`, { cause: error, hint: 'check --store and that etcd runs' });
  }
}

/** Storage over an etcd cluster. */
export class EtcdStorage implements Storage {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #limits: StorageLimits;
  readonly #prefix: string;
  readonly #client: EtcdClient;
  readonly #cacher: Cacher;
  readonly #stream: WatchStream;
  readonly #durations = new DurationWindow();
  readonly #marks: { atMs: number; revision: number }[] = [];
  #watchdog: TimerHandle | undefined;
  #compactedMs: number;
  #pendingCount = 0;
  #writeCount = 0;
  #failure: string | undefined;
  #isClosed = false;
  #isLoaded = false;
  #isChecking = false;
  #consistentRead: Promise<number> | undefined;
  #nextConsistentRead: Promise<number> | undefined;

  constructor(options: EtcdStorageOptions) {
    this.#clock = options.clock;
    this.#compactedMs = options.clock.monotonicMs();
    this.#log = options.log;
    this.#limits = options.limits;
    this.#prefix = `${options.keyPrefix.replace(/\/+$/, '')}/`;
    this.#client = new EtcdClient(options);
    this.#cacher = new Cacher({ clock: options.clock, limits: options.limits });
    this.#stream = new WatchStream({
      client: this.#client, clock: this.#clock, log: this.#log, prefix: this.#prefix, position: () => this.#cacher.revision,
      onEvents: (events) => this.#take(events), onCompacted: () => this.#reload(),
    });
  }

  get revision(): number { return this.#cacher.revision; }
  get(resource: string, key: string): Stored | undefined { return this.#cacher.get(resource, key); }
  list(resource: string, options?: ListOptions): ListPage { return this.#cacher.list(resource, options); }
  resources(): string[] { return this.#cacher.resources(); }
  count(resource: string): number { return this.#cacher.count(resource); }
  waitFor(revision: number, timeoutMs: number): Promise<boolean> { return this.#cacher.waitFor(revision, timeoutMs); }

  /** Loads the state of some while ago and replays from there, so that recent history is known. */
  async open(): Promise<void> {
    const head = await this.#headRevision(openDeadlineMs);
    const past = Math.max(1, head - historyRevisions);
    try {
      await this.#load(past);
    } catch (error) {
      if (!(error instanceof EtcdError) || error.code !== etcdCode.outOfRange) throw error;
      await this.#load(head);
    }
    this.#isLoaded = true;
    this.#stream.start();
    const revision = await this.#mark();
    if (!await this.#cacher.waitFor(revision, writeDeadlineMs)) throw new NetloomError('ConnectFailed', `etcd at ${this.#client.endpoint} sends no events`);
    this.#watchdog = this.#clock.every(watchdogMs, () => { void this.#checkStream(); });
  }

  async #load(revision: number): Promise<void> {
    const objects: [string, StoredObject][] = [];
    let start = base64(this.#prefix);
    for (;;) {
      const page = await this.#client.read<RangeAnswer>('/v3/kv/range', { key: start, range_end: rangeEnd(this.#prefix), limit: String(pageSize), revision: String(revision) });
      for (const kv of page.kvs ?? []) {
        const { resource, key } = splitEtcdKey(kv.key, this.#prefix);
        if (key !== '') objects.push([resource, decodeValue(key, Number(kv.mod_revision), Buffer.from(kv.value ?? '', 'base64'))]);
      }
      const last = page.kvs?.at(-1);
      if (page.more !== true || last === undefined) break;
      start = Buffer.concat([Buffer.from(last.key, 'base64'), Buffer.of(0)]).toString('base64');
    }
    this.#cacher.replace(objects, revision);
  }

  /** After compaction overtook a broken watch: everything anew, clients list again. */
  async #reload(): Promise<void> {
    this.#log.warn('etcd compacted what this server had not seen yet, loading everything anew', { revision: this.revision });
    await this.#load(await this.#headRevision());
  }

  #take(events: readonly EtcdEvent[]): void {
    const changes: StoredChange[] = [];
    const pending = new Map<string, StoredObject | undefined>();
    const nowMs = this.#clock.monotonicMs();
    let revision = this.#cacher.revision;
    for (const event of events) {
      const modRevision = Number(event.kv.mod_revision);
      if (modRevision <= this.#cacher.revision) continue;
      revision = modRevision;
      const { resource, key } = splitEtcdKey(event.kv.key, this.#prefix);
      if (key === '') continue;
      const id = `${resource}\0${key}`;
      const previous = pending.has(id) ? pending.get(id) : this.#cacher.get(resource, key);
      const change = toChange(event, resource, key, previous, nowMs);
      if (change === undefined) continue;
      pending.set(id, change.type === 'DELETED' ? undefined : change.object);
      changes.push(change);
    }
    if (revision > this.#cacher.revision) this.#cacher.apply(changes, revision);
  }

  create(resource: string, key: string, object: KubeObject): Promise<Stored> { return this.#commitOne({ verb: 'create', resource, key, object }); }

  update(resource: string, key: string, object: KubeObject, expectedRevision?: number): Promise<Stored> {
    return this.#commitOne({ verb: 'update', resource, key, object, expectedRevision });
  }

  delete(resource: string, key: string, expectedRevision?: number, lastObject?: KubeObject): Promise<Stored> {
    return this.#commitOne({ verb: 'delete', resource, key, expectedRevision, lastObject });
  }

  async #commitOne(op: StoreOp): Promise<Stored> { return (await this.commit([op]))[0] as Stored; }

  async commit(ops: readonly StoreOp[]): Promise<Stored[]> {
    if (this.#isClosed) throw storeClosed();
    if (this.#pendingCount >= this.#limits.pendingWritesMax) throw new NetloomError('TooManyRequests', `${this.#pendingCount} writes are waiting for etcd`, { details: { retryAfterSeconds: 1 } });
    const values = ops.map((op) => op.verb === 'delete' ? undefined : this.#encode(op.key, op.object));
    const body = this.#transaction(ops, values);
    const before = ops.map((op) => this.#cacher.get(op.resource, op.key));
    this.#pendingCount += 1;
    const startMs = this.#clock.monotonicMs();
    try {
      const revision = await this.#transact(ops, values, body);
      this.#durations.add(this.#clock.monotonicMs() - startMs);
      this.#writeCount += ops.length;
      await this.#cacher.waitFor(revision, ownWriteWaitMs);
      return ops.map((op, index) => resultOf(op, revision, values[index], before[index]));
    } finally {
      this.#pendingCount -= 1;
    }
  }

  #encode(key: string, object: KubeObject): string {
    const value = encodeValue(object);
    if (value.length > this.#limits.objectBytesMax) throw new NetloomError('RequestEntityTooLarge', `the object ${key} takes ${value.length} bytes, at most ${this.#limits.objectBytesMax} are allowed`, { source: 'downstream' });
    return value.toString('base64');
  }

  #transaction(ops: readonly StoreOp[], values: readonly (string | undefined)[]): object {
    const keys = ops.map((op) => base64(`${this.#prefix}${op.resource}/${op.key}`));
    return {
      compare: ops.map((op, index) => guardOf(op, keys[index] as string)),
      success: ops.map((op, index) => op.verb === 'delete' ? { request_delete_range: { key: keys[index] } } : { request_put: { key: keys[index], value: values[index] } }),
      failure: keys.map((key) => ({ request_range: { key } })),
    };
  }

  /** Sends until the outcome is known. Throws AlreadyExists, Conflict, NotFound, InsufficientStorage, Timeout. */
  async #transact(ops: readonly StoreOp[], values: readonly (string | undefined)[], body: object): Promise<number> {
    const endMs = this.#clock.monotonicMs() + writeDeadlineMs;
    const sentRevision = this.#cacher.revision;
    let mayHaveWorked = false;
    for (;;) {
      try {
        if (mayHaveWorked) {
          const done = await this.#findOwnWork(ops, values, sentRevision, await this.#mark());
          if (done !== undefined) return done;
        }
        const answer = await this.#client.once<TxnAnswer>('/v3/kv/txn', body);
        this.#failure = undefined;
        if (answer.succeeded === true) return Number(answer.header.revision);
        const done = mayHaveWorked ? await this.#findOwnWork(ops, values, sentRevision, Number(answer.header.revision)) : undefined;
        if (done !== undefined) return done;
        throw refusal(ops, (answer.responses ?? []).map((response) => response.response_range?.kvs?.[0]));
      } catch (error) {
        if (!(error instanceof EtcdError)) throw error;
        this.#failure = error.message;
        mayHaveWorked ||= error.isAmbiguous;
        if (!error.isRetriable) throw writeError(error);
        if (this.#isClosed || this.#clock.monotonicMs() > endMs) throw unreachable(error, mayHaveWorked);
        await sleep(this.#clock, retryPauseMs);
      }
    }
  }

  /** Looks in the history after an answer was lost: a write that another one has since replaced did happen all the same. */
  async #findOwnWork(ops: readonly StoreOp[], values: readonly (string | undefined)[], sentRevision: number, revision: number): Promise<number | undefined> {
    const [op] = ops as [StoreOp];
    const kind = this.#cacher.kind(op.resource);
    if (!await this.#cacher.waitFor(revision, ownWriteWaitMs) || kind.floor > sentRevision) {
      throw new NetloomError('Timeout', 'the connection to etcd broke; the write may or may not have happened');
    }
    return kind.after(sentRevision, Infinity).find((event) => isOwnWork(event, op, values[0]))?.revision;
  }

  watch(resource: string, fromRevision: number, onEvents: OnEvents, onEnd: OnWatchEnd, options?: WatchOptions): StoreWatch {
    return this.#cacher.watch(resource, fromRevision, onEvents, onEnd, options);
  }

  /** A linearizable read of etcd's revision, shared by all who ask before it is sent. */
  consistentRevision(): Promise<number> {
    if (this.#isClosed) return Promise.reject(storeClosed());
    if (this.#consistentRead === undefined) {
      this.#consistentRead = this.#readConsistently().finally(() => { this.#consistentRead = undefined; });
      return this.#consistentRead;
    }
    // The read under way may have been answered before this call was made; the one after it is right.
    this.#nextConsistentRead ??= this.#consistentRead.catch(() => 0).then(() => {
      this.#nextConsistentRead = undefined;
      return this.consistentRevision();
    });
    return this.#nextConsistentRead;
  }

  async #readConsistently(): Promise<number> {
    const revision = await this.#headRevision();
    if (revision <= this.#cacher.revision || await this.#cacher.waitFor(revision, 20)) return revision;
    // The newest revision may belong to keys that are none of ours and so never arrives: a mark of our own does.
    return this.#mark();
  }

  async #headRevision(deadlineMs?: number, timeoutMs?: number): Promise<number> {
    const answer = await this.#client.read<RangeAnswer>('/v3/kv/range', { key: base64(`${this.#prefix}${progressKey}`), count_only: true }, deadlineMs, timeoutMs);
    return Number(answer.header.revision);
  }

  /** Writes our progress key; its event shows that everything before has arrived. */
  async #mark(): Promise<number> {
    const answer = await this.#client.read<{ header: Header }>('/v3/kv/put', { key: base64(`${this.#prefix}${progressKey}`), value: '' });
    return Number(answer.header.revision);
  }

  /** A stream that is connected but brings nothing (a cut-off member, a dead peer) is replaced. */
  async #checkStream(): Promise<void> {
    if (this.#isChecking) return;
    this.#isChecking = true;
    try {
      const askedMs = this.#clock.monotonicMs();
      const askedRevision = this.#cacher.revision;
      const revision = await this.#headRevision(writeDeadlineMs, watchdogTimeoutMs);
      this.#failure = undefined;
      this.#keepHouse(revision);
      if (revision < askedRevision) return await this.#goBack(revision);
      if (this.#stream.lastMessageMs >= askedMs) return;
      // The endpoint of the stream gave no answer, another one did.
      if (this.#client.endpoint !== this.#stream.endpoint) return this.#stream.reconnect('its endpoint does not answer');
      if (revision <= this.#cacher.revision || await this.#cacher.waitFor(await this.#mark(), watchdogMs) || this.#isClosed) return;
      this.#stream.reconnect('no events in time');
    } catch (error) {
      if (this.#isClosed) return;
      this.#failure = (error as Error).message;
      this.#log.warn('etcd does not answer', { endpoint: this.#client.endpoint, err: error });
    } finally {
      this.#isChecking = false;
    }
  }

  /** etcd was restored from an older snapshot, or is another one: clients list again, which is all that can be done. */
  async #goBack(revision: number): Promise<void> {
    this.#log.error('etcd went back in time, loading everything anew', { revision, before: this.revision });
    this.#marks.length = 0;
    await this.#load(revision);
    this.#stream.reconnect('etcd went back in time');
  }

  /** Remembers where etcd stood when, and compacts now and then, as the Kubernetes API server does. */
  #keepHouse(revision: number): void {
    const nowMs = this.#clock.monotonicMs();
    const last = this.#marks.at(-1);
    if (last === undefined || nowMs - last.atMs > markPeriodMs) this.#marks.push({ atMs: nowMs, revision });
    if (nowMs - this.#compactedMs < compactPeriodMs) return;
    this.#compactedMs = nowMs;
    this.compact().catch((error: unknown) => { this.#log.warn('etcd cannot be compacted', { err: error }); });
  }

  /** Compacts etcd to where it stood `ageMs` ago. One server of several is enough; a second one does no harm. */
  async compact(options: CompactOptions = {}): Promise<{ removedCount: number }> {
    const tooOldMs = this.#clock.monotonicMs() - (options.ageMs ?? this.#limits.historyAgeMs);
    let revision = options.ageMs === 0 ? this.revision : 0;
    while (this.#marks[0] !== undefined && this.#marks[0].atMs <= tooOldMs) revision = Math.max(revision, (this.#marks.shift() as { revision: number }).revision);
    if (revision === 0) return { removedCount: 0 };
    try {
      await this.#client.read('/v3/kv/compaction', { revision: String(revision) });
    } catch (error) {
      if (!(error instanceof EtcdError) || error.code !== etcdCode.outOfRange) throw error;
    }
    return { removedCount: 0 };
  }

  stats(): StorageStats {
    const commitCount = this.#durations.count;
    return {
      kind: 'etcd', revision: this.revision, pendingWriteCount: this.#pendingCount, isWritable: this.#failure === undefined && this.#isLoaded,
      ...(this.#failure === undefined ? {} : { detail: this.#failure }),
      commitCount, writeCount: this.#writeCount, batchSizeMean: commitCount === 0 ? 0 : this.#writeCount / commitCount, batchSizeMax: 1,
      commitMsP50: this.#durations.quantile(0.5), commitMsP99: this.#durations.quantile(0.99), walBytes: 0, fileBytes: 0,
      ...this.#cacher.stats(),
    };
  }

  backup(path: string): Promise<{ revision: number }> { return makeBackup(path, this); }

  close(): Promise<void> {
    this.#isClosed = true;
    this.#watchdog?.cancel();
    this.#stream.stop();
    this.#cacher.close();
    this.#client.close();
    return Promise.resolve();
  }
}
