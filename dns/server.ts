// The DNS server's main-thread side: turns watch events into zone messages for the DNS threads (mark dirty → collect →
// plan → post), replays the whole state to a thread that (re)starts, and waits for the listeners. Queries never pass here.
// Called by the cli. Next on the path: dns/plan.ts → dns/worker.ts.

import { createSocket } from 'node:dgram';
import { isIPv6 } from 'node:net';
import { NetloomError } from '../api/errors.ts';
import type { Pod } from '../api/types.ts';
import { WorkerPool, type WorkerChannel } from '../api/workers.ts';
import type { DnsServerOptions } from './config.ts';
import { planService } from './plan.ts';
import { nameKey } from './wire/names.ts';
import type { DnsReport, DnsRequest, DnsWorkerData, ListenAddress } from './worker.ts';
import type { ServiceRecords } from './zone/records.ts';
import type { PodsMode } from './zone/zone.ts';

/** Services per message while a whole state is replayed, so that neither thread stalls. */
const batchSize = 500;
const syncWaitMs = 5_000;

export class DnsServer {
  readonly #options: DnsServerOptions;
  readonly #podsMode: PodsMode;
  readonly #pool: WorkerPool;
  readonly #channel: WorkerChannel;
  readonly #dirty = new Set<string>();
  readonly #unsubscribe: (() => void)[] = [];
  #isFlushScheduled = false;
  #isListening = false;
  #serial = 0;
  #addresses: readonly ListenAddress[];
  #listening = Promise.withResolvers<void>();

  constructor(options: DnsServerOptions) {
    this.#options = options;
    this.#podsMode = options.podsMode ?? (options.pods === undefined ? 'disabled' : 'verified');
    this.#addresses = options.listen ?? [{ address: '127.0.0.1', port: 1053 }];
    const zoneKey = nameKey(options.clusterDomain ?? 'cluster.local');
    if (zoneKey === undefined) throw new NetloomError('ConfigInvalid', `cluster domain "${options.clusterDomain}" is not a domain name`, { source: 'config' });
    const data: DnsWorkerData = {
      zone: {
        zoneKey, ttlSeconds: options.ttlSeconds ?? 5, podsMode: this.#podsMode, isZonal: options.isZonal ?? false,
        ownAddresses: options.ownAddresses ?? this.#addresses.map((item) => item.address),
      },
    };
    const url = new URL(`./worker.${import.meta.filename.endsWith('.ts') ? 'ts' : 'js'}`, import.meta.url);
    this.#pool = new WorkerPool({ name: 'dns', count: options.workers ?? 1, modules: { dns: { url, data } }, log: options.log, clock: options.clock });
    this.#channel = this.#pool.channel('dns');
  }

  /** Bound addresses; ports are real ones after `start`. */
  get addresses(): readonly ListenAddress[] { return this.#addresses; }

  health(): { ok: boolean; detail?: string } {
    if (!this.#isListening) return { ok: false, detail: 'not listening' };
    if (this.#pool.readyCount < this.#pool.count) return { ok: false, detail: 'a DNS thread is restarting' };
    return this.#isSynced() ? { ok: true } : { ok: false, detail: 'Services not received yet' };
  }

  /** Resolves when every thread listens with the state known so far. */
  async start(): Promise<void> {
    const { view, namespaces, pods, clock } = this.#options;
    if (this.#options.isHandover !== true) for (const item of this.#addresses) if (item.port !== 0) await assertFree(item);
    this.#channel.onMessage((index, message) => this.#receive(index, message as DnsReport));
    await this.#pool.start();
    await Promise.race([this.#whenSynced(), new Promise<void>((resolve) => { clock.after(syncWaitMs, resolve, true); })]);
    this.#unsubscribe.push(view.onDirty((key) => { this.#dirty.add(key); this.#schedule(); }));
    this.#unsubscribe.push(namespaces.onChange(({ key, type }) => this.#setNamespace(key, type === 'delete')));
    if (pods !== undefined && this.#podsMode === 'verified') this.#unsubscribe.push(pods.onChange(({ key, object, type }) => this.#setPod(key, object, type === 'delete')));
    this.#channel.onStart((index) => this.#replay(index));
    void this.#whenSynced().then(() => this.#sendState());
    await this.#listening.promise;
  }

  async stop(drainMs = 0): Promise<void> {
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    this.#isListening = false;
    await this.#pool.stop(drainMs);
  }

  #isSynced(): boolean { return this.#options.view.hasSynced && this.#options.namespaces.hasSynced && (this.#options.pods?.hasSynced ?? true); }

  async #whenSynced(): Promise<void> {
    const { view, namespaces, pods } = this.#options;
    await Promise.all([view.whenSynced(), namespaces.whenSynced(), pods?.whenSynced()]);
  }

  #post(message: DnsRequest): void { this.#channel.broadcast(message); }

  #schedule(): void {
    if (this.#isFlushScheduled) return;
    this.#isFlushScheduled = true;
    setImmediate(() => this.#flush());
  }

  #flush(): void {
    this.#isFlushScheduled = false;
    const set: ServiceRecords[] = [];
    const gone: string[] = [];
    for (const key of this.#dirty) {
      const records = this.#plan(key);
      if (records === undefined) gone.push(key);
      else set.push(records);
    }
    this.#dirty.clear();
    this.#post({ type: 'services', set, gone });
    this.#sendState();
  }

  #plan(key: string): ServiceRecords | undefined {
    const info = this.#options.view.get(key);
    const visible = this.#options.visibleNamespaces;
    if (info === undefined || (visible !== undefined && !visible.includes(key.slice(0, key.indexOf('/'))))) return undefined;
    return planService(info);
  }

  #sendState(): void {
    this.#serial = Math.max(this.#serial, Math.floor(this.#options.clock.nowMs() / 1000));
    this.#post({ type: 'state', isSynced: this.#isSynced(), staleSinceMs: 0, serial: this.#serial });
  }

  #setNamespace(name: string, isGone: boolean): void {
    const visible = this.#options.visibleNamespaces;
    if (visible !== undefined && !visible.includes(name)) return;
    this.#post({ type: 'namespaces', set: isGone ? [] : [name], gone: isGone ? [name] : [] });
  }

  #setPod(key: string, pod: Pod, isGone: boolean): void {
    const addresses = isGone ? [] : podAddresses(pod);
    const { name, namespace = '' } = pod.metadata;
    this.#post(addresses.length === 0 ? { type: 'pods', set: [], gone: [key] } : { type: 'pods', set: [[namespace, name, addresses]], gone: [] });
  }

  /** Gives one thread the whole state, then lets it listen. */
  #replay(index: number): void {
    const { view, namespaces, pods, visibleNamespaces } = this.#options;
    const send = (message: DnsRequest): void => this.#channel.send(index, message);
    send({ type: 'reset' });
    send({ type: 'namespaces', set: [...namespaces.store.keys()].filter((name) => visibleNamespaces?.includes(name) ?? true), gone: [] });
    let batch: ServiceRecords[] = [];
    for (const info of view.values()) {
      const records = this.#plan(info.key);
      if (records !== undefined) batch.push(records);
      if (batch.length >= batchSize) { send({ type: 'services', set: batch, gone: [] }); batch = []; }
    }
    send({ type: 'services', set: batch, gone: [] });
    if (pods !== undefined && this.#podsMode === 'verified') {
      const set = [...pods.store.values()].map((pod) => [pod.metadata.namespace ?? '', pod.metadata.name, podAddresses(pod)] as const).filter((item) => item[2].length > 0);
      send({ type: 'pods', set, gone: [] });
    }
    this.#serial = Math.max(this.#serial, Math.floor(this.#options.clock.nowMs() / 1000));
    send({ type: 'state', isSynced: this.#isSynced(), staleSinceMs: 0, serial: this.#serial });
    // The first thread decides which free port is taken; the others follow once it is known.
    if (this.#isListening || index === 0) send({ type: 'listen', addresses: this.#addresses });
  }

  #receive(index: number, message: DnsReport): void {
    if (message.type === 'listening') {
      if (index !== 0 || this.#isListening) return;
      this.#addresses = message.addresses;
      this.#isListening = true;
      for (let other = 1; other < this.#pool.count; other++) this.#channel.send(other, { type: 'listen', addresses: this.#addresses });
      this.#options.log.info('dns listening', { addresses: this.#addresses.map((item) => `${item.address}:${item.port}`) });
      this.#listening.resolve();
    } else if (message.type === 'failed') {
      this.#listening.reject(listenError(message.code, message.text, message.address, message.port));
    }
  }
}

/** Addresses of a Pod that may have a name: it must not have ended or be about to. */
function podAddresses(pod: Pod): string[] {
  const { phase, podIP, podIPs } = pod.status ?? {};
  if (pod.metadata.deletionTimestamp !== undefined || phase === 'Succeeded' || phase === 'Failed' || phase === 'Unknown') return [];
  return [...new Set([...(podIPs ?? []).map((item) => item.ip), ...(podIP === undefined ? [] : [podIP])])];
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
