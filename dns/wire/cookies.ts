// DNS cookies (RFC 7873) with the interoperable server cookie of RFC 9018: version, time, SipHash-2-4 over client cookie
// and address. A valid one proves that the source address is not forged, so its owner is never rate-limited.
// Called by dns/engine/engine.ts for queries that carry the option.

import { parseIP } from '../../api/address.ts';

const past = 3_600;
const future = 300;

/** Makes and checks server cookies with one secret of 16 octets, shared by all threads of a server. */
export class CookieJar {
  readonly #key: Uint32Array;
  readonly #input = Buffer.alloc(32);
  /** Reused: client cookie then server cookie. */
  readonly #data = Buffer.alloc(24);

  constructor(secret: Uint8Array) {
    const bytes = Buffer.from(secret);
    this.#key = Uint32Array.of(bytes.readUInt32LE(0), bytes.readUInt32LE(4), bytes.readUInt32LE(8), bytes.readUInt32LE(12));
  }

  /** Whether the 24 octets at `start` hold a server cookie of ours for this address that is not too old. */
  isValid(message: Buffer, start: number, length: number, address: string, nowSeconds: number): boolean {
    if (length !== 24 || message[start + 8] !== 1) return false;
    const time = message.readUInt32BE(start + 12);
    const age = (nowSeconds - time) | 0;
    if (age > past || age < -future) return false;
    const [low, high] = this.#hash(message, start, time, address);
    return message.readUInt32LE(start + 16) === low && message.readUInt32LE(start + 20) === high;
  }

  /** Option data for the reply: the client's 8 octets and a fresh server cookie. Valid until the next call. */
  make(message: Buffer, start: number, address: string, nowSeconds: number): Buffer {
    const data = this.#data;
    message.copy(data, 0, start, start + 8);
    data.writeUInt32BE(0x0100_0000, 8);
    data.writeUInt32BE(nowSeconds >>> 0, 12);
    const [low, high] = this.#hash(message, start, nowSeconds >>> 0, address);
    data.writeUInt32LE(low, 16);
    data.writeUInt32LE(high, 20);
    return data;
  }

  #hash(message: Buffer, start: number, time: number, address: string): readonly [number, number] {
    const ip = parseIP(address)?.bytes ?? new Uint8Array(4);
    const input = this.#input;
    message.copy(input, 0, start, start + 8);
    input.writeUInt32BE(0x0100_0000, 8);
    input.writeUInt32BE(time, 12);
    input.set(ip, 16);
    return sipHash24(this.#key, input, 16 + ip.length);
  }
}

/** SipHash-2-4 of `input[0..length)`; key and result as little-endian 32-bit words (low, high). */
export function sipHash24(key: Uint32Array, input: Uint8Array, length: number): readonly [low: number, high: number] {
  const [k0 = 0, k1 = 0, k2 = 0, k3 = 0] = key;
  // v0…v3 as [low, high] pairs in one array.
  const v = Int32Array.of(k0 ^ 0x70736575, k1 ^ 0x736f6d65, k2 ^ 0x6e646f6d, k3 ^ 0x646f7261, k0 ^ 0x6e657261, k1 ^ 0x6c796765, k2 ^ 0x79746573, k3 ^ 0x74656462);
  const whole = length - (length % 8);
  for (let at = 0; at < whole; at += 8) absorb(v, littleEndian(input, at, at + 4), littleEndian(input, at + 4, at + 8));
  const low = littleEndian(input, whole, Math.min(length, whole + 4));
  const high = (length << 24) | littleEndian(input, whole + 4, Math.max(whole + 4, length));
  absorb(v, low, high);
  v[4] = (v[4] ?? 0) ^ 0xff;
  for (let round = 0; round < 4; round++) sipRound(v);
  const l = (v[0] ?? 0) ^ (v[2] ?? 0) ^ (v[4] ?? 0) ^ (v[6] ?? 0);
  const h = (v[1] ?? 0) ^ (v[3] ?? 0) ^ (v[5] ?? 0) ^ (v[7] ?? 0);
  return [l >>> 0, h >>> 0];
}

function littleEndian(input: Uint8Array, from: number, to: number): number {
  let value = 0;
  for (let index = from; index < to; index++) value |= (input[index] ?? 0) << ((index - from) * 8);
  return value;
}

function absorb(v: Int32Array, low: number, high: number): void {
  v[6] = (v[6] ?? 0) ^ low;
  v[7] = (v[7] ?? 0) ^ high;
  sipRound(v);
  sipRound(v);
  v[0] = (v[0] ?? 0) ^ low;
  v[1] = (v[1] ?? 0) ^ high;
}

function sipRound(v: Int32Array): void {
  add(v, 0, 2); rotate(v, 2, 13); xor(v, 2, 0); rotate(v, 0, 32);
  add(v, 4, 6); rotate(v, 6, 16); xor(v, 6, 4);
  add(v, 0, 6); rotate(v, 6, 21); xor(v, 6, 0);
  add(v, 4, 2); rotate(v, 2, 17); xor(v, 2, 4); rotate(v, 4, 32);
}

function add(v: Int32Array, to: number, from: number): void {
  const low = ((v[to] ?? 0) >>> 0) + ((v[from] ?? 0) >>> 0);
  v[to + 1] = (v[to + 1] ?? 0) + (v[from + 1] ?? 0) + (low > 0xffff_ffff ? 1 : 0);
  v[to] = low | 0;
}

function xor(v: Int32Array, to: number, from: number): void {
  v[to] = (v[to] ?? 0) ^ (v[from] ?? 0);
  v[to + 1] = (v[to + 1] ?? 0) ^ (v[from + 1] ?? 0);
}

function rotate(v: Int32Array, at: number, bits: number): void {
  const low = v[at] ?? 0;
  const high = v[at + 1] ?? 0;
  if (bits === 32) { v[at] = high; v[at + 1] = low; return; }
  v[at] = (low << bits) | (high >>> (32 - bits));
  v[at + 1] = (high << bits) | (low >>> (32 - bits));
}
