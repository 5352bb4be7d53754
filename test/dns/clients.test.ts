// Real clients and resolver patterns: dig, kdig and drill where installed; musl's and glibc's way of asking (A and AAAA
// from one socket at once, search list, truncated replies taken as they are); autopath against a plain search walk.

import { execFileSync, spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { systemClock } from '../../api/clock.ts';
import type { KubeObject } from '../../api/types.ts';
import { decode, type Message } from './decode.ts';
import { FakeUpstream } from './fake-upstream.ts';
import { makeWorld, queryBytes, startServer, udpExchange, type Running } from './lib.ts';

const { fixtures } = JSON.parse(readFileSync(new URL('./data/names.json', import.meta.url), 'utf8')) as { fixtures: KubeObject[] };
const upstream = new FakeUpstream({ records: [
  { name: 'api.example.com.', type: 'A', data: '192.0.2.80' }, { name: 'six.example.com.', type: 'AAAA', data: '2001:db8::6' }, { name: 'txtonly.example.com.', type: 'TXT', data: 'x' },
] });
const hasTool = (name: string): boolean => spawnSync('which', [name]).status === 0;
const me: KubeObject = { kind: 'Pod', metadata: { name: 'me', namespace: 'shop' }, status: { phase: 'Running', podIP: '127.0.0.1' } } as KubeObject;
let plain: Running;
let autopath: Running;

beforeAll(async () => {
  await upstream.start();
  const options = { podsMode: 'verified', upstreams: [`127.0.0.1:${upstream.port}`] } as const;
  plain = await startServer(makeWorld([...fixtures, me]), options);
  autopath = await startServer(makeWorld([...fixtures, me]), { ...options, isAutopathOn: true });
});
afterAll(async () => { await plain.server.stop(0); await autopath.server.stop(0); await upstream.stop(); });

/** Runs a client without blocking this thread's event loop from which the server's feed is driven. */
function run(command: string, args: readonly string[]): string { return execFileSync(command, args, { encoding: 'utf8', timeout: 8_000 }); }

describe.skipIf(!hasTool('dig'))('dig', () => {
  const dig = (...args: string[]): string => run('dig', ['@127.0.0.1', '-p', String(plain.port), '+time=2', '+tries=1', ...args]);
  test('short answers of every kind', () => {
    expect(dig('+short', 'web.shop.svc.cluster.local').trim()).toBe('10.96.1.1');
    expect(dig('+short', 'v6.dual.svc.cluster.local', 'AAAA').trim()).toBe('fd00:10:96::202');
    expect(dig('+short', '-x', '10.96.1.1').trim()).toBe('web.shop.svc.cluster.local.');
    expect(dig('+short', '_http._tcp.web.shop.svc.cluster.local', 'SRV').trim()).toBe('0 100 80 web.shop.svc.cluster.local.');
    expect(dig('+short', 'inner.ext.svc.cluster.local').trim().split('\n')).toEqual(['web.shop.svc.cluster.local.', '10.96.1.1']);
    expect(dig('+tcp', '+short', 'big.hl.svc.cluster.local').trim().split('\n').length).toBe(300);
  });
  test('falls back to TCP by itself when the datagram is truncated', () => {
    expect(dig('+short', 'big.hl.svc.cluster.local').trim().split('\n').length).toBe(300);
  });
  test('sees no warning, a good cookie, and the reason of a negative answer', () => {
    const text = dig('nope.shop.svc.cluster.local');
    expect(text).toContain('status: NXDOMAIN');
    expect(text).toContain('EDE: 0 (Other): (no Service nope in Namespace shop)');
    expect(text).toContain('(good)');
    expect(text).not.toContain('recursion requested but not available');
    expect(text).not.toMatch(/WARNING: (?!\.local)/);
  });
});

describe.skipIf(!hasTool('kdig'))('kdig', () => {
  test('understands answers, TCP kept open, and EDNS', () => {
    const text = run('kdig', ['@127.0.0.1', '-p', String(plain.port), '+tcp', '+keepopen', '+edns', 'web.shop.svc.cluster.local', 'A', '_peer._tcp.set.hl.svc.cluster.local', 'SRV']);
    expect(text).toContain('10.96.1.1');
    expect(text).toContain('7000 set-0.set.hl.svc.cluster.local.');
    expect(text).not.toContain('WARNING');
  });
});

describe.skipIf(!hasTool('drill'))('drill', () => {
  test('understands answers and NXDOMAIN', () => {
    expect(run('drill', ['-p', String(plain.port), 'set.hl.svc.cluster.local', '@127.0.0.1', 'A'])).toContain('10.244.2.11');
    expect(run('drill', ['-p', String(plain.port), 'gone.hl.svc.cluster.local', '@127.0.0.1', 'A'])).toContain('rcode: NXDOMAIN');
  });
});

/** A and AAAA leave one socket back to back, as musl and glibc send them; both replies, matched by ID. */
function askBoth(port: number, name: string): Promise<{ a: Message; aaaa: Message; lateMs: number }> {
  return new Promise((resolve, reject) => {
    const socket = createSocket('udp4');
    const replies = new Map<number, Message>();
    const started = performance.now();
    const timer = systemClock.after(3_000, () => { socket.close(); reject(new Error(`only ${replies.size} of 2 replies for ${name}`)); }, true);
    socket.on('message', (bytes) => {
      replies.set(bytes.readUInt16BE(0), decode(bytes));
      const a = replies.get(1);
      const aaaa = replies.get(2);
      if (a === undefined || aaaa === undefined) return;
      timer.cancel();
      socket.close();
      resolve({ a, aaaa, lateMs: performance.now() - started });
    });
    socket.send(queryBytes(name, 1, { id: 1 }), port, '127.0.0.1');
    socket.send(queryBytes(name, 28, { id: 2 }), port, '127.0.0.1');
  });
}

/** Walks the search list like a stub resolver with ndots:5: goes on only when both say NXDOMAIN. */
async function lookUp(port: number, name: string): Promise<{ addresses: unknown[]; queryCount: number }> {
  let queryCount = 0;
  for (const suffix of ['.shop.svc.cluster.local', '.svc.cluster.local', '.cluster.local', '']) {
    const { a, aaaa } = await askBoth(port, name + suffix);
    queryCount += 2;
    if (a.rcode === 3 && aaaa.rcode === 3) continue;
    expect([a.rcode, aaaa.rcode]).toEqual([0, 0]);
    return { addresses: [...a.answers, ...aaaa.answers].filter((rr) => rr.type === 'A' || rr.type === 'AAAA').map((rr) => rr.data), queryCount };
  }
  return { addresses: [], queryCount };
}

describe('stub resolver patterns', () => {
  test.each([
    ['web', ['10.96.1.1'], 2], ['set.hl', ['10.244.2.10', '10.244.2.11'], 4], ['ds.dual', ['10.96.2.1', 'fd00:10:96::201'], 4], ['web.shop.svc', ['10.96.1.1'], 6],
    ['api.example.com', ['192.0.2.80'], 8], ['six.example.com', ['2001:db8::6'], 8],
  ] as const)('%s through the search list', async (name, addresses, queryCount) => {
    const result = await lookUp(plain.port, name);
    expect(result.addresses.sort()).toEqual([...addresses]);
    expect(result.queryCount).toBe(queryCount);
  });

  test('A and AAAA agree on existence for every shape of name', async () => {
    for (const name of ['web.shop', 'set.hl', 'v6.dual', 'nope.shop', 'allunready.hl', 'a.b.c', '10-96-1-1.shop.pod', '_http._tcp.web.shop']) {
      const { a, aaaa } = await askBoth(plain.port, `${name}.svc.cluster.local`);
      expect([name, a.rcode]).toEqual([name, aaaa.rcode]);
    }
  });

  test('a client that never uses TCP gets addresses from a truncated reply', async () => {
    const message = decode(await udpExchange(plain.port, queryBytes('big.hl.svc.cluster.local', 1)) as Buffer);
    expect(message.tc).toBe(true);
    expect(message.answers.length).toBeGreaterThan(20);
  });
});

describe('autopath', () => {
  test.each([['api.example.com', ['192.0.2.80']], ['six.example.com', ['2001:db8::6']], ['set.hl', ['10.244.2.10', '10.244.2.11']], ['web.shop.svc', ['10.96.1.1']]] as const)('%s takes one round instead of several', async (name, addresses) => {
    const result = await lookUp(autopath.port, name);
    expect(result.addresses.sort()).toEqual([...addresses]);
    expect(result.queryCount).toBe(2);
  });

  test('the answer is an alias from the name that was asked', async () => {
    const message = decode(await udpExchange(autopath.port, queryBytes('api.example.com.shop.svc.cluster.local', 1)) as Buffer);
    expect(message.answers.map((rr) => `${rr.name} ${rr.type} ${String(rr.data)}`)).toEqual(['api.example.com.shop.svc.cluster.local. CNAME api.example.com.', 'api.example.com. A 192.0.2.80']);
  });

  test('a name that exists with other types only: NODATA for both families, never NXDOMAIN for one', async () => {
    const { a, aaaa } = await askBoth(autopath.port, 'txtonly.example.com.shop.svc.cluster.local');
    expect([a.rcode, aaaa.rcode, a.answers.some((rr) => rr.type === 'A'), aaaa.answers.some((rr) => rr.type === 'AAAA')]).toEqual([0, 0, false, false]);
  });

  test('a name that exists nowhere: NXDOMAIN for both', async () => {
    const { a, aaaa } = await askBoth(autopath.port, 'nowhere.example.com.shop.svc.cluster.local');
    expect([a.rcode, aaaa.rcode]).toEqual([3, 3]);
  });

  test('another Namespace than the client Pod lives in is not walked', async () => {
    expect(decode(await udpExchange(autopath.port, queryBytes('api.example.com.hl.svc.cluster.local', 1)) as Buffer).rcode).toBe(3);
  });
});
