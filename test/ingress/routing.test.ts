// Ingress v1 routing through the whole controller: host and path rules, classes, default backends, changes.

import { afterAll, beforeAll, expect, test } from 'vitest';
import { World } from './world.ts';

const world = new World();
beforeAll(async () => {
  for (const name of ['a', 'b', 'wild', 'bar', 'any', 'def']) await world.service(`t/${name}`);
  world.ingress('t/main', [['a.test', '/', 'a'], ['a.test', '/b', 'b'], ['*.foo.test', '/', 'wild'], ['bar.foo.test', '/', 'bar']]);
  await world.start();
});
afterAll(() => world.stop());

const served = async (host: string, path = '/'): Promise<string> => {
  const reply = await world.request({ host, path });
  return reply.echo?.service ?? String(reply.status);
};

test('host and path choose the Service', async () => {
  expect(await served('a.test')).toBe('t/a');
  expect(await served('A.TEST:8080', '/b/c?x=1')).toBe('t/b');
  expect(await served('a.test', '/bc')).toBe('t/a');
  expect(await served('x.foo.test')).toBe('t/wild');
  expect(await served('bar.foo.test')).toBe('t/bar');
  expect(await served('foo.test')).toBe('404');
  expect(await served('a.b.foo.test')).toBe('404');
});

test('an unknown host is 404 and names the closest one', async () => {
  const reply = await world.request({ host: 'a.tset' });
  expect(reply.status).toBe(404);
  expect(reply.headers['netloom-reason']).toBe('no-host-rule; closest=a.test');
  expect(reply.headers.date).toBeDefined();
  expect(reply.headers['content-length']).toBeDefined();
});

test('a new rule without host and a default backend take what is left; deleting them gives 404 again', async () => {
  world.ingress('t/any', [['', '/any', 'any']], { spec: { ingressClassName: 'netloom', rules: [{ http: { paths: [{ path: '/any', pathType: 'Prefix', backend: { service: { name: 'any', port: { number: 80 } } } }] } }], defaultBackend: { service: { name: 'def', port: { number: 80 } } } } });
  await world.until(() => served('nobody.test', '/any/x'), (name) => name === 't/any');
  expect(await served('nobody.test', '/other')).toBe('t/def');
  world.api.delete('ingresses', 't', 'any');
  await world.until(() => served('nobody.test', '/any/x'), (name) => name === '404');
});

test('status carries the published address', async () => {
  await world.until(() => (world.api.get('ingresses', 't', 'main') as { status?: { loadBalancer?: { ingress?: unknown } } }).status?.loadBalancer?.ingress, (value) => JSON.stringify(value) === '[{"ip":"127.0.0.1"}]');
});
