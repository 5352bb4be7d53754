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
  test('200 creates that ask both servers for the same numbers: each number has exactly one winner, all others are told', async () => {
    const path = '/api/v1/namespaces/default/services';
    const wanted = Array.from({ length: 25 }, (_, index) => ({ clusterIP: `10.96.77.${index + 1}`, nodePort: 30_020 + index }));
    const asks = wanted.flatMap(({ clusterIP, nodePort }, number) => Array.from({ length: 8 }, (_, index) => ({
      number, world: index % 2 === 0 ? one : two,
      // Half ask for the address, half for the port, in both protocols.
      spec: index % 4 < 2 ? { clusterIP, ports: [{ port: 80 }] } : { type: 'NodePort', ports: [{ port: 80, protocol: index < 4 ? 'TCP' : 'UDP', nodePort }] },
      key: `${index % 4 < 2 ? 'ip' : 'port'}-${number}`, name: `clash-${number}-${index}`,
    })));
    const answers = await Promise.all(asks.map(async (ask) => ({ ask, ...await ask.world.call('POST', path, { body: { metadata: { name: ask.name }, spec: ask.spec } }) })));
    const winners = answers.filter((answer) => answer.status === 201);
    expect(winners.map((answer) => answer.ask.key).sort()).toEqual([...new Set(asks.map((ask) => ask.key))].sort());
    for (const answer of answers.filter((each) => each.status !== 201)) {
      expect(answer.status, answer.text).toBe(422);
      expect(answer.json.message).toMatch(/provided (IP|port) is already allocated$/);
    }
    for (const answer of winners) expect((await two.call('DELETE', `${path}/${answer.json.metadata.name}`)).status).toBe(200);
    const again = await two.call('POST', path, { body: { metadata: { name: 'clash-again' }, spec: { type: 'NodePort', clusterIP: wanted[0]?.clusterIP, ports: [{ port: 80, nodePort: wanted[0]?.nodePort }] } } });
    expect(again.status, again.text).toBe(201);
  });
  test('200 addresses given out by both at once are 200 different ones', async () => {
    const answers = await Promise.all(Array.from({ length: 200 }, (_, index) => (index % 2 === 0 ? one : two).call('POST', '/api/v1/namespaces/default/services', { body: { metadata: { name: `any-${index}` }, spec: { ports: [{ port: 80 }] } } })));
    expect(answers.map((answer) => answer.status)).toEqual(answers.map(() => 201));
    expect(new Set(answers.map((answer) => answer.json.spec.clusterIP)).size).toBe(200);
  });
  test('a conditional update that asks for a number of the other server gets 422, not a conflict', async () => {
    const path = '/api/v1/namespaces/default/services';
    const spec = (nodePort?: number): object => ({ type: 'NodePort', ports: [{ port: 80, nodePort }] });
    const before = await Promise.all([one, two].map((world, index) => world.call('POST', path, { body: { metadata: { name: `upd-${index}` }, spec: spec() } })));
    const answers = await Promise.all([one, two].map((world, index) => world.call('PUT', `${path}/upd-${index}`, { body: { ...before[index]?.json, spec: { ...before[index]?.json.spec, ...spec(30_063) } } })));
    expect(answers.map((answer) => answer.status).sort()).toEqual([200, 422]);
    expect(answers.find((answer) => answer.status === 422)?.json.message).toContain('provided port is already allocated');
  });
  test('the collections that servers keep for themselves are not served, whatever is defined', async () => {
    const names = { plural: 'claims', singular: 'claim', kind: 'Claim' };
    await one.call('POST', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions', { body: {
      metadata: { name: 'claims.netloom.dev' }, spec: { group: 'netloom.dev', scope: 'Cluster', names, versions: [{ name: 'v1', served: true, storage: true, schema: { openAPIV3Schema: { type: 'object' } } }] },
    } });
    expect((await one.call('GET', '/apis/netloom.dev/v1/claims')).status).toBe(404);
    await one.call('DELETE', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions/claims.netloom.dev');
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
