// The server's life: changes seen with the watch event, start without a control plane, restarts, crashes, conflicts,
// the published endpoint, health and metrics.

import { createSocket } from 'node:dgram';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Registry } from 'prom-client';
import { afterEach, describe, expect, test } from 'vitest';
import { ApiClient } from '../../api/client.ts';
import { systemClock } from '../../api/clock.ts';
import { silentLog } from '../../api/log.ts';
import type { EndpointSlice, KubeObject, Service } from '../../api/types.ts';
import { DnsServer } from '../../dns/server.ts';
import { decode, type Message } from './decode.ts';
import { makeWorld, queryBytes, startServer, udpExchange, type Running, type World } from './lib.ts';

const open: (() => unknown)[] = [];
afterEach(async () => { for (const close of open.splice(0).reverse()) await close(); });

const namespace = { kind: 'Namespace', metadata: { name: 'shop' } } as KubeObject;
function service(name: string, ip: string, extra: Record<string, unknown> = {}): Service {
  return { kind: 'Service', metadata: { name, namespace: 'shop' }, spec: { clusterIP: ip, clusterIPs: [ip], ports: [{ name: 'http', port: 80 }], ...extra } };
}
function slice(name: string, ips: readonly string[], ready = true): EndpointSlice {
  return {
    kind: 'EndpointSlice', addressType: 'IPv4', metadata: { name: `${name}-1`, namespace: 'shop', labels: { 'kubernetes.io/service-name': name } },
    endpoints: ips.map((ip) => ({ addresses: [ip], conditions: { ready } })), ports: [{ name: 'http', port: 80, protocol: 'TCP' }],
  };
}
async function serve(world: World, options: Parameters<typeof startServer>[1] = {}): Promise<Running> {
  const running = await startServer(world, options);
  open.push(() => running.server.stop(0));
  return running;
}
async function ask(running: { port: number }, name: string, type = 1, edns?: number): Promise<Message> {
  const reply = await udpExchange(running.port, queryBytes(name, type, edns === undefined ? {} : { udpSize: edns }));
  if (reply === undefined) throw new Error(`no reply for ${name}`);
  return decode(reply);
}
async function until(condition: () => boolean | Promise<boolean>, limitMs = 5_000): Promise<void> {
  const deadline = performance.now() + limitMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error('condition not met in time');
    await new Promise<void>((resolve) => { systemClock.after(2, resolve, true); });
  }
}
function temporaryDirectory(): string {
  const path = mkdtempSync(join(tmpdir(), 'netloom-dns-'));
  open.push(() => rmSync(path, { recursive: true, force: true }));
  return path;
}
const addresses = (message: Message): unknown[] => message.answers.map((rr) => rr.data).sort();
const edeText = (message: Message): string => message.opt?.options.find((option) => option.code === 15)?.data.subarray(2).toString() ?? '';

describe('changes', () => {
  test('Service added, changed and removed: each shows at once, answers, NODATA and NXDOMAIN alike', async () => {
    const running = await serve(makeWorld([namespace]));
    expect((await ask(running, 'web.shop.svc.cluster.local')).rcode).toBe(3);
    running.apply(service('web', '10.96.0.5'));
    await until(async () => (await ask(running, 'web.shop.svc.cluster.local')).rcode === 0);
    expect((await ask(running, 'web.shop.svc.cluster.local', 28)).answers).toEqual([]);
    running.apply(service('web', '10.96.0.6', { clusterIPs: ['10.96.0.6', 'fd00::6'] }));
    await until(async () => addresses(await ask(running, 'web.shop.svc.cluster.local'))[0] === '10.96.0.6');
    expect(addresses(await ask(running, 'web.shop.svc.cluster.local', 28))).toEqual(['fd00::6']);
    expect((await ask(running, '5.0.96.10.in-addr.arpa', 12)).answers).toEqual([]);
    running.services.delete('shop/web');
    await until(async () => (await ask(running, 'web.shop.svc.cluster.local')).rcode === 3);
    expect((await ask(running, 'web.shop.svc.cluster.local', 16)).rcode).toBe(3);
  });

  test('headless endpoints come and go with readiness; the last one gone makes the name vanish and says why', async () => {
    const running = await serve(makeWorld([namespace, service('db', 'None'), slice('db', ['10.1.0.1', '10.1.0.2'])]));
    expect(addresses(await ask(running, 'db.shop.svc.cluster.local'))).toEqual(['10.1.0.1', '10.1.0.2']);
    running.apply(slice('db', ['10.1.0.2', '10.1.0.3']));
    await until(async () => addresses(await ask(running, 'db.shop.svc.cluster.local')).join() === '10.1.0.2,10.1.0.3');
    running.apply(slice('db', ['10.1.0.2', '10.1.0.3', '10.1.0.4'], false));
    await until(async () => (await ask(running, 'db.shop.svc.cluster.local')).rcode === 3);
    expect(edeText(await ask(running, 'db.shop.svc.cluster.local', 1, 1232))).toBe('Service shop/db exists, 0 of 3 endpoints ready');
  });

  test('write to new answer, with 2,000 Services: median under 20 ms, nine of ten under 100 ms even on a busy machine', async () => {
    const many = Array.from({ length: 2_000 }, (_, index) => service(`s${index}`, `10.97.${index >> 8}.${index & 255}`));
    const running = await serve(makeWorld([namespace, ...many]));
    const socket = createSocket('udp4');
    open.push(() => socket.close());
    const times: number[] = [];
    for (let round = 0; round < 200; round++) {
      const ip = `10.98.${round >> 4}.${(round & 15) + 1}`;
      const started = performance.now();
      running.apply(service('s7', ip));
      for (;;) {
        const reply = await new Promise<Buffer>((resolve) => { socket.once('message', resolve); socket.send(queryBytes('s7.shop.svc.cluster.local', 1), running.port, '127.0.0.1'); });
        if (reply.subarray(-4).join('.') === ip) break;
      }
      times.push(performance.now() - started);
    }
    times.sort((a, b) => a - b);
    expect(times[100]).toBeLessThan(20);
    expect(times[180]).toBeLessThan(100);
  });

  test('programming latency is measured for each kind of Service', async () => {
    const running = await serve(makeWorld([namespace]));
    const registry = new Registry();
    running.server.registerMetrics(registry);
    running.apply(service('web', '10.96.0.5'));
    running.apply(service('db', 'None', { selector: { app: 'db' } }));
    running.apply(service('hand', 'None'));
    await until(async () => {
      const text = await registry.metrics();
      return ['cluster_ip', 'headless_with_selector', 'headless_without_selector'].every((kind) => text.includes(`netloom_dns_programming_duration_seconds_count{service_kind="${kind}"} 1`));
    });
  });
});

describe('control plane away', () => {
  test('not synced and nothing on disk: unknown names are SERVFAIL "not ready", impossible ones NXDOMAIN, known ones answered', async () => {
    const world = makeWorld([namespace, service('web', '10.96.0.5')], false);
    const clock = { ...systemClock, after: (delayMs: number, callback: () => void, isRef?: boolean) => systemClock.after(Math.min(delayMs, 200), callback, isRef) };
    const running = await serve(world, { clock });
    expect(addresses(await ask(running, 'web.shop.svc.cluster.local'))).toEqual(['10.96.0.5']);
    expect((await ask(running, 'other.shop.svc.cluster.local')).rcode).toBe(2);
    expect((await ask(running, 'foo.cluster.local')).rcode).toBe(3);
    expect(running.server.health()).toEqual({ ok: false, detail: 'Services not received yet' });
    for (const informer of [world.services, world.slices, world.namespaces, world.pods]) informer.sync();
    await until(async () => (await ask(running, 'other.shop.svc.cluster.local')).rcode === 3);
  }, 20_000);

  test('start from the state on disk: answers soon, without waiting for the control plane, marked stale; the true state takes over without a gap', async () => {
    const dataDir = temporaryDirectory();
    const before = await startServer(makeWorld([namespace, service('web', '10.96.0.5'), service('old', '10.96.0.7'), service('db', 'None'), slice('db', ['10.1.0.1'])]), { dataDir });
    await before.server.stop(0);
    const world = makeWorld([], false);
    const started = performance.now();
    const running = await serve(world, { dataDir });
    // 0.8 s on an idle machine.
    expect(performance.now() - started).toBeLessThan(4_500);
    const stale = await ask(running, 'web.shop.svc.cluster.local', 1, 1232);
    expect(addresses(stale)).toEqual(['10.96.0.5']);
    expect(edeText(stale)).toMatch(/control plane away: this state is \d+ s old/);
    expect(addresses(await ask(running, 'db.shop.svc.cluster.local'))).toEqual(['10.1.0.1']);
    expect((await ask(running, 'nope.shop.svc.cluster.local')).rcode).toBe(3);
    const seen = new Set<string>();
    let isOver = false;
    const watching = (async () => { while (!isOver) seen.add(addresses(await ask(running, 'web.shop.svc.cluster.local')).join()); })();
    for (const object of [namespace, service('web', '10.96.0.5'), service('new', '10.96.0.8')]) world.apply(object);
    for (const informer of [world.services, world.slices, world.namespaces, world.pods]) informer.sync();
    await until(async () => (await ask(running, 'old.shop.svc.cluster.local')).rcode === 3);
    expect(addresses(await ask(running, 'new.shop.svc.cluster.local'))).toEqual(['10.96.0.8']);
    expect(edeText(await ask(running, 'web.shop.svc.cluster.local', 1, 1232))).toBe('');
    isOver = true;
    await watching;
    expect([...seen]).toEqual(['10.96.0.5']);
  });

  test('API server silent and failing for long: answers go on and say how old they are, until it is back', async () => {
    const world = makeWorld([namespace, service('web', '10.96.0.5')]);
    const clock = { ...systemClock, every: (periodMs: number, callback: () => void, isRef?: boolean) => systemClock.every(Math.min(periodMs, 20), callback, isRef) };
    const running = await serve(world, { clock });
    expect(edeText(await ask(running, 'web.shop.svc.cluster.local', 1, 1232))).toBe('');
    world.namespaces.failureCount = 3;
    world.namespaces.lastContactMs = performance.now() - 60_000;
    await until(async () => /control plane away: this state is (60|61|62) s old/.test(edeText(await ask(running, 'web.shop.svc.cluster.local', 1, 1232))));
    expect(running.server.health()).toMatchObject({ ok: true, detail: expect.stringContaining('control plane away') });
    world.namespaces.failureCount = 0;
    await until(async () => edeText(await ask(running, 'web.shop.svc.cluster.local', 1, 1232)) === '');
  });

  test('a torn or foreign state file is not used', async () => {
    const dataDir = temporaryDirectory();
    const before = await startServer(makeWorld([namespace, service('web', '10.96.0.5')]), { dataDir });
    await before.server.stop(0);
    const path = join(dataDir, 'dns-state.ndjson');
    const text = readFileSync(path, 'utf8');
    for (const torn of [text.slice(0, -10), text.slice(20), '', 'x']) {
      writeFileSync(path, torn);
      const { readSnapshot } = await import('../../dns/feed/snapshot.ts');
      expect(await readSnapshot(dataDir, 'cluster.local')).toBeUndefined();
    }
    writeFileSync(path, text);
    const { readSnapshot } = await import('../../dns/feed/snapshot.ts');
    expect(await readSnapshot(dataDir, 'other.local')).toBeUndefined();
    expect((await readSnapshot(dataDir, 'cluster.local'))?.services.length).toBe(1);
  });
});

/** Keeps `window` queries under way from many ports; a query without a reply within 2 s counts as lost. */
async function underLoad(port: number, isOver: () => boolean, window = 32): Promise<{ sent: number; lost: number }> {
  let sent = 0;
  let lost = 0;
  await Promise.all(Array.from({ length: window }, async () => {
    while (!isOver()) {
      sent += 1;
      if (await udpExchange(port, queryBytes('web.shop.svc.cluster.local', 1), 2_000) === undefined) lost += 1;
    }
  }));
  return { sent, lost };
}

describe('restart', () => {
  test('a successor takes over the port under load: no query is lost, three times in a row', async () => {
    const world = makeWorld([namespace, service('web', '10.96.0.5')]);
    let current = await startServer(world);
    const { port } = current;
    let isOver = false;
    const load = underLoad(port, () => isOver);
    for (let round = 0; round < 3; round++) {
      const next = await startServer(world, { listen: [{ address: '127.0.0.1', port }], isHandover: true });
      await current.server.stop(1_000, true);
      current = next;
    }
    isOver = true;
    const { sent, lost } = await load;
    await current.server.stop(0);
    expect(sent).toBeGreaterThan(200);
    expect(lost).toBe(0);
  });

  test('a crashed DNS thread comes back with the whole state on the same port', async () => {
    const running = await serve(makeWorld([namespace, service('web', '10.96.0.5')]), { workers: 1 });
    await running.server.threads()[0]?.terminate();
    await until(async () => {
      const reply = await udpExchange(running.port, queryBytes('web.shop.svc.cluster.local', 1), 200);
      return reply !== undefined && decode(reply).answers.length === 1;
    });
  });

  test('several threads share the port and all answer', async () => {
    const running = await serve(makeWorld([namespace, service('web', '10.96.0.5')]), { workers: 2 });
    const replies = await Promise.all(Array.from({ length: 40 }, () => ask(running, 'web.shop.svc.cluster.local')));
    expect(replies.every((message) => message.answers.length === 1)).toBe(true);
    running.apply(service('web', '10.96.0.9'));
    await until(async () => (await Promise.all(Array.from({ length: 20 }, () => ask(running, 'web.shop.svc.cluster.local')))).every((message) => message.answers[0]?.data === '10.96.0.9'));
  });
});

describe('conflicts and configuration', () => {
  test('port in use: PortInUse with the port and what to do, by another server and by another netloom', async () => {
    const socket = createSocket('udp4');
    await new Promise<void>((resolve) => { socket.bind(0, '127.0.0.1', resolve); });
    open.push(() => new Promise<void>((resolve) => { socket.close(() => resolve()); }));
    const { port } = socket.address();
    await expect(startServer(makeWorld(), { listen: [{ address: '127.0.0.1', port }] })).rejects.toMatchObject({ code: 'PortInUse', message: expect.stringContaining(String(port)), hint: expect.stringContaining('--dns-port') });
    const running = await serve(makeWorld());
    await expect(startServer(makeWorld(), { listen: [{ address: '127.0.0.1', port: running.port }] })).rejects.toMatchObject({ code: 'PortInUse' });
  });

  test('address that is not ours: ConfigInvalid', async () => {
    await expect(startServer(makeWorld(), { listen: [{ address: '192.0.2.200', port: 0 }] })).rejects.toMatchObject({ code: 'ConfigInvalid' });
  });

  test.each([
    [{ clusterDomain: 'a..b' }, /domain name/], [{ upstreams: ['nowhere'] }, /not an address/], [{ upstreams: ['1.2.3.4:70000'] }, /not an address/],
    [{ ttlSeconds: -1 }, /TTL/], [{ udpLimit: 100 }, /UDP size/], [{ allowFrom: ['x'] }, /not a network/], [{ listenTls: [{ address: '127.0.0.1', port: 0 }] }, /certificate/],
  ])('%j is refused', (options, message) => {
    const world = makeWorld();
    const make = (): DnsServer => new DnsServer({ view: world.view, namespaces: world.namespaces.as(), pods: world.pods.as(), upstreams: [], clock: systemClock, log: silentLog, ...options });
    expect(make).toThrow(message);
  });
});

describe('kube-dns endpoint', () => {
  test('is written, put back when removed, and taken away at the end', async () => {
    const stored = new Map<string, EndpointSlice>();
    const calls: string[] = [];
    const client = new ApiClient({
      request: async ({ method, path, body }) => {
        calls.push(method);
        const name = path.split('/').at(-1) ?? '';
        let status = 200;
        let answer: unknown = {};
        if (method === 'POST') { const object = JSON.parse(String(body)) as EndpointSlice; stored.set(object.metadata.name, object); answer = object; status = 201; }
        else if (method === 'DELETE') stored.delete(name);
        else if (stored.has(name)) answer = stored.get(name);
        else { status = 404; answer = { kind: 'Status', reason: 'NotFound', code: 404, message: 'not found' }; }
        return { status, headers: {}, body: (async function* () { yield Buffer.from(JSON.stringify(answer)); })() };
      },
      close: async () => {},
    });
    const world = makeWorld([namespace]);
    const running = await startServer(world, { publish: { client, address: '10.244.0.1', nodeName: 'node-a' } });
    await until(() => stored.size === 1);
    const written = stored.get('kube-dns-node-a');
    expect(written?.endpoints?.[0]?.addresses).toEqual(['10.244.0.1']);
    expect(written?.ports?.map((port) => [port.name, port.protocol, port.port])).toEqual([['dns', 'UDP', running.port], ['dns-tcp', 'TCP', running.port]]);
    expect(written?.metadata.labels?.['kubernetes.io/service-name']).toBe('kube-dns');
    stored.clear();
    world.slices.set({ kind: 'EndpointSlice', addressType: 'IPv4', metadata: { name: 'x', namespace: 'kube-system', labels: { 'kubernetes.io/service-name': 'kube-dns' } }, endpoints: [] });
    await until(() => stored.size === 1);
    await running.server.stop(0);
    expect(stored.size).toBe(0);
  });
});

describe('name servers', () => {
  test('NS leads to the Services whose DNS port ends here, with glue, and to no other Service on the same address', async () => {
    const at = (name: string, port: number, ip: string): KubeObject[] => [
      { kind: 'Service', metadata: { name, namespace: 'shop' }, spec: { clusterIP: ip, clusterIPs: [ip], ports: [{ name: 'x', port }] } } as KubeObject, slice(name, ['10.244.0.1']),
    ];
    const running = await serve(makeWorld([namespace, ...at('names', 53, '10.96.0.10'), ...at('api', 443, '10.96.0.1')]), { ownAddresses: ['10.244.0.1'] });
    const message = await ask(running, 'cluster.local', 2);
    expect(message.answers.map((rr) => rr.data)).toEqual(['names.shop.svc.cluster.local.']);
    expect(message.additional.map((rr) => rr.data)).toEqual(['10.96.0.10']);
    expect(addresses(await ask(running, 'ns.dns.cluster.local'))).toEqual(['10.96.0.10']);
  });
});

describe('metrics', () => {
  test('requests by type, responses by code and durations are counted', async () => {
    const running = await serve(makeWorld([namespace, service('web', '10.96.0.5')]));
    const registry = new Registry();
    running.server.registerMetrics(registry);
    for (let count = 0; count < 32; count++) await ask(running, 'web.shop.svc.cluster.local');
    for (let count = 0; count < 3; count++) await ask(running, 'nope.shop.svc.cluster.local', 28);
    expect((await running.server.status()).topNames[0]?.name).toBe('web.shop.svc.cluster.local.');
    const text = await registry.metrics();
    expect(text).toContain('netloom_dns_requests_total{proto="udp",family="1",type="A"} 32');
    expect(text).toContain('netloom_dns_requests_total{proto="udp",family="1",type="AAAA"} 3');
    expect(text).toContain('netloom_dns_responses_total{zone="cluster",rcode="NXDOMAIN"} 3');
    expect(text).toContain('netloom_dns_response_size_bytes_count 35');
    expect(text).toMatch(/netloom_dns_request_duration_seconds_bucket\{le="\+Inf"\} 32/);
    expect(text).toContain('netloom_dns_services 1');
  });
});
