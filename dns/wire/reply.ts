// Turns a template into the bytes of one reply: header, the question as received (letter case kept), records rotated or
// cut to the size the client can take, OPT last. Order of giving way when it is too big: glue goes first and silently
// (RFC 2181 §9), then answers are cut at a record's border and TC is set, so that a client without TCP still gets some.
// Called by dns/engine/engine.ts for every reply. Cost: one Buffer from the pool, copies only.

import { flags, rcodes, udpPayloadBytesMax } from './constants.ts';
import type { ExtendedError, Template } from './builder.ts';
import type { Query } from './query.ts';

/** What a reply carries besides the template. */
export interface ReplyContext {
  /** Largest reply in octets. */
  limit: number;
  /** RA bit. */
  isRecursive: boolean;
  /** 0…n, picks the first record of a rotated RRset. */
  rotation: number;
  /** Server and client cookie option data to return; undefined = none. */
  cookie: Uint8Array | undefined;
  /** Value of edns-tcp-keepalive in 100 ms; 0 = leave out (RFC 7828). */
  keepaliveUnits: number;
  /** Pad to a multiple of this many octets; 0 = no padding (RFC 8467: 468 for servers on encrypted transports). */
  paddingBlock: number;
  /** SOA record bytes whose names end in pointers, see `SoaBytes`. */
  soa: SoaBytes | undefined;
  error: ExtendedError | undefined;
  /** Seconds since a forwarded answer was received: taken off its TTLs. */
  ageSeconds: number;
  /** TTL given to a stale answer instead (RFC 8767 §4); 0 = count down. */
  fixedTtlSeconds: number;
}

/** SOA for negative answers: `head` = rdata before the two zone pointers is rebuilt per reply since offsets differ. */
export interface SoaBytes {
  /** type, class, ttl, rdlength, `ns.dns`, pointer, `hostmaster`, pointer, five times; the owner pointer stands in front. */
  readonly bytes: Buffer;
  /** Where the three zone pointers stand in `bytes`. */
  readonly pointerOffsets: readonly number[];
}

const emptyError: ExtendedError | undefined = undefined;

/** Renders the reply. The result is at most `context.limit` octets as long as the limit is at least 512. */
export function renderReply(message: Buffer, query: Query, template: Template, context: ReplyContext): Buffer {
  const questionEnd = query.questionEnd;
  const error = template.error ?? context.error;
  const soa = template.soaStart >= 0 ? context.soa : undefined;
  const soaSize = soa === undefined ? 0 : soa.bytes.length;
  const optSize = query.hasOpt ? optionsSize(query, context, error) : 0;
  const room = context.limit - questionEnd - soaSize - optSize;
  const body = template.body;
  let bodySize = body.length;
  let answerCount = template.answerCount;
  let authorityCount = template.authorityCount;
  let additionalCount = template.additionalCount;
  let isTruncated = false;
  if (bodySize > room) {
    const kept = fitRecords(template, room);
    bodySize = kept === 0 ? 0 : (template.ends[kept - 1] ?? 0);
    isTruncated = kept < answerCount + authorityCount;
    additionalCount = Math.max(0, kept - answerCount - authorityCount);
    authorityCount = Math.min(authorityCount, Math.max(0, kept - answerCount));
    answerCount = Math.min(answerCount, kept);
  }
  let size = questionEnd + bodySize + soaSize + optSize;
  if (context.paddingBlock > 0 && query.hasPadding) size = Math.min(context.limit, Math.ceil(size / context.paddingBlock) * context.paddingBlock);
  const reply = Buffer.allocUnsafe(size);
  writeHeader(reply, query, template, context, isTruncated);
  reply[4] = 0;
  reply[5] = 1;
  reply[6] = answerCount >> 8;
  reply[7] = answerCount & 255;
  reply[8] = 0;
  reply[9] = authorityCount + (soa === undefined ? 0 : 1);
  const additionals = additionalCount + (query.hasOpt ? 1 : 0);
  reply[10] = additionals >> 8;
  reply[11] = additionals & 255;
  copyShort(message, reply, 12, 12, questionEnd);
  if (template.rotateSize > 0) copyRotated(body, reply, questionEnd, template, bodySize, answerCount, context.rotation);
  else copyShort(body, reply, questionEnd, 0, bodySize);
  if (template.ttlOffsets !== undefined) patchTtls(reply, questionEnd, bodySize, template.ttlOffsets, context);
  let position = questionEnd + bodySize;
  if (soa !== undefined) position = writeSoa(reply, position, soa, 12 + template.soaStart);
  if (query.hasOpt) writeOpt(reply, position, query, context, error, template.rcode);
  return reply;
}

/** Copies `source[start..end)` to `target` at `at`. Below about 64 octets a loop beats the call into the runtime. */
function copyShort(source: Buffer, target: Buffer, at: number, start: number, end: number): void {
  if (end - start > 80) source.copy(target, at, start, end);
  else for (let index = start, to = at; index < end;) target[to++] = source[index++] ?? 0;
}

function writeHeader(reply: Buffer, query: Query, template: Template, context: ReplyContext, isTruncated: boolean): void {
  reply[0] = query.id >> 8;
  reply[1] = query.id & 255;
  const bits = flags.QR | (query.flags & (0x7800 | flags.RD | flags.CD)) | (template.isAuthoritative ? flags.AA : 0)
    | (isTruncated ? flags.TC : 0) | (context.isRecursive ? flags.RA : 0) | (template.rcode & 15);
  reply[2] = bits >> 8;
  reply[3] = bits & 255;
}

/** How many records fit in `room`: all that fit, but glue is dropped whole RRsets from the end. */
function fitRecords(template: Template, room: number): number {
  const { ends } = template;
  if (template.rotateSize > 0) return Math.max(0, Math.min(ends.length, Math.floor(room / template.rotateSize)));
  let low = 0;
  let high = ends.length;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((ends[middle - 1] ?? 0) <= room) low = middle;
    else high = middle - 1;
  }
  return low;
}

function copyRotated(body: Buffer, reply: Buffer, at: number, template: Template, bodySize: number, answerCount: number, rotation: number): void {
  const size = template.rotateSize;
  const total = template.answerCount * size;
  const start = (rotation % template.answerCount) * size;
  const wanted = answerCount * size;
  const first = Math.min(wanted, total - start);
  body.copy(reply, at, start, start + first);
  if (first < wanted) body.copy(reply, at + first, 0, wanted - first);
  if (bodySize > wanted) body.copy(reply, at + wanted, total, total + bodySize - wanted);
}

function patchTtls(reply: Buffer, start: number, bodySize: number, offsets: Uint32Array, context: ReplyContext): void {
  const { ageSeconds, fixedTtlSeconds } = context;
  if (ageSeconds === 0 && fixedTtlSeconds === 0) return;
  for (const offset of offsets) {
    if (offset >= bodySize) return;
    const ttl = fixedTtlSeconds > 0 ? fixedTtlSeconds : Math.max(0, reply.readUInt32BE(start + offset) - ageSeconds);
    reply.writeUInt32BE(ttl, start + offset);
  }
}

function writeSoa(reply: Buffer, at: number, soa: SoaBytes, zoneOffset: number): number {
  copyShort(soa.bytes, reply, at, 0, soa.bytes.length);
  for (const offset of soa.pointerOffsets) {
    reply[at + offset] = 0xc0 | (zoneOffset >> 8);
    reply[at + offset + 1] = zoneOffset & 255;
  }
  return at + soa.bytes.length;
}

function optionsSize(query: Query, context: ReplyContext, error: ExtendedError | undefined): number {
  let size = 11;
  if (context.cookie !== undefined) size += 4 + context.cookie.length;
  if (error !== undefined) size += 6 + Buffer.byteLength(error.text);
  if (context.keepaliveUnits > 0 && query.hasKeepalive) size += 6;
  if (context.paddingBlock > 0 && query.hasPadding) size += 4;
  return size;
}

/** OPT record (RFC 6891): root owner, our receive size, extended rcode, DO as asked, then the options. */
function writeOpt(reply: Buffer, start: number, query: Query, context: ReplyContext, error: ExtendedError | undefined, rcode: number): void {
  let at = start;
  reply[at] = 0;
  reply[at + 1] = 0;
  reply[at + 2] = 41;
  reply[at + 3] = udpPayloadBytesMax >> 8;
  reply[at + 4] = udpPayloadBytesMax & 255;
  reply[at + 5] = rcode >> 4;
  reply[at + 6] = 0;
  reply[at + 7] = query.isDnssecOk ? 0x80 : 0;
  reply[at + 8] = 0;
  const dataSize = reply.length - start - 11;
  reply[at + 9] = dataSize >> 8;
  reply[at + 10] = dataSize & 255;
  at += 11;
  if (context.cookie !== undefined) {
    at = writeOptionHead(reply, at, 10, context.cookie.length);
    reply.set(context.cookie, at);
    at += context.cookie.length;
  }
  if (context.keepaliveUnits > 0 && query.hasKeepalive) {
    at = writeOptionHead(reply, at, 11, 2);
    at = reply.writeUInt16BE(context.keepaliveUnits, at);
  }
  if (error !== undefined) {
    at = writeOptionHead(reply, at, 15, 2 + Buffer.byteLength(error.text));
    at = reply.writeUInt16BE(error.code, at);
    at += reply.write(error.text, at);
  }
  if (context.paddingBlock > 0 && query.hasPadding) {
    at = writeOptionHead(reply, at, 12, reply.length - at - 4);
    reply.fill(0, at);
  }
}

function writeOptionHead(reply: Buffer, at: number, code: number, size: number): number {
  reply[at] = 0;
  reply[at + 1] = code;
  reply[at + 2] = size >> 8;
  reply[at + 3] = size & 255;
  return at + 4;
}

/** A refusal without records: header only, or with the question (and OPT for BADVERS) when it could be read. */
export function renderRefusal(message: Buffer, query: Query, rcode: number, isRecursive: boolean): Buffer {
  const hasQuestion = query.nameLength > 0 && rcode !== rcodes.FORMERR && rcode !== rcodes.NOTIMP;
  const hasOpt = hasQuestion && query.hasOpt;
  const end = hasQuestion ? query.questionEnd : 12;
  const reply = Buffer.alloc(end + (hasOpt ? 11 : 0));
  reply.writeUInt16BE(query.id, 0);
  reply.writeUInt16BE(flags.QR | (query.flags & (0x7800 | flags.RD | flags.CD)) | (isRecursive ? flags.RA : 0) | (rcode & 15), 2);
  if (!hasQuestion) return reply;
  reply[5] = 1;
  message.copy(reply, 12, 12, end);
  if (hasOpt) {
    reply[11] = 1;
    writeOpt(reply, end, query, bareContext, emptyError, rcode);
  }
  return reply;
}

const bareContext: ReplyContext = { limit: 512, isRecursive: false, rotation: 0, cookie: undefined, keepaliveUnits: 0, paddingBlock: 0, soa: undefined, error: undefined, ageSeconds: 0, fixedTtlSeconds: 0 };
