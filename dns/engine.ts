// One DNS thread's brain: a packet in, a reply out. Hot path: strict parse → compiled answer by (type, name) → copy.
// Everything else (first answers, negative answers, aliases, foreign names) takes the slow path below it.
// Called by the transports (UDP, TCP, TLS, HTTPS); next: zone/answer.ts or forward/forwarder.ts.

import type { Clock } from '../api/clock.ts';
import { AnswerBuilder, negativeTemplate, type ExtendedError, type Template } from './wire/builder.ts';
import { extendedErrors, rcodes, rrTypes } from './wire/constants.ts';
import { isWithin, labelsOf } from './wire/names.ts';
import { parseQuery, Query, queryDrop, queryOk } from './wire/query.ts';
import { renderRefusal, renderReply, type ReplyContext } from './wire/reply.ts';
import { addRecords, negativeAnswer, serviceOf } from './zone/answer.ts';
import { addressOfReverseName, findNode, type Node } from './zone/find.ts';
import type { Zone } from './zone/zone.ts';

export type Transport = 'udp' | 'tcp' | 'tls' | 'https';

/** Where a query came from. Transports may reuse one object per packet: keep `hold()` when the reply comes later. */
export interface Origin {
  readonly transport: Transport;
  readonly address: string;
  readonly port: number;
  reply(bytes: Buffer): void;
  hold(): Origin;
}

export interface EngineOptions { zone: Zone; clock: Clock }

const streamLimit = 65_535;
const udpLimitMax = 1_232;
const chainLengthMax = 8;

export class Engine {
  readonly zone: Zone;
  readonly #clock: Clock;
  readonly #query = new Query();
  readonly #builder = new AnswerBuilder();
  readonly #context: ReplyContext = {
    limit: 512, isRecursive: true, rotation: 0, cookie: undefined, keepaliveUnits: 0, paddingBlock: 0, soa: undefined, error: undefined,
  };
  #rotation = 0;

  constructor(options: EngineOptions) {
    this.zone = options.zone;
    this.#clock = options.clock;
  }

  /** The reply to one packet, or undefined when none is due now: dropped, or held until an upstream answers. */
  handle(message: Buffer, origin: Origin): Buffer | undefined {
    const query = this.#query;
    const verdict = parseQuery(message, message.length, query);
    if (verdict === queryDrop) return undefined;
    if (verdict !== queryOk) return renderRefusal(message, query, verdict, true);
    const hot = this.zone.hot[query.qtype]?.get(query.key);
    if (hot !== undefined) return this.#render(message, hot, origin);
    return this.#answerSlowly(message, origin);
  }

  #render(message: Buffer, template: Template, origin: Origin): Buffer {
    const context = this.#context;
    const query = this.#query;
    const { zone } = this;
    context.limit = origin.transport === 'udp' ? Math.min(query.udpSize, udpLimitMax) : streamLimit;
    this.#rotation = (this.#rotation + 1) & 0xffff;
    context.rotation = this.#rotation;
    context.soa = zone.soa;
    context.error = zone.staleSinceMs === 0 ? undefined : this.#staleError();
    return renderReply(message, query, template, context);
  }

  #staleError(): ExtendedError {
    const seconds = Math.round((this.#clock.nowMs() - this.zone.staleSinceMs) / 1000);
    return { code: extendedErrors.staleAnswer, text: `control plane away: state is ${seconds} s old` };
  }

  #answerSlowly(message: Buffer, origin: Origin): Buffer | undefined {
    const query = this.#query;
    const { zone } = this;
    if (query.qtype === rrTypes.AXFR || query.qtype === rrTypes.IXFR) return renderRefusal(message, query, rcodes.REFUSED, true);
    if (isWithin(query.key, zone.options.zoneKey)) {
      const soaStart = query.key.length - zone.options.zoneKey.length;
      const labels = labelsOf(query.key.slice(0, soaStart) + '\0');
      return this.#answerNode(message, findNode(zone, labels), soaStart, origin);
    }
    const ip = query.key.endsWith('\x04arpa\0') ? addressOfReverseName(labelsOf(query.key)) : undefined;
    const owners = ip === undefined ? [] : zone.ownersOf(ip);
    if (ip !== undefined && owners.length > 0) {
      const soaStart = query.key.length - (ip.includes(':') ? '\x03ip6\x04arpa\0' : '\x07in-addr\x04arpa\0').length;
      return this.#answerNode(message, { kind: 'reverse', ip, services: owners }, soaStart, origin);
    }
    return renderRefusal(message, query, rcodes.REFUSED, true);
  }

  #answerNode(message: Buffer, node: Node, soaStart: number, origin: Origin): Buffer | undefined {
    const query = this.#query;
    const { zone } = this;
    const service = serviceOf(node);
    if (node.kind !== 'absent') {
      const builder = this.#builder;
      builder.begin(query.key);
      const outcome = addRecords(zone, node, query.key, query.qtype, builder);
      if (outcome.kind === 'records') {
        const template = builder.finish(outcome.rotateSize);
        if (service !== undefined) zone.remember(query.qtype, query.key, service, template);
        return this.#render(message, template, origin);
      }
      if (outcome.kind === 'alias') return this.#follow(message, outcome.target, soaStart, origin);
    }
    const negative = negativeAnswer(zone, node, soaStart, query.hasOpt || service !== undefined);
    if (service !== undefined && node.kind !== 'absent') zone.remember(query.qtype, query.key, service, negative);
    return this.#render(message, negative, origin);
  }

  /** Goes on from a CNAME that the builder already holds: inside the zone from memory, outside through an upstream. */
  #follow(message: Buffer, first: string, soaStart: number, origin: Origin): Buffer | undefined {
    const query = this.#query;
    const { zone } = this;
    const builder = this.#builder;
    const seen = new Set([query.key]);
    let target = first;
    while (isWithin(target, zone.options.zoneKey)) {
      if (seen.has(target) || seen.size > chainLengthMax) {
        const error = { code: extendedErrors.other, text: 'ExternalName Services point at each other' };
        return this.#render(message, negativeTemplate({ rcode: rcodes.SERVFAIL, soaStart: -1, error }), origin);
      }
      seen.add(target);
      const labels = labelsOf(target.slice(0, target.length - zone.options.zoneKey.length) + '\0');
      const node = findNode(zone, labels);
      const outcome = addRecords(zone, node, target, query.qtype, builder);
      if (outcome.kind === 'alias') { target = outcome.target; continue; }
      if (outcome.kind === 'records') return this.#render(message, builder.finish(), origin);
      const negative = negativeAnswer(zone, node, soaStart, query.hasOpt);
      return this.#render(message, { ...builder.finish(0, negative.error), rcode: negative.rcode, soaStart: negative.soaStart }, origin);
    }
    return this.#render(message, builder.finish(), origin);
  }
}
