// Request limits per client address and object. Rates are counted over all workers in one shared table (rule 122) by the
// generic cell rate algorithm: one number per client, the time at which it would be "level" again. The table is bounded;
// when full, the client that has been level longest gives way.

import type { LimitSpec } from './spec.ts';

const slotCount = 65_536;
const probeCount = 8;
const connectionEntriesMax = 100_000;

/** Memory shared by the workers: a fingerprint and a time per slot. */
export interface SharedLimits { readonly times: Float64Array; readonly marks: Int32Array }

export function makeLimitMemory(): SharedArrayBuffer { return new SharedArrayBuffer(slotCount * 12); }
export function openSharedLimits(memory: SharedArrayBuffer): SharedLimits {
  return { times: new Float64Array(memory, 0, slotCount), marks: new Int32Array(memory, slotCount * 8, slotCount) };
}

export class RouteLimits {
  readonly spec: LimitSpec;
  readonly #object: string;
  readonly #shared: SharedLimits;
  readonly #connections: Map<string, number>;
  readonly #connectionsMax: number;

  /** `connections`: counts of requests under way by address, kept by the caller so that they outlive a new version of the route. */
  constructor(spec: LimitSpec, object: string, shared: SharedLimits, connections: Map<string, number>, workerCount: number) {
    this.spec = spec;
    this.#object = object;
    this.#shared = shared;
    this.#connections = connections;
    this.#connectionsMax = spec.connections === 0 ? 0 : Math.max(1, Math.ceil(spec.connections / workerCount));
  }

  /** Whether one more request of this client is within its rates now. `nowMs`: wall clock, equal in all workers. */
  mayPass(ip: string, nowMs: number): boolean {
    const { perSecond, perMinute, burstMultiplier } = this.spec;
    if (perSecond > 0 && !this.#take(`${this.#object} s ${ip}`, 1_000 / perSecond, perSecond * burstMultiplier, nowMs)) return false;
    return perMinute <= 0 || this.#take(`${this.#object} m ${ip}`, 60_000 / perMinute, perMinute * burstMultiplier, nowMs);
  }

  #take(key: string, intervalMs: number, burst: number, nowMs: number): boolean {
    const { times, marks } = this.#shared;
    const mark = hash(key) | 1;
    let slot = -1;
    let oldest = -1;
    for (let step = 0; step < probeCount; step++) {
      const index = (mark + step * 0x9e37) & (slotCount - 1);
      if (marks[index] === mark) { slot = index; break; }
      if (oldest < 0 || times[index]! < times[oldest]!) oldest = index;
    }
    if (slot < 0) {
      slot = oldest;
      marks[slot] = mark;
      times[slot] = nowMs;
    }
    const level = Math.max(nowMs, times[slot]!);
    if (level - nowMs > intervalMs * burst) return false;
    times[slot] = level + intervalMs;
    return true;
  }

  /** Takes a slot for a request under way; false when this client has too many. Pair with leave(). */
  enter(ip: string): boolean {
    if (this.#connectionsMax === 0) return true;
    const count = this.#connections.get(ip) ?? 0;
    if (count >= this.#connectionsMax || (count === 0 && this.#connections.size >= connectionEntriesMax)) return false;
    this.#connections.set(ip, count + 1);
    return true;
  }

  leave(ip: string): void {
    const count = this.#connections.get(ip);
    if (count === undefined) return;
    if (count <= 1) this.#connections.delete(ip); else this.#connections.set(ip, count - 1);
  }
}

/** FNV-1a, 32 bits. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) value = Math.imul(value ^ text.charCodeAt(index), 0x01000193);
  return value;
}
