// Keeps the server answering under load: so many reads, writes and streams at a time, so many requests a second per user.
// What is over a limit is refused at once with 429 and Retry-After, before any work is done for it.
// Source: kube-apiserver --max-requests-inflight; API priority and fairness (what is exempt).

import type { Clock } from '../../api/clock.ts';
import { NetloomError } from '../../api/errors.ts';
import type { ServerLimits } from '../config.ts';
import { groupMasters } from './auth/user.ts';
import type { Exchange } from './http/exchange.ts';
import type { RequestInfo } from './request-info.ts';

const writes = new Set(['create', 'update', 'patch', 'delete', 'deletecollection']);
const streams = new Set(['log', 'exec', 'attach', 'portforward', 'proxy']);
type Lane = 'reads' | 'writes' | 'streams' | 'none';

interface Bucket { tokens: number; atMs: number }
/** Users whose buckets are remembered. */
const bucketsMax = 1_000;

/** Counts and sheds. */
export class Limiter {
  readonly #limits: ServerLimits;
  readonly #clock: Clock;
  readonly #inFlight: Record<Lane, number> = { reads: 0, writes: 0, streams: 0, none: 0 };
  readonly #buckets = new Map<string, Bucket>();
  /** Requests refused so far, by lane. */
  readonly refused: Record<'reads' | 'writes' | 'streams' | 'rate', number> = { reads: 0, writes: 0, streams: 0, rate: 0 };

  constructor(limits: ServerLimits, clock: Clock) {
    this.#limits = limits;
    this.#clock = clock;
  }

  inFlight(lane: 'reads' | 'writes' | 'streams'): number { return this.#inFlight[lane]; }

  /** Takes a place; call the result when the request is done. Throws TooManyRequests. */
  enter(exchange: Exchange, info: RequestInfo): () => void {
    const lane = laneOf(info);
    const { user, peer } = exchange;
    const isExempt = peer.isInProcess || user?.groups.includes(groupMasters) === true;
    if (!isExempt && !this.#takeToken(user?.username ?? '')) { this.refused.rate += 1; throw tooMany('too many requests of this user, please try again later'); }
    const max = lane === 'reads' ? this.#limits.readsInFlight : lane === 'writes' ? this.#limits.writesInFlight : lane === 'streams' ? this.#limits.streams : Infinity;
    if (this.#inFlight[lane] >= max && !peer.isInProcess) {
      if (lane !== 'none') this.refused[lane] += 1;
      throw tooMany('the server has too many requests in flight, please try again later');
    }
    this.#inFlight[lane] += 1;
    let isOut = false;
    return () => { if (!isOut) { isOut = true; this.#inFlight[lane] -= 1; } };
  }

  #takeToken(username: string): boolean {
    const nowMs = this.#clock.monotonicMs();
    const { userRequestsPerSecond: rate, userRequestsBurst: burst } = this.#limits;
    let bucket = this.#buckets.get(username);
    if (bucket === undefined) {
      if (this.#buckets.size >= bucketsMax) this.#buckets.delete(this.#buckets.keys().next().value as string);
      this.#buckets.set(username, bucket = { tokens: burst, atMs: nowMs });
    }
    bucket.tokens = Math.min(burst, bucket.tokens + ((nowMs - bucket.atMs) * rate) / 1000);
    bucket.atMs = nowMs;
    if (bucket.tokens < 1) return false;
    bucket.tokens -= 1;
    return true;
  }
}

function laneOf(info: RequestInfo): Lane {
  if (!info.isResource || info.verb === 'watch') return 'none';
  if (streams.has(info.subresource)) return 'streams';
  return writes.has(info.verb) ? 'writes' : 'reads';
}

function tooMany(text: string): NetloomError { return new NetloomError('TooManyRequests', text, { source: 'api', details: { retryAfterSeconds: 1 } }); }
