// Answers that the proxy gives itself: refusals of bad requests, no route, no endpoint, upstream trouble, redirects.
// Text body, exact length, Date and Server, and netloom-reason with one stable word that says why (for people and
// scripts). Nothing of the request is echoed but the host in its checked form.

import type { Exchange } from './exchange.ts';
import { bodyLength, bodyNone, type FailureKind } from './message/framing.ts';

export const statusTexts: Readonly<Record<number, string>> = Object.freeze({
  200: 'OK', 204: 'No Content', 301: 'Moved Permanently', 302: 'Found', 303: 'See Other', 307: 'Temporary Redirect', 308: 'Permanent Redirect',
  400: 'Bad Request', 401: 'Unauthorized', 403: 'Forbidden', 404: 'Not Found', 405: 'Method Not Allowed', 408: 'Request Timeout',
  413: 'Content Too Large', 414: 'URI Too Long', 417: 'Expectation Failed', 421: 'Misdirected Request', 429: 'Too Many Requests',
  431: 'Request Header Fields Too Large', 500: 'Internal Server Error', 501: 'Not Implemented', 502: 'Bad Gateway', 503: 'Service Unavailable',
  504: 'Gateway Timeout', 505: 'HTTP Version Not Supported', 508: 'Loop Detected',
});

const refusals: Readonly<Record<number, readonly [string, string]>> = Object.freeze({
  400: ['bad-request', 'the request is not valid HTTP'],
  405: ['method-not-allowed', 'CONNECT is not served here'],
  408: ['request-timeout', 'the request did not arrive in time'],
  413: ['body-too-large', 'the request body is over the limit'],
  414: ['target-too-long', 'the request target is over the limit'],
  417: ['expectation-failed', 'only Expect: 100-continue is understood'],
  431: ['head-too-large', 'the request head is over the limit'],
  501: ['not-implemented', 'the transfer coding is not supported'],
  505: ['version-not-supported', 'only HTTP/1.0, 1.1 and 2 are served'],
});

const failures: Readonly<Record<FailureKind, readonly [number, string, string]>> = Object.freeze({
  connect: [502, 'connect-failed', 'the endpoint could not be reached'],
  connectTimeout: [504, 'connect-timeout', 'the endpoint did not accept the connection in time'],
  reset: [502, 'upstream-reset', 'the endpoint closed the connection before it answered'],
  timeout: [504, 'upstream-timeout', 'the endpoint did not answer in time'],
  invalid: [502, 'upstream-invalid', 'the endpoint sent an answer that is not valid HTTP'],
  truncated: [502, 'upstream-truncated', 'the endpoint ended its answer too early'],
  status: [502, 'upstream-error', 'the endpoint answered with an error'],
  full: [503, 'overloaded', 'every endpoint of the backend is full'],
});

export class Answers {
  /** Answers and ends the exchange. `fields` are further field lines with CRLF. */
  send(exchange: Exchange, status: number, reason: string, text: string, fields = ''): void {
    const { engine } = exchange;
    exchange.reason = reason;
    const replace = exchange.replaces?.(status);
    if (replace !== undefined) {
      exchange.replaces = undefined;
      replace();
      return;
    }
    const hasBody = status !== 204 && status !== 304;
    const isHead = exchange.head.text.startsWith('HEAD ');
    const body = Buffer.from(`${text}\n`, 'utf8');
    let head = `HTTP/1.1 ${status} ${statusTexts[status] ?? 'Status'}\r\nServer: netloom\r\n`;
    if (reason !== '') head += `netloom-reason: ${reason}\r\n`;
    if (hasBody) head += `Content-Type: text/plain; charset=utf-8\r\nContent-Length: ${body.length}\r\n`;
    if (status === 503 || status === 429) head += 'Retry-After: 1\r\n';
    head += fields + exchange.responseFields + engine.dateLine();
    const { down } = exchange;
    exchange.responseBytes = hasBody && !isHead ? body.length : 0;
    exchange.isResponseStarted = true;
    exchange.finishLocally(status);
    if (hasBody && !isHead) down.sendHead(status, head, bodyLength, body, 0, body.length, true);
    else down.sendHead(status, head, bodyNone, undefined, 0, 0, true);
    down.sendEnd('');
  }

  redirect(exchange: Exchange, status: number, location: string): void {
    this.send(exchange, status, '', statusTexts[status] ?? 'Moved', `Location: ${location}\r\n`);
  }

  refuse(exchange: Exchange, status: number): void {
    const [reason, text] = refusals[status] ?? ['bad-request', 'the request cannot be served'];
    this.send(exchange, status, reason, text);
  }

  noRoute(exchange: Exchange): void {
    const { reason, text } = exchange.engine.router.explainMiss(exchange.target.host, exchange.target.path);
    this.send(exchange, 404, reason, text);
  }

  upstreamFailure(exchange: Exchange, kind: FailureKind): void {
    const [status, reason, text] = failures[kind];
    this.send(exchange, status, reason, text);
  }

  /** Answers with what a sub-request brought, under the status of the answer that it replaces. */
  relayWhole(exchange: Exchange, status: number, answer: { text: string; body: Buffer }): void {
    const lines = answer.text.slice(answer.text.indexOf('\r\n') + 2).split('\r\n').filter((line) => line !== '' && !/^(content-length|transfer-encoding|date|set-cookie):/i.test(line));
    const isHead = exchange.head.text.startsWith('HEAD ');
    const head = `HTTP/1.1 ${status} ${statusTexts[status] ?? 'Status'}\r\n${lines.map((line) => `${line}\r\n`).join('')}Content-Length: ${answer.body.length}\r\n${exchange.responseFields}${exchange.engine.dateLine()}`;
    const { down } = exchange;
    exchange.isResponseStarted = true;
    exchange.responseBytes = isHead ? 0 : answer.body.length;
    exchange.finishLocally(status);
    down.sendHead(status, head, isHead ? bodyNone : bodyLength, answer.body, 0, isHead ? 0 : answer.body.length, true);
    down.sendEnd('');
  }

  /** `OPTIONS *` asks about the server itself. */
  options(exchange: Exchange): void { this.send(exchange, 204, '', '', 'Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n'); }
}
