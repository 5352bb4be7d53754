// TLS towards backends (I-8): verified when a CA is known, opt-out per backend; session tickets that any worker takes and
// that end with their key; explaining a route that is an expression.

import { execFileSync } from 'node:child_process';
import https from 'node:https';
import type net from 'node:net';
import tls from 'node:tls';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { systemClock, type Clock } from '../../api/clock.ts';
import type { Secret } from '../../api/types.ts';
import { makeSelfSigned } from '../../ingress/self-signed.ts';
import { CertificateStore, createTlsServer } from '../../ingress/tls.ts';
import { World } from './world.ts';

const prefix = 'nginx.ingress.kubernetes.io/';
const world = new World();
const servers: net.Server[] = [];
afterAll(async () => { await world.stop(); for (const server of servers) server.close(); });

function rules(name: string, service: string, annotations: Record<string, string>): void {
  world.ingress(`t/${name}`, [[`${name}.test`, '/', service]], { annotations: { [`${prefix}backend-protocol`]: 'HTTPS', ...Object.fromEntries(Object.entries(annotations).map(([key, value]) => [prefix + key, value])) } });
}

beforeAll(async () => {
  const own = makeSelfSigned(['app.t.svc', 'localhost'], Date.now());
  const foreign = makeSelfSigned(['app.t.svc'], Date.now());
  const server = https.createServer({ cert: own.certPem, key: own.keyPem }, (_request, response) => { response.end('over tls'); });
  servers.push(server);
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  world.applyService('t/app', [{ ip: '127.0.0.1', port: (server.address() as net.AddressInfo).port }]);
  for (const [name, certPem] of [['ca', own.certPem], ['foreign-ca', foreign.certPem]] as const) world.api.apply<Secret>('secrets', { metadata: { name, namespace: 't' }, type: 'Opaque', data: { 'ca.crt': Buffer.from(certPem).toString('base64') } });
  rules('good', 'app', { 'proxy-ssl-secret': 't/ca' });
  rules('foreign', 'app', { 'proxy-ssl-secret': 't/foreign-ca' });
  rules('othername', 'app', { 'proxy-ssl-secret': 't/ca', 'proxy-ssl-name': 'other.test' });
  rules('off', 'app', { 'proxy-ssl-secret': 't/foreign-ca', 'proxy-ssl-verify': 'off' });
  rules('plain', 'app', {});
  rules('system', 'app', { 'proxy-ssl-verify': 'on' });
  world.ingress('t/regex', [['regex.test', '/v[0-9]+/(.*)', 'app', 'ImplementationSpecific']], { annotations: { [`${prefix}use-regex`]: 'true' } });
  await world.start();
});

test('a backend whose CA is given is verified, by the name of its Service or the one given', async () => {
  const status = async (name: string): Promise<number> => (await world.request({ host: `${name}.test` })).status;
  expect([await status('good'), await status('foreign'), await status('othername'), await status('system')]).toEqual([200, 502, 502, 502]);
});

test('verification ends where the object says off, or gives no CA', async () => {
  expect((await world.request({ host: 'off.test' })).text).toBe('over tls');
  expect((await world.request({ host: 'plain.test' })).text).toBe('over tls');
});

test('a route that is an expression is explained on the main thread', () => {
  const explained = world.controller.explain('http://regex.test/v12/x');
  expect([explained.object, explained.rule, explained.reason]).toEqual(['t/regex', 'regex.test/v[0-9]+/(.*)', undefined]);
  expect(world.controller.explain('http://regex.test/w/x').reason).toBe('no-path-rule');
  // A process in which no worker has set anything up, with an expression that would take for ever elsewhere.
  const script = `import { linearExpression } from ${JSON.stringify(new URL('../../ingress/table.ts', import.meta.url).href)}; process.stdout.write(String(linearExpression('/(a+)+b').test('/' + 'a'.repeat(50000))));`;
  expect(execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8', timeout: 20_000 })).toBe('false');
});

const portOf = (server: tls.Server): number => (server.address() as net.AddressInfo).port;
/** One TLS connection; whether it resumed `session`, and the ticket it was given. */
function connect(port: number, session?: Buffer): Promise<{ isReused: boolean; session: Buffer | undefined }> {
  return new Promise((resolve, reject) => {
    const socket = tls.connect({ port, host: '127.0.0.1', servername: 'a.test', rejectUnauthorized: false, ...(session === undefined ? {} : { session }) });
    let given: Buffer | undefined;
    let isReused = false;
    socket.on('session', (value) => { given = value; });
    socket.on('secureConnect', () => { isReused = socket.isSessionReused(); });
    socket.on('error', reject);
    socket.on('close', () => resolve({ isReused, session: given }));
    // Any answer will do: it comes after the ticket.
    socket.write('GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n');
    socket.resume();
  });
}

test('a ticket of one worker is taken by another and ends with its key', async () => {
  const pair = makeSelfSigned(['a.test'], Date.now());
  const keys = Buffer.alloc(48, 7);
  const make = async (): Promise<tls.Server> => {
    const store = new CertificateStore();
    store.setDefault(pair.certPem, pair.keyPem);
    const server = createTlsServer(store, { ticketKeys: keys, handshakeTimeoutMs: 5_000 }, (socket) => { socket.on('error', () => {}); socket.end('x'); }, () => {});
    servers.push(server);
    await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve); });
    return server;
  };
  const [one, two] = [await make(), await make()];
  const { session } = await connect(portOf(one));
  expect((await connect(portOf(two), session)).isReused).toBe(true);
  two.setTicketKeys(Buffer.alloc(48, 9));
  expect((await connect(portOf(two), session)).isReused).toBe(false);
});

test('the controller gives its workers new ticket keys every day', async () => {
  const daily: (() => void)[] = [];
  const clock: Clock = {
    nowMs: () => systemClock.nowMs(), monotonicMs: () => systemClock.monotonicMs(), every: (periodMs, callback) => systemClock.every(periodMs, callback),
    after: (delayMs, callback, isRef) => (delayMs === 86_400_000 ? (daily.push(callback), { cancel: () => {} }) : systemClock.after(delayMs, callback, isRef)),
  };
  const other = new World();
  await other.start({ clock });
  const { session } = await connect(other.controller.httpsPort);
  expect((await connect(other.controller.httpsPort, session)).isReused).toBe(true);
  daily[0]!();
  expect((await connect(other.controller.httpsPort, session)).isReused).toBe(false);
  expect(daily).toHaveLength(2);
  await other.stop();
});
