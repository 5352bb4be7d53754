// EndpointSlices, Endpoints and mirroring on a real control plane in process.

import { afterEach, beforeEach, expect, test } from 'vitest';
import { resources } from '../../../api/resources.ts';
import type { Endpoints, EndpointSlice, Event, KubeObject, Pod, Service, ServiceSpec } from '../../../api/types.ts';
import { ControlWorld } from '../../lib/control-world.ts';
import { VirtualClock } from '../../lib/virtual-clock.ts';

let world: ControlWorld;
beforeEach(async () => {
  world = await ControlWorld.start({ serviceCIDRs: ['10.96.0.0/16', 'fd00:10:96::/112'] });
  await world.node('n1', { labels: { 'topology.kubernetes.io/zone': 'a' } });
  await world.node('n2', { labels: { 'topology.kubernetes.io/zone': 'b' } });
});
afterEach(async () => { await world.stop(); });

async function makeService(name: string, spec: Partial<ServiceSpec> = {}, metadata: Partial<Service['metadata']> = {}): Promise<Service> {
  return world.client.create<Service>(resources.services, 'default', { metadata: { name, namespace: 'default', ...metadata }, spec: { selector: { app: name }, ports: [{ name: 'http', port: 80, targetPort: 8080 }], ...spec } });
}
const pod = (name: string, options: Parameters<ControlWorld['pod']>[1] = {}): Promise<Pod> => world.pod(name, { labels: { app: 'web' }, node: 'n1', ...options });
async function slices(name = 'web', manager?: string): Promise<EndpointSlice[]> {
  const found = await world.client.list<EndpointSlice>(resources.endpointslices, 'default', { labelSelector: `kubernetes.io/service-name=${name}` });
  return found.items.filter((slice) => manager === undefined || slice.metadata.labels?.['endpointslice.kubernetes.io/managed-by'] === manager);
}
const addresses = (list: readonly EndpointSlice[]): string[] => list.flatMap((slice) => (slice.endpoints ?? []).map((endpoint) => endpoint.addresses[0] ?? '')).sort();
const endpoints = (name = 'web'): Promise<Endpoints> => world.client.get<Endpoints>(resources.endpoints, 'default', name);
const updateService = (body: object): Promise<Service> => world.client.patch<Service>(resources.services, 'default', 'web', body, { type: 'merge' });

test('a slice names its Service, its manager and owner, mirrors the Service labels but not reserved ones, and says where each endpoint is', async () => {
  await pod('p1', { ip: '10.244.0.5' });
  const made = await makeService('web', {}, { labels: { team: 'x', 'endpointslice.kubernetes.io/managed-by': 'me' } });
  await world.settled();
  const [slice] = await slices();
  expect(slice?.metadata.name).toMatch(/^web-[a-z0-9]{5}$/);
  expect(slice?.metadata.labels).toEqual({ team: 'x', 'kubernetes.io/service-name': 'web', 'endpointslice.kubernetes.io/managed-by': 'endpointslice-controller.k8s.io' });
  expect(slice?.metadata.ownerReferences).toEqual([{ apiVersion: 'v1', kind: 'Service', name: 'web', uid: made.metadata.uid, controller: true, blockOwnerDeletion: true }]);
  expect(slice?.metadata.annotations?.['endpoints.kubernetes.io/last-change-trigger-time']).toMatch(/^2026-/);
  expect(slice?.ports).toEqual([{ name: 'http', port: 8080, protocol: 'TCP' }]);
  expect(slice?.endpoints?.[0]).toMatchObject({ addresses: ['10.244.0.5'], conditions: { ready: true, serving: true, terminating: false }, nodeName: 'n1', zone: 'a', targetRef: { kind: 'Pod', namespace: 'default', name: 'p1' } });
});

test('a Service without Pods has one empty slice per family, which its first Pod moves into', async () => {
  await makeService('web', { ipFamilyPolicy: 'RequireDualStack' });
  await world.settled();
  const empty = await slices();
  expect(empty.map((slice) => [slice.addressType, slice.endpoints?.length ?? 0, slice.ports?.length ?? 0]).sort()).toEqual([['IPv4', 0, 0], ['IPv6', 0, 0]]);
  await pod('p1', { ips: ['10.244.0.5', 'fd00::5'] });
  await world.settled();
  const full = await slices();
  expect(full.map((slice) => slice.metadata.name).sort()).toEqual(empty.map((slice) => slice.metadata.name).sort());
  expect(addresses(full)).toEqual(['10.244.0.5', 'fd00::5']);
  await updateService({ spec: { ipFamilyPolicy: 'SingleStack', ipFamilies: ['IPv4'] } });
  await world.settled();
  expect((await slices()).map((slice) => slice.addressType)).toEqual(['IPv4']);
});

test('headless Services have the label, hostnames count only in their own subdomain', async () => {
  await pod('p1', { ip: '10.244.0.5', spec: { hostname: 'first', subdomain: 'web' } });
  await pod('p2', { ip: '10.244.0.6', spec: { hostname: 'second', subdomain: 'other' } });
  await makeService('web', { clusterIP: 'None' });
  await world.settled();
  const [slice] = await slices();
  expect(slice?.metadata.labels?.['service.kubernetes.io/headless']).toBe('');
  expect(slice?.endpoints?.map((endpoint) => endpoint.hostname).sort()).toEqual(['first', undefined]);
});

test('readiness, termination and publishNotReadyAddresses decide the conditions; finished Pods and Pods without address are left out', async () => {
  await makeService('web');
  await pod('ready', { ip: '10.244.0.1' });
  await pod('unready', { ip: '10.244.0.2', isReady: false });
  await pod('going', { ip: '10.244.0.3' });
  await pod('done', { ip: '10.244.0.4', phase: 'Succeeded' });
  await pod('failed', { ip: '10.244.0.5', phase: 'Failed' });
  await pod('pending');
  await world.client.delete(resources.pods, 'default', 'going');
  await world.settled();
  const conditions = async (): Promise<Record<string, string>> => Object.fromEntries((await slices()).flatMap((slice) => slice.endpoints ?? []).map((endpoint) => [endpoint.targetRef?.name ?? '', `${endpoint.conditions?.ready} ${endpoint.conditions?.serving} ${endpoint.conditions?.terminating}`]));
  expect(await conditions()).toEqual({ ready: 'true true false', unready: 'false false false', going: 'false true true' });
  const subset = (await endpoints()).subsets?.[0];
  expect([subset?.addresses?.map(({ ip }) => ip), subset?.notReadyAddresses?.map(({ ip }) => ip)]).toEqual([['10.244.0.1'], ['10.244.0.2']]);
  await updateService({ spec: { publishNotReadyAddresses: true } });
  await world.settled();
  expect(await conditions()).toEqual({ ready: 'true true false', unready: 'true false false', going: 'true true true' });
});

test('a named targetPort that differs between Pods makes a slice per number', async () => {
  const spec = (port: number): object => ({ containers: [{ name: 'c', image: 'i', ports: [{ name: 'web', containerPort: port }] }] });
  await makeService('web', { ports: [{ name: 'http', port: 80, targetPort: 'web' }] });
  await pod('p1', { ip: '10.244.0.1', spec: spec(8001) });
  await pod('p2', { ip: '10.244.0.2', spec: spec(8002) });
  await pod('p3', { ip: '10.244.0.3', spec: spec(8001) });
  await world.settled();
  expect((await slices()).map((slice) => [slice.ports?.[0]?.port, addresses([slice])]).sort()).toEqual([[8001, ['10.244.0.1', '10.244.0.3']], [8002, ['10.244.0.2']]]);
  expect((await endpoints()).subsets?.map((subset) => [subset.ports?.[0]?.port, subset.addresses?.map(({ ip }) => ip)])).toEqual([[8001, ['10.244.0.1', '10.244.0.3']], [8002, ['10.244.0.2']]]);
});

test('a Pod whose Node does not exist is no endpoint until the Node is there', async () => {
  await makeService('web');
  await pod('p1', { ip: '10.244.0.1', node: 'n9' });
  await world.settled();
  expect(addresses(await slices())).toEqual([]);
  await world.node('n9', { labels: { 'topology.kubernetes.io/zone': 'c' } });
  await world.settled();
  expect((await slices())[0]?.endpoints?.[0]?.zone).toBe('c');
});

test('trafficDistribution PreferClose hints each ready endpoint at its own zone, and takes the hints back', async () => {
  await makeService('web', { trafficDistribution: 'PreferClose' });
  await pod('p1', { ip: '10.244.0.1' });
  await pod('p2', { ip: '10.244.0.2', node: 'n2' });
  await pod('p3', { ip: '10.244.0.3', isReady: false });
  await world.settled();
  const hints = async (): Promise<(string | undefined)[]> => (await slices()).flatMap((slice) => slice.endpoints ?? []).sort((a, b) => ((a.addresses[0] ?? '') < (b.addresses[0] ?? '') ? -1 : 1)).map((endpoint) => endpoint.hints?.forZones?.map(({ name }) => name).join());
  expect(await hints()).toEqual(['a', 'b', undefined]);
  await updateService({ spec: { trafficDistribution: null } });
  await world.settled();
  expect(await hints()).toEqual([undefined, undefined, undefined]);
});

test('trafficDistribution PreferSameNode hints at node and zone, is stored, and then leaves the slice alone', async () => {
  await makeService('web', { trafficDistribution: 'PreferSameNode' });
  await pod('p1', { ip: '10.244.0.1' });
  await world.settled();
  const [slice] = await slices();
  expect(slice?.endpoints?.[0]?.hints).toEqual({ forZones: [{ name: 'a' }], forNodes: [{ name: 'n1' }] });
  await world.restartControllers();
  await world.settled();
  expect((await slices())[0]?.metadata.resourceVersion).toBe(slice?.metadata.resourceVersion);
});

test('relabelling a Pod or changing the selector moves endpoints; ExternalName and deletion take the slices away', async () => {
  await makeService('web');
  await makeService('api');
  await pod('p1', { ip: '10.244.0.1' });
  await world.settled();
  await world.client.patch(resources.pods, 'default', 'p1', { metadata: { labels: { app: 'api' } } }, { type: 'merge' });
  await world.settled();
  expect([addresses(await slices('web')), addresses(await slices('api'))]).toEqual([[], ['10.244.0.1']]);
  await updateService({ spec: { selector: { app: 'api' } } });
  await world.settled();
  expect(addresses(await slices('web'))).toEqual(['10.244.0.1']);
  await updateService({ spec: { type: 'ExternalName', externalName: 'example.com' } });
  await world.settled();
  expect(await slices('web')).toEqual([]);
  await world.client.delete(resources.services, 'default', 'api');
  await world.until('slices and Endpoints to go', async () => (await slices('api')).length === 0 && (await world.client.list(resources.endpoints, 'default', { fieldSelector: 'metadata.name=api' })).items.length === 0);
});

test('a slice that somebody changed or deleted is put right', async () => {
  await makeService('web');
  await pod('p1', { ip: '10.244.0.1' });
  await world.settled();
  const [slice] = await slices();
  await world.client.update(resources.endpointslices, { ...(slice as EndpointSlice), endpoints: [] });
  await world.settled();
  expect(addresses(await slices())).toEqual(['10.244.0.1']);
  await world.client.delete(resources.endpointslices, 'default', (await slices())[0]?.metadata.name ?? '');
  await world.settled();
  expect(addresses(await slices())).toEqual(['10.244.0.1']);
});

test('a Service without selector is left alone: its own slices stay', async () => {
  await makeService('web', { selector: {} });
  await world.client.create<EndpointSlice>(resources.endpointslices, 'default', { metadata: { name: 'mine', namespace: 'default', labels: { 'kubernetes.io/service-name': 'web' } }, addressType: 'IPv4', endpoints: [{ addresses: ['192.0.2.1'] }], ports: [] });
  await world.settled();
  expect((await slices()).map((each) => each.metadata.name)).toEqual(['mine']);
});

test('Endpoints of a Service without selector are mirrored, per family and port list, and go with them', async () => {
  await makeService('web', { selector: {} });
  const object: Endpoints = { metadata: { name: 'web', namespace: 'default', labels: { team: 'x' } }, subsets: [{ addresses: [{ ip: '192.0.2.1', hostname: 'h' }, { ip: '2001:db8::1' }], notReadyAddresses: [{ ip: '192.0.2.2' }], ports: [{ name: 'http', port: 80, protocol: 'TCP' }] }] };
  await world.client.create<Endpoints>(resources.endpoints, 'default', object);
  await world.settled();
  const mirrored = await slices('web', 'endpointslicemirroring-controller.k8s.io');
  expect(mirrored.map((slice) => [slice.addressType, slice.endpoints?.map((endpoint) => `${endpoint.addresses[0]} ${endpoint.conditions?.ready} ${endpoint.hostname ?? ''}`)]).sort()).toEqual([['IPv4', ['192.0.2.1 true h', '192.0.2.2 false ']], ['IPv6', ['2001:db8::1 true ']]]);
  expect(mirrored[0]?.metadata.labels).toMatchObject({ team: 'x', 'kubernetes.io/service-name': 'web' });
  await world.client.patch(resources.endpoints, 'default', 'web', { metadata: { labels: { 'endpointslice.kubernetes.io/skip-mirror': 'true' } } }, { type: 'merge' });
  await world.settled();
  expect(await slices()).toEqual([]);
  await world.client.patch(resources.endpoints, 'default', 'web', { metadata: { labels: { 'endpointslice.kubernetes.io/skip-mirror': null } } }, { type: 'merge' });
  await world.settled();
  expect(await slices()).toHaveLength(2);
  await world.client.delete(resources.endpoints, 'default', 'web');
  await world.settled();
  expect(await slices()).toEqual([]);
});

test('a Pod with an impossible address is left out with an Event, the other Pods of its Service are served', async () => {
  await makeService('web');
  await pod('good', { ip: '10.244.0.1' });
  for (const [index, ip] of ['127.0.0.1', '169.254.1.1', '0.0.0.0', '224.0.0.1'].entries()) await pod(`bad${index}`, { ip });
  await world.settled();
  expect(addresses(await slices())).toEqual(['10.244.0.1']);
  expect((await endpoints()).subsets?.[0]?.addresses?.map(({ ip }) => ip)).toEqual(['10.244.0.1']);
  const told = await world.until('the Events', async () => { const found = (await world.client.list<Event>(resources.events)).items.filter((event) => event.reason === 'UnusableAddress'); return found.length === 4 ? found : undefined; });
  expect(told.map((event) => event.involvedObject.name).sort()).toEqual(['bad0', 'bad1', 'bad2', 'bad3']);
});

test('one poisoned Service in ten keeps none of the others waiting', async () => {
  for (let index = 0; index < 10; index++) await pod(`p${index}`, { ip: `10.244.0.${index + 1}`, labels: { app: 'all' } });
  await pod('poison', { ip: '169.254.0.9', labels: { app: 'poison' } });
  await world.settled();
  const count = 300;
  const started = performance.now();
  await Promise.all(Array.from({ length: count }, (_, index) => makeService(`s${index}`, { selector: { app: index % 10 === 0 ? 'poison' : 'all' } })));
  await world.settled();
  expect(performance.now() - started).toBeLessThan(10_000);
  const made = (await world.client.list<EndpointSlice>(resources.endpointslices, 'default', { labelSelector: 'kubernetes.io/service-name!=kubernetes' })).items;
  expect(made.filter((slice) => slice.endpoints?.length === 10)).toHaveLength(count * 0.9);
  expect(made.filter((slice) => (slice.endpoints?.length ?? 0) === 0)).toHaveLength(count * 0.1);
});

test('a selector that matches no Pod gets a Warning once it has lasted, one that matches gets none', async () => {
  await world.stop();
  const clock = new VirtualClock(Date.parse('2026-01-01T00:00:00Z'));
  world = await ControlWorld.start({ controllerClock: clock, controllers: { nodeGraceMs: 1e9 } });
  await makeService('web');
  await makeService('api');
  await world.node('n1');
  await pod('p1', { ip: '10.244.0.1' });
  await world.settled();
  const warnings = async (): Promise<string[]> => (await world.client.list<Event>(resources.events)).items.filter((event) => event.reason === 'NoMatchingPods').map((event) => event.message ?? '');
  await clock.advance(10_000);
  expect(await warnings()).toEqual([]);
  await clock.advance(10_000);
  await world.settled();
  expect(await world.until('the Warning', async () => { const found = await warnings(); return found.length > 0 ? found : undefined; })).toEqual(['Service default/api selects no endpoints: no Pod in default has the labels app=api']);
});

test('restarted controllers find everything in place and write nothing', async () => {
  await makeService('web', { trafficDistribution: 'PreferClose' });
  for (let index = 1; index <= 5; index++) await pod(`p${index}`, { ip: `10.244.0.${index}` });
  await world.settled();
  const state = async (): Promise<string[]> => (await Promise.all([resources.endpointslices, resources.endpoints, resources.services, resources.pods, resources.nodes].map((resource) => world.client.list<KubeObject>(resource)))).flatMap((list) => list.items.map((item) => `${item.metadata.name} ${item.metadata.resourceVersion}`));
  const before = await state();
  await world.restartControllers();
  await world.settled();
  expect(await state()).toEqual(before);
});

test('a readiness flip is in the slice within a few milliseconds', async () => {
  await makeService('web');
  await pod('p1', { ip: '10.244.0.1' });
  await world.settled();
  const times: number[] = [];
  for (let round = 0; round < 20; round++) {
    const isReady = round % 2 === 1;
    await world.podStatus('p1', { ip: '10.244.0.1', isReady });
    const started = performance.now();
    while (world.informers.endpointSlices.store.byIndex('managedServiceSlices', 'default/web')[0]?.endpoints?.[0]?.conditions?.ready !== isReady) await new Promise<void>((resolve) => { setImmediate(resolve); });
    times.push(performance.now() - started);
  }
  times.sort((a, b) => a - b);
  expect(times[10]).toBeLessThan(50);
});
