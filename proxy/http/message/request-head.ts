// The strict parser of a request's start line and fields, on bytes: RFC 9112 §2–3 and §6, RFC 9110 §5. It looks at the
// head only, allocates one string (the head itself), and answers with a number: 1 = whole head read, 0 = more bytes
// are needed, else the HTTP status to refuse with. Every doubt is a refusal (P-2, P-3).
// Called by downstream-h1.ts (and h2-front.ts, which writes an HTTP/2 head as text first). Next: target.ts, then a Router.
// What it keeps: offsets into `text`, and the list of spans that must not be passed on ("cuts").

import { classifyField, field, lookAlike, requestFieldNames, targetBytes, tokenBytes, valueBytes } from './fields.ts';

export interface HeadLimits {
  /** Bytes of the whole head; beyond: 431. */
  headBytesMax: number;
  /** Field lines; beyond: 431. */
  fieldCountMax: number;
  /** Bytes of the request target; beyond: 414. */
  targetBytesMax: number;
}
export const headLimits: HeadLimits = Object.freeze({ headBytesMax: 16_384, fieldCountMax: 100, targetBytesMax: 8_192 });

/** Results of the parsers below 100; anything else is a status code. */
export const needMore = 0;
export const headComplete = 1;

/** A parsed head. One object per connection is used again for each request. Offsets count from the start of `text`. */
export class RequestHead {
  /** Start line and field lines as latin1, each with its CRLF, without the empty line. */
  text = '';
  /** Offset in the parsed buffer of the first byte after the head. */
  end = 0;
  methodEnd = 0; targetEnd = 0; lineEnd = 0;
  /** Minor version: 0 or 1; a higher minor is handled as 1. */
  minor = 1;
  isVersionExact = true;
  hostStart = -1; hostEnd = -1;
  /** -1 = no Content-Length. */
  contentLength = -1;
  isChunked = false;
  /** Options of Connection. */
  hasClose = false; hasKeepAlive = false; hasUpgradeOption = false; hasNominations = false; hasTrailersOption = false;
  expectsContinue = false; hasUnknownExpectation = false;
  upgradeStart = -1; upgradeEnd = 0;
  maxForwards = -1;
  /** Value spans of fields that a trusted proxy in front may have set; -1 = absent. */
  forwardedForStart = -1; forwardedForEnd = 0;
  forwardedProtoStart = -1; forwardedProtoEnd = 0;
  forwardedHostStart = -1; forwardedHostEnd = 0;
  forwardedPortStart = -1; forwardedPortEnd = 0;
  requestIDStart = -1; requestIDEnd = 0;
  hasVia = false;
  /** Something in the path that may mean different paths to different readers; target.ts decides. */
  isPathDoubtful = false;
  /** Spans of `text` (start, end, start, end, …) that are not passed on, ascending. */
  readonly cuts = new Int32Array(256);
  cutCount = 0;
  /** Whether the peer may set X-Forwarded-* and its kin; else they are cut. */
  isPeerTrusted = false;

  get method(): string { return this.text.slice(0, this.methodEnd); }
  get target(): string { return this.text.slice(this.methodEnd + 1, this.targetEnd); }
  get host(): string { return this.hostStart < 0 ? '' : this.text.slice(this.hostStart, this.hostEnd); }

  reset(isPeerTrusted: boolean): void {
    this.minor = 1; this.isVersionExact = true;
    this.hostStart = -1; this.hostEnd = -1; this.contentLength = -1; this.isChunked = false;
    this.hasClose = false; this.hasKeepAlive = false; this.hasUpgradeOption = false; this.hasNominations = false; this.hasTrailersOption = false;
    this.expectsContinue = false; this.hasUnknownExpectation = false;
    this.upgradeStart = -1; this.maxForwards = -1;
    this.forwardedForStart = -1; this.forwardedProtoStart = -1; this.forwardedHostStart = -1; this.forwardedPortStart = -1; this.requestIDStart = -1;
    this.hasVia = false; this.isPathDoubtful = false; this.cutCount = 0; this.isPeerTrusted = isPeerTrusted;
  }

  /** Marks `text[start, end)` as not passed on; neighbours are joined. */
  cut(start: number, end: number): void {
    const count = this.cutCount;
    if (count > 0 && this.cuts[count - 1] === start) { this.cuts[count - 1] = end; return; }
    this.cuts[count] = start;
    this.cuts[count + 1] = end;
    this.cutCount = count + 2;
  }
}

/** Parses one request head at `bytes[start, end)`. O(head); allocates the head's text. */
export function parseRequestHead(bytes: Buffer, start: number, end: number, head: RequestHead, limits: HeadLimits, isPeerTrusted: boolean): number {
  let position = start;
  while (position < end && bytes[position] === 13 && (position + 1 >= end || bytes[position + 1] === 10)) {
    if (position + 1 >= end || position - start > 16) return position + 1 >= end ? needMore : 400;
    position += 2;
  }
  head.reset(isPeerTrusted);
  const origin = position;
  const lineResult = parseRequestLine(bytes, origin, end, head, limits);
  if (lineResult !== headComplete) return lineResult;
  position = origin + head.lineEnd + 2;
  let fieldCount = 0;
  for (;;) {
    if (position >= end) return limited(end - origin, limits);
    if (bytes[position] === 13) {
      if (position + 1 >= end) return needMore;
      if (bytes[position + 1] !== 10) return 400;
      break;
    }
    if (++fieldCount > limits.fieldCountMax) return 431;
    const next = parseFieldLine(bytes, origin, position, end, head);
    if (next <= 0) return next === 0 ? limited(end - origin, limits) : -next;
    position = next;
  }
  if (position + 2 - origin > limits.headBytesMax) return 431;
  head.text = bytes.latin1Slice(origin, position);
  head.end = position + 2;
  return checkHead(head);
}

function limited(length: number, limits: HeadLimits): number { return length > limits.headBytesMax ? 431 : needMore; }

function parseRequestLine(bytes: Buffer, origin: number, end: number, head: RequestHead, limits: HeadLimits): number {
  let position = origin;
  while (position < end && tokenBytes[bytes[position]!] === 1) position++;
  if (position - origin > 32) return 400;
  if (position >= end) return needMore;
  if (position === origin || bytes[position] !== 32) return 400;
  head.methodEnd = position - origin;
  const targetStart = ++position;
  let last = 0;
  let isDoubtful = false;
  while (position < end) {
    const byte = bytes[position]!;
    if (targetBytes[byte] !== 1) break;
    if (byte === 63) break;
    if (byte === 37 || byte === 92 || byte === 35 || (last === 47 && (byte === 46 || byte === 47))) isDoubtful = true;
    last = byte;
    position++;
  }
  head.isPathDoubtful = isDoubtful;
  while (position < end && targetBytes[bytes[position]!] === 1) if (bytes[position++] === 35) head.isPathDoubtful = true;
  if (position - targetStart > limits.targetBytesMax) return 414;
  if (position >= end) return needMore;
  if (position === targetStart || bytes[position] !== 32) return 400;
  head.targetEnd = position - origin;
  return parseVersion(bytes, origin, position + 1, end, head);
}

function parseVersion(bytes: Buffer, origin: number, start: number, end: number, head: RequestHead): number {
  for (let index = 0; index < 10; index++) {
    if (start + index >= end) return needMore;
    const byte = bytes[start + index]!;
    if (index === 5 || index === 7) { if (byte < 48 || byte > 57) return 400; }
    else if (byte !== versionBytes[index]) return 400;
  }
  if (bytes[start + 5] !== 49) return 505;
  const minor = bytes[start + 7]! - 48;
  head.minor = minor === 0 ? 0 : 1;
  head.isVersionExact = minor === 1;
  head.lineEnd = start + 8 - origin;
  return headComplete;
}

const versionBytes = Buffer.from('HTTP/1.1\r\n', 'latin1');

/** Reads one field line. Returns the offset after its CRLF, 0 when bytes are missing, or minus the status to refuse with. */
function parseFieldLine(bytes: Buffer, origin: number, start: number, end: number, head: RequestHead): number {
  let position = start;
  while (position < end && tokenBytes[bytes[position]!] === 1) position++;
  if (position >= end) return 0;
  if (position === start || bytes[position] !== 58) return -400;
  const nameEnd = position++;
  while (position < end && valueBytes[bytes[position]!] === 1) position++;
  if (position >= end) return 0;
  if (bytes[position] !== 13) return -400;
  if (position + 1 >= end) return 0;
  if (bytes[position + 1] !== 10) return -400;
  const code = classifyField(requestFieldNames, bytes, start, nameEnd);
  if (code !== 0) {
    let valueStart = nameEnd + 1;
    let valueEnd = position;
    while (valueStart < valueEnd && (bytes[valueStart] === 32 || bytes[valueStart] === 9)) valueStart++;
    while (valueEnd > valueStart && (bytes[valueEnd - 1] === 32 || bytes[valueEnd - 1] === 9)) valueEnd--;
    const status = takeField(bytes, origin, code, start, position + 2, valueStart, valueEnd, head);
    if (status !== 0) return -status;
  }
  return position + 2;
}

/** Notes one known field. Returns 0 or the status to refuse with. */
function takeField(bytes: Buffer, origin: number, code: number, start: number, next: number, valueStart: number, valueEnd: number, head: RequestHead): number {
  switch (code) {
    case field.host:
      if (head.hostStart >= 0) return 400;
      head.hostStart = valueStart - origin;
      head.hostEnd = valueEnd - origin;
      return 0;
    case field.connection:
      head.cut(start - origin, next - origin);
      return readConnection(bytes.latin1Slice(valueStart, valueEnd), head);
    case field.contentLength: {
      const length = readLength(bytes, valueStart, valueEnd);
      if (length < 0 || head.contentLength >= 0) return length === -2 ? 413 : 400;
      head.contentLength = length;
      return 0;
    }
    case field.transferEncoding:
      head.cut(start - origin, next - origin);
      if (head.isChunked) return 400;
      if (!equalsIgnoreCase(bytes, valueStart, valueEnd, 'chunked')) return codingStatus(bytes.latin1Slice(valueStart, valueEnd));
      head.isChunked = true;
      return 0;
    default:
      return takeOtherField(bytes, origin, code, start, next, valueStart, valueEnd, head);
  }
}

function takeOtherField(bytes: Buffer, origin: number, code: number, start: number, next: number, valueStart: number, valueEnd: number, head: RequestHead): number {
  const from = valueStart - origin;
  const to = valueEnd - origin;
  if (code === field.via) { head.hasVia = true; return 0; }
  if (code === field.requestID && head.isPeerTrusted && head.requestIDStart < 0 && to - from <= 200) {
    head.requestIDStart = from; head.requestIDEnd = to;
    return 0;
  }
  if (code === field.maxForwards) {
    head.maxForwards = readLength(bytes, valueStart, valueEnd);
    return 0;
  }
  if ((code === field.forwarded || code === field.forwardedOther) && head.isPeerTrusted) return 0;
  head.cut(start - origin, next - origin);
  if (code >= lookAlike) return 0;
  switch (code) {
    case field.expect:
      if (equalsIgnoreCase(bytes, valueStart, valueEnd, '100-continue')) head.expectsContinue = true;
      else head.hasUnknownExpectation = true;
      break;
    case field.upgrade:
      if (head.upgradeStart >= 0) head.upgradeEnd = -1; else { head.upgradeStart = from; head.upgradeEnd = to; }
      break;
    case field.te: head.hasTrailersOption ||= /(^|[,\s])trailers([,;\s]|$)/i.test(bytes.latin1Slice(valueStart, valueEnd)); break;
    case field.forwardedFor: if (head.isPeerTrusted && head.forwardedForStart < 0) { head.forwardedForStart = from; head.forwardedForEnd = to; } break;
    case field.forwardedProto: if (head.isPeerTrusted) { head.forwardedProtoStart = from; head.forwardedProtoEnd = to; } break;
    case field.forwardedHost: if (head.isPeerTrusted) { head.forwardedHostStart = from; head.forwardedHostEnd = to; } break;
    case field.forwardedPort: if (head.isPeerTrusted) { head.forwardedPortStart = from; head.forwardedPortEnd = to; } break;
    default: break;
  }
  return 0;
}

/** A length of at most 15 digits, which a double holds exactly; -1 = not a length, -2 = too large. */
export function readLength(bytes: Uint8Array, start: number, end: number): number {
  if (start >= end) return -1;
  let value = 0;
  for (let position = start; position < end; position++) {
    const digit = bytes[position]! - 48;
    if (digit < 0 || digit > 9) return -1;
    value = value * 10 + digit;
    if (value > 999_999_999_999_999) value = Infinity;
  }
  return value === Infinity ? -2 : value;
}

function readConnection(value: string, head: RequestHead): number {
  if (value === 'keep-alive') { head.hasKeepAlive = true; return 0; }
  if (value === 'close') { head.hasClose = true; return 0; }
  for (const item of value.split(',')) {
    const option = item.trim().toLowerCase();
    if (option === 'close') head.hasClose = true;
    else if (option === 'keep-alive') head.hasKeepAlive = true;
    else if (option === 'upgrade') head.hasUpgradeOption = true;
    else if (option !== '' && option !== 'te') head.hasNominations = true;
  }
  return 0;
}

/** RFC 9112 §6.1: a coding that is not known is 501, faulty use of chunked 400. */
function codingStatus(value: string): number {
  const codings = value.split(',').map((item) => item.trim().toLowerCase());
  if (codings.some((coding) => !/^[-!#$%&'*+.^_`|~0-9a-z]+$/.test(coding))) return 400;
  return codings.includes('chunked') ? (codings.at(-1) === 'chunked' && codings.filter((coding) => coding === 'chunked').length === 1 ? 501 : 400) : 501;
}

export function equalsIgnoreCase(bytes: Uint8Array, start: number, end: number, lower: string): boolean {
  if (end - start !== lower.length) return false;
  for (let index = 0; index < lower.length; index++) {
    const byte = bytes[start + index]!;
    const want = lower.charCodeAt(index);
    if (byte !== want && !(byte >= 65 && byte <= 90 && byte + 32 === want)) return false;
  }
  return true;
}

function checkHead(head: RequestHead): number {
  if (head.isChunked && (head.contentLength >= 0 || head.minor === 0)) return 400;
  if (head.hostStart < 0 && head.minor === 1) return 400;
  if (head.hasUnknownExpectation && head.minor === 1) return 417;
  if (head.minor === 0) { head.expectsContinue = false; head.upgradeStart = -1; }
  if (head.hasNominations) cutNominated(head);
  return headComplete;
}

/** Fields that Connection may never remove: framing, routing, credentials and what the proxy itself adds (P-6). */
const protectedNames = /^(host|content-length|transfer-encoding|authorization|cookie|x-forwarded-.*|forwarded|x-real-ip|x-request-id|via|expect|upgrade|te|connection)$/;

function cutNominated(head: RequestHead): void {
  const nominated = new Set<string>();
  for (const line of head.text.slice(head.lineEnd + 2).split('\r\n')) {
    if (!/^connection:/i.test(line)) continue;
    for (const item of line.slice(11).split(',')) nominated.add(item.trim().toLowerCase());
  }
  const spans: [number, number][] = [];
  for (let index = 0; index < head.cutCount; index += 2) spans.push([head.cuts[index]!, head.cuts[index + 1]!]);
  let position = head.lineEnd + 2;
  while (position < head.text.length) {
    const next = head.text.indexOf('\r\n', position) + 2;
    const name = head.text.slice(position, head.text.indexOf(':', position)).toLowerCase();
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
