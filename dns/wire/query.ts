// Strict reading of a query in place, into one reused Query object: header, one question, and a walk over whatever
// records follow, so that a lying count or length is found before anything is answered. Every count is checked against
// the bytes that are left before it is believed; names in a question are never compressed, names of records may only
// point backwards (RFC 9267). Called by dns/engine/engine.ts for every packet; next: the hot table or dns/zone.
// Cost: no allocation except the name key (one string).

import { classIN, ednsOptions, rcodes, rrTypes } from './constants.ts';
import { lowerOctets } from './names.ts';

/** Verdicts of `parseQuery` besides an rcode (> 0) to refuse with. */
export const queryOk = 0;
export const queryDrop = -1;

/** What was asked. Valid until the next parse into the same object. */
export class Query {
  id = 0;
  /** The second header word as received. */
  flags = 0;
  /** Octets of the name on the wire, root included; 0 when the question could not be read. */
  nameLength = 0;
  /** Offset just behind the question. */
  questionEnd = 0;
  qtype = 0;
  qclass = 0;
  /** Lower-cased name key, see names.ts. */
  key = '';
  labelCount = 0;
  /** Start of each label within the key. */
  readonly labelStarts: Uint8Array = new Uint8Array(128);
  hasOpt = false;
  udpSize = 512;
  ednsVersion = 0;
  isDnssecOk = false;
  /** Offset of the cookie option's data in the message; 0 = none. */
  cookieStart = 0;
  cookieLength = 0;
  hasKeepalive = false;
  hasPadding = false;
  hasTsig = false;
  isMixedCase = false;

  /** The label at `index`, leftmost = 0. */
  label(index: number): string {
    const start = this.labelStarts[index] ?? 0;
    return this.key.slice(start + 1, start + 1 + this.key.charCodeAt(start));
  }
}

/** `latin1Slice` is Buffer's own method behind `toString('latin1')`, without its dispatch (about 40 ns a call). */
const scratch = Buffer.alloc(256) as Buffer & { latin1Slice(start: number, end: number): string };

/** Reads `message[0..length)`. Returns `queryOk`, `queryDrop` (send nothing) or an rcode to refuse with. */
export function parseQuery(message: Buffer, length: number, query: Query): number {
  query.nameLength = 0;
  query.hasOpt = false;
  if (length < 12) return queryDrop;
  const high = message[2] ?? 0;
  if ((high & 0x80) !== 0) return queryDrop;
  query.id = ((message[0] ?? 0) << 8) | (message[1] ?? 0);
  query.flags = (high << 8) | (message[3] ?? 0);
  query.hasTsig = false;
  query.hasKeepalive = false;
  query.hasPadding = false;
  query.cookieStart = 0;
  query.udpSize = 512;
  query.isDnssecOk = false;
  if ((high & 0x78) !== 0) return rcodes.NOTIMP;
  if (message[4] !== 0 || message[5] !== 1) return rcodes.FORMERR;
  if (!parseQuestion(message, length, query)) return rcodes.FORMERR;
  const answerCount = word(message, 6);
  const authorityCount = word(message, 8);
  const additionalCount = word(message, 10);
  if (answerCount > 1 || authorityCount > 1 || additionalCount > 2) return rcodes.FORMERR;
  if (answerCount + authorityCount + additionalCount > 0) {
    const verdict = walkRecords(message, length, query, answerCount + authorityCount, additionalCount);
    if (verdict !== queryOk) return verdict;
  }
  return query.qclass === classIN ? queryOk : rcodes.REFUSED;
}

function parseQuestion(message: Buffer, length: number, query: Query): boolean {
  let position = 12;
  let count = 0;
  let isMixed = false;
  for (;;) {
    if (position >= length) return false;
    const size = message[position] ?? 0;
    scratch[position - 12] = size;
    if (size === 0) break;
    if (size > 63 || position + size >= length || position + size - 12 > 253 || count >= 127) return false;
    query.labelStarts[count++] = position - 12;
    for (const end = position + size; position < end;) {
      position += 1;
      const octet = message[position] ?? 0;
      const lower = lowerOctets[octet] ?? 0;
      if (lower !== octet) isMixed = true;
      scratch[position - 12] = lower;
    }
    position += 1;
  }
  position += 1;
  if (position + 4 > length) return false;
  query.labelCount = count;
  query.isMixedCase = isMixed;
  query.nameLength = position - 12;
  query.questionEnd = position + 4;
  query.qtype = word(message, position);
  query.qclass = word(message, position + 2);
  query.key = scratch.latin1Slice(0, query.nameLength);
  return true;
}

function walkRecords(message: Buffer, length: number, query: Query, otherCount: number, additionalCount: number): number {
  let position = query.questionEnd;
  for (let index = 0; index < otherCount + additionalCount; index++) {
    const ownerStart = position;
    position = skipName(message, length, position);
    if (position < 0 || position + 10 > length) return rcodes.FORMERR;
    const type = word(message, position);
    const dataStart = position + 10;
    const dataLength = word(message, position + 8);
    if (dataStart + dataLength > length) return rcodes.FORMERR;
    if (type === rrTypes.OPT) {
      if (index < otherCount || query.hasOpt || dataStart - ownerStart !== 11) return rcodes.FORMERR;
      query.hasOpt = true;
      query.udpSize = Math.max(512, word(message, position + 2));
      query.ednsVersion = message[position + 5] ?? 0;
      query.isDnssecOk = ((message[position + 6] ?? 0) & 0x80) !== 0;
      if (query.ednsVersion !== 0) return rcodes.BADVERS;
      if (!parseOptions(message, dataStart, dataStart + dataLength, query)) return rcodes.FORMERR;
    } else if (type === rrTypes.TSIG) query.hasTsig = true;
    position = dataStart + dataLength;
  }
  return query.hasTsig ? rcodes.NOTAUTH : queryOk;
}

function parseOptions(message: Buffer, start: number, end: number, query: Query): boolean {
  let position = start;
  while (position < end) {
    if (position + 4 > end) return false;
    const code = word(message, position);
    const size = word(message, position + 2);
    position += 4;
    if (position + size > end) return false;
    if (code === ednsOptions.cookie) {
      if (size !== 8 && (size < 16 || size > 40)) return false;
      query.cookieStart = position;
      query.cookieLength = size;
    } else if (code === ednsOptions.keepalive) query.hasKeepalive = true;
    else if (code === ednsOptions.padding) query.hasPadding = true;
    position += size;
  }
  return true;
}

/**
 * Offset behind the name at `start`, or -1 when it runs out of the message, uses label types 01/10, is over 255 octets,
 * or a pointer does not go strictly backwards. Follows pointers, so the whole name is known to be sound.
 */
export function skipName(message: Buffer, length: number, start: number): number {
  let position = start;
  let end = -1;
  let total = 1;
  let barrier = start;
  for (;;) {
    if (position >= length) return -1;
    const size = message[position] ?? 0;
    if (size === 0) return end < 0 ? position + 1 : end;
    if (size < 64) {
      total += size + 1;
      if (total > 255) return -1;
      position += size + 1;
    } else if (size >= 192) {
      if (position + 2 > length) return -1;
      const target = ((size & 63) << 8) | (message[position + 1] ?? 0);
      if (end < 0) end = position + 2;
      if (target >= barrier || target < 12) return -1;
      barrier = target;
      position = target;
    } else return -1;
  }
}

/** Big-endian 16 bits. */
export function word(message: Uint8Array, offset: number): number { return ((message[offset] ?? 0) << 8) | (message[offset + 1] ?? 0); }
