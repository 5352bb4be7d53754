// The certificates of one worker: chosen by SNI, exact name before wildcard; unknown names get the default certificate,
// never another tenant's (I-7). Contexts are built when first needed and replaced whole on change, so the next handshake
// uses the new certificate and open connections stay (rules 30–34). Called by worker.ts.

import type { TLSSocket } from 'node:tls';
import tls from 'node:tls';
import type { CertificateSpec, ClientAuthSpec } from './protocol.ts';

/** AEAD with forward secrecy only; TLS 1.3 suites first. */
const ciphers = 'TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305';

interface Entry { readonly spec: CertificateSpec; readonly contexts: Map<string, tls.SecureContext> }

export class CertificateStore {
  readonly #names = new Map<string, Entry>();
  #default: Entry | undefined;
  #clientAuths = new Map<string, ClientAuthSpec>();

  /** Replaces all certificates; entries whose content is the same keep their contexts. */
  set(specs: readonly CertificateSpec[]): void {
    const before = new Map([...this.#names.values()].map((entry) => [`${entry.spec.certPem}${entry.spec.keyPem}`, entry]));
    this.#names.clear();
    for (const spec of specs) {
      const entry: Entry = { spec, contexts: before.get(`${spec.certPem}${spec.keyPem}`)?.contexts ?? new Map() };
      for (const name of spec.names) if (!this.#names.has(name)) this.#names.set(name, entry);
    }
  }

  setDefault(certPem: string, keyPem: string): void {
    if (this.#default?.spec.certPem !== certPem) this.#default = { spec: { certPem, keyPem, names: [] }, contexts: new Map() };
  }

  setClientAuths(auths: readonly (readonly [string, ClientAuthSpec])[]): void {
    this.#clientAuths = new Map(auths);
    for (const entry of this.#names.values()) entry.contexts.clear();
    this.#default?.contexts.clear();
  }

  #find(name: string): Entry | undefined {
    const dot = name.indexOf('.');
    return this.#names.get(name) ?? (dot > 0 ? this.#names.get(`*${name.slice(dot)}`) : undefined);
  }

  clientAuth(name: string): ClientAuthSpec | undefined { return this.#clientAuths.get(name); }

  /** The context for a TLS name; undefined when there is not even a default certificate. */
  context(name: string): tls.SecureContext | undefined {
    const entry = this.#find(name) ?? this.#default;
    if (entry === undefined) return undefined;
    const auth = this.#clientAuths.get(name);
    const key = auth === undefined ? '' : name;
    let context = entry.contexts.get(key);
    if (context === undefined) {
      context = tls.createSecureContext({
        cert: entry.spec.certPem, key: entry.spec.keyPem, minVersion: 'TLSv1.2', ciphers, honorCipherOrder: true, ecdhCurve: 'X25519:P-256:P-384',
        ...(auth === undefined ? {} : { ca: auth.caPem }),
      });
      entry.contexts.set(key, context);
    }
    return context;
  }

  /** Whether a request for `host` must not be served on a connection opened for `serverName` (421): its certificate does not cover that host, and another does. */
  isMisdirected(serverName: string, host: string): boolean {
    if (host === serverName) return false;
    if (this.#clientAuths.has(host) || this.#clientAuths.has(serverName)) return true;
    const own = this.#find(serverName);
    return own !== undefined && this.#find(host) !== own;
  }
}

/** Makes the TLS listener; a handshake that fails or throws ends only its own connection. */
export function createTlsServer(store: CertificateStore, options: { ticketKeys?: Uint8Array | undefined; handshakeTimeoutMs: number }, onSecure: (socket: TLSSocket, serverName: string) => void, onFailure: () => void): tls.Server {
  const server = tls.createServer({
    ALPNProtocols: ['h2', 'http/1.1'], minVersion: 'TLSv1.2', ciphers, honorCipherOrder: true, allowHalfOpen: true, noDelay: true,
    handshakeTimeout: options.handshakeTimeoutMs, ...(options.ticketKeys === undefined ? {} : { ticketKeys: Buffer.from(options.ticketKeys) }),
    SNICallback(this: unknown, name, callback) {
      try {
        const serverName = name.toLowerCase();
        const context = store.context(serverName);
        if (store.clientAuth(serverName) !== undefined) requestCertificate(this);
        callback(null, context);
      } catch (error) { callback(error as Error); }
    },
  });
  server.on('secureConnection', (socket) => onSecure(socket, typeof socket.servername === 'string' ? socket.servername.toLowerCase() : ''));
  server.on('tlsClientError', (_error, socket) => { onFailure(); socket.destroy(); });
  return server;
}

/** Asks this one client for a certificate. Node has the switch per server only; its TLS handle has it per connection. */
function requestCertificate(socket: unknown): void {
  const inner = socket as { _requestCert?: boolean; _rejectUnauthorized?: boolean; _handle?: { setVerifyMode?: (isRequested: boolean, mayReject: boolean) => void } } | undefined;
  if (inner === undefined || typeof inner._handle?.setVerifyMode !== 'function') throw new Error('client certificates cannot be requested');
  inner._handle.setVerifyMode(true, false);
  // The verdict is read per request (policy/auth.ts), where it can be answered in words.
  inner._requestCert = true;
  inner._rejectUnauthorized = false;
}
