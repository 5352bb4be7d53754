// Several control planes on one etcd: one state, one set of keys, one leader; the loss of a server loses nothing.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { start } from '../../../control/start.ts';
import { hasEtcd, startEtcd } from '../storage/etcd-process.ts';
import { configMap, until, World } from './harness.ts';

describe.skipIf(!hasEtcd)('two servers on one etcd', () => {
  let etcd: Awaited<ReturnType<typeof startEtcd>>;
  let one: World;
  let two: World;
  const folders: string[] = [];

  async function open(): Promise<World> {
    const folder = mkdtempSync(join(tmpdir(), 'netloom-shared-'));
    folders.push(folder);
    return new World(await start({ dataDir: folder, nodePortRange: [30_000, 30_063], store: `etcd://${etcd.members.map((member) => member.endpoint.replace('http://', '')).join(',')}` }), folder);
  }
  beforeAll(async () => {
    etcd = await startEtcd();
    one = await open();
    two = await open();
    await one.control.whenReady();
  });
  afterAll(async () => {
    await two.control.stop();
    await etcd.dispose();
    for (const folder of folders) rmSync(folder, { recursive: true, force: true });
  });

  test('what one acknowledges the other shows at once', async () => {
    for (let index = 0; index < 10; index++) {
      expect((await one.call('POST', '/api/v1/namespaces/default/configmaps', { body: configMap(`both-${index}`) })).status).toBe(201);
      expect((await two.call('GET', `/api/v1/namespaces/default/configmaps`)).json.items.some((item: { metadata: { name: string } }) => item.metadata.name === `both-${index}`)).toBe(true);
    }
  });
  test('both have the same authority: a kubeconfig of one is good at the other', async () => {
    expect(one.control.caPem).toBe(two.control.caPem);
    const kubeconfig = two.file('of-one', one.control.kubeconfig().replaceAll(one.control.url, two.control.url));
    expect((await two.kubectl('get ns default -o name', { kubeconfig })).out).toBe('namespace/default\n');
  });
  test('addresses and ports given out by both at once are never the same, even when few are left', async () => {
    const make = (world: World, name: string): Promise<{ status: number; json: any }> => world.call('POST', '/api/v1/namespaces/default/services', { body: { metadata: { name }, spec: { type: 'NodePort', ports: [{ port: 80 }] } } });
    const answers = await Promise.all(Array.from({ length: 40 }, (_, index) => make(index % 2 === 0 ? one : two, `svc-${index}`)));
    const made = answers.filter((answer) => answer.status === 201);
    expect(made.length).toBeGreaterThan(30);
    expect(new Set(made.map((answer) => answer.json.spec.clusterIP)).size).toBe(made.length);
    expect(new Set(made.map((answer) => answer.json.spec.ports[0].nodePort)).size).toBe(made.length);
    for (const answer of made) await two.call('DELETE', `/api/v1/namespaces/default/services/${answer.json.metadata.name}`);
    const again = await one.call('POST', '/api/v1/namespaces/default/services', { body: { metadata: { name: 'again' }, spec: { clusterIP: made[0]?.json.spec.clusterIP, ports: [{ port: 80 }] } } });
    expect(again.status).toBe(201);
  });
  test('a watch at one hears writes at the other, in order', async () => {
    const from = (await one.call('GET', '/api/v1/namespaces/default/configmaps')).json.metadata.resourceVersion as string;
    const watch = one.call('GET', '/api/v1/namespaces/default/configmaps', { query: `watch=true&resourceVersion=${from}&timeoutSeconds=2` });
    for (let index = 0; index < 20; index++) await (index % 2 === 0 ? one : two).call('POST', '/api/v1/namespaces/default/configmaps', { body: configMap(`heard-${index}`) });
    const names = (await watch).text.trim().split('\n').map((line) => (JSON.parse(line) as { object: { metadata: { name: string } } }).object.metadata.name);
    expect(names.filter((name) => name.startsWith('heard'))).toEqual(Array.from({ length: 20 }, (_, index) => `heard-${index}`));
  });
  test('when the leader stops, the other runs the controllers', async () => {
    await one.control.stop();
    await two.call('POST', '/api/v1/namespaces', { body: { metadata: { name: 'after' } } });
    await until('its service account', async () => (await two.call('GET', '/api/v1/namespaces/after/serviceaccounts/default')).status === 200, 30_000);
  });
});
