// DaemonSets, StatefulSets, Jobs and CronJobs on a real control plane, with a stand-in for the agents.

import { afterEach, beforeEach, expect, test } from 'vitest';
import { resources } from '../../../api/resources.ts';
import type { KubeObject, Pod } from '../../../api/types.ts';
import { nextCronTime, type CronFields } from '../../../control/controllers/workloads/cron-times.ts';
import type { CronJob, DaemonSet, Job, JobSpec, StatefulSet } from '../../../control/controllers/workloads/types.ts';
import { parseCron } from '../../../control/sweeps.ts';
import { ControlWorld } from '../../lib/control-world.ts';
import { FakeAgent } from '../../lib/fake-agent.ts';
import { VirtualClock } from '../../lib/virtual-clock.ts';

let world: ControlWorld;
let agent: FakeAgent;
async function begin(clock?: VirtualClock): Promise<void> {
  world = await ControlWorld.start(clock === undefined ? {} : { controllerClock: clock, controllers: { nodeGraceMs: 1e9 } });
  agent = new FakeAgent(world);
  await world.node('n1');
  await world.node('n2');
}
beforeEach(() => begin());
afterEach(async () => { agent.stop(); await world.stop(); });

const template = (app: string, container = 'main', image = 'v1'): { metadata: { labels: Record<string, string> }; spec: { restartPolicy?: 'Never'; containers: { name: string; image: string }[] } } => ({ metadata: { labels: { app } }, spec: { containers: [{ name: container, image }] } });
const list = async (): Promise<Pod[]> => (await world.client.list<Pod>(resources.pods, 'default')).items;
const living = async (): Promise<Pod[]> => (await list()).filter((pod) => pod.metadata.deletionTimestamp === undefined);

test('a DaemonSet has one Pod on every node that fits, follows nodes and labels, and replaces Pods one at a time', async () => {
  const make = (image: string): DaemonSet => ({ metadata: { name: 'ds', namespace: 'default' }, spec: { selector: { matchLabels: { app: 'ds' } }, template: { ...template('ds', 'main', image), spec: { ...template('ds', 'main', image).spec, nodeSelector: { role: 'edge' } } } } });
  for (const name of ['n1', 'n2']) await world.client.patch(resources.nodes, undefined, name, { metadata: { labels: { role: 'edge' } } }, { type: 'merge' });
  await world.client.create<DaemonSet>(resources.daemonsets, 'default', make('v1'));
  const homes = async (): Promise<string> => (await living()).filter((pod) => pod.status?.podIP !== undefined).map((pod) => pod.spec?.nodeName).sort().join();
  await world.until('a Pod on each', async () => await homes() === 'n1,n2');
  await world.node('n3', { labels: { role: 'edge' }, taints: [{ key: 'gpu', effect: 'NoSchedule' }] });
  await world.node('n4', { labels: { role: 'edge' } });
  await world.until('the new node', async () => await homes() === 'n1,n2,n4');
  await world.client.patch(resources.nodes, undefined, 'n1', { metadata: { labels: { role: 'core' } } }, { type: 'merge' });
  await world.until('n1 to be left', async () => await homes() === 'n2,n4');
  await world.client.patch(resources.daemonsets, 'default', 'ds', { spec: { template: { spec: { containers: [{ name: 'main', image: 'v2' }] } } } }, { type: 'strategic' });
  await world.until('the rollout', async () => {
    const { status, metadata } = await world.client.get<DaemonSet>(resources.daemonsets, 'default', 'ds');
    return status?.observedGeneration === metadata.generation && status?.['updatedNumberScheduled'] === 2 && status['numberAvailable'] === 2;
  });
  expect((await living()).map((pod) => pod.spec?.containers[0]?.image)).toEqual(['v2', 'v2']);
  expect((await world.client.raw<{ items: KubeObject[] }>('GET', '/apis/apps/v1/namespaces/default/controllerrevisions')).items).toHaveLength(2);
});

test('a StatefulSet makes Pods in order, keeps their names, scales down from the top and updates from the top', async () => {
  const born: string[] = [];
  world.informers.pods.onChange(({ type, object }) => { if (type === 'add') born.push(object.metadata.name); });
  await world.client.create<StatefulSet>(resources.statefulsets, 'default', { metadata: { name: 'db', namespace: 'default' }, spec: { replicas: 3, serviceName: 'db', selector: { matchLabels: { app: 'db' } }, template: template('db') } });
  const status = async (): Promise<Record<string, unknown>> => {
    const now = await world.client.get<StatefulSet>(resources.statefulsets, 'default', 'db');
    return now.status?.observedGeneration === now.metadata.generation ? now.status ?? {} : {};
  };
  await world.until('three ready', async () => (await status())['readyReplicas'] === 3);
  expect(born).toEqual(['db-0', 'db-1', 'db-2']);
  const [first] = await list();
  expect([first?.spec?.hostname, first?.spec?.subdomain, first?.metadata.labels?.['apps.kubernetes.io/pod-index']]).toEqual(['db-0', 'db', '0']);
  born.length = 0;
  await world.client.patch(resources.statefulsets, 'default', 'db', { spec: { template: { spec: { containers: [{ name: 'main', image: 'v2' }] } } } }, { type: 'strategic' });
  await world.until('the update', async () => { const now = await status(); return now['updatedReplicas'] === 3 && now['readyReplicas'] === 3 && now['currentRevision'] === now['updateRevision']; });
  expect(born).toEqual(['db-2', 'db-1', 'db-0']);
  await world.client.patch(resources.statefulsets, 'default', 'db', { spec: { replicas: 1 } }, { type: 'merge', subresource: 'scale' });
  await world.until('one left', async () => (await list()).length === 1);
  expect((await list())[0]?.metadata.name).toBe('db-0');
});

test('a StatefulSet whose first Pod never becomes ready is mended by a new template', async () => {
  agent.isReady = (pod) => pod.spec?.containers[0]?.image !== 'broken';
  await world.client.create<StatefulSet>(resources.statefulsets, 'default', { metadata: { name: 'db', namespace: 'default' }, spec: { replicas: 2, serviceName: 'db', selector: { matchLabels: { app: 'db' } }, template: template('db', 'main', 'broken') } });
  await world.until('the first Pod', async () => (await list())[0]?.status?.podIP !== undefined);
  await world.settled();
  expect(await list()).toHaveLength(1);
  await world.client.patch(resources.statefulsets, 'default', 'db', { spec: { template: { spec: { containers: [{ name: 'main', image: 'fixed' }] } } } }, { type: 'strategic' });
  await world.until('both ready', async () => (await world.client.get<StatefulSet>(resources.statefulsets, 'default', 'db')).status?.['readyReplicas'] === 2);
});

async function job(name: string, spec: JobSpec, container = 'finish-ok'): Promise<Job> {
  const own = template(name, container);
  return world.client.create<Job>(resources.jobs, 'default', { metadata: { name, namespace: 'default' }, spec: { template: { ...own, spec: { ...own.spec, restartPolicy: 'Never' } }, ...spec } });
}
const jobNow = (name: string): Promise<Job> => world.client.get<Job>(resources.jobs, 'default', name);
const ended = (name: string): Promise<string> => world.until(`${name} to end`, async () => (await jobNow(name)).status?.conditions?.find((each) => each.status === 'True' && (each.type === 'Complete' || each.type === 'Failed'))?.type);

test('a Job runs as many Pods as it wants good ones, no more than its parallelism at a time, and selects only its own', async () => {
  let most = 0;
  world.informers.pods.onChange(() => { most = Math.max(most, [...world.informers.pods.store.values()].filter((pod) => pod.status?.phase !== 'Succeeded').length); });
  const made = await job('work', { completions: 6, parallelism: 2 });
  expect(made.spec?.selector?.matchLabels).toEqual({ 'batch.kubernetes.io/controller-uid': made.metadata.uid });
  expect(await ended('work')).toBe('Complete');
  expect((await jobNow('work')).status).toMatchObject({ succeeded: 6 });
  expect(most).toBeLessThanOrEqual(2);
  expect(await list()).toHaveLength(6);
});

test('an indexed Job gives each Pod its own number', async () => {
  await job('indexed', { completions: 3, parallelism: 3, completionMode: 'Indexed' });
  expect(await ended('indexed')).toBe('Complete');
  expect((await list()).map((pod) => pod.metadata.annotations?.['batch.kubernetes.io/job-completion-index']).sort()).toEqual(['0', '1', '2']);
  expect((await list())[0]?.spec?.containers[0]?.env?.some((each) => each.name === 'JOB_COMPLETION_INDEX')).toBe(true);
});

test('a Job that fails more often than backoffLimit fails; a suspended one has no Pods until it is resumed', async () => {
  await job('bad', { backoffLimit: 0 }, 'finish-bad');
  expect(await ended('bad')).toBe('Failed');
  expect((await jobNow('bad')).status?.conditions?.find((each) => each.type === 'Failed')?.reason).toBe('BackoffLimitExceeded');
  await job('later', { suspend: true });
  await world.settled();
  expect((await list()).filter((pod) => pod.metadata.labels?.['app'] === 'later')).toEqual([]);
  await world.client.patch(resources.jobs, 'default', 'later', { spec: { suspend: false } }, { type: 'merge' });
  expect(await ended('later')).toBe('Complete');
});

test('a CronJob runs when it is due, minds concurrencyPolicy, and keeps a short history', async () => {
  agent.stop();
  await world.stop();
  const clock = new VirtualClock(Date.now());
  await begin(clock);
  const own = template('tick', 'finish-ok');
  const cron = (name: string, more: Partial<NonNullable<CronJob['spec']>>, container = 'finish-ok'): CronJob => ({ metadata: { name, namespace: 'default' }, spec: { schedule: '*/5 * * * *', jobTemplate: { spec: { template: { ...own, spec: { restartPolicy: 'Never', containers: [{ name: container, image: 'v1' }] } } } }, ...more } });
  await world.client.create<CronJob>(resources.cronjobs, 'default', cron('tick', { successfulJobsHistoryLimit: 2 }));
  await world.client.create<CronJob>(resources.cronjobs, 'default', cron('once', { concurrencyPolicy: 'Forbid' }, 'main'));
  await world.settled();
  const jobs = async (owner: string): Promise<Job[]> => (await world.client.list<Job>(resources.jobs, 'default')).items.filter((each) => each.metadata.ownerReferences?.[0]?.name === owner);
  for (let round = 1; round <= 4; round++) {
    await clock.advance(300_000);
    await world.settled();
    await world.until('the run to end', async () => (await jobs('tick')).length > 0 && (await jobs('tick')).every((each) => each.status?.completionTime !== undefined));
  }
  await world.until('the history to be cut', async () => (await jobs('tick')).length === 2);
  expect(await jobs('once')).toHaveLength(1);
  expect((await world.client.get<CronJob>(resources.cronjobs, 'default', 'tick')).status?.lastSuccessfulTime).toBeDefined();
});

test('cron times: steps, lists, weekdays or days of the month, names, time zones, and schedules that are never due', () => {
  const next = (schedule: string, after: string, zone = 'UTC'): string | undefined => {
    const { fields, problem } = parseCron(schedule);
    expect(problem).toBe('');
    const ms = nextCronTime(fields as CronFields, Date.parse(after), zone);
    return ms === undefined ? undefined : new Date(ms).toISOString().slice(0, 16);
  };
  expect(next('*/15 * * * *', '2026-01-01T00:00:00Z')).toBe('2026-01-01T00:15');
  expect(next('0 3 * * *', '2026-01-01T03:00:00Z')).toBe('2026-01-02T03:00');
  expect(next('30 8 * * MON-FRI', '2026-01-02T09:00:00Z')).toBe('2026-01-05T08:30');
  expect(next('0 0 13 * 5', '2026-01-01T12:00:00Z')).toBe('2026-01-02T00:00');
  expect(next('0 0 29 2 *', '2026-03-01T00:00:00Z')).toBe('2028-02-29T00:00');
  expect(nextCronTime({ minute: [0], hour: [0], dayOfMonth: [30], month: [2], dayOfWeek: [0, 1, 2, 3, 4, 5, 6] }, 0, 'UTC')).toBeUndefined();
  expect(next('0 9 * * *', '2026-07-01T00:00:00Z', 'Europe/Berlin')).toBe('2026-07-01T07:00');
  expect(next('@hourly', '2026-01-01T00:10:00Z')).toBe('2026-01-01T01:00');
  for (const bad of ['61 * * * *', '0 0 30 2 *', 'nonsense']) expect(parseCron(bad).problem).not.toBe('');
});
