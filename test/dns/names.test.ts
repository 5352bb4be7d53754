// Every query of data/names.json against the real server over real sockets, with a scripted upstream behind it, one
// server per configuration. Then its wire and TCP-framing cases.

import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { KubeObject } from '../../api/types.ts';
import type { DnsServerOptions } from '../../dns/config.ts';
import { decode, rcodeNumbers, type Message, type Rr } from './decode.ts';
import { FakeUpstream, type UpstreamData } from './fake-upstream.ts';
import { frame, makeWorld, queryBytes, startServer, tcpExchange, udpExchange, type Running } from './lib.ts';

interface ExpectedRr { name?: string; type: string; data?: string | { port: number; target: string } }
interface Expected {
  rcode?: string | string[]; aa?: boolean; ra?: boolean; answers?: ExpectedRr[]; answersAnyOf?: ExpectedRr[][]; authority?: ExpectedRr[]; additional?: ExpectedRr[];
  answersMin?: number; answerTypes?: string[]; notAnswers?: string[]; cnameFirst?: boolean; questionEcho?: boolean; targetNamesLenient?: boolean; ptrTargetLenient?: boolean;
  reply?: boolean | boolean[]; opt?: { version: number }; replies?: number | number[]; ids?: number[]; rcodes?: string[]; alive?: boolean;
}
interface NameCase { name: string; qname: string; qtype: string; qclass?: string; transport?: 'udp' | 'tcp'; config?: Record<string, unknown>; client?: unknown; expect: Expected }
interface WireCase { name: string; transport: 'udp' | 'tcp'; queryHex?: string; chunksHex?: string[]; gapMs?: number; halfClose?: boolean; expect: Expected }

const data = JSON.parse(readFileSync(new URL('./data/names.json', import.meta.url), 'utf8')) as { fixtures: KubeObject[]; upstream: UpstreamData; cases: NameCase[]; wire: WireCase[] };
const types: Record<string, number> = { A: 1, NS: 2, CNAME: 5, SOA: 6, PTR: 12, MX: 15, TXT: 16, AAAA: 28, SRV: 33, DS: 43, HTTPS: 65, IXFR: 251, AXFR: 252, ANY: 255, CAA: 257 };
const classes: Record<string, number> = { IN: 1, CH: 3, HS: 4 };

const upstream = new FakeUpstream(data.upstream);
const servers = new Map<string, Running>();

async function serverFor(config: Record<string, unknown>): Promise<Running> {
  const id = JSON.stringify(config);
  const present = servers.get(id);
  if (present !== undefined) return present;
  const options: Partial<DnsServerOptions> = {
    upstreams: [`127.0.0.1:${upstream.port}`], podsMode: (config['pods'] ?? 'insecure') as 'insecure', isZonal: config['zonal'] === true, isAutopathOn: config['autopath'] === true,
    transferTo: config['transfer'] === true ? ['127.0.0.0/8'] : [], visibleNamespaces: (config['namespaces'] ?? undefined) as string[] | undefined,
  };
  // The client of the autopath cases is this test itself.
  const self: KubeObject = { kind: 'Pod', metadata: { name: 'client', namespace: 'shop' }, status: { phase: 'Running', podIP: '127.0.0.1' } } as KubeObject;
  const running = await startServer(makeWorld(config['autopath'] === true ? [...data.fixtures, self] : data.fixtures), options);
  servers.set(id, running);
  return running;
}

beforeAll(async () => { await upstream.start(); });
afterAll(async () => {
  for (const { server } of servers.values()) await server.stop(0);
  await upstream.stop();
});

function plain(rr: ExpectedRr, fields: readonly string[]): string {
  const value = typeof rr.data === 'object' ? `${rr.data.port} ${rr.data.target}` : rr.data;
  return fields.map((field) => (field === 'data' ? value : field === 'type' ? rr.type : rr.name)).join(' ');
}

function sameRecords(actual: readonly Rr[], expected: readonly ExpectedRr[], isLenient = false): void {
  const fields = ['name', 'type', 'data'].filter((field) => expected.every((rr) => field in rr) && !(isLenient && field === 'data'));
  const wanted = isLenient ? expected.map((rr) => `${rr.type}`) : expected.map((rr) => plain(rr, fields));
  const found = isLenient ? actual.map((rr) => rr.type) : actual.map((rr) => plain(rr, fields));
  expect(found.sort()).toEqual(wanted.sort());
}

function check(message: Message, expected: Expected): void {
  if (expected.rcode !== undefined) expect([expected.rcode].flat().map((name) => rcodeNumbers[name])).toContain(message.rcode);
  if (expected.aa !== undefined) expect(message.aa).toBe(expected.aa);
  if (expected.ra !== undefined) expect(message.ra).toBe(expected.ra);
  if (expected.answers !== undefined) sameRecords(message.answers, expected.answers, expected.ptrTargetLenient);
  if (expected.authority !== undefined) sameRecords(message.authority, expected.authority);
  if (expected.additional !== undefined) sameRecords(message.additional, expected.additional);
  if (expected.answersMin !== undefined) expect(message.answers.length).toBeGreaterThanOrEqual(expected.answersMin);
  if (expected.answerTypes !== undefined) expect(expected.answerTypes).toEqual(expect.arrayContaining(message.answers.map((rr) => rr.type)));
  for (const type of expected.notAnswers ?? []) expect(message.answers.map((rr) => rr.type)).not.toContain(type);
  if (expected.cnameFirst === true) expect(message.answers[0]?.type).toBe('CNAME');
  if (expected.opt !== undefined) expect(message.opt?.version).toBe(expected.opt.version);
  if (expected.answersAnyOf !== undefined) expect(expected.answersAnyOf.map((set) => set.map((rr) => plain(rr, ['name', 'type', 'data'])).sort().join())).toContain(message.answers.map((rr) => plain(rr, ['name', 'type', 'data'])).sort().join());
  expect(message.z).toBe(false);
  expect(message.ad).toBe(false);
}

describe('names', () => {
  test.each(data.cases)('$name: $qname $qtype', async (item) => {
    const { port } = await serverFor(item.config ?? {});
    const query = queryBytes(item.qname, types[item.qtype] ?? Number(item.qtype.replace('TYPE', '')), { qclass: classes[item.qclass ?? 'IN'] ?? 1 });
    const reply = item.transport === 'tcp' ? (await tcpExchange(port, [frame(query)], { count: 1 })).replies[0] : await udpExchange(port, query);
    expect(reply).toBeDefined();
    const message = decode(reply as Buffer);
    expect(message.id).toBe(0x1234);
    if (item.expect.questionEcho === true) expect((reply as Buffer).subarray(12, query.length).equals(query.subarray(12))).toBe(true);
    check(message, item.expect);
  });
});

describe('wire', () => {
  test.each(data.wire)('$name', async (item) => {
    const { port } = await serverFor({});
    const { expect: expected } = item;
    if (item.chunksHex !== undefined) {
      const wanted = [expected.replies ?? 0].flat();
      const { replies } = await tcpExchange(port, item.chunksHex.map((hex) => Buffer.from(hex, 'hex')), {
        gapMs: item.gapMs ?? 0, halfClose: item.halfClose === true, count: Math.max(...wanted) || 1, timeoutMs: Math.max(...wanted) === 0 ? 300 : 2_000,
      });
      expect(wanted).toContain(replies.length);
      if (expected.ids !== undefined) expect(replies.map((reply) => decode(reply).id).sort()).toEqual([...expected.ids].sort());
      if (expected.rcodes !== undefined) expect(replies.map((reply) => decode(reply).rcode)).toEqual(expected.rcodes.map((name) => rcodeNumbers[name]));
    } else {
      const query = Buffer.from(item.queryHex ?? '', 'hex');
      const mayBeSilent = [expected.reply].flat().includes(false);
      const reply = await udpExchange(port, query, mayBeSilent ? 500 : 2_000);
      expect([expected.reply].flat()).toContain(reply !== undefined);
      if (reply !== undefined) {
        check(decode(reply), expected);
        if (expected.questionEcho === true) expect(reply.subarray(12, query.length).equals(query.subarray(12))).toBe(true);
      }
    }
    const canary = await udpExchange(port, queryBytes('web.shop.svc.cluster.local', 1), 500);
    expect(decode(canary as Buffer).answers[0]?.data).toBe('10.96.1.1');
  });
});
