// Hostile and malformed packets of data/packets.json against the real server over real sockets: each has outcomes that
// are allowed; after each a plain query must be answered at once.

import { readFileSync } from 'node:fs';
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
