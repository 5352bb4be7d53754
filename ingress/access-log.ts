// Access log entries: what was asked, by whom, which object, rule and endpoint answered, how long it took. Opt-in. Lines
// are made in the worker and posted in batches; control bytes are escaped and credentials never appear (P-18).

import type { Clock } from '../api/clock.ts';
import type { Exchange } from '../proxy/http/exchange.ts';
import { fieldOf } from '../proxy/http/message/field-text.ts';
import { clientIP } from '../proxy/http/policy/auth.ts';

type FieldValue = string | number;
const readers: Readonly<Record<string, (exchange: Exchange, durationMs: number, nowMs: number) => FieldValue>> = Object.freeze({
  time: (_exchange, _durationMs, nowMs) => new Date(nowMs).toISOString(),
  clientIP: (exchange) => clientIP(exchange),
  method: (exchange) => exchange.head.method,
  scheme: (exchange) => exchange.peer.scheme,
  host: (exchange) => exchange.target.host,
  path: (exchange) => exchange.target.path + exchange.target.query,
  protocol: (exchange) => (exchange.down.version === 2 ? 'HTTP/2' : `HTTP/1.${exchange.down.version}`),
  status: (exchange) => exchange.status,
  reason: (exchange) => exchange.reason,
  requestBytes: (exchange) => exchange.requestBytes,
  responseBytes: (exchange) => exchange.responseBytes,
  durationMs: (_exchange, durationMs) => Math.round(durationMs * 1_000) / 1_000,
  object: (exchange) => exchange.route?.object ?? '',
  rule: (exchange) => exchange.route?.rule ?? '',
  backend: (exchange) => exchange.backend?.key ?? '',
  endpoint: (exchange) => exchange.endpointName,
  retries: (exchange) => exchange.retryCount,
  requestID: (exchange) => exchange.requestID,
  userAgent: (exchange) => fieldOf(exchange.head.text, 'user-agent') ?? '',
  referer: (exchange) => fieldOf(exchange.head.text, 'referer') ?? '',
  traceparent: (exchange) => fieldOf(exchange.head.text, 'traceparent') ?? '',
});

export const accessLogFields: readonly string[] = Object.freeze(Object.keys(readers));
const defaultFields: readonly string[] = Object.freeze(['time', 'clientIP', 'method', 'host', 'path', 'protocol', 'status', 'reason', 'requestBytes', 'responseBytes', 'durationMs', 'object', 'rule', 'endpoint', 'retries', 'requestID', 'userAgent']);

const batchBytesMax = 65_536;
const flushMs = 200;

export class AccessLog {
  readonly #format: 'text' | 'json';
  readonly #fields: readonly string[];
  readonly #clock: Clock;
  readonly #post: (lines: string) => void;
  #lines = '';
  #isScheduled = false;

  constructor(format: 'text' | 'json', fields: readonly string[] | undefined, clock: Clock, post: (lines: string) => void) {
    this.#format = format;
    this.#fields = (fields ?? defaultFields).filter((name) => readers[name] !== undefined);
    this.#clock = clock;
    this.#post = post;
  }

  write(exchange: Exchange, durationMs: number): void {
    const nowMs = this.#clock.nowMs();
    if (this.#format === 'json') {
      const entry: Record<string, FieldValue> = {};
      for (const name of this.#fields) entry[name] = readers[name]!(exchange, durationMs, nowMs);
      this.#lines += `${JSON.stringify(entry)}\n`;
    } else this.#lines += `${this.#fields.map((name) => `${name === 'time' ? '' : `${name}=`}${plain(readers[name]!(exchange, durationMs, nowMs))}`).join(' ')}\n`;
    if (this.#lines.length > batchBytesMax) this.flush();
    else if (!this.#isScheduled) {
      this.#isScheduled = true;
      this.#clock.after(flushMs, () => { this.#isScheduled = false; this.flush(); });
    }
  }

  flush(): void {
    if (this.#lines === '') return;
    const lines = this.#lines;
    this.#lines = '';
    this.#post(lines);
  }
}

function plain(value: FieldValue): string {
  if (typeof value === 'number') return String(value);
  return /^[\x21\x23-\x5b\x5d-\x7e]+$/.test(value) ? value : JSON.stringify(value).replace(/[\x7f-\xff]/g, (byte) => `\\x${byte.charCodeAt(0).toString(16)}`);
}
