// Streams and the edges of datagrams: TCP pipelining, order, half-close and limits, TLS, HTTPS over HTTP/2 and 1.1, zone
// transfer, cookies, reply limits, truncation, EDNS.

import { createSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { connect as connectHttp2 } from 'node:http2';
import { request as httpsRequest } from 'node:https';
import { connect } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { Registry } from 'prom-client';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { systemClock } from '../../api/clock.ts';
import type { KubeObject } from '../../api/types.ts';
import { Authority, createAuthority } from '../../control/certificates.ts';
import { AddressList, RateLimiter } from '../../dns/engine/access.ts';
import { CookieJar, sipHash24 } from '../../dns/wire/cookies.ts';
import { decode } from './decode.ts';
import { FakeUpstream } from './fake-upstream.ts';
import { frame, makeWorld, queryBytes, startServer, tcpExchange, udpExchange, type Running } from './lib.ts';

const { fixtures } = JSON.parse(readFileSync(new URL('./data/names.json', import.meta.url), 'utf8')) as { fixtures: KubeObject[] };
const authority = new Authority(createAuthority('dns tests', systemClock.nowMs()));
const caPem = authority.certPem;
const { certPem, keyPem } = authority.issue({ commonName: 'localhost', usages: ['serverAuth'], names: ['localhost', '127.0.0.1'], nowMs: systemClock.nowMs() });
const name = 'web.shop.svc.cluster.local';
const upstream = new FakeUpstream({ records: [{ name: 'slow.test.', type: 'A', data: '192.0.2.1', delayMs: 150 }] });
let running: Running;

beforeAll(async () => {
  await upstream.start();
  running = await startServer(makeWorld(fixtures), {
    upstreams: [`127.0.0.1:${upstream.port}`], certificate: { certPem, keyPem }, listenTls: [{ address: '127.0.0.1', port: 0 }], listenHttps: [{ address: '127.0.0.1', port: 0 }],
    transferTo: ['127.0.0.1/32'], tcpLimits: { connectionsMax: 20, connectionsPerSourceMax: 10, firstByteTimeoutMs: 300, idleTimeoutMs: 600 },
  });
});
afterAll(async () => { await running.server.stop(100); await upstream.stop(); });

describe('TCP', () => {
  test('a thousand pipelined queries in one write: all answered', async () => {
    const queries = Array.from({ length: 1_000 }, (_, id) => frame(queryBytes(name, id % 2 === 0 ? 1 : 28, { id })));
    const { replies } = await tcpExchange(running.port, [Buffer.concat(queries)], { count: 1_000 });
    expect(new Set(replies.map((reply) => reply.readUInt16BE(0))).size).toBe(1_000);
  });

  test('replies leave as they become ready: a slow outside name does not hold up the next question', async () => {
    const pieces = [Buffer.concat([frame(queryBytes('slow.test', 1, { id: 1 })), frame(queryBytes(name, 1, { id: 2 }))])];
    const { replies } = await tcpExchange(running.port, pieces, { count: 2 });
    expect(replies.map((reply) => decode(reply).id)).toEqual([2, 1]);
  });

  test('client that closes its half right after a slow question still gets the answer', async () => {
    const { replies, isClosed } = await tcpExchange(running.port, [frame(queryBytes('slow2.slow.test', 1)), frame(queryBytes('slow.test', 1, { id: 9 }))], { halfClose: true });
    expect(replies.length).toBe(2);
    expect(isClosed).toBe(true);
  });

  test('one octet at a time is understood', async () => {
    const bytes = frame(queryBytes(name, 1));
    const { replies } = await tcpExchange(running.port, [...bytes].map((octet) => Buffer.from([octet])), { count: 1, gapMs: 1 });
    expect(decode(replies[0] as Buffer).answers.length).toBe(1);
  });

  test('a silent connection is closed before the first octet limit, an idle one later', async () => {
    const silent = await tcpExchange(running.port, [], { timeoutMs: 1_500 });
    expect(silent.isClosed).toBe(true);
    const started = performance.now();
    const idle = await tcpExchange(running.port, [frame(queryBytes(name, 1))], { timeoutMs: 3_000 });
    expect([idle.isClosed, idle.replies.length]).toEqual([true, 1]);
    expect(performance.now() - started).toBeGreaterThan(500);
  });

  test('one source may have ten connections: an eleventh closes the one that was idle longest and is served', async () => {
    const closed: number[] = [];
    const answers: number[] = [];
    const sockets = [];
    for (let index = 0; index < 14; index++) {
      const socket = connect(running.port, '127.0.0.1');
      socket.on('error', () => socket.destroy());
      socket.on('close', () => closed.push(index));
      sockets.push(socket);
      await new Promise<void>((resolve) => {
        socket.on('data', () => { answers.push(index); resolve(); });
        socket.write(frame(queryBytes(name, 1)));
      });
    }
    expect(answers.length).toBe(14);
    const deadline = performance.now() + 400;
    while (closed.length < 4 && performance.now() < deadline) await new Promise<void>((resolve) => { systemClock.after(5, resolve, true); });
    expect(closed.slice(0, 4)).toEqual([0, 1, 2, 3]);
    for (const socket of sockets) socket.destroy();
  });

  test('300 endpoints: datagram carries what fits and TC, TCP carries all', async () => {
    const small = decode(await udpExchange(running.port, queryBytes('big.hl.svc.cluster.local', 1)) as Buffer);
    expect([small.tc, small.answers.length]).toEqual([true, 29]);
    const medium = await udpExchange(running.port, queryBytes('big.hl.svc.cluster.local', 1, { udpSize: 65_535 })) as Buffer;
    expect(medium.length).toBeLessThanOrEqual(1_232);
    expect([decode(medium).tc, decode(medium).answers.length, decode(medium).opt?.size]).toEqual([true, 73, 1_232]);
    const { replies } = await tcpExchange(running.port, [frame(queryBytes('big.hl.svc.cluster.local', 1))], { count: 1 });
    const whole = decode(replies[0] as Buffer);
    expect([whole.tc, new Set(whole.answers.map((rr) => rr.data)).size]).toEqual([false, 300]);
  });

  test('addresses are rotated, each comes first now and then', async () => {
    const first = new Set<unknown>();
    for (let count = 0; count < 40; count++) first.add(decode(await udpExchange(running.port, queryBytes('set.hl.svc.cluster.local', 1)) as Buffer).answers[0]?.data);
    expect(first.size).toBe(2);
  });

  test('SRV that does not fit with its glue: glue goes, answers stay, TC is clear', async () => {
    const query = queryBytes('_http._tcp.big.hl.svc.cluster.local', 33);
    const { replies } = await tcpExchange(running.port, [frame(query)], { count: 1 });
    const whole = decode(replies[0] as Buffer);
    expect([whole.answers.length, whole.additional.length, whole.tc]).toEqual([300, 300, false]);
    const world = makeWorld([{ kind: 'Namespace', metadata: { name: 'n' } },
      { kind: 'Service', metadata: { name: 's', namespace: 'n' }, spec: { clusterIP: 'None', ports: [{ name: 'p', port: 1 }] } } as KubeObject,
      { kind: 'EndpointSlice', addressType: 'IPv4', metadata: { name: 's1', namespace: 'n', labels: { 'kubernetes.io/service-name': 's' } }, ports: [{ name: 'p', port: 1, protocol: 'TCP' }],
        endpoints: Array.from({ length: 8 }, (_, index) => ({ addresses: [`10.0.0.${index + 1}`], hostname: `h${index}` })) } as KubeObject]);
    const other = await startServer(world);
    const reply = decode(await udpExchange(other.port, queryBytes('_p._tcp.s.n.svc.cluster.local', 33)) as Buffer);
    await other.server.stop(0);
    expect([reply.answers.length, reply.tc]).toEqual([8, false]);
    expect(reply.additional.length).toBeLessThan(8);
  });
});

describe('TLS', () => {
  test('answers over DNS over TLS, with padding when asked', async () => {
    const port = running.server.tlsAddresses[0]?.port ?? 0;
    const socket = connectTls({ port, host: '127.0.0.1', ca: caPem, servername: 'localhost', ALPNProtocols: ['dot'] });
    const padded = queryBytes(name, 1, { edns: Buffer.from([0, 12, 0, 0]) });
    const reply = await new Promise<Buffer>((resolve, reject) => {
      socket.on('error', reject);
      socket.on('data', (chunk: Buffer) => resolve(chunk));
      socket.on('secureConnect', () => socket.write(frame(padded)));
    });
    socket.destroy();
    expect((reply.length - 2) % 468).toBe(0);
    expect(decode(reply.subarray(2)).answers[0]?.data).toBe('10.96.1.1');
  });

  test('a handshake that never ends is closed, also when the client has ended its side', async () => {
    const socket = connect({ port: running.server.tlsAddresses[0]?.port ?? 0, host: '127.0.0.1', allowHalfOpen: true });
    socket.end(Buffer.from([0x16, 3, 1, 2, 0, 1, 0]));
    socket.resume();
    await new Promise<void>((resolve) => { socket.on('error', () => {}); socket.on('close', () => resolve()); });
  }, 20_000);

  test('plain octets on the TLS port hurt nobody', async () => {
    const port = running.server.tlsAddresses[0]?.port ?? 0;
    expect((await tcpExchange(port, [frame(queryBytes(name, 1))], { timeoutMs: 1_000 })).replies.filter((reply) => reply.length >= 12 && reply.readUInt16BE(0) === 0x1234)).toEqual([]);
    expect(await udpExchange(running.port, queryBytes(name, 1))).toBeDefined();
  });
});

function h2(path: string, options: { method?: string; body?: Buffer; contentType?: string } = {}): Promise<{ status: number; headers: Record<string, unknown>; body: Buffer }> {
  return new Promise((resolve, reject) => {
    const session = connectHttp2(`https://localhost:${running.server.httpsAddresses[0]?.port ?? 0}`, { ca: caPem });
    session.on('error', reject);
    const stream = session.request({ ':path': path, ':method': options.method ?? 'GET', ...(options.contentType === undefined ? {} : { 'content-type': options.contentType }) });
    let head: Record<string, unknown> = {};
    const pieces: Buffer[] = [];
    stream.on('response', (headers) => { head = headers; });
    stream.on('data', (chunk: Buffer) => pieces.push(chunk));
    stream.on('error', () => resolve({ status: 0, headers: {}, body: Buffer.alloc(0) }));
    stream.on('end', () => { session.close(); resolve({ status: Number(head[':status']), headers: head, body: Buffer.concat(pieces) }); });
    stream.end(options.body);
  });
}

describe('HTTPS', () => {
  const query = queryBytes(name, 1, { id: 0 });
  test('GET and POST over HTTP/2', async () => {
    const get = await h2(`/dns-query?dns=${query.toString('base64url')}`);
    expect([get.status, get.headers['content-type'], get.headers['cache-control']]).toEqual([200, 'application/dns-message', 'max-age=5']);
    expect(decode(get.body).answers[0]?.data).toBe('10.96.1.1');
    const post = await h2('/dns-query', { method: 'POST', contentType: 'application/dns-message', body: query });
    expect(decode(post.body).answers[0]?.data).toBe('10.96.1.1');
    const slow = await h2('/dns-query', { method: 'POST', contentType: 'application/dns-message', body: queryBytes('slow.test', 1, { id: 0 }) });
    expect(decode(slow.body).answers[0]?.data).toBe('192.0.2.1');
  });

  test('GET over HTTP/1.1', async () => {
    const body = await new Promise<Buffer>((resolve, reject) => {
      const request = httpsRequest({ host: 'localhost', port: running.server.httpsAddresses[0]?.port, path: `/dns-query?dns=${query.toString('base64url')}`, ca: caPem }, (response) => {
        const pieces: Buffer[] = [];
        response.on('data', (chunk: Buffer) => pieces.push(chunk));
        response.on('end', () => resolve(Buffer.concat(pieces)));
      });
      request.on('error', reject);
      request.end();
    });
    expect(decode(body).answers[0]?.data).toBe('10.96.1.1');
  });

  test.each([
    ['unknown path', '/other', {}, 404], ['no query', '/dns-query', {}, 400], ['not base64url', '/dns-query?dns=!!', {}, 400], ['too short', '/dns-query?dns=AAAA', {}, 400],
    ['query too long', `/dns-query?dns=${'A'.repeat(6_000)}`, {}, 414], ['method', '/dns-query', { method: 'PUT' }, 405], ['content type', '/dns-query', { method: 'POST', contentType: 'text/plain', body: query }, 415],
    ['body too long', '/dns-query', { method: 'POST', contentType: 'application/dns-message', body: Buffer.alloc(5_000) }, 413],
    ['a reply instead of a query', `/dns-query?dns=${Buffer.from(query).fill(0x80, 2, 3).toString('base64url')}`, {}, 400],
  ] as const)('%s: %s → refused', async (_, path, options, status) => {
    expect((await h2(path, options)).status).toBe(status);
  });
});

describe('clients that vanish', () => {
  test('HTTPS, TLS and TCP connections cut at any moment: no thread fails, others are served', async () => {
    for (let round = 0; round < 30; round++) {
      const session = connectHttp2(`https://localhost:${running.server.httpsAddresses[0]?.port ?? 0}`, { ca: caPem });
      session.on('error', () => {});
      const stream = session.request({ ':path': '/dns-query', ':method': 'POST', 'content-type': 'application/dns-message' });
      stream.on('error', () => {});
      stream.write(queryBytes('slow.test', 1, { id: 0 }));
      if (round % 3 !== 0) stream.end();
      const cut = (): void => { if (round % 2 === 0) session.destroy(); else stream.close(8); };
      await new Promise<void>((resolve) => { session.once('connect', () => { if (round % 5 === 0) cut(); systemClock.after(round, () => { cut(); session.destroy(); resolve(); }, true); }); });
      const plain = connect(running.port, '127.0.0.1');
      plain.on('error', () => {});
      plain.write(frame(queryBytes('slow.test', 1, { id: round })).subarray(0, 20 + round));
      plain.on('connect', () => plain.resetAndDestroy());
      const secure = connectTls({ port: running.server.tlsAddresses[0]?.port ?? 0, host: '127.0.0.1', ca: caPem, servername: 'localhost' });
      secure.on('error', () => {});
      systemClock.after(round, () => secure.destroy(), true);
    }
    expect(decode((await h2(`/dns-query?dns=${queryBytes(name, 1, { id: 0 }).toString('base64url')}`)).body).answers.length).toBe(1);
    const registry = new Registry();
    running.server.registerMetrics(registry);
    const text = await registry.metrics();
    expect(text).toContain('netloom_dns_thread_restarts_total 0');
    expect(text).toContain('netloom_dns_panics_total 0');
  });
});

describe('transfer', () => {
  test('an allowed address gets the zone between two SOAs: every Service, no pods', async () => {
    const { replies } = await tcpExchange(running.port, [frame(queryBytes('cluster.local', 252))], { timeoutMs: 500 });
    const records = replies.flatMap((reply) => decode(reply).answers);
    expect([records[0]?.type, records.at(-1)?.type]).toEqual(['SOA', 'SOA']);
    const lines = new Set(records.map((rr) => `${rr.name} ${rr.type} ${typeof rr.data === 'object' ? `${rr.data.port} ${rr.data.target}` : rr.data}`));
    for (const line of [
      'web.shop.svc.cluster.local. A 10.96.1.1', '_http._tcp.web.shop.svc.cluster.local. SRV 80 web.shop.svc.cluster.local.', 'set-0.set.hl.svc.cluster.local. A 10.244.2.10',
      'set.hl.svc.cluster.local. A 10.244.2.11', 'site.ext.svc.cluster.local. CNAME ext.upstream.test.', 'dns-version.cluster.local. TXT 1.1.0',
    ]) expect([...lines]).toContain(line);
    expect([...lines].some((line) => line.includes('.pod.cluster.local.') || line.includes('_zone'))).toBe(false);
    expect(records.filter((rr) => rr.type === 'SOA').length).toBe(2);
  });

  test('over UDP it is refused; IXFR with the current serial gets the SOA alone', async () => {
    expect(decode(await udpExchange(running.port, queryBytes('cluster.local', 252)) as Buffer).rcode).toBe(5);
    const soa = decode(await udpExchange(running.port, queryBytes('cluster.local', 6)) as Buffer).answers[0];
    const serial = Number(String(soa?.data).split(' ')[2]);
    const plain = queryBytes('cluster.local', 251);
    plain.writeUInt16BE(1, 8);
    const rr = Buffer.alloc(2 + 10 + 2 + 20);
    rr.set([0xc0, 12, 0, 6, 0, 1]);
    rr.writeUInt16BE(22, 10);
    rr.writeUInt32BE(serial, 14);
    const { replies } = await tcpExchange(running.port, [frame(Buffer.concat([plain, rr]))], { count: 1 });
    expect(decode(replies[0] as Buffer).answers.map((item) => item.type)).toEqual(['SOA']);
  });
});

describe('EDNS and cookies', () => {
  test('SipHash-2-4 gives the published vectors', () => {
    const key = Uint32Array.of(0x03020100, 0x07060504, 0x0b0a0908, 0x0f0e0d0c);
    const input = Uint8Array.from({ length: 15 }, (_, index) => index);
    const hex = ([low, high]: readonly [number, number]): string => high.toString(16).padStart(8, '0') + low.toString(16).padStart(8, '0');
    expect(hex(sipHash24(key, input, 15))).toBe('a129ca6149be45e5');
    expect(hex(sipHash24(key, input, 0))).toBe('726fdb47dd0e0e31');
    expect(hex(sipHash24(key, input, 8))).toBe('93f5f5799a932462');
  });

  test('server cookie as RFC 9018 appendix A.1 makes it', () => {
    const jar = new CookieJar(Buffer.from('e5e973e5a6b2a43f48e7dc849e37bfcf', 'hex'));
    const client = Buffer.from('2464c4abcf10c957', 'hex');
    expect(jar.make(client, 0, '198.51.100.100', 1_559_731_985).toString('hex')).toBe('2464c4abcf10c957010000005cf79f111f8130c3eee29480');
  });

  test('a cookie is answered with ours, which proves the source the next time; the client cookie is not mirrored as a server cookie', async () => {
    const option = (data: Buffer): Buffer => Buffer.concat([Buffer.from([0, 10, 0, data.length]), data]);
    const client = Buffer.from('0011223344556677', 'hex');
    const reply = decode(await udpExchange(running.port, queryBytes(name, 1, { edns: option(client) })) as Buffer);
    const cookie = reply.opt?.options.find((item) => item.code === 10)?.data as Buffer;
    expect([cookie.length, cookie.subarray(0, 8).equals(client), cookie[8]]).toEqual([24, true, 1]);
    const again = decode(await udpExchange(running.port, queryBytes(name, 1, { edns: option(cookie) })) as Buffer);
    expect(again.answers.length).toBe(1);
    for (const length of [1, 7, 9, 15, 41]) expect(decode(await udpExchange(running.port, queryBytes(name, 1, { edns: option(Buffer.alloc(length)) })) as Buffer).rcode).toBe(1);
  });

  test('a cookie of another address, another secret or another day is not valid', () => {
    const jar = new CookieJar(Buffer.alloc(16, 1));
    const cookie = Buffer.from(jar.make(Buffer.alloc(8, 7), 0, '192.0.2.1', 1_000_000));
    expect(jar.isValid(cookie, 0, 24, '192.0.2.1', 1_000_100)).toBe(true);
    expect(jar.isValid(cookie, 0, 24, '192.0.2.2', 1_000_100)).toBe(false);
    expect(jar.isValid(cookie, 0, 24, '192.0.2.1', 1_090_000)).toBe(false);
    expect(new CookieJar(Buffer.alloc(16, 2)).isValid(cookie, 0, 24, '192.0.2.1', 1_000_100)).toBe(false);
  });

  test('DO is echoed, unknown options are not, keepalive only over TCP', async () => {
    const edns = Buffer.from([0xfd, 0xe9, 0, 2, 1, 2, 0, 11, 0, 0]);
    const reply = decode(await udpExchange(running.port, queryBytes(name, 1, { edns, isDnssecOk: true })) as Buffer);
    expect([reply.opt?.isDo, reply.opt?.options.length]).toEqual([true, 0]);
    const { replies } = await tcpExchange(running.port, [frame(queryBytes(name, 1, { edns }))], { count: 1 });
    expect(decode(replies[0] as Buffer).opt?.options.map((option) => option.code)).toEqual([11]);
  });
});

describe('limits on strangers', () => {
  test('over the rate every second reply is an empty one with TC, the rest is dropped; it recovers', () => {
    const limiter = new RateLimiter(10);
    const verdicts = Array.from({ length: 110 }, () => limiter.check('192.0.2.1', 1_000));
    expect(verdicts.filter((verdict) => verdict === 'send').length).toBe(10);
    expect(verdicts.filter((verdict) => verdict === 'slip').length).toBe(50);
    expect(limiter.check('192.0.2.77', 1_001)).not.toBe('send');
    expect(limiter.check('198.51.100.1', 1_001)).toBe('send');
    expect(limiter.check('192.0.2.1', 3_000)).toBe('send');
  });

  test('address list understands both families and mapped addresses', () => {
    const list = new AddressList(['10.0.0.0/8', 'fd00::/8', '127.0.0.0/8']);
    expect(['10.1.2.3', '::ffff:10.1.2.3', 'fd00::1', '127.0.0.1'].map((address) => list.has(address))).toEqual([true, true, true, true]);
    expect(['192.0.2.1', 'fe80::1%eth0', '2001:db8::1', 'x'].map((address) => list.has(address))).toEqual([false, false, false, false]);
  });

  test('a server that trusts nobody limits by TC, refuses recursion, and lets a cookie through', async () => {
    const strict = await startServer(makeWorld(fixtures), { allowFrom: [], repliesPerSecond: 5, upstreams: [`127.0.0.1:${upstream.port}`] });
    const socket = createSocket('udp4');
    const replies: Buffer[] = [];
    socket.on('message', (message) => replies.push(message));
    await new Promise<void>((resolve) => { socket.bind(0, '127.0.0.1', resolve); });
    for (let id = 0; id < 60; id++) socket.send(queryBytes(name, 1, { id }), strict.port, '127.0.0.1');
    await new Promise<void>((resolve) => { systemClock.after(300, resolve, true); });
    socket.close();
    expect(replies.filter((reply) => !decode(reply).tc).length).toBeLessThan(10);
    expect(replies.filter((reply) => decode(reply).tc && decode(reply).answers.length === 0).length).toBeGreaterThan(15);
    const { replies: streamed } = await tcpExchange(strict.port, [frame(queryBytes(name, 1)), frame(queryBytes('slow.test', 1, { id: 5 }))], { count: 2 });
    expect(streamed.map((reply) => decode(reply).rcode)).toEqual([0, 5]);
    const first = (await tcpExchange(strict.port, [frame(queryBytes(name, 1, { edns: Buffer.concat([Buffer.from([0, 10, 0, 8]), Buffer.alloc(8, 3)]) }))], { count: 1 })).replies[0] as Buffer;
    const cookie = decode(first).opt?.options[0]?.data as Buffer;
    expect(decode(await udpExchange(strict.port, queryBytes(name, 1, { edns: Buffer.concat([Buffer.from([0, 10, 0, 24]), cookie]) })) as Buffer).answers.length).toBe(1);
    await strict.server.stop(0);
  });
});

describe('large transfer', () => {
  test('2,000 Services in several messages, while queries are answered in between; a client that stops reading is dropped', async () => {
    const objects: KubeObject[] = [{ kind: 'Namespace', metadata: { name: 'n' } }];
    for (let index = 0; index < 2_000; index++) objects.push({ kind: 'Service', metadata: { name: `s${index}`, namespace: 'n' }, spec: { clusterIP: `10.96.${index >> 8}.${index & 255}`, ports: [{ name: 'p', port: 1 }] } } as KubeObject);
    const large = await startServer(makeWorld(objects), { transferTo: ['127.0.0.1'], tcpLimits: { idleTimeoutMs: 500 } });
    const whole = tcpExchange(large.port, [frame(queryBytes('cluster.local', 252))], { timeoutMs: 1_500 });
    expect(await udpExchange(large.port, queryBytes('s7.n.svc.cluster.local', 1), 500)).toBeDefined();
    const { replies } = await whole;
    const records = replies.flatMap((reply) => decode(reply).answers);
    expect(replies.length).toBeGreaterThan(5);
    expect(records.filter((rr) => rr.type === 'A').length).toBe(2_000);
    expect([records[0]?.type, records.at(-1)?.type]).toEqual(['SOA', 'SOA']);
    const stalled = connect(large.port, '127.0.0.1');
    stalled.pause();
    stalled.on('error', () => stalled.destroy());
    for (let count = 0; count < 40; count++) stalled.write(frame(queryBytes('cluster.local', 252, { id: count })));
    // Its transfers hold all places until they are given up; then the next client is served.
    const started = performance.now();
    for (;;) {
      const { replies: again } = await tcpExchange(large.port, [frame(queryBytes('cluster.local', 252))], { timeoutMs: 400 });
      if (again.length > 5 && decode(again.at(-1) as Buffer).answers.at(-1)?.type === 'SOA') break;
      expect(performance.now() - started).toBeLessThan(10_000);
    }
    stalled.destroy();
    await large.server.stop(0);
  });
});
