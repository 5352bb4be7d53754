// The audit log, when switched on: one JSON line per write and per refused request, saying who (and how they were
// recognised), what, and with which result. Never a body, token or Secret value. Reads that succeed are not written.
// Source: spec of Kubernetes audit.k8s.io/v1 Event, level Metadata (field names kept where they mean the same).

import { createWriteStream, type WriteStream } from 'node:fs';
import { isAbsolute, resolve } from 'node:path';
import type { Clock } from '../../api/clock.ts';
import type { Log } from '../../api/log.ts';
import type { Exchange } from './http/exchange.ts';
import type { RequestInfo } from './request-info.ts';

const readVerbs = new Set(['get', 'list', 'watch', 'head', 'options']);
/** Bytes that may wait for the disk; more lines are dropped and counted, so that a full disk stops no request. */
const pendingBytesMax = 4 << 20;

/** Writes the log; without a path it does nothing. */
export class Audit {
  readonly #clock: Clock;
  readonly #stream: WriteStream | undefined;
  #lastId = 0;
  droppedCount = 0;

  constructor(path: string | undefined, clock: Clock, log: Log) {
    this.#clock = clock;
    if (path === undefined) return;
    this.#stream = createWriteStream(isAbsolute(path) ? path : resolve(path), { flags: 'a', mode: 0o600 });
    this.#stream.on('error', (error) => log.error('audit log cannot be written', { path, err: error }));
  }

  record(exchange: Exchange, info: RequestInfo | undefined, status: number, failure: unknown): void {
    if (this.#stream === undefined) return;
    const isRefused = status === 401 || status === 403 || status === 429;
    if (!isRefused && (info === undefined || readVerbs.has(info.verb))) return;
    if (this.#stream.writableLength > pendingBytesMax) { this.droppedCount += 1; return; }
    const user = exchange.user?.impersonator ?? exchange.user;
    const actedAs = exchange.user?.impersonator === undefined ? undefined : exchange.user;
    const line = {
      kind: 'Event', apiVersion: 'audit.k8s.io/v1', level: 'Metadata', auditID: `${process.pid}-${++this.#lastId}`, stage: 'ResponseComplete',
      requestReceivedTimestamp: new Date(this.#clock.nowMs()).toISOString(), requestURI: exchange.path, verb: info?.verb ?? exchange.method.toLowerCase(),
      user: { username: user?.username ?? '', groups: user?.groups ?? [], method: user?.method ?? '' }, ...(actedAs === undefined ? {} : { impersonatedUser: { username: actedAs.username, groups: actedAs.groups } }), sourceIPs: exchange.peer.address === '' ? [] : [exchange.peer.address], userAgent: (exchange.headers['user-agent'] ?? '').slice(0, 200),
      ...(info?.isResource === true ? { objectRef: { apiGroup: info.group, apiVersion: info.version, resource: info.resource, subresource: info.subresource, namespace: info.namespace, name: info.name } } : {}),
      responseStatus: { code: status, ...(failure instanceof Error ? { reason: (failure as { code?: string }).code ?? failure.name } : {}) },
    };
    this.#stream.write(`${JSON.stringify(line)}\n`);
  }

  close(): Promise<void> {
    const stream = this.#stream;
    return stream === undefined ? Promise.resolve() : new Promise((done) => { stream.end(done); });
  }
}
