// How many connections one data thread takes, in all and from one source. Processes of this host are not counted per
// source: behind loopback every client has the same address.

import { readFileSync } from 'node:fs';
import type { Peers } from './peers.ts';

export const connectionLimits = Object.freeze({
  /** Share of the file limit that may be connections; each has two descriptors. */
  fileShare: 0.45, perSourceMax: 1_024, filesDefault: 1_024,
});

/** Connections in all for the whole process. */
export function connectionsMaxOf(limitsText: string = readLimits()): number {
  const soft = /^Max open files\s+(\d+)/m.exec(limitsText)?.[1];
  return Math.floor(Number(soft ?? connectionLimits.filesDefault) * connectionLimits.fileShare);
}

function readLimits(): string {
  try { return readFileSync('/proc/self/limits', 'utf8'); } catch { return ''; }
}

export class Limits {
  readonly #peers: Peers;
  readonly #countMax: number;
  readonly #perSourceMax: number;
  readonly #perSource = new Map<string, number>();
  #count = 0;

  constructor(peers: Peers, options: { countMax: number; perSourceMax: number }) {
    this.#peers = peers;
    this.#countMax = options.countMax;
    this.#perSourceMax = options.perSourceMax;
  }

  get count(): number { return this.#count; }

  /** False when a limit is reached; otherwise leave() must follow. */
  enter(ip: string): boolean {
    if (this.#count >= this.#countMax) return false;
    if (!this.#peers.isOfHost(ip)) {
      const count = this.#perSource.get(ip) ?? 0;
      if (count >= this.#perSourceMax) return false;
      this.#perSource.set(ip, count + 1);
    }
    this.#count += 1;
    return true;
  }

  leave(ip: string): void {
    this.#count -= 1;
    const count = this.#perSource.get(ip);
    if (count === undefined) return;
    if (count <= 1) this.#perSource.delete(ip); else this.#perSource.set(ip, count - 1);
  }
}
