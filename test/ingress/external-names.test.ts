// ExternalName backends: off by default; when allowed, each connection goes to an address that was checked (T2), asked
// from a real name server on loopback that can flip its answers.

import dgram from 'node:dgram';
import type net from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Service } from '../../api/types.ts';
import { addressCheck, externalNameFault } from '../../proxy/http/external-names.ts';
import { World } from './world.ts';

/** Answers A questions from a table of names; AAAA and unknown names get an empty answer. */
class NameServer {
  readonly answers = new Map<string, { ips: string[]; ttl: number }>();
  readonly asked: string[] = [];
  readonly #socket = dgram.createSocket('udp4');

  async start(): Promise<string> {
    this.#socket.on('message', (query, peer) => {
      const labels: string[] = [];
      let at = 12;
      while (query[at]! > 0) { labels.push(query.toString('latin1', at + 1, at + 1 + query[at]!)); at += query[at]! + 1; }
      const name = labels.join('.').toLowerCase();
      const isA = query.readUInt16BE(at + 1) === 1;
      if (isA) this.asked.push(name);
      const { ips, ttl } = (isA ? this.answers.get(name) : undefined) ?? { ips: [], ttl: 0 };
      const head = Buffer.from(query.subarray(0, 12));
      head.writeUInt16BE(0x8180, 2);
      head.writeUInt16BE(1, 4); head.writeUInt16BE(ips.length, 6); head.writeUInt16BE(0, 8); head.writeUInt16BE(0, 10);
      const records = ips.map((ip) => Buffer.from([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, ttl >> 8, ttl & 255, 0, 4, ...ip.split('.').map(Number)]));
      this.#socket.send(Buffer.concat([head, query.subarray(12, at + 5), ...records]), peer.port, peer.address);
    });
    await new Promise<void>((resolve) => { this.#socket.bind(0, '127.0.0.1', resolve); });
    return `127.0.0.1:${this.#socket.address().port}`;
  }

  stop(): void { this.#socket.close(); }
}

const names = new NameServer();
const world = new World();
let port = 0;

function external(name: string, externalName: string, to = port): void {
  world.api.apply<Service>('services', { metadata: { name, namespace: 't' }, spec: { type: 'ExternalName', externalName, ports: [{ port: to }] } });
  world.ingress(`t/${name}`, [], { spec: { ingressClassName: 'netloom', rules: [{ host: `${name}.test`, http: { paths: [{ path: '/', pathType: 'Prefix', backend: { service: { name, port: { number: to } } } }] } }] } });
}

beforeAll(async () => {
  const server = await names.start();
  const [backend] = await world.service('t/app');
  port = (backend!.address() as net.AddressInfo).port;
  await world.start({ externalNames: { isAllowed: true, servers: [server], allowRanges: ['127.0.0.0/30', '10.9.0.0/16'], denyRanges: ['127.96.0.0/16', '10.9.8.0/24'] } });
});
afterAll(async () => { await world.stop(); names.stop(); });

test('an allowed name is resolved, checked and reached; connections within the TTL ask once', async () => {
  names.answers.set('good.example', { ips: ['127.0.0.1'], ttl: 30 });
  external('good', 'good.example.');
  const agentless = await world.until(() => world.request({ host: 'good.test', path: '/x' }), (reply) => reply.status === 200);
  expect(agentless.echo?.path).toBe('/x');
  for (let index = 0; index < 5; index++) expect((await world.request({ host: 'good.test' })).status).toBe(200);
  expect(names.asked.filter((name) => name === 'good.example')).toHaveLength(1);
});

test('a name that answers with an address of the deny list is never connected, also when only one of several is bad', async () => {
  const bad = ['169.254.169.254', '127.5.0.1', '0.0.0.0', '224.0.0.1', '127.96.0.10', '10.9.8.1', '10.1.1.1', '192.168.1.1', '100.100.100.200', '255.255.255.255'];
  for (const [index, ip] of bad.entries()) {
    names.answers.set(`bad${index}.example`, { ips: ['127.0.0.1', ip], ttl: 1 });
    external(`bad${index}`, `bad${index}.example`);
    const reply = await world.until(() => world.request({ host: `bad${index}.test` }), ({ status }) => status !== 404);
    expect([ip, reply.status, reply.headers['netloom-reason']]).toEqual([ip, 502, 'connect-failed']);
  }
});

test('a name that flips between a good and a bad answer reaches only the good address', async () => {
  names.answers.set('flip.example', { ips: ['127.0.0.1'], ttl: 0 });
  const [closing] = await world.service('t/closing', 1, { handler: (_request, response) => { response.setHeader('Connection', 'close'); response.end('once'); } });
  external('flip', 'flip.example', (closing!.address() as net.AddressInfo).port);
  await world.until(() => world.request({ host: 'flip.test' }), ({ status }) => status === 200);
  names.answers.set('flip.example', { ips: ['169.254.169.254'], ttl: 0 });
  const refused = await world.until(() => world.request({ host: 'flip.test' }), ({ status }) => status !== 200, 15_000);
  expect(refused.status).toBe(502);
});

test('addresses in any spelling and names of this host are refused with an Event that names the field', async () => {
  for (const [index, name] of ['127.0.0.1', '2130706433', '0x7f.1', 'localhost', 'a.localhost'].entries()) {
    external(`spelt${index}`, name);
    const reply = await world.until(() => world.request({ host: `spelt${index}.test` }), ({ status }) => status !== 404);
    expect([name, reply.status, reply.headers['netloom-reason']]).toEqual([name, 503, 'external-name-refused']);
    await world.until(() => world.events(), (events) => events.some((event) => event.startsWith('ExternalNameRefused spec.rules[0].http.paths[0].backend.service.name') && event.includes(JSON.stringify(name))));
  }
});

test('a Service that becomes an ExternalName later is told too', async () => {
  world.applyService('t/later', [{ ip: '127.0.0.1', port }], { port });
  world.ingress('t/later', [], { spec: { ingressClassName: 'netloom', rules: [{ host: 'later.test', http: { paths: [{ path: '/', pathType: 'Prefix', backend: { service: { name: 'later', port: { number: port } } } }] } }] } });
  await world.until(() => world.request({ host: 'later.test' }), ({ status }) => status === 200);
  world.api.apply<Service>('services', { metadata: { name: 'later', namespace: 't' }, spec: { type: 'ExternalName', externalName: '127.0.0.1', ports: [{ port }] } });
  await world.until(() => world.request({ host: 'later.test' }), ({ status }) => status === 503);
  await world.until(() => world.events(), (events) => events.some((event) => event.startsWith('ExternalNameRefused') && event.includes('t/later')));
});

test('names and addresses in every dangerous spelling are refused', () => {
  for (const name of ['127.0.0.1', '127.1', '2130706433', '0x7f.1', '0x7f000001', '017700000001', '[::ffff:7f00:1]', '::1', 'localhost', 'x.localhost', 'a..b', '', 'a b', '-a.test', 'a.test/x', 'a.test:80']) expect([name, externalNameFault(name) !== undefined]).toEqual([name, true]);
  for (const name of ['example.com', 'EXAMPLE.com.', '_srv.example.com', '3com.example']) expect([name, externalNameFault(name)]).toEqual([name, undefined]);
  const check = addressCheck({ denyRanges: ['10.96.0.0/16'], allowRanges: ['10.0.0.0/8', '169.254.0.0/16', '0.0.0.0/0', '::/0'] });
  for (const ip of ['10.96.0.1', '169.254.169.254', '0.0.0.0', '0.1.2.3', '224.0.0.1', '255.255.255.255', '240.0.0.1', '::', 'fe80::1', 'ff02::1', '::ffff:127.0.0.1', '::ffff:7f00:1', '::127.0.0.1', '64:ff9b::7f00:1', '2002:7f00:1::', 'fd00:ec2::254', '127.1', '010.0.0.1', '2130706433', 'nonsense']) expect([ip, check(ip) !== undefined]).toEqual([ip, true]);
  for (const ip of ['10.95.0.1', '93.184.216.34', '2606:2800:220:1::1', '127.0.0.1']) expect([ip, check(ip)]).toEqual([ip, undefined]);
  const plain = addressCheck({ denyRanges: [], allowRanges: [] });
  for (const ip of ['127.0.0.1', '::1', '10.0.0.1', '172.16.0.1', '192.168.0.1', '100.64.0.1', 'fd00::1']) expect([ip, plain(ip) !== undefined]).toEqual([ip, true]);
});
