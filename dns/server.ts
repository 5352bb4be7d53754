// The DNS server's main-thread side: starts the DNS threads, feeds them (feed.ts), waits for their listeners, publishes
// the kube-dns endpoint and keeps the state file. Queries never pass here.
// Called by the cli. Next on the path: feed.ts → plan.ts → worker.ts.

import { createSocket } from 'node:dgram';
import { isIPv6 } from 'node:net';
import type { Registry } from 'prom-client';
import { NetloomError } from '../api/errors.ts';
import { WorkerPool, type WorkerChannel } from '../api/workers.ts';
import { workerData, type DnsServerOptions } from './config.ts';
import { explainName, formatExplanation, type Explanation } from './explain.ts';
import { ZoneFeed } from './feed/feed.ts';
import type { ListenAddress, ListenPlan } from './listeners.ts';
import { DnsMetrics } from './metrics.ts';
import { EndpointPublisher } from './feed/publish.ts';
import { readSnapshot, SnapshotWriter } from './feed/snapshot.ts';
import type { DnsReport, UpstreamState } from './worker.ts';
import type { NameCount } from './engine/top-names.ts';

/** How long a start waits for the control plane: with and without a state on disk to fall back to. */
const syncWaitMs = Object.freeze({ withSnapshot: 500, alone: 5_000 });
const describeTimeoutMs = 2_000;

export interface DnsStatus {
  readonly addresses: readonly ListenAddress[]; readonly isSynced: boolean; readonly staleSinceMs: number;
  /** Since start: all queries, and those with each outcome a person asks about. */
  readonly counts: { readonly queries: number; readonly nxdomain: number; readonly servfail: number; readonly refused: number; readonly searchPathMisses: number; readonly autopath: number; readonly cacheHits: number; readonly servedStale: number };
  readonly topNames: readonly NameCount[]; readonly upstreams: readonly UpstreamState[]; readonly heapBytes: number;
}

export class DnsServer {
  readonly #options: DnsServerOptions;
  readonly #pool: WorkerPool;
  readonly #channel: WorkerChannel;
  readonly #feed: ZoneFeed;
  readonly #metrics: DnsMetrics;
  readonly #clusterDomain: string;
  readonly #upstreamNames: readonly string[];
  readonly #listening = Promise.withResolvers<void>();
  readonly #describing = new Map<number, (report: Extract<DnsReport, { type: 'described' }>) => void>();
  #plan: ListenPlan;
  #snapshots: SnapshotWriter | undefined;
  #publisher: EndpointPublisher | undefined;
  #prepared: Promise<void> | undefined;
  #isListening = false;
  #describeSequence = 0;

  /** Throws ConfigInvalid. */
  constructor(options: DnsServerOptions) {
    this.#options = options;
    this.#clusterDomain = (options.clusterDomain ?? 'cluster.local').toLowerCase().replace(/\.$/, '');
    const podsMode = options.podsMode ?? (options.pods === undefined ? 'disabled' : 'verified');
    const listen = options.listen ?? [{ address: '127.0.0.1', port: 1053 }];
    const data = workerData(options, podsMode, listen);
    this.#upstreamNames = data.upstreams.map((target) => `${target.address}:${target.port}`);
    this.#plan = { addresses: listen, optional: options.listenOptional ?? [], tls: options.listenTls ?? [], https: options.listenHttps ?? [], certificate: options.certificate, tcpLimits: options.tcpLimits ?? {} };
    if (options.certificate === undefined && (this.#plan.tls.length > 0 || this.#plan.https.length > 0)) {
      throw new NetloomError('ConfigInvalid', 'DNS over TLS and HTTPS need a certificate', { source: 'config' });
    }
    const url = new URL(`./worker.${import.meta.filename.endsWith('.ts') ? 'ts' : 'js'}`, import.meta.url);
    this.#pool = new WorkerPool({ name: 'dns', count: options.workers ?? 1, modules: { dns: { url, data } }, log: options.log, clock: options.clock });
    this.#channel = this.#pool.channel('dns');
    this.#channel.onMessage((index, message) => this.#receive(index, message as DnsReport));
    this.#metrics = new DnsMetrics({ threadCount: this.#pool.count, restartCount: () => this.#pool.restartTotal, status: () => this.status() });
    this.#feed = new ZoneFeed({
      source: options, podsMode, threadCount: this.#pool.count, clock: options.clock,
      post: (message, index) => { if (index === undefined) this.#channel.broadcast(message); else this.#channel.send(index, message); },
      onChanged: () => this.#snapshots?.markDirty(),
      onProgrammed: (kind, seconds) => this.#metrics.observeProgramming(kind, seconds),
    });
  }

  /** Bound UDP and TCP addresses; ports are real ones after `start`. */
  get addresses(): readonly ListenAddress[] { return this.#plan.addresses; }
  get tlsAddresses(): readonly ListenAddress[] { return this.#plan.tls; }
  get httpsAddresses(): readonly ListenAddress[] { return this.#plan.https; }

  /** The DNS threads, for tests that end one. */
  threads(): ReturnType<WorkerPool['threads']> { return this.#pool.threads(); }

  health(): { ok: boolean; detail?: string } {
    if (!this.#isListening) return { ok: false, detail: 'not listening' };
    if (this.#pool.readyCount < this.#pool.count) return { ok: false, detail: 'a DNS thread is restarting' };
    if (this.#feed.staleSinceMs > 0) return { ok: true, detail: `control plane away since ${new Date(this.#feed.staleSinceMs).toISOString()}, serving the last known names` };
    return this.#feed.isSynced ? { ok: true } : { ok: false, detail: 'Services not received yet' };
  }

  registerMetrics(registry: Registry): void { this.#metrics.register(registry); }

  /** Starts the threads ahead of `start`, while other parts are still coming up: loading code takes most of the time. */
  prepare(): Promise<void> {
    this.#prepared ??= this.#pool.start();
    // `start` reports a failure; until then it must not count as unhandled.
    this.#prepared.catch(() => {});
    return this.#prepared;
  }

  /** Resolves when every thread listens with the state known so far. Rejects with PortInUse, PermissionDenied, ConfigInvalid. */
  async start(): Promise<void> {
    const { dataDir, clock, log } = this.#options;
    if (this.#options.isHandover !== true) for (const item of this.#plan.addresses) if (item.port !== 0) await assertFree(item);
    await this.prepare();
    const snapshot = dataDir === undefined ? undefined : await readSnapshot(dataDir, this.#clusterDomain);
    await this.#waitForSync(snapshot === undefined ? syncWaitMs.alone : syncWaitMs.withSnapshot);
    if (dataDir !== undefined) this.#snapshots = new SnapshotWriter({ dataDir, clusterDomain: this.#clusterDomain, source: this.#feed, clock, log });
    this.#feed.start(snapshot);
    if (!this.#feed.isSynced) log.warn('dns starts without the control plane', { servesStale: snapshot !== undefined });
    this.#channel.onStart((index) => { void this.#startThread(index); });
    await this.#listening.promise;
    if (this.#feed.isSynced) this.#snapshots?.markDirty();
    this.#startPublishing();
  }

  /** Drains: leaves the port, answers what is queued and under way, then ends. `isHandover` keeps the published endpoint. */
  async stop(drainMs = 1_000, isHandover = false): Promise<void> {
    this.#isListening = false;
    await this.#publisher?.stop(isHandover);
    await this.#pool.stop(drainMs);
    this.#feed.stop();
    await this.#snapshots?.stop();
  }

  /** Live counters of the first thread: most asked names, upstreams. */
  async status(): Promise<DnsStatus> {
    this.#describeSequence += 1;
    const sequence = this.#describeSequence;
    const { promise, resolve } = Promise.withResolvers<Extract<DnsReport, { type: 'described' }> | undefined>();
    this.#describing.set(sequence, resolve);
    const timer = this.#options.clock.after(describeTimeoutMs, () => resolve(undefined), true);
    this.#channel.send(0, { type: 'describe', sequence });
    const report = await promise;
    timer.cancel();
    this.#describing.delete(sequence);
    return {
      addresses: this.#plan.addresses, isSynced: this.#feed.isSynced, staleSinceMs: this.#feed.staleSinceMs,
      counts: this.#metrics.counts(), topNames: report?.topNames ?? [], upstreams: report?.upstreams ?? [], heapBytes: report?.heapBytes ?? 0,
    };
  }

  /** Why `name` answers what it answers; `from` = 'namespace/pod', a Pod's name or a Namespace whose search list applies. */
  explain(name: string, from?: string): (Explanation & { works: boolean; lines: string[] }) | { error: string } {
    const { view, namespaces, pods, podsMode, hostSearch } = this.#options;
    const podNames = pods === undefined ? [] : [...pods.store.values()].map((pod) => pod.metadata);
    const fromNamespace = from === undefined ? undefined : from.includes('/') ? from.slice(0, from.indexOf('/')) : (podNames.find((pod) => pod.name === from)?.namespace ?? from);
    if (fromNamespace !== undefined && namespaces.store.get(fromNamespace) === undefined) return { error: `no Pod or Namespace "${from}"` };
    const explanation = explainName({
      name, fromNamespace, view, namespaceNames: this.#feed.namespaceNames(), pods: this.#feed.podRecords(), clusterDomain: this.#clusterDomain, podsMode, hostSearch,
      upstreams: this.#upstreamNames,
    });
    return { ...explanation, works: explanation.tried.at(-1)?.result !== 'NXDOMAIN', lines: formatExplanation(explanation) };
  }

  async #waitForSync(limitMs: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = this.#options.clock.after(limitMs, resolve, true);
    void this.#feed.whenSynced().then(resolve);
    await promise;
    timer.cancel();
  }

  async #startThread(index: number): Promise<void> {
    if (!(await this.#feed.replay(index))) return;
    // The first thread decides which free port is taken; the others follow once it is known.
    if (this.#isListening || index === 0) this.#channel.send(index, { type: 'listen', plan: this.#plan });
  }

  #startPublishing(): void {
    const { publish, view, clock, log } = this.#options;
    if (publish === undefined) return;
    const listener = this.#plan.addresses.find((item) => item.address === publish.address) ?? this.#plan.addresses[0];
    const bound = publish.port === undefined || publish.port === 0 ? (listener?.port ?? 53) : publish.port;
    const publisher = new EndpointPublisher({ ...publish, port: bound, clock, log });
    this.#publisher = publisher;
    view.onDirty((key) => { if (key === 'kube-system/kube-dns') setImmediate(() => publisher.ensure()); });
    publisher.ensure();
  }

  #receive(index: number, message: DnsReport): void {
    switch (message.type) {
      case 'counters': return this.#metrics.setThread(index, message.buffer);
      case 'applied': return this.#feed.acknowledge(message.sequence);
      case 'probeSeen': return this.#channel.broadcast(message);
      case 'described': return this.#describing.get(message.sequence)?.(message);
      case 'failed': {
        const error = listenError(message.code, message.text, message.address, message.port);
        if (this.#isListening) this.#options.log.error('dns thread cannot listen', { err: error });
        return this.#listening.reject(error);
      }
      case 'listening': return this.#noteListening(index, message);
    }
  }

  #noteListening(index: number, message: Extract<DnsReport, { type: 'listening' }>): void {
    if (index !== 0 || this.#isListening) return;
    this.#plan = { ...this.#plan, addresses: message.addresses, optional: [], tls: message.tls, https: message.https };
    this.#isListening = true;
    for (let other = 1; other < this.#pool.count; other++) this.#channel.send(other, { type: 'listen', plan: this.#plan });
    this.#options.log.info('dns listening', { addresses: this.#plan.addresses.map((item) => `${item.address}:${item.port}`) });
    this.#listening.resolve();
  }
}

function listenError(code: string, text: string, address: string, port: number): NetloomError {
  const where = `${isIPv6(address) ? `[${address}]` : address}:${port}`;
  if (code === 'EADDRINUSE') {
    return new NetloomError('PortInUse', `DNS cannot listen on ${where}: the port is in use`, { source: 'config', hint: `find the holder with "ss -lpun sport = :${port}", or choose another with --dns-port (0 = any free one)` });
  }
  if (code === 'EACCES' || code === 'EPERM') {
    return new NetloomError('PermissionDenied', `DNS may not listen on ${where}`, { source: 'config', hint: 'ports below 1024 need root: use --dns-port 1053' });
  }
  return new NetloomError('ConfigInvalid', `DNS cannot listen on ${where}: ${text}`, { source: 'config', hint: 'is the address one of this machine? see "ip addr"' });
}

/** Shared ports hide a conflict, so the port is tried alone first. */
async function assertFree({ address, port }: ListenAddress): Promise<void> {
  const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4');
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  socket.once('error', (error: NodeJS.ErrnoException) => reject(listenError(error.code ?? '', error.message, address, port)));
  socket.bind({ address, port, exclusive: true }, () => resolve());
  try {
    await promise;
  } finally {
    await new Promise<void>((done) => { try { socket.close(() => done()); } catch { done(); } });
  }
}
