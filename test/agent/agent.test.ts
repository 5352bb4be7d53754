// Pods as real processes of this host, on loopback addresses: what a Pod's life looks like from the API.

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Agent, type AgentOptions } from '../../agent/agent.ts';
import { findMarked } from '../../agent/pods/process.ts';
import { systemClock } from '../../api/clock.ts';
import { silentLog } from '../../api/log.ts';
import type { Container, Pod } from '../../api/types.ts';
import { waitFor } from '../lib/wait-for.ts';
import { FakeApi } from './fake-api.ts';

let api: FakeApi;
let agent: Agent;
let dataDir: string;
const node = 'n1';
const sh = (script: string, more: Partial<Container> = {}): Container => ({ name: 'main', command: ['sh', '-c', script], ...more });

function makeAgent(more: Partial<AgentOptions> = {}): Agent {
  return new Agent({
    client: api.client, nodeName: node, nodeIPs: ['127.0.0.1'], podCIDR: '127.64.77.0/24', mode: 'loopback', dataDir, servingCert: undefined,
    dnsAddress: undefined, clusterDomain: 'cluster.local', bind: '127.0.0.1', port: 0, clock: systemClock, log: silentLog, ...more,
  });
}
/** Resolves once the agent in the other process runs its Pod. */
async function startAgentProcess(folder: string, script: string): Promise<{ child: ChildProcess; agentId: string; pod: Pod }> {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'agent-process.ts'), folder, 'loopback', '-', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = await once(child.stdout as Readable, 'data') as [Buffer];
  return { child, ...JSON.parse(line.toString()) as { agentId: string; pod: Pod } };
}
const agentId = (): string => readFileSync(join(dataDir, 'agent-id'), 'utf8').trim();
const processes = (): Promise<number[]> => findMarked('NETLOOM_AGENT_ID', agentId());
function logOf(name: string, start = 0): string {
  const folder = readdirSync(join(dataDir, 'pods')).find((each) => each.startsWith(`default_${name}_`)) ?? '';
  return readFileSync(join(dataDir, 'pods', folder, 'main', `${start}.log`), 'utf8').split('\n').map((line) => line.split(' ').slice(3).join(' ')).join('\n');
}
const container = (name: string): NonNullable<NonNullable<Pod['status']>['containerStatuses']>[number] | undefined => api.pod(name)?.status?.containerStatuses?.[0];

beforeEach(async () => {
  api = new FakeApi();
  dataDir = mkdtempSync(join(tmpdir(), 'netloom-agent-'));
  agent = makeAgent();
  await agent.start();
});
afterEach(async () => {
  await agent.stop(1_000);
  expect(await processes()).toEqual([]);
  rmSync(dataDir, { recursive: true, force: true });
});

test('start registers the Node with addresses, capacity and Ready, and takes its Lease', () => {
  const registered = api.node(node);
  expect(registered?.status?.addresses?.[0]).toEqual({ type: 'InternalIP', address: '127.0.0.1' });
  expect(registered?.status?.conditions?.find((each) => each.type === 'Ready')?.status).toBe('True');
  expect(Number(registered?.status?.capacity?.['cpu'])).toBeGreaterThan(0);
  expect(registered?.spec?.podCIDR).toBe('127.64.77.0/24');
  const lease = api.objects.get(`/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/${node}`) as { spec?: { leaseDurationSeconds?: number } };
  expect(lease.spec?.leaseDurationSeconds).toBe(40);
  expect(agent.health()).toEqual({ ok: true });
});

test('a Pod runs with env, $(VAR) expansion, references, POD_IP and its working directory; its output is kept', async () => {
  api.put('/api/v1/namespaces/default/configmaps/c', { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'c', namespace: 'default' }, data: { color: 'blue' } } as never);
  api.put('/api/v1/namespaces/default/secrets/s', { apiVersion: 'v1', kind: 'Secret', metadata: { name: 's', namespace: 'default' }, data: { word: Buffer.from('xyzzy').toString('base64') } } as never);
  api.addPod('a', node, {
    restartPolicy: 'Never',
    containers: [sh('echo "$GREETING|$COLOR|$WORD|$NAME|$(pwd)|$POD_IP|$HOST|$1|$P_color"', {
      workingDir: '/tmp', command: ['sh', '-c', 'echo "$GREETING|$COLOR|$WORD|$NAME|$(pwd)|$POD_IP|$HOST|$1|$P_color"; echo err >&2', 'sh'], args: ['$(GREETING)-$$(X)-$(NONE)'],
      env: [{ name: 'WHO', value: 'world' }, { name: 'GREETING', value: 'hello $(WHO)' }, { name: 'COLOR', valueFrom: { configMapKeyRef: { name: 'c', key: 'color' } } },
        { name: 'WORD', valueFrom: { secretKeyRef: { name: 's', key: 'word' } } }, { name: 'NAME', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } }],
      envFrom: [{ prefix: 'P_', configMapRef: { name: 'c' } }],
    })],
  });
  await waitFor(() => api.pod('a')?.status?.phase === 'Succeeded');
  const ip = api.pod('a')?.status?.podIP as string;
  expect(ip).toMatch(/^127\.64\.77\.\d+$/);
  await waitFor(() => logOf('a').includes('err\n'));
  expect(logOf('a')).toContain(`hello world|blue|xyzzy|a|/tmp|${ip}|${ip}|hello world-$(X)-$(NONE)|blue\n`);
  expect(container('a')?.state?.terminated).toMatchObject({ exitCode: 0, reason: 'Completed' });
});

test('a missing ConfigMap keeps the container waiting and it starts once the ConfigMap is there', async () => {
  api.addPod('a', node, { containers: [sh('exec sleep 100', { envFrom: [{ configMapRef: { name: 'late' } }] })] });
  await waitFor(() => container('a')?.state?.waiting?.reason === 'CreateContainerConfigError');
  expect(container('a')?.state?.waiting?.message).toContain('configmap "late" not found');
  api.put('/api/v1/namespaces/default/configmaps/late', { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'late', namespace: 'default' }, data: {} } as never);
  await waitFor(() => api.isReady('a'));
});

test('a container without a command waits with a Warning event that says what to do', async () => {
  api.addPod('a', node, { containers: [{ name: 'main', image: 'nginx' }] });
  await waitFor(() => container('a')?.state?.waiting?.reason === 'CommandMissing');
  const event = await waitFor(() => api.events().find((each) => each.reason === 'CommandMissing'));
  expect(event).toMatchObject({ type: 'Warning', involvedObject: { name: 'a', kind: 'Pod' } });
  expect(event.message).toContain('netloom runs processes, not images');
  expect(api.pod('a')?.status?.phase).toBe('Pending');
});

test('a program that does not exist is named in the status', async () => {
  api.addPod('a', node, { containers: [{ name: 'main', command: ['no-such-program'] }] });
  await waitFor(() => container('a')?.state?.waiting?.message?.includes('exec: "no-such-program": executable file not found'));
});

test('init containers run one after the other before the containers', async () => {
  const out = join(dataDir, 'order');
  api.addPod('a', node, {
    initContainers: [{ name: 'i1', command: ['sh', '-c', `echo one >> ${out}`] }, { name: 'i2', command: ['sh', '-c', `echo two >> ${out}`] }],
    containers: [sh(`echo main >> ${out}; sleep 100`)],
  });
  await waitFor(() => api.isReady('a'));
  await waitFor(() => readFileSync(out, 'utf8') === 'one\ntwo\nmain\n');
  expect(api.pod('a')?.status?.initContainerStatuses?.map((each) => each.state?.terminated?.exitCode)).toEqual([0, 0]);
});

test('a process that dies is seen at once, restarted at once the first time, then with CrashLoopBackOff', async () => {
  api.addPod('a', node, { containers: [sh('exec sleep 100')] });
  await waitFor(() => api.isReady('a'));
  const [pid] = await processes();
  process.kill(pid as number, 'SIGKILL');
  await waitFor(() => container('a')?.restartCount === 1 && api.isReady('a'), { timeoutMs: 2_000 });
  expect(container('a')?.lastState?.terminated).toMatchObject({ exitCode: 137, signal: 9 });
  const [second] = await processes();
  process.kill(second as number, 'SIGKILL');
  await waitFor(() => container('a')?.state?.waiting?.reason === 'CrashLoopBackOff', { timeoutMs: 2_000 });
  expect(api.isReady('a')).toBe(false);
});

test.each([['Never', 3, 'Failed'], ['OnFailure', 0, 'Succeeded'], ['Never', 0, 'Succeeded']] as const)('restartPolicy %s, exit code %i: phase %s', async (restartPolicy, code, phase) => {
  api.addPod('a', node, { restartPolicy, containers: [sh(`exit ${code}`)] });
  await waitFor(() => api.pod('a')?.status?.phase === phase);
  expect(container('a')?.restartCount).toBe(0);
});

test('a readiness probe decides readiness in both directions; the port is found by name', async () => {
  const server = createServer((socket) => socket.end()).listen(0, '127.64.77.2');
  await waitFor(() => server.listening);
  const { port } = server.address() as { port: number };
  api.addPod('a', node, { containers: [sh('exec sleep 100', { ports: [{ name: 'tcp', containerPort: port }], readinessProbe: { tcpSocket: { port: 'tcp' }, periodSeconds: 1, failureThreshold: 1 } })] });
  await waitFor(() => api.isReady('a'), { timeoutMs: 2_000 });
  expect(api.pod('a')?.status?.podIP).toBe('127.64.77.2');
  server.close();
  await waitFor(() => !api.isReady('a'), { timeoutMs: 3_000 });
});

test.skipIf(process.getuid?.() !== 0)('securityContext.runAsUser runs the process as that user', async () => {
  api.addPod('a', node, { restartPolicy: 'Never', securityContext: { runAsUser: 65534 }, containers: [sh('id -u; id -g')] });
  await waitFor(() => api.pod('a')?.status?.phase === 'Succeeded' && logOf('a') === '65534\n65534\n');
});

test('a failing liveness probe restarts the container', async () => {
  api.addPod('a', node, { terminationGracePeriodSeconds: 1, containers: [sh('exec sleep 100', { livenessProbe: { exec: { command: ['false'] }, periodSeconds: 1, failureThreshold: 1 } })] });
  await waitFor(() => (container('a')?.restartCount ?? 0) >= 1, { timeoutMs: 5_000 });
  await waitFor(() => api.events().some((each) => each.reason === 'Unhealthy' && each.message?.includes('Liveness')));
});

test('deleting a Pod runs preStop, sends SIGTERM, and removes the object when the process has ended', async () => {
  const out = join(dataDir, 'stop');
  api.addPod('a', node, {
    terminationGracePeriodSeconds: 10,
    containers: [sh(`trap 'echo term >> ${out}; exit 0' TERM; echo up; while :; do sleep 0.05; done`, { lifecycle: { preStop: { exec: { command: ['sh', '-c', `echo prestop >> ${out}`] } } } })],
  });
  await waitFor(() => api.isReady('a') && logOf('a').includes('up'));
  api.deletePod('a');
  await waitFor(() => api.pod('a') === undefined, { timeoutMs: 5_000 });
  expect(readFileSync(out, 'utf8')).toBe('prestop\nterm\n');
  expect(await processes()).toEqual([]);
});

test('what ignores SIGTERM is killed after the grace, with all descendants, also those that left the session', async () => {
  api.addPod('a', node, { terminationGracePeriodSeconds: 1, containers: [sh(`trap '' TERM; setsid sh -c "trap '' TERM; sleep 1000" & while :; do sleep 1000; done`)] });
  await waitFor(async () => (await processes()).length >= 4);
  api.deletePod('a');
  await waitFor(() => api.pod('a') === undefined, { timeoutMs: 6_000 });
  expect(await processes()).toEqual([]);
});

test('a Pod that vanishes from the API and one replaced under the same name both end', async () => {
  api.addPod('a', node, { containers: [sh('exec sleep 100')] });
  await waitFor(() => api.isReady('a'));
  const first = await processes();
  api.remove('/api/v1/namespaces/default/pods/a');
  api.addPod('a', node, { containers: [sh('exec sleep 200')] });
  await waitFor(async () => { const now = await processes(); return now.length === 1 && !first.includes(now[0] as number); });
  await waitFor(() => api.isReady('a'));
});

test('an agent killed with SIGKILL takes all its processes along, also those that left the session', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'netloom-agent-'));
  const { child, agentId: id } = await startAgentProcess(folder, 'setsid sleep 1000 & exec sleep 1000');
  await waitFor(async () => (await findMarked('NETLOOM_AGENT_ID', id)).length === 2);
  child.kill('SIGKILL');
  await waitFor(async () => (await findMarked('NETLOOM_AGENT_ID', id)).length === 0, { timeoutMs: 5_000 });
  rmSync(folder, { recursive: true, force: true });
});

test('a new agent kills what an earlier one left and starts its Pods again with a higher restart count', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'netloom-agent-'));
  const { child, agentId: id, pod } = await startAgentProcess(folder, 'exec sleep 1000');
  const before = await findMarked('NETLOOM_AGENT_ID', id);
  api.addPod('again', 'n2', { restartPolicy: 'Always', containers: [sh('exec sleep 100')] }, {}, pod.status);
  api.addPod('once', 'n2', { restartPolicy: 'Never', containers: [sh('exec sleep 100')] }, {}, pod.status);
  const second = makeAgent({ nodeName: 'n2', dataDir: folder, podCIDR: '127.64.79.0/24' });
  await second.start();
  // A killed process has no environment any more, even while its parent has not yet taken note of its end.
  const now = await findMarked('NETLOOM_AGENT_ID', id);
  for (const pid of before) expect(now).not.toContain(pid);
  await waitFor(() => container('again')?.restartCount === 1 && api.isReady('again'));
  expect(container('again')?.lastState?.terminated).toMatchObject({ exitCode: 137, reason: 'AgentRestarted' });
  await waitFor(() => api.pod('once')?.status?.phase === 'Failed');
  await second.stop(0);
  child.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

test('statuses wait while the API is away and the newest one is written when it is back', async () => {
  api.addPod('a', node, { containers: [sh('exec sleep 100')] });
  await waitFor(() => api.isReady('a'));
  api.isDown = true;
  api.cutWatches();
  const [pid] = await processes();
  process.kill(pid as number, 'SIGKILL');
  await waitFor(async () => { const now = await processes(); return now.length === 1 && now[0] !== pid; });
  api.isDown = false;
  await waitFor(() => container('a')?.restartCount === 1 && api.isReady('a'));
});

test('stop marks the node and its Pods not ready before it ends their processes', async () => {
  const out = join(dataDir, 'seen');
  api.addPod('a', node, { containers: [sh(`trap 'echo done > ${out}; exit 0' TERM; echo up; while :; do sleep 0.05; done`)] });
  // Ready means that the process runs; its first line, that it has set its trap.
  await waitFor(() => api.isReady('a') && logOf('a').includes('up'));
  await agent.stop(2_000);
  expect(readFileSync(out, 'utf8')).toBe('done\n');
  expect(api.isReady('a')).toBe(false);
  expect(api.node(node)?.status?.conditions?.find((each) => each.type === 'Ready')?.status).toBe('False');
});
