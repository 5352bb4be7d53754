// Names outside the cluster: what goes to upstreams, what comes back, and what happens when they are slow, wrong, dead,
// forged or lead back here. A scripted resolver on loopback plays each of them.

import { createSocket } from 'node:dgram';
import { afterEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../api/clock.ts';
import type { DnsServerOptions } from '../../dns/config.ts';
import { decode, type Message } from './decode.ts';
import { FakeUpstream, wireName, type UpstreamData } from './fake-upstream.ts';
import { frame, makeWorld, queryBytes, startServer, tcpExchange, udpExchange, type Running } from './lib.ts';

const open: { stop(): Promise<unknown> }[] = [];
afterEach(async () => { for (const item of open.splice(0).reverse()) await item.stop(); });

async function upstreamWith(data: Partial<UpstreamData> = {}, port = 0): Promise<FakeUpstream> {
  const upstream = await new FakeUpstream({ records: [{ name: 'a.test.', type: 'A', data: '192.0.2.1' }], ...data }).start(port);
  open.push(upstream);
  return upstream;
}

async function serve(upstreams: readonly FakeUpstream[], options: Partial<DnsServerOptions> = {}): Promise<Running> {
  const running = await startServer(makeWorld([{ kind: 'Namespace', metadata: { name: 'shop' } }]), { upstreams: upstreams.map((item) => `127.0.0.1:${item.port}`), ...options });
  open.push({ stop: () => running.server.stop(0) });
  return running;
}

async function ask(running: Running, name: string, type = 1, options: Parameters<typeof queryBytes>[2] = {}): Promise<Message> {
  const reply = await udpExchange(running.port, queryBytes(name, type, options), 6_000);
  if (reply === undefined) throw new Error(`no reply for ${name}`);
  return decode(reply);
}

const asked = (upstream: FakeUpstream, name: string): number => upstream.asked.filter((item) => item === name).length;
const edeOf = (message: Message): number | undefined => message.opt?.options.find((option) => option.code === 15)?.data.readUInt16BE(0);

async function until(condition: () => boolean | Promise<boolean>, limitMs = 5_000): Promise<void> {
  const deadline = performance.now() + limitMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error('condition not met in time');
    await new Promise<void>((resolve) => { systemClock.after(10, resolve, true); });
  }
}

describe('passing on', () => {
  test('the answer comes back without AA, with RA, under the letter case and ID of the question', async () => {
    const upstream = await upstreamWith();
    const running = await serve([upstream]);
    const query = queryBytes('A.tEsT', 1, { id: 77 });
    const reply = await udpExchange(running.port, query);
    expect(reply?.subarray(12, query.length).equals(query.subarray(12))).toBe(true);
    const message = decode(reply as Buffer);
    expect([message.id, message.aa, message.ra, message.answers[0]?.data]).toEqual([77, false, true, '192.0.2.1']);
  });

  test('upstream sees other IDs and mixed letter case, from several ports', async () => {
    const records = Array.from({ length: 60 }, (_, index) => ({ name: `name-with-letters-${index}.test.`, type: 'A', data: '192.0.2.1' }));
    const upstream = await upstreamWith({ records });
    const running = await serve([upstream]);
    for (const record of records) await ask(running, record.name);
    expect(upstream.rawNames.filter((name) => name !== name.toLowerCase()).length).toBeGreaterThan(50);
    expect(upstream.sourcePorts.size).toBeGreaterThan(5);
  });

  test('no EDNS from the client: no OPT in the reply, though the upstream got one', async () => {
    const running = await serve([await upstreamWith()]);
    expect((await ask(running, 'a.test')).opt).toBeUndefined();
    expect((await ask(running, 'a.test', 1, { udpSize: 1232 })).opt?.size).toBe(1232);
  });

  test('no upstreams: REFUSED, and says why', async () => {
    const running = await serve([]);
    const message = await ask(running, 'a.test', 1, { udpSize: 1232 });
    expect([message.rcode, edeOf(message), message.ra]).toEqual([5, 18, false]);
  });

  test('truncated upstream answer is fetched over TCP, cached whole, cut for each client', async () => {
    const records = Array.from({ length: 60 }, (_, index) => ({ name: 'big.test.', type: 'A', data: `192.0.2.${index}` }));
    const upstream = await upstreamWith({ records, truncateUdp: ['big.test.'] });
    const running = await serve([upstream]);
    const small = await ask(running, 'big.test');
    expect([small.tc, small.answers.length > 0]).toEqual([true, true]);
    const large = decode((await tcpExchange(running.port, [frame(queryBytes('big.test', 1))], { count: 1 })).replies[0] as Buffer);
    expect([large.tc, large.answers.length]).toEqual([false, 60]);
    expect(upstream.tcpCount).toBe(1);
  });

  test('localhost stays here, and hosts entries answer both ways', async () => {
    const upstream = await upstreamWith();
    const running = await serve([upstream], { hosts: ['192.0.2.7 printer.lan printer # by the door', '2001:db8::7 printer.lan'] });
    expect((await ask(running, 'localhost')).answers[0]?.data).toBe('127.0.0.1');
    expect((await ask(running, 'printer.lan')).answers[0]?.data).toBe('192.0.2.7');
    expect((await ask(running, 'printer.lan', 28)).answers[0]?.data).toBe('2001:db8::7');
    expect((await ask(running, '7.2.0.192.in-addr.arpa', 12)).answers.map((rr) => rr.data)).toEqual(['printer.lan.', 'printer.']);
    const none = await ask(running, 'printer.lan', 16);
    expect([none.rcode, none.answers.length]).toEqual([0, 0]);
    expect(upstream.asked.filter((name) => !name.includes('netloom-loop'))).toEqual([]);
  });

  test('stub domain: its names go to its own upstream, the longest match wins', async () => {
    const general = await upstreamWith();
    const corp = await upstreamWith({ records: [{ name: 'x.corp.test.', type: 'A', data: '10.1.1.1' }] });
    const running = await serve([general], { stubDomains: { 'corp.test': [`127.0.0.1:${corp.port}`] } });
    expect((await ask(running, 'x.corp.test')).answers[0]?.data).toBe('10.1.1.1');
    expect(asked(general, 'x.corp.test. 1')).toBe(0);
  });
});

describe('cache', () => {
  test('second question costs no upstream query and its TTL has counted down', async () => {
    const upstream = await upstreamWith({ records: [{ name: 'a.test.', type: 'A', data: '192.0.2.1', ttl: 2 }] });
    const running = await serve([upstream], { isStaleServed: false });
    expect((await ask(running, 'a.test')).answers[0]?.ttl).toBe(2);
    await until(async () => (await ask(running, 'a.test')).answers[0]?.ttl === 1);
    expect(asked(upstream, 'a.test. 1')).toBe(1);
    await until(async () => { await ask(running, 'a.test'); return asked(upstream, 'a.test. 1') === 2; });
  });

  test('no such name is kept for as long as the SOA allows', async () => {
    const upstream = await upstreamWith();
    const running = await serve([upstream]);
    for (let count = 0; count < 3; count++) expect((await ask(running, 'nx.test')).rcode).toBe(3);
    expect(asked(upstream, 'nx.test. 1')).toBe(1);
  });

  test('a hundred clients that ask the same at once cost one upstream query', async () => {
    const upstream = await upstreamWith({ records: [{ name: 'slow.test.', type: 'A', data: '192.0.2.1', delayMs: 30 }] });
    const running = await serve([upstream]);
    const replies = await Promise.all(Array.from({ length: 100 }, (_, id) => ask(running, 'slow.test', 1, { id })));
    expect(replies.every((message, id) => message.id === id && message.answers.length === 1)).toBe(true);
    expect(asked(upstream, 'slow.test. 1')).toBe(1);
  });

  test('expired answer is served with TTL 30 and "stale answer" when every upstream is dead', async () => {
    const upstream = await upstreamWith({ records: [{ name: 'a.test.', type: 'A', data: '192.0.2.1', ttl: 1 }] });
    const running = await serve([upstream]);
    await ask(running, 'a.test');
    await upstream.stop();
    let stale: Message | undefined;
    await until(async () => { stale = await ask(running, 'a.test', 1, { udpSize: 1232 }); return edeOf(stale) === 3; });
    expect([stale?.rcode, stale?.answers[0]?.ttl, stale?.answers[0]?.data]).toEqual([0, 30, '192.0.2.1']);
  });
});

describe('trouble', () => {
  test('first datagram lost: asked again, answered within a second', async () => {
    const upstream = await upstreamWith({ dropFirst: { 'a.test.': 1 } });
    const running = await serve([upstream]);
    const started = performance.now();
    expect((await ask(running, 'a.test')).answers.length).toBe(1);
    expect(performance.now() - started).toBeLessThan(1_500);
  });

  test('slow upstream: a second one is asked and its answer taken; never more than two are asked', async () => {
    const slow = await upstreamWith({ records: [{ name: 'a.test.', type: 'A', data: '192.0.2.1', delayMs: 1_500 }] });
    const fast = await upstreamWith();
    const third = await upstreamWith();
    const running = await serve([slow, fast, third]);
    const started = performance.now();
    expect((await ask(running, 'a.test')).answers.length).toBe(1);
    expect(performance.now() - started).toBeLessThan(1_200);
    expect(asked(slow, 'a.test. 1') + asked(fast, 'a.test. 1') + asked(third, 'a.test. 1')).toBeLessThanOrEqual(2);
  });

  test('SERVFAIL from one upstream: the other is asked at once', async () => {
    const broken = await upstreamWith({ rcodes: { 'a.test.': 'SERVFAIL' } });
    const good = await upstreamWith();
    const running = await serve([broken, good]);
    for (const name of ['a.test', 'A.test']) expect((await ask(running, name)).answers[0]?.data).toBe('192.0.2.1');
  });

  test('all upstreams dead: SERVFAIL with a reason, cluster names not touched', async () => {
    const upstream = await upstreamWith();
    const running = await serve([upstream]);
    await upstream.stop();
    const message = await ask(running, 'a.test', 1, { udpSize: 1232 });
    expect([message.rcode, edeOf(message)]).toEqual([2, 22]);
    const started = performance.now();
    expect((await ask(running, 'shop.svc.cluster.local')).rcode).toBe(0);
    expect(performance.now() - started).toBeLessThan(100);
  });

  test('an upstream that comes back is found and used again', async () => {
    const first = await upstreamWith();
    const running = await serve([first]);
    const { port } = first;
    await first.stop();
    for (const name of ['b.test', 'c.test', 'd.test']) await ask(running, name);
    await upstreamWith({}, port);
    await until(async () => (await ask(running, 'a.test')).rcode === 0);
  });

  test('forged replies (wrong ID, wrong case, wrong question) before the true one are not believed', async () => {
    const upstream = await upstreamWith();
    upstream.tamper = (reply, query) => {
      if (query.subarray(12).toString('latin1').toLowerCase().includes('netloom')) return [reply];
      const evil = Buffer.from(reply);
      evil.set([6, 6, 6, 6], evil.length - 15);
      const wrongId = Buffer.from(evil);
      wrongId.writeUInt16BE((evil.readUInt16BE(0) + 1) & 0xffff, 0);
      const wrongType = Buffer.from(evil);
      wrongType[12 + wireName('a.test.').length + 1] = 28;
      return [wrongId, wrongType, reply];
    };
    const running = await serve([upstream]);
    expect((await ask(running, 'a.test')).answers.map((rr) => rr.data)).toEqual(['192.0.2.1']);
  });

  test('a resolver that rewrites letter case still works: the answer is taken over TCP', async () => {
    const upstream = await upstreamWith({ records: Array.from({ length: 8 }, (_, index) => ({ name: `host${index}.test.`, type: 'A', data: '192.0.2.1' })) });
    upstream.tamper = (reply) => {
      const copy = Buffer.from(reply);
      for (let at = 12; at < 24 && copy[at] !== 0; at++) if ((copy[at] ?? 0) >= 65 && (copy[at] ?? 0) <= 90) copy[at] = (copy[at] ?? 0) + 32;
      return [copy];
    };
    const running = await serve([upstream]);
    for (let index = 0; index < 8; index++) expect((await ask(running, `host${index}.test`)).answers.length).toBe(1);
  });

  test('records that do not hang on the question are refused', async () => {
    const upstream = await upstreamWith();
    upstream.tamper = (reply, query) => {
      if (query.subarray(12).toString('latin1').toLowerCase().includes('netloom')) return [reply];
      const end = 12 + wireName('a.test.').length + 4;
      const evil = Buffer.concat([reply.subarray(0, end), wireName('bank.test.'), Buffer.from([0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 6, 6, 6, 6])]);
      evil.writeUInt16BE(1, 6);
      evil.writeUInt16BE(0, 10);
      return [evil];
    };
    const running = await serve([upstream]);
    expect((await ask(running, 'a.test')).rcode).toBe(2);
  });

  test('an outside name that points at loopback is hidden (rebinding), unless switched off or a stub domain', async () => {
    const upstream = await upstreamWith({ records: [{ name: 'evil.test.', type: 'A', data: '127.0.0.1' }, { name: 'svc.test.', type: 'A', data: '10.96.0.1' }] });
    const running = await serve([upstream], { clusterNetworks: ['10.96.0.0/16'] });
    const hidden = await ask(running, 'evil.test', 1, { udpSize: 1232 });
    expect([hidden.rcode, hidden.answers.length, edeOf(hidden)]).toEqual([0, 0, 15]);
    expect((await ask(running, 'svc.test')).answers.length).toBe(0);
    const off = await serve([upstream], { isRebindingBlocked: false });
    expect((await ask(off, 'evil.test')).answers.length).toBe(1);
  });

  test('a flood of names at a silent upstream: the excess is refused, cluster names go on, nothing stays behind', async () => {
    const upstream = await upstreamWith();
    upstream.isSilent = true;
    const running = await serve([upstream]);
    const socket = createSocket('udp4');
    const codes = new Map<number, number>();
    socket.on('message', (message) => { const code = (message[3] ?? 0) & 15; codes.set(code, (codes.get(code) ?? 0) + 1); });
    await new Promise<void>((resolve) => { socket.bind(0, '127.0.0.1', resolve); });
    let worstMs = 0;
    for (let burst = 0; burst < 8; burst++) {
      for (let index = 0; index < 100; index++) socket.send(queryBytes(`x${burst}-${index}.flood.test`, 1, { id: index }), running.port, '127.0.0.1');
      const started = performance.now();
      expect((await ask(running, 'shop.svc.cluster.local')).rcode).toBe(0);
      worstMs = Math.max(worstMs, performance.now() - started);
    }
    expect(worstMs).toBeLessThan(200);
    await until(() => (codes.get(5) ?? 0) >= 300);
    expect(upstream.asked.filter((name) => name.includes('flood')).length).toBeLessThanOrEqual(400);
    await until(() => [...codes.values()].reduce((sum, count) => sum + count, 0) >= 780, 8_000);
    socket.close();
  });

  test.each([1, 3])('an upstream that leads back here is dropped; the other one goes on serving (%i threads)', async (workers) => {
    const good = await upstreamWith();
    // A relay that hands every query to the server under test, as a stub resolver on the host would.
    const relay = createSocket('udp4');
    let target = 0;
    relay.on('message', (message, rinfo) => {
      const onward = createSocket('udp4');
      onward.on('message', (reply) => { relay.send(reply, rinfo.port, rinfo.address); onward.close(); });
      if (target !== 0) onward.send(message, target, '127.0.0.1');
    });
    await new Promise<void>((resolve) => { relay.bind(0, '127.0.0.1', resolve); });
    open.push({ stop: () => new Promise<void>((resolve) => { relay.close(() => resolve()); }) });
    // The port must be known before the probe goes out, which is when the server starts to listen.
    const startAtKnownPort = async (): Promise<Running> => {
      const probe = createSocket('udp4');
      await new Promise<void>((resolve) => { probe.bind(0, '127.0.0.1', resolve); });
      target = probe.address().port;
      await new Promise<void>((resolve) => { probe.close(() => resolve()); });
      return startServer(makeWorld(), { workers, listen: [{ address: '127.0.0.1', port: target }], upstreams: [`127.0.0.1:${relay.address().port}`, `127.0.0.1:${good.port}`] });
    };
    // Somebody else may take the port (or its TCP twin) in between.
    const running = await startAtKnownPort().catch(startAtKnownPort).catch(startAtKnownPort);
    open.push({ stop: () => running.server.stop(0) });
    await until(async () => (await running.server.status()).upstreams.some((upstream) => upstream.isLoop));
    const before = good.asked.length;
    expect((await ask(running, 'a.test')).answers.length).toBe(1);
    expect(good.asked.length).toBeGreaterThan(before);
    expect((await running.server.status()).upstreams.map((upstream) => upstream.isLoop)).toEqual([true, false]);
  });
});
