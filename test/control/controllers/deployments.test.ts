// Deployments and ReplicaSets on a real control plane in process, with a stand-in for the node agents: scale, rolling
// update within its limits, Recreate, undo, pause, history, adoption, failed rollouts.

import { afterEach, beforeEach, expect, test } from 'vitest';
import { resources } from '../../../api/resources.ts';
import type { Pod } from '../../../api/types.ts';
import { limitsOf, nextOldReplicas, proportionalReplicas, templateHash } from '../../../control/controllers/workloads/rollout.ts';
import type { Deployment, ReplicaSet } from '../../../control/controllers/workloads/types.ts';
import { ControlWorld } from '../../lib/control-world.ts';
import { FakeAgent } from '../../lib/fake-agent.ts';

let world: ControlWorld;
let agent: FakeAgent;

beforeEach(async () => {
  world = await ControlWorld.start();
  agent = new FakeAgent(world);
  await world.node('n1');
  await world.node('n2');
});
afterEach(async () => { agent.stop(); await world.stop(); });

async function deploy(name: string, spec: Partial<NonNullable<Deployment['spec']>> = {}, image = 'v1'): Promise<Deployment> {
  return world.client.create<Deployment>(resources.deployments, 'default', {
    metadata: { name, namespace: 'default' },
    spec: { replicas: 3, selector: { matchLabels: { app: name } }, template: { metadata: { labels: { app: name } }, spec: { containers: [{ name: 'main', image }] } }, ...spec },
  });
}
const get = (name: string): Promise<Deployment> => world.client.get<Deployment>(resources.deployments, 'default', name);
const patch = (name: string, body: object): Promise<Deployment> => world.client.patch<Deployment>(resources.deployments, 'default', name, body, { type: 'strategic' });
const setImage = (name: string, image: string): Promise<Deployment> => patch(name, { spec: { template: { spec: { containers: [{ name: 'main', image }] } } } });
const sets = async (): Promise<ReplicaSet[]> => (await world.client.list<ReplicaSet>(resources.replicasets, 'default')).items;
const pods = async (): Promise<Pod[]> => (await world.client.list<Pod>(resources.pods, 'default')).items;
const isDone = async (name: string): Promise<Deployment | undefined> => {
  const found = await get(name);
  const { spec, status } = found;
  const wanted = spec?.replicas ?? 1;
  const progressing = status?.conditions?.find((each) => each.type === 'Progressing');
  return status?.observedGeneration === found.metadata.generation && (status?.updatedReplicas ?? 0) === wanted && (status?.replicas ?? 0) === wanted && (status?.availableReplicas ?? 0) === wanted && progressing?.reason === 'NewReplicaSetAvailable' ? found : undefined;
};
const done = (name: string): Promise<Deployment> => world.until(`${name} to be rolled out`, () => isDone(name));

test('a Deployment gets one ReplicaSet with its hash label, ready Pods on both nodes, and conditions that wait and rollout status read', async () => {
  await deploy('web', { replicas: 4 });
  const made = await done('web');
  const [set] = await sets();
  expect(set?.metadata.name).toBe(`web-${set?.metadata.labels?.['pod-template-hash']}`);
  expect(set?.metadata.ownerReferences?.[0]).toMatchObject({ kind: 'Deployment', name: 'web', controller: true });
  const own = await pods();
  expect(own).toHaveLength(4);
  expect(own.filter((pod) => pod.spec?.nodeName === 'n1')).toHaveLength(2);
  expect(own.every((pod) => pod.metadata.name.startsWith(`${set?.metadata.name}-`))).toBe(true);
  expect(made.metadata.annotations?.['deployment.kubernetes.io/revision']).toBe('1');
  expect(made.status?.conditions?.map(({ type, status, reason }) => `${type} ${status} ${reason}`).sort()).toEqual(['Available True MinimumReplicasAvailable', 'Progressing True NewReplicaSetAvailable']);
});

test('scaling up and down keeps the one set and ends at exactly the number asked for', async () => {
  await deploy('web');
  await done('web');
  for (const replicas of [7, 2, 0, 3]) {
    await world.client.patch(resources.deployments, 'default', 'web', { spec: { replicas } }, { type: 'merge', subresource: 'scale' });
    await done('web');
    await world.until('the Pods', async () => (await pods()).length === replicas);
  }
  expect(await sets()).toHaveLength(1);
});

test('a rolling update never has fewer available nor more Pods than its limits allow', async () => {
  await deploy('web', { replicas: 6, strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: 2, maxUnavailable: 1 } } });
  await done('web');
  const seen: { active: number; ready: number }[] = [];
  const unsubscribe = world.informers.pods.onChange(() => {
    const all = [...world.informers.pods.store.values()].filter((pod) => pod.metadata.deletionTimestamp === undefined);
    seen.push({ active: all.length, ready: all.filter((pod) => pod.status?.conditions?.some((each) => each.type === 'Ready' && each.status === 'True')).length });
  });
  await setImage('web', 'v2');
  const made = await done('web');
  unsubscribe();
  expect(Math.max(...seen.map(({ active }) => active))).toBeLessThanOrEqual(8);
  expect(Math.min(...seen.map(({ ready }) => ready))).toBeGreaterThanOrEqual(5);
  expect((await pods()).filter((pod) => pod.metadata.deletionTimestamp === undefined).every((pod) => pod.spec?.containers[0]?.image === 'v2')).toBe(true);
  expect(made.metadata.annotations?.['deployment.kubernetes.io/revision']).toBe('2');
  expect((await sets()).map((set) => set.spec?.replicas).sort()).toEqual([0, 6]);
});

test('a rollout whose new Pods never become ready stops at the surge, keeps the old ones, and undo ends it', async () => {
  await deploy('web', { replicas: 4 });
  await done('web');
  agent.isReady = (pod) => pod.spec?.containers[0]?.image !== 'broken';
  await setImage('web', 'broken');
  await world.until('the surge', async () => (await get('web')).status?.updatedReplicas === 2);
  await world.settled();
  expect((await get('web')).status).toMatchObject({ availableReplicas: 3, unavailableReplicas: 2, updatedReplicas: 2 });
  await setImage('web', 'v1');
  const made = await done('web');
  expect(made.metadata.annotations?.['deployment.kubernetes.io/revision']).toBe('3');
  const back = (await sets()).find((set) => set.spec?.replicas === 4);
  expect(back?.metadata.annotations).toMatchObject({ 'deployment.kubernetes.io/revision': '3', 'deployment.kubernetes.io/revision-history': '1' });
});

test('Recreate lets every old Pod go before a new one starts', async () => {
  await deploy('web', { replicas: 3, strategy: { type: 'Recreate' } });
  await done('web');
  const mixes: boolean[] = [];
  const unsubscribe = world.informers.pods.onChange(() => {
    const images = new Set([...world.informers.pods.store.values()].map((pod) => pod.spec?.containers[0]?.image));
    mixes.push(images.size > 1);
  });
  await setImage('web', 'v2');
  await done('web');
  unsubscribe();
  expect(mixes).not.toContain(true);
});

test('a paused Deployment takes no new template but still scales; resuming rolls it out', async () => {
  await deploy('web');
  await done('web');
  await patch('web', { spec: { paused: true } });
  await setImage('web', 'v2');
  await patch('web', { spec: { replicas: 5 } });
  await world.until('five old Pods', async () => (await pods()).length === 5);
  await world.settled();
  expect(await sets()).toHaveLength(1);
  expect((await get('web')).status?.conditions?.find((each) => each.type === 'Progressing')?.reason).toBe('DeploymentPaused');
  await patch('web', { spec: { paused: false } });
  await done('web');
  expect((await pods()).every((pod) => pod.spec?.containers[0]?.image === 'v2')).toBe(true);
});

test('history keeps as many old sets as revisionHistoryLimit says', async () => {
  await deploy('web', { replicas: 1, revisionHistoryLimit: 2 });
  await done('web');
  for (const image of ['v2', 'v3', 'v4', 'v5']) { await setImage('web', image); await done('web'); }
  await world.until('old sets to go', async () => (await sets()).length === 3);
  expect((await sets()).map((set) => set.metadata.annotations?.['deployment.kubernetes.io/revision']).sort()).toEqual(['3', '4', '5']);
});

test('a ReplicaSet replaces a deleted Pod, adopts a matching one and lets go of one that no longer matches', async () => {
  await world.client.create<ReplicaSet>(resources.replicasets, 'default', { metadata: { name: 'rs', namespace: 'default' }, spec: { replicas: 2, selector: { matchLabels: { app: 'rs' } }, template: { metadata: { labels: { app: 'rs' } }, spec: { containers: [{ name: 'main', image: 'v1' }] } } } });
  await world.until('two ready', async () => (await world.client.get<ReplicaSet>(resources.replicasets, 'default', 'rs')).status?.readyReplicas === 2);
  const [first, second] = await pods();
  await world.client.delete(resources.pods, 'default', first?.metadata.name ?? '');
  await world.until('a new Pod', async () => { const now = await pods(); return now.length === 2 && now.every((pod) => pod.metadata.uid !== first?.metadata.uid); });
  await world.client.patch(resources.pods, 'default', second?.metadata.name ?? '', { metadata: { labels: { app: 'other' } } }, { type: 'merge' });
  await world.until('a third Pod', async () => (await pods()).length === 3);
  await world.settled();
  expect((await world.client.get<Pod>(resources.pods, 'default', second?.metadata.name ?? '')).metadata.ownerReferences).toBeUndefined();
  await world.pod('stray', { labels: { app: 'rs' } });
  await world.until('one Pod too many to go', async () => (await pods()).filter((pod) => pod.metadata.labels?.['app'] === 'rs').length === 2);
});

test('after the controllers restart in the middle of a rollout it ends the same', async () => {
  await deploy('web', { replicas: 5 });
  await done('web');
  await setImage('web', 'v2');
  await world.restartControllers();
  await done('web');
  await setImage('web', 'v3');
  await world.until('the rollout to begin', async () => (await sets()).length === 3);
  await world.restartControllers();
  await done('web');
  expect((await pods()).map((pod) => pod.spec?.containers[0]?.image)).toEqual(['v3', 'v3', 'v3', 'v3', 'v3']);
});

test('limits: surge rounds up, unavailability down, never both zero', () => {
  const of = (replicas: number, maxSurge: number | string, maxUnavailable: number | string): object => limitsOf({ metadata: { name: 'x' }, spec: { replicas, strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge, maxUnavailable } } } });
  expect(of(10, '25%', '25%')).toEqual({ maxSurge: 3, maxUnavailable: 2 });
  expect(of(3, '25%', '25%')).toEqual({ maxSurge: 1, maxUnavailable: 0 });
  expect(of(3, 0, 0)).toEqual({ maxSurge: 0, maxUnavailable: 1 });
  expect(of(2, '100%', '100%')).toEqual({ maxSurge: 2, maxUnavailable: 2 });
});

test('scaling in the middle of a rollout is shared out in proportion and adds up', () => {
  const set = (name: string, replicas: number, max = 13): ReplicaSet => ({ metadata: { name, annotations: { 'deployment.kubernetes.io/max-replicas': String(max) } }, spec: { replicas }, status: { replicas, availableReplicas: replicas } });
  const deployment = (replicas: number): Deployment => ({ metadata: { name: 'x' }, spec: { replicas, strategy: { rollingUpdate: { maxSurge: 3, maxUnavailable: 2 } } } });
  const [a, b] = [set('a', 8), set('b', 5)];
  const sizes = [...proportionalReplicas(deployment(15), [a, b]).values()];
  expect(sizes.reduce((x, y) => x + y, 0)).toBe(18);
  expect(sizes).toEqual([11, 7]);
  expect([...proportionalReplicas(deployment(0), [a, b]).values()]).toEqual([0, 0]);
});

test('old sets lose first what is not available, then what availability can spare', () => {
  const set = (name: string, replicas: number, available: number): ReplicaSet => ({ metadata: { name }, spec: { replicas }, status: { replicas, availableReplicas: available } });
  const deployment: Deployment = { metadata: { name: 'x' }, spec: { replicas: 10, strategy: { rollingUpdate: { maxSurge: 0, maxUnavailable: 2 } } } };
  const [old, fresh] = [set('old', 8, 8), set('new', 2, 0)];
  expect([...nextOldReplicas(deployment, [old], fresh).values()]).toEqual([8]);
  expect([...nextOldReplicas(deployment, [set('old', 10, 6)], set('new', 0, 0)).values()]).toEqual([8]);
});

test('the template hash does not depend on field order and changes with a collision', () => {
  const a = templateHash({ metadata: { labels: { x: '1', y: '2' } }, spec: { containers: [{ name: 'c', image: 'i' }] } }, 0);
  expect(templateHash({ spec: { containers: [{ image: 'i', name: 'c' }] }, metadata: { labels: { y: '2', x: '1' } } }, 0)).toBe(a);
  expect(templateHash({ metadata: { labels: { x: '1', y: '2' } }, spec: { containers: [{ name: 'c', image: 'i' }] } }, 1)).not.toBe(a);
});
