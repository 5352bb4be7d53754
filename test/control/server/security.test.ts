// What strangers send: tokens that do not hold, requests as browsers send them, acting as others; and that nothing secret
// reaches the audit log, the log or the metrics. Limits by themselves, on a virtual clock.

import { createHmac } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { request as httpsRequest } from 'node:https';
import { join } from 'node:path';
import { tmpdir } from 'node:os';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { httpTransport } from '../../../api/client.ts';
import { systemClock, type Clock } from '../../../api/clock.ts';
import { createLog } from '../../../api/log.ts';
import { defaultServerLimits } from '../../../control/config.ts';
import type { Exchange } from '../../../control/server/http/exchange.ts';
import { Limiter } from '../../../control/server/limits.ts';
import { parseRequestInfo } from '../../../control/server/request-info.ts';
import { WatchSet } from '../../../control/server/verbs/watch-set.ts';
import { VirtualClock } from '../../lib/virtual-clock.ts';
import { startWorld, until, type Answer, type World } from './harness.ts';

let world: World;
let folder: string;
let logged = '';
let shiftMs = 0;
const clock: Clock = { ...systemClock, nowMs: () => systemClock.nowMs() + shiftMs };
const auditPath = (): string => join(folder, 'audit.log');
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'netloom-security-'));
  world = await startWorld({ clock, auditLog: auditPath(), log: createLog({ level: 'debug', write: (line) => { logged += line; } }) });
  await world.control.whenReady();
  await until('the default service account', async () => (await world.call('GET', '/api/v1/namespaces/default/serviceaccounts/default')).status === 200);
});
afterAll(async () => { await world.stop(); rmSync(folder, { recursive: true, force: true }); });

interface RawAnswer { status: number; headers: Record<string, string | string[] | undefined> }
/** HTTP/1.1 with exactly these fields; a list sends the field that often. */
function raw(method: string, path: string, headers: Record<string, string | string[]>): Promise<RawAnswer> {
  return new Promise((resolve, reject) => {
    httpsRequest({ host: '127.0.0.1', port: world.control.port, method, path, ca: world.control.caPem, headers, servername: 'localhost', agent: false }, (response) => {
      response.resume();
      resolve({ status: response.statusCode ?? 0, headers: response.headers });
    }).on('error', reject).end();
  });
}
const bearer = async (token: string): Promise<number> => (await raw('GET', '/api', { authorization: `Bearer ${token}` })).status;
async function accountToken(): Promise<string> {
  const answer = await world.call('POST', '/api/v1/namespaces/default/serviceaccounts/default/token', { body: { spec: { expirationSeconds: 600 } } });
  return answer.json.status.token as string;
}

describe('tokens that do not hold get 401', () => {
  test('expired, and from a server whose clock is ahead', async () => {
    const token = await accountToken();
    expect(await bearer(token)).toBe(200);
    shiftMs = 700_000;
    expect(await bearer(token)).toBe(401);
    const future = await accountToken();
    shiftMs = 0;
    expect([await bearer(future), await bearer(token)]).toEqual([401, 200]);
  });
  test('an expired join token', async () => {
    const token = await world.control.createJoinToken();
    expect(await bearer(token)).not.toBe(401);
    shiftMs = 400 * 86_400_000;
    expect(await bearer(token)).toBe(401);
    shiftMs = 0;
  });
  test('cut short at any place, or with one character changed', async () => {
    const token = await accountToken();
    const lengths = [1, 10, Math.floor(token.length / 2), token.lastIndexOf('.'), token.lastIndexOf('.') + 1, token.length - 1];
    for (const length of lengths) expect(await bearer(token.slice(0, length)), `${length} characters`).toBe(401);
    for (const at of [5, Math.floor(token.length / 2), token.length - 20]) {
      const other = token[at] === 'A' ? 'B' : 'A';
      expect(await bearer(`${token.slice(0, at)}${other}${token.slice(at + 1)}`), `changed at ${at}`).toBe(401);
    }
  });
  test('signed with another algorithm over the public key', async () => {
    const [, body = ''] = (await accountToken()).split('.');
    const jwks = (await world.call('GET', '/openid/v1/jwks')).text;
    const header = Buffer.from(JSON.stringify({ alg: 'HS256' })).toString('base64url');
    expect(await bearer(`${header}.${body}.${createHmac('sha256', jwks).update(`${header}.${body}`).digest('base64url')}`)).toBe(401);
  });
  test('other bytes than ASCII, two fields, a lone scheme', async () => {
    const token = await accountToken();
    expect(await bearer('t\u00f6ken')).toBe(401);
    expect(await bearer(`${token} ${token}`)).toBe(401);
    expect((await raw('GET', '/api', { authorization: 'Bearer' })).status).toBe(401);
    const twice = await raw('GET', '/api', { authorization: [`Bearer ${token}x`, `Bearer ${token}`] });
    expect([400, 401]).toContain(twice.status);
  });
  test('a megabyte is refused before it is looked at', async () => {
    const status = await bearer('a'.repeat(1 << 20)).catch((error: NodeJS.ErrnoException) => error.code);
    expect([400, 401, 431, 'ECONNRESET', 'EPIPE']).toContain(status);
    expect((await world.call('GET', '/healthz')).status).toBe(200);
  });
});

describe('requests as browsers send them', () => {
  const cases: [string, string, Record<string, string>][] = [
    ['a form of another page', 'POST', { origin: 'https://evil.example', 'content-type': 'application/x-www-form-urlencoded' }],
    ['a preflight', 'OPTIONS', { origin: 'https://evil.example', 'access-control-request-method': 'POST' }],
    ['a page under a name that was turned to this address', 'GET', { host: 'rebound.example:6443' }],
    ['both names equal, but foreign', 'GET', { host: 'rebound.example', origin: 'https://rebound.example' }],
  ];
  for (const [name, method, headers] of cases) test(`${name}: 403 and no CORS field, also with a good token`, async () => {
    for (const more of [{}, { authorization: `Bearer ${await accountToken()}` }]) {
      const answer = await raw(method, '/api/v1/namespaces', { host: 'localhost', ...headers, ...more });
      expect(answer.status).toBe(403);
      expect(Object.keys(answer.headers).filter((field) => field.startsWith('access-control'))).toEqual([]);
    }
  });
  test('cookies are no credential', async () => { expect((await raw('GET', '/api', { cookie: `token=${await accountToken()}` })).status).toBe(401); });
});

describe('acting as somebody else', () => {
  const as = (headers: Record<string, string>, user = 'helpdesk'): Promise<Answer> => world.call('GET', '/api/v1/namespaces/default/pods', { headers }, world.as(user));
  beforeAll(async () => {
    const role = { apiVersion: 'rbac.authorization.k8s.io/v1', kind: 'ClusterRole', metadata: { name: 'acts-as' }, rules: [{ apiGroups: [''], resources: ['users'], resourceNames: ['jane'], verbs: ['impersonate'] }, { apiGroups: [''], resources: ['groups'], resourceNames: ['dev'], verbs: ['impersonate'] }] };
    await world.call('POST', '/apis/rbac.authorization.k8s.io/v1/clusterroles', { body: role });
    const binding = (name: string, roleName: string, user: string): object => ({ metadata: { name }, roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: roleName }, subjects: [{ kind: 'User', apiGroup: 'rbac.authorization.k8s.io', name: user }] });
    await world.call('POST', '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings', { body: binding('acts-as', 'acts-as', 'helpdesk') });
    await world.call('POST', '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings', { body: binding('jane-views', 'view', 'jane') });
  });
  test('gives the rights of that user, only when each identity may be taken', async () => {
    expect((await as({})).status).toBe(403);
    expect((await as({ 'impersonate-user': 'jane' })).status).toBe(200);
    expect((await as({ 'impersonate-user': 'jane', 'impersonate-group': 'dev' })).status).toBe(200);
    const masters = await as({ 'impersonate-user': 'jane', 'impersonate-group': 'dev, system:masters' });
    expect([masters.status, masters.json.message]).toEqual([403, expect.stringContaining('cannot impersonate resource "groups"')]);
    expect((await as({ 'impersonate-user': 'netloom-admin' })).json.message).toBe('users "netloom-admin" is forbidden: User "helpdesk" cannot impersonate resource "users" in API group "" at the cluster scope');
    for (const field of ['impersonate-uid', 'impersonate-extra-scopes']) expect((await as({ 'impersonate-user': 'jane', [field]: 'x' })).status, field).toBe(403);
    expect((await as({ 'impersonate-user': 'jane' }, 'stranger')).status).toBe(403);
    expect((await as({ 'impersonate-group': 'dev' })).status).toBe(400);
  });
  test('never gives more than the taken user has, also to the admin', async () => {
    const answer = await world.call('GET', '/api/v1/namespaces/default/secrets', { headers: { 'impersonate-user': 'jane' } });
    expect([answer.status, answer.json.message]).toEqual([403, expect.stringContaining('User "jane" cannot list resource "secrets"')]);
  });
  test('the audit log names both', async () => {
    await world.call('DELETE', '/api/v1/namespaces/default/pods/none', { headers: { 'impersonate-user': 'jane' } });
    await until('the line', () => readFileSync(auditPath(), 'utf8').includes('"impersonatedUser":{"username":"jane"'));
    const line = readFileSync(auditPath(), 'utf8').split('\n').find((text) => text.includes('"verb":"delete"') && text.includes('impersonatedUser'));
    expect(JSON.parse(line ?? '{}')).toMatchObject({ user: { username: 'netloom-admin' }, impersonatedUser: { username: 'jane' } });
  });
});

test('no token, key or Secret value in audit log, log or metrics', async () => {
  const token = await accountToken();
  const joinToken = await world.control.createJoinToken();
  const plain = 'hush-this-is-a-value';
  const secret = (name: string, value = plain): object => ({ metadata: { name, annotations: { note: value } }, stringData: { password: value } });
  const path = '/api/v1/namespaces/default/secrets';
  expect((await world.call('POST', path, { body: secret('quiet') })).status).toBe(201);
  await world.call('PUT', `${path}/quiet`, { body: secret('quiet', `${plain}-2`) });
  await world.call('PATCH', `${path}/quiet`, { body: { data: { password: plain } }, contentType: 'application/merge-patch+json' });
  await world.call('PATCH', `${path}/quiet`, { body: { stringData: { password: 5 } }, contentType: 'application/merge-patch+json' });
  await world.call('POST', path, { body: secret('quiet') });
  await world.call('POST', path, { body: `{"metadata":{"name":"broken"},"stringData":{"p":"${plain}` });
  for (const value of [token, `${token}x`, joinToken, `${joinToken}x`]) await raw('DELETE', `${path}/quiet?pretty=true`, { authorization: `Bearer ${value}` });
  const over = httpTransport({ server: world.control.url, caPem: world.control.caPem, token });
  await world.call('POST', path, { body: secret('denied') }, over);
  await over.close();
  await until('the last line', () => readFileSync(auditPath(), 'utf8').split('\n').filter((line) => line.includes('/secrets')).length >= 10);
  const metrics = (await world.call('GET', '/metrics')).text;
  const [, half = ''] = joinToken.split('.');
  const traces = [plain, Buffer.from(plain).toString('base64'), token, token.split('.')[2] ?? token, half, 'PRIVATE KEY'];
  for (const [name, text] of [['audit log', readFileSync(auditPath(), 'utf8')], ['log', logged], ['metrics', metrics]] as const) for (const trace of traces) expect(text.includes(trace), `${trace.slice(0, 12)}… in the ${name}`).toBe(false);
  expect(logged).toContain('control plane serves');
});

describe('limits', () => {
  const exchange = (username: string, more: object = {}): Exchange => ({ user: { username, groups: [], method: 'token' }, peer: { isInProcess: false, address: '', certificate: undefined }, ...more }) as unknown as Exchange;
  const info = (method: string, path: string): ReturnType<typeof parseRequestInfo> => parseRequestInfo(method, path, new URLSearchParams(path.split('?')[1] ?? ''));
  const read = info('GET', '/api/v1/pods');
  const write = info('POST', '/api/v1/namespaces/default/pods');
  const refusal = (run: () => unknown): unknown => { try { run(); return undefined; } catch (error) { return { code: (error as { code: string }).code, details: (error as { details: unknown }).details }; } };
  const shed = { code: 'TooManyRequests', details: { retryAfterSeconds: 1 } };

  test('reads and writes are counted apart; a place is free again once, however often it is given back', () => {
    const limiter = new Limiter({ ...defaultServerLimits, readsInFlight: 2, writesInFlight: 1 }, new VirtualClock());
    const leave = [limiter.enter(exchange('a'), read), limiter.enter(exchange('b'), read)];
    expect(refusal(() => limiter.enter(exchange('c'), read))).toEqual(shed);
    limiter.enter(exchange('c'), write);
    expect(refusal(() => limiter.enter(exchange('c'), write))).toEqual(shed);
    for (let times = 0; times < 3; times++) leave[0]?.();
    limiter.enter(exchange('c'), read);
    expect(refusal(() => limiter.enter(exchange('c'), read))).toEqual(shed);
    expect(limiter.refused).toEqual({ reads: 2, writes: 1, streams: 0, rate: 0 });
  });
  test('watches take no place of reads; callers of the same process are never shed', () => {
    const limiter = new Limiter({ ...defaultServerLimits, readsInFlight: 1 }, new VirtualClock());
    limiter.enter(exchange('a'), read);
    for (let count = 0; count < 5; count++) limiter.enter(exchange('a'), parseRequestInfo('GET', '/api/v1/pods', new URLSearchParams('watch=true')));
    limiter.enter(exchange('own', { peer: { isInProcess: true } }), read);
  });
  test('a user has a burst, then a rate; others have their own', async () => {
    const clock2 = new VirtualClock();
    const limiter = new Limiter({ ...defaultServerLimits, userRequestsPerSecond: 2, userRequestsBurst: 3 }, clock2);
    const passed = (user: string, count: number): number => Array.from({ length: count }, () => refusal(() => limiter.enter(exchange(user), read)())).filter((result) => result === undefined).length;
    expect([passed('a', 10), passed('b', 2)]).toEqual([3, 2]);
    await clock2.advance(1_000);
    expect([passed('a', 10), passed('b', 10)]).toEqual([2, 3]);
    await clock2.advance(3_600_000);
    expect(passed('a', 10)).toBe(3);
  });
  test('open watches: in all and of one user; a place is free again once; none after the end, and all are told', () => {
    const watches = new WatchSet({ total: 3, perUser: 2 });
    const ended: string[] = [];
    const add = (user: string): (() => void) => watches.add({ end: () => { ended.push(user); } }, user);
    const over = { code: 'TooManyRequests', details: { retryAfterSeconds: 5 } };
    const first = add('a');
    add('a');
    expect(refusal(() => add('a'))).toEqual(over);
    add('b');
    expect(refusal(() => add('c'))).toEqual(over);
    first(); first();
    add('a');
    expect([refusal(() => add('a')), watches.count]).toEqual([over, 3]);
    watches.endAll();
    expect(ended).toEqual(['a', 'b', 'a']);
    expect(refusal(() => add('d'))).toEqual({ code: 'ServiceUnavailable', details: { retryAfterSeconds: 1 } });
  });
});
