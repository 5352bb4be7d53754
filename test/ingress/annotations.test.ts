// The annotation groups of ingress-nginx, each through the whole controller with its documented meaning.

import { execFileSync } from 'node:child_process';
import http from 'node:http';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Secret } from '../../api/types.ts';
import { md5Crypt } from '../../proxy/http/policy/htpasswd.ts';
import { World } from './world.ts';

const world = new World();
const prefix = 'nginx.ingress.kubernetes.io/';
let authSeen: http.IncomingHttpHeaders[] = [];
let mirrored: { method: string; url: string; body: string }[] = [];
let flakyCount = 0;

beforeAll(async () => {
  await world.service('t/app');
  await world.service('t/canary');
  await world.service('t/many', 5);
  await world.service('t/errors', 1, { handler: (request, response) => { response.setHeader('Content-Type', 'text/html'); response.end(`page for ${request.headers['x-code']} of ${request.headers['x-ingress-name']}`); } });
  await world.service('t/broken', 1, { handler: (_request, response) => { response.statusCode = 503; response.end('raw'); } });
  await world.service('t/flaky', 2, { handler: (_request, response) => { flakyCount += 1; if (flakyCount === 1) response.statusCode = 503; response.end('flaky'); } });
  await world.service('t/auth', 1, { handler: (request, response) => {
    authSeen.push(request.headers);
    const isGood = request.headers.authorization === 'Bearer good';
    response.statusCode = isGood ? 200 : 401;
    response.setHeader('X-User', 'ann');
    response.end();
  } });
  await world.service('t/mirror', 1, { handler: (request, response) => {
    let body = '';
    request.on('data', (chunk) => { body += String(chunk); });
    request.on('end', () => { mirrored.push({ method: request.method ?? '', url: request.url ?? '', body }); response.statusCode = 500; response.end(); });
  } });
  world.applyService('t/empty', []);
  await world.start();
});
afterAll(() => world.stop());
beforeEach(() => { authSeen = []; mirrored = []; });

let counter = 0;
/** Makes an Ingress of its own host with these annotations and waits until it is served. */
async function ingress(annotations: Record<string, string>, options: { service?: string; path?: string; type?: 'Prefix' | 'ImplementationSpecific'; tls?: boolean; host?: string; name?: string; probe?: boolean } = {}): Promise<string> {
  counter += 1;
  const host = options.host ?? `h${counter}.test`;
  const name = options.name ?? `i${counter}`;
  world.ingress(`t/${name}`, [], { annotations: Object.fromEntries(Object.entries(annotations).map(([key, value]) => [prefix + key, value])), spec: {
    ingressClassName: 'netloom', ...(options.tls === true ? { tls: [{ hosts: [host], secretName: 'nope' }] } : {}),
    rules: [{ host, http: { paths: [{ path: options.path ?? '/', pathType: options.type ?? 'Prefix', backend: { service: { name: options.service ?? 'app', port: { number: 80 } } } }] } }],
  } });
  world.ingress(`t/marker-${counter}`, [[`marker-${counter}.test`, '/', 'app']]);
  await world.until(() => world.request({ host: `marker-${counter}.test` }), (reply) => reply.status === 200);
  return host;
}

test('rewrite-target with groups of a regular expression', async () => {
  const host = await ingress({ 'rewrite-target': '/$2', 'use-regex': 'true' }, { path: '/something(/|$)(.*)', type: 'ImplementationSpecific' });
  expect((await world.request({ host, path: '/something/new?x=1' })).echo?.path).toBe('/new?x=1');
  expect((await world.request({ host, path: '/something' })).echo?.path).toBe('/');
  expect((await world.request({ host, path: '/something/' })).echo?.path).toBe('/');
  expect((await world.request({ host, path: '/somethingelse' })).status).toBe(404);
});

test('rewrite-target without groups replaces the whole path', async () => {
  const host = await ingress({ 'rewrite-target': '/fixed' }, { path: '/foo' });
  expect((await world.request({ host, path: '/foo/bar?q' })).echo?.path).toBe('/fixed?q');
});

test('force-ssl-redirect answers 308 to https; ssl-redirect only for TLS hosts', async () => {
  const host = await ingress({ 'force-ssl-redirect': 'true' });
  const reply = await world.request({ host, path: '/a?b' });
  expect([reply.status, reply.headers.location]).toEqual([308, `https://${host}/a?b`]);
  expect((await world.request({ host: await ingress({ 'ssl-redirect': 'true' }) })).status).toBe(200);
  expect((await world.request({ host: await ingress({ 'ssl-redirect': 'true' }, { tls: true }) })).status).toBe(308);
});

test('permanent-redirect, temporal-redirect, app-root, from-to-www-redirect', async () => {
  const permanent = await world.request({ host: await ingress({ 'permanent-redirect': 'https://x.test/y', 'permanent-redirect-code': '308' }) });
  expect([permanent.status, permanent.headers.location]).toEqual([308, 'https://x.test/y']);
  expect((await world.request({ host: await ingress({ 'temporal-redirect': 'https://x.test/' }) })).status).toBe(302);
  const host = await ingress({ 'app-root': '/app1' });
  expect((await world.request({ host })).headers.location).toBe(`http://${host}/app1`);
  expect((await world.request({ host, path: '/x' })).status).toBe(200);
  const bare = await ingress({ 'from-to-www-redirect': 'true' });
  const www = await world.request({ host: `www.${bare}`, path: '/p?q' });
  expect([www.status, www.headers.location]).toEqual([308, `http://${bare}/p?q`]);
});

test('proxy-body-size refuses larger bodies with 413, by length and while streaming', async () => {
  const host = await ingress({ 'proxy-body-size': '1k' });
  expect((await world.request({ host, method: 'POST', body: Buffer.alloc(1_000) })).status).toBe(200);
  expect((await world.request({ host, method: 'POST', body: Buffer.alloc(1_025) })).status).toBe(413);
  expect((await world.request({ host, method: 'POST', headers: { 'Transfer-Encoding': 'chunked' }, body: Buffer.alloc(5_000) })).status).toBe(413);
});

test('proxy-read-timeout gives 504', async () => {
  await world.service('t/slow', 1, { handler: () => {} });
  const host = await ingress({ 'proxy-read-timeout': '1' }, { service: 'slow' });
  const startMs = performance.now();
  const reply = await world.request({ host });
  expect([reply.status, reply.headers['netloom-reason']]).toEqual([504, 'upstream-timeout']);
  expect(performance.now() - startMs).toBeLessThan(1_400);
});

test('CORS: preflight answered, origin echoed, others without fields', async () => {
  const host = await ingress({ 'enable-cors': 'true', 'cors-allow-origin': 'https://o.test, https://*.w.test', 'cors-max-age': '60' });
  const preflight = await world.request({ host, method: 'OPTIONS', headers: { Origin: 'https://o.test', 'Access-Control-Request-Method': 'PUT' } });
  expect(preflight.status).toBe(204);
  expect(preflight.headers['access-control-allow-origin']).toBe('https://o.test');
  expect(preflight.headers['access-control-max-age']).toBe('60');
  expect((await world.request({ host, headers: { Origin: 'https://a.w.test' } })).headers['access-control-allow-origin']).toBe('https://a.w.test');
  expect((await world.request({ host, headers: { Origin: 'https://evil.test' } })).headers['access-control-allow-origin']).toBeUndefined();
  expect((await world.request({ host, headers: { Origin: 'https://o.test.evil' } })).headers['access-control-allow-origin']).toBeUndefined();
});

test('cookie affinity keeps one endpoint and never names its address', async () => {
  const host = await ingress({ affinity: 'cookie', 'session-cookie-name': 'STICK' }, { service: 'many' });
  const first = await world.request({ host });
  const cookie = first.headers['set-cookie']?.[0] ?? '';
  expect(cookie).toMatch(/^STICK=[0-9a-f]{32}; Path=\/; HttpOnly; SameSite=Lax$/);
  const seen = new Set<number | undefined>([first.echo?.endpoint]);
  for (let index = 0; index < 20; index++) {
    const reply = await world.request({ host, headers: { Cookie: `a=b; ${cookie.split(';')[0]!}` } });
    seen.add(reply.echo?.endpoint);
    expect(reply.headers['set-cookie']).toBeUndefined();
  }
  expect(seen.size).toBe(1);
  const others = new Set<number | undefined>();
  for (let index = 0; index < 30; index++) others.add((await world.request({ host })).echo?.endpoint);
  expect(others.size).toBeGreaterThan(1);
});

test('allow and deny source ranges', async () => {
  expect((await world.request({ host: await ingress({ 'whitelist-source-range': '203.0.113.0/24' }) })).status).toBe(403);
  expect((await world.request({ host: await ingress({ 'whitelist-source-range': '10.0.0.0/8, 127.0.0.1' }) })).status).toBe(200);
  expect((await world.request({ host: await ingress({ 'denylist-source-range': '127.0.0.0/8' }) })).status).toBe(403);
  expect((await world.request({ host: await ingress({ 'whitelist-source-range': 'rubbish' }) })).status).toBe(403);
});

test('basic auth with htpasswd forms; a missing Secret closes the route', async () => {
  const stored = execFileSync('openssl', ['passwd', '-apr1', '-salt', 'abcdefgh', 'pass']).toString().trim();
  expect(md5Crypt('pass', 'abcdefgh', '$apr1$')).toBe(stored);
  world.api.apply<Secret>('secrets', { metadata: { name: 'users', namespace: 't' }, type: 'Opaque', data: { auth: Buffer.from(`user:${stored}\nsha:{SHA}nU4eI71bcnBGqeO0t9tXvY1u5oQ=\n`).toString('base64') } });
  const host = await ingress({ 'auth-type': 'basic', 'auth-secret': 'users', 'auth-realm': 'R' });
  const none = await world.request({ host });
  expect([none.status, none.headers['www-authenticate']]).toEqual([401, 'Basic realm="R"']);
  const authorization = (text: string): { Authorization: string } => ({ Authorization: `Basic ${Buffer.from(text).toString('base64')}` });
  for (let index = 0; index < 3; index++) expect((await world.request({ host, headers: authorization('user:pass') })).status).toBe(200);
  expect((await world.request({ host, headers: authorization('user:wrong') })).status).toBe(401);
  expect((await world.request({ host, headers: authorization('sha:pass') })).status).toBe(200);
  expect((await world.request({ host: await ingress({ 'auth-type': 'basic', 'auth-secret': 'missing' }), headers: authorization('user:pass') })).status).toBe(401);
});

test('external auth: allowed with its headers, refused, sign-in redirect; a foreign URL closes the route', async () => {
  const host = await ingress({ 'auth-url': 'http://auth.t.svc.cluster.local/check', 'auth-response-headers': 'X-User', 'auth-signin': 'https://login.test/start' });
  const good = await world.request({ host, path: '/private?x', headers: { Authorization: 'Bearer good', 'X-User': 'forged' } });
  expect(good.status).toBe(200);
  expect(good.echo?.headers.filter(([name]) => name.toLowerCase() === 'x-user')).toEqual([['X-User', 'ann']]);
  expect(authSeen[0]?.['x-original-url']).toBe(`http://${host}/private?x`);
  expect(authSeen[0]?.['x-original-method']).toBe('GET');
  const bad = await world.request({ host, path: '/private' });
  expect([bad.status, bad.headers.location]).toEqual([302, `https://login.test/start?rd=${encodeURIComponent(`http://${host}/private`)}`]);
  expect((await world.request({ host: await ingress({ 'auth-url': 'https://elsewhere.example/check' }) })).status).toBe(503);
});

test('canary by weight, header and cookie', async () => {
  const host = await ingress({});
  await ingress({ canary: 'true', 'canary-weight': '30', 'canary-by-header': 'X-Canary', 'canary-by-cookie': 'beta' }, { host, service: 'canary' });
  const counts = { 't/app': 0, 't/canary': 0 } as Record<string, number>;
  for (let index = 0; index < 400; index++) { const name = (await world.request({ host })).echo!.service; counts[name] = counts[name]! + 1; }
  expect(counts['t/canary']! / 400).toBeGreaterThan(0.22);
  expect(counts['t/canary']! / 400).toBeLessThan(0.38);
  expect((await world.request({ host, headers: { 'X-Canary': 'always' } })).echo?.service).toBe('t/canary');
  expect((await world.request({ host, headers: { Cookie: 'beta=always' } })).echo?.service).toBe('t/canary');
  for (let index = 0; index < 10; index++) expect((await world.request({ host, headers: { 'X-Canary': 'never' } })).echo?.service).toBe('t/app');
});

test('limit-rps and limit-connections', async () => {
  const host = await ingress({ 'limit-rps': '2', 'limit-burst-multiplier': '3' });
  const statuses: number[] = [];
  const startMs = performance.now();
  for (let index = 0; index < 15; index++) statuses.push((await world.request({ host })).status);
  expect(statuses.filter((status) => status === 200).length).toBeGreaterThanOrEqual(6);
  expect(statuses.filter((status) => status === 200).length).toBeLessThanOrEqual(8 + Math.ceil((performance.now() - startMs) / 500));
  let release: (() => void) | undefined;
  await world.service('t/slow2', 1, { handler: (_request, response) => { release = () => response.end('late'); } });
  const limited = await ingress({ 'limit-connections': '1' }, { service: 'slow2' });
  const first = world.request({ host: limited });
  await world.until(() => release, (value) => value !== undefined);
  expect((await world.request({ host: limited })).status).toBe(503);
  release?.();
  expect((await first).text).toBe('late');
});

test('upstream-vhost and x-forwarded-prefix and server-alias', async () => {
  const host = await ingress({ 'upstream-vhost': 'inner.test', 'x-forwarded-prefix': '/pre', 'server-alias': `alias-${counter}.test` });
  const reply = await world.request({ host });
  const headers = new Map(reply.echo?.headers.map(([name, value]) => [name.toLowerCase(), value]));
  expect(headers.get('host')).toBe('inner.test');
  expect(headers.get('x-forwarded-prefix')).toBe('/pre');
  expect((await world.request({ host: `alias-${counter - 1}.test` })).status).toBe(200);
});

test('custom-http-errors come from the default backend; so do requests for an empty Service', async () => {
  const host = await ingress({ 'custom-http-errors': '503,404', 'default-backend': 'errors' }, { service: 'broken' });
  const reply = await world.request({ host });
  expect([reply.status, reply.text, reply.headers['content-type']]).toEqual([503, `page for 503 of i${counter}`, 'text/html']);
  expect((await world.request({ host: await ingress({ 'default-backend': 'canary' }, { service: 'empty' }) })).echo?.service).toBe('t/canary');
});

test('proxy-next-upstream http_503 tries another endpoint', async () => {
  flakyCount = 0;
  const host = await ingress({ 'proxy-next-upstream': 'error http_503' }, { service: 'flaky' });
  const reply = await world.request({ host });
  expect([reply.status, reply.text]).toEqual([200, 'flaky']);
  expect(flakyCount).toBe(2);
});

test('mirror-target gets a copy and cannot harm the answer', async () => {
  const host = await ingress({ 'mirror-target': 'http://mirror.t.svc.cluster.local$request_uri' });
  expect((await world.request({ host, path: '/m?1', method: 'POST', body: 'copy' })).status).toBe(200);
  await world.until(() => mirrored, (list) => list.length === 1);
  expect(mirrored[0]).toEqual({ method: 'POST', url: '/m?1', body: 'copy' });
});

test('snippets are refused with an Event that names the annotation; unknown ones are told', async () => {
  const host = await ingress({ 'configuration-snippet': 'return 200;', 'no-such-thing': '1', 'proxy-buffering': 'off' });
  expect((await world.request({ host })).status).toBe(200);
  await world.until(() => world.events(), (events) => events.some((event) => event.startsWith(`AnnotationRefused metadata.annotations[${prefix}configuration-snippet]`)) && events.some((event) => event.startsWith('AnnotationUnknown')));
});

test('a regular expression that could run away is refused and harms only its path', async () => {
  const host = await ingress({ 'use-regex': 'true' }, { path: '/(?=a)a+', type: 'ImplementationSpecific' });
  expect((await world.request({ host, path: '/aaa' })).status).toBe(404);
  await world.until(() => world.events(), (events) => events.some((event) => event.startsWith('InvalidRegex spec.rules[0].http.paths[0].path')));
});
