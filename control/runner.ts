// Puts one control plane together and takes it down again. Order at start: store and keys (side by side), admission,
// handler chain, listener, the objects that must exist, controllers. At stop: refuse new requests, end watches, let
// requests finish, then controllers, listener, store.

import { chmodSync, mkdirSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Registry as MetricsRegistry } from 'prom-client';
import { parseIP } from '../api/address.ts';
import { ApiClient, type ApiTransport } from '../api/client.ts';
import { isNotFound, NetloomError } from '../api/errors.ts';
import { buildKubeconfig, writeKubeconfig } from '../api/kubeconfig.ts';
import { resources } from '../api/resources.ts';
import { stringify } from 'yaml';
import { admissionChain, type Admission } from './admission/chain.ts';
import { Certificates, type KeyPair } from './certificates.ts';
import { nthAddress, parseConfig, type ControlConfig, type StartOptions } from './config.ts';
import { ensureBootstrapObjects } from './controllers/bootstrap/bootstrap.ts';
import { registerControllerMetrics } from './controllers/metrics.ts';
import { Leadership } from './leadership.ts';
import { registerControlMetrics } from './metrics.ts';
import { Renewal } from './renewal.ts';
import { ApiServer } from './server/api-server.ts';
import { Audit } from './server/audit.ts';
import { CrdCleanup } from './server/crd-cleanup.ts';
import { acceptFreedNames } from './server/crd-names.ts';
import { Authenticator } from './server/auth/authenticator.ts';
import { Authorizer, rbacResources } from './server/auth/authorizer.ts';
import { BootstrapTokens } from './server/auth/bootstrap-tokens.ts';
import { ServiceAccountTokens, tokenIssuer } from './server/auth/service-account-tokens.ts';
import { groupAuthenticated, groupMasters, groupNodes, nodeUserPrefix, type UserInfo } from './server/auth/user.ts';
import type { RequestContext, ServerParts } from './server/context.ts';
import { inProcessTransport } from './server/http/in-process.ts';
import { Listener } from './server/http/listener.ts';
import { joinHandler } from './server/join.ts';
import { Limiter } from './server/limits.ts';
import { RequestCounters } from './server/observer.ts';
import { Paths } from './server/paths.ts';
import { Registry, type Crd } from './server/registry.ts';
import { nodeForwarder } from './server/subresources/node-forward.ts';
import { NodeLink } from './server/subresources/node-link.ts';
import { signApproved } from './server/subresources/signing.ts';
import { tokenHandler } from './server/subresources/token.ts';
import { ClaimingWrites } from './server/verbs/claims.ts';
import { makeHooks } from './server/verbs/hooks.ts';
import { KeyedLock } from './server/verbs/locks.ts';
import { WatchSet } from './server/verbs/watch-set.ts';
import { sharedKeys } from './shared-keys.ts';
import type { ControlPlane, Identity, NodeCredentials } from './start.ts';
import { openStorage } from './storage/open.ts';
import { makeBackup } from './storage/sqlite/copies.ts';
import { follow } from './storage/follow.ts';
import type { Storage } from './storage/store.ts';

/** How long requests that are being worked on may take at stop. */
const drainMsMax = 5_000;

interface Running {
  storage: Storage; certificates: Certificates; admission: Admission; server: ApiServer; listener: Listener; watches: WatchSet; limiter: Limiter;
  counters: RequestCounters; audit: Audit; tokens: BootstrapTokens; rbacWatches: { stop(): void }[]; parts: ServerParts; cleanup: CrdCleanup; renewal: Renewal;
}

/** The running control plane behind `start`. */
export class ControlPlaneRunner implements ControlPlane {
  readonly #config: ControlConfig;
  #running: Running | undefined;
  #isReady = false;
  #leadership: Leadership | undefined;
  #proxy: ((context: RequestContext) => Promise<void>) | undefined;
  #moreListeners: Listener[] = [];
  kubeconfigPath = '';

  constructor(options: StartOptions) { this.#config = parseConfig(options); }

  get #r(): Running {
    if (this.#running === undefined) throw new NetloomError('ServiceUnavailable', 'the control plane is not running', { source: 'internal' });
    return this.#running;
  }

  get address(): string { return this.#r.listener.address; }
  get port(): number { return this.#r.listener.port; }
  get caPem(): string { return this.#r.certificates.serverAuthority.certPem; }
  get clientCaPem(): string { return this.#r.certificates.clientAuthority.certPem; }

  get url(): string {
    const address = this.address === '0.0.0.0' ? '127.0.0.1' : this.address === '::' ? '::1' : this.address;
    return `https://${address.includes(':') ? `[${address}]` : address}:${this.port}`;
  }

  async start(): Promise<void> {
    const config = this.#config;
    if (config.dataDir !== undefined) {
      mkdirSync(config.dataDir, { recursive: true, mode: 0o700 });
      chmodSync(config.dataDir, 0o700);
    }
    const { kind } = config.store;
    const storage = await openStorage({ ...config.store, clock: config.clock, log: config.log, ...(config.dataDir === undefined ? {} : { dataDir: config.dataDir }), ...(config.storageLimits === undefined ? {} : { limits: config.storageLimits }) });
    try {
      this.#running = this.#assemble(storage, new Certificates({ dataDir: config.dataDir, clock: config.clock, ...(kind === 'etcd' ? { shared: await sharedKeys(storage, config.clock) } : {}) }));
      await this.#running.listener.start();
      await ensureBootstrapObjects(this.#client('system:kube-controller-manager'), { serviceCIDRs: config.serviceCIDRs, dnsServiceIP: config.dnsServiceIP, apiPort: this.port });
    } catch (error) {
      this.#running?.listener.close();
      this.#running?.admission.stop();
      await storage.close();
      throw error;
    }
    this.#running.cleanup.start();
    this.#running.renewal.start();
    this.#leadership = new Leadership({ config, storage, caPem: this.caPem, port: this.port, address: this.address, transport: (user) => this.transport({ user, groups: [groupMasters] }) });
    this.#running?.admission.onConflicts((conflicts) => this.#leadership?.controllers?.reportConflicts(conflicts));
    await this.#leadership.start();
    this.#writeKubeconfig(this.#r.renewal.get('admin'));
    this.#isReady = true;
    config.log.info('control plane serves', { url: this.url, store: kind });
  }

  #client(user: string): ApiClient { return new ApiClient(this.transport({ user, groups: [groupMasters] }), { userAgent: user.slice(user.lastIndexOf(':') + 1) }); }

  #assemble(storage: Storage, certificates: Certificates): Running {
    const config = this.#config;
    const { clock, log } = config;
    const authorizer = new Authorizer(storage);
    const registry = new Registry(storage);
    const admission = admissionChain({
      storage, clock, log,
      config: {
        serviceCIDRs: config.serviceCIDRs, podCIDRs: [config.podCIDR], nodePortRange: { from: config.nodePortRange[0], to: config.nodePortRange[1] }, externalIPRanges: config.externalIPRanges,
        loopbackEndpointRanges: config.podCIDR.startsWith('127.') ? [config.podCIDR] : [], endpointRanges: [],
      },
      mayDo: (user, { verb, group, resource, subresource, namespace, name }) => authorizer.isAllowed(user, { isResource: true, path: '', verb, group, resource, subresource: subresource ?? '', namespace: namespace ?? '', name: name ?? '' }),
    });
    admission.start();
    const watches = new WatchSet({ total: config.limits.watches, perUser: config.limits.watchesPerUser });
    const parts: ServerParts = { storage, writes: new ClaimingWrites(storage, config.store.kind === 'etcd'), registry, watches, retries: new KeyedLock(), config, clock, log, hooks: makeHooks({ registry, authorizer, admission, serviceCIDRs: config.serviceCIDRs, podCIDR: config.podCIDR, clock }), onDefinitionMarked: (name) => cleanup.run(name) };
    const cleanup: CrdCleanup = new CrdCleanup(parts, async (crd) => { await this.#deleteCustomObjects(crd); });
    const tokens = new BootstrapTokens(storage, clock);
    const accounts = new ServiceAccountTokens(storage, clock, certificates.tokenKeyPem);
    const limiter = new Limiter(config.limits, clock);
    const counters = new RequestCounters();
    const audit = new Audit(config.auditLog, clock, log);
    const paths = new Paths({
      registry, caPem: certificates.serverAuthority.certPem, tokenKeys: () => accounts.keys(), tokenIssuer, metrics: async () => (await import('./metrics.ts')).renderMetrics(this),
      healthChecks: this.#healthChecks(storage), join: joinHandler(certificates, storage, config), backup: () => backupBytes(storage),
    });
    const names = this.#names();
    const renewal = this.#makeRenewal(certificates, names);
    // Loaded at the first use: http-proxy and what it brings are not needed by most.
    const proxy = async (context: RequestContext): Promise<void> => {
      const { proxyHandler } = await import('./server/service-proxy.ts');
      this.#proxy ??= proxyHandler({ podCIDR: config.podCIDR, serviceCIDRs: config.serviceCIDRs, ownAddresses: () => [{ address: this.address, port: this.port }] });
      await this.#proxy(context);
    };
    const link = new NodeLink({ pair: () => renewal.get('apiserver-node-client'), caPem: certificates.serverAuthority.certPem, clock, bind: config.bind });
    const server = new ApiServer({
      parts, authenticator: new Authenticator(tokens, accounts), authorizer, limiter, paths, audit, observer: counters, isKnownHost: knownHosts(names),
      createToken: tokenHandler(accounts), forwardToNode: nodeForwarder(link), proxy, onApproval: (name) => signApproved(parts, certificates, name),
    });
    const listener = this.#makeListener(certificates, renewal, server, config.bind, config.port);
    const rbacWatches = [
      ...rbacResources.map((resource) => follow(storage, resource, () => authorizer.invalidate(resource))),
      acceptFreedNames({ storage, registry, log, rewrite: (name) => this.#rewriteDefinition(name) }),
    ];
    return { storage, certificates, admission, server, listener, watches, limiter, counters, audit, tokens, rbacWatches, parts, cleanup, renewal };
  }

  async #deleteCustomObjects(crd: Crd): Promise<void> {
    const client = this.#client('system:apiextensions-apiserver');
    const version = crd.spec.versions.find((item) => item.served)?.name ?? '';
    const resource = { group: crd.spec.group, version, resource: crd.spec.names.plural, kind: crd.spec.names.kind, isNamespaced: crd.spec.scope === 'Namespaced' };
    const list = await client.list(resource);
    for (const item of list.items) await client.delete(resource, item.metadata.namespace, item.metadata.name).catch((error: unknown) => { if (!isNotFound(error)) throw error; });
  }

  async #rewriteDefinition(name: string): Promise<void> {
    const client = this.#client('system:apiextensions-apiserver');
    const resource = resources.customresourcedefinitions;
    await client.update(resource, await client.get(resource, undefined, name));
  }

  #makeRenewal(certificates: Certificates, names: readonly string[]): Renewal {
    const { clock, log } = this.#config;
    return new Renewal({
      clock, log, isFresh: (pair) => certificates.isFresh(pair),
      pairs: {
        apiserver: () => certificates.serving(names),
        'apiserver-node-client': () => certificates.client('apiserver-node-client', 'netloom-apiserver', [groupMasters]),
        admin: () => certificates.client('admin', 'netloom-admin', [groupMasters]),
      },
      onRenewed: (name, pair) => {
        if (name === 'apiserver') for (const one of [this.#r.listener, ...this.#moreListeners]) one.renew(pair.certPem, pair.keyPem);
        if (name === 'admin') this.#writeKubeconfig(pair);
      },
    });
  }

  #makeListener(certificates: Certificates, renewal: Renewal, server: ApiServer, bind: string, port: number): Listener {
    return new Listener({ bind, port, ...renewal.get('apiserver'), clientCaPem: certificates.clientAuthority.certPem, log: this.#config.log, onExchange: server.handle });
  }

  async listenOn(address: string): Promise<void> {
    const listener = this.#makeListener(this.#r.certificates, this.#r.renewal, this.#r.server, address, this.port);
    await listener.start();
    this.#moreListeners.push(listener);
  }

  #names(): string[] {
    const { config } = { config: this.#config };
    const service = 'kubernetes.default.svc';
    return [
      'localhost', '127.0.0.1', '::1', 'kubernetes', 'kubernetes.default', service, `${service}.${config.clusterDomain}`,
      ...config.serviceCIDRs.map((cidr) => nthAddress(cidr, 1)), ...(config.bind === '0.0.0.0' || config.bind === '::' ? [] : [config.bind]), ...(config.advertiseAddress === undefined ? [] : [config.advertiseAddress]), ...config.names,
    ];
  }

  #healthChecks(storage: Storage): { name: string; check(): { ok: boolean; detail?: string | undefined } }[] {
    return [
      { name: 'ping', check: () => ({ ok: true }) },
      { name: 'store', check: () => { const stats = storage.stats(); return { ok: stats.isWritable, detail: stats.detail }; } },
      { name: 'bootstrap', check: () => ({ ok: this.#isReady, detail: 'not finished' }) },
    ];
  }

  #writeKubeconfig(pair: KeyPair): void {
    const { dataDir, kubeconfigOut } = this.#config;
    const path = kubeconfigOut ?? (dataDir === undefined ? undefined : join(dataDir, 'kubeconfig'));
    if (path === undefined) return;
    writeKubeconfig(path, buildKubeconfig({ server: this.url, caPem: this.caPem, ...pair }));
    this.kubeconfigPath = path;
  }

  kubeconfig(user = 'netloom-admin', groups: readonly string[] = user === 'netloom-admin' ? [groupMasters] : []): string {
    return stringify(buildKubeconfig({ server: this.url, caPem: this.caPem, ...this.#r.certificates.issueClient(user, groups), user }), { lineWidth: 0 });
  }

  transport(identity: Identity): ApiTransport {
    const { server } = this.#r;
    const groups = identity.groups.includes(groupAuthenticated) ? [...identity.groups] : [...identity.groups, groupAuthenticated];
    // Only system identities among the masters count as netloom itself; all others are held to the rules like callers from outside.
    const isOwn = groups.includes(groupMasters) && identity.user.startsWith('system:');
    const user: UserInfo = { username: identity.user, groups, method: isOwn ? 'inProcess' : 'certificate' };
    return inProcessTransport(user, server.handle);
  }

  issueNodeCredentials(nodeName: string): NodeCredentials {
    return { ...this.#r.certificates.issueClient(`${nodeUserPrefix}${nodeName}`, [groupNodes]), caPem: this.caPem };
  }

  servingCertificate(names: readonly string[], ips: readonly string[] = []): KeyPair {
    return this.#r.certificates.issueServing(`${nodeUserPrefix}${names[0] ?? ''}`, [...names, ...ips]);
  }

  async createJoinToken(): Promise<string> {
    const { token, secret } = this.#r.tokens.make(this.#r.certificates.serverAuthority.fingerprint);
    await this.#client('netloom-admin').create(resources.secrets, 'kube-system', secret);
    return token.token;
  }

  whenReady(): Promise<void> { return this.#leadership?.whenReady() ?? Promise.resolve(); }

  registerMetrics(registry: MetricsRegistry): void {
    const { storage, counters, limiter, watches, listener, server, audit } = this.#r;
    registerControlMetrics(registry, { storage, counters, limiter, watches, listener, server, audit });
    registerControllerMetrics(registry, { controllers: () => this.#leadership?.controllers, allocator: this.#r.admission.allocator });
  }

  health(): { ok: boolean; detail?: string } {
    if (this.#running === undefined || !this.#isReady) return { ok: false, detail: 'starting' };
    const stats = this.#running.storage.stats();
    if (!stats.isWritable) return { ok: false, detail: stats.detail ?? 'the store takes no writes' };
    return this.#leadership?.health() ?? { ok: true };
  }

  async stop(): Promise<void> {
    const running = this.#running;
    if (running === undefined) return;
    this.#isReady = false;
    await this.#leadership?.stop();
    const { server, watches, listener, admission, rbacWatches, audit, storage } = running;
    const drained = server.drain();
    watches.endAll();
    for (const one of [listener, ...this.#moreListeners]) one.close();
    let timer: { cancel(): void } | undefined;
    await Promise.race([drained, new Promise<void>((resolve) => { timer = this.#config.clock.after(drainMsMax, resolve, true); })]);
    timer?.cancel();
    for (const watch of rbacWatches) watch.stop();
    admission.stop();
    running.cleanup.stop();
    running.renewal.stop();
    for (const one of [listener, ...this.#moreListeners]) one.destroy();
    await audit.close();
    await storage.close();
    this.#running = undefined;
  }
}

/** The bytes of a backup, made beside the system's other temporary files in a folder of its own that only we may read. */
async function backupBytes(storage: Storage): Promise<Buffer> {
  const folder = await mkdtemp(join(tmpdir(), 'netloom-backup-'));
  try {
    await makeBackup(join(folder, 'store.db'), storage);
    return await readFile(join(folder, 'store.db'));
  } finally { await rm(folder, { recursive: true, force: true }); }
}

/** Names that may stand in a Host header: ours, and any address literal, which no foreign DNS name can pose as. */
function knownHosts(names: readonly string[]): (host: string) => boolean {
  const known = new Set(names.map((name) => name.toLowerCase()));
  return (host) => {
    const name = host.replace(/:\d+$/, '').replace(/^\[|\]$/g, '').toLowerCase();
    return known.has(name) || parseIP(name) !== undefined;
  };
}
