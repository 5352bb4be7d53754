// The control plane stopped and started again on the same data directory: objects, keys, revisions and watch positions
// stay; the official JavaScript client's informer stays in step through restarts, disconnects and compactions.

import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CoreV1Api, KubeConfig, makeInformer, type V1ConfigMap } from '@kubernetes/client-node';
import { afterEach, describe, expect, test } from 'vitest';
import { start, type ControlPlane, type StartOptions } from '../../../control/start.ts';
import { configMap, until, World } from './harness.ts';

const worlds: World[] = [];
const folders: string[] = [];
afterEach(async () => {
  for (const world of worlds.splice(0)) await world.control.stop();
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

function folder(): string { const path = mkdtempSync(join(tmpdir(), 'netloom-restart-')); folders.push(path); return path; }
async function open(dataDir: string, options: StartOptions = {}): Promise<World> {
  const control: ControlPlane = await start({ dataDir, isControllersOn: false, ...options });
  const world = new World(control, dataDir);
  worlds.push(world);
  return world;
}
async function close(world: World): Promise<void> { worlds.splice(worlds.indexOf(world), 1); await world.control.stop(); }
const maps = '/api/v1/namespaces/default/configmaps';

describe('restart on the same data directory', () => {
  test('objects, uids, revisions and credentials stay; files are private', async () => {
    const dir = folder();
    let world = await open(dir);
    const { port } = world.control;
    const made = await world.call('POST', maps, { body: configMap('kept', { a: 'b' }) });
    const { caPem } = world.control;
    await close(world);
    world = await open(dir, { port });
    const again = await world.call('GET', `${maps}/kept`);
    expect(again.json).toEqual(made.json);
    expect(world.control.caPem).toBe(caPem);
    expect((await world.kubectl('get cm kept -o name')).out).toBe('configmap/kept\n');
    const next = await world.call('POST', maps, { body: configMap('next') });
    expect(Number(next.json.metadata.resourceVersion)).toBeGreaterThan(Number(made.json.metadata.resourceVersion));
    expect(statSync(dir).mode & 0o777).toBe(0o700);
    for (const file of ['kubeconfig', 'pki/ca.key', 'pki/admin.key', 'pki/service-account.key']) expect(statSync(join(dir, file)).mode & 0o777, file).toBe(0o600);
  });
  test('a watch goes on from a revision before the restart', async () => {
    const dir = folder();
    let world = await open(dir);
    const from = (await world.call('GET', maps)).json.metadata.resourceVersion as string;
    await world.call('POST', maps, { body: configMap('before') });
    await close(world);
    world = await open(dir);
    await world.call('POST', maps, { body: configMap('after') });
    const { text } = await world.call('GET', maps, { query: `watch=true&resourceVersion=${from}&timeoutSeconds=1` });
    expect(text.trim().split('\n').map((line) => { const { type, object } = JSON.parse(line) as { type: string; object: { metadata: { name: string } } }; return `${type} ${object.metadata.name}`; })).toEqual(['ADDED before', 'ADDED after']);
  });
  test('addresses that Services hold are not given out again', async () => {
    const dir = folder();
    let world = await open(dir);
    await world.call('POST', '/api/v1/namespaces/default/services', { body: { metadata: { name: 'a' }, spec: { type: 'NodePort', clusterIP: '10.96.0.77', ports: [{ port: 1, nodePort: 30_777 }] } } });
    await close(world);
    world = await open(dir);
    const answer = await world.call('POST', '/api/v1/namespaces/default/services', { body: { metadata: { name: 'b' }, spec: { clusterIP: '10.96.0.77', ports: [{ port: 1 }] } } });
    expect([answer.status, answer.json.message]).toEqual([422, expect.stringContaining('already allocated')]);
  });
  test('a second control plane on the directory is refused and says so', async () => {
    const dir = folder();
    await open(dir);
    await expect(start({ dataDir: dir })).rejects.toMatchObject({ code: 'StoreLocked' });
  });
  test('a port that is taken is refused with advice, and everything is let go', async () => {
    const dir = folder();
    const world = await open(dir);
    const other = folder();
    await expect(start({ dataDir: other, port: world.control.port })).rejects.toMatchObject({ code: 'PortInUse' });
    await open(other);
  });
  test('several run in one process', async () => {
    const [a, b] = await Promise.all([open(folder()), open(folder())]);
    await a.call('POST', maps, { body: configMap('only-a') });
    expect((await b.call('GET', `${maps}/only-a`)).status).toBe(404);
  });
});

describe('the JavaScript client', () => {
  test('its informer equals the store after restarts, cut connections and compactions', async () => {
    const dir = folder();
    const limits = { storageLimits: { historyAgeMs: 0, historyCountMin: 20, historyCountMax: 40 } };
    let world = await open(dir, limits);
    const { port } = world.control;
    const config = new KubeConfig();
    config.loadFromString(world.control.kubeconfig());
    const api = config.makeApiClient(CoreV1Api);
    const informer = makeInformer<V1ConfigMap>(config, maps, () => api.listNamespacedConfigMap({ namespace: 'default' }));
    const seen = new Map<string, string>();
    const faults: string[] = [];
    const note = (type: string) => (object: V1ConfigMap): void => {
      const name = object.metadata?.name ?? '';
      const version = object.metadata?.resourceVersion ?? '';
      if (type === 'delete') { seen.delete(name); return; }
      if (seen.has(name) && Number(seen.get(name)) > Number(version)) faults.push(`${name}: ${seen.get(name)} then ${version}`);
      seen.set(name, version);
    };
    for (const type of ['add', 'update', 'delete'] as const) informer.on(type, note(type));
    let isStopped = false;
    informer.on('error', () => { setTimeout(() => { if (!isStopped) void informer.start().catch(() => undefined); }, 20); });
    await informer.start();
    let serial = 0;
    const churn = async (count: number): Promise<void> => {
      for (let index = 0; index < count; index++) {
        const name = `m-${serial++ % 12}`;
        const { status } = await world.call('PUT', `${maps}/${name}`, { body: configMap(name, { n: String(serial) }) });
        if (status === 404) await world.call('POST', maps, { body: configMap(name) });
        else if (serial % 5 === 0) await world.call('DELETE', `${maps}/${name}`);
      }
    };
    const rounds = Number(process.env['NETLOOM_SOAK'] ?? 0) > 0 ? 2_000 : 12;
    for (let round = 0; round < rounds; round++) {
      await churn(10);
      if (round % 2 === 0) { await close(world); world = await open(dir, { port, ...limits }); }
      await churn(round % 3 === 0 ? 60 : 5);
    }
    const wanted = async (): Promise<string> => ((await world.call('GET', maps)).json.items as { metadata: { name: string; resourceVersion: string } }[]).map((item) => `${item.metadata.name}@${item.metadata.resourceVersion}`).sort().join();
    const now = await wanted();
    await until(`the informer shows ${now}, not ${[...seen].map(([name, version]) => `${name}@${version}`).sort().join()}`, () => [...seen].map(([name, version]) => `${name}@${version}`).sort().join() === now, 20_000);
    isStopped = true;
    await informer.stop();
    expect(faults).toEqual([]);
  }, Number(process.env['NETLOOM_SOAK'] ?? 0) > 0 ? 1_200_000 : 60_000);
});
