// Decodes `application/vnd.kubernetes.protobuf` request bodies into the JSON form of the API. kubectl 1.32 and newer, Helm and every
// recent Go controller send it. Called by `decode`; encoding is not needed, since those clients accept JSON answers.
// Field numbers come from data/protobuf.json: type → "name=NUMBERcode[~]" words; a code is the one of `generate` plus `wrap` (a list of
// strings inside a message); an empty name inlines the message (VolumeSource); `~` drops zero values, which Go always writes for
// fields that are no pointer. The table knows newer fields than the served API level: `typed` prunes those.
// Shape: magic "k8s\0", then runtime.Unknown {1 typeMeta {1 apiVersion, 2 kind}, 2 raw, 3 contentEncoding, 4 contentType}.

import { readFileSync } from 'node:fs';
import { NetloomError } from '../../../api/errors.ts';
import { packageOf } from '../kinds.ts';
import { setKey } from '../schema.ts';

/** Deepest nesting of messages. No type nests deeper than 20, but JSONSchemaProps in JSONSchemaProps may. */
const messageDepthMax = 200;

interface Field { readonly name: string; readonly isList: boolean; readonly isMap: boolean; readonly base: string; readonly dropsZero: boolean }
type Message = ReadonlyMap<number, Field>;

let table: Record<string, string> | undefined;
const messages = new Map<string, Message | undefined>();

/** What the envelope said, and the object in JSON form. */
export interface DecodedProtobuf { readonly apiVersion: string; readonly kind: string; readonly object: Record<string, unknown> }

/** True when the body starts with the envelope's magic. */
export function isProtobuf(bytes: Uint8Array): boolean {
  return bytes.length >= 4 && bytes[0] === 0x6b && bytes[1] === 0x38 && bytes[2] === 0x73 && bytes[3] === 0;
}

/** Decodes one body. Throws BadRequest for bytes that are no such message and for kinds without a field table. */
export function decodeProtobuf(bytes: Uint8Array): DecodedProtobuf {
  if (!isProtobuf(bytes)) throw broken('provided data does not appear to be a protobuf message, expected prefix k8s\\0');
  const reader = new Reader(Buffer.from(bytes.buffer, bytes.byteOffset + 4, bytes.byteLength - 4));
  let apiVersion = '';
  let kind = '';
  let raw: Buffer = Buffer.alloc(0);
  let encoding = '';
  while (!reader.isDone) {
    const tag = reader.tag();
    if (tag.wire !== 2) { reader.skip(tag.wire); continue; }
    const part = reader.bytes();
    if (tag.number === 1) [apiVersion, kind] = readTypeMeta(part);
    else if (tag.number === 2) raw = part;
    else if (tag.number === 3) encoding = part.toString('utf8');
  }
  if (encoding !== '') throw broken(`content encoding ${JSON.stringify(encoding)} is not supported`);
  const packageName = kind === 'DeleteOptions' ? 'meta/v1' : packageOf(apiVersion);
  if (packageName === undefined || messageOf(`${packageName}.${kind}`) === undefined) {
    throw new NetloomError('UnsupportedMediaType', `no protobuf field table for ${apiVersion} ${kind}: send application/json`, { source: 'downstream' });
  }
  return { apiVersion, kind, object: readMessage(`${packageName}.${kind}`, raw, 0) };
}

/** Type names that the table has, for tests. */
export function protobufTypes(): string[] { return Object.keys(readTable()); }

function readTable(): Record<string, string> {
  return table ??= JSON.parse(readFileSync(new URL('../data/protobuf.json', import.meta.url), 'utf8')) as Record<string, string>;
}

function messageOf(type: string): Message | undefined {
  if (messages.has(type)) return messages.get(type);
  const line = Object.hasOwn(readTable(), type) ? readTable()[type] : undefined;
  const packageName = type.slice(0, type.indexOf('.'));
  const made = line === undefined ? undefined : new Map(line.split(' ').map((word) => readField(word, packageName)));
  messages.set(type, made);
  return made;
}

function readField(word: string, packageName: string): [number, Field] {
  const [, name = '', number = '', prefix = '', code = '', zero = ''] = /^([^=]*)=(\d+)(\[\]|\{\})?([^~]*)(~?)$/.exec(word) ?? [];
  const base = /[A-Z]/.test(code) && !code.includes('.') ? `${packageName}.${code}` : code;
  return [Number(number), { name, isList: prefix === '[]', isMap: prefix === '{}', base, dropsZero: zero === '~' }];
}

function readMessage(type: string, bytes: Buffer, depth: number): Record<string, unknown> {
  const fields = messageOf(type);
  if (fields === undefined) throw broken(`no field table for ${type}`);
  if (depth > messageDepthMax) throw broken(`nested deeper than ${messageDepthMax}`);
  const reader = new Reader(bytes);
  const out: Record<string, unknown> = {};
  while (!reader.isDone) {
    const tag = reader.tag();
    const field = fields.get(tag.number);
    if (field === undefined) { reader.skip(tag.wire); continue; }
    if (field.isList) readItem(out, field, reader, tag.wire, depth);
    else if (field.isMap) readEntry(out, field, reader.bytes(), depth);
    else {
      const value = readValue(field.base, reader, tag.wire, depth + 1);
      if (field.name === '') Object.assign(out, value);
      else if (value !== undefined && !(field.dropsZero && isZero(value, field.base))) out[field.name] = value;
    }
  }
  return out;
}

function isZero(value: unknown, base: string): boolean {
  if (base === 'intstr') return value === 0;
  // Empty messages stay: Go writes such structs as {} in JSON too, so both encodings give the same object.
  return value === '' || value === 0 || value === false;
}

function readItem(out: Record<string, unknown>, field: Field, reader: Reader, wire: number, depth: number): void {
  const list = (out[field.name] ??= []) as unknown[];
  if (wire === 2 && (field.base === 'int32' || field.base === 'int64')) {
    const packed = new Reader(reader.bytes());
    while (!packed.isDone) list.push(packed.integer(field.base));
  } else list.push(readValue(field.base, reader, wire, depth + 1));
}

function readEntry(out: Record<string, unknown>, field: Field, bytes: Buffer, depth: number): void {
  const reader = new Reader(bytes);
  let key = '';
  let value: unknown;
  while (!reader.isDone) {
    const tag = reader.tag();
    if (tag.number === 1 && tag.wire === 2) key = reader.text();
    else if (tag.number === 2) value = readValue(field.base, reader, tag.wire, depth + 1);
    else reader.skip(tag.wire);
  }
  setKey((out[field.name] ??= {}) as Record<string, unknown>, key, value ?? emptyOf(field.base));
}

function emptyOf(base: string): unknown {
  if (base === 'string' || base === 'byte') return '';
  return base === 'wrap' ? [] : base === 'quantity' ? '0' : base === 'time' ? null : {};
}

function readValue(base: string, reader: Reader, wire: number, depth: number): unknown {
  const wanted = base === 'double' ? 1 : base === 'int32' || base === 'int64' || base === 'bool' ? 0 : 2;
  if (wire !== wanted) throw broken(`wrong wire type ${wire} for ${base}`);
  switch (base) {
    case 'string': return reader.text();
    case 'byte': return reader.bytes().toString('base64');
    case 'int32': case 'int64': return reader.integer(base);
    case 'bool': return reader.varint() !== 0n;
    case 'double': return reader.double();
    case 'time': return timeText(reader.bytes(), 0);
    case 'microtime': return timeText(reader.bytes(), 6);
    case 'intstr': return intOrString(reader.bytes());
    case 'quantity': return (parts(reader.bytes())[1] ?? '0').toString();
    case 'wrap': return wrapped(reader.bytes());
    case 'any': return rawJson(reader.bytes());
    default: return plainUnion(base, readMessage(base, reader.bytes(), depth));
  }
}

/** JSONSchemaPropsOrBool and its kin are a schema or a plain value in JSON, without a wrapper. */
function plainUnion(type: string, message: Record<string, unknown>): unknown {
  if (!type.startsWith('apiextensions/v1.JSONSchemaPropsOr')) return message;
  return message['schema'] ?? message['value'] ?? (type.endsWith('OrBool') ? false : []);
}

function readTypeMeta(bytes: Buffer): [string, string] {
  const { 1: apiVersion = '', 2: kind = '' } = parts(bytes);
  return [apiVersion.toString(), kind.toString()];
}

/** The last value of each field of a small message: varints as bigint, byte fields as Buffer. */
function parts(bytes: Buffer): Record<number, bigint | Buffer> {
  const reader = new Reader(bytes);
  const out: Record<number, bigint | Buffer> = {};
  while (!reader.isDone) {
    const tag = reader.tag();
    if (tag.wire === 2) out[tag.number] = reader.bytes();
    else if (tag.wire === 0) out[tag.number] = reader.varint();
    else reader.skip(tag.wire);
  }
  return out;
}

function wrapped(bytes: Buffer): string[] {
  const reader = new Reader(bytes);
  const out: string[] = [];
  while (!reader.isDone) {
    const tag = reader.tag();
    if (tag.wire === 2) out.push(reader.text()); else reader.skip(tag.wire);
  }
  return out;
}

/** An empty Time means "not set" and yields undefined. */
function timeText(bytes: Buffer, digits: 0 | 6): string | undefined {
  const { 1: seconds = 0n, 2: nanos = 0n } = parts(bytes);
  if (bytes.length === 0 || typeof seconds !== 'bigint' || typeof nanos !== 'bigint') return undefined;
  const date = new Date(Number(BigInt.asIntN(64, seconds)) * 1000);
  if (Number.isNaN(date.getTime())) throw broken('time out of range');
  if (seconds === BigInt.asUintN(64, -62135596800n)) return undefined;
  const base = date.toISOString().slice(0, 19);
  return digits === 0 ? `${base}Z` : `${base}.${String(Number(nanos) / 1000 | 0).padStart(6, '0')}Z`;
}

function intOrString(bytes: Buffer): string | number {
  const { 1: type = 0n, 2: number = 0n, 3: text = '' } = parts(bytes);
  if (type === 1n) return text.toString();
  return typeof number === 'bigint' ? Number(BigInt.asIntN(32, number)) : 0;
}

function rawJson(bytes: Buffer): unknown {
  const raw = parts(bytes)[1];
  if (raw === undefined) return null;
  try {
    return JSON.parse(raw.toString()) as unknown;
  } catch {
    throw broken('a raw field holds no JSON');
  }
}

function broken(why: string): NetloomError { return new NetloomError('BadRequest', `cannot decode protobuf body: ${why}`, { source: 'downstream' }); }

/** A cursor over protobuf wire bytes; every read checks the end. */
class Reader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) { this.#bytes = bytes; }

  get isDone(): boolean { return this.#at >= this.#bytes.length; }

  tag(): { number: number; wire: number } {
    const value = Number(this.varint() & 0xffffffffn);
    if (value >>> 3 === 0) throw broken('field number 0');
    return { number: value >>> 3, wire: value & 7 };
  }

  varint(): bigint {
    let result = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.#bytes[this.#at++];
      if (byte === undefined) throw broken('unexpected end');
      result |= BigInt(byte & 127) << shift;
      if (byte < 128) return BigInt.asUintN(64, result);
    }
    throw broken('varint too long');
  }

  integer(type: string): number { return Number(type === 'int32' ? BigInt.asIntN(32, this.varint()) : BigInt.asIntN(64, this.varint())); }

  bytes(): Buffer {
    const length = Number(this.varint());
    const end = this.#at + length;
    if (end > this.#bytes.length) throw broken('unexpected end');
    const slice = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return slice;
  }

  text(): string { return this.bytes().toString('utf8'); }

  double(): number {
    if (this.#at + 8 > this.#bytes.length) throw broken('unexpected end');
    const value = this.#bytes.readDoubleLE(this.#at);
    this.#at += 8;
    return value;
  }

  skip(wire: number): void {
    if (wire === 0) this.varint();
    else if (wire === 2) this.bytes();
    else if (wire === 1) this.#at += 8;
    else if (wire === 5) this.#at += 4;
    else throw broken(`wire type ${wire}`);
    if (this.#at > this.#bytes.length) throw broken('unexpected end');
  }
}
