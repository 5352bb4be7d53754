// One ServicePort inside a data thread: its endpoints with their load, its candidate sets, and the choice for a peer
// (affinity first, then balance). Replaced in parts by each new spec; endpoints that stay keep their history.

import type { AffinityTable } from '../affinity.ts';
import { endpointHashOf } from '../affinity.ts';
import { createEndpoint, pickByHash, pickEndpoint, type BalancedEndpoint } from '../balance.ts';
import { columnCount, columns } from './counters.ts';
import type { EndpointSpec, ListenSpec, PortSpec } from './messages.ts';
import type { Peers } from './peers.ts';

export interface Target extends BalancedEndpoint {
  isSameHost: boolean;
  readonly hash: number;
  /** Monotonic time at which no set named it any more; undefined while one does. */
  removedAtMs: number | undefined;
}

export interface PortShared { readonly affinity: AffinityTable; readonly counters: Float64Array; readonly peers: Peers; readonly random: () => number }

const bytesInColumn = columns.bytesIn;
const bytesOutColumn = columns.bytesOut;

export class ServedPort {
  spec: PortSpec;
  readonly #shared: PortShared;
  readonly #targets = new Map<string, Target>();
  #cluster: readonly Target[] = [];
  #local: readonly Target[] = [];
  readonly #counters: Float64Array;
  #row = 0;

  constructor(spec: PortSpec, shared: PortShared, nowMs: number) {
    this.spec = spec;
    this.#shared = shared;
    this.#counters = shared.counters;
    this.update(spec, nowMs);
  }

  /** Targets of the past that still have connections stay until these are closed. */
  update(spec: PortSpec, nowMs: number): void {
    this.spec = spec;
    this.#row = spec.row * columnCount;
    const wanted = new Set<Target>();
    const resolve = (each: EndpointSpec): Target => {
      const name = `${each.ip} ${each.port}`;
      let target = this.#targets.get(name);
      if (target === undefined) {
        target = { ...createEndpoint(each.ip, each.port), isSameHost: each.isSameHost, hash: endpointHashOf(each.ip, each.port), removedAtMs: undefined };
        this.#targets.set(name, target);
      }
      target.isSameHost = each.isSameHost;
      target.removedAtMs = undefined;
      wanted.add(target);
      return target;
    };
    this.#cluster = spec.cluster.map(resolve);
    this.#local = spec.local.map(resolve);
    for (const [name, target] of this.#targets) {
      if (wanted.has(target)) continue;
      target.removedAtMs ??= nowMs;
      if (target.outstanding === 0) this.#targets.delete(name);
    }
  }

  /** A process of this host that connects to an address of this host may come from that very address. */
  candidates(listener: ListenSpec, ip: string): readonly Target[] {
    if (listener.candidates === 'cluster') return this.#cluster;
    if (listener.candidates === 'local') return this.#local;
    return ip === listener.address || this.#shared.peers.isOfCluster(ip) ? this.#cluster : this.#local;
  }

  /** The endpoint for one try; `tried` failed before. A client with affinity stays where it was while that serves. */
  pick(candidates: readonly Target[], client: string, tried: readonly Target[] | undefined, nowMs: number): Target | undefined {
    const { affinityTimeoutSeconds: timeout, portKey } = this.spec;
    if (timeout === 0) return pickEndpoint(candidates, tried, nowMs, this.#shared.random);
    const remembered = this.#shared.affinity.find(portKey, client, timeout);
    if (remembered !== 0 && tried === undefined) {
      const target = candidates.find((each) => each.hash === remembered);
      if (target !== undefined && target.ejectedUntilMs <= nowMs) return target;
    }
    const target = pickByHash(candidates, `${portKey}|${client}`, nowMs, tried);
    if (target !== undefined) this.#shared.affinity.set(portKey, client, target.hash, timeout);
    return target;
  }

  countBytes(isIn: boolean, bytes: number): void {
    const index = this.#row + (isIn ? bytesInColumn : bytesOutColumn);
    this.#counters[index] = (this.#counters[index] as number) + bytes;
  }

  count(column: keyof typeof columns, delta = 1): void {
    const index = this.#row + columns[column];
    this.#counters[index] = (this.#counters[index] as number) + delta;
  }
}
