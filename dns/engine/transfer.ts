// Zone transfer (AXFR, RFC 5936) for allowed addresses over streams: SOA, NS, every Service with its addresses, SRV and
// endpoint names, aliases, then the SOA again; no pods, no zonal names. The Services are those of the moment it starts;
// messages of about 16 KB leave one at a time, so that a big zone neither stalls queries nor fills memory. IXFR answers
// with the SOA alone when the serial is current, else with a full transfer (RFC 1995 §4). Called by dns/engine/engine.ts.

import type { AddressList } from './access.ts';
import type { Origin } from './engine.ts';
import { AnswerBuilder, negativeTemplate, type Template } from '../wire/builder.ts';
import { extendedErrors, rcodes, rrTypes } from '../wire/constants.ts';
import { prefixKey } from '../wire/names.ts';
import { parseQuery, Query, skipName, word } from '../wire/query.ts';
import { renderReply, type ReplyContext } from '../wire/reply.ts';
import { addRecords } from '../zone/answer.ts';
import { findNode, type Node } from '../zone/find.ts';
import type { ServiceZone, Zone } from '../zone/zone.ts';

const messageBytes = 16_000;
const transfersMax = 4;

export class Transfer {
  readonly #zone: Zone;
  readonly #allowed: AddressList;
  #runningCount = 0;

  constructor(zone: Zone, allowed: AddressList) {
    this.#zone = zone;
    this.#allowed = allowed;
  }

  /** Answers or refuses; the messages of a transfer go out through `origin.more` and `origin.reply`. */
  handle(message: Buffer, query: Query, origin: Origin): Buffer | undefined {
    const isAllowed = query.key === this.#zone.options.zoneKey && this.#allowed.has(origin.address);
    if (!isAllowed || origin.more === undefined || origin.transport === 'https' || this.#runningCount >= transfersMax) {
      const text = isAllowed ? 'transfers need TCP, a few at a time' : 'transfer is not allowed for this zone and address';
      return this.#render(message, query, negativeTemplate({ rcode: rcodes.REFUSED, soaStart: -1, error: { code: extendedErrors.prohibited, text } }));
    }
    if (query.qtype === rrTypes.IXFR && ixfrSerial(message, query) === this.#zone.serial) return this.#render(message, query, this.#soaOnly());
    this.#runningCount += 1;
    void this.#run(Buffer.from(message), origin.hold()).finally(() => { this.#runningCount -= 1; });
    return undefined;
  }

  async #run(message: Buffer, origin: Origin): Promise<void> {
    const query = new Query();
    const builder = new AnswerBuilder();
    parseQuery(message, message.length, query);
    const zoneKey = this.#zone.options.zoneKey;
    const serial = this.#zone.serial;
    builder.begin(zoneKey);
    this.#addSoa(builder, serial);
    this.#add(builder, findNode(this.#zone, []), zoneKey, rrTypes.NS);
    this.#add(builder, findNode(this.#zone, ['dns-version']), this.#zone.name('dns-version'), rrTypes.TXT);
    for (const service of [...this.#zone.services.values()]) {
      for (const { node, owner, types } of nodesOf(this.#zone, service)) {
        for (const type of types) {
          this.#add(builder, node, owner, type);
          if (builder.byteCount < messageBytes) continue;
          if (await origin.more?.(this.#render(message, query, builder.finish())) !== true) return origin.reply(this.#render(message, query, this.#soaOnly()));
          builder.begin(zoneKey);
        }
      }
    }
    this.#addSoa(builder, serial);
    origin.reply(this.#render(message, query, builder.finish()));
  }

  /** Only answers go over: glue is records of its own here. */
  #add(builder: AnswerBuilder, node: Node, owner: string, type: number): void {
    addRecords(this.#zone, node, owner, type, builder);
    builder.dropAdditional();
  }

  #addSoa(builder: AnswerBuilder, serial: number): void {
    const { zoneKey, ttlSeconds } = this.#zone.options;
    builder.addSoa(zoneKey, Math.min(ttlSeconds, 300), this.#zone.name('ns', 'dns'), this.#zone.name('hostmaster'), serial, ttlSeconds);
  }

  #soaOnly(): Template {
    const builder = new AnswerBuilder();
    builder.begin(this.#zone.options.zoneKey);
    this.#addSoa(builder, this.#zone.serial);
    return builder.finish();
  }

  #render(message: Buffer, query: Query, template: Template): Buffer {
    return renderReply(message, query, template, streamContext);
  }
}

const streamContext: ReplyContext = {
  limit: 65_535, isRecursive: false, rotation: 0, cookie: undefined, keepaliveUnits: 0, paddingBlock: 0, soa: undefined, error: undefined, ageSeconds: 0, fixedTtlSeconds: 0,
};

const addressTypes = [rrTypes.A, rrTypes.AAAA];

function* nodesOf(zone: Zone, service: ServiceZone): Generator<{ node: Node; owner: string; types: readonly number[] }> {
  const { records } = service;
  if (records.kind === 'headless' && records.endpoints.length === 0) return;
  const owner = zone.name(records.name, records.namespace, 'svc');
  if (records.kind === 'external') {
    yield { node: { kind: 'service', service }, owner, types: [rrTypes.CNAME] };
    return;
  }
  yield { node: { kind: 'service', service }, owner, types: [...addressTypes, rrTypes.SRV] };
  const named = new Set<string>();
  for (const set of records.kind === 'cluster' ? [records.ports] : records.portSets) {
    for (const item of set) if (item.name !== '') named.add(`${item.name} ${item.protocol.toLowerCase()}`);
  }
  for (const text of named) {
    const [port = '', protocol = ''] = text.split(' ');
    yield { node: { kind: 'port', service, port, protocol }, owner: prefixKey(`_${port}`, prefixKey(`_${protocol}`, owner)), types: [rrTypes.SRV] };
  }
  for (const host of service.hosts.keys()) yield { node: { kind: 'endpoint', service, host }, owner: prefixKey(host, owner), types: addressTypes };
}

/** Serial of the SOA in an IXFR query's authority section; -1 when there is none. */
function ixfrSerial(message: Buffer, query: Query): number {
  if (word(message, 8) !== 1) return -1;
  const fixed = skipName(message, message.length, query.questionEnd);
  if (fixed < 0 || fixed + 10 > message.length || word(message, fixed) !== rrTypes.SOA) return -1;
  const end = fixed + 10 + word(message, fixed + 8);
  return end <= message.length && end - fixed >= 32 ? message.readUInt32BE(end - 20) : -1;
}
