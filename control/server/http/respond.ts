// Writes answers: JSON or YAML objects, text, Status errors, and long lists in pieces, gzipped above 128 KiB where the
// client takes it. Warnings collected on the way go out as headers.
// Source: kubernetes/apiserver endpoints/handlers/responsewriters/writers.go; RFC 7234 §5.5 (Warning).

import { once } from 'node:events';
import { constants, createGzip, gzip, type Gzip } from 'node:zlib';
import { NetloomError, toStatus } from '../../../api/errors.ts';
import type { Status } from '../../../api/types.ts';
import type { Exchange, Reply } from './exchange.ts';

/** Bodies at least this long are compressed. */
export const gzipBytesMin = 128 * 1024;
/** A list goes out in pieces of about this many characters. */
const pieceLength = 256 * 1024;

/** The value of a Warning header; its text is bounded because clients print it. */
export function warningHeader(text: string): string {
  return `299 - "${text.slice(0, 1_000).replaceAll(/[\x00-\x1f\x7f]/g, ' ').replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;
}

export interface Answer { exchange: Exchange; warnings: readonly string[]; mediaType?: string | undefined }

function headers(answer: Answer, contentType: string): Record<string, string | string[]> {
  const fields: Record<string, string | string[]> = { 'content-type': contentType, 'cache-control': 'no-cache, private' };
  if (answer.warnings.length > 0) fields['warning'] = answer.warnings.slice(0, 20).map(warningHeader);
  return fields;
}

/** Whether the client decodes gzip. */
export function acceptsGzip(exchange: Exchange): boolean { return /\bgzip\b/.test(exchange.headers['accept-encoding'] ?? ''); }

/** One JSON document that is already text. `contentType` names its media type. */
export function sendText(answer: Answer, status: number, text: string | Buffer, contentType = 'application/json', more: Record<string, string> = {}): void {
  const bytes = typeof text === 'string' ? Buffer.from(text) : text;
  const fields = { ...headers(answer, contentType), ...more };
  const { reply } = answer.exchange;
  if (bytes.length < gzipBytesMin || !acceptsGzip(answer.exchange)) {
    reply.head(status, { ...fields, 'content-length': String(bytes.length) });
    reply.end(bytes);
    return;
  }
  gzip(bytes, { level: constants.Z_BEST_SPEED }, (error, packed) => {
    if (error !== null) { reply.destroy(); return; }
    reply.head(status, { ...fields, 'content-encoding': 'gzip', vary: 'accept-encoding', 'content-length': String(packed.length) });
    reply.end(packed);
  });
}

/** One object, as JSON or as YAML when the client prefers it. */
export async function sendObject(answer: Answer, status: number, object: unknown): Promise<void> {
  if (answer.mediaType !== 'application/yaml') { sendText(answer, status, JSON.stringify(object)); return; }
  const { stringify } = await import('yaml');
  sendText(answer, status, stringify(object, { lineWidth: 0 }), 'application/yaml');
}

/** Any error as a Status. Errors without a code are logged by the caller under the id that the message carries. */
export function sendError(answer: Answer, error: unknown, requestId: string): number {
  const status: Status = toStatus(error);
  if (status.code === 500 && !(error instanceof NetloomError)) status.message = `an internal error occurred, see the server's log for request ${requestId}`;
  if (error instanceof NetloomError && error.context['continue'] !== undefined) status.metadata = { continue: error.context['continue'] };
  const { reply } = answer.exchange;
  if (!reply.isOpen) { reply.destroy(); return status.code; }
  const more: Record<string, string> = {};
  const retryAfter = status.details?.retryAfterSeconds ?? (status.code === 429 || status.code === 503 ? 1 : undefined);
  if (retryAfter !== undefined) more['retry-after'] = String(retryAfter);
  if (status.code === 401) more['www-authenticate'] = 'Bearer realm="netloom"';
  sendText({ exchange: answer.exchange, warnings: answer.warnings }, status.code, JSON.stringify(status), 'application/json', more);
  return status.code;
}

/** A long document from its parts, joined without ever being one string. Waits while the client reads slowly. */
export async function sendPieces(answer: Answer, status: number, parts: Iterable<string>): Promise<void> {
  const { exchange } = answer;
  const iterator = parts[Symbol.iterator]();
  let piece = '';
  let next = iterator.next();
  const fill = (): void => {
    piece = '';
    for (; next.done !== true && piece.length < pieceLength; next = iterator.next()) piece += next.value;
  };
  fill();
  if (next.done === true) { sendText(answer, status, piece); return; }
  const fields = headers(answer, 'application/json');
  const gzipped = acceptsGzip(exchange) ? createGzip({ level: constants.Z_BEST_SPEED }) : undefined;
  exchange.reply.head(status, gzipped === undefined ? fields : { ...fields, 'content-encoding': 'gzip', vary: 'accept-encoding' });
  const done = gzipped === undefined ? undefined : pump(gzipped, exchange.reply);
  for (; piece !== '' && !exchange.reply.isClosed; fill()) {
    const isFree = gzipped === undefined ? exchange.reply.write(piece) : gzipped.write(piece);
    if (isFree) await new Promise((resolve) => { setImmediate(resolve); });
    else if (gzipped === undefined) await drained(exchange.reply);
    else await once(gzipped, 'drain');
  }
  if (gzipped === undefined) exchange.reply.end();
  else { gzipped.end(); await done; }
}

async function pump(from: Gzip, reply: Reply): Promise<void> {
  for await (const chunk of from) {
    if (reply.isClosed) { from.destroy(); return; }
    if (!reply.write(chunk as Buffer)) await drained(reply);
  }
  reply.end();
}

/** Resolves when more may be written or nobody is there any more. */
export function drained(reply: Reply): Promise<void> {
  return new Promise((resolve) => { reply.onDrain(resolve); });
}
