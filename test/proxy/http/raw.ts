// Tools of the raw-bytes suites: expands case text, a scripted origin that records what it gets byte for byte and checks
// that every request it gets is valid, a client that sends exact bytes, a strict reader of what comes back.

import net from 'node:net';
import { systemClock } from '../../../api/clock.ts';
import { silentLog } from '../../../api/log.ts';
import { Backend } from '../../../proxy/http/endpoints.ts';
import { HttpEngine, type HttpTimeouts } from '../../../proxy/http/engine.ts';
import type { Route } from '../../../proxy/http/route.ts';

export type RawPart = string | { r: string; n: number } | { seq: string; n: number };

export function expand(raw: string | readonly RawPart[]): Buffer {
  const parts = typeof raw === 'string' ? [raw] : raw;
  return Buffer.from(parts.map((part) => (typeof part === 'string' ? part : 'r' in part ? part.r.repeat(part.n) : Array.from({ length: part.n }, (_, index) => part.seq.replaceAll('{i}', String(index))).join(''))).join(''), 'latin1');
}

export interface SeenRequest { raw: string; line: string; path: string; lines: string[]; body: string; faults: string[] }

/** Reads one message from `text`; undefined while it is not whole. Strict: a fault is listed. */
export function readMessage(text: string, options: { isRequest: boolean; isBodiless?: boolean; isClosed?: boolean }): { length: number; line: string; lines: string[]; body: string; faults: string[]; isWhole: boolean } | undefined {
  const end = text.indexOf('\r\n\r\n');
  if (end < 0) return undefined;
  const [line = '', ...lines] = text.slice(0, end).split('\r\n');
  const faults: string[] = [];
  const value = (name: string): string[] => lines.filter((item) => item.toLowerCase().startsWith(`${name}:`)).map((item) => item.slice(name.length + 1).trim());
  // eslint-disable-next-line no-control-regex
  if (/[\r\n\0]/.test([line, ...lines].join(''))) faults.push('bare CR, LF or NUL in the head');
  const lengths = value('content-length');
  const codings = value('transfer-encoding');
  if (lengths.length > 1) faults.push('two Content-Length');
  if (lengths.length > 0 && codings.length > 0) faults.push('Content-Length and Transfer-Encoding');
  if (options.isRequest && value('host').length !== 1) faults.push(`${value('host').length} Host lines`);
  const start = end + 4;
  if (options.isBodiless === true) return { length: start, line, lines, body: '', faults, isWhole: true };
  if (codings.length > 0) return readChunked(text, start, { line, lines, faults });
  if (lengths.length === 0 && !options.isRequest) return { length: text.length, line, lines, body: text.slice(start), faults, isWhole: options.isClosed === true };
  const length = Number(lengths[0] ?? 0);
  return { length: start + length, line, lines, body: text.slice(start, start + length), faults, isWhole: text.length >= start + length };
}

function readChunked(text: string, start: number, head: { line: string; lines: string[]; faults: string[] }): ReturnType<typeof readMessage> {
  let position = start;
  let body = '';
  for (;;) {
    const end = text.indexOf('\r\n', position);
    if (end < 0) return { ...head, length: text.length, body, isWhole: false };
    const size = text.slice(position, end);
    if (!/^[0-9a-f]+$/.test(size)) return { ...head, length: text.length, body, isWhole: false, faults: [...head.faults, `chunk size ${JSON.stringify(size)}`] };
    const count = parseInt(size, 16);
    if (count === 0) {
      const close = text.startsWith('\r\n', end + 2) ? end + 2 : text.indexOf('\r\n\r\n', end + 2) + 2;
      return close < end + 2 ? { ...head, length: text.length, body, isWhole: false } : { ...head, length: close + 2, body, isWhole: true };
    }
    body += text.slice(end + 2, end + 2 + count);
    if (text.length < end + 4 + count) return { ...head, length: text.length, body, isWhole: false };
    position = end + 4 + count;
  }
}

/** Answers 200 to each whole request and records it. */
export class Origin {
  readonly seen: SeenRequest[] = [];
  /** Requests of which only a part has come. */
  readonly sockets = new Set<net.Socket>();
  answer = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';
  readonly #server: net.Server;

  constructor() {
    this.#server = net.createServer((socket) => {
      this.sockets.add(socket);
      let text = '';
      socket.on('data', (bytes) => {
        text += bytes.toString('latin1');
        for (;;) {
          const message = readMessage(text, { isRequest: true });
          if (message === undefined || !message.isWhole) break;
          this.seen.push({ raw: text.slice(0, message.length), line: message.line, path: message.line.split(' ')[1] ?? '', lines: message.lines, body: message.body, faults: message.faults });
          text = text.slice(message.length);
          socket.write(message.line.startsWith('HEAD ') ? this.answer.replace(/\r\n\r\n[^]*$/, '\r\n\r\n') : this.answer, 'latin1');
        }
      });
      socket.on('error', () => {});
      socket.on('close', () => this.sockets.delete(socket));
    });
  }

  async listen(): Promise<number> {
    await new Promise<void>((resolve) => { this.#server.listen(0, '127.0.0.1', resolve); });
    return (this.#server.address() as net.AddressInfo).port;
  }

  close(): void {
    for (const socket of this.sockets) socket.destroy();
    this.#server.close();
  }
}

export interface Relay { port: number; engine: HttpEngine; server: net.Server; close(): Promise<void> }

/** An engine with the routes given: `[host, path prefix, origin ports]`, longest prefix first. */
export async function startRelay(routes: readonly (readonly [string, string, readonly number[]])[], timeouts: Partial<HttpTimeouts> = {}, more: Partial<ConstructorParameters<typeof HttpEngine>[0]> = {}): Promise<Relay> {
  const table = routes.map(([host, prefix, ports]) => ({
    host, prefix,
    route: { object: 't/x', rule: prefix, row: 0, reason: undefined, policy: undefined, timeouts: undefined, retry: undefined, backend: new Backend(`${host}${prefix}`, { protocol: 'http', tls: undefined, endpoints: ports.map((port) => ({ ip: '127.0.0.1', port })) }) } satisfies Route,
  }));
  const engine = new HttpEngine({
    router: { match: (host, path) => table.find((item) => item.host === host && (item.prefix === '/' || path === item.prefix || path.startsWith(`${item.prefix}/`)))?.route, explainMiss: () => ({ reason: 'no-host-rule', text: 'no rule' }) },
    clock: systemClock, log: silentLog, timeouts, ...more,
  });
  const server = net.createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true }, (socket) => engine.accept(socket, { scheme: 'http', isPaused: true }));
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  return { port: (server.address() as net.AddressInfo).port, engine, server, close: async () => { server.close(); for (const { route } of table) route.backend.close(); await engine.close(0); } };
}

export interface Answer { status: number; lines: string[]; body: string; isWhole: boolean; faults: string[] }
export interface RawResult { text: string; answers: Answer[]; interim: number[]; isClosed: boolean; isReset: boolean }

/** Sends bytes and collects what comes until `isDone`, the connection closes, or `quietMs` pass. */
export function talk(port: number, bytes: Buffer, options: { isDone?: (result: RawResult) => boolean; quietMs?: number; segment?: number | undefined; methods?: readonly string[]; isHalfClosed?: boolean } = {}): Promise<RawResult> {
  return new Promise((resolve) => {
    const socket = net.connect({ port, host: '127.0.0.1', noDelay: true, allowHalfOpen: true });
    let text = '';
    let isReset = false;
    let isClosed = false;
    let timer: NodeJS.Timeout | undefined;
    const finish = (): void => { clearTimeout(timer); socket.destroy(); resolve(read(text, isClosed, isReset, options.methods ?? [])); };
    const touch = (): void => { clearTimeout(timer); timer = setTimeout(finish, options.quietMs ?? 1_000); };
    touch();
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
      touch();
      if (options.isDone?.(read(text, false, false, options.methods ?? [])) === true) finish();
    });
    socket.on('end', () => { isClosed = true; finish(); });
    socket.on('error', (error: NodeJS.ErrnoException) => { if (error.code === 'ECONNRESET') isReset = true; });
    socket.on('close', () => { isClosed = true; finish(); });
    socket.on('connect', () => void send(socket, bytes, options.segment, options.isHalfClosed === true));
  });
}

async function send(socket: net.Socket, bytes: Buffer, segment: number | undefined, isHalfClosed: boolean): Promise<void> {
  if (segment === undefined) socket.write(bytes);
  else for (let start = 0; start < bytes.length && !socket.destroyed; start += segment) {
    socket.write(bytes.subarray(start, start + segment));
    await new Promise((resolve) => { setImmediate(resolve); });
  }
  if (isHalfClosed) socket.end();
}

function read(text: string, isClosed: boolean, isReset: boolean, methods: readonly string[]): RawResult {
  const answers: Answer[] = [];
  const interim: number[] = [];
  let rest = text;
  while (rest !== '') {
    const status = Number(rest.slice(9, 12));
    const isBodiless = status < 200 || status === 204 || status === 304 || methods[answers.length] === 'HEAD';
    const message = readMessage(rest, { isRequest: false, isBodiless, isClosed });
    if (message === undefined) { answers.push({ status, lines: [], body: rest, isWhole: false, faults: ['head not whole'] }); break; }
    if (status < 200 && status !== 101) interim.push(status);
    else answers.push({ status, lines: message.lines, body: message.body, isWhole: message.isWhole, faults: message.faults });
    rest = rest.slice(message.length);
    if (!message.isWhole) break;
  }
  return { text, answers, interim, isClosed, isReset };
}
