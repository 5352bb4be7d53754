// The wire codec against random, mutated and hostile bytes, in-process: nothing may throw, cost more than a millisecond
// or differ from what an independent decoder reads. dns2's Packet is the second opinion. FUZZ=1000000 runs the long form.

import { Packet } from 'dns2';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { AnswerBuilder } from '../../dns/wire/builder.ts';
import { isWithin, joinKey, labelsOf, nameKey, nameText } from '../../dns/wire/names.ts';
import { parseQuery, Query, queryOk, skipName } from '../../dns/wire/query.ts';
import { renderReply, type ReplyContext } from '../../dns/wire/reply.ts';
import { parseResponse } from '../../dns/wire/response.ts';
import { decode } from './decode.ts';
import { queryBytes } from './lib.ts';

const rounds = Number(process.env['FUZZ'] ?? 20_000);
const seed = Number(process.env['SEED'] ?? 20_261_121);

/** Small, fast, repeatable. */
function makeRandom(start: number): () => number {
  let state = start >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let value = Math.imul(state ^ (state >>> 15), 1 | state);
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value;
    return ((value ^ (value >>> 14)) >>> 0) / 4_294_967_296;
  };
}

function timeOf(work: () => void): number {
  const started = performance.now();
  work();
  return performance.now() - started;
}

const context: ReplyContext = { limit: 1_232, isRecursive: true, rotation: 1, cookie: undefined, keepaliveUnits: 0, paddingBlock: 0, soa: undefined, error: undefined, ageSeconds: 0, fixedTtlSeconds: 0 };
const labels = fc.array(fc.stringMatching(/^[a-z0-9_-]{1,20}$/), { minLength: 1, maxLength: 8 });

describe('names', () => {
  test('text → key → text is the same for any octets, escapes included', () => {
    fc.assert(fc.property(fc.array(fc.uint8Array({ minLength: 1, maxLength: 20 }), { minLength: 1, maxLength: 6 }), (parts) => {
      const lowered = parts.map((part) => String.fromCharCode(...part).replace(/[A-Z]/g, (letter) => letter.toLowerCase()));
      const key = joinKey(lowered, '\0');
      expect(nameKey(nameText(key))).toBe(key);
      expect(labelsOf(key)).toEqual(lowered);
    }), { seed, numRuns: 500 });
  });

  test.each([['', '\0'], ['.', '\0'], ['A.b', '\x01a\x01b\0'], ['a.b.', '\x01a\x01b\0'], ['a\\.b', '\x03a.b\0'], ['a\\000b', '\x03a\0b\0']])('%j', (text, key) => { expect(nameKey(text)).toBe(key); });
  test.each(['..', 'a..b', '.a', 'x'.repeat(64), `${'a'.repeat(63)}.`.repeat(4), 'a\\999', '\u0100'])('%j is no name', (text) => { expect(nameKey(text)).toBeUndefined(); });
  test('a label that only looks like the zone is not within it', () => {
    const zone = nameKey('cluster.local') ?? '';
    expect(isWithin(nameKey('web.cluster.local') ?? '', zone)).toBe(true);
    expect(isWithin(zone, zone)).toBe(true);
    expect(isWithin(joinKey(['x\x07cluster', 'local'], '\0'), zone)).toBe(false);
    expect(isWithin(joinKey(['x\x07cluster\x05local'], '\0'), zone)).toBe(false);
  });
});

describe('round trip', () => {
  test('every record kind decodes to what was put in, by two decoders, compressed or not', () => {
    fc.assert(fc.property(labels, fc.array(labels, { minLength: 1, maxLength: 6 }), fc.nat(0xffff), (question, targets, port) => {
      const key = joinKey(question, '\0');
      const builder = new AnswerBuilder();
      builder.begin(key);
      for (const target of targets) {
        const targetKey = joinKey(target, '\0');
        builder.addName(key, 5, 30, targetKey);
        builder.addSrv(targetKey, 30, 7, port, targetKey);
        builder.addName(targetKey, 12, 30, key);
      }
      builder.addAddress(key, 5, Uint8Array.of(10, 0, 0, 1));
      builder.addText(key, 9, 'hello');
      builder.beginAdditional();
      builder.addAddress(key, 5, Uint8Array.of(0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9));
      const message = queryBytes(question.join('.'), 1);
      const query = new Query();
      expect(parseQuery(message, message.length, query)).toBe(queryOk);
      const reply = renderReply(message, query, builder.finish(), { ...context, limit: 65_535 });
      const mine = decode(reply);
      expect(mine.answers.map((rr) => rr.type)).toEqual([...targets.flatMap(() => ['CNAME', 'SRV', 'PTR']), 'A', 'TXT']);
      const other = Packet.parse(reply) as unknown as { answers: { name: string; type: number; domain?: string; target?: string; port?: number; address?: string }[] };
      for (const [index, rr] of other.answers.entries()) {
        const same = mine.answers[index];
        expect(`${rr.name}.`.toLowerCase()).toBe(same?.name);
        if (rr.type === 5 || rr.type === 12) expect(`${rr.domain}.`).toBe(same?.data);
        if (rr.type === 33) expect({ port: rr.port, target: `${rr.target}.` }).toMatchObject({ port: (same?.data as { port: number }).port, target: (same?.data as { target: string }).target });
      }
    }), { seed, numRuns: 200 });
  });

  test('whatever the size limit, the reply is well-formed, within it, and TC tells the truth', () => {
    const message = queryBytes('x.y.cluster.local', 1, { udpSize: 1_232 });
    const query = new Query();
    parseQuery(message, message.length, query);
    for (let count = 1; count < 120; count += 7) {
      const builder = new AnswerBuilder();
      builder.begin(query.key);
      for (let index = 0; index < count; index++) builder.addAddress(query.key, 5, Uint8Array.of(10, 0, index, 1));
      const template = builder.finish(16);
      for (let limit = 512; limit <= 2_048; limit += 61) {
        const reply = renderReply(message, query, template, { ...context, limit, rotation: limit });
        const seen = decode(reply);
        expect(reply.length).toBeLessThanOrEqual(limit);
        expect(seen.tc).toBe(seen.answers.length < count);
        expect(seen.opt).toBeDefined();
        expect(new Set(seen.answers.map((rr) => rr.data)).size).toBe(seen.answers.length);
      }
    }
  });
});

describe('fuzz', () => {
  test(`${rounds} mutated and random packets: no throw, no stall, sound verdicts`, () => {
    const random = makeRandom(seed);
    const query = new Query();
    const seeds = [queryBytes('web.shop.svc.cluster.local', 1), queryBytes('_http._tcp.web.shop.svc.cluster.local', 33, { udpSize: 4_096 }), queryBytes('a.b', 255, { edns: Buffer.from([0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]) })];
    const builder = new AnswerBuilder();
    const slow: Buffer[] = [];
    let okCount = 0;
    for (let round = 0; round < rounds; round++) {
      let packet: Buffer = Buffer.from(seeds[round % seeds.length] ?? Buffer.alloc(0));
      if (round % 10 === 0) packet = Buffer.from(Array.from({ length: Math.floor(random() * 300) }, () => Math.floor(random() * 256)));
      for (let change = Math.floor(random() * 4); change > 0; change--) {
        const at = Math.floor(random() * packet.length);
        const kind = random();
        if (kind < 0.5) packet[at] = Math.floor(random() * 256);
        else if (kind < 0.7) packet = packet.subarray(0, at);
        else if (kind < 0.85) packet = Buffer.concat([packet.subarray(0, at), Buffer.from([0xc0, Math.floor(random() * 64)]), packet.subarray(at)]);
        else packet = Buffer.concat([packet, packet.subarray(at)]);
      }
      const started = performance.now();
      const verdict = parseQuery(packet, packet.length, query);
      if (performance.now() - started > 1) slow.push(packet);
      if (verdict === queryOk) {
        builder.begin(query.key);
        builder.addAddress(query.key, 5, Uint8Array.of(1, 2, 3, 4));
        const reply = renderReply(packet, query, builder.finish(16), context);
        const seen = decode(reply);
        expect(seen.question?.rawName).toBe(packet.subarray(12, 12 + query.nameLength).toString('hex'));
        okCount += 1;
      }
      skipName(packet, packet.length, Math.min(12, packet.length));
    }
    expect(okCount).toBeGreaterThan(rounds / 20);
    // A pause of the machine hits any packet once; a packet that costs much does so each time.
    for (const packet of slow) expect(Math.min(...Array.from({ length: 5 }, () => timeOf(() => parseQuery(packet, packet.length, query)))), packet.toString('hex')).toBeLessThan(1);
  });

  test(`${rounds / 2} mutated upstream replies: an answer or a refusal, never a throw; what is kept can be served`, () => {
    const random = makeRandom(seed + 1);
    const sent = queryBytes('a.test', 1, { udpSize: 1_232 });
    const questionEnd = sent.length - 11;
    const good = Buffer.concat([sent.subarray(0, questionEnd), Buffer.from([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 4, 1, 98, 0xc0, 14, 0xc0, 36, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]), sent.subarray(questionEnd)]);
    good.writeUInt16BE(0x8180, 2);
    good.writeUInt16BE(2, 6);
    expect(parseResponse(good, sent, questionEnd)).toMatchObject({ ttlSeconds: 60, isNegative: false });
    const query = new Query();
    parseQuery(sent, sent.length, query);
    for (let round = 0; round < rounds / 2; round++) {
      let packet: Buffer = Buffer.from(good);
      for (let change = 1 + Math.floor(random() * 3); change > 0; change--) {
        if (random() < 0.8) packet[Math.floor(random() * packet.length)] = Math.floor(random() * 256);
        else packet = packet.subarray(0, Math.floor(random() * packet.length));
      }
      const verdict = parseResponse(packet, sent, questionEnd);
      if (typeof verdict === 'object') expect(renderReply(sent, query, verdict.template, { ...context, ageSeconds: 1 }).length).toBeLessThanOrEqual(1_232);
    }
  });

  test('64 KB of chained pointers costs under 50 ms', () => {
    const packet = Buffer.alloc(65_000);
    queryBytes('a.b', 1).copy(packet);
    packet.writeUInt16BE(1, 8);
    packet.writeUInt16BE(2, 10);
    for (let at = 40; at + 2 < packet.length; at += 2) packet.writeUInt16BE(0xc000 | Math.min(0x3fff, at - 2), at);
    const started = performance.now();
    parseQuery(packet, packet.length, new Query());
    skipName(packet, packet.length, 16_382);
    expect(performance.now() - started).toBeLessThan(50);
  });
});
