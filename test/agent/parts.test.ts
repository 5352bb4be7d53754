// The agent's pure and small parts: expansion, resolv.conf, status, address pool, log files, probes.

import { createServer as createHttp2, type ServerHttp2Stream } from 'node:http2';
import { createServer as createHttp } from 'node:http';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { AddressPool } from '../../agent/network/address-pool.ts';
import { commandOf, expand, resolvConfOf } from '../../agent/pods/command.ts';
import type { ContainerView } from '../../agent/pods/container.ts';
import { LogFile } from '../../agent/pods/log-file.ts';
import { sendLog } from '../../agent/pods/log-reader.ts';
import { buildStatus } from '../../agent/pods/status.ts';
import { runProbe } from '../../agent/probes/actions.ts';
import { Prober } from '../../agent/probes/prober.ts';
import { systemClock } from '../../api/clock.ts';
import type { ContainerState, Pod, Probe } from '../../api/types.ts';
import { waitFor } from '../lib/wait-for.ts';

test.each([
  ['$(A)', 'x'], ['$$(A)', '$(A)'], ['$(NONE)', '$(NONE)'], ['a$(A)b$(B)', 'axby'], ['$A', '$A'], ['$', '$'], ['$(A', '$(A'], ['$$$(A)', '$x'], ['$(toString)', '$(toString)'],
])('expansion of %s is %s', (text, expected) => { expect(expand(text, { A: 'x', B: 'y' })).toBe(expected); });

test('args alone are run; neither command nor args is no command', () => {
  expect(commandOf({ name: 'c', args: ['node', '$(A)'] }, { A: 'x' })).toEqual(['node', 'x']);
  expect(commandOf({ name: 'c', command: ['a'], args: ['b'] }, {})).toEqual(['a', 'b']);
  expect(commandOf({ name: 'c', image: 'nginx' }, {})).toBeUndefined();
});

describe('resolv.conf', () => {
  const dns = { dnsAddress: '10.96.0.10', clusterDomain: 'cluster.local' };
  const pod = (spec: Partial<NonNullable<Pod['spec']>>): Pod => ({ metadata: { name: 'p', namespace: 'shop' }, spec: { containers: [], ...spec } });
  test('ClusterFirst names the cluster DNS and the three search domains', () => {
    expect(resolvConfOf(pod({}), dns)).toBe('nameserver 10.96.0.10\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n');
  });
  test('Default, and ClusterFirst on the host network, leave the host file', () => {
    expect(resolvConfOf(pod({ dnsPolicy: 'Default' }), dns)).toBeUndefined();
    expect(resolvConfOf(pod({ hostNetwork: true }), dns)).toBeUndefined();
    expect(resolvConfOf(pod({ hostNetwork: true, dnsPolicy: 'ClusterFirstWithHostNet' }), dns)).toContain('10.96.0.10');
  });
  test('None takes dnsConfig alone; otherwise dnsConfig is added', () => {
    const dnsConfig = { nameservers: ['9.9.9.9'], searches: ['example'], options: [{ name: 'ndots', value: '2' }, { name: 'edns0' }] };
    expect(resolvConfOf(pod({ dnsPolicy: 'None', dnsConfig }), dns)).toBe('nameserver 9.9.9.9\nsearch example\noptions ndots:2 edns0\n');
    expect(resolvConfOf(pod({ dnsConfig }), dns)).toContain('options ndots:2 edns0');
  });
});

describe('Pod status', () => {
  const view = (state: ContainerState, more: Partial<ContainerView> = {}): ContainerView => ({ spec: { name: 'c' }, state, lastState: undefined, restartCount: 0, isReady: false, isStarted: false, containerId: '', ...more });
  const running: ContainerState = { running: { startedAt: 't' } };
  const ended = (exitCode: number): ContainerState => ({ terminated: { exitCode } });
  const phase = (policy: 'Always' | 'OnFailure' | 'Never', ...states: ContainerView[]): string | undefined => buildStatus({
    pod: { metadata: { name: 'p' }, spec: { restartPolicy: policy, containers: [] } }, initContainers: [], containers: states, podIP: '10.0.0.1', hostIP: '1.2.3.4', startTime: 't', now: 't', isInitialized: true, isDraining: false,
  }, undefined).phase;
  test.each([
    ['Always', [view(running)], 'Running'], ['Never', [view(ended(0)), view(ended(0))], 'Succeeded'], ['Never', [view(ended(0)), view(ended(1))], 'Failed'],
    ['Never', [view(ended(1)), view(running)], 'Running'], ['OnFailure', [view(ended(0))], 'Succeeded'], ['OnFailure', [view(ended(1))], 'Running'],
    ['Always', [view(ended(0))], 'Running'], ['Always', [view({ waiting: { reason: 'X' } })], 'Pending'], ['Always', [view({ waiting: { reason: 'CrashLoopBackOff' } }, { lastState: ended(1) })], 'Running'],
  ] as const)('restartPolicy %s: %#', (policy, views, expected) => { expect(phase(policy, ...views)).toBe(expected); });
  test('a condition keeps its transition time while its status stays', () => {
    const input = { pod: { metadata: { name: 'p' }, spec: { containers: [] } }, initContainers: [], containers: [view(running, { isReady: true })], podIP: '10.0.0.1', hostIP: '1.2.3.4', startTime: 't', isInitialized: true, isDraining: false };
    const first = buildStatus({ ...input, now: 't1' }, undefined);
    const second = buildStatus({ ...input, now: 't2' }, first);
    expect(second.conditions?.map((each) => each.lastTransitionTime)).toEqual(first.conditions?.map((each) => each.lastTransitionTime));
    const third = buildStatus({ ...input, now: 't3', isDraining: true }, second);
    expect(third.conditions?.find((each) => each.type === 'Ready')).toMatchObject({ status: 'False', lastTransitionTime: 't3', reason: 'NodeStopping' });
  });
  test('a readiness gate keeps the Pod unready until its condition is True', () => {
    const pod: Pod = { metadata: { name: 'p' }, spec: { containers: [], readinessGates: [{ conditionType: 'x/y' }] } };
    const input = { initContainers: [], containers: [view(running, { isReady: true })], podIP: '', hostIP: '', startTime: 't', now: 't', isInitialized: true, isDraining: false };
    const ready = (each: Pod): string | undefined => buildStatus({ ...input, pod: each }, undefined).conditions?.find((item) => item.type === 'Ready')?.status;
    expect(ready(pod)).toBe('False');
    expect(ready({ ...pod, status: { conditions: [{ type: 'x/y', status: 'True' }] } })).toBe('True');
  });
});

test('the address pool never gives network, gateway or broadcast, rests freed addresses, and says when it is full', () => {
  const pool = new AddressPool('10.1.2.0/29');
  const taken = Array.from({ length: 5 }, () => pool.take());
  expect(taken).toEqual(['10.1.2.2', '10.1.2.3', '10.1.2.4', '10.1.2.5', '10.1.2.6']);
  expect(() => pool.take()).toThrow('all 5 Pod addresses');
  pool.release('10.1.2.4');
  pool.release('10.1.2.2');
  expect([pool.take(), pool.take()].sort()).toEqual(['10.1.2.2', '10.1.2.4']);
  expect(() => new AddressPool('10.1.2.0/31')).toThrow('not an IPv4 range');
});

describe('logs', () => {
  const withFolder = async (work: (folder: string) => Promise<void>): Promise<void> => {
    const folder = mkdtempSync(join(tmpdir(), 'netloom-log-'));
    try { await work(folder); } finally { rmSync(folder, { recursive: true, force: true }); }
  };
  const read = async (path: string, query: Partial<Parameters<typeof sendLog>[1]> = {}): Promise<string> => {
    const out = new PassThrough();
    let text = '';
    out.on('data', (data: Buffer) => { text += data.toString(); });
    await sendLog(path, { hasTimestamps: false, isFollow: false, ...query }, out, Promise.resolve(), new AbortController().signal);
    await new Promise((resolve) => { setImmediate(resolve); });
    return text;
  };
  test('lines split over chunks, a rest without newline, rotation at the size limit, tail over the rotated file', () => withFolder(async (folder) => {
    const file = await LogFile.create(folder, 0, { fileBytesMax: 2_000, clock: systemClock });
    const source = new PassThrough();
    file.capture('stdout', source);
    source.write('hal');
    source.write('f a line\nsecond\n');
    await waitFor(() => readFileSync(file.path, 'utf8').split('\n').length === 3);
    expect(await read(file.path)).toBe('half a line\nsecond\n');
    for (let index = 0; index < 30; index++) source.write(`${index} ${'x'.repeat(40)}\n`);
    source.end('rest');
    await file.whenClosed;
    expect(await read(file.path, { tailLines: 2 })).toBe(`29 ${'x'.repeat(40)}\nrest`);
    const all = await read(file.path);
    expect(all.endsWith('rest')).toBe(true);
    expect((await read(file.path, { tailLines: 25 })).split('\n').length).toBe(25);
    expect(await read(file.path, { sinceMs: systemClock.nowMs() + 60_000 })).toBe('');
  }));
  test('the file of the start before stays, older ones go', () => withFolder(async (folder) => {
    for (const start of [0, 1, 2]) {
      const file = await LogFile.create(folder, start, { fileBytesMax: 1e6, clock: systemClock });
      const source = new PassThrough();
      file.capture('stdout', source);
      source.end(`run ${start}\n`);
      await file.whenClosed;
    }
    expect(await read(join(folder, '0.log'))).toBe('');
    expect(await read(join(folder, '1.log'))).toBe('run 1\n');
    expect(await read(join(folder, '2.log'))).toBe('run 2\n');
  }));
});

describe('probes', () => {
  const exec = (): Promise<{ exitCode: number; output: string }> => Promise.resolve({ exitCode: 0, output: '' });
  const target = (port: number): Parameters<typeof runProbe>[1] => ({ container: { name: 'c', ports: [{ name: 'web', containerPort: port }] }, address: '127.0.0.1', exec, clock: systemClock });
  test('HTTP: 2xx and 3xx succeed, others fail; the host field is ignored; redirects are not followed; headers are sent', async () => {
    const seen: string[] = [];
    const server = createHttp((request, response) => {
      seen.push(`${request.url} ${request.headers.host} ${request.headers['user-agent']}`);
      response.writeHead(Number(request.url?.slice(1)), { location: 'http://192.0.2.1/' }).end();
    }).listen(0, '127.0.0.1');
    await waitFor(() => server.listening);
    const { port } = server.address() as AddressInfo;
    const probe = async (path: string): Promise<boolean> => (await runProbe({ httpGet: { path, port: 'web', host: '192.0.2.1', httpHeaders: [{ name: 'Host', value: 'shop' }] } }, target(port))).isSuccess;
    expect([await probe('/200'), await probe('/302'), await probe('/404'), await probe('503')]).toEqual([true, true, false, false]);
    expect(seen[0]).toBe('/200 shop kube-probe/1.32');
    server.close();
    expect(await runProbe({ httpGet: { port } }, target(port))).toMatchObject({ isSuccess: false, message: expect.stringContaining('ECONNREFUSED') as string });
  });
  test('a silent server fails at the timeout; an endless answer counts once 10 KiB were read', async () => {
    const server = createHttp((request, response) => {
      if (request.url === '/endless') { response.writeHead(200); const timer = setInterval(() => response.write('x'.repeat(4096)), 1); response.on('close', () => clearInterval(timer)); }
    }).listen(0, '127.0.0.1');
    await waitFor(() => server.listening);
    const { port } = server.address() as AddressInfo;
    expect(await runProbe({ httpGet: { port }, timeoutSeconds: 0.1 }, target(port))).toMatchObject({ isSuccess: false, message: 'timeout after 100 ms' });
    expect((await runProbe({ httpGet: { port, path: '/endless' } }, target(port))).isSuccess).toBe(true);
    server.closeAllConnections();
    server.close();
  });
  test.each([[1, true], [2, false]])('gRPC health status %i: %s', async (status, isSuccess) => {
    const server = createHttp2().listen(0, '127.0.0.1');
    server.on('stream', (stream: ServerHttp2Stream) => {
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
      stream.end(Buffer.from([0, 0, 0, 0, 2, 8, status]));
    });
    await waitFor(() => server.listening);
    const { port } = server.address() as AddressInfo;
    expect((await runProbe({ grpc: { port, service: 'x' } }, target(port))).isSuccess).toBe(isSuccess);
    server.close();
  });
  test('startup comes before readiness; a startup that never succeeds is fatal after failureThreshold periods', async () => {
    const calls: string[] = [];
    let startupSucceeds = false;
    const container = { name: 'c', startupProbe: { exec: { command: ['s'] }, periodSeconds: 1, failureThreshold: 1 } satisfies Probe, readinessProbe: { exec: { command: ['r'] } } satisfies Probe };
    const events = { onStarted: () => { calls.push('started'); }, onReady: (is: boolean) => { calls.push(`ready ${is}`); }, onFatal: (kind: string) => { calls.push(`fatal ${kind}`); }, onUnhealthy: () => {} };
    const make = (): Prober => new Prober({ container, address: '', clock: systemClock, events, exec: (argv) => Promise.resolve({ exitCode: argv[0] === 'r' || startupSucceeds ? 0 : 1, output: 'no' }) });
    const failing = make();
    failing.start();
    await waitFor(() => calls.length > 0, { timeoutMs: 3_000 });
    expect(calls).toEqual(['fatal Startup']);
    startupSucceeds = true;
    make().start();
    await waitFor(() => calls.length === 3);
    expect(calls.slice(1)).toEqual(['started', 'ready true']);
  });
});
