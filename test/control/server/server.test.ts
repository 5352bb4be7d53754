// The server as a server: discovery, OpenAPI, health, compression, limits, audit, proxying, TLS, shutdown.

import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { connect as http2Connect } from 'node:http2';
import { connect as tlsConnect } from 'node:tls';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { parse } from 'yaml';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { httpTransport, readBody, type ApiTransport } from '../../../api/client.ts';
import { configMap, startWorld, until, type World } from './harness.ts';

let world: World;
let audit: string;
beforeAll(async () => {
  const { mkdtempSync } = await import('node:fs');
  audit = join(mkdtempSync('/tmp/netloom-audit-'), 'audit.log');
  world = await startWorld({ isControllersOn: false, podCIDR: '127.64.0.0/16', auditLog: audit, limits: { watchesPerUser: 3, userRequestsPerSecond: 20, userRequestsBurst: 40 } });
});
afterAll(() => world.stop());

function adminTransport(): ApiTransport {
  const config = parse(world.control.kubeconfig()) as { users: { user: Record<string, string> }[] };
  const decode = (name: string): string => Buffer.from(config.users[0]?.user[name] ?? '', 'base64').toString();
  return httpTransport({ server: world.control.url, caPem: world.control.caPem, certPem: decode('client-certificate-data'), keyPem: decode('client-key-data') });
}

describe('discovery', () => {
  test('aggregated only when asked for, in the version asked for', async () => {
    const get = (accept: string): Promise<any> => world.call('GET', '/apis', { headers: { accept } });
    const v2 = await get('application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json');
    expect(v2.json.kind).toBe('APIGroupDiscoveryList');
    expect(v2.headers['content-type']).toContain('v=v2;');
    expect((await get('application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList')).json.apiVersion).toBe('apidiscovery.k8s.io/v2beta1');
    expect((await get('application/json')).json.kind).toBe('APIGroupList');
  });
  test('core comes first for events; autoscaling prefers v2; namespaces have no deletecollection', async () => {
    const { json } = await world.call('GET', '/apis/autoscaling');
    expect(json.preferredVersion.version).toBe('v2');
    const core = await world.call('GET', '/api/v1');
    expect(core.json.resources.find((item: { name: string }) => item.name === 'namespaces').verbs).not.toContain('deletecollection');
    expect(core.json.resources.map((item: { name: string }) => item.name)).toContain('pods/exec');
  });
  test('every announced kind can be listed', async () => {
    const { json } = await world.call('GET', '/apis', { headers: { accept: 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList' } });
    for (const group of json.items) for (const version of group.versions) for (const item of version.resources) {
      if (!item.verbs.includes('list')) continue;
      const answer = await world.call('GET', `/apis/${group.metadata.name}/${version.version}/${item.resource}`);
      expect([answer.status, answer.json.kind], item.resource).toEqual([200, `${item.responseKind.kind}List`]);
    }
  });
  test('OpenAPI documents under their hash are for ever, and answered 304 to who has them', async () => {
    const index = await world.call('GET', '/openapi/v3');
    const url = index.json.paths['apis/networking.k8s.io/v1'].serverRelativeURL as string;
    const [path = '', query = ''] = url.split('?');
    const document = await world.call('GET', path, { query });
    expect(document.headers['cache-control']).toContain('immutable');
    expect((await world.call('GET', path, { query, headers: { 'if-none-match': document.headers['etag'] ?? '' } })).status).toBe(304);
    expect((await world.call('GET', '/openapi/v2', { headers: { accept: 'application/com.github.proto-openapi.spec.v2@v1.0+protobuf' } })).headers['content-type']).toBe('application/com.github.proto-openapi.spec.v2.v1.0+protobuf');
  });
});

describe('health', () => {
  test('verbose names each check; one check alone; exclusions', async () => {
    expect((await world.call('GET', '/readyz', { query: 'verbose' })).text).toMatch(/\[\+\]ping ok\n\[\+\]store ok\n\[\+\]bootstrap ok\nreadyz check passed/);
    expect((await world.call('GET', '/readyz/store')).text).toBe('ok');
    expect((await world.call('GET', '/readyz/nothing')).status).toBe(404);
  });
  test('metrics carry requests, limits and the store', async () => {
    const { text } = await world.call('GET', '/metrics');
    for (const name of ['netloom_control_requests_total{verb="get"', 'netloom_control_store_revision', 'netloom_control_objects{resource="services"}']) expect(text).toContain(name);
  });
});

describe('transport', () => {
  test('long bodies are gzipped for who takes it, short ones not', async () => {
    for (let index = 0; index < 40; index++) await world.call('POST', '/api/v1/namespaces/default/configmaps', { body: configMap(`big-${index}`, { x: 'y'.repeat(10_000) }) });
    const transport = adminTransport();
    const response = await transport.request({ method: 'GET', path: '/api/v1/configmaps', headers: { 'accept-encoding': 'gzip' } });
    expect(response.headers['content-encoding']).toBe('gzip');
    const list = JSON.parse(gunzipSync(await readBody(response)).toString()) as { items: unknown[] };
    expect(list.items.length).toBeGreaterThanOrEqual(40);
    const short = await transport.request({ method: 'GET', path: '/version', headers: { 'accept-encoding': 'gzip' } });
    expect(short.headers['content-encoding']).toBeUndefined();
    await readBody(short);
    await transport.close();
  });
  test('HTTP/2 and HTTP/1.1 on one port; nothing below TLS 1.2', async () => {
    const session = http2Connect(world.control.url, { ca: world.control.caPem });
    const status = await new Promise((resolve) => { session.request({ ':path': '/version' }).on('response', (headers) => resolve(headers[':status'])).resume(); });
    expect(status).toBe(200);
    session.destroy();
    const old = await new Promise((resolve) => { tlsConnect({ host: '127.0.0.1', port: world.control.port, ca: world.control.caPem, maxVersion: 'TLSv1.1', minVersion: 'TLSv1' }).on('error', () => resolve('refused')).on('secureConnect', () => resolve('connected')); });
    expect(old).toBe('refused');
  });
  test('HEAD answers like GET without a body', async () => {
    const transport = adminTransport();
    const response = await transport.request({ method: 'HEAD', path: '/api/v1/namespaces/default' });
    expect([response.status, (await readBody(response)).length]).toEqual([200, 0]);
    await transport.close();
  });
  test('an unknown error shows no stack or path', async () => {
    const { text } = await world.call('GET', '/api/v1/namespaces/default/nothing');
    expect(text).not.toMatch(/\.ts|at /);
  });
});

describe('limits', () => {
  test('watches of one user are counted: 429 with Retry-After', async () => {
    const watcher = world.as('system:node:w', ['system:nodes']);
    const aborts: AbortController[] = [];
    const open = async (): Promise<number> => {
      const abort = new AbortController();
      aborts.push(abort);
      const response = await watcher.request({ method: 'GET', path: '/api/v1/services', query: 'watch=true', headers: {}, signal: abort.signal });
      if (response.status !== 200) await readBody(response);
      return response.status;
    };
    expect([await open(), await open(), await open(), await open()]).toEqual([200, 200, 200, 429]);
    for (const abort of aborts) abort.abort();
    await until('a free place', async () => await open() === 200);
    for (const abort of aborts) abort.abort();
  });
  test('a user who asks too often is shed, others are served', async () => {
    const token = (await world.call('POST', '/api/v1/namespaces/default/serviceaccounts', { body: { metadata: { name: 'busy' } } })).status === 201
      ? (await world.call('POST', '/api/v1/namespaces/default/serviceaccounts/busy/token', { body: {} })).json.status.token as string : '';
    const busy = httpTransport({ server: world.control.url, caPem: world.control.caPem, token });
    const codes: number[] = [];
    let retryAfter: string | undefined;
    for (let index = 0; index < 80; index++) {
      const response = await busy.request({ method: 'GET', path: '/api' });
      codes.push(response.status);
      retryAfter ??= response.status === 429 ? response.headers['retry-after'] : undefined;
      await readBody(response);
    }
    expect([codes.includes(200), codes.includes(429), retryAfter]).toEqual([true, true, '1']);
    await busy.close();
    const admin = adminTransport();
    expect((await world.call('GET', '/api', {}, admin)).status).toBe(200);
    await admin.close();
  });
});

describe('audit', () => {
  test('writes and refusals are written down with who and how, without bodies; reads are not', async () => {
    await world.call('POST', '/api/v1/namespaces/default/secrets', { body: { metadata: { name: 'audited' }, stringData: { p: 'top-secret-value' } } });
    await world.call('GET', '/api/v1/namespaces/default/secrets/audited');
    await world.call('GET', '/api/v1/secrets', {}, world.as('mallory'));
    await until('both lines', () => readFileSync(audit, 'utf8').includes('mallory'));
    const lines = readFileSync(audit, 'utf8').trim().split('\n').map((line) => JSON.parse(line) as { verb: string; user: { username: string }; responseStatus: { code: number }; objectRef?: { name: string } });
    expect(lines.some((line) => line.verb === 'create' && line.objectRef?.name === '' && line.responseStatus.code === 201)).toBe(true);
    expect(lines.some((line) => line.user.username === 'mallory' && line.responseStatus.code === 403)).toBe(true);
    expect(lines.some((line) => line.verb === 'get' && line.responseStatus.code === 200)).toBe(false);
    expect(readFileSync(audit, 'utf8')).not.toContain('top-secret-value');
  });
});

describe('services/proxy and pods/proxy', () => {
  let backend: Server;
  const seen: IncomingMessage[] = [];
  beforeAll(async () => {
    backend = createServer((request, response) => {
      seen.push(request);
      if (request.url === '/moved') { response.writeHead(302, { location: 'http://169.254.169.254/' }); response.end(); return; }
      let body = '';
      request.on('data', (chunk) => { body += String(chunk); });
      request.on('end', () => { response.setHeader('x-backend', '1'); response.end(`${request.method} ${request.url} ${body}`); });
    });
    await new Promise<void>((resolve) => { backend.listen(0, '127.64.0.9', resolve); });
    const { port } = backend.address() as AddressInfo;
    await world.call('POST', '/api/v1/namespaces/default/services', { body: { metadata: { name: 'back' }, spec: { ports: [{ name: 'http', port: 80, targetPort: port }] } } });
    const slice = (name: string, address: string): unknown => ({ metadata: { name: `${name}-1`, labels: { 'kubernetes.io/service-name': name } }, addressType: 'IPv4', endpoints: [{ addresses: [address], conditions: { ready: true } }], ports: [{ name: 'http', port, protocol: 'TCP' }] });
    expect((await world.call('POST', '/apis/discovery.k8s.io/v1/namespaces/default/endpointslices', { body: slice('back', '127.64.0.9') })).status).toBe(201);
  });
  afterAll(() => { backend.closeAllConnections(); backend.close(); });
  const path = '/api/v1/namespaces/default/services/back:http/proxy';

  test('pass method, path, query and body; credentials and hop-by-hop fields stay', async () => {
    const answer = await world.call('POST', `${path}/a/b`, { body: 'hello', contentType: 'text/plain', query: 'c=d', headers: { authorization: 'Bearer secret', te: 'trailers', trailer: 'x', cookie: 'a=b', 'x-own': '1' } });
    expect([answer.status, answer.text, answer.headers['x-backend']]).toEqual([200, 'POST /a/b?c=d hello', '1']);
    const { headers } = seen.at(-1) as IncomingMessage;
    expect([headers['authorization'], headers['te'], headers['trailer'], headers['cookie'], headers['x-own']]).toEqual([undefined, undefined, undefined, undefined, '1']);
  });
  test('a redirect is handed back, not followed', async () => {
    const answer = await world.call('GET', `${path}/moved`);
    expect([answer.status, answer.headers['location']]).toEqual([302, 'http://169.254.169.254/']);
  });
  test('work over TLS with kubectl', async () => { expect((await world.kubectl(['get', '--raw', `${path}/x`])).out).toBe('GET /x '); });
  test('nobody without the right gets through', async () => { expect((await world.call('GET', `${path}/x`, {}, world.as('nobody'))).status).toBe(403); });
  test('no endpoints: 503; no such port: 503; no such Service: 404; odd paths: 400', async () => {
    await world.call('POST', '/api/v1/namespaces/default/services', { body: { metadata: { name: 'empty' }, spec: { ports: [{ port: 80 }] } } });
    const status = async (name: string, rest = ''): Promise<number> => (await world.call('GET', `/api/v1/namespaces/default/services/${name}/proxy${rest}`)).status;
    expect([await status('empty'), await status('back:nope'), await status('absent'), await status('back:http', '//x'), await status('ftp:back:http')]).toEqual([503, 503, 404, 400, 400]);
  });
  test('loopback outside the Pod range, metadata, Service and own addresses are refused', async () => {
    const pod = async (ip: string, port: number): Promise<number> => {
      const name = `t-${ip.replaceAll('.', '-')}`;
      await world.call('POST', '/api/v1/namespaces/default/pods', { body: { metadata: { name }, spec: { containers: [{ name: 'c', image: 'x' }] } } });
      await world.call('PATCH', `/api/v1/namespaces/default/pods/${name}/status`, { body: { status: { podIP: ip, podIPs: [{ ip }] } }, contentType: 'application/merge-patch+json' });
      return (await world.call('GET', `/api/v1/namespaces/default/pods/${name}:${port}/proxy/`)).status;
    };
    expect([await pod('127.0.0.1', world.control.port), await pod('169.254.169.254', 80), await pod('10.96.0.1', 443)]).toEqual([403, 403, 403]);
  });
});

describe('shutdown', () => {
  test('watches end cleanly, requests under way finish, new ones are told to come back', async () => {
    const other = await startWorld({ isControllersOn: false });
    const watch = other.call('GET', '/api/v1/services', { query: 'watch=true&resourceVersion=0' });
    await until('the watch', async () => /netloom_control_watches [1-9]/.test((await other.call('GET', '/metrics')).text));
    const writes = Array.from({ length: 20 }, (_, index) => other.call('POST', '/api/v1/namespaces/default/configmaps', { body: configMap(`late-${index}`) }));
    const [events, ...answers] = await Promise.all([watch, ...writes, other.stop()]);
    expect(events.status).toBe(200);
    expect(answers.filter((answer) => answer !== undefined).every((answer) => [201, 503].includes((answer as { status: number }).status))).toBe(true);
  });
});
