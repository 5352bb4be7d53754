// Node life cycle, taints and eviction, podCIDRs and the scheduler, on a real control plane; the controllers' time is
// moved by hand.

import { afterEach, beforeEach, expect, test } from 'vitest';
import { resources } from '../../../api/resources.ts';
import type { Condition, Event, Node, Pod, PodSpec } from '../../../api/types.ts';
import { partOf } from '../../../control/controllers/nodes/pod-cidrs.ts';
import { parseCIDR, type Cidr } from '../../../api/address.ts';
import { ControlWorld } from '../../lib/control-world.ts';
import { VirtualClock } from '../../lib/virtual-clock.ts';

let world: ControlWorld;
let clock: VirtualClock;
beforeEach(async () => {
  clock = new VirtualClock(Date.parse('2026-01-01T00:00:00Z'));
  world = await ControlWorld.start({ controllerClock: clock, controllers: { podCIDRs: ['10.244.0.0/22'], serviceCIDRs: ['10.96.0.0/16'] } });
});
afterEach(async () => { await world.stop(); });

const { nodes, pods } = resources;
const node = (name: string): Promise<Node> => world.client.get<Node>(nodes, undefined, name);
const pod = (name: string): Promise<Pod> => world.client.get<Pod>(pods, 'default', name);
const condition = (object: { status?: { conditions?: Condition[] } }, type = 'Ready'): Condition | undefined => object.status?.conditions?.find((each) => each.type === type);
const taints = async (name: string): Promise<string[]> => ((await node(name)).spec?.taints ?? []).map((taint) => `${taint.key.replace('node.kubernetes.io/', '')}:${taint.effect}`).sort();
const isReadyIs = (name: string, status: string): Promise<boolean> => world.until(`${name} ${status}`, async () => condition(await node(name))?.status === status);
const events = async (reason: string): Promise<Event[]> => (await world.client.list<Event>(resources.events)).items.filter((event) => event.reason === reason);
/** Moves time and lets the controllers work. */
async function pass(ms: number): Promise<void> { await clock.advance(ms); await world.settled(); }
/** As `pass`, while n2 goes on renewing its Lease. */
async function live(ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= 30_000) { await world.renew('n2'); await world.settled(); await pass(Math.min(left, 30_000)); }
}

test('a node whose Lease is not renewed becomes Unknown after the grace time, is tainted, and its Pods are not ready; all of it is taken back when it returns', async () => {
  await world.node('n1');
  await world.node('n2');
  await world.pod('p1', { node: 'n1', ip: '10.244.0.1', labels: { app: 'web' } });
  await world.pod('p2', { node: 'n2', ip: '10.244.1.1', labels: { app: 'web' } });
  await world.client.create(resources.services, 'default', { metadata: { name: 'web', namespace: 'default' }, spec: { selector: { app: 'web' }, ports: [{ port: 80 }] } } as never);
  await world.settled();
  for (let round = 0; round < 4; round++) { await world.renew('n2'); await pass(9_900); }
  expect(condition(await node('n1'))?.status).toBe('True');
  await world.renew('n2');
  await pass(1_000);
  await isReadyIs('n1', 'Unknown');
  await world.settled();
  expect(condition(await node('n1'))?.reason).toBe('NodeStatusUnknown');
  expect(await taints('n1')).toEqual(['unreachable:NoExecute', 'unreachable:NoSchedule']);
  expect([condition(await pod('p1'))?.status, condition(await pod('p2'))?.status]).toEqual(['False', 'True']);
  expect(condition(await node('n2'))?.status).toBe('True');
  const ready = world.informers.endpointSlices.store.byIndex('managedServiceSlices', 'default/web').flatMap((slice) => slice.endpoints ?? []).map((endpoint) => [endpoint.targetRef?.name, endpoint.conditions?.ready]).sort();
  expect(ready).toEqual([['p1', false], ['p2', true]]);
  expect(await events('NodeNotReady')).toHaveLength(1);
  await world.renew('n1');
  await isReadyIs('n1', 'True');
  await world.until('p1 ready again', async () => condition(await pod('p1'))?.status === 'True');
  expect(await taints('n1')).toEqual([]);
});

test('the mark of a lost node is no sign of life, and a machine that slept does not take its nodes for lost', async () => {
  await world.node('n1');
  await world.settled();
  await pass(41_000);
  await isReadyIs('n1', 'Unknown');
  await pass(300_000);
  expect(condition(await node('n1'))?.status).toBe('Unknown');
  await world.renew('n1');
  await isReadyIs('n1', 'True');
  await world.settled();
  clock.jump(600_000);
  await pass(10);
  expect(condition(await node('n1'))?.status).toBe('True');
  await pass(40_500);
  await isReadyIs('n1', 'Unknown');
});

test('Pods are evicted when their toleration of a lost node ends: 300 s by default, sooner or never as they say', async () => {
  await world.node('n1');
  await world.node('n2');
  const toleration = (seconds?: number): PodSpec['tolerations'] => ['not-ready', 'unreachable'].map((key) => ({ key: `node.kubernetes.io/${key}`, operator: 'Exists', effect: 'NoExecute', ...(seconds === undefined ? {} : { tolerationSeconds: seconds }) }));
  await world.pod('default', { node: 'n1', ip: '10.244.0.1' });
  await world.pod('soon', { node: 'n1', ip: '10.244.0.2', spec: { tolerations: toleration(30) ?? [] } });
  await world.pod('never', { node: 'n1', ip: '10.244.0.3', spec: { tolerations: toleration() ?? [] } });
  await world.settled();
  await live(41_000);
  await isReadyIs('n1', 'Unknown');
  await world.settled();
  const leaving = async (): Promise<string[]> => (await world.client.list<Pod>(pods, 'default')).items.filter((each) => each.metadata.deletionTimestamp !== undefined).map((each) => each.metadata.name);
  await live(20_000);
  expect(await leaving()).toEqual([]);
  await live(15_000);
  await world.until('soon to go', async () => (await leaving()).includes('soon'));
  await live(200_000);
  expect(await leaving()).toEqual(['soon']);
  await live(70_000);
  await world.until('default to go', async () => (await leaving()).includes('default'));
  await live(1_000_000);
  expect(await leaving()).toEqual(['default', 'soon']);
});

test('when every node is lost nobody is evicted, and after the first is back tolerations run anew', async () => {
  await world.node('n1');
  await world.node('n2');
  await world.pod('p1', { node: 'n1', ip: '10.244.0.1' });
  await world.settled();
  await pass(41_000);
  await isReadyIs('n1', 'Unknown');
  await isReadyIs('n2', 'Unknown');
  await pass(600_000);
  expect((await pod('p1')).metadata.deletionTimestamp).toBeUndefined();
  await world.renew('n2');
  await isReadyIs('n2', 'True');
  await world.settled();
  await live(250_000);
  expect((await pod('p1')).metadata.deletionTimestamp).toBeUndefined();
  await live(60_000);
  await world.until('p1 to go', async () => (await pod('p1')).metadata.deletionTimestamp !== undefined);
});

test('a node that comes back in time keeps its Pods', async () => {
  await world.node('n1');
  await world.pod('p1', { node: 'n1', ip: '10.244.0.1' });
  await world.settled();
  await pass(41_000);
  await isReadyIs('n1', 'Unknown');
  await pass(100_000);
  await world.renew('n1');
  await isReadyIs('n1', 'True');
  await world.settled();
  for (let round = 0; round < 20; round++) { await world.renew('n1'); await pass(20_000); }
  expect((await pod('p1')).metadata.deletionTimestamp).toBeUndefined();
});

test('Pods of a node that went down together with the control plane are not evicted at its next start', async () => {
  await world.node('n1');
  await world.pod('p1', { node: 'n1', ip: '10.244.0.1' });
  await world.settled();
  await pass(41_000);
  await isReadyIs('n1', 'Unknown');
  await world.settled();
  world.controllers.stop();
  clock.jump(86_400_000);
  await world.restartControllers();
  await pass(200_000);
  expect((await pod('p1')).metadata.deletionTimestamp).toBeUndefined();
  await world.renew('n1');
  await isReadyIs('n1', 'True');
  await pass(20_000);
  expect((await pod('p1')).metadata.deletionTimestamp).toBeUndefined();
});

test('a NoExecute taint set by hand drives out at once what does not tolerate it', async () => {
  await world.node('n1');
  await world.pod('p1', { node: 'n1', ip: '10.244.0.1' });
  await world.pod('p2', { node: 'n1', ip: '10.244.0.2', spec: { tolerations: [{ key: 'drain', operator: 'Exists' }] } });
  await world.settled();
  await world.client.patch(nodes, undefined, 'n1', { spec: { taints: [{ key: 'drain', effect: 'NoExecute' }] } }, { type: 'merge' });
  await world.until('p1 to go', async () => (await pod('p1')).metadata.deletionTimestamp !== undefined);
  await world.settled();
  expect((await pod('p2')).metadata.deletionTimestamp).toBeUndefined();
});

test('Pods of a deleted Node are removed after the grace time, unless the Node comes back under its name', async () => {
  await world.node('n1');
  await world.pod('p1', { node: 'n1', ip: '10.244.0.1' });
  await world.settled();
  await world.client.delete(nodes, undefined, 'n1');
  await pass(20_000);
  expect((await pod('p1')).metadata.deletionTimestamp).toBeUndefined();
  await world.node('n1');
  await pass(30_000);
  expect((await pod('p1')).metadata.deletionTimestamp).toBeUndefined();
  await world.client.delete(nodes, undefined, 'n1');
  await world.settled();
  await pass(41_000);
  await world.gone(pods, 'default', 'p1');
});

test('every node gets its own part of the Pod range; one that brings its own keeps it; a used-up range is an Event', async () => {
  await world.client.create<Node>(nodes, undefined, { metadata: { name: 'own' }, spec: { podCIDR: '10.244.1.0/24', podCIDRs: ['10.244.1.0/24'] } });
  for (const name of ['a', 'b', 'c', 'd']) { await world.node(name); await world.settled(); }
  const cidrs = await Promise.all(['own', 'a', 'b', 'c', 'd'].map(async (name) => (await node(name)).spec?.podCIDR));
  expect(cidrs).toEqual(['10.244.1.0/24', '10.244.0.0/24', '10.244.2.0/24', '10.244.3.0/24', undefined]);
  await world.until('the Event', async () => (await events('CIDRNotAvailable')).length === 1);
  expect(partOf(parseCIDR('fd00:10:244::/48') as Cidr, 64, 258)).toBe('fd00:10:244:102::/64');
});

test('cordoning a node taints it and keeps new Pods away; uncordoning lets them come', async () => {
  await world.node('n1');
  await world.client.patch(nodes, undefined, 'n1', { spec: { unschedulable: true } }, { type: 'merge' });
  await world.until('the taint', async () => (await taints('n1')).includes('unschedulable:NoSchedule'));
  await world.pod('p1');
  await world.settled();
  expect((await pod('p1')).spec?.nodeName).toBeUndefined();
  expect(condition(await pod('p1'), 'PodScheduled')).toMatchObject({ status: 'False', reason: 'Unschedulable', message: '0/1 nodes are available: 1 node(s) were unschedulable.' });
  await world.client.patch(nodes, undefined, 'n1', { spec: { unschedulable: false } }, { type: 'merge' });
  await world.until('p1 to be bound', async () => (await pod('p1')).spec?.nodeName === 'n1');
  expect(condition(await pod('p1'), 'PodScheduled')?.status).toBe('True');
});

test('the scheduler spreads by number of Pods, and honours nodeSelector, affinity, taints and host ports', async () => {
  await world.node('n1', { labels: { disk: 'ssd' } });
  await world.node('n2', { labels: { disk: 'hdd' } });
  await world.node('n3', { taints: [{ key: 'gpu', value: 'yes', effect: 'NoSchedule' }] });
  await world.settled();
  const placed = async (name: string, spec: Partial<PodSpec> = {}): Promise<string> => {
    await world.pod(name, { spec });
    return world.until(`${name} to be bound`, async () => (await pod(name)).spec?.nodeName);
  };
  const homes: string[] = [];
  for (let index = 0; index < 6; index++) homes.push(await placed(`p${index}`));
  expect(homes.filter((home) => home === 'n1')).toHaveLength(3);
  expect(homes.filter((home) => home === 'n2')).toHaveLength(3);
  expect(await placed('ssd', { nodeSelector: { disk: 'ssd' } })).toBe('n1');
  expect(await placed('gpu', { tolerations: [{ key: 'gpu', operator: 'Equal', value: 'yes', effect: 'NoSchedule' }] })).toBe('n3');
  const affinity = { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [{ matchExpressions: [{ key: 'disk', operator: 'NotIn', values: ['ssd'] }, { key: 'disk', operator: 'Exists' }] }] } } };
  expect(await placed('affine', { affinity } as Partial<PodSpec>)).toBe('n2');
  const hostPort = { containers: [{ name: 'c', image: 'i', ports: [{ containerPort: 80, hostPort: 8080 }] }] };
  expect([await placed('h1', hostPort), await placed('h2', hostPort)].sort()).toEqual(['n1', 'n2']);
  await world.pod('h3', { spec: hostPort });
  await world.settled();
  expect(condition(await pod('h3'), 'PodScheduled')?.message).toBe("0/3 nodes are available: 1 node(s) had untolerated taint {gpu: yes}, 2 node(s) didn't have free ports for the requested pod ports.");
  expect((await events('FailedScheduling'))[0]?.involvedObject.name).toBe('h3');
  await world.client.delete(pods, 'default', 'h1', { gracePeriodSeconds: 0 });
  await world.until('h3 to be bound', async () => (await pod('h3')).spec?.nodeName !== undefined);
});

test('a Pod waits while no node is ready and is bound when one registers', async () => {
  await world.pod('p1');
  await world.settled();
  expect(condition(await pod('p1'), 'PodScheduled')?.message).toBe('0/0 nodes are available: no nodes are registered.');
  await world.node('n1');
  await world.until('p1 to be bound', async () => (await pod('p1')).spec?.nodeName === 'n1');
});
