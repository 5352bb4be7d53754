// One DNS thread's front: a packet in, a reply out. Hot path: strict parse → compiled answer by (type, name) → copy.
// What has no compiled answer goes to slow-path.ts; a zone transfer to transfer.ts. Also here: cookies, reply limits,
// counters. Called by the transports (UDP, TCP, TLS, HTTPS). Nothing thrown by one packet reaches the next.

import type { Clock } from '../../api/clock.ts';
import type { Log } from '../../api/log.ts';
import type { AddressList, RateLimiter } from './access.ts';
import { cells, protocols, type Counters } from '../counters.ts';
import type { SlowPath, Answer } from './slow-path.ts';
import type { TopNames } from './top-names.ts';
import type { Transfer } from './transfer.ts';
import type { CookieJar } from '../wire/cookies.ts';
import { negativeTemplate, type ExtendedError, type Template } from '../wire/builder.ts';
import { extendedErrors, flags, rcodes, rrTypes, udpPayloadBytesMax } from '../wire/constants.ts';
import { parseQuery, Query, queryDrop, queryOk } from '../wire/query.ts';
import { renderRefusal, renderReply, type ReplyContext } from '../wire/reply.ts';
import type { Zone } from '../zone/zone.ts';

export type Transport = (typeof protocols)[number];

/** Where a query came from. Transports may reuse one object per packet: keep `hold()` when the reply comes later. */
export interface Origin {
  readonly transport: Transport;
  readonly address: string;
  readonly port: number;
  /** Sends a reply that was held. */
  reply(bytes: Buffer): void;
  /** An origin that stays valid; exactly one `reply` must follow. */
  hold(): Origin;
  /** Sends one message of several, not the last; resolves when more may be written, with false when nobody listens. Streams only. */
  more?(bytes: Buffer): Promise<boolean>;
}

export interface EngineOptions {
  zone: Zone; slowPath: SlowPath; transfer: Transfer; cookies: CookieJar; limiter: RateLimiter;
  /** Sources that are never rate-limited. */
  trusted: AddressList;
  counters: Counters; topNames: TopNames;
  isRecursive: boolean;
  /** Cap of UDP replies in octets. */
  udpLimit?: number;
  clock: Clock; log: Log;
}

const streamLimit = 65_535;
/** One reply in so many is timed and one name in so many counted: reading the clock twice would cost a tenth of a query. */
const sampleEvery = 16;
const keepaliveUnits = 100;
const paddingBlock = 468;
const panicsLoggedMax = 20;

export class Engine {
  readonly #options: EngineOptions;
  readonly #query = new Query();
  readonly #context: ReplyContext = {
    limit: 512, isRecursive: true, rotation: 0, cookie: undefined, keepaliveUnits: 0, paddingBlock: 0, soa: undefined, error: undefined, ageSeconds: 0, fixedTtlSeconds: 0,
  };
  readonly #udpLimit: number;
  #sequence = 0;
  #nowSeconds = 0;
  #panicCount = 0;

  constructor(options: EngineOptions) {
    this.#options = options;
    this.#udpLimit = options.udpLimit ?? udpPayloadBytesMax;
    this.#context.isRecursive = options.isRecursive;
    this.tick();
  }

  get counters(): Counters { return this.#options.counters; }

  /** Called about once a second: cookies need no finer time. */
  tick(): void { this.#nowSeconds = Math.floor(this.#options.clock.nowMs() / 1000); }

  /** The reply to one packet, or undefined when none is due now: dropped, or held until an upstream answers. */
  handle(message: Buffer, origin: Origin): Buffer | undefined {
    try {
      return this.#handle(message, origin);
    } catch (error) {
      this.#options.counters.add(cells.panics);
      this.#panicCount += 1;
      if (this.#panicCount <= panicsLoggedMax) this.#options.log.error('dns query failed inside', { err: error, packet: message.subarray(0, 512).toString('hex') });
      return this.#query.nameLength > 0 ? renderRefusal(message, this.#query, rcodes.SERVFAIL, this.#options.isRecursive) : undefined;
    }
  }

  #handle(message: Buffer, origin: Origin): Buffer | undefined {
    const query = this.#query;
    const { counters, zone } = this.#options;
    const verdict = parseQuery(message, message.length, query);
    if (verdict === queryDrop) {
      counters.add(cells.drops);
      return undefined;
    }
    counters.addRequest(protocols.indexOf(origin.transport), origin.address.includes(':') ? 1 : 0, verdict === queryOk ? query.qtype : 0, message.length);
    if (verdict !== queryOk) return this.#limit(message, this.#refuse(message, verdict, origin), origin);
    this.#sequence = (this.#sequence + 1) & 0xffff;
    const isSampled = this.#sequence % sampleEvery === 0;
    const startedMs = isSampled ? this.#options.clock.monotonicMs() : 0;
    if (isSampled) this.#options.topNames.add(query.key, sampleEvery);
    const hot = zone.hot[query.qtype]?.get(query.key);
    let reply: Buffer | undefined;
    if (hot !== undefined) {
      counters.add(cells.hotHits);
      reply = this.#render(message, hot, origin, 0);
    } else {
      reply = this.#handleSlowly(message, origin);
    }
    if (reply === undefined) return undefined;
    if (isSampled) counters.addDuration(0, (this.#options.clock.monotonicMs() - startedMs) / 1000, sampleEvery);
    return this.#limit(message, reply, origin);
  }

  #handleSlowly(message: Buffer, origin: Origin): Buffer | undefined {
    const query = this.#query;
    const { slowPath, transfer, clock } = this.#options;
    if (query.qtype === rrTypes.AXFR || query.qtype === rrTypes.IXFR) return transfer.handle(message, query, origin);
    if (isMetaType(query.qtype)) return this.#refuse(message, rcodes.NOTIMP, origin);
    let held: Origin | undefined;
    let early: Answer | undefined;
    const startedMs = clock.monotonicMs();
    const answer = slowPath.answer(query, origin.address, (late) => {
      const to = held;
      // Upstreams may fail before this call has returned.
      if (to === undefined) { early = late; return; }
      this.#options.counters.addDuration(1, (clock.monotonicMs() - startedMs) / 1000);
      to.reply(this.#renderLate(message, late, to));
    });
    const now = answer ?? (early as Answer | undefined);
    if (now !== undefined) return this.#renderAnswer(message, now, origin);
    held = origin.hold();
    return undefined;
  }

  #renderLate(message: Buffer, answer: Answer, origin: Origin): Buffer {
    parseQuery(message, message.length, this.#query);
    return this.#renderAnswer(message, answer, origin);
  }

  #renderAnswer(message: Buffer, answer: Answer, origin: Origin): Buffer {
    const context = this.#context;
    context.ageSeconds = answer.ageSeconds;
    context.fixedTtlSeconds = answer.fixedTtlSeconds;
    const reply = this.#render(message, answer.template, origin, answer.isForeign ? 1 : 0, answer.error);
    context.ageSeconds = 0;
    context.fixedTtlSeconds = 0;
    return reply;
  }

  #render(message: Buffer, template: Template, origin: Origin, side: number, error?: ExtendedError): Buffer {
    const context = this.#context;
    const query = this.#query;
    const { zone, cookies, counters } = this.#options;
    const isDatagram = origin.transport === 'udp';
    context.limit = isDatagram ? Math.min(query.udpSize, this.#udpLimit) : streamLimit;
    context.rotation = this.#sequence;
    context.soa = zone.soa;
    context.cookie = query.cookieStart > 0 ? cookies.make(message, query.cookieStart, origin.address, this.#nowSeconds) : undefined;
    context.keepaliveUnits = isDatagram ? 0 : keepaliveUnits;
    context.paddingBlock = origin.transport === 'tls' || origin.transport === 'https' ? paddingBlock : 0;
    context.error = error ?? (zone.staleSinceMs > 0 && side === 0 ? this.#staleError() : undefined);
    const reply = renderReply(message, query, template, context);
    if (((reply[2] ?? 0) & 2) !== 0) counters.add(cells.truncated);
    counters.addResponse(side, template.rcode, reply.length);
    return reply;
  }

  #refuse(message: Buffer, rcode: number, origin: Origin): Buffer {
    const query = this.#query;
    const reply = rcode === rcodes.REFUSED && query.nameLength > 0
      ? this.#render(message, refusedTemplate, origin, 1)
      : renderRefusal(message, query, rcode, this.#options.isRecursive);
    if (rcode !== rcodes.REFUSED) this.#options.counters.addResponse(1, rcode, reply.length);
    return reply;
  }

  #staleError(): ExtendedError {
    const seconds = Math.max(0, Math.round((this.#options.clock.nowMs() - this.#options.zone.staleSinceMs) / 1000));
    return { code: extendedErrors.staleAnswer, text: `control plane away: this state is ${seconds} s old` };
  }

  /** Holds back UDP replies to strangers beyond their rate; a valid cookie proves the source. */
  #limit(message: Buffer, reply: Buffer, origin: Origin): Buffer | undefined {
    const { trusted, limiter, cookies, counters } = this.#options;
    if (origin.transport !== 'udp' || trusted.has(origin.address)) return reply;
    const query = this.#query;
    if (query.cookieStart > 0 && cookies.isValid(message, query.cookieStart, query.cookieLength, origin.address, this.#nowSeconds)) return reply;
    const verdict = limiter.check(origin.address, this.#options.clock.monotonicMs());
    if (verdict === 'send') return reply;
    counters.add(cells.rateLimited);
    if (verdict === 'drop' || query.nameLength === 0) return undefined;
    const slip = renderRefusal(message, query, rcodes.NOERROR, this.#options.isRecursive);
    slip[2] = (slip[2] ?? 0) | (flags.TC >> 8);
    return slip;
  }
}

const refusedTemplate = negativeTemplate({ rcode: rcodes.REFUSED, soaStart: -1, error: { code: extendedErrors.notSupported, text: 'only class IN is served' } });

/** Types that may not be asked for: 0, OPT, TKEY, TSIG, MAILB, MAILA. */
function isMetaType(qtype: number): boolean {
  return qtype === 0 || qtype === rrTypes.OPT || qtype === rrTypes.TKEY || qtype === rrTypes.TSIG || qtype === rrTypes.MAILB || qtype === rrTypes.MAILA;
}
