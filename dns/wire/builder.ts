// Builds the records of an answer once, as bytes that follow the question, so that later replies are a copy. A template
// fits every query for the same name whatever its letter case: owners point back into the question (RFC 1035 §4.1.4),
// which is as long for each of them. Called by the zone when an answer is asked for the first time; read by reply.ts.

import { rrTypes } from './constants.ts';
import { rootKey } from './names.ts';

/** An Extended DNS Error to add when the client speaks EDNS (RFC 8914). */
export interface ExtendedError { readonly code: number; readonly text: string }

/** Precompiled records. Never changed once made. */
export interface Template {
  readonly rcode: number;
  readonly isAuthoritative: boolean;
  /** Records of all sections, one after the other, as they stand behind the question. */
  readonly body: Buffer;
  /** End of each record within `body`. */
  readonly ends: Uint32Array;
  readonly answerCount: number; readonly authorityCount: number; readonly additionalCount: number;
  /** Octets per record when the answers are one RRset of equal records that may be rotated; else 0. */
  readonly rotateSize: number;
  /** The SOA of the zone whose name starts at this offset of the question name is put into authority; -1 = none. */
  readonly soaStart: number;
  readonly error: ExtendedError | undefined;
  /** Where each record's TTL stands in `body`, for answers whose TTL counts down; absent for cluster records. */
  readonly ttlOffsets?: Uint32Array;
}

export interface NegativeOptions { rcode: number; soaStart: number; error?: ExtendedError | undefined; isAuthoritative?: boolean }

const noBytes = Buffer.alloc(0);
const noEnds = new Uint32Array(0);

/** A reply without answers. */
export function negativeTemplate(options: NegativeOptions): Template {
  return {
    rcode: options.rcode, isAuthoritative: options.isAuthoritative ?? options.soaStart >= 0, body: noBytes, ends: noEnds, answerCount: 0, authorityCount: 0,
    additionalCount: 0, rotateSize: 0, soaStart: options.soaStart, error: options.error,
  };
}

const bodyBytesMax = 65_535;

/** Appends records section by section; `finish` copies them out. One instance is reused for all answers of a thread. */
export class AnswerBuilder {
  #bytes = Buffer.allocUnsafe(4_096);
  #length = 0;
  #ends: number[] = [];
  readonly #counts = [0, 0, 0];
  #section = 0;
  #questionKey = rootKey;
  /** Offset in the message of the body's first octet. */
  #base = 0;
  readonly #names = new Map<string, number>();
  #hasQuestionNames = false;

  /** Starts an answer for the question name `key`. */
  begin(key: string): void {
    this.#length = 0;
    this.#ends = [];
    this.#counts.fill(0);
    this.#section = 0;
    this.#questionKey = key;
    this.#base = 12 + key.length + 4;
    this.#names.clear();
    this.#hasQuestionNames = false;
  }

  get recordCount(): number { return this.#ends.length; }
  get byteCount(): number { return this.#length; }
  get isFull(): boolean { return this.#length >= bodyBytesMax; }

  /** Following records go to the authority section. */
  beginAuthority(): void { this.#section = 1; }
  /** Following records go to the additional section. */
  beginAdditional(): void { this.#section = 2; }

  /** Takes the additional section away again and goes back to answers. */
  dropAdditional(): void {
    const keep = (this.#counts[0] ?? 0) + (this.#counts[1] ?? 0);
    this.#ends.length = keep;
    this.#length = keep === 0 ? 0 : (this.#ends[keep - 1] ?? 0);
    this.#counts[2] = 0;
    this.#section = 0;
    for (const [suffix, offset] of this.#names) if (offset >= this.#base + this.#length) this.#names.delete(suffix);
  }

  addAddress(owner: string, ttlSeconds: number, address: Uint8Array): void {
    this.#head(owner, address.length === 4 ? rrTypes.A : rrTypes.AAAA, ttlSeconds);
    this.#word(address.length);
    this.#reserve(16);
    this.#bytes.set(address, this.#length);
    this.#length += address.length;
    this.#end();
  }

  /** CNAME, NS and PTR: one compressible name (RFC 3597 §4 allows it for RFC 1035 types only). */
  addName(owner: string, type: number, ttlSeconds: number, target: string): void {
    this.#head(owner, type, ttlSeconds);
    const at = this.#length;
    this.#word(0);
    this.#name(target, true);
    this.#bytes.writeUInt16BE(this.#length - at - 2, at);
    this.#end();
  }

  /** The target stays uncompressed (RFC 2782), but later names may point into it. */
  addSrv(owner: string, ttlSeconds: number, weight: number, port: number, target: string): void {
    this.#head(owner, rrTypes.SRV, ttlSeconds);
    this.#word(6 + target.length);
    this.#word(0);
    this.#word(weight);
    this.#word(port);
    this.#name(target, false);
    this.#end();
  }

  addText(owner: string, ttlSeconds: number, text: string): void {
    this.#head(owner, rrTypes.TXT, ttlSeconds);
    this.#word(text.length + 1);
    this.#reserve(text.length + 1);
    this.#bytes[this.#length] = text.length;
    this.#length += 1 + this.#bytes.write(text, this.#length + 1, 'latin1');
    this.#end();
  }

  addSoa(owner: string, ttlSeconds: number, mname: string, rname: string, serial: number, minimumSeconds: number): void {
    this.#head(owner, rrTypes.SOA, ttlSeconds);
    const at = this.#length;
    this.#word(0);
    this.#name(mname, true);
    this.#name(rname, true);
    this.#reserve(20);
    for (const value of [serial, soaTimes.refresh, soaTimes.retry, soaTimes.expire, minimumSeconds]) {
      this.#length = this.#bytes.writeUInt32BE(value >>> 0, this.#length);
    }
    this.#bytes.writeUInt16BE(this.#length - at - 2, at);
    this.#end();
  }

  /** A record with ready-made data that holds no names. */
  addRaw(owner: string, type: number, ttlSeconds: number, data: Uint8Array): void {
    this.#head(owner, type, ttlSeconds);
    this.#word(data.length);
    this.#reserve(data.length);
    this.#bytes.set(data, this.#length);
    this.#length += data.length;
    this.#end();
  }

  /** Copies the records out as a template. `rotateSize` as in Template. */
  finish(rotateSize = 0, error?: ExtendedError): Template {
    return {
      rcode: 0, isAuthoritative: true, body: Buffer.from(this.#bytes.subarray(0, this.#length)), ends: Uint32Array.from(this.#ends),
      answerCount: this.#counts[0] ?? 0, authorityCount: this.#counts[1] ?? 0, additionalCount: this.#counts[2] ?? 0,
      rotateSize: (this.#counts[0] ?? 0) > 1 ? rotateSize : 0, soaStart: -1, error,
    };
  }

  #head(owner: string, type: number, ttlSeconds: number): void {
    if (owner === this.#questionKey) this.#word(0xc00c);
    else this.#name(owner, true);
    this.#reserve(8);
    this.#length = this.#bytes.writeUInt32BE(((type << 16) | 1) >>> 0, this.#length);
    this.#length = this.#bytes.writeUInt32BE(ttlSeconds, this.#length);
  }

  #end(): void {
    this.#ends.push(this.#length);
    this.#counts[this.#section] = (this.#counts[this.#section] ?? 0) + 1;
  }

  #name(key: string, mayCompress: boolean): void {
    if (!this.#hasQuestionNames) this.#addQuestionNames();
    this.#reserve(key.length + 2);
    for (let position = 0; position < key.length - 1;) {
      const suffix = key.slice(position);
      const known = this.#names.get(suffix);
      if (known !== undefined && mayCompress) return this.#word(0xc000 | known);
      const offset = this.#base + this.#length;
      if (known === undefined && offset < 0x4000) this.#names.set(suffix, offset);
      const size = key.charCodeAt(position) + 1;
      this.#length += this.#bytes.write(key.slice(position, position + size), this.#length, 'latin1');
      position += size;
    }
    this.#bytes[this.#length++] = 0;
  }

  #addQuestionNames(): void {
    const key = this.#questionKey;
    for (let position = 0; position < key.length - 1; position += key.charCodeAt(position) + 1) this.#names.set(key.slice(position), 12 + position);
    this.#hasQuestionNames = true;
  }

  #word(value: number): void {
    this.#reserve(2);
    this.#length = this.#bytes.writeUInt16BE(value, this.#length);
  }

  #reserve(count: number): void {
    if (this.#length + count <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, this.#length + count));
    this.#bytes.copy(larger, 0, 0, this.#length);
    this.#bytes = larger;
  }
}

/** Times of the zone's SOA; transfers are rare, so they only have to be sane. */
export const soaTimes = Object.freeze({ refresh: 7_200, retry: 1_800, expire: 86_400 });
