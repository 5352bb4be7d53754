// The Ingress controller's main-thread side: watches Ingresses, classes, Secrets and the Service view, plans what changed
// and posts small updates to the data workers. Outside events only mark things dirty; a loop collects, plans and commits.
// Path: api/informer → plan.ts (one object) → claims.ts (all objects) + backends.ts → protocol.ts message → worker.ts.

import { randomBytes } from 'node:crypto';
import type { Registry } from 'prom-client';
import type { ApiClient } from '../api/client.ts';
import type { Clock, TimerHandle } from '../api/clock.ts';
import { NetloomError } from '../api/errors.ts';
import type { SharedInformers } from '../api/informer.ts';
import type { Log } from '../api/log.ts';
import { resources } from '../api/resources.ts';
import type { ServiceView } from '../api/services.ts';
import type { WorkerChannel } from '../api/workers.ts';
import type { ParsedAnnotations } from './annotations.ts';
import { BackendSet } from './backend-set.ts';
import { backendTls } from './backends.ts';
import { planCertificates, type CertificatePlan } from './certificates.ts';
import { Claims, type HostOwnership } from './claims.ts';
import { isOurs } from './classes.ts';
import { EventWriter } from './events.ts';
import { total } from './counters.ts';
import { explainUrl, type Explanation } from './explain.ts';
import { registerIngressMetrics } from './metrics.ts';
import { planIngress, type PlanFault } from './plan.ts';
import type { FromWorker, HostSpec, ListenMessage, RouteSpec, UpdateMessage } from './protocol.ts';
import { externalNameFault, type ExternalNameRules } from '../proxy/http/external-names.ts';
import { makeLimitMemory } from '../proxy/http/policy/limits.ts';
import { makeSelfSigned } from './self-signed.ts';
import { StatusWriter } from './status.ts';

export interface IngressControllerOptions {
  informers: SharedInformers; view: ServiceView; client: ApiClient;
  controllerName: string; className: string;
  /** 0 = a free port; readable as httpPort/httpsPort after start(). */
  httpPort: number; httpsPort: number; bind: string;
  workers: WorkerChannel; publishAddresses: readonly string[];
  clock: Clock; log: Log;
  accessLog?: 'text' | 'json'; accessLogFields?: readonly string[];
  /** Where access log lines go; default: the log, one entry each. */
  accessWrite?: (lines: string) => void;
  /** Milliseconds by name of HttpTimeouts, where they differ from the defaults. */
  timeouts?: Readonly<Record<string, number>>;
  connectionsMax?: number; connectionsPerSourceMax?: number;
  hostOwnership?: HostOwnership; mayServeClassless?: boolean;
  trustedCIDRs?: readonly string[]; isProxyProtocolOn?: boolean;
  /** ExternalName backends; default: refused with an Event (P-16). */
  externalNames?: Partial<ExternalNameRules>;
  /** Adds RFC 7239 Forwarded to requests. */
  isForwardedOn?: boolean;
  /** Milliseconds that a worker's event loop may be late before new requests get 503; 0 = any. */
  loadDelayMsMax?: number;
}

const flushDelayMs = 2;
const ticketKeyLifeMs = 86_400_000;
const listenTimeoutMs = 5_000;
/** Per worker; 45 % of a descriptor limit of 20,000. */
const defaultConnectionsMax = 9_000;

export class IngressController {
  readonly #options: IngressControllerOptions;
  readonly #claims: Claims;
  readonly #backends: BackendSet;
  readonly #events: EventWriter;
  readonly #status: StatusWriter;
  readonly #dirtyIngresses = new Set<string>();
  readonly #hostSpecs = new Map<string, HostSpec>();
  readonly #unsubscribe: (() => void)[] = [];
  /** The first worker was given its state before onStart() told about it. */
  #isFirstServed = false;
  #fallback: RouteSpec | null = null;
  #generation = 0;
  #isTlsDirty = true;
  #certificates: CertificatePlan = { specs: [], expiries: new Map() };
  #defaultCertificate: { certPem: string; keyPem: string } | undefined;
  readonly #counters = new Map<number, Float64Array>();
  readonly #applied = new Map<number, number>();
  readonly #pendingLive = new Map<number, number>();
  #observeLive: ((seconds: number) => void) | undefined;
  #dirtySinceMs = 0;
  #isScheduled = false;
  #isStarted = false;
  #ticketTimer: TimerHandle | undefined;
  #listen: ListenMessage | undefined;
  #firstListen: PromiseWithResolvers<{ httpPort: number; httpsPort: number }> | undefined;
  #httpPort = 0;
  #httpsPort = 0;

  constructor(options: IngressControllerOptions) {
    this.#options = options;
    this.#claims = new Claims(options.hostOwnership ?? 'shared');
    this.#events = new EventWriter(options.client, options.clock, options.log);
    this.#status = new StatusWriter(options.client, options.publishAddresses, options.clock, options.log);
    this.#backends = new BackendSet(options.view, (need) => ({ tls: backendTls(need, (key) => options.informers.secrets.store.get(key)), mayUseNames: options.externalNames?.isAllowed ?? false }));
  }

  get httpPort(): number { return this.#httpPort; }
  get httpsPort(): number { return this.#httpsPort; }

  /** Resolves when the routes of all present objects are in the workers and every listener is open. */
  async start(): Promise<void> {
    const { informers, view, workers, bind, httpPort, httpsPort } = this.#options;
    const { ingresses, ingressClasses, secrets } = informers;
    workers.onMessage((index, message) => this.#receive(index, message as FromWorker));
    this.#unsubscribe.push(
      ingresses.onChange(({ key }) => this.#markIngress(key)),
      ingressClasses.onChange(() => { for (const key of ingresses.store.keys()) this.#markIngress(key); }),
      secrets.onChange(({ key }) => this.#markSecret(key)),
      view.onDirty((key) => { if (this.#backends.markService(key)) this.#schedule(); }),
    );
    await Promise.all([ingresses.whenSynced(), ingressClasses.whenSynced(), secrets.whenSynced(), view.whenSynced()]);
    for (const key of ingresses.store.keys()) this.#dirtyIngresses.add(key);
    this.#isStarted = true;
    this.#flush();
    this.#listen = {
      type: 'listen', bind, httpPort, httpsPort,
      options: {
        trustedCIDRs: this.#options.trustedCIDRs ?? [], isProxyProtocolOn: this.#options.isProxyProtocolOn ?? false, secret: randomBytes(32).toString('hex'), limitMemory: makeLimitMemory(), sessionTicketKeys: randomBytes(48), isForwardedOn: this.#options.isForwardedOn ?? false,
        connectionsMax: this.#options.connectionsMax ?? defaultConnectionsMax, connectionsPerSourceMax: this.#options.connectionsPerSourceMax ?? defaultConnectionsMax, timeouts: this.#options.timeouts ?? {},
        externalNames: { isAllowed: false, denyRanges: [], allowRanges: [], servers: [], ...this.#options.externalNames },
        ...(this.#options.loadDelayMsMax === undefined ? {} : { loadDelayMsMax: this.#options.loadDelayMsMax }),
        ...(this.#options.accessLogFields === undefined ? {} : { accessLogFields: this.#options.accessLogFields }),
        ...(this.#options.accessLog === undefined ? {} : { accessLog: this.#options.accessLog }),
      },
    };
    await this.#openListeners();
    workers.onStart((index) => this.#replay(index));
    this.#rotateTicketKeys();
  }

  /** The first worker finds free ports; the others then bind the same ones. */
  async #openListeners(): Promise<void> {
    const { workers, clock, bind } = this.#options;
    const listen = this.#listen!;
    const first = this.#firstListen = Promise.withResolvers();
    workers.send(0, this.#fullUpdate());
    workers.send(0, listen);
    const timer = clock.after(listenTimeoutMs, () => first.reject(new NetloomError('Timeout', 'the Ingress workers did not open their listeners in time')), true);
    try {
      const ports = await first.promise;
      this.#httpPort = ports.httpPort;
      this.#httpsPort = ports.httpsPort;
      this.#listen = { ...listen, httpPort: ports.httpPort, httpsPort: ports.httpsPort };
    } catch (error) {
      throw error instanceof NetloomError ? error : new NetloomError('InternalError', `cannot listen on ${bind}`, { cause: error });
    } finally { timer.cancel(); }
    this.#isFirstServed = true;
  }

  /** Yesterday's tickets end in a full handshake; a stolen key opens one day at most. */
  #rotateTicketKeys(): void {
    this.#ticketTimer = this.#options.clock.after(ticketKeyLifeMs, () => {
      const keys = randomBytes(48);
      this.#listen = { ...this.#listen!, options: { ...this.#listen!.options, sessionTicketKeys: keys } };
      this.#options.workers.broadcast({ type: 'ticketKeys', keys });
      this.#rotateTicketKeys();
    });
  }

  #replay(index: number): void {
    if (index === 0 && this.#isFirstServed) { this.#isFirstServed = false; return; }
    this.#options.workers.send(index, this.#fullUpdate());
    this.#options.workers.send(index, this.#listen);
  }

  #receive(index: number, message: FromWorker): void {
    if (message.type === 'listening') this.#firstListen?.resolve(message);
    else if (message.type === 'counters') this.#counters.set(index, new Float64Array(message.buffer));
    else if (message.type === 'applied') this.#noteApplied(index, message.generation);
    else if (message.type === 'access') this.#writeAccess(message.lines);
    else if (message.type === 'listenFailed') {
      const error = listenError(message, this.#options.bind);
      this.#options.log.error('ingress listener failed', { port: message.port, err: error });
      this.#firstListen?.reject(error);
    }
  }

  /** The time from the first event of an update to the last worker that has applied it. */
  #noteApplied(index: number, generation: number): void {
    this.#applied.set(index, generation);
    const slowest = Math.min(...this.#applied.values());
    for (const [sent, startMs] of this.#pendingLive) {
      if (sent > slowest || this.#applied.size < this.#options.workers.count) continue;
      this.#pendingLive.delete(sent);
      this.#observeLive?.((this.#options.clock.monotonicMs() - startMs) / 1_000);
    }
  }

  #writeAccess(lines: string): void {
    const { accessWrite, log } = this.#options;
    if (accessWrite !== undefined) { accessWrite(lines); return; }
    for (const line of lines.split('\n')) if (line !== '') log.info('request', line.startsWith('{') ? JSON.parse(line) as Record<string, unknown> : { line });
  }

  #markIngress(key: string): void { this.#dirtyIngresses.add(key); this.#schedule(); }

  /** Certificates, credentials and client CAs come from Secrets: plan again what names this one. */
  #markSecret(key: string): void {
    for (const plan of this.#claims.plans()) {
      if (plan.tls.some((item) => item.secretKey === key)) { this.#isTlsDirty = true; this.#schedule(); }
      if (plan.annotations.secretKeys.includes(key)) this.#markIngress(plan.key);
    }
  }

  #schedule(): void {
    if (this.#isScheduled || !this.#isStarted) return;
    this.#isScheduled = true;
    this.#dirtySinceMs = this.#options.clock.monotonicMs();
    this.#options.clock.after(flushDelayMs, () => { this.#isScheduled = false; this.#flush(); }, true);
  }

  /** Collect, plan, diff, commit. */
  #flush(): void {
    const dirtyHosts = new Set<string>();
    let isFallbackDirty = false;
    for (const key of this.#dirtyIngresses) {
      const before = this.#claims.plan(key);
      for (const host of this.#planOne(key)) dirtyHosts.add(host);
      if (before?.fallback !== undefined || this.#claims.plan(key)?.fallback !== undefined) isFallbackDirty = true;
    }
    const planned = [...this.#dirtyIngresses];
    this.#dirtyIngresses.clear();
    const hosts: [string, HostSpec | null][] = [];
    for (const host of dirtyHosts) {
      const spec = this.#claims.host(host, (key, fault) => this.#tell(key, fault));
      // A write that changes nothing here (its status, labels) is no update for the workers.
      if (spec !== null && JSON.stringify(this.#hostSpecs.get(host)) === JSON.stringify(spec)) continue;
      if (spec === null) this.#hostSpecs.delete(host); else this.#hostSpecs.set(host, spec);
      hosts.push([host, spec]);
    }
    if (isFallbackDirty) this.#fallback = this.#claims.fallback();
    const backends = this.#backends.collect();
    this.#tellRefusedNames(planned, backends.map(([backendKey]) => backendKey));
    const certificates = this.#isTlsDirty ? this.#planTls() : undefined;
    if (hosts.length === 0 && backends.length === 0 && !isFallbackDirty && certificates === undefined) return;
    const update: UpdateMessage = {
      type: 'update', isFull: false, generation: ++this.#generation, hosts, backends, workerCount: this.#options.workers.count,
      ...(isFallbackDirty ? { fallback: this.#fallback } : {}), ...certificates,
    };
    if (this.#pendingLive.size < 1_000) this.#pendingLive.set(update.generation, this.#dirtySinceMs);
    this.#options.workers.broadcast(update);
  }

  /** An ExternalName backend that is refused is an Event on each Ingress that uses it. */
  #tellRefusedNames(ingresses: readonly string[], backendKeys: readonly string[]): void {
    const tell = (key: string, backendKey: string): void => {
      if (this.#backends.get(backendKey)?.reason !== 'external-name-refused') return;
      const need = this.#claims.plan(key)?.needs.get(backendKey);
      if (need === undefined) return;
      const name = this.#options.view.get(need.serviceKey)?.service.spec?.externalName ?? '';
      const why = externalNameFault(name) ?? 'is not allowed here (--ingress-external-names)';
      this.#tell(key, { reason: 'ExternalNameRefused', field: need.field, message: `${need.field}: Service ${need.serviceKey} is of type ExternalName and ${JSON.stringify(name.slice(0, 253))} ${why}: this path answers 503` });
    };
    for (const key of ingresses) for (const backendKey of this.#claims.plan(key)?.needs.keys() ?? []) tell(key, backendKey);
    for (const backendKey of backendKeys) for (const key of this.#backends.usersOf(backendKey)) tell(key, backendKey);
  }

  #planTls(): Pick<UpdateMessage, 'certificates' | 'defaultCertificate' | 'clientAuths'> {
    const { informers, clock } = this.#options;
    this.#isTlsDirty = false;
    this.#certificates = planCertificates(this.#claims.plans(), (key) => informers.secrets.store.get(key), clock.nowMs(), (key, fault) => this.#tell(key, fault));
    return this.#tlsState();
  }

  #tlsState(): Pick<UpdateMessage, 'certificates' | 'defaultCertificate' | 'clientAuths'> {
    this.#defaultCertificate ??= makeSelfSigned(['netloom.invalid'], this.#options.clock.nowMs());
    const clientAuths = [...this.#claims.plans()].flatMap((plan) => (plan.annotations.clientAuth === undefined ? [] : plan.hosts.map((host) => [host, plan.annotations.clientAuth!] as const)));
    return { certificates: this.#certificates.specs, defaultCertificate: this.#defaultCertificate, clientAuths };
  }

  #planOne(key: string): Set<string> {
    const { informers, controllerName, className, mayServeClassless } = this.#options;
    const ingress = informers.ingresses.store.get(key);
    const classes = informers.ingressClasses.store;
    const isServed = ingress !== undefined && isOurs(ingress, (name) => classes.get(name), () => classes.values(), { controllerName, className, mayServeClassless: mayServeClassless ?? false });
    const plan = isServed ? planIngress(ingress, (name) => informers.secrets.store.get(name)) : undefined;
    if (ingress === undefined) this.#status.forget(key); else this.#status.update(key, ingress, isServed);
    this.#backends.replaceUser(key, plan?.needs);
    const before = this.#claims.plan(key);
    if ((before?.tls.length ?? 0) > 0 || (plan?.tls.length ?? 0) > 0 || before?.annotations.clientAuth !== plan?.annotations.clientAuth) this.#isTlsDirty = true;
    const dirty = this.#claims.set(key, plan);
    for (const fault of plan?.faults ?? []) this.#tell(key, fault);
    const { backendProtocol, proxySsl } = plan?.annotations ?? {};
    if ((backendProtocol === 'https' || backendProtocol === 'h2') && !this.#mayVerify(proxySsl)) this.#options.log.warn('certificates of the backend are not verified', { ingress: key, field: proxySsl?.verify === false ? 'proxy-ssl-verify' : 'proxy-ssl-secret' });
    return dirty;
  }

  #mayVerify(options: ParsedAnnotations['proxySsl'] | undefined): boolean {
    const secret = options?.secretKey === undefined ? undefined : this.#options.informers.secrets.store.get(options.secretKey);
    return options?.verify ?? secret?.data?.['ca.crt'] !== undefined;
  }

  #tell(key: string, fault: PlanFault): void {
    const ingress = this.#options.informers.ingresses.store.get(key);
    if (ingress !== undefined) this.#events.write(resources.ingresses, ingress, 'Warning', fault.reason, fault.message);
  }

  #fullUpdate(): UpdateMessage {
    return {
      type: 'update', isFull: true, generation: this.#generation, hosts: [...this.#hostSpecs], backends: [...this.#backends.all()],
      fallback: this.#fallback, workerCount: this.#options.workers.count, ...this.#tlsState(),
    };
  }

  health(): { ok: boolean; detail?: string } { return { ok: this.#httpPort !== 0, detail: `${this.#claims.size} ingresses on port ${this.#httpPort}` }; }

  registerMetrics(registry: Registry): void {
    const { clock } = this.#options;
    this.#observeLive = registerIngressMetrics(registry, {
      workers: () => [...this.#counters.values()], rows: () => this.#claims.rows(), objectCount: () => this.#claims.size, hostCount: () => this.#hostSpecs.size,
      tableAgeSeconds: () => {
        const applied = [...this.#counters.values()].map((values) => values[total.appliedAtMs]!).filter((ms) => ms > 0);
        return applied.length === 0 ? 0 : (clock.nowMs() - Math.min(...applied)) / 1_000;
      },
      certificates: () => this.#certificates.expiries,
    }).observeLive;
  }

  /** Says why a URL goes where it goes, from the same tables that the workers have. */
  explain(url: string): Explanation { return explainUrl(url, this.#fullUpdate(), (key) => this.#options.informers.ingresses.store.get(key)); }

  async stop(_drainMs = 0): Promise<void> {
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    this.#status.stop();
    this.#ticketTimer?.cancel();
    this.#isStarted = false;
    this.#options.workers.broadcast({ type: 'drain' });
  }
}

function listenError(message: { code: string; port: number; message: string }, bind: string): NetloomError {
  if (message.code === 'EADDRINUSE') return new NetloomError('PortInUse', `port ${message.port} on ${bind} is already in use`, { hint: `stop the other process (ss -ltnp 'sport = :${message.port}') or choose another port with --http-port/--https-port` });
  if (message.code === 'EACCES') return new NetloomError('PermissionDenied', `not allowed to listen on port ${message.port}`, { hint: 'run as root, or choose a port above 1023 with --http-port/--https-port' });
  return new NetloomError('InternalError', `cannot listen on ${bind}:${message.port}: ${message.message}`);
}

