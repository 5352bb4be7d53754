// TLS and HTTP/2 through the controller: certificates by SNI, default certificate, replacement, 421, ALPN, h2c, gRPC.

import http from 'node:http';
import http2 from 'node:http2';
import net from 'node:net';
import tls from 'node:tls';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { makeSelfSigned } from '../../ingress/self-signed.ts';
import type { Secret } from '../../api/types.ts';
import { World } from './world.ts';

const world = new World();
const grpcServers: http2.Http2Server[] = [];

function secret(name: string, hosts: readonly string[]): void {
  const { certPem, keyPem } = makeSelfSigned(hosts, Date.now());
  world.api.apply<Secret>('secrets', { metadata: { name, namespace: 't' }, type: 'kubernetes.io/tls', data: { 'tls.crt': Buffer.from(certPem).toString('base64'), 'tls.key': Buffer.from(keyPem).toString('base64') } });
}

beforeAll(async () => {
  await world.service('t/app');
  const grpc = http2.createServer();
  grpcServers.push(grpc);
  grpc.on('stream', (raw, headers) => {
    const stream = raw as http2.ServerHttp2Stream;
    const chunks: Buffer[] = [];
    stream.respond({ ':status': 200, 'content-type': 'application/grpc', 'x-path': headers[':path'] }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0', 'grpc-message': 'fine' }));
    stream.on('data', (chunk: Buffer) => { chunks.push(chunk); stream.write(chunk); });
    stream.on('end', () => stream.end());
    stream.on('error', () => {});
  });
  await new Promise<void>((resolve) => { grpc.listen(0, '127.0.0.1', resolve); });
  world.applyService('t/grpc', [{ ip: '127.0.0.1', port: (grpc.address() as net.AddressInfo).port }], { appProtocol: 'kubernetes.io/h2c' });
  secret('exact', ['a.tls.test']);
  secret('wild', ['*.tls.test']);
  world.ingress('t/one', [['a.tls.test', '/', 'app'], ['a.tls.test', '/echo.Echo', 'grpc'], ['*.tls.test', '/', 'app']], { spec: {
    ingressClassName: 'netloom', tls: [{ hosts: ['a.tls.test'], secretName: 'exact' }, { hosts: ['*.tls.test'], secretName: 'wild' }],
    rules: [['a.tls.test', '/', 'app'], ['a.tls.test', '/echo.Echo', 'grpc'], ['*.tls.test', '/', 'app']].map(([host, path, name]) => ({ host: host!, http: { paths: [{ path: path!, pathType: 'Prefix' as const, backend: { service: { name: name!, port: { number: 80 } } } }] } })),
  } });
  world.ingress('t/none', [['nosecret.test', '/', 'app']], { spec: { ingressClassName: 'netloom', tls: [{ hosts: ['nosecret.test'], secretName: 'missing' }], rules: [{ host: 'nosecret.test', http: { paths: [{ path: '/', pathType: 'Prefix', backend: { service: { name: 'app', port: { number: 80 } } } }] } }] } });
  await world.start();
});
afterAll(async () => { await world.stop(); for (const server of grpcServers) server.close(); });

function certificateFor(servername: string | undefined): Promise<{ names: string; alpn: string; protocol: string; pem: string }> {
  return new Promise((resolve, reject) => {
    const socket = tls.connect({ port: world.controller.httpsPort, host: '127.0.0.1', rejectUnauthorized: false, ALPNProtocols: ['h2', 'http/1.1'], ...(servername === undefined ? {} : { servername }) }, () => {
      const certificate = socket.getPeerX509Certificate()!;
      resolve({ names: certificate.subjectAltName ?? '', alpn: String(socket.alpnProtocol), protocol: socket.getProtocol() ?? '', pem: certificate.toString() });
      socket.destroy();
    });
    socket.on('error', reject);
  });
}

test('SNI chooses the certificate: exact before wildcard, default for unknown, none and missing Secret', async () => {
  expect((await certificateFor('a.tls.test')).names).toBe('DNS:a.tls.test');
  expect((await certificateFor('b.tls.test')).names).toBe('DNS:*.tls.test');
  expect((await certificateFor('x.y.tls.test')).names).toBe('DNS:netloom.invalid');
  expect((await certificateFor('nosecret.test')).names).toBe('DNS:netloom.invalid');
  expect((await certificateFor(undefined)).names).toBe('DNS:netloom.invalid');
  expect((await certificateFor('a.tls.test')).alpn).toBe('h2');
});

test('TLS 1.1 and static RSA are refused', async () => {
  await expect(new Promise((resolve, reject) => {
    const socket = tls.connect({ port: world.controller.httpsPort, host: '127.0.0.1', servername: 'a.tls.test', rejectUnauthorized: false, maxVersion: 'TLSv1.1', minVersion: 'TLSv1' }, () => resolve('ok'));
    socket.on('error', reject);
  })).rejects.toThrow();
});

test('a missing Secret is an Event with the exact field', async () => {
  await world.until(() => world.events(), (events) => events.some((event) => event.startsWith('SecretUnusable spec.tls[0].secretName: Secret t/missing does not exist')));
});

test('a replaced Secret is used by the next handshake', async () => {
  const before = (await certificateFor('a.tls.test')).pem;
  secret('exact', ['a.tls.test']);
  await world.until(() => certificateFor('a.tls.test'), ({ pem }) => pem !== before);
});

test('a TLS host also answers on plain HTTP', async () => {
  expect((await world.request({ host: 'a.tls.test' })).echo?.service).toBe('t/app');
});

function h2Request(session: http2.ClientHttp2Session, headers: http2.OutgoingHttpHeaders, body?: Buffer): Promise<{ status: number; headers: http2.IncomingHttpHeaders; body: string; trailers: http2.IncomingHttpHeaders }> {
  return new Promise((resolve, reject) => {
    const stream = session.request(headers, { endStream: body === undefined });
    let response: http2.IncomingHttpHeaders = {};
    let trailers: http2.IncomingHttpHeaders = {};
    const chunks: Buffer[] = [];
    stream.on('response', (value) => { response = value; });
    stream.on('trailers', (value) => { trailers = value; });
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('error', reject);
    stream.on('end', () => resolve({ status: Number(response[':status']), headers: response, body: Buffer.concat(chunks).toString(), trailers }));
    if (body !== undefined) stream.end(body);
  });
}

test('HTTP/2 by ALPN reaches an HTTP/1.1 backend with body, forwarded fields and joined cookies', async () => {
  const session = http2.connect(`https://127.0.0.1:${world.controller.httpsPort}`, { servername: 'a.tls.test', rejectUnauthorized: false });
  const reply = await h2Request(session, { ':path': '/x?y=1', ':authority': 'a.tls.test', ':method': 'POST', cookie: ['a=1', 'b=2'] as never }, Buffer.from('hello'));
  const echo = JSON.parse(reply.body) as { path: string; method: string; bodyLength: number; headers: [string, string][] };
  expect(reply.status).toBe(200);
  expect([echo.path, echo.method, echo.bodyLength]).toEqual(['/x?y=1', 'POST', 5]);
  const headers = new Map(echo.headers.map(([name, value]) => [name.toLowerCase(), value]));
  expect(headers.get('x-forwarded-proto')).toBe('https');
  expect(headers.get('cookie')).toBe('a=1; b=2');
  expect(headers.get('host')).toBe('a.tls.test');
  const other = await h2Request(session, { ':path': '/', ':authority': 'b.tls.test' });
  expect(other.status).toBe(421);
  const missing = await h2Request(session, { ':path': '/', ':authority': 'nobody.test' });
  expect([404, 421]).toContain(missing.status);
  session.close();
});

test('gRPC: h2c in by prior knowledge, h2c backend, both ways streaming, trailers', async () => {
  const session = http2.connect(`http://127.0.0.1:${world.controller.httpPort}`);
  const reply = await h2Request(session, { ':path': '/echo.Echo/Say', ':authority': 'a.tls.test', ':method': 'POST', te: 'trailers', 'content-type': 'application/grpc' }, Buffer.from('\0\0\0\0\x02hi'));
  expect(reply.status).toBe(200);
  expect(reply.headers['x-path']).toBe('/echo.Echo/Say');
  expect(reply.body).toBe('\0\0\0\0\x02hi');
  expect(reply.trailers['grpc-status']).toBe('0');
  expect(reply.trailers['grpc-message']).toBe('fine');
  const stream = session.request({ ':path': '/echo.Echo/Chat', ':authority': 'a.tls.test', ':method': 'POST', te: 'trailers' });
  for (const word of ['one', 'two', 'three']) {
    stream.write(word);
    const [chunk] = await new Promise<Buffer[]>((resolve) => { stream.once('data', (bytes: Buffer) => resolve([bytes])); });
    expect(chunk!.toString()).toBe(word);
  }
  stream.end();
  await new Promise<void>((resolve) => { stream.on('end', resolve); stream.resume(); });
  session.close();
});

test('HTTPS with HTTP/1.1 and keep-alive', async () => {
  const { default: https } = await import('node:https');
  const agent = new https.Agent({ keepAlive: true });
  for (let index = 0; index < 3; index++) {
    const text = await new Promise<string>((resolve, reject) => {
      https.get({ host: '127.0.0.1', port: world.controller.httpsPort, servername: 'a.tls.test', rejectUnauthorized: false, agent, headers: { Host: 'a.tls.test' }, path: `/${index}` }, (response) => {
        let body = '';
        response.on('data', (chunk) => { body += String(chunk); });
        response.on('end', () => resolve(body));
      }).on('error', reject);
    });
    expect(JSON.parse(text)).toMatchObject({ path: `/${index}` });
  }
  agent.destroy();
  void http;
});

test('rapid reset closes the session, others go on', async () => {
  const session = http2.connect(`http://127.0.0.1:${world.controller.httpPort}`);
  session.on('error', () => {});
  const closed = new Promise<void>((resolve) => { session.on('close', resolve); session.on('goaway', () => resolve()); });
  for (let index = 0; index < 2_000 && !session.destroyed; index++) {
    try {
      const stream = session.request({ ':path': '/', ':authority': 'a.tls.test' });
      stream.on('error', () => {});
      stream.close(http2.constants.NGHTTP2_CANCEL);
    } catch { break; }
    if (index % 50 === 0) await new Promise((resolve) => { setImmediate(resolve); });
  }
  await closed;
  session.destroy();
  expect((await world.request({ host: 'a.tls.test' })).status).toBe(200);
});
