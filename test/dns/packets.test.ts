// Hostile and malformed packets of data/packets.json against the real server over real sockets: each has outcomes that
// are allowed; after each a plain query must be answered at once.

import { createSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { Registry } from 'prom-client';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { KubeObject } from '../../api/types.ts';
import { decode } from './decode.ts';
import { frame, makeWorld, queryBytes, startServer, tcpExchange, udpExchange, type Running } from './lib.ts';
import { packetFixture } from './packet-fixture.ts';

interface Outcome { kind: 'drop' | 'reply' | 'close' | 'wait' | 'replies'; rcode?: number[]; best: boolean; answers?: number; answer_not?: string; echo?: boolean; opt?: boolean; tc?: boolean; max_bytes?: number; soa?: boolean; ids?: number[] }
interface PacketCase { id: string; title: string; transport: 'udp' | 'tcp' | 'tcp-raw'; outcomes: Outcome[]; tags: string[]; hex?: string; chunks?: string[] }

const { cases } = JSON.parse(readFileSync(new URL('./data/packets.json', import.meta.url), 'utf8')) as { cases: PacketCase[] };
let running: Running;

beforeAll(async () => { running = await startServer(makeWorld(packetFixture() as KubeObject[])); });
afterAll(async () => { await running.server.stop(0); });

function fits(outcome: Outcome, reply: Buffer | undefined, query: Buffer): boolean {
  if (outcome.kind === 'drop') return reply === undefined;
  if (outcome.kind !== 'reply' || reply === undefined) return false;
  const message = decode(reply);
  return (outcome.rcode === undefined || outcome.rcode.includes(message.rcode))
    && (outcome.answers === undefined || message.answers.length === outcome.answers)
    && (outcome.answer_not === undefined || !reply.subarray(query.length).toString('hex').includes(outcome.answer_not))
    && (outcome.echo !== true || reply.subarray(12, query.length).equals(query.subarray(12)))
    && (outcome.opt !== true || message.opt !== undefined)
    && (outcome.tc === undefined || message.tc === outcome.tc)
    && (outcome.soa !== true || message.authority.some((rr) => rr.type === 'SOA'))
    && (outcome.max_bytes === undefined || reply.length <= outcome.max_bytes);
}

describe('hostile packets', () => {
  test.each(cases)('$id $title', async (item) => {
    if (item.transport === 'tcp-raw') {
      const { replies, isClosed } = await tcpExchange(running.port, (item.chunks ?? []).map((hex) => Buffer.from(hex, 'hex')), { timeoutMs: 700, gapMs: 5 });
      const isAllowed = item.outcomes.some((outcome) => (outcome.kind === 'close' ? isClosed && replies.length === 0
        : outcome.kind === 'wait' ? !isClosed && replies.length === 0
          : outcome.kind === 'replies' && JSON.stringify(replies.map((reply) => decode(reply).id)) === JSON.stringify(outcome.ids)));
      expect(isAllowed, `replies ${replies.length} closed ${isClosed}`).toBe(true);
    } else {
      const query = Buffer.from(item.hex ?? '', 'hex');
      const mayDrop = item.outcomes.some((outcome) => outcome.kind === 'drop');
      const exchange = item.transport === 'udp' ? { reply: await udpExchange(running.port, query, mayDrop ? 400 : 2_000), isClosed: false }
        : await tcpExchange(running.port, [frame(query)], { count: 1, timeoutMs: 1_500 }).then(({ replies, isClosed }) => ({ reply: replies[0], isClosed }));
      const { reply, isClosed } = exchange;
      if (reply !== undefined) {
        const message = decode(reply);
        expect(message.isReply).toBe(true);
        expect(message.id).toBe(query.readUInt16BE(0));
        if (item.tags.includes('z-clear')) expect(message.z).toBe(false);
        if (item.tags.includes('no-answers')) expect(message.answers).toEqual([]);
      }
      const isAllowed = item.outcomes.some((outcome) => fits(outcome, reply, query) || (outcome.kind === 'close' && isClosed && reply === undefined));
      expect(isAllowed, reply === undefined ? 'no reply' : JSON.stringify(decode(reply))).toBe(true);
    }
    const canary = await udpExchange(running.port, queryBytes('web.default.svc.cluster.local', 1), 500);
    expect(decode(canary as Buffer).answers[0]?.data).toBe('10.96.0.10');
  });
});

const rounds = Number(process.env['FUZZ'] ?? 20_000);

describe('mutated packets over real sockets', () => {
  /** Park-Miller: the same packets in every run. */
  function makeRandom(seed: number): () => number {
    let state = seed;
    return () => { state = (state * 48_271) % 2_147_483_647; return state / 2_147_483_647; };
  }

  const names = ['web.default.svc.cluster.local', '_pg._tcp.db.default.svc.cluster.local', 'big.default.svc.cluster.local', 'ext.default.svc.cluster.local', 'cluster.local', '1.0.0.10.in-addr.arpa', 'db-0.db.default.svc.cluster.local', 'out.test'];
  const types = [1, 28, 33, 12, 16, 6, 2, 5, 255, 252, 251, 65, 41, 0, 65_535];
  function mutate(random: () => number): Buffer {
    const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T;
    let packet: Buffer = queryBytes(pick(names), pick(types), random() < 0.5 ? { udpSize: Math.floor(random() * 65_536), edns: Buffer.from(Array.from({ length: Math.floor(random() * 12) }, () => Math.floor(random() * 256))) } : {});
    for (let change = Math.floor(random() * 3); change > 0; change--) {
      const at = Math.floor(random() * packet.length);
      if (random() < 0.7) packet[at] = Math.floor(random() * 256);
      else packet = Buffer.concat([packet.subarray(0, at), packet.subarray(Math.floor(random() * packet.length))]);
    }
    return packet;
  }

  test(`${rounds} datagrams and as many bytes of TCP: every reply is well-formed, nothing fails inside, the canary answers`, async () => {
    const random = makeRandom(20_261_121);
    const socket = createSocket('udp4');
    let badReply = '';
    let replyCount = 0;
    socket.on('message', (reply) => { replyCount += 1; try { decode(reply); } catch (error) { badReply = `${String(error)} ${reply.toString('hex')}`; } });
    await new Promise<void>((resolve) => { socket.bind(0, '127.0.0.1', resolve); });
    for (let sent = 0; sent < rounds; sent += 200) {
      for (let index = 0; index < 200; index++) { const packet = mutate(random); if (packet.length > 0) socket.send(packet, running.port, '127.0.0.1'); }
      expect(await udpExchange(running.port, queryBytes('web.default.svc.cluster.local', 1), 1_000)).toBeDefined();
    }
    socket.close();
    for (let round = 0; round < 20; round++) {
      const pieces = Array.from({ length: 10 }, () => (random() < 0.8 ? frame(mutate(random)) : mutate(random)));
      for (const reply of (await tcpExchange(running.port, pieces, { timeoutMs: 60 })).replies) decode(reply);
    }
    expect(badReply).toBe('');
    expect(replyCount).toBeGreaterThan(rounds / 4);
    const registry = new Registry();
    running.server.registerMetrics(registry);
    expect(await registry.metrics()).toMatch(/netloom_dns_panics_total 0/);
  });
});
