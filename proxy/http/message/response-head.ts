// The strict parser of a backend's status line and fields, on bytes (RFC 9112 §4, §6.3). Same result convention as
// request-head.ts: 1 = whole, 0 = more bytes needed, 502 = not an answer that may be passed on.
// Called by upstream-h1.ts. Fields that belong to the hop are cut; Content-Length stays in the text, since it has been
// checked and is the client's framing as well.

import { classifyField, field, responseFieldNames, tokenBytes, valueBytes } from './fields.ts';
import { equalsIgnoreCase, headComplete, needMore, readLength } from './request-head.ts';

export interface ResponseLimits { headBytesMax: number; fieldCountMax: number }
export const responseLimits: ResponseLimits = Object.freeze({ headBytesMax: 65_536, fieldCountMax: 500 });

/** One object per upstream connection, used again for each answer. Offsets count from the start of the parsed head. */
export class ResponseHead {
  status = 0;
  /** Offset in the parsed buffer of the first byte after the head. */
  end = 0;
  /** Offset in the parsed buffer where the head began. */
  origin = 0;
  lineEnd = 0;
  minor = 1;
  contentLength = -1;
  contentLengthStart = 0; contentLengthEnd = 0;
  isChunked = false;
  hasClose = false; hasKeepAlive = false; hasDate = false; hasNominations = false; hasUpgrade = false; hasTrailer = false;
  /** Seconds of the Keep-Alive timeout parameter; -1 = none. */
  keepAliveSeconds = -1;
  upgradeStart = -1; upgradeEnd = 0;
  readonly cuts = new Int32Array(1024);
  cutCount = 0;

  reset(origin: number): void {
    this.origin = origin; this.minor = 1; this.contentLength = -1; this.isChunked = false;
    this.hasClose = false; this.hasKeepAlive = false; this.hasDate = false; this.hasNominations = false; this.hasUpgrade = false; this.hasTrailer = false;
    this.keepAliveSeconds = -1; this.upgradeStart = -1; this.cutCount = 0;
  }

  cut(start: number, end: number): void {
    const count = this.cutCount;
    if (count > 0 && this.cuts[count - 1] === start) { this.cuts[count - 1] = end; return; }
    this.cuts[count] = start;
    this.cuts[count + 1] = end;
    this.cutCount = count + 2;
  }
}

/** Parses one response head at `bytes[start, end)`. O(head), no allocation on usual heads. */
export function parseResponseHead(bytes: Buffer, start: number, end: number, head: ResponseHead, limits: ResponseLimits): number {
  head.reset(start);
  const lineResult = parseStatusLine(bytes, start, end, head);
  if (lineResult !== headComplete) return lineResult;
  let position = start + head.lineEnd + 2;
  let fieldCount = 0;
  for (;;) {
    if (position >= end) return end - start > limits.headBytesMax ? 502 : needMore;
    if (bytes[position] === 13) {
      if (position + 1 >= end) return needMore;
      if (bytes[position + 1] !== 10) return 502;
      break;
    }
    if (++fieldCount > limits.fieldCountMax) return 502;
    const next = parseFieldLine(bytes, start, position, end, head);
    if (next <= 0) return next < 0 || end - start > limits.headBytesMax ? 502 : needMore;
    position = next;
  }
  if (position - start > limits.headBytesMax) return 502;
  head.end = position + 2;
  if (head.isChunked && (head.contentLength >= 0 || head.minor === 0)) return 502;
  if (head.hasNominations) cutNominated(bytes, head);
  return headComplete;
}

function parseStatusLine(bytes: Buffer, start: number, end: number, head: ResponseHead): number {
  for (let index = 0; index < 12; index++) {
    if (start + index >= end) return needMore;
    const byte = bytes[start + index]!;
    const want = statusLine[index]!;
    if (want === 35 ? byte < 48 || byte > 57 : byte !== want) return 502;
  }
  head.minor = bytes[start + 7] === 48 ? 0 : 1;
  head.status = (bytes[start + 9]! - 48) * 100 + (bytes[start + 10]! - 48) * 10 + bytes[start + 11]! - 48;
  if (head.status < 100 || head.status > 599) return 502;
  let position = start + 12;
  if (position < end && bytes[position] !== 32 && bytes[position] !== 13) return 502;
  while (position < end && valueBytes[bytes[position]!] === 1) position++;
  if (position + 1 >= end) return position - start > 8_192 ? 502 : needMore;
  if (bytes[position] !== 13 || bytes[position + 1] !== 10) return 502;
  head.lineEnd = position - start;
  return headComplete;
}

/** '#' stands for a digit. */
const statusLine = Buffer.from('HTTP/1.# ###', 'latin1');

function parseFieldLine(bytes: Buffer, origin: number, start: number, end: number, head: ResponseHead): number {
  let position = start;
  while (position < end && tokenBytes[bytes[position]!] === 1) position++;
  if (position >= end) return 0;
  if (position === start || bytes[position] !== 58) return -1;
  const nameEnd = position++;
  while (position < end && valueBytes[bytes[position]!] === 1) position++;
  if (position + 1 >= end) return position >= end || bytes[position] === 13 ? 0 : -1;
  if (bytes[position] !== 13 || bytes[position + 1] !== 10) return -1;
  const code = classifyField(responseFieldNames, bytes, start, nameEnd);
  if (code === 0) return position + 2;
  let valueStart = nameEnd + 1;
  let valueEnd = position;
  while (valueStart < valueEnd && (bytes[valueStart] === 32 || bytes[valueStart] === 9)) valueStart++;
  while (valueEnd > valueStart && (bytes[valueEnd - 1] === 32 || bytes[valueEnd - 1] === 9)) valueEnd--;
  if (code === field.date) { head.hasDate = true; return position + 2; }
  return takeField(bytes, origin, code, start, position + 2, valueStart, valueEnd, head) ? position + 2 : -1;
}

function takeField(bytes: Buffer, origin: number, code: number, start: number, next: number, valueStart: number, valueEnd: number, head: ResponseHead): boolean {
  if (code === field.contentLength) {
    const length = readLength(bytes, valueStart, valueEnd);
    if (length < 0 || head.contentLength >= 0) return false;
    head.contentLength = length;
    head.contentLengthStart = start - origin;
    head.contentLengthEnd = next - origin;
    return true;
  }
  head.cut(start - origin, next - origin);
  switch (code) {
    case field.transferEncoding:
      if (head.isChunked || !equalsIgnoreCase(bytes, valueStart, valueEnd, 'chunked')) return false;
      head.isChunked = true;
      break;
    case field.connection: readConnection(bytes.latin1Slice(valueStart, valueEnd), head); break;
    case field.keepAlive: {
      const match = /timeout=(\d{1,6})/i.exec(bytes.latin1Slice(valueStart, valueEnd));
      if (match !== null) head.keepAliveSeconds = Number(match[1]);
      break;
    }
    case field.upgrade:
      head.hasUpgrade = true;
      head.upgradeStart = valueStart - origin;
      head.upgradeEnd = valueEnd - origin;
      break;
    case field.trailer: head.hasTrailer = true; break;
    default: break;
  }
  return true;
}

function readConnection(value: string, head: ResponseHead): void {
  if (value === 'keep-alive') { head.hasKeepAlive = true; return; }
  for (const item of value.split(',')) {
    const option = item.trim().toLowerCase();
    if (option === 'close') head.hasClose = true;
    else if (option === 'keep-alive') head.hasKeepAlive = true;
    else if (option !== 'upgrade' && option !== '') head.hasNominations = true;
  }
}

const protectedNames = /^(content-length|transfer-encoding|date|set-cookie|location|content-type|content-encoding|www-authenticate|connection|upgrade)$/;

function cutNominated(bytes: Buffer, head: ResponseHead): void {
  const text = bytes.latin1Slice(head.origin, head.end - 2);
  const nominated = new Set<string>();
  for (const line of text.split('\r\n')) if (/^connection:/i.test(line)) for (const item of line.slice(11).split(',')) nominated.add(item.trim().toLowerCase());
  const spans: [number, number][] = [];
  for (let index = 0; index < head.cutCount; index += 2) spans.push([head.cuts[index]!, head.cuts[index + 1]!]);
  let position = head.lineEnd + 2;
  while (position < text.length) {
    const next = text.indexOf('\r\n', position) + 2;
    const name = text.slice(position, text.indexOf(':', position)).toLowerCase();
    if (nominated.has(name) && !protectedNames.test(name)) spans.push([position, next]);
    position = next;
  }
  spans.sort((a, b) => a[0] - b[0]);
  head.cutCount = 0;
  let last = 0;
  for (const [start, end] of spans) {
    if (end <= last) continue;
    head.cut(Math.max(start, last), end);
    last = end;
  }
}

/** The status line and the fields to pass on, each with CRLF, as HTTP/1.1; no framing but Content-Length. `withLength` false leaves that out too. */
export function responseText(bytes: Buffer, head: ResponseHead, withLength: boolean): string {
  const { origin } = head;
  let text = 'HTTP/1.1';
  let from = 8;
  let isLengthPending = !withLength && head.contentLength >= 0;
  for (let index = 0; index < head.cutCount; index += 2) {
    const start = head.cuts[index]!;
    if (isLengthPending && head.contentLengthStart < start) {
      text += bytes.latin1Slice(origin + from, origin + head.contentLengthStart);
      from = head.contentLengthEnd;
      isLengthPending = false;
    }
    if (start > from) text += bytes.latin1Slice(origin + from, origin + start);
    from = head.cuts[index + 1]!;
  }
  if (isLengthPending) {
    text += bytes.latin1Slice(origin + from, origin + head.contentLengthStart);
    from = head.contentLengthEnd;
  }
  return text + bytes.latin1Slice(origin + from, head.end - 2);
}
