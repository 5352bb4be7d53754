// One TCP connection to an upstream with pipelined queries: opened on demand, closed when idle. Carries what did not fit
// into a datagram, and what came back with a changed question. Called by upstream.ts.

import { connect, type Socket } from 'node:net';
import type { Clock, TimerHandle } from '../../api/clock.ts';
import { parseResponse, type UpstreamAnswer } from '../wire/response.ts';
import { random16 } from './random.ts';

/** Why a try gave no answer. */
export type TryFailure = 'timeout' | 'unreachable' | 'malformed' | 'full';

/** One query under way: `sent` carries our ID and letter case. */
export interface PendingQuery {
  readonly sent: Buffer;
  readonly questionEnd: number;
  readonly startedMs: number;
  /** Takes it out of the table it waits in. */
  release: (() => void) | undefined;
  done(result: UpstreamAnswer | TryFailure): void;
}

export const pendingPerSocketMax = 256;
const idleMs = 5_000;

/** Puts the query under an unused random ID into `table` and writes the ID; false when the table is full. */
export function register(table: Map<number, PendingQuery>, pending: PendingQuery, released: () => void): boolean {
  if (table.size >= pendingPerSocketMax) return false;
  let id = random16();
  while (table.has(id)) id = random16();
  table.set(id, pending);
  pending.sent.writeUInt16BE(id, 0);
  pending.release = (): void => {
    table.delete(id);
    pending.release = undefined;
    released();
  };
  return true;
}

export class UpstreamStream {
  readonly #socket: Socket;
  readonly #pending = new Map<number, PendingQuery>();
  readonly #clock: Clock;
  #data: Buffer = Buffer.alloc(0);
  #idle: TimerHandle | undefined;
  isClosed = false;

  constructor(address: string, port: number, clock: Clock) {
    this.#clock = clock;
    this.#socket = connect({ host: address, port, noDelay: true });
    this.#socket.unref();
    this.#socket.on('data', (chunk: Buffer) => this.#read(chunk));
    this.#socket.on('error', () => this.#fail());
    this.#socket.on('close', () => this.#fail());
  }

  send(pending: PendingQuery): void {
    if (this.isClosed || !register(this.#pending, pending, () => this.#armIdle())) return pending.done('full');
    this.#idle?.cancel();
    const prefix = Buffer.alloc(2);
    prefix.writeUInt16BE(pending.sent.length);
    this.#socket.write(Buffer.concat([prefix, pending.sent]));
  }

  destroy(): void { this.#socket.destroy(); }

  #armIdle(): void {
    this.#idle?.cancel();
    if (this.#pending.size === 0) this.#idle = this.#clock.after(idleMs, () => this.#socket.destroy());
  }

  #read(chunk: Buffer): void {
    this.#data = this.#data.length === 0 ? chunk : Buffer.concat([this.#data, chunk]);
    while (this.#data.length >= 2) {
      const size = this.#data.readUInt16BE(0);
      if (this.#data.length < size + 2) return;
      const message = this.#data.subarray(2, size + 2);
      this.#data = this.#data.subarray(size + 2);
      this.#receive(message);
    }
  }

  #receive(message: Buffer): void {
    const pending = message.length < 12 ? undefined : this.#pending.get(message.readUInt16BE(0));
    if (pending === undefined) return;
    let verdict = parseResponse(message, pending.sent, pending.questionEnd);
    if (verdict === 'mismatch') return;
    if (verdict === 'caseDiffers') {
      // Nobody off-path can answer here, so changed letter case is only the resolver's habit: read it with our spelling.
      const copy = Buffer.from(message);
      pending.sent.copy(copy, 12, 12, pending.questionEnd);
      verdict = parseResponse(copy, pending.sent, pending.questionEnd);
    }
    pending.done(typeof verdict === 'object' ? { ...verdict, isTruncated: false } : 'malformed');
  }

  #fail(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.#idle?.cancel();
    for (const pending of [...this.#pending.values()]) pending.done('unreachable');
    this.#idle?.cancel();
  }
}
