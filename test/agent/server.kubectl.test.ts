// Real kubectl (an old one that knows SPDY only, and new ones that speak WebSocket) against the agent's server.

import { execFile, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { get as httpGet } from 'node:http';
import { get as httpsGet } from 'node:https';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { PassThrough } from 'node:stream';
import { Exec, KubeConfig, PortForward } from '@kubernetes/client-node';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Agent } from '../../agent/agent.ts';
import { systemClock } from '../../api/clock.ts';
import { silentLog } from '../../api/log.ts';
import { Authority, createAuthority } from '../../control/certificates.ts';
import { waitFor } from '../lib/wait-for.ts';
import { FakeApi } from './fake-api.ts';
import { startFront, type Front } from './kubectl-front.ts';

// Some installs put one binary per minor version beside a dispatcher that asks the server which of them to run.
const installed = spawnSync('which', ['kubectl'], { encoding: 'utf8' }).stdout.trim();
const beside = installed === '' ? [] : ['1.29', '1.32', '1.33'].map((minor) => join(dirname(realpathSync(installed)), `kubectl.${minor}`)).filter((path) => existsSync(path));
const versions = beside.length > 0 ? beside : installed === '' ? [] : [installed];
let api: FakeApi;
let agent: Agent;
let front: Front;
let folder: string;

interface Result { code: number; stdout: string; stderr: string }
function kubectl(version: string, args: string[], input?: string): Promise<Result> {
  return new Promise((resolve) => {
    const child = execFile(version, ['--kubeconfig', join(folder, 'kubeconfig'), '--cache-dir', join(folder, 'cache'), ...args], { timeout: 15_000, maxBuffer: 2 ** 24 }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code ?? 1), stdout, stderr });
    });
    if (input !== undefined) child.stdin?.end(input);
  });
}

const program = `
const http = require('node:http');
console.log('line one'); console.error('line two'); process.stdout.write('no newline at the end');
http.createServer((q, s) => { if (q.url === '/big') s.end(Buffer.alloc(5e6, 'x')); else s.end('hello ' + q.method); }).listen(18080, process.env.POD_IP);
process.stdin.on('data', (d) => console.log('got ' + d.toString().trim()));
setInterval(() => {}, 1000);
`;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'netloom-kubectl-'));
  api = new FakeApi();
  const now = Date.now();
  const serverAuthority = new Authority(createAuthority('servers', now));
  const clientAuthority = new Authority(createAuthority('clients', now));
  const serving = serverAuthority.issue({ commonName: 'node', usages: ['serverAuth'], names: ['127.0.0.1'], nowMs: now });
  const client = clientAuthority.issue({ commonName: 'api', usages: ['clientAuth'], nowMs: now });
  agent = new Agent({
    client: api.client, nodeName: 'n1', nodeIPs: ['127.0.0.1'], podCIDR: '127.64.81.0/24', mode: 'loopback', dataDir: join(folder, 'agent'),
    servingCert: { ...serving, clientCaPem: clientAuthority.certPem },
    dnsAddress: undefined, clusterDomain: 'cluster.local', bind: '127.0.0.1', port: 0, clock: systemClock, log: silentLog,
  });
  await agent.start();
  front = await startFront(api, { cert: serving.certPem, key: serving.keyPem }, { port: agent.port, tls: { cert: client.certPem, key: client.keyPem } });
  writeFileSync(join(folder, 'kubeconfig'), JSON.stringify({
    apiVersion: 'v1', kind: 'Config', 'current-context': 'c', contexts: [{ name: 'c', context: { cluster: 'c', user: 'u' } }], users: [{ name: 'u', user: { token: 't' } }],
    clusters: [{ name: 'c', cluster: { server: front.url, 'insecure-skip-tls-verify': true } }],
  }));
  api.addPod('a', 'n1', { containers: [{ name: 'main', stdin: true, command: [process.execPath, '-e', program], readinessProbe: { httpGet: { port: 18080 } } }] });
  await waitFor(() => api.isReady('a'));
});
afterAll(async () => {
  // A port-forward is still open here: neither side may wait for it.
  await agent.stop(500);
  await front.close();
  rmSync(folder, { recursive: true, force: true });
});

test('without a client certificate only /healthz is answered', async () => {
  const get = (path: string): Promise<number> => new Promise((resolve) => { httpsGet({ host: '127.0.0.1', port: agent.port, path, rejectUnauthorized: false, agent: false }, (response) => { response.resume(); resolve(response.statusCode ?? 0); }); });
  expect(await get('/healthz')).toBe(200);
  expect(await get('/containerLogs/default/a/main')).toBe(401);
});

describe('the official JavaScript client', () => {
  const load = (): KubeConfig => { const config = new KubeConfig(); config.loadFromFile(join(folder, 'kubeconfig')); return config; };
  test('exec: output and exit status', async () => {
    const out = new PassThrough();
    let text = '';
    out.on('data', (data: Buffer) => { text += data.toString(); });
    const status = await new Promise<{ status?: string; reason?: string }>((resolve, reject) => {
      new Exec(load()).exec('default', 'a', 'main', ['sh', '-c', 'echo from $POD_IP; exit 3'], out, null, null, false, resolve).catch(reject);
    });
    expect(status).toMatchObject({ status: 'Failure', reason: 'NonZeroExitCode' });
    expect(text).toBe(`from ${api.pod('a')?.status?.podIP}\n`);
  });
  test('port-forward over WebSocket channels', async () => {
    const [input, output] = [new PassThrough(), new PassThrough()];
    let text = '';
    output.on('data', (data: Buffer) => { text += data.toString(); });
    await new PortForward(load()).portForward('default', 'a', [18080], output, null, input);
    input.write('GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
    await waitFor(() => text.includes('hello GET'));
  });
});

describe.each(versions)('%s', (version) => {
  test('logs: whole, tail, timestamps, byte limit, unknown container', async () => {
    const whole = await kubectl(version, ['logs', 'a']);
    expect(whole.stdout.split('\n').slice(0, 2).sort()).toEqual(['line one', 'line two']);
    expect((await kubectl(version, ['logs', 'a', '--tail=1'])).stdout).toMatch(/^(line (one|two)|.*got .*)\n$/);
    expect((await kubectl(version, ['logs', 'a', '--timestamps'])).stdout).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z line/);
    expect((await kubectl(version, ['logs', 'a', '--limit-bytes=6'])).stdout).toBe(whole.stdout.slice(0, 6));
    expect((await kubectl(version, ['logs', 'a', '--previous'])).stderr).toContain('previous terminated container');
  });

  test('exec: output, error output, exit code, standard input, terminal', async () => {
    expect(await kubectl(version, ['exec', 'a', '--', 'sh', '-c', 'echo out; echo err >&2; exit 7'])).toMatchObject({ code: 7, stdout: 'out\n', stderr: expect.stringMatching(/^err\n/) as unknown });
    expect((await kubectl(version, ['exec', '-i', 'a', '--', 'wc', '-c'], 'x'.repeat(300_000))).stdout.trim()).toBe('300000');
    expect((await kubectl(version, ['exec', 'a', '--', 'sh', '-c', 'head -c 3000000 /dev/zero'])).stdout.length).toBe(3_000_000);
    expect((await kubectl(version, ['exec', 'a', '--', 'sh', '-c', 'echo $POD_IP'])).stdout).toBe(`${api.pod('a')?.status?.podIP}\n`);
    expect((await kubectl(version, ['exec', 'a', '--', 'no-such-program'])).code).toBe(127);
  });

  test('attach: sends standard input to the process and shows its output', async () => {
    const child = spawn(version, ['--kubeconfig', join(folder, 'kubeconfig'), '--cache-dir', join(folder, 'cache'), 'attach', '-i', 'a'], { stdio: ['pipe', 'pipe', 'pipe'] });
    let output = '';
    child.stdout.on('data', (data: Buffer) => { output += data.toString(); });
    child.stdin.write(`ping ${version}\n`);
    await waitFor(() => output.includes(`got ping ${version}`));
    child.kill('SIGKILL');
  });

  test('port-forward: several requests, a large answer, and a port where nobody listens', async () => {
    const child = spawn(version, ['--kubeconfig', join(folder, 'kubeconfig'), '--cache-dir', join(folder, 'cache'), 'port-forward', 'pod/a', ':18080', ':18081'], { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    child.stdout.on('data', (data: Buffer) => { output += data.toString(); });
    child.stderr.on('data', (data: Buffer) => { output += data.toString(); });
    const portOf = (target: number): Promise<string> => waitFor(() => new RegExp(`127.0.0.1:(\\d+) -> ${target}`).exec(output)?.[1]);
    const port = await portOf(18080);
    const fetchBytes = (path: string): Promise<number> => new Promise((resolve, reject) => {
      httpGet(`http://127.0.0.1:${port}${path}`, { agent: false }, (response) => { let bytes = 0; response.on('data', (data: Buffer) => { bytes += data.length; }); response.on('end', () => resolve(bytes)); }).on('error', reject);
    });
    expect(await Promise.all([fetchBytes('/'), fetchBytes('/'), fetchBytes('/big'), fetchBytes('/')])).toEqual([9, 9, 5_000_000, 9]);
    const dead = await portOf(18081);
    await new Promise((resolve) => { httpGet(`http://127.0.0.1:${dead}/`, { agent: false }).on('error', resolve); });
    await waitFor(() => /ECONNREFUSED|error forwarding port 18081/.test(output));
    child.kill('SIGKILL');
  });
});

test.skipIf(versions.length === 0)('exec with a terminal has one, of the size that the client reports', async () => {
  const command = `stty rows 33 cols 101; ${versions.at(-1)} --kubeconfig ${join(folder, 'kubeconfig')} --cache-dir ${join(folder, 'cache')} exec -it a -- sh -c 'sleep 0.3; stty size; tty'`;
  const output = await new Promise<string>((resolve) => { execFile('script', ['-qefc', command, '/dev/null'], { timeout: 15_000 }, (_error, stdout) => resolve(stdout)); });
  expect(output).toContain('33 101');
  expect(output).toContain('/dev/pts/');
});

test.skipIf(versions.length === 0)('logs --follow ends with the container; --previous shows the run before', async () => {
  api.addPod('f', 'n1', { containers: [{ name: 'main', command: ['sh', '-c', 'echo start; sleep 0.7; echo end; exit 1'] }] });
  await waitFor(() => api.isReady('f'));
  const followed = await kubectl(versions.at(-1) as string, ['logs', '-f', 'f']);
  expect(followed.stdout).toBe('start\nend\n');
  await waitFor(() => (api.pod('f')?.status?.containerStatuses?.[0]?.restartCount ?? 0) >= 1);
  expect((await kubectl(versions.at(-1) as string, ['logs', '--previous', 'f'])).stdout).toBe('start\nend\n');
});
