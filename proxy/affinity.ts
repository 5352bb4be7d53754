// ClientIP affinity shared by all data threads: one open-addressing table in a SharedArrayBuffer that the main thread
// owns, so that a client meets the same endpoint on whichever thread the kernel puts its connection, and a restarted
// thread finds it as it was. The key is ServicePort and client address: all addresses of a port share it.
//
//   header  [0] now, in tenths of a second, advanced by the main thread     (threads have clocks of different origin)
//   slot    [0] tag  [1] check: two hashes of the key  [2] hash of the endpoint  [3] time of expiry
//
// The window slides: each look-up renews the expiry. The table is bounded: a key may sit in `probesMax` slots; when all
// are taken, the one that expires first goes. Two threads that insert the same key at once write the same value,
// because a first pick is a function of client and endpoints (balance.ts, pickByHash). A torn read at worst gives no
// match or the hash of another candidate: the next connection is not sticky, nothing else.

import type { Clock, TimerHandle } from '../api/clock.ts';
import { hashText } from './balance.ts';

const slotWords = 4;
const probesMax = 8;
const tickMs = 100;
const tagSeed = 0x2545f491;
const checkSeed = 0x5bd1e995;
export const affinitySlotsDefault = 65_536;

/** The memory of a table for `slots` clients (a power of two). */
export function createAffinityMemory(slots: number = affinitySlotsDefault): SharedArrayBuffer {
  return new SharedArrayBuffer((1 + slots) * slotWords * 4);
}

/** Advances the table's time; one per table, on the main thread. */
export function startAffinityClock(memory: SharedArrayBuffer, clock: Clock): TimerHandle {
  const words = new Int32Array(memory);
  const startMs = clock.monotonicMs() - Atomics.load(words, 0) * tickMs;
  return clock.every(tickMs, () => { Atomics.store(words, 0, Math.floor((clock.monotonicMs() - startMs) / tickMs)); });
}

export class AffinityTable {
  readonly #words: Int32Array;
  readonly #mask: number;

  constructor(memory: SharedArrayBuffer) {
    this.#words = new Int32Array(memory);
    this.#mask = this.#words.length / slotWords - 2;
  }

  /** The remembered endpoint hash of the client, or 0. A hit renews the entry. O(1). */
  find(portKey: string, client: string, timeoutSeconds: number): number {
    const words = this.#words;
    const key = `${portKey}|${client}`;
    const tag = hashText(key, tagSeed) | 1;
    const check = hashText(key, checkSeed) | 0;
    const now = Atomics.load(words, 0);
    for (let probe = 0; probe < probesMax; probe++) {
      const slot = this.#slot(tag, probe);
      if (Atomics.load(words, slot) !== (tag | 0) || Atomics.load(words, slot + 1) !== check) continue;
      if (Atomics.load(words, slot + 3) <= now) return 0;
      Atomics.store(words, slot + 3, now + ticksOf(timeoutSeconds));
      return Atomics.load(words, slot + 2) >>> 0;
    }
    return 0;
  }

  /** Remembers the client's endpoint. O(1). */
  set(portKey: string, client: string, endpointHash: number, timeoutSeconds: number): void {
    const words = this.#words;
    const key = `${portKey}|${client}`;
    const tag = hashText(key, tagSeed) | 1;
    const check = hashText(key, checkSeed) | 0;
    const now = Atomics.load(words, 0);
    let target = this.#slot(tag, 0);
    let targetExpiry = Infinity;
    for (let probe = 0; probe < probesMax; probe++) {
      const slot = this.#slot(tag, probe);
      const present = Atomics.load(words, slot);
      if (present === (tag | 0) && Atomics.load(words, slot + 1) === check) { target = slot; break; }
      const expiry = present === 0 ? -1 : Atomics.load(words, slot + 3);
      if (expiry < targetExpiry) { target = slot; targetExpiry = expiry; }
    }
    Atomics.store(words, target, 0);
    Atomics.store(words, target + 1, check);
    Atomics.store(words, target + 2, endpointHash | 0);
    Atomics.store(words, target + 3, now + ticksOf(timeoutSeconds));
    Atomics.store(words, target, tag | 0);
  }

  /** Clients remembered at this moment. O(slots); for metrics. */
  count(): number {
    const now = Atomics.load(this.#words, 0);
    let count = 0;
    for (let slot = slotWords; slot < this.#words.length; slot += slotWords) if (this.#words[slot] !== 0 && (this.#words[slot + 3] as number) > now) count += 1;
    return count;
  }

  #slot(tag: number, probe: number): number {
    return (1 + (((tag >>> 1) + probe) & this.#mask)) * slotWords;
  }
}

const ticksOf = (seconds: number): number => Math.max(1, Math.round(seconds * 1000 / tickMs));

/** What the table stores for an endpoint; never 0. */
export function endpointHashOf(ip: string, port: number): number {
  return (hashText(`${ip}:${port}`, 0x1b873593) | 1) >>> 0;
}
