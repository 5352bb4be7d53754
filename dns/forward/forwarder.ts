// Names outside the cluster: cache → one query under way per question → best upstream, a second one hedged when the first
// is slow or fails, never more than two per question. Expired answers stand in when no upstream answers (RFC 8767);
// popular ones are renewed before they expire. An upstream that leads back to this server is dropped and the rest goes
// on. Called by dns/engine/engine.ts; next: upstream.ts.

import type { Clock, TimerHandle } from '../../api/clock.ts';
import type { Log } from '../../api/log.ts';
import { negativeTemplate, type ExtendedError, type Template } from '../wire/builder.ts';
import { extendedErrors, rcodes, rrTypes, udpPayloadBytesMax } from '../wire/constants.ts';
import { isWithin } from '../wire/names.ts';
import type { UpstreamAnswer } from '../wire/response.ts';
import { AnswerCache, type CacheEntry, type CacheLimits } from './cache.ts';
import { randomToken } from './random.ts';
import type { TryFailure } from './stream.ts';
import { Upstream, type UpstreamAddress } from './upstream.ts';

export interface ForwardQuestion { readonly key: string; readonly qtype: number; readonly isDnssecOk: boolean; readonly isCheckingDisabled: boolean }

/** What the engine renders. `fixedTtlSeconds` > 0 replaces the TTLs; else `ageSeconds` is taken off them. */
export interface ForwardResult { readonly template: Template; readonly ageSeconds: number; readonly fixedTtlSeconds: number; readonly error: ExtendedError | undefined }
export type ForwardDone = (result: ForwardResult) => void;

export interface ForwarderOptions {
  upstreams: readonly UpstreamAddress[];
  /** Name key of a domain → its own upstreams; the longest match wins. */
  stubDomains: ReadonlyMap<string, readonly UpstreamAddress[]>;
  cache?: Partial<CacheLimits> | undefined;
  /** Serve expired answers when upstreams fail. */
  isStaleServed: boolean;
  /** Octets of an answer address that outside names may not have (DNS rebinding); undefined = allow all. */
  isAddressBlocked: ((address: Uint8Array) => boolean) | undefined;
  /** Told of a loop probe that another thread of this server has sent. */
  onForeignProbe?: ((key: string) => void) | undefined;
  clock: Clock; log: Log;
}

interface Flight {
  readonly question: ForwardQuestion; readonly cacheKey: string; readonly bytes: Buffer; readonly group: readonly Upstream[]; readonly isStub: boolean;
  waiters: ForwardDone[]; readonly tried: Upstream[]; openCount: number; isOver: boolean; lastFailure: UpstreamAnswer | TryFailure;
  hedge: TimerHandle | undefined; staleTimer: TimerHandle | undefined;
}

export const forwardLimits = Object.freeze({
  /** Questions under way at once; beyond it new ones are refused. */
  flightsMax: 1_000,
  /** Clients waiting for one question. */
  waitersMax: 1_000,
  triesMax: 2, tryTimeoutMs: 2_500, hedgeMsMin: 40, hedgeMsMax: 600, staleAnswerAfterMs: 1_800, staleTtlSeconds: 30, failureCacheMs: 1_000, failuresMax: 1_000,
  probePeriodMs: 1_000, loopProbePeriodMs: 30_000,
});

export class Forwarder {
  readonly cache: AnswerCache;
  readonly #options: ForwarderOptions;
  readonly #root: readonly Upstream[];
  readonly #stubs: readonly (readonly [string, readonly Upstream[]])[];
  readonly #all: readonly Upstream[];
  readonly #flights = new Map<string, Flight>();
  readonly #failures = new Map<string, number>();
  readonly #loopTokens = new Map<string, Upstream>();
  readonly #timers: TimerHandle[] = [];
  hitCount = 0;
  denialHitCount = 0;
  missCount = 0;
  staleCount = 0;
  prefetchCount = 0;
  refusedCount = 0;

  constructor(options: ForwarderOptions) {
    this.#options = options;
    this.cache = new AnswerCache(options.cache);
    const known = new Map<string, Upstream>();
    const make = (target: UpstreamAddress): Upstream => {
      const upstream = known.get(`${target.address} ${target.port}`) ?? new Upstream(target, options.clock);
      known.set(`${target.address} ${target.port}`, upstream);
      return upstream;
    };
    this.#root = options.upstreams.map(make);
    this.#stubs = [...options.stubDomains].map(([key, targets]) => [key, targets.map(make)] as const).sort((a, b) => b[0].length - a[0].length);
    this.#all = [...known.values()];
  }

  get upstreams(): readonly Upstream[] { return this.#all; }
  get flightCount(): number { return this.#flights.size; }
  /** Whether anything outside the cluster can be asked for at all. */
  get isEnabled(): boolean { return this.#all.length > 0; }

  /** Starts health and loop probes; call once this server listens. */
  start(): void {
    const { clock } = this.#options;
    for (const upstream of this.#root) this.#probeLoop(upstream);
    this.#timers.push(
      clock.every(forwardLimits.probePeriodMs, () => { for (const upstream of this.#all) if (upstream.isDown) this.#probe(upstream); }),
      clock.every(forwardLimits.loopProbePeriodMs, () => { for (const upstream of this.#root) if (upstream.isLoop) this.#probeLoop(upstream); }),
    );
  }

  stop(): void {
    for (const timer of this.#timers) timer.cancel();
    for (const flight of this.#flights.values()) { flight.hedge?.cancel(); flight.staleTimer?.cancel(); }
    for (const upstream of this.#all) upstream.close();
  }

  /** True when the name is one of our own loop probes: its upstream is dropped, the query must not be forwarded. */
  catchLoop(key: string): boolean {
    const upstream = this.#loopTokens.get(key);
    if (upstream === undefined) {
      const isProbe = key.length === probeKeyLength && key.endsWith(probeSuffix);
      if (isProbe) this.#options.onForeignProbe?.(key);
      return isProbe;
    }
    if (!upstream.isLoop) this.#options.log.warn('dns upstream leads back to this server and is left out', { upstream: upstream.name });
    upstream.isLoop = true;
    return true;
  }

  /** Another thread saw this probe. */
  noteProbe(key: string): void { if (this.#loopTokens.has(key)) this.catchLoop(key); }

  /** The answer at once when it is cached; else undefined, and `done` is called exactly once later. */
  resolve(question: ForwardQuestion, done: ForwardDone): ForwardResult | undefined {
    const cacheKey = `${question.key}${String.fromCharCode(question.qtype, (question.isDnssecOk ? 1 : 0) | (question.isCheckingDisabled ? 2 : 0))}`;
    const nowMs = this.#options.clock.monotonicMs();
    const entry = this.cache.get(cacheKey, nowMs);
    if (entry !== undefined && nowMs < entry.expiresMs) return this.#serveFresh(question, cacheKey, entry, nowMs);
    this.missCount += 1;
    const flight = this.#flights.get(cacheKey);
    if (flight !== undefined) {
      if (flight.waiters.length >= forwardLimits.waitersMax) return this.#refuse();
      flight.waiters.push(done);
      return undefined;
    }
    const failedUntilMs = this.#failures.get(cacheKey);
    if (failedUntilMs !== undefined && nowMs < failedUntilMs) return this.#stale(entry) ?? failure('the last try failed a moment ago');
    if (this.#flights.size >= forwardLimits.flightsMax) return this.#stale(entry) ?? this.#refuse();
    const group = this.#groupFor(question.key);
    if (!group.upstreams.some((upstream) => !upstream.isLoop)) return this.#stale(entry) ?? failure('no usable upstream resolver');
    return this.#fly(question, cacheKey, group, [done], entry);
  }

  #serveFresh(question: ForwardQuestion, cacheKey: string, entry: CacheEntry, nowMs: number): ForwardResult {
    entry.hitCount += 1;
    if (entry.answer.isNegative) this.denialHitCount += 1;
    else this.hitCount += 1;
    const lifeMs = entry.expiresMs - entry.storedMs;
    if (entry.hitCount >= 2 && !entry.isRefreshing && entry.expiresMs - nowMs < lifeMs / 10 && lifeMs >= 5_000 && this.#flights.size < forwardLimits.flightsMax) {
      entry.isRefreshing = true;
      this.prefetchCount += 1;
      this.#fly(question, cacheKey, this.#groupFor(question.key), [], entry);
    }
    return { template: entry.answer.template, ageSeconds: Math.floor((nowMs - entry.storedMs) / 1000), fixedTtlSeconds: 0, error: undefined };
  }

  #refuse(): ForwardResult {
    this.refusedCount += 1;
    return { template: negativeTemplate({ rcode: rcodes.REFUSED, soaStart: -1, error: { code: extendedErrors.other, text: 'too many queries wait for upstream resolvers' } }), ageSeconds: 0, fixedTtlSeconds: 0, error: undefined };
  }

  #groupFor(key: string): { upstreams: readonly Upstream[]; isStub: boolean } {
    for (const [suffix, upstreams] of this.#stubs) if (isWithin(key, suffix)) return { upstreams, isStub: true };
    return { upstreams: this.#root, isStub: false };
  }

  #fly(question: ForwardQuestion, cacheKey: string, group: { upstreams: readonly Upstream[]; isStub: boolean }, waiters: ForwardDone[], entry: CacheEntry | undefined): undefined {
    const flight: Flight = {
      question, cacheKey, bytes: queryBytes(question), group: group.upstreams, isStub: group.isStub, waiters, tried: [], openCount: 0, isOver: false,
      lastFailure: 'timeout', hedge: undefined, staleTimer: undefined,
    };
    this.#flights.set(cacheKey, flight);
    if (entry !== undefined && waiters.length > 0 && this.#options.isStaleServed) {
      const waitMs = flight.group.every((upstream) => upstream.isDown || upstream.isLoop) ? 0 : forwardLimits.staleAnswerAfterMs;
      flight.staleTimer = this.#options.clock.after(waitMs, () => {
        const stale = this.#stale(entry);
        if (stale !== undefined) this.#release(flight, stale);
      });
    }
    this.#try(flight);
  }

  #try(flight: Flight): void {
    const upstream = this.#pick(flight);
    if (upstream === undefined) return this.#settle(flight);
    flight.tried.push(upstream);
    flight.openCount += 1;
    upstream.send(flight.bytes, flight.bytes.length - 11, forwardLimits.tryTimeoutMs, (result) => this.#receive(flight, result));
    if (flight.isOver || flight.tried.length >= forwardLimits.triesMax) return;
    const hedgeMs = Math.min(forwardLimits.hedgeMsMax, Math.max(forwardLimits.hedgeMsMin, upstream.latencyMs * 4));
    flight.hedge = this.#options.clock.after(hedgeMs, () => { if (!flight.isOver && flight.tried.length < forwardLimits.triesMax) this.#try(flight); });
  }

  /** First try: the best that is up. Second: the next one, or the same again when it is alone. All down: any of them. */
  #pick(flight: Flight): Upstream | undefined {
    const usable = flight.group.filter((upstream) => !upstream.isLoop).sort((a, b) => a.score - b.score);
    const up = usable.filter((upstream) => !upstream.isDown);
    const candidates = up.length > 0 ? up : usable;
    return candidates.find((upstream) => !flight.tried.includes(upstream)) ?? candidates[0];
  }

  #receive(flight: Flight, result: UpstreamAnswer | TryFailure): void {
    flight.openCount -= 1;
    if (flight.isOver) return;
    const isUsable = typeof result === 'object' && result.template.rcode !== rcodes.SERVFAIL && result.template.rcode !== rcodes.REFUSED;
    if (isUsable) return this.#land(flight, this.#guard(flight, result));
    // An answer, even a refusal, says more than silence.
    if (typeof result === 'object' || typeof flight.lastFailure === 'string') flight.lastFailure = result;
    flight.hedge?.cancel();
    if (flight.tried.length < forwardLimits.triesMax && (flight.group.length > 1 || typeof result === 'string')) this.#try(flight);
    else if (flight.openCount === 0) this.#settle(flight);
  }

  /** Hides answers that point an outside name at this machine or the cluster. */
  #guard(flight: Flight, answer: UpstreamAnswer): UpstreamAnswer {
    const { isAddressBlocked } = this.#options;
    if (isAddressBlocked === undefined || flight.isStub || !answer.addresses.some(isAddressBlocked)) return answer;
    const error = { code: extendedErrors.blocked, text: 'the answer points at a local address (DNS rebinding protection)' };
    return { ...answer, template: negativeTemplate({ rcode: rcodes.NOERROR, soaStart: -1, error }), isNegative: true, addresses: [] };
  }

  #land(flight: Flight, answer: UpstreamAnswer): void {
    this.#failures.delete(flight.cacheKey);
    this.cache.set(flight.cacheKey, answer, this.#options.clock.monotonicMs());
    this.#end(flight, { template: answer.template, ageSeconds: 0, fixedTtlSeconds: 0, error: undefined });
  }

  /** No try gave an answer: stale if there is one, else what the upstream said, else SERVFAIL. */
  #settle(flight: Flight): void {
    const nowMs = this.#options.clock.monotonicMs();
    if (this.#failures.size >= forwardLimits.failuresMax) this.#failures.clear();
    this.#failures.set(flight.cacheKey, nowMs + forwardLimits.failureCacheMs);
    const stale = this.#stale(this.cache.get(flight.cacheKey, nowMs));
    const { lastFailure } = flight;
    const said = typeof lastFailure === 'object' ? { template: lastFailure.template, ageSeconds: 0, fixedTtlSeconds: 0, error: undefined } : failure(`upstream resolvers: ${lastFailure}`);
    this.#end(flight, stale ?? said);
  }

  #end(flight: Flight, result: ForwardResult): void {
    flight.isOver = true;
    flight.hedge?.cancel();
    this.#flights.delete(flight.cacheKey);
    this.#release(flight, result);
  }

  #release(flight: Flight, result: ForwardResult): void {
    flight.staleTimer?.cancel();
    const { waiters } = flight;
    flight.waiters = [];
    for (const done of waiters) done(result);
  }

  #stale(entry: CacheEntry | undefined): ForwardResult | undefined {
    if (entry === undefined || !this.#options.isStaleServed) return undefined;
    this.staleCount += 1;
    const code = entry.answer.template.rcode === rcodes.NXDOMAIN ? extendedErrors.staleNxdomain : extendedErrors.staleAnswer;
    return { template: entry.answer.template, ageSeconds: 0, fixedTtlSeconds: forwardLimits.staleTtlSeconds, error: { code, text: 'upstream resolvers do not answer' } };
  }

  #probe(upstream: Upstream): void {
    const bytes = queryBytes({ key: '\0', qtype: rrTypes.NS, isDnssecOk: false, isCheckingDisabled: false });
    upstream.send(bytes, bytes.length - 11, forwardLimits.probePeriodMs * 0.9, () => {});
  }

  /** Asks for a name nobody can guess; if it comes in at our own door, the upstream leads back here. */
  #probeLoop(upstream: Upstream): void {
    const token = randomToken();
    const key = `\x20${token}${probeSuffix}`;
    this.#loopTokens.set(key, upstream);
    const bytes = queryBytes({ key, qtype: rrTypes.HINFO, isDnssecOk: false, isCheckingDisabled: false });
    upstream.isLoop = false;
    upstream.send(bytes, bytes.length - 11, forwardLimits.tryTimeoutMs, () => { this.#loopTokens.delete(key); });
  }
}

const probeSuffix = '\x0cnetloom-loop\0';
const probeKeyLength = 33 + probeSuffix.length;

function failure(text: string): ForwardResult {
  const error = { code: extendedErrors.noReachableAuthority, text };
  return { template: negativeTemplate({ rcode: rcodes.SERVFAIL, soaStart: -1, error }), ageSeconds: 0, fixedTtlSeconds: 0, error: undefined };
}

/** Header (ID 0, RD), question, OPT: nothing of the client's own but its question and its DO and CD bits. */
function queryBytes(question: ForwardQuestion): Buffer {
  const bytes = Buffer.alloc(12 + question.key.length + 4 + 11);
  bytes.writeUInt16BE(0x0100 | (question.isCheckingDisabled ? 0x0010 : 0), 2);
  bytes.writeUInt16BE(1, 4);
  bytes.writeUInt16BE(1, 10);
  let at = 12 + bytes.write(question.key, 12, 'latin1');
  at = bytes.writeUInt16BE(question.qtype, at);
  at = bytes.writeUInt16BE(1, at) + 1;
  at = bytes.writeUInt16BE(rrTypes.OPT, at);
  at = bytes.writeUInt16BE(udpPayloadBytesMax, at) + 2;
  if (question.isDnssecOk) bytes[at] = 0x80;
  return bytes;
}
