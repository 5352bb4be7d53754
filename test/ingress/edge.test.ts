// At the edges of the controller: client certificates, PROXY protocol, access log, metrics, check, explain, host ownership,
// ExternalName, resource backends, extended CONNECT.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import http2 from 'node:http2';
import https from 'node:https';
import net from 'node:net';
import { tmpdir } from 'node:os';
import tls from 'node:tls';
import { join } from 'node:path';
import { Registry } from 'prom-client';
import { afterEach, expect, test } from 'vitest';
import type { Secret, Service } from '../../api/types.ts';
import { checkIngressManifests } from '../../ingress/check.ts';
import { makeSelfSigned } from '../../ingress/self-signed.ts';
import { World } from './world.ts';

const worlds: World[] = [];
afterEach(async () => { for (const world of worlds.splice(0)) await world.stop(); });
const make = (): World => { const world = new World(); worlds.push(world); return world; };
const prefix = 'nginx.ingress.kubernetes.io/';

test('client certificates: required, verified against the CA of the Secret, told to the backend', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'netloom-test-'));
  const run = (...args: string[]): void => { execFileSync('openssl', args, { cwd: folder, stdio: 'ignore' }); };
  run('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', 'ca.key', '-out', 'ca.crt', '-subj', '/CN=test ca', '-days', '2');
  run('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', 'c.key', '-out', 'c.csr', '-subj', '/O=team/CN=ann');
  run('x509', '-req', '-in', 'c.csr', '-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial', '-out', 'c.crt', '-days', '2');
  const [ca, cert, key] = ['ca.crt', 'c.crt', 'c.key'].map((name) => readFileSync(join(folder, name), 'utf8'));
  rmSync(folder, { recursive: true });
  const world = make();
  await world.service('t/app');
  world.api.apply<Secret>('secrets', { metadata: { name: 'ca', namespace: 't' }, data: { 'ca.crt': Buffer.from(ca!).toString('base64') } });
  const own = makeSelfSigned(['m.test'], Date.now());
  world.api.apply<Secret>('secrets', { metadata: { name: 'm', namespace: 't' }, type: 'kubernetes.io/tls', data: { 'tls.crt': Buffer.from(own.certPem).toString('base64'), 'tls.key': Buffer.from(own.keyPem).toString('base64') } });
  world.ingress('t/m', [], { annotations: { [`${prefix}auth-tls-secret`]: 't/ca', [`${prefix}auth-tls-verify-client`]: 'on' }, spec: { ingressClassName: 'netloom', tls: [{ hosts: ['m.test'], secretName: 'm' }], rules: [{ host: 'm.test', http: { paths: [{ path: '/', pathType: 'Prefix', backend: { service: { name: 'app', port: { number: 80 } } } }] } }] } });
  await world.start();
  const get = (options: https.RequestOptions): Promise<{ status: number; body: string }> => new Promise((resolve, reject) => {
    https.get({ host: '127.0.0.1', port: world.controller.httpsPort, servername: 'm.test', rejectUnauthorized: false, agent: false, headers: { Host: 'm.test' }, ...options }, (response) => {
      let body = '';
      response.on('data', (chunk) => { body += String(chunk); });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
    }).on('error', reject);
  });
  expect((await get({})).status).toBe(400);
  const good = await get({ cert: cert!, key: key! });
  expect(good.status).toBe(200);
  expect(good.body).toContain('"ssl-client-verify","SUCCESS"');
  expect(good.body).toContain('"ssl-client-subject-dn","CN=ann,O=team"');
  const foreign = makeSelfSigned(['ann'], Date.now());
  expect((await get({ cert: foreign.certPem, key: foreign.keyPem })).status).toBe(400);
  expect((await get({ cert: cert!, key: key!, servername: 'other.test' })).status).toBe(421);
  expect((await world.request({ host: 'm.test' })).status).toBe(403);
});

test('PROXY protocol v1 and v2: the client address comes from the header, connections without one are closed', async () => {
  const world = make();
  await world.service('t/app');
  world.ingress('t/a', [['a.test', '/', 'app']]);
  await world.start({ isProxyProtocolOn: true });
  const talk = (bytes: Buffer, port = world.controller.httpPort): Promise<string> => new Promise((resolve) => {
    const socket = net.connect({ port, host: '127.0.0.1' });
    let text = '';
    socket.on('data', (chunk) => { text += chunk.toString(); if (text.includes('bodyLength')) socket.destroy(); });
    socket.on('close', () => resolve(text));
    socket.on('error', () => {});
    socket.write(bytes);
  });
  const request = 'GET / HTTP/1.1\r\nHost: a.test\r\n\r\n';
  expect(await talk(Buffer.from(`PROXY TCP4 203.0.113.9 5.6.7.8 1111 80\r\n${request}`))).toContain('["X-Forwarded-For","203.0.113.9"]');
  expect(await talk(Buffer.from(`PROXY TCP6 2001:db8::1 2001:db8::2 1111 80\r\n${request}`))).toContain('["X-Forwarded-For","2001:db8::1"]');
  const binary = Buffer.concat([Buffer.from('0d0a0d0a000d0a515549540a21110010', 'hex'), Buffer.from([198, 51, 100, 7, 10, 0, 0, 1, 4, 87, 0, 80]), Buffer.from([3, 0, 1, 0])]);
  expect(await talk(Buffer.concat([binary, Buffer.from(request)]))).toContain('["X-Forwarded-For","198.51.100.7"]');
  expect(await talk(Buffer.from(`PROXY UNKNOWN\r\n${request}`))).toContain('["X-Forwarded-For","127.0.0.1"]');
  expect(await talk(Buffer.from(request))).toBe('');
  expect(await talk(Buffer.from('PROXY TCP4 999.1.1.1 5.6.7.8 1 2\r\n'))).toBe('');
  const overTls = await new Promise<string>((resolve, reject) => {
    const socket = net.connect({ port: world.controller.httpsPort, host: '127.0.0.1' });
    socket.write('PROXY TCP4 203.0.113.77 5.6.7.8 1111 443\r\n');
    const secure = tls.connect({ socket, rejectUnauthorized: false, servername: 'a.test' });
    let body = '';
    secure.write(request);
    secure.on('data', (chunk: Buffer) => { body += chunk.toString(); if (body.includes('bodyLength')) { socket.destroy(); resolve(body); } });
    secure.on('error', reject);
  });
  expect(overTls).toContain('203.0.113.77');
});

test('access log: one line per request that names object, rule and endpoint; sums agree with the counters', async () => {
  const world = make();
  await world.service('t/app');
  world.applyService('t/empty', []);
  world.ingress('t/a', [['a.test', '/', 'app'], ['a.test', '/empty', 'empty']]);
  let lines = '';
  await world.start({ accessLog: 'json', accessWrite: (text) => { lines += text; } });
  const registry = new Registry();
  world.controller.registerMetrics(registry);
  for (let index = 0; index < 20; index++) await world.request({ host: index % 5 === 0 ? 'nobody.test' : 'a.test', path: index % 4 === 0 ? '/empty' : '/p?secret=1', headers: { Authorization: 'Basic c2VjcmV0', 'User-Agent': 'x\ty' } });
  await world.until(() => lines.split('\n').length - 1, (count) => count === 20);
  const entries = lines.trim().split('\n').map((line) => JSON.parse(line) as Record<string, string | number>);
  expect(entries.find((entry) => entry['status'] === 200)).toMatchObject({ method: 'GET', host: 'a.test', path: '/p?secret=1', object: 't/a', rule: 'a.test/', clientIP: '127.0.0.1', protocol: 'HTTP/1.1' });
  expect(entries.find((entry) => entry['status'] === 503)).toMatchObject({ reason: 'no-endpoints', rule: 'a.test/empty', endpoint: '' });
  expect(lines).not.toContain('c2VjcmV0');
  const text = await registry.metrics();
  const counted = (code: string): number => [...text.matchAll(new RegExp(`^netloom_ingress_requests_total\\{.*code="${code}"\\} (\\d+)`, 'gm'))].reduce((sum, match) => sum + Number(match[1]), 0);
  for (const [code, least, most] of [['2xx', 200, 299], ['4xx', 400, 499], ['5xx', 500, 599]] as const) expect(counted(code)).toBe(entries.filter((entry) => Number(entry['status']) >= least && Number(entry['status']) <= most).length);
  expect(text).toContain('netloom_ingress_requests_total{ingress="t/a",service="app",code="2xx"}');
  expect(text).toMatch(/netloom_ingress_request_duration_seconds_bucket\{le="\+Inf",ingress="t\/a",service="app"\} \d+/);
  expect(text).toMatch(/netloom_ingress_route_table_age_seconds \d/);
});

test('metrics: labels of deleted objects disappear; object_to_live_seconds counts changes', async () => {
  const world = make();
  await world.service('t/app');
  await world.start();
  const registry = new Registry();
  world.controller.registerMetrics(registry);
  for (let index = 0; index < 30; index++) world.ingress(`t/x${index}`, [[`x${index}.test`, '/', 'app']]);
  await world.until(() => world.request({ host: 'x29.test' }), (reply) => reply.status === 200);
  expect(await registry.metrics()).toContain('ingress="t/x29"');
  for (let index = 0; index < 30; index++) world.api.delete('ingresses', 't', `x${index}`);
  await world.until(() => world.request({ host: 'x29.test' }), (reply) => reply.status === 404);
  const text = await registry.metrics();
  expect(text).not.toContain('ingress="t/x29"');
  expect(text).toMatch(/netloom_ingress_object_to_live_seconds_count [1-9]/);
});

test('check says what becomes of each annotation, with line and field', () => {
  const report = checkIngressManifests(`apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: shop
  namespace: t
  annotations:
    nginx.ingress.kubernetes.io/ssl-redirect: "true"
    nginx.ingress.kubernetes.io/rewrite-target: /$1
    nginx.ingress.kubernetes.io/configuration-snippet: "return 200;"
    nginx.ingress.kubernetes.io/proxy-buffering: "off"
    nginx.ingress.kubernetes.io/made-up: "1"
    nginx.ingress.kubernetes.io/proxy-body-size: "8 elephants"
    other.example/x: y
spec:
  rules:
  - host: shop.test
    http:
      paths:
      - {path: "/a(?=b)", pathType: ImplementationSpecific, backend: {service: {name: s, port: {number: 80}}}}
---
kind: Service
metadata: {name: s}
---
a: [broken
`);
  expect(report.counts).toEqual({ honoured: 2, approximated: 1, ignored: 1, refused: 1, unknown: 1 });
  expect(report.ingresses[0]?.key).toBe('t/shop');
  expect(report.ingresses[0]?.line).toBe(1);
  expect(report.ingresses[0]?.faults.map((fault) => fault.reason).sort()).toEqual(['AnnotationInvalid', 'InvalidRegex']);
  expect(report.errors.length).toBe(1);
});

test('explain tells the route of a URL and why there is none', async () => {
  const world = make();
  await world.service('t/app');
  world.ingress('t/a', [['a.test', '/shop', 'app']]);
  await world.start();
  expect(world.controller.explain('http://a.test/shop/x')).toMatchObject({ object: 't/a', rule: 'a.test/shop', backend: 't/app:80' });
  expect(world.controller.explain('a.test/other')).toMatchObject({ object: undefined, reason: 'no-path-rule' });
  expect(world.controller.explain('b.test')).toMatchObject({ reason: 'no-host-rule' });
  expect((await world.request({ host: 'a.test', path: '/shop' })).status).toBe(200);
});

test('host ownership: with "namespace" the first namespace keeps a host and the other gets an Event', async () => {
  const world = make();
  await world.service('t/app');
  await world.service('u/app');
  world.ingress('t/a', [['a.test', '/', 'app']]);
  world.ingress('u/b', [['a.test', '/steal', 'app']]);
  await world.start({ hostOwnership: 'namespace' });
  expect((await world.request({ host: 'a.test', path: '/steal' })).echo?.service).toBe('t/app');
  await world.until(() => world.events(), (events) => events.some((event) => event.startsWith('HostTaken')));
  world.api.delete('ingresses', 't', 'a');
  await world.until(() => world.request({ host: 'a.test', path: '/steal' }), (reply) => reply.echo?.service === 'u/app');
});

test('ExternalName is refused by default; a resource backend fails its own path only, with an Event', async () => {
  const world = make();
  await world.service('t/app');
  world.api.apply<Service>('services', { metadata: { name: 'ext', namespace: 't' }, spec: { type: 'ExternalName', externalName: 'metadata.internal', ports: [{ port: 80 }] } });
  world.ingress('t/a', [], { spec: { ingressClassName: 'netloom', rules: [{ host: 'a.test', http: { paths: [
    { path: '/ext', pathType: 'Prefix', backend: { service: { name: 'ext', port: { number: 80 } } } },
    { path: '/res', pathType: 'Prefix', backend: { resource: { kind: 'Bucket', name: 'b' } } },
    { path: '/', pathType: 'Prefix', backend: { service: { name: 'app', port: { number: 80 } } } },
  ] } }] } });
  await world.start();
  const external = await world.request({ host: 'a.test', path: '/ext' });
  expect([external.status, external.headers['netloom-reason']]).toEqual([503, 'external-name-refused']);
  const resource = await world.request({ host: 'a.test', path: '/res' });
  expect([resource.status, resource.headers['netloom-reason']]).toEqual([503, 'unsupported-backend']);
  expect((await world.request({ host: 'a.test' })).status).toBe(200);
  await world.until(() => world.events(), (events) => events.some((event) => event.startsWith('UnsupportedBackend spec.rules[0].http.paths[1].backend.resource')));
  await world.until(() => world.events(), (events) => events.some((event) => event.startsWith('ExternalNameRefused spec.rules[0].http.paths[0].backend.service.name')));
});

test('a class of another controller is not served; its status stays empty', async () => {
  const world = make();
  await world.service('t/app');
  world.ingressClass('other', 'example.net/other');
  world.ingress('t/a', [['a.test', '/', 'app']], { spec: { ingressClassName: 'other', rules: [{ host: 'a.test', http: { paths: [{ path: '/', pathType: 'Prefix', backend: { service: { name: 'app', port: { number: 80 } } } }] } }] } });
  await world.start();
  expect((await world.request({ host: 'a.test' })).status).toBe(404);
  expect(world.api.writes).toEqual([]);
});

test('WebSocket over HTTP/2 (extended CONNECT) reaches an HTTP/1.1 backend', async () => {
  const world = make();
  const server = net.createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', (bytes) => {
      expect(bytes.toString()).toMatch(/^GET \/ws HTTP\/1\.1\r\n[^]*Upgrade: websocket/);
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello');
      socket.on('data', (more) => socket.write(more));
    });
  });
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  world.applyService('t/ws', [{ ip: '127.0.0.1', port: (server.address() as net.AddressInfo).port }]);
  world.ingress('t/a', [['a.test', '/', 'ws']]);
  await world.start();
  const session = http2.connect(`http://127.0.0.1:${world.controller.httpPort}`);
  await new Promise<void>((resolve) => { session.on('remoteSettings', () => resolve()); });
  const stream = session.request({ ':method': 'CONNECT', ':protocol': 'websocket', ':path': '/ws', ':authority': 'a.test', ':scheme': 'http', 'sec-websocket-version': '13' });
  let text = '';
  stream.on('data', (chunk: Buffer) => { text += chunk.toString(); });
  await world.until(() => text, (value) => value === 'hello');
  stream.write('ping');
  await world.until(() => text, (value) => value === 'helloping');
  stream.destroy();
  session.destroy();
  server.close();
});
