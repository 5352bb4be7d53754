// The Ingress data plane of one worker thread: its own reusePort listeners, the HTTP engine, the route table. Started by
// api/workers.ts; told what to do by controller.ts through the messages of protocol.ts.

import net from 'node:net';
import type tls from 'node:tls';
import { parseCIDR } from '../api/address.ts';
import type { WorkerContext, WorkerSide } from '../api/workers.ts';
import { HttpEngine, type ClientCertificate } from '../proxy/http/engine.ts';
import { ExternalNames } from '../proxy/http/external-names.ts';
import { openSharedLimits } from '../proxy/http/policy/limits.ts';
import { readProxyHeader } from '../proxy/http/message/proxy-header.ts';
import { AccessLog } from './access-log.ts';
import { CountingObserver, makeCounterMemory, total } from './counters.ts';
import type { FromWorker, ListenMessage, ToWorker } from './protocol.ts';
import { RouteTable } from './table.ts';
import { CertificateStore, createTlsServer } from './tls.ts';

const backlog = 4_096;
const handshakeTimeoutMs = 10_000;
const proxyHeaderTimeoutMs = 5_000;

export function startWorker(context: WorkerContext): WorkerSide {
  const worker = new IngressWorker(context);
  return { receive: (message) => worker.receive(message as ToWorker), stop: (drainMs) => worker.stop(drainMs) };
}

class IngressWorker {
  readonly #context: WorkerContext;
  #table: RouteTable = new RouteTable();
  #engine: HttpEngine | undefined;
  readonly #certificates = new CertificateStore();
  #tlsServer: tls.Server | undefined;
  #ticketKeys: Buffer | undefined;
  #default: { certPem: string; keyPem: string } | undefined;
  readonly #servers: net.Server[] = [];
  readonly #memory = makeCounterMemory();
  /** Client addresses from PROXY headers of connections that go on to TLS. */
  readonly #peers = new WeakMap<object, string>();
  #observer: CountingObserver | undefined;
  #accessLog: AccessLog | undefined;

  constructor(context: WorkerContext) { this.#context = context; }

  #post(message: FromWorker): void { this.#context.post(message); }

  receive(message: ToWorker): void {
    if (message.type === 'update') {
      this.#table.apply(message);
      if (message.certificates !== undefined) this.#certificates.set(message.certificates);
      if (message.clientAuths !== undefined) this.#certificates.setClientAuths(message.clientAuths);
      if (message.defaultCertificate !== undefined) this.#setDefault(message.defaultCertificate);
      if (this.#observer !== undefined) this.#observer.values[total.appliedAtMs] = this.#context.clock.nowMs();
      this.#post({ type: 'applied', generation: message.generation });
    } else if (message.type === 'listen') {
      this.#table.secret = message.options.secret;
      this.#table.sharedLimits = openSharedLimits(message.options.limitMemory);
      void this.#listen(message);
    }
    else if (message.type === 'ticketKeys') this.#setTicketKeys(message.keys);
    else this.#engine?.drain();
  }

  async #listen(message: ListenMessage): Promise<void> {
    const { clock, log } = this.#context;
    const { options } = message;
    this.#post({ type: 'counters', buffer: this.#memory });
    const trusted = options.trustedCIDRs.flatMap((text) => parseCIDR(text) ?? []);
    const accessLog = this.#accessLog = options.accessLog === undefined ? undefined : new AccessLog(options.accessLog, options.accessLogFields, clock, (lines) => this.#post({ type: 'access', lines }));
    const observer = this.#observer = new CountingObserver(this.#memory, accessLog === undefined ? undefined : (exchange, durationMs) => accessLog.write(exchange, durationMs));
    const { externalNames } = options;
    const names = !externalNames.isAllowed ? {} : { lookup: new ExternalNames(externalNames, clock, (name, fault) => {
      observer.limited('external_name');
      log.warn('external name refused', { name, fault });
    }).lookup };
    const engine = this.#engine = new HttpEngine({
      router: this.#table, clock, log, observer, timeouts: options.timeouts, isTrusted: (ip) => trusted.some((cidr) => cidr.contains(ip)),
      connectionsMax: options.connectionsMax, connectionsPerSourceMax: options.connectionsPerSourceMax, ...names, isForwardedOn: options.isForwardedOn,
      ...(options.loadDelayMsMax === undefined ? {} : { load: { delayMsMax: options.loadDelayMsMax } }),
    });
    this.#ticketKeys = Buffer.from(options.sessionTicketKeys);
    const onFailure = (): void => { observer.values[total.handshakeFailures] = observer.values[total.handshakeFailures]! + 1; };
    const tlsServer = this.#tlsServer = createTlsServer(this.#certificates, { ticketKeys: options.sessionTicketKeys, handshakeTimeoutMs }, (socket, serverName) => this.#acceptTls(engine, socket, serverName), onFailure);
    if (this.#default !== undefined) this.#setDefault(this.#default);
    const server = net.createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true }, (socket) => engine.accept(socket, { scheme: 'http', isPaused: true }));
    const isProxied = options.isProxyProtocolOn;
    try {
      const httpPort = await this.#bind(isProxied ? this.#proxied((socket, peerIP, first) => {
        engine.accept(socket, { scheme: 'http', first, ...(peerIP === undefined ? {} : { peerIP }) });
        socket.resume();
      }) : server, message.bind, message.httpPort);
      const httpsPort = await this.#bind(isProxied ? this.#proxied((socket, peerIP, first) => {
        if (peerIP !== undefined) this.#peers.set(socket, peerIP);
        if (first.length > 0) socket.unshift(first);
        tlsServer.emit('connection', socket);
      }) : tlsServer, message.bind, message.httpsPort);
      this.#post({ type: 'listening', httpPort, httpsPort });
    } catch (error) {
      const { code, port, message: text } = error as NodeJS.ErrnoException & { port?: number };
      this.#post({ type: 'listenFailed', code: code ?? 'UNKNOWN', port: port ?? message.httpPort, message: text });
    }
  }

  /** A listener that takes a PROXY header off each connection first; a connection without one is closed. */
  #proxied(onSocket: (socket: net.Socket, peerIP: string | undefined, first: Buffer) => void): net.Server {
    return net.createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      let bytes: Buffer = Buffer.alloc(0);
      const timer = this.#context.clock.after(proxyHeaderTimeoutMs, () => socket.destroy());
      const onData = (chunk: Buffer): void => {
        bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk]);
        const header = readProxyHeader(bytes);
        if (header === 'more') return;
        timer.cancel();
        socket.off('data', onData);
        socket.off('error', onError);
        socket.pause();
        if (header === 'bad') { socket.destroy(); return; }
        onSocket(socket, header.ip, bytes.subarray(header.length));
      };
      const onError = (): void => { timer.cancel(); };
      socket.on('data', onData);
      socket.on('error', onError);
      socket.on('close', () => timer.cancel());
    });
  }

  #setDefault(pair: { certPem: string; keyPem: string }): void {
    this.#default = pair;
    this.#certificates.setDefault(pair.certPem, pair.keyPem);
    // Without the keys here the server would fall back to keys of its own, which no other worker knows.
    this.#tlsServer?.setSecureContext({ cert: pair.certPem, key: pair.keyPem, minVersion: 'TLSv1.2', ...(this.#ticketKeys === undefined ? {} : { ticketKeys: this.#ticketKeys }) });
  }

  #setTicketKeys(keys: Uint8Array): void {
    this.#ticketKeys = Buffer.from(keys);
    this.#tlsServer?.setTicketKeys(this.#ticketKeys);
  }

  #acceptTls(engine: HttpEngine, socket: tls.TLSSocket, serverName: string): void {
    const store = this.#certificates;
    const peerIP = this.#peers.get((socket as unknown as { _parent?: net.Socket })._parent ?? socket);
    engine.accept(socket, {
      scheme: 'https', serverName, ...(peerIP === undefined ? {} : { peerIP }), ...(typeof socket.alpnProtocol === 'string' ? { alpn: socket.alpnProtocol } : {}),
      ...(serverName === '' ? {} : { misdirected: (host: string) => store.isMisdirected(serverName, host) }),
      ...(store.clientAuth(serverName) === undefined ? {} : { clientCertificate: readCertificate(socket) }),
    });
  }

  #bind(server: net.Server, host: string, port: number): Promise<number> {
    this.#servers.push(server);
    return new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host, port, backlog, reusePort: true }, () => resolve((server.address() as net.AddressInfo).port));
    });
  }

  async stop(drainMs: number): Promise<void> {
    for (const server of this.#servers) server.close();
    await this.#engine?.close(drainMs);
    this.#accessLog?.flush();
  }
}

function readCertificate(socket: tls.TLSSocket): ClientCertificate {
  const certificate = socket.getPeerX509Certificate();
  const line = (text: string): string => text.split('\n').reverse().join(',');
  return {
    isVerified: certificate !== undefined && socket.authorized, error: certificate === undefined ? 'NONE' : String(socket.authorizationError ?? ''),
    subject: line(certificate?.subject ?? ''), issuer: line(certificate?.issuer ?? ''), fingerprint: (certificate?.fingerprint ?? '').replaceAll(':', '').toLowerCase(), pem: certificate?.toString() ?? '',
  };
}
