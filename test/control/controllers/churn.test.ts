// Random churn of Pods, Nodes and Services, with restarts of the controllers in the middle, ends in exactly the slices
// and Endpoints that a simple model computes from the objects. NETLOOM_SEED repeats a run, NETLOOM_SOAK=1 makes it long.

import { expect, test } from 'vitest';
import { resources } from '../../../api/resources.ts';
import type { Endpoints, EndpointSlice, Node, Pod, Service } from '../../../api/types.ts';
import { ControlWorld } from '../../lib/control-world.ts';

const isSoak = process.env['NETLOOM_SOAK'] === '1';
const runs = isSoak ? 40 : 4;
const steps = isSoak ? 600 : 150;

/** Small seeded generator (mulberry32). */
function seeded(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

const apps = ['a', 'b', 'c'];
const portOf = (pod: Pod): number => pod.spec?.containers[0]?.ports?.[0]?.containerPort ?? 0;
const isTrue = (pod: Pod): boolean => pod.status?.conditions?.some((each) => each.type === 'Ready' && each.status === 'True') === true;

/** What the slices of a Service must say: one line per endpoint. */
function model(service: Service, pods: readonly Pod[], nodes: ReadonlySet<string>): string[] {
  const selector = Object.entries(service.spec?.selector ?? {});
  const isAnyPublished = service.spec?.publishNotReadyAddresses === true;
  return pods.filter((pod) => selector.every(([name, value]) => pod.metadata.labels?.[name] === value))
    .filter((pod) => pod.status?.podIP !== undefined && pod.status.phase !== 'Succeeded' && pod.status.phase !== 'Failed' && (nodes.has(pod.spec?.nodeName ?? '') || isAnyPublished))
    .map((pod) => { const going = pod.metadata.deletionTimestamp !== undefined; return `${pod.status?.podIP}:${portOf(pod)} ${isAnyPublished || (isTrue(pod) && !going)} ${isTrue(pod)} ${going} ${pod.metadata.uid}`; }).sort();
}

async function churn(world: ControlWorld, random: (below: number) => number, count: number): Promise<void> {
  const { client } = world;
  let made = 0;
  const ignore = (task: Promise<unknown>): Promise<unknown> => task.catch(() => undefined);
  const anyPod = async (): Promise<Pod | undefined> => { const { items } = await client.list<Pod>(resources.pods, 'default'); return items[random(items.length || 1)]; };
  for (let step = 0; step < count; step++) {
    const pod = await anyPod();
    const name = pod?.metadata.name ?? 'none';
    const app = apps[random(apps.length)] ?? 'a';
    const ip = `10.244.${Math.floor(made / 250)}.${(made % 250) + 1}`;
    const tasks: (() => Promise<unknown>)[] = [
      () => world.pod(`p${made++}`, { labels: { app }, ip, node: `n${random(4)}`, isReady: random(3) > 0, spec: { containers: [{ name: 'c', image: 'i', ports: [{ name: 'web', containerPort: 8000 + random(2) }] }] } }),
      () => world.pod(`p${made++}`, { labels: { app }, ip, node: `n${random(4)}`, spec: { containers: [{ name: 'c', image: 'i', ports: [{ name: 'web', containerPort: 8000 }] }] } }),
      () => world.podStatus(name, { ip: pod?.status?.podIP ?? ip, isReady: random(2) === 0 }),
      () => world.podStatus(name, { ip: pod?.status?.podIP ?? ip, phase: random(4) === 0 ? 'Succeeded' : 'Running' }),
      () => client.patch(resources.pods, 'default', name, { metadata: { labels: { app } } }, { type: 'merge' }),
      () => client.delete(resources.pods, 'default', name, random(2) === 0 ? { gracePeriodSeconds: 0 } : {}),
      () => client.patch(resources.services, 'default', `s${random(3)}`, { spec: random(2) === 0 ? { selector: { app } } : { publishNotReadyAddresses: random(2) === 0 } }, { type: 'merge' }),
      () => (random(3) === 0 ? client.delete(resources.nodes, undefined, `n${random(4)}`) : world.node(`n${random(4)}`, { lease: false })),
      () => (random(2) === 0 ? client.delete(resources.services, 'default', `s${random(3)}`) : makeService(world, `s${random(3)}`, app)),
      async () => { const { items } = await client.list<EndpointSlice>(resources.endpointslices, 'default', { labelSelector: 'endpointslice.kubernetes.io/managed-by' }); const slice = items[random(items.length || 1)]; if (slice !== undefined && random(2) === 0) await client.delete(resources.endpointslices, 'default', slice.metadata.name); },
    ];
    const task = ignore((tasks[random(tasks.length)] as () => Promise<unknown>)());
    if (random(3) > 0) await task;
  }
}

function makeService(world: ControlWorld, name: string, app: string): Promise<Service> {
  return world.client.create<Service>(resources.services, 'default', { metadata: { name, namespace: 'default' }, spec: { selector: { app }, ports: [{ name: 'http', port: 80, targetPort: 'web' }] } });
}

const seeds = process.env['NETLOOM_SEED'] === undefined ? Array.from({ length: runs }, (_, index) => index + 1) : [Number(process.env['NETLOOM_SEED'])];

test.each(seeds)('after random churn the slices are what the model says (seed %i)', async (seed) => {
  const random = seeded(seed);
  const world = await ControlWorld.start({ controllers: { endpointsPerSliceMax: 5, nodeGraceMs: 1e9 } });
  try {
    for (let index = 0; index < 4; index++) await world.node(`n${index}`, { lease: false });
    for (const [index, app] of apps.entries()) await makeService(world, `s${index}`, app);
    for (let part = 0; part < 3; part++) {
      await churn(world, random, steps / 3);
      if (random(2) === 0) await world.restartControllers();
    }
    await world.settled();
    const pods = (await world.client.list<Pod>(resources.pods, 'default')).items;
    const nodes = new Set((await world.client.list<Node>(resources.nodes)).items.map((each) => each.metadata.name));
    const slices = (await world.client.list<EndpointSlice>(resources.endpointslices, 'default', { labelSelector: 'endpointslice.kubernetes.io/managed-by=endpointslice-controller.k8s.io' })).items;
    const services = (await world.client.list<Service>(resources.services, 'default')).items.filter((each) => each.metadata.name !== 'kubernetes');
    for (const service of services) {
      const own = slices.filter((slice) => slice.metadata.labels?.['kubernetes.io/service-name'] === service.metadata.name);
      const lines = own.flatMap((slice) => (slice.endpoints ?? []).map((each) => `${each.addresses[0]}:${slice.ports?.[0]?.port} ${each.conditions?.ready} ${each.conditions?.serving} ${each.conditions?.terminating} ${each.targetRef?.uid}`)).sort();
      const wanted = model(service, pods, nodes);
      expect(lines, `Service ${service.metadata.name}, seed ${seed}`).toEqual(wanted);
      expect(own.every((slice) => (slice.endpoints?.length ?? 0) <= 5 && slice.metadata.ownerReferences?.[0]?.uid === service.metadata.uid)).toBe(true);
      expect(own.filter((slice) => (slice.endpoints?.length ?? 0) === 0)).toHaveLength(wanted.length === 0 ? 1 : 0);
      const object = await world.client.get<Endpoints>(resources.endpoints, 'default', service.metadata.name);
      const ready = (object.subsets ?? []).flatMap((subset) => (subset.addresses ?? []).map((each) => `${each.ip}:${subset.ports?.[0]?.port}`)).sort();
      const isAnyPublished = service.spec?.publishNotReadyAddresses === true;
      expect(ready).toEqual(pods.filter((pod) => pod.metadata.labels?.['app'] === service.spec?.selector?.['app'] && pod.status?.podIP !== undefined && pod.status.phase === 'Running' && (isAnyPublished || (isTrue(pod) && pod.metadata.deletionTimestamp === undefined))).map((pod) => `${pod.status?.podIP}:${portOf(pod)}`).sort());
    }
    const known = new Set(services.map((each) => each.metadata.name));
    expect(slices.filter((slice) => !known.has(slice.metadata.labels?.['kubernetes.io/service-name'] ?? ''))).toEqual([]);
  } finally { await world.stop(); }
});
