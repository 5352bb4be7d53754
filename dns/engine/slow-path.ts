// Everything about a query that a compiled answer does not cover: first answers, negative answers, aliases, hosts
// entries, the search path, and names outside the cluster. Either an answer now, or one that comes later through `later`.
// Called by dns/engine/engine.ts; next: zone/find.ts → zone/answer.ts, or forward/forwarder.ts.

import { AutopathDecisions, nextNames } from './autopath.ts';
import type { AddressList } from './access.ts';
import type { Forwarder, ForwardResult } from '../forward/forwarder.ts';
import type { HostTable } from './hosts.ts';
import { AnswerBuilder, negativeTemplate, type Template } from '../wire/builder.ts';
import { extendedErrors, flags, rcodes, rrTypes } from '../wire/constants.ts';
import { isWithin, labelsOf } from '../wire/names.ts';
import { decodeAnswers } from '../wire/response.ts';
import type { Query } from '../wire/query.ts';
import { addRecords, negativeAnswer, serviceOf } from '../zone/answer.ts';
import { addressOfReverseName, findNode, type Node } from '../zone/find.ts';
import type { Zone } from '../zone/zone.ts';

/** An answer and how to render it; see ForwardResult. `isForeign`: it came from an upstream or the host table. */
export interface Answer extends ForwardResult { readonly isForeign: boolean }

export type Later = (answer: Answer) => void;

export interface SlowPathOptions {
  zone: Zone; forwarder: Forwarder; hosts: HostTable; recursionFrom: AddressList;
  /** Search domains of the host that agent-run Pods get after the cluster's own; name keys. */
  hostSearch: readonly string[];
  isAutopathOn: boolean;
  onSearchWaste(): void; onAutopath(): void;
  monotonicMs(): number;
}

const chainLengthMax = 8;
/** Questions of one client that wait for upstreams. */
const waitingPerClientMax = 200;

function local(template: Template): Answer { return { template, ageSeconds: 0, fixedTtlSeconds: 0, error: undefined, isForeign: false }; }
function refusal(code: number, text: string): Answer {
  return { template: negativeTemplate({ rcode: rcodes.REFUSED, soaStart: -1, error: { code, text } }), ageSeconds: 0, fixedTtlSeconds: 0, error: undefined, isForeign: true };
}

export class SlowPath {
  readonly #options: SlowPathOptions;
  readonly #zone: Zone;
  readonly #builder = new AnswerBuilder();
  readonly #decisions: AutopathDecisions;
  readonly #waiting = new Map<string, number>();

  constructor(options: SlowPathOptions) {
    this.#options = options;
    this.#zone = options.zone;
    this.#decisions = new AutopathDecisions(options.monotonicMs);
  }

  /** The answer, or undefined when `later` will be called (exactly once). */
  answer(query: Query, client: string, later: Later): Answer | undefined {
    const zoneKey = this.#zone.options.zoneKey;
    if (isWithin(query.key, zoneKey)) {
      const soaStart = query.key.length - zoneKey.length;
      const labels = labelsOf(`${query.key.slice(0, soaStart)}\0`);
      const node = findNode(this.#zone, labels);
      if (node.kind === 'absent') {
        if (labels.length > 4 && labels.at(-1) === 'svc') this.#options.onSearchWaste();
        if (this.#options.isAutopathOn) return this.#searchPath(query, labels, node, client, soaStart, later);
      }
      return this.#answerNode(query, node, soaStart, later);
    }
    const ip = query.key.endsWith('\x04arpa\0') ? addressOfReverseName(labelsOf(query.key)) : undefined;
    if (ip !== undefined) {
      const services = this.#zone.ownersOf(ip);
      const soaStart = query.key.length - (ip.includes(':') ? 10 : 14);
      if (services.length > 0) return this.#answerNode(query, { kind: 'reverse', ip, services }, soaStart, later);
    }
    const host = this.#options.hosts.answer(query.key, query.qtype, ip, this.#builder);
    return host === undefined ? this.#forward(query, client, later) : local(host);
  }

  #answerNode(query: Query, node: Node, soaStart: number, later: Later): Answer | undefined {
    const zone = this.#zone;
    const service = serviceOf(node);
    if (node.kind !== 'absent') {
      const builder = this.#builder;
      builder.begin(query.key);
      const outcome = addRecords(zone, node, query.key, query.qtype, builder);
      if (outcome.kind === 'records') {
        const template = builder.finish(outcome.rotateSize);
        if (service !== undefined) zone.remember(query.qtype, query.key, service, template);
        return local(template);
      }
      if (outcome.kind === 'alias') return this.#follow(query, outcome.target, soaStart, later);
    }
    const negative = negativeAnswer(zone, node, soaStart, query.hasOpt || service !== undefined);
    if (service !== undefined && node.kind !== 'absent') zone.remember(query.qtype, query.key, service, negative);
    return local(negative);
  }

  /** Goes on from a CNAME that the builder already holds: inside the zone from memory, outside through an upstream. */
  #follow(query: Query, first: string, soaStart: number, later: Later): Answer | undefined {
    const zone = this.#zone;
    const builder = this.#builder;
    const seen = new Set([query.key]);
    let target = first;
    while (isWithin(target, zone.options.zoneKey)) {
      if (seen.has(target) || seen.size > chainLengthMax) {
        const error = { code: extendedErrors.other, text: 'ExternalName Services point at each other' };
        return local(negativeTemplate({ rcode: rcodes.SERVFAIL, soaStart: -1, error }));
      }
      seen.add(target);
      const node = findNode(zone, labelsOf(`${target.slice(0, target.length - zone.options.zoneKey.length)}\0`));
      const outcome = addRecords(zone, node, target, query.qtype, builder);
      if (outcome.kind === 'alias') { target = outcome.target; continue; }
      if (outcome.kind === 'records') return local(builder.finish());
      const negative = negativeAnswer(zone, node, soaStart, query.hasOpt);
      return local({ ...builder.finish(0, negative.error), rcode: negative.rcode, soaStart: negative.soaStart });
    }
    return this.#followOutside(query, target, builder.finish(), soaStart, later);
  }

  /** `chain` holds the aliases so far; the upstream's answer for `target` is put behind them. */
  #followOutside(query: Query, target: string, chain: Template, soaStart: number, later: Later): Answer | undefined {
    const { forwarder } = this.#options;
    if (!forwarder.isEnabled) return local(chain);
    const { key, qtype } = query;
    const question = { key: target, qtype, isDnssecOk: query.isDnssecOk, isCheckingDisabled: (query.flags & flags.CD) !== 0 };
    const merge = (result: ForwardResult): Answer => {
      const { rcode, body } = result.template;
      if (rcode !== rcodes.NOERROR && rcode !== rcodes.NXDOMAIN) return { ...result, isForeign: false };
      if (body.length === 0 && rcode === rcodes.NOERROR) return { ...local({ ...chain, error: result.template.error }), error: result.error };
      const builder = this.#builder;
      builder.begin(key);
      for (const record of decodeAnswers(chain, key)) builder.addName(record.owner, record.type, record.ttlSeconds, record.target ?? '\0');
      const answers = decodeAnswers(result.template, target);
      for (const record of answers) {
        const ttl = result.fixedTtlSeconds > 0 ? result.fixedTtlSeconds : Math.max(0, record.ttlSeconds - result.ageSeconds);
        if (record.target === undefined) builder.addRaw(record.owner, record.type, ttl, record.data);
        else builder.addName(record.owner, record.type, ttl, record.target);
      }
      const isEmpty = !answers.some((record) => record.type === qtype || qtype === rrTypes.ANY);
      return { ...local({ ...builder.finish(), rcode, soaStart: isEmpty ? soaStart : -1 }), error: result.error };
    };
    const now = forwarder.resolve(question, (result) => later(merge(result)));
    return now === undefined ? undefined : merge(now);
  }

  #forward(query: Query, client: string, later: Later): Answer | undefined {
    const { forwarder, recursionFrom } = this.#options;
    if (forwarder.catchLoop(query.key)) return refusal(extendedErrors.other, 'this query came from this server itself');
    if (!forwarder.isEnabled) return refusal(extendedErrors.prohibited, 'not a cluster name, and no upstream resolver is configured');
    if (!recursionFrom.has(client)) return refusal(extendedErrors.prohibited, 'recursion is not offered to this address');
    const question = { key: query.key, qtype: query.qtype, isDnssecOk: query.isDnssecOk, isCheckingDisabled: (query.flags & flags.CD) !== 0 };
    const waiting = this.#waiting.get(client) ?? 0;
    if (waiting >= waitingPerClientMax) return refusal(extendedErrors.other, 'too many questions of this address wait for upstream resolvers');
    this.#waiting.set(client, waiting + 1);
    const now = forwarder.resolve(question, (result) => {
      this.#release(client);
      later({ ...result, isForeign: true });
    });
    if (now === undefined) return undefined;
    this.#release(client);
    return { ...now, isForeign: true };
  }

  #release(client: string): void {
    const left = (this.#waiting.get(client) ?? 1) - 1;
    if (left > 0) this.#waiting.set(client, left);
    else this.#waiting.delete(client);
  }

  /**
   * A name that the client's resolver made with its first search domain: tries what the resolver would try next and
   * answers with a CNAME to it. The plain answer (no such name) is true as well and is given whenever there is doubt.
   */
  #searchPath(query: Query, labels: readonly string[], node: Node, client: string, soaStart: number, later: Later): Answer | undefined {
    const zone = this.#zone;
    const namespace = zone.namespaceAt(client.startsWith('::ffff:') ? client.slice(7) : client);
    const base = labels.slice(0, -2);
    const plain = (): Answer => local(negativeAnswer(zone, node, soaStart, query.hasOpt));
    if (namespace === undefined || labels.at(-1) !== 'svc' || labels.at(-2) !== namespace || base.length < 2) return plain();
    const { inside, outside } = nextNames(base, zone, this.#options.hostSearch);
    for (const key of inside) {
      const found = findNode(zone, labelsOf(`${key.slice(0, key.length - zone.options.zoneKey.length)}\0`));
      if (found.kind === 'absent') continue;
      this.#options.onAutopath();
      this.#builder.begin(query.key);
      this.#builder.addName(query.key, rrTypes.CNAME, zone.options.ttlSeconds, key);
      return this.#follow(query, key, soaStart, later);
    }
    const target = outside[0];
    if (outside.length !== 1 || target === undefined || !this.#options.forwarder.isEnabled || !this.#options.recursionFrom.has(client)) return plain();
    const hasOpt = query.hasOpt;
    this.#builder.begin(query.key);
    this.#builder.addName(query.key, rrTypes.CNAME, zone.options.ttlSeconds, target);
    const decide = (answer: Answer): Answer => {
      const verdict = this.#decisions.decide(`${client} ${target}`, answer.template.rcode);
      if (verdict === 'absent') return local(negativeAnswer(zone, node, soaStart, hasOpt));
      this.#options.onAutopath();
      return answer.template.rcode === rcodes.NOERROR ? answer : { ...answer, template: { ...answer.template, rcode: rcodes.NOERROR } };
    };
    const now = this.#followOutside(query, target, this.#builder.finish(), soaStart, (answer) => later(decide(answer)));
    return now === undefined ? undefined : decide(now);
  }
}
