// Strict reading of what an upstream sent: question matched octet for octet (letter case included, RFC 5452 §9.1 and
// draft-vixie-dnsext-dns0x20), every record walked within bounds, TTLs located so that they can count down later, OPT
// cut off. The result is a template that the same renderer serves to any client. Called by forward/; no names are
// decoded here except owners of the answer chain (bailiwick check).

import { rcodes, rrTypes } from './constants.ts';
import type { Template } from './builder.ts';
import { lowerOctets } from './names.ts';
import { skipName, word } from './query.ts';

/** An upstream's answer to one question, ready to be cached and served. */
export interface UpstreamAnswer {
  readonly template: Template;
  readonly isTruncated: boolean;
  /** Seconds that the answer may be kept: least TTL, or the SOA's for a negative answer (RFC 2308 §5); 0 = not at all. */
  readonly ttlSeconds: number;
  readonly isNegative: boolean;
  /** Addresses of the answer section, 4 or 16 octets each. */
  readonly addresses: readonly Uint8Array[];
}

/** `caseDiffers`: the question came back with other letter case. `mismatch`: not an answer to this query: keep waiting. */
export type ResponseVerdict = UpstreamAnswer | 'mismatch' | 'caseDiffers' | 'malformed';

const positiveTtlMax = 86_400;
const negativeTtlMax = 3_600;
/** DNAME: stands above the name it applies to. */
const dnameType = 39;

/** Reads `message` as the answer to `sent` (our query: header, question, OPT). */
export function parseResponse(message: Buffer, sent: Buffer, questionEnd: number): ResponseVerdict {
  const length = message.length;
  if (length < questionEnd || message[0] !== sent[0] || message[1] !== sent[1]) return 'mismatch';
  if (((message[2] ?? 0) & 0xf8) !== 0x80 || word(message, 4) !== 1) return 'mismatch';
  let hasSameCase = true;
  for (let index = 12; index < questionEnd; index++) {
    const received = message[index] ?? 0;
    const expected = sent[index] ?? 0;
    if (received === expected) continue;
    if (index >= questionEnd - 4 || lowerOctets[received] !== lowerOctets[expected]) return 'mismatch';
    hasSameCase = false;
  }
  return hasSameCase ? readRecords(message, questionEnd) : 'caseDiffers';
}

function readRecords(message: Buffer, questionEnd: number): UpstreamAnswer | 'malformed' {
  const counts = [word(message, 6), word(message, 8), word(message, 10)];
  const kept = [0, 0, 0];
  const ends: number[] = [];
  const ttlOffsets: number[] = [];
  const addresses: Uint8Array[] = [];
  let position = questionEnd;
  let extendedRcode = 0;
  let ttl = positiveTtlMax;
  let negativeTtl = 0;
  let bodyEnd = -1;
  const owners = new Set<string>();
  const aliases = new Map<string, string>();
  for (let section = 0; section < 3; section++) {
    for (let index = 0; index < (counts[section] ?? 0); index++) {
      const start = position;
      position = skipName(message, message.length, position);
      if (position < 0 || position + 10 > message.length) return 'malformed';
      const type = word(message, position);
      const dataStart = position + 10;
      const dataEnd = dataStart + word(message, position + 8);
      if (dataEnd > message.length) return 'malformed';
      if (type === rrTypes.OPT) {
        if (section !== 2) return 'malformed';
        extendedRcode = message[position + 4] ?? 0;
        // Whatever follows OPT is optional additional data: it is cut off with it.
        bodyEnd = start - questionEnd;
        position = dataEnd;
        continue;
      }
      if (section === 0) {
        const owner = readName(message, start);
        if (type !== dnameType) owners.add(owner);
        if (type === rrTypes.CNAME && skipName(message, dataEnd, dataStart) >= 0) aliases.set(owner, readName(message, dataStart));
        if ((type === rrTypes.A && dataEnd - dataStart === 4) || (type === rrTypes.AAAA && dataEnd - dataStart === 16)) addresses.push(message.subarray(dataStart, dataEnd));
      }
      const recordTtl = clampTtl(message.readUInt32BE(position + 4));
      if (section < 2) ttl = Math.min(ttl, recordTtl);
      if (type === rrTypes.SOA && section === 1 && dataEnd - dataStart >= 22) negativeTtl = Math.min(recordTtl, clampTtl(message.readUInt32BE(dataEnd - 4)));
      position = dataEnd;
      if (bodyEnd >= 0) continue;
      kept[section] = (kept[section] ?? 0) + 1;
      ends.push(dataEnd - questionEnd);
      ttlOffsets.push(skipName(message, message.length, start) + 4 - questionEnd);
    }
  }
  if (!isChain(readName(message, 12), owners, aliases)) return 'malformed';
  if (bodyEnd < 0) bodyEnd = position - questionEnd;
  const rcode = (extendedRcode << 4) | ((message[3] ?? 0) & 15);
  const isNegative = rcode === rcodes.NXDOMAIN || (rcode === rcodes.NOERROR && (kept[0] ?? 0) === 0);
  const isCacheable = rcode === rcodes.NOERROR || rcode === rcodes.NXDOMAIN;
  const template: Template = {
    rcode, isAuthoritative: false, body: Buffer.from(message.subarray(questionEnd, questionEnd + bodyEnd)), ends: Uint32Array.from(ends),
    answerCount: kept[0] ?? 0, authorityCount: kept[1] ?? 0, additionalCount: kept[2] ?? 0, rotateSize: 0, soaStart: -1, error: undefined,
    ttlOffsets: Uint32Array.from(ttlOffsets),
  };
  const keep = !isCacheable ? 0 : isNegative ? Math.min(negativeTtl, negativeTtlMax, ttl) : ttl;
  return { template, isTruncated: ((message[2] ?? 0) & 2) !== 0, ttlSeconds: keep, isNegative, addresses };
}

/** Whether every owner in the answer section hangs on the question through aliases: anything else was not asked for. */
function isChain(question: string, owners: Set<string>, aliases: ReadonlyMap<string, string>): boolean {
  let name: string | undefined = question;
  for (let hops = 0; name !== undefined && hops <= aliases.size; hops++) {
    owners.delete(name);
    name = aliases.get(name);
  }
  return owners.size === 0;
}

/** RFC 2181 §8: a TTL with the highest bit set means 0. */
function clampTtl(ttl: number): number { return ttl > 0x7fffffff ? 0 : ttl; }

/** Lower-cased name key at `start`; pointers are followed. The name must have passed `skipName`. */
export function readName(message: Buffer, start: number): string {
  let key = '';
  let position = start;
  for (let hops = 0; hops < 128;) {
    const size = message[position] ?? 0;
    if (size === 0) return `${key}\0`;
    if (size >= 192) {
      position = ((size & 63) << 8) | (message[position + 1] ?? 0);
      hops += 1;
      continue;
    }
    key += String.fromCharCode(size);
    for (let index = position + 1; index <= position + size; index++) key += String.fromCharCode(lowerOctets[message[index] ?? 0] ?? 0);
    position += size + 1;
  }
  return '\0';
}

/** One record with its names expanded, so that it can be written into another message. */
export interface DecodedRecord { readonly owner: string; readonly type: number; readonly ttlSeconds: number; readonly data: Buffer; readonly target: string | undefined }

/** Expands the answer section of `template`, which belongs to the question `key`. `target` is set for CNAME, NS, PTR. */
export function decodeAnswers(template: Template, key: string): DecodedRecord[] {
  const questionEnd = 12 + key.length + 4;
  const message = Buffer.concat([Buffer.alloc(12), Buffer.from(key, 'latin1'), Buffer.alloc(4), template.body]);
  const records: DecodedRecord[] = [];
  for (let index = 0; index < template.answerCount; index++) {
    const start = questionEnd + (index === 0 ? 0 : (template.ends[index - 1] ?? 0));
    const fixed = skipName(message, message.length, start);
    if (fixed < 0) break;
    const type = word(message, fixed);
    const dataStart = fixed + 10;
    const data = message.subarray(dataStart, dataStart + word(message, fixed + 8));
    const hasName = type === rrTypes.CNAME || type === rrTypes.NS || type === rrTypes.PTR;
    records.push({
      owner: readName(message, start), type, ttlSeconds: clampTtl(message.readUInt32BE(fixed + 4)),
      data: type === rrTypes.MX || type === rrTypes.SRV ? expandData(message, dataStart, data.length, type === rrTypes.MX ? 2 : 6) : data,
      target: hasName ? readName(message, dataStart) : undefined,
    });
  }
  return records;
}

/** Data of MX and SRV: fixed octets, then a name that may be compressed. */
function expandData(message: Buffer, start: number, size: number, fixedOctets: number): Buffer {
  if (size <= fixedOctets || skipName(message, message.length, start + fixedOctets) < 0) return message.subarray(start, start + size);
  return Buffer.concat([message.subarray(start, start + fixedOctets), Buffer.from(readName(message, start + fixedOctets), 'latin1')]);
}
