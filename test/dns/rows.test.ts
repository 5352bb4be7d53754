// Every row of the behaviour table as zone-file lines (rows.cases.ts) against the real server. Beside the lines each reply
// must keep the rules that hold for all: SOA of the zone on negative answers and only there, AA, no leftovers.

import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { KubeObject } from '../../api/types.ts';
import type { PodsMode } from '../../dns/zone/zone.ts';
import { decode, rcodeNumbers, type Rr } from './decode.ts';
import { FakeUpstream, type UpstreamData } from './fake-upstream.ts';
import { makeWorld, queryBytes, startServer, udpExchange, type Running } from './lib.ts';
import { disabledRows, rows, verifiedRows, zonalRows } from './rows.cases.ts';

interface Row { title: string; name: string; type: string; rcode: string; answers: string[]; additional: string[] }

const data = JSON.parse(readFileSync(new URL('./data/names.json', import.meta.url), 'utf8')) as { fixtures: KubeObject[]; upstream: UpstreamData };
const types: Record<string, number> = { A: 1, NS: 2, CNAME: 5, SOA: 6, PTR: 12, TXT: 16, AAAA: 28, SRV: 33, HTTPS: 65, ANY: 255 };

function parseRows(text: string): Row[] {
  const result: Row[] = [];
  let title = '';
  for (const line of text.trim().split('\n')) {
    const question = /^\? (\S+) (\S+) = (\S+)$/.exec(line);
    const last = result.at(-1);
    if (line.startsWith('#')) title = line.slice(2);
    else if (question !== null) result.push({ title, name: question[1] ?? '', type: question[2] ?? '', rcode: question[3] ?? '', answers: [], additional: [] });
    else if (line.startsWith('+ ')) last?.additional.push(line.slice(2));
    else last?.answers.push(line);
  }
  return result;
}

function lineOf(rr: Rr): string {
  const value = typeof rr.data === 'object' ? `${rr.data.priority} ${rr.data.weight} ${rr.data.port} ${rr.data.target}` : rr.data;
  return `${rr.name} ${rr.ttl} ${rr.type} ${value}`;
}

const upstream = new FakeUpstream(data.upstream);
const servers = new Map<string, Running>();
beforeAll(async () => {
  await upstream.start();
  for (const [id, podsMode, isZonal] of [['insecure', 'insecure', false], ['verified', 'verified', false], ['disabled', 'disabled', false], ['zonal', 'insecure', true]] as const) {
    servers.set(id, await startServer(makeWorld(data.fixtures), { podsMode: podsMode as PodsMode, isZonal, upstreams: [`127.0.0.1:${upstream.port}`] }));
  }
});
afterAll(async () => {
  for (const { server } of servers.values()) await server.stop(0);
  await upstream.stop();
});

async function check(id: string, row: Row): Promise<void> {
  const port = servers.get(id)?.port ?? 0;
  const type = types[row.type] ?? Number(row.type.slice(4));
  for (const udpSize of [undefined, 1_232]) {
    const message = decode(await udpExchange(port, queryBytes(row.name, type, udpSize === undefined ? {} : { udpSize })) as Buffer);
    expect(message.rcode).toBe(rcodeNumbers[row.rcode]);
    const ordered = row.answers.some((line) => line.includes(' CNAME '));
    const answers = message.answers.map(lineOf);
    expect(ordered ? answers : answers.sort()).toEqual(ordered ? row.answers : row.answers.sort());
    expect(message.additional.map(lineOf).sort()).toEqual(row.additional.sort());
    expect([message.z, message.ad, message.tc, message.ra, message.rd]).toEqual([false, false, false, true, true]);
    const isNegative = row.rcode === 'NXDOMAIN' || (row.rcode === 'NOERROR' && !message.answers.some((rr) => rr.type === row.type || row.type === 'ANY'));
    const isOurs = row.name.endsWith('cluster.local') || message.aa;
    if (isOurs) {
      if (row.rcode !== 'SERVFAIL') expect(message.aa).toBe(true);
      expect(message.authority.map((rr) => rr.type)).toEqual(isNegative ? ['SOA'] : []);
      for (const rr of message.authority) expect(row.name.endsWith(rr.name.slice(0, -1))).toBe(true);
    }
  }
}

describe('rows', () => { test.each(parseRows(rows))('$title: $name $type is $rcode', (row) => check('insecure', row)); });
describe('pods verified', () => { test.each(parseRows(verifiedRows))('$name $type is $rcode', (row) => check('verified', row)); });
describe('pods disabled', () => { test.each(parseRows(disabledRows))('$name $type is $rcode', (row) => check('disabled', row)); });
describe('zonal names', () => { test.each(parseRows(zonalRows))('$name $type is $rcode', (row) => check('zonal', row)); });
