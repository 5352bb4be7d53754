// Load balancer addresses, bootstrap objects, Events, sweeps and the admission chain, through the API of a running
// control plane.

import { Registry } from 'prom-client';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ApiClient } from '../../../api/client.ts';
import { NetloomError } from '../../../api/errors.ts';
import { silentLog } from '../../../api/log.ts';
import { resources, type ResourceRef } from '../../../api/resources.ts';
import type { EndpointSlice, Event, Ingress, KubeObject, Namespace, Pod, Secret, Service, ServiceSpec } from '../../../api/types.ts';
import { publishApiServer, withdrawApiServer } from '../../../control/controllers/bootstrap/endpoints.ts';
import { EventRecorder } from '../../../control/controllers/events.ts';
import { AddressPool } from '../../../control/controllers/loadbalancer/address-pool.ts';
import { openStorage } from '../../../control/storage/open.ts';
import { start } from '../../../control/start.ts';
import { Sweeps } from '../../../control/sweeps.ts';
import { ControlWorld } from '../../lib/control-world.ts';
import { VirtualClock } from '../../lib/virtual-clock.ts';

let world: ControlWorld;
beforeEach(async () => { world = await ControlWorld.start({ controllers: { loadBalancerPool: ['10.9.0.1-10.9.0.2'] } }); });
afterEach(async () => { await world.stop(); });

const { services, endpointslices, events } = resources;
async function make(name: string, spec: Partial<ServiceSpec> = {}, metadata: Partial<Service['metadata']> = {}): Promise<Service> {
  return world.client.create<Service>(services, 'default', { metadata: { name, namespace: 'default', ...metadata }, spec: { type: 'LoadBalancer', ports: [{ port: 80 }], ...spec } });
}
const get = (name: string): Promise<Service> => world.client.get<Service>(services, 'default', name);
const ips = async (name: string): Promise<string[]> => ((await get(name)).status?.loadBalancer?.ingress ?? []).map(({ ip, ipMode }) => `${ip} ${ipMode}`);
const refusal = async (task: Promise<unknown>): Promise<NetloomError> => {
  const error = await task.then(() => undefined, (failure: unknown) => failure);
  expect(error).toBeInstanceOf(NetloomError);
  return error as NetloomError;
};

test('a LoadBalancer Service gets an address, keeps it over updates and restarts, and gives it back', async () => {
  await make('a');
  await world.settled();
  expect(await ips('a')).toEqual(['10.9.0.1 VIP']);
  await world.client.patch(services, 'default', 'a', { spec: { ports: [{ port: 81 }] } }, { type: 'merge' });
  await world.restartControllers();
  await make('b');
  await world.settled();
  expect([await ips('a'), await ips('b')]).toEqual([['10.9.0.1 VIP'], ['10.9.0.2 VIP']]);
  await world.client.patch(services, 'default', 'a', { spec: { type: 'ClusterIP' } }, { type: 'merge' });
  await world.settled();
  expect((await get('a')).status).toEqual({ loadBalancer: {} });
  await make('c');
  await world.settled();
  expect(await ips('c')).toEqual(['10.9.0.1 VIP']);
});

test('a used-up pool is shared by Services whose ports differ; others wait with an Event until an address is free', async () => {
  for (const name of ['a', 'b']) await make(name);
  await world.settled();
  await make('other', { ports: [{ port: 443 }] });
  await make('waits');
  await world.settled();
  expect((await ips('other'))[0]).toMatch(/^10\.9\.0\.[12] VIP$/);
  expect(await ips('waits')).toEqual([]);
  await world.until('the Event', async () => (await world.client.list<Event>(events)).items.find((event) => event.reason === 'AllocationFailed' && (event.message ?? '').includes('used up')));
  await world.client.delete(services, 'default', 'a');
  await world.until('an address', async () => (await ips('waits')).length === 1);
});

test('loadBalancerIP and the annotation ask for an address; one outside the pool is refused with an Event; other classes are left alone', async () => {
  await make('asked', { loadBalancerIP: '10.9.0.2' });
  await make('annotated', {}, { annotations: { 'netloom.dev/load-balancer-ips': '10.9.0.1' } });
  await make('outside', { loadBalancerIP: '192.0.2.1' });
  await make('foreign', { loadBalancerClass: 'example.com/lb' });
  await make('mine', { loadBalancerClass: 'netloom.dev/pool', ports: [{ port: 8443 }] });
  await world.settled();
  expect([await ips('asked'), await ips('annotated'), await ips('outside'), await ips('foreign')]).toEqual([['10.9.0.2 VIP'], ['10.9.0.1 VIP'], [], []]);
  expect(await ips('mine')).toHaveLength(1);
});

test('pool entries: addresses, ranges and CIDRs of both families; nonsense is refused', () => {
  const all = (entry: string, family: 'IPv4' | 'IPv6' = 'IPv4'): string[] => {
    const pool = new AddressPool([entry]);
    const found: string[] = [];
    for (let ip = pool.pick(family, `k${found.length}`, new Set(['TCP/80'])); ip !== undefined && found.length < 10; ip = pool.pick(family, `k${found.length}`, new Set(['TCP/80']))) { pool.hold(ip, `k${found.length}`, new Set(['TCP/80'])); found.push(ip); }
    return found;
  };
  expect(all('10.0.0.0/29')).toEqual(['10.0.0.1', '10.0.0.2', '10.0.0.3', '10.0.0.4', '10.0.0.5', '10.0.0.6']);
  expect(all('10.0.0.9')).toEqual(['10.0.0.9']);
  expect(all('10.0.0.254-10.0.1.1')).toEqual(['10.0.0.254', '10.0.0.255', '10.0.1.0', '10.0.1.1']);
  expect(all('fd00::1-fd00::2', 'IPv6')).toEqual(['fd00::1', 'fd00::2']);
  for (const bad of ['x', '10.0.0.9-10.0.0.1', '10.0.0.1-fd00::1', '10.0.0.0/33']) expect(() => new AddressPool([bad])).toThrow(/is not an address, range or CIDR/);
});

test('from the first second: namespaces, API and DNS Services at their addresses, IngressClass, roles', async () => {
  expect((await world.client.list<Namespace>(resources.namespaces)).items.map((each) => each.metadata.name)).toEqual(['default', 'kube-node-lease', 'kube-public', 'kube-system']);
  expect((await get('kubernetes')).spec).toMatchObject({ clusterIP: '10.96.0.1', ports: [{ name: 'https', port: 443, targetPort: world.plane.port }] });
  expect((await world.client.get<Service>(services, 'kube-system', 'kube-dns')).spec).toMatchObject({ clusterIP: '10.96.0.10', ports: [{ name: 'dns', protocol: 'UDP', port: 53 }, { name: 'dns-tcp', protocol: 'TCP', port: 53 }] });
  expect((await world.client.get<EndpointSlice>(endpointslices, 'default', 'kubernetes')).endpoints?.[0]?.addresses).toEqual(['127.0.0.1']);
  const ingress = await world.client.create<Ingress>(resources.ingresses, 'default', { metadata: { name: 'web', namespace: 'default' }, spec: { defaultBackend: { service: { name: 'web', port: { number: 80 } } } } });
  expect(ingress.spec?.ingressClassName).toBe('netloom');
  const roles: ResourceRef = { group: 'rbac.authorization.k8s.io', version: 'v1', resource: 'clusterroles', kind: 'ClusterRole', isNamespaced: false };
  const names = (await world.client.list(roles)).items.map((each) => each.metadata.name);
  for (const name of ['cluster-admin', 'admin', 'edit', 'view', 'system:node']) expect(names).toContain(name);
  const edit = await world.client.get<KubeObject & { rules: { resources?: string[]; verbs: string[] }[] }>(roles, undefined, 'edit');
  expect(edit.rules.filter((rule) => rule.resources?.some((each) => each === 'endpoints' || each === 'endpointslices')).every((rule) => !rule.verbs.includes('create'))).toBe(true);
});

test('several API servers stand behind default/kubernetes while their Leases live, whatever their ports', async () => {
  const clock = new VirtualClock(Date.parse('2027-01-01T00:00:00Z'));
  const list = async (): Promise<string[]> => (await world.client.list<EndpointSlice>(endpointslices, 'default', { labelSelector: 'kubernetes.io/service-name=kubernetes' })).items.map((slice) => `${slice.metadata.name} ${(slice.endpoints ?? []).map((each) => each.addresses[0]).join()} ${slice.ports?.[0]?.port}`);
  const servers = [{ identity: 'a', address: '192.0.2.1', port: 6443 }, { identity: 'b', address: '192.0.2.2', port: 6443 }, { identity: 'c', address: '192.0.2.2', port: 7443 }];
  await world.client.delete(resources.leases, 'kube-system', 'apiserver-single');
  for (const server of servers) await publishApiServer(world.client, clock, server);
  for (const server of servers) await publishApiServer(world.client, clock, server);
  expect(await list()).toEqual(['kubernetes 192.0.2.1,192.0.2.2 6443', 'kubernetes-7443 192.0.2.2 7443']);
  await withdrawApiServer(world.client, { identity: 'c', address: '192.0.2.2', port: 7443 });
  await publishApiServer(world.client, clock, { identity: 'a', address: '192.0.2.1', port: 6443 });
  expect(await list()).toEqual(['kubernetes 192.0.2.1,192.0.2.2 6443']);
  clock.jump(16_000);
  await publishApiServer(world.client, clock, { identity: 'a', address: '192.0.2.1', port: 6443 });
  expect(await list()).toEqual(['kubernetes 192.0.2.1 6443']);
});

test('a dry run and a refused write hold nothing: the address can be had right after', async () => {
  const spec = { type: 'NodePort' as const, clusterIP: '10.96.0.77', ports: [{ port: 80, nodePort: 30_077 }] };
  await world.client.create<Service>(services, 'default', { metadata: { name: 'dry', namespace: 'default' }, spec }, { dryRun: 'All' });
  await refusal(world.client.create<Service>(services, 'default', { metadata: { name: 'Bad_Name', namespace: 'default' }, spec }));
  await make('a', spec);
  expect((await refusal(make('b', spec))).message).toContain('failed to allocate IP 10.96.0.77: provided IP is already allocated');
  expect((await refusal(make('kubernetes', { type: 'ClusterIP', clusterIP: '10.96.0.78' }))).code).toBe('AlreadyExists');
  await world.client.delete(services, 'default', 'a');
  await make('b', spec);
  await make('c', { type: 'ClusterIP', clusterIP: '10.96.0.78' });
});

test('two Services that are made at once never get the same address or port', async () => {
  const made = await Promise.all(Array.from({ length: 300 }, (_, index) => make(`s${index}`, { type: 'NodePort' })));
  expect(new Set(made.map((each) => each.spec?.clusterIP)).size).toBe(300);
  expect(new Set(made.map((each) => each.spec?.ports?.[0]?.nodePort)).size).toBe(300);
  const races = await Promise.allSettled(Array.from({ length: 10 }, (_, index) => make(`r${index}`, { type: 'ClusterIP', clusterIP: '10.96.0.99' })));
  expect(races.filter((each) => each.status === 'fulfilled')).toHaveLength(1);
});

test('externalIPs are forbidden by default, with the field named', async () => {
  const error = await refusal(make('x', { type: 'ClusterIP', externalIPs: ['192.0.2.1'] }));
  expect([error.code, error.details?.causes?.[0]?.field]).toEqual(['Forbidden', 'spec.externalIPs[0]']);
});

/** A caller from outside, with rights on everything named, but not netloom itself. */
async function outsider(verbs: string[], resourceNames: string[]): Promise<ApiClient> {
  const rbac = '/apis/rbac.authorization.k8s.io/v1';
  await world.client.raw('POST', `${rbac}/clusterroles`, { apiVersion: 'rbac.authorization.k8s.io/v1', kind: 'ClusterRole', metadata: { name: 'out' }, rules: [{ apiGroups: ['*'], resources: resourceNames, verbs }] });
  await world.client.raw('POST', `${rbac}/clusterrolebindings`, { apiVersion: 'rbac.authorization.k8s.io/v1', kind: 'ClusterRoleBinding', metadata: { name: 'out' }, roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'out' }, subjects: [{ kind: 'User', name: 'eve', apiGroup: 'rbac.authorization.k8s.io' }] });
  return new ApiClient(world.plane.transport({ user: 'eve', groups: [] }));
}

test('hand-written endpoints may not be loopback, link-local, unspecified, multicast or Service addresses', async () => {
  const eve = await outsider(['*'], ['*']);
  for (const ip of ['127.0.0.1', '169.254.169.254', '0.0.0.0', '224.0.0.1', '10.96.0.1']) {
    const slice: EndpointSlice = { metadata: { name: 'x', namespace: 'default', labels: { 'kubernetes.io/service-name': 'web' } }, addressType: 'IPv4', endpoints: [{ addresses: [ip] }], ports: [] };
    const error = await refusal(eve.create<EndpointSlice>(endpointslices, 'default', slice));
    expect([ip, error.code, error.details?.causes?.[0]?.field]).toEqual([ip, 'Invalid', 'endpoints[0].addresses[0]']);
    const object = { metadata: { name: 'x', namespace: 'default' }, subsets: [{ addresses: [{ ip }], ports: [{ port: 80 }] }] };
    expect((await refusal(eve.create(resources.endpoints, 'default', object))).details?.causes?.[0]?.field).toBe('subsets[0].addresses[0].ip');
  }
  await eve.create<EndpointSlice>(endpointslices, 'default', { metadata: { name: 'fine', namespace: 'default', labels: { 'kubernetes.io/service-name': 'web' } }, addressType: 'IPv4', endpoints: [{ addresses: ['192.0.2.1'] }], ports: [] });
});

test('load balancer addresses are written only with the verb of their own', async () => {
  const eve = await outsider(['get', 'update', 'patch'], ['services', 'services/status']);
  await make('a', { loadBalancerClass: 'example.com/lb' });
  const steal = (client: ApiClient): Promise<unknown> => client.patch(services, 'default', 'a', { status: { loadBalancer: { ingress: [{ ip: '192.0.2.1', ipMode: 'VIP' }] } } }, { type: 'merge', subresource: 'status' });
  expect((await refusal(steal(eve))).code).toBe('Forbidden');
  const rights: ResourceRef = { group: 'rbac.authorization.k8s.io', version: 'v1', resource: 'clusterroles', kind: 'ClusterRole', isNamespaced: false };
  await world.client.patch(rights, undefined, 'out', { rules: [{ apiGroups: [''], resources: ['services', 'services/status'], verbs: ['get', 'update', 'patch', 'assign-address'] }] }, { type: 'merge' });
  await world.until('the right to count', async () => { await steal(eve); return true; });
});

test('Pods get the default ServiceAccount and tolerate lost nodes for 300 s; an unknown account is refused', async () => {
  const pod = await world.pod('p');
  expect(pod.spec?.serviceAccountName).toBe('default');
  expect(pod.spec?.tolerations?.map((each) => `${each.key} ${each.effect} ${each.tolerationSeconds}`)).toEqual(['node.kubernetes.io/not-ready NoExecute 300', 'node.kubernetes.io/unreachable NoExecute 300']);
  expect((await refusal(world.client.create<Pod>(resources.pods, 'default', { metadata: { name: 'q', namespace: 'default' }, spec: { serviceAccountName: 'nobody', containers: [{ name: 'c', image: 'i' }] } }))).message).toContain('serviceaccount "nobody" not found');
});

test('Events: the same again raises the count, too many different ones are folded, a chatterbox is held back', async () => {
  const clock = new VirtualClock(Date.parse('2026-01-01T00:00:00Z'));
  const recorder = new EventRecorder({ client: world.client, clock, log: silentLog, component: 'test' });
  const about = await make('loud', { type: 'ClusterIP' });
  for (let round = 0; round < 3; round++) recorder.record(services, about, 'Warning', 'Same', 'again');
  const found = async (reason: string): Promise<Event[]> => (await world.client.list<Event>(events, 'default')).items.filter((event) => event.reason === reason);
  await world.until('one event, three times', async () => (await found('Same'))[0]?.count === 3);
  expect((await found('Same'))[0]?.involvedObject).toMatchObject({ apiVersion: 'v1', kind: 'Service', name: 'loud', uid: about.metadata.uid });
  for (let round = 0; round < 15; round++) recorder.record(services, about, 'Normal', 'Many', `message ${round}`);
  await world.until('the folded one', async () => (await found('Many')).some((event) => event.message?.startsWith('(combined from similar events): ') === true && event.count === 5));
  expect(await found('Many')).toHaveLength(11);
  for (let round = 0; round < 50; round++) recorder.record(services, about, 'Normal', 'Chatter', `message ${round}`);
  expect(recorder.droppedCount).toBe(43);
});

test('sweeps remove Events past their time and join tokens that ran out, and nothing else', async () => {
  const clock = new VirtualClock(Date.parse('2026-01-01T12:00:00Z'));
  const storage = await openStorage({ kind: 'memory', clock, log: silentLog });
  const event = (name: string, lastTimestamp: string): Event => ({ metadata: { name, namespace: 'default' }, involvedObject: {}, lastTimestamp });
  await storage.create('events', 'default/old', event('old', '2026-01-01T10:59:00Z'));
  await storage.create('events', 'default/new', event('new', '2026-01-01T11:30:00Z'));
  const token = (name: string, expiration: string, type = 'bootstrap.kubernetes.io/token'): Secret => ({ metadata: { name, namespace: 'kube-system' }, type, data: { expiration: Buffer.from(expiration).toString('base64') } });
  await storage.create('secrets', 'kube-system/a', token('a', '2026-01-01T11:00:00Z'));
  await storage.create('secrets', 'kube-system/b', token('b', '2026-01-01T13:00:00Z'));
  await storage.create('secrets', 'kube-system/c', token('c', '2026-01-01T11:00:00Z', 'Opaque'));
  const sweeps = new Sweeps({ storage, clock, log: silentLog, eventTtlMs: 3_600_000 });
  sweeps.start();
  expect([await sweeps.run('events'), await sweeps.run('tokens')]).toEqual([1, 1]);
  await sweeps.run('compaction');
  expect([storage.list('events').items.map((item) => item.key), storage.list('secrets').items.map((item) => item.key)]).toEqual([['default/new'], ['kube-system/b', 'kube-system/c']]);
  sweeps.stop();
  await storage.close();
});

test('metrics tell what is allocated and how deep the queues of the leader are', async () => {
  const plane = await start({ ephemeral: true });
  await plane.whenReady();
  const registry = new Registry();
  plane.registerMetrics(registry);
  const text = await registry.metrics();
  expect(text).toContain('netloom_control_clusterip_allocated_ips{cidr="10.96.0.0/16"} 2');
  expect(text).toContain('netloom_control_nodeport_available_ports 2768');
  expect(text).toMatch(/netloom_control_workqueue_depth\{name="endpointslice"\} \d/);
  await plane.stop();
});
