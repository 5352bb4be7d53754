// Garbage collection and namespace deletion on a real control plane in process.

import { afterEach, beforeEach, expect, test } from 'vitest';
import { NetloomError } from '../../../api/errors.ts';
import { resources, type ResourceRef } from '../../../api/resources.ts';
import type { ConfigMap, KubeObject, Namespace, OwnerReference, Pod } from '../../../api/types.ts';
import { ControlWorld } from '../../lib/control-world.ts';
import { FakeAgent } from '../../lib/fake-agent.ts';

let world: ControlWorld;
beforeEach(async () => { world = await ControlWorld.start({ controllers: { caPem: 'PEM' } }); });
afterEach(async () => { await world.stop(); });

const { configmaps, namespaces, secrets } = resources;
async function map(name: string, owners: OwnerReference[] = [], more: Partial<ConfigMap['metadata']> = {}): Promise<ConfigMap> {
  return world.client.create<ConfigMap>(configmaps, 'default', { metadata: { name, namespace: 'default', ...(owners.length === 0 ? {} : { ownerReferences: owners }), ...more } });
}
const owner = (object: KubeObject, isBlocking = false, kind = 'ConfigMap'): OwnerReference => ({ apiVersion: 'v1', kind, name: object.metadata.name, uid: object.metadata.uid ?? '', ...(isBlocking ? { blockOwnerDeletion: true } : {}) });
const names = async (resource: ResourceRef = configmaps, namespace = 'default'): Promise<string[]> => (await world.client.list(resource, namespace)).items.map((item) => item.metadata.name).filter((name) => name !== 'kube-root-ca.crt');

test('background: the owner goes at once, its dependents and theirs follow', async () => {
  const a = await map('a');
  const b = await map('b', [owner(a)]);
  await map('c', [owner(b)]);
  await world.client.create(secrets, 'default', { metadata: { name: 's', namespace: 'default', ownerReferences: [owner(a)] } });
  await map('other');
  await world.client.delete(configmaps, 'default', 'a', { propagationPolicy: 'Background' });
  await world.until('all three to go', async () => JSON.stringify(await names()) === '["other"]' && (await names(secrets)).length === 0);
});

test('an object with a living second owner only loses the reference', async () => {
  const [a, b] = [await map('a'), await map('b')];
  await map('c', [owner(a), owner(b)]);
  await world.client.delete(configmaps, 'default', 'a', { propagationPolicy: 'Background' });
  await world.until('the reference to go', async () => (await world.client.get<ConfigMap>(configmaps, 'default', 'c')).metadata.ownerReferences?.length === 1);
  expect(await names()).toEqual(['b', 'c']);
});

test('foreground: the owner stays until the dependents that block it are gone', async () => {
  const a = await map('a');
  const blocking = await map('blocking', [owner(a, true)], { finalizers: ['example.com/hold'] });
  await map('free', [owner(a)]);
  await world.client.delete(configmaps, 'default', 'a', { propagationPolicy: 'Foreground' });
  await world.until('the free one to go', async () => !(await names()).includes('free'));
  await world.settled();
  const waiting = await world.client.get<ConfigMap>(configmaps, 'default', 'a');
  expect(waiting.metadata.finalizers).toEqual(['foregroundDeletion']);
  await world.client.patch(configmaps, 'default', blocking.metadata.name, { metadata: { finalizers: null } }, { type: 'merge' });
  await world.until('both to go', async () => (await names()).length === 0);
});

test('orphan: dependents stay and lose their reference before the owner goes', async () => {
  const a = await map('a');
  await map('b', [owner(a)]);
  await world.client.delete(configmaps, 'default', 'a', { propagationPolicy: 'Orphan' });
  await world.until('the owner to go', async () => !(await names()).includes('a'));
  await world.settled();
  expect((await world.client.get<ConfigMap>(configmaps, 'default', 'b')).metadata.ownerReferences ?? []).toEqual([]);
});

test('an object made for an owner that is already gone, or that is another of the same name, is removed', async () => {
  const a = await map('a');
  await map('same-name', [{ ...owner(a), uid: '00000000-0000-4000-8000-000000000000' }]);
  await map('good', [owner(a)]);
  await world.until('the wrong one to go', async () => !(await names()).includes('same-name'));
  expect(await names()).toEqual(['a', 'good']);
});

test('an owner of a kind that nobody serves is left alone, with its dependents', async () => {
  await map('b', [{ apiVersion: 'example.com/v1', kind: 'Thing', name: 'x', uid: '00000000-0000-4000-8000-000000000001' }]);
  await world.settled();
  expect(await names()).toEqual(['b']);
});

test('garbage made while no controller ran is found at the next start', async () => {
  const a = await map('a');
  await map('b', [owner(a)]);
  await world.settled();
  world.controllers.stop();
  await world.client.delete(configmaps, 'default', 'a', { propagationPolicy: 'Background' });
  await world.restartControllers();
  await world.until('b to go', async () => (await names()).length === 0);
});

test('a new namespace has the default ServiceAccount and the authority; deleted ones come back', async () => {
  await world.client.create<Namespace>(namespaces, undefined, { metadata: { name: 'shop' } });
  await world.until('both', async () => (await world.client.list(resources.serviceaccounts, 'shop')).items.length === 1 && (await world.client.list(configmaps, 'shop')).items.length === 1);
  expect((await world.client.get<ConfigMap>(configmaps, 'shop', 'kube-root-ca.crt')).data).toEqual({ 'ca.crt': 'PEM' });
  await world.client.delete(resources.serviceaccounts, 'shop', 'default');
  await world.client.delete(configmaps, 'shop', 'kube-root-ca.crt');
  await world.until('both again', async () => (await world.client.list(resources.serviceaccounts, 'shop')).items.length === 1 && (await world.client.list(configmaps, 'shop')).items.length === 1);
});

test('deleting a namespace empties it of every kind, refuses new content meanwhile, and lets it go', async () => {
  const agent = new FakeAgent(world);
  await world.node('n1');
  await world.client.create<Namespace>(namespaces, undefined, { metadata: { name: 'shop' } });
  await world.client.create(resources.deployments, 'shop', { metadata: { name: 'web', namespace: 'shop' }, spec: { replicas: 3, selector: { matchLabels: { a: 'b' } }, template: { metadata: { labels: { a: 'b' } }, spec: { containers: [{ name: 'c', image: 'i' }] } } } } as KubeObject);
  await world.client.create(resources.services, 'shop', { metadata: { name: 'web', namespace: 'shop' }, spec: { selector: { a: 'b' }, ports: [{ port: 80 }] } } as KubeObject);
  await world.until('three Pods', async () => (await world.client.list<Pod>(resources.pods, 'shop')).items.filter((pod) => pod.status?.podIP !== undefined).length === 3);
  await world.client.create(configmaps, 'shop', { metadata: { name: 'held', namespace: 'shop', finalizers: ['example.com/hold'] } } as KubeObject);
  await world.client.delete(namespaces, undefined, 'shop');
  expect((await world.client.get<Namespace>(namespaces, undefined, 'shop')).status?.phase).toBe('Terminating');
  const refusal = await world.client.create(configmaps, 'shop', { metadata: { name: 'late', namespace: 'shop' } } as KubeObject).catch((error: unknown) => error);
  expect(refusal).toBeInstanceOf(NetloomError);
  expect((refusal as NetloomError).details?.causes?.[0]?.reason).toBe('NamespaceTerminating');
  await world.until('the condition', async () => (await world.client.get<Namespace>(namespaces, undefined, 'shop')).status?.conditions?.some((each) => each.type === 'NamespaceContentRemaining' && (each.message ?? '').includes('configmaps')));
  await world.client.patch(configmaps, 'shop', 'held', { metadata: { finalizers: null } }, { type: 'merge' });
  await world.gone(namespaces, undefined, 'shop');
  for (const resource of [resources.pods, resources.services, resources.endpointslices, resources.replicasets, resources.deployments, configmaps]) expect((await world.client.list(resource, 'shop')).items).toEqual([]);
  agent.stop();
});

test('the namespaces that the control plane needs cannot be deleted', async () => {
  for (const name of ['default', 'kube-system', 'kube-public']) await expect(world.client.delete(namespaces, undefined, name)).rejects.toThrow(`namespaces "${name}" is forbidden: this namespace may not be deleted`);
});

test('content in a namespace that does not exist is a 404 that names it', async () => {
  await expect(world.client.create(configmaps, 'nope', { metadata: { name: 'x', namespace: 'nope' } } as KubeObject)).rejects.toThrow('namespaces "nope" not found');
});
