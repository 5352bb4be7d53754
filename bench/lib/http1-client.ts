// HTTP/1.1 load connections on bare sockets: one request in flight each, answers read by Content-Length, chunks or end of
// connection. Reconnects when the server closes. The request bytes are made once.

import { connect as connectPlain, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { Pacer, Slot } from './pacer.ts';
import type { LoadPlan } from './plan.ts';

export class Http1Slot implements Slot {
  intendedMs = 0;
  isBusy = false;
  deadlineMs = 0;
  readonly #plan: LoadPlan;
  readonly #pacer: Pacer;
  readonly #request: string;
  #socket: Socket | undefined;
  #isConnected = false;
  #sentCount = 0;
  #head = '';
  /** -1 reading the head, -2 until close, -3 chunked, else bytes to come. */
  #remaining = -1;
  #chunkText = '';
  #bytes = 0;
  #status = '';
  #key = '';
  #isLast = false;

  constructor(plan: LoadPlan, pacer: Pacer) {
    this.#plan = plan;
    this.#pacer = pacer;
    this.#request = requestText(plan);
  }

  send(): void {
    this.#head = '';
    this.#remaining = -1;
    this.#bytes = 0;
    this.#sentCount += 1;
    if (this.#socket === undefined) this.#connect();
    if (this.#isConnected) this.#socket?.write(this.#request, 'latin1');
  }

  abort(): void { this.#drop(); }

  #connect(): void {
    const { plan } = { plan: this.#plan };
    const onConnect = (): void => { this.#isConnected = true; if (this.isBusy) socket.write(this.#request, 'latin1'); };
    const socket: Socket = plan.isTls
      ? connectTls({ host: plan.host, port: plan.port, servername: plan.serverName, rejectUnauthorized: false, ALPNProtocols: ['http/1.1'] }, onConnect)
      : connectPlain({ host: plan.host, port: plan.port, noDelay: true }, onConnect);
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => { if (socket === this.#socket) this.#read(chunk); });
    socket.on('error', (error: NodeJS.ErrnoException) => { if (socket === this.#socket) this.#closed(this.#isConnected ? `connection ${error.code ?? 'error'}` : `connect ${error.code ?? error.message}`); });
    socket.on('close', () => { if (socket === this.#socket) this.#closed('closed'); });
  }

  #closed(kind: string): void {
    const isComplete = this.isBusy && this.#remaining === -2 && kind === 'closed';
    this.#drop();
    if (isComplete) this.#finish();
    else if (this.isBusy) { this.#pacer.fail(this, kind); setImmediate(() => this.#pacer.free(this)); }
  }

  #drop(): void {
    const socket = this.#socket;
    this.#socket = undefined;
    this.#isConnected = false;
    this.#sentCount = 0;
    socket?.destroy();
  }

  #read(chunk: Buffer): void {
    if (!this.isBusy) { this.#drop(); return; }
    this.#bytes += chunk.length;
    if (this.#remaining >= 0) { this.#remaining -= chunk.length; if (this.#remaining <= 0) this.#finish(); return; }
    if (this.#remaining === -2) return;
    if (this.#remaining === -3) { this.#readChunked(chunk.latin1Slice()); return; }
    const text = this.#head + chunk.latin1Slice();
    const end = text.indexOf('\r\n\r\n');
    if (end < 0) { this.#head = text; return; }
    this.#head = '';
    this.#readHead(text.slice(0, end), text.slice(end + 4));
  }

  #readHead(head: string, rest: string): void {
    this.#status = head.slice(9, 12);
    if (this.#status.startsWith('1') && this.#status !== '101') { this.#head = ''; this.#read(Buffer.from(rest, 'latin1')); return; }
    this.#isLast = /\r\nconnection: *close/i.test(head);
    const by = this.#plan.distributeBy;
    const isChunked = /\r\ntransfer-encoding: *chunked/i.test(head);
    const body = isChunked ? rest.slice(rest.indexOf('\r\n') + 2) : rest;
    this.#key = by === 'none' ? '' : by === 'body' ? (body.split('\n', 1)[0] ?? '').slice(0, 80) : headerOf(head, by.slice(7));
    if (this.#plan.method === 'HEAD' || this.#status === '204' || this.#status === '304') { this.#finish(); return; }
    const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1];
    if (length !== undefined) { this.#remaining = Number(length) - rest.length; if (this.#remaining <= 0) this.#finish(); return; }
    if (isChunked) { this.#remaining = -3; this.#chunkText = ''; this.#readChunked(rest); return; }
    this.#remaining = -2;
  }

  #readChunked(text: string): void {
    this.#chunkText += text;
    for (;;) {
      const line = this.#chunkText.indexOf('\r\n');
      if (line < 0) return;
      const size = Number.parseInt(this.#chunkText.slice(0, line), 16);
      if (Number.isNaN(size)) { this.#drop(); this.#pacer.fail(this, 'bad chunk'); this.#pacer.free(this); return; }
      const next = line + 2 + size + 2;
      if (this.#chunkText.length < next) return;
      this.#chunkText = this.#chunkText.slice(next);
      if (size === 0) { this.#finish(); return; }
    }
  }

  #finish(): void {
    this.#remaining = -1;
    const most = this.#plan.requestsPerConnection;
    if (this.#isLast || (most > 0 && this.#sentCount >= most)) this.#drop();
    this.#pacer.done(this, this.#bytes, this.#status, this.#key);
    this.#pacer.free(this);
  }
}

function headerOf(head: string, name: string): string {
  const lower = head.toLowerCase();
  const start = lower.indexOf(`\r\n${name.toLowerCase()}:`);
  return start < 0 ? '' : head.slice(start + name.length + 3, head.indexOf('\r\n', start + 2) < 0 ? undefined : head.indexOf('\r\n', start + 2)).trim();
}

/** The request head and body as they go over the wire. */
export function requestText(plan: LoadPlan): string {
  const headers: Record<string, string> = { Host: plan.serverName === '' ? `${plan.host}:${plan.port}` : plan.serverName, 'User-Agent': 'netloom-bench', Accept: '*/*', ...plan.headers };
  if (plan.body !== '') headers['Content-Length'] = String(Buffer.byteLength(plan.body));
  if (plan.requestsPerConnection === 1) headers['Connection'] = 'close';
  return `${plan.method} ${plan.path} HTTP/1.1\r\n${Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n${plan.body}`;
}
