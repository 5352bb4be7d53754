// Netlink messages of nf_tables, written and read as octets: batches of set elements (the hot path), dumps, tables.
// One Service's element operations are messages of their own, so that the kernel's error for a message names the
// Service. Called by kernel; ffi carries the octets. The writer keeps one buffer and allocates nothing per element.
// Source: linux include/uapi/linux/netfilter/{nfnetlink,nf_tables}.h, linux/netlink.h.

import { NetloomError } from '../../api/errors.ts';
import type { NetlinkSocket } from './ffi.ts';

const request = 1;
const acknowledge = 4;
const dump = 0x300;
const create = 0x400;
const nested = 0x8000;
const subsystem = 10 << 8;
export const messages = Object.freeze({ newTable: 0, getTable: 1, deleteTable: 2, getChain: 4, getRule: 7, getSet: 10, newElements: 12, getElements: 13, deleteElements: 14, newGeneration: 15, getGeneration: 16 });
export const tableFlags = Object.freeze({ owner: 2, persist: 4 });
/** Octets of elements in one message; a netlink attribute's length is 16 bits. */
const elementsBytesMax = 60_000;

export interface TableInfo { readonly flags: number; readonly handle: bigint; readonly ownerPortId: number }
/** `index` is the one given to `mark` before the failing message; -1 = the batch as a whole. */
export interface MessageError { readonly index: number; readonly errno: number }

/** Writes one batch at a time into a buffer that grows and is kept. */
export class BatchWriter {
  #buffer = Buffer.allocUnsafeSlow(256 * 1024);
  #length = 0;
  #sequence = 1;
  #firstSequence = 0;
  #messageStart = -1;
  #listStart = 0;
  #messageSet = -1;
  #messageType = 0;
  #lastMessage = 0;
  #index = -1;
  #indexBySequence: number[] = [];
  readonly #family: number;
  readonly #table: string;

  constructor(family: number, table: string) {
    this.#family = family;
    this.#table = table;
  }

  get length(): number { return this.#length; }

  begin(): void {
    this.#length = 0;
    this.#indexBySequence = [];
    this.#index = -1;
    this.#firstSequence = this.#sequence;
    this.#header(0x10, request, 0, 10);
    this.#closeHeader();
  }

  /** Messages written from now on belong to the caller's item `index`. */
  mark(index: number): void {
    this.#closeElements();
    this.#index = index;
  }

  /** One element operation; `set` is any number that stands for `setName`. `keyEnd` '' = no interval. */
  element(type: number, set: number, setName: string, key: string, data: string, keyEnd: string): void {
    if (this.#messageStart >= 0 && (this.#messageSet !== set || this.#messageType !== type || this.#length - this.#listStart > elementsBytesMax)) this.#closeElements();
    if (this.#messageStart < 0) this.#openElements(type, set, setName);
    this.#reserve(64 + key.length + data.length + keyEnd.length);
    const start = this.#length;
    this.#length += 4;
    this.#nestedValue(1, key);
    if (keyEnd !== '') this.#nestedValue(10, keyEnd);
    if (data !== '') this.#nestedValue(2, data);
    this.#attributeHeader(start, 1 | nested);
  }

  table(type: number, flags: number | undefined): void {
    this.#header(subsystem | type, request | acknowledge | (type === messages.newTable ? create : 0), this.#family, 0);
    this.#string(1, this.#table);
    if (flags !== undefined) this.#bigEndian32(2, flags);
    this.#closeHeader();
  }

  /** Ends the batch: exactly one acknowledgement comes back when all of it was applied. */
  end(): void {
    this.#closeElements();
    const flags = this.#buffer.readUInt16LE(this.#lastMessage + 6);
    this.#buffer.writeUInt16LE(flags | acknowledge, this.#lastMessage + 6);
    this.#header(0x11, request, 0, 10);
    this.#closeHeader();
  }

  /** Sends the batch and reads the answers. An empty list means that everything was applied, else nothing was. */
  commit(socket: NetlinkSocket): MessageError[] {
    socket.send(this.#buffer, this.#length);
    const errors: MessageError[] = [];
    let isAcknowledged = false;
    for (let datagram = socket.receive(); datagram !== undefined; datagram = socket.receive()) {
      for (const at of messageOffsets(datagram)) {
        if (datagram.readUInt16LE(at + 4) !== 2) continue;
        const sequence = datagram.readUInt32LE(at + 8);
        if (sequence < this.#firstSequence) continue;
        const errno = -datagram.readInt32LE(at + 16);
        if (errno === 0) isAcknowledged = true;
        else errors.push({ index: this.#indexBySequence[sequence - this.#firstSequence] ?? -1, errno });
      }
    }
    if (errors.length === 0 && !isAcknowledged) errors.push({ index: -1, errno: 0 });
    return errors;
  }

  #openElements(type: number, set: number, setName: string): void {
    this.#header(subsystem | type, request | (type === messages.newElements ? create : 0), this.#family, 0);
    this.#messageStart = this.#lastMessage;
    this.#messageSet = set;
    this.#messageType = type;
    this.#string(1, this.#table);
    this.#string(2, setName);
    this.#listStart = this.#length;
    this.#length += 4;
  }

  #closeElements(): void {
    if (this.#messageStart < 0) return;
    this.#attributeHeader(this.#listStart, 3 | nested);
    this.#closeHeader();
    this.#messageStart = -1;
  }

  #header(type: number, flags: number, family: number, resource: number): void {
    this.#reserve(256);
    this.#lastMessage = this.#length;
    const at = this.#length;
    this.#buffer.writeUInt32LE(0, at);
    this.#buffer.writeUInt16LE(type, at + 4);
    this.#buffer.writeUInt16LE(flags, at + 6);
    this.#indexBySequence[this.#sequence - this.#firstSequence] = this.#index;
    this.#buffer.writeUInt32LE(this.#sequence++, at + 8);
    this.#buffer.writeUInt32LE(0, at + 12);
    this.#buffer.writeUInt32LE(family, at + 16);
    this.#buffer.writeUInt16BE(resource, at + 18);
    this.#length += 20;
  }

  #closeHeader(): void { this.#buffer.writeUInt32LE(this.#length - this.#lastMessage, this.#lastMessage); }

  #nestedValue(type: number, value: string): void {
    const start = this.#length;
    const end = start + 8 + value.length;
    this.#buffer.latin1Write(value, start + 8);
    this.#buffer.writeUInt32LE((end - start - 4) | (1 << 16), start + 4);
    this.#length = end;
    this.#attributeHeader(start, type | nested);
  }

  /** Keys and data are whole words, so only strings ever need padding. */
  #attributeHeader(start: number, type: number): void {
    this.#buffer.writeUInt16LE(this.#length - start, start);
    this.#buffer.writeUInt16LE(type, start + 2);
    while ((this.#length & 3) !== 0) this.#buffer[this.#length++] = 0;
  }

  #string(type: number, text: string): void {
    const start = this.#length;
    this.#length += 4 + this.#buffer.latin1Write(text, start + 4);
    this.#buffer[this.#length++] = 0;
    this.#attributeHeader(start, type);
  }

  #bigEndian32(type: number, value: number): void {
    const start = this.#length;
    this.#buffer.writeUInt32BE(value >>> 0, start + 4);
    this.#length += 8;
    this.#attributeHeader(start, type);
  }

  #reserve(bytes: number): void {
    if (this.#length + bytes <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafeSlow(this.#buffer.length * 2 + bytes);
    this.#buffer.copy(larger, 0, 0, this.#length);
    this.#buffer = larger;
  }
}

export function* messageOffsets(datagram: Buffer): Generator<number> {
  for (let at = 0; at + 16 <= datagram.length;) {
    const length = datagram.readUInt32LE(at);
    if (length < 16) return;
    yield at;
    at += (length + 3) & ~3;
  }
}

/** Calls back with (type, payload start, payload end) of each attribute between two offsets. */
export function eachAttribute(buffer: Buffer, from: number, to: number, visit: (type: number, start: number, end: number) => void): void {
  for (let at = from; at + 4 <= to;) {
    const length = buffer.readUInt16LE(at);
    if (length < 4) return;
    visit(buffer.readUInt16LE(at + 2) & 0x3fff, at + 4, at + length);
    at += (length + 3) & ~3;
  }
}

let dumpSequence = 1;

/** One question, all its answers; `visit` gets each answer's attribute range. Returns an errno, 0 = fine, 4 = interrupted by a change. */
function ask(socket: NetlinkSocket, type: number, family: number, isDump: boolean, strings: readonly string[], visit: (buffer: Buffer, from: number, to: number) => void): number {
  const length = 20 + strings.reduce((sum, text) => sum + 4 + ((text.length + 1 + 3) & ~3), 0);
  const message = Buffer.alloc(length);
  const sequence = dumpSequence++;
  message.writeUInt32LE(length, 0);
  message.writeUInt16LE(subsystem | type, 4);
  message.writeUInt16LE(request | (isDump ? dump : 0), 6);
  message.writeUInt32LE(sequence, 8);
  message[16] = family;
  let at = 20;
  for (const [index, text] of strings.entries()) {
    message.writeUInt16LE(4 + text.length + 1, at);
    message.writeUInt16LE(index + 1, at + 2);
    message.latin1Write(text, at + 4);
    at += 4 + ((text.length + 1 + 3) & ~3);
  }
  socket.send(message, length);
  let errno = 0;
  let isInterrupted = false;
  for (let datagram = socket.receive(); datagram !== undefined; datagram = socket.receive()) {
    for (const offset of messageOffsets(datagram)) {
      if (datagram.readUInt32LE(offset + 8) !== sequence) continue;
      const kind = datagram.readUInt16LE(offset + 4);
      if ((datagram.readUInt16LE(offset + 6) & 0x10) !== 0) isInterrupted = true;
      if (kind === 2) errno = -datagram.readInt32LE(offset + 16);
      else if (kind !== 3) visit(datagram, offset + 20, offset + datagram.readUInt32LE(offset));
    }
  }
  return errno !== 0 ? errno : isInterrupted ? 4 : 0;
}

/** The table's flags, handle and owner; undefined when there is none. */
export function readTable(socket: NetlinkSocket, family: number, table: string): TableInfo | undefined {
  let info: TableInfo | undefined;
  ask(socket, messages.getTable, family, false, [table], (buffer, from, to) => {
    let flags = 0;
    let handle = 0n;
    let ownerPortId = 0;
    eachAttribute(buffer, from, to, (type, start) => {
      if (type === 2) flags = buffer.readUInt32BE(start);
      else if (type === 4) handle = buffer.readBigUInt64BE(start);
      else if (type === 7) ownerPortId = buffer.readUInt32BE(start);
    });
    info = { flags, handle, ownerPortId };
  });
  return info;
}

/** Names of the table's chains. */
export function listChains(socket: NetlinkSocket, family: number, table: string): string[] {
  const names: string[] = [];
  ask(socket, messages.getChain, family, true, [], (buffer, from, to) => {
    let isOurs = false;
    let name = '';
    eachAttribute(buffer, from, to, (type, start, end) => {
      if (type === 1) isOurs = buffer.latin1Slice(start, end - 1) === table;
      else if (type === 3) name = buffer.latin1Slice(start, end - 1);
    });
    if (isOurs) names.push(name);
  });
  return names;
}

/** Named sets and maps of the table. */
export function listSets(socket: NetlinkSocket, family: number, table: string): { name: string; isMap: boolean }[] {
  const sets: { name: string; isMap: boolean }[] = [];
  ask(socket, messages.getSet, family, true, [table], (buffer, from, to) => {
    let name = '';
    let flags = 0;
    eachAttribute(buffer, from, to, (type, start, end) => {
      if (type === 2) name = buffer.latin1Slice(start, end - 1);
      else if (type === 3) flags = buffer.readUInt32BE(start);
    });
    const isAnonymous = (flags & 1) !== 0;
    if (!isAnonymous) sets.push({ name, isMap: (flags & 8) !== 0 });
  });
  return sets;
}

/** Rules in the table. */
export function countRules(socket: NetlinkSocket, family: number, table: string): number {
  let count = 0;
  ask(socket, messages.getRule, family, true, [table], () => { count += 1; });
  return count;
}

/** The number of the last transaction of anybody in this network namespace. */
export function readGeneration(socket: NetlinkSocket): number {
  let generation = 0;
  ask(socket, messages.getGeneration, 0, false, [], (buffer, from, to) => {
    eachAttribute(buffer, from, to, (type, start) => { if (type === 1) generation = buffer.readUInt32BE(start); });
  });
  return generation;
}

/** Calls back with (key, data, keyEnd) of each element. Throws KernelRejected when the set does not exist; retries while others change rules. */
export function dumpElements(socket: NetlinkSocket, family: number, table: string, set: string): [key: string, data: string, keyEnd: string][] {
  for (let attempt = 0; attempt < 20; attempt++) {
    const found: [string, string, string][] = [];
    const errno = ask(socket, messages.getElements, family, true, [table, set], (buffer, from, to) => {
      eachAttribute(buffer, from, to, (type, start, end) => {
        if (type === 3) eachAttribute(buffer, start, end, (_type, elementStart, elementEnd) => { found.push(readElement(buffer, elementStart, elementEnd)); });
      });
    });
    if (errno === 0) return found;
    if (errno !== 4) throw new NetloomError('KernelRejected', `cannot list the elements of ${set} (errno ${errno})`, { source: 'kernel' });
  }
  throw new NetloomError('KernelRejected', `cannot list the elements of ${set}: rules keep changing`, { source: 'kernel' });
}

/** Calls back with (key, lookups) of each element of a counted set; an empty list when the set does not exist. */
export function dumpCounters(socket: NetlinkSocket, family: number, table: string, set: string): [key: string, count: number][] {
  const found: [string, number][] = [];
  ask(socket, messages.getElements, family, true, [table, set], (buffer, from, to) => {
    eachAttribute(buffer, from, to, (type, start, end) => {
      if (type === 3) eachAttribute(buffer, start, end, (_type, elementStart, elementEnd) => { found.push([readElement(buffer, elementStart, elementEnd)[0], readCounter(buffer, elementStart, elementEnd)]); });
    });
  });
  return found;
}

/** Packets of the element's counter: NFTA_SET_ELEM_EXPR (7) { data (2) { packets (2) } }. */
function readCounter(buffer: Buffer, from: number, to: number): number {
  let packets = 0n;
  eachAttribute(buffer, from, to, (type, start, end) => {
    if (type !== 7) return;
    eachAttribute(buffer, start, end, (kind, dataStart, dataEnd) => {
      if (kind === 2) eachAttribute(buffer, dataStart, dataEnd, (field, at) => { if (field === 2) packets = buffer.readBigUInt64BE(at); });
    });
  });
  return Number(packets);
}

function readElement(buffer: Buffer, from: number, to: number): [string, string, string] {
  let key = '';
  let data = '';
  let keyEnd = '';
  eachAttribute(buffer, from, to, (type, start, end) => {
    if (type !== 1 && type !== 2 && type !== 10) return;
    let value = '';
    eachAttribute(buffer, start, end, (kind, valueStart, valueEnd) => { if (kind === 1) value = buffer.latin1Slice(valueStart, valueEnd); });
    if (type === 1) key = value; else if (type === 2) data = value; else keyEnd = value;
  });
  return [key, data, keyEnd];
}
