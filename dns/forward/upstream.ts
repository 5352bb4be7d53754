// One upstream resolver: a pool of connected UDP sockets on random ports (renewed after a number of queries, so that an
// off-path attacker has to guess port, ID and letter case: RFC 5452), one pipelined TCP connection for what was
// truncated, and its health: smoothed latency, failure share, down after two timeouts in a row until a probe succeeds.
// Replies that do not match a query are ignored while waiting, never taken as failure. Called by forwarder.ts.

import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { isIPv6 } from 'node:net';
import type { Clock } from '../../api/clock.ts';
import { rcodes } from '../wire/constants.ts';
import { parseResponse, type UpstreamAnswer } from '../wire/response.ts';
import { random16 } from './random.ts';
import { register, UpstreamStream, type PendingQuery, type TryFailure } from './stream.ts';

export interface UpstreamAddress { readonly address: string; readonly port: number }

interface PoolSocket { readonly socket: UdpSocket; readonly pending: Map<number, PendingQuery>; useCount: number; isReady: boolean; queue: Buffer[]; isRetired: boolean }

const poolSize = 16;
const usesPerSocketMax = 200;
const failuresToBeDown = 2;
const caseMismatchesToGiveUp = 3;
/** Weight of the newest sample in the smoothed values. */
const smoothing = 0.2;

function literalLookup(address: string, ...rest: unknown[]): void {
  (rest.at(-1) as (error: null, address: string, family: number) => void)(null, address, address.includes(':') ? 6 : 4);
}

export class Upstream {
  readonly address: string;
  readonly port: number;
  readonly name: string;
  readonly #clock: Clock;
  readonly #pool: (PoolSocket | undefined)[] = new Array<PoolSocket | undefined>(poolSize).fill(undefined);
  #stream: UpstreamStream | undefined;
  #caseMismatchCount = 0;
  #hasKeptCase = false;
  /** Smoothed round trip in milliseconds. */
  latencyMs = 50;
  /** Smoothed share of failures, SERVFAIL included, 0…1. */
  failureShare = 0;
  timeoutsInRow = 0;
  /** A probe of ours came back to us through it. */
  isLoop = false;
  queryCount = 0;
  failureCount = 0;
  /** Replies that fitted no query, or came with changed letter case. */
  mismatchCount = 0;

  constructor(target: UpstreamAddress, clock: Clock) {
    this.address = target.address;
    this.port = target.port;
    this.name = `${isIPv6(target.address) ? `[${target.address}]` : target.address}:${target.port}`;
    this.#clock = clock;
  }

  get isDown(): boolean { return this.timeoutsInRow >= failuresToBeDown; }
  /** Whether letters of the question may be mixed. */
  get keepsCase(): boolean { return this.#hasKeptCase || this.#caseMismatchCount < caseMismatchesToGiveUp; }
  /** Lower is better. */
  get score(): number { return this.latencyMs * (1 + 8 * this.failureShare) + this.timeoutsInRow * 1_000; }

  /** Sends a copy of `query` (header, question, OPT) with an ID and letter case of its own; by TCP when truncated. */
  send(query: Buffer, questionEnd: number, timeoutMs: number, done: (result: UpstreamAnswer | TryFailure) => void): void {
    const sent = Buffer.from(query);
    if (this.keepsCase) mixCase(sent, questionEnd);
    this.queryCount += 1;
    let isOver = false;
    const pending: PendingQuery = {
      sent, questionEnd, startedMs: this.#clock.monotonicMs(), release: undefined,
      done: (result) => {
        if (isOver) return;
        isOver = true;
        timer.cancel();
        pending.release?.();
        this.#note(result, this.#clock.monotonicMs() - pending.startedMs);
        done(result);
      },
    };
    const timer = this.#clock.after(timeoutMs, () => pending.done('timeout'));
    this.#sendDatagram(pending);
  }

  close(): void {
    for (const slot of this.#pool) if (slot !== undefined) closeSocket(slot);
    this.#pool.fill(undefined);
    this.#stream?.destroy();
    this.#stream = undefined;
  }

  #note(result: UpstreamAnswer | TryFailure, durationMs: number): void {
    if (result === 'full') return;
    const isFailure = typeof result === 'string' || result.template.rcode === rcodes.SERVFAIL || result.template.rcode === rcodes.REFUSED;
    this.failureShare += ((isFailure ? 1 : 0) - this.failureShare) * smoothing;
    if (isFailure) this.failureCount += 1;
    if (result === 'timeout' || result === 'unreachable') this.timeoutsInRow += 1;
    else {
      this.timeoutsInRow = 0;
      this.latencyMs += (durationMs - this.latencyMs) * smoothing;
    }
  }

  #sendDatagram(pending: PendingQuery): void {
    const slot = this.#pickSocket();
    if (!register(slot.pending, pending, () => retireIfIdle(slot))) return pending.done('full');
    slot.useCount += 1;
    if (slot.isReady) sendSafely(slot, pending.sent);
    else slot.queue.push(pending.sent);
  }

  #pickSocket(): PoolSocket {
    const index = random16() % poolSize;
    const present = this.#pool[index];
    if (present !== undefined && present.useCount < usesPerSocketMax) return present;
    if (present !== undefined) {
      present.isRetired = true;
      retireIfIdle(present);
    }
    const slot = this.#openSocket();
    this.#pool[index] = slot;
    return slot;
  }

  #openSocket(): PoolSocket {
    const socket = createSocket({ type: isIPv6(this.address) ? 'udp6' : 'udp4', lookup: literalLookup as never });
    const slot: PoolSocket = { socket, pending: new Map(), useCount: 0, isReady: false, queue: [], isRetired: false };
    socket.unref();
    socket.on('message', (message) => this.#receive(slot, message));
    // A connected socket reports the peer's "port unreachable": every query on it has failed.
    socket.on('error', () => {
      slot.useCount = usesPerSocketMax;
      for (const pending of [...slot.pending.values()]) pending.done('unreachable');
    });
    socket.on('connect', () => {
      slot.isReady = true;
      for (const bytes of slot.queue) sendSafely(slot, bytes);
      slot.queue = [];
    });
    try { socket.connect(this.port, this.address); } catch { slot.useCount = usesPerSocketMax; }
    return slot;
  }

  #receive(slot: PoolSocket, message: Buffer): void {
    const pending = message.length < 12 ? undefined : slot.pending.get(message.readUInt16BE(0));
    const verdict = pending === undefined ? 'mismatch' : parseResponse(message, pending.sent, pending.questionEnd);
    if (pending === undefined || verdict === 'mismatch') {
      this.mismatchCount += 1;
      return;
    }
    if (verdict === 'caseDiffers') {
      // Either forged or a resolver that rewrites the name: only TCP can tell.
      this.#caseMismatchCount += 1;
      this.mismatchCount += 1;
      return this.#sendStream(pending);
    }
    if (verdict !== 'malformed') this.#hasKeptCase = true;
    if (typeof verdict === 'object' && verdict.isTruncated) return this.#sendStream(pending);
    pending.done(verdict);
  }

  #sendStream(pending: PendingQuery): void {
    pending.release?.();
    if (this.#stream === undefined || this.#stream.isClosed) this.#stream = new UpstreamStream(this.address, this.port, this.#clock);
    this.#stream.send(pending);
  }
}

function sendSafely(slot: PoolSocket, bytes: Buffer): void {
  try { slot.socket.send(bytes); } catch { slot.useCount = usesPerSocketMax; }
}

function retireIfIdle(slot: PoolSocket): void { if (slot.isRetired && slot.pending.size === 0) closeSocket(slot); }

function closeSocket(slot: PoolSocket): void {
  slot.isRetired = false;
  for (const pending of [...slot.pending.values()]) pending.done('unreachable');
  try { slot.socket.close(); } catch { slot.queue = []; }
}

/** Mixes the letter case of the question name at random. */
function mixCase(sent: Buffer, questionEnd: number): void {
  let bits = 1;
  for (let index = 12; index < questionEnd - 5; index++) {
    const octet = sent[index] ?? 0;
    if (octet < 97 || octet > 122) continue;
    if (bits === 1) bits = random16() | 0x10000;
    if ((bits & 1) === 1) sent[index] = octet - 32;
    bits >>= 1;
  }
}
