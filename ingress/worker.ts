// The Ingress data plane of one worker thread: its own reusePort listeners, the HTTP engine, the route table. Started by
// api/workers.ts; told what to do by controller.ts through the messages of protocol.ts.

import net from 'node:net';
import type tls from 'node:tls';
import v8 from 'node:v8';
import { parseCIDR } from '../api/address.ts';
import type { WorkerContext, WorkerSide } from '../api/workers.ts';
import { HttpEngine, type ClientCertificate } from '../proxy/http/engine.ts';
import type { FromWorker, ListenMessage, ToWorker } from './protocol.ts';
import { RouteTable } from './table.ts';
import { CertificateStore, createTlsServer } from './tls.ts';

const backlog = 4_096;
const handshakeTimeoutMs = 10_000;

export function startWorker(context: WorkerContext): WorkerSide {
  // Path expressions of tenants run in V8's linear-time engine only; the flag admits its `l` mark.
  v8.setFlagsFromString('--enable-experimental-regexp-engine');
  const worker = new IngressWorker(context);
  return { receive: (message) => worker.receive(message as ToWorker), stop: (drainMs) => worker.stop(drainMs) };
}

class IngressWorker {
  readonly #context: WorkerContext;
  #table: RouteTable = new RouteTable();
  #engine: HttpEngine | undefined;
  readonly #certificates = new CertificateStore();
  #tlsServer: tls.Server | undefined;
  #default: { certPem: string; keyPem: string } | undefined;
  readonly #servers: net.Server[] = [];

  constructor(context: WorkerContext) { this.#context = context; }

  #post(message: FromWorker): void { this.#context.post(message); }

  receive(message: ToWorker): void {
    if (message.type === 'update') {
      this.#table.apply(message);
      if (message.certificates !== undefined) this.#certificates.set(message.certificates);
      if (message.clientAuths !== undefined) this.#certificates.setClientAuths(message.clientAuths);
      if (message.defaultCertificate !== undefined) this.#setDefault(message.defaultCertificate);
      this.#post({ type: 'applied', generation: message.generation });
    } else if (message.type === 'listen') void this.#listen(message);
    else this.#engine?.drain();
  }

  async #listen(message: ListenMessage): Promise<void> {
    const { clock, log } = this.#context;
    const trusted = message.options.trustedCIDRs.flatMap((text) => parseCIDR(text) ?? []);
    const engine = this.#engine = new HttpEngine({
      router: this.#table, clock, log, timeouts: message.options.timeouts, isTrusted: (ip) => trusted.some((cidr) => cidr.contains(ip)),
      connectionsMax: message.options.connectionsMax, connectionsPerSourceMax: message.options.connectionsPerSourceMax,
    });
    const tlsServer = this.#tlsServer = createTlsServer(this.#certificates, { ticketKeys: message.options.sessionTicketKeys, handshakeTimeoutMs }, (socket, serverName) => this.#acceptTls(engine, socket, serverName), () => {});
    if (this.#default !== undefined) this.#setDefault(this.#default);
    try {
      const server = net.createServer({ allowHalfOpen: true, noDelay: true }, (socket) => engine.accept(socket, { scheme: 'http' }));
      const httpPort = await this.#bind(server, message.bind, message.httpPort);
      const httpsPort = await this.#bind(tlsServer, message.bind, message.httpsPort);
      this.#post({ type: 'listening', httpPort, httpsPort });
    } catch (error) {
      const { code, port, message: text } = error as NodeJS.ErrnoException & { port?: number };
      this.#post({ type: 'listenFailed', code: code ?? 'UNKNOWN', port: port ?? message.httpPort, message: text });
    }
  }

  #setDefault(pair: { certPem: string; keyPem: string }): void {
    this.#default = pair;
    this.#certificates.setDefault(pair.certPem, pair.keyPem);
    this.#tlsServer?.setSecureContext({ cert: pair.certPem, key: pair.keyPem, minVersion: 'TLSv1.2' });
  }

  #acceptTls(engine: HttpEngine, socket: tls.TLSSocket, serverName: string): void {
    const store = this.#certificates;
    engine.accept(socket, {
      scheme: 'https', serverName, ...(typeof socket.alpnProtocol === 'string' ? { alpn: socket.alpnProtocol } : {}),
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
