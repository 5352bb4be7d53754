// kubectl logs, exec, attach, cp and port-forward through the API server to a real agent, which has no more rights than
// a node's own identity gives it.

import { spawn } from 'node:child_process';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Agent } from '../../../agent/agent.ts';
import { ApiClient } from '../../../api/client.ts';
import { systemClock } from '../../../api/clock.ts';
import { silentLog } from '../../../api/log.ts';
import { startWorld, until, type World } from './harness.ts';

let world: World;
let agent: Agent;
beforeAll(async () => {
  world = await startWorld({ podCIDR: '127.64.0.0/16' });
  await world.control.whenReady();
  await until('the default service account', async () => (await world.call('GET', '/api/v1/namespaces/default/serviceaccounts/default')).status === 200);
  agent = new Agent({
    client: new ApiClient(world.as('system:node:n1', ['system:nodes'])), nodeName: 'n1', nodeIPs: ['127.0.0.1'], podCIDR: '127.64.78.0/24', mode: 'loopback', dataDir: world.folder,
    servingCert: { ...world.control.servingCertificate(['n1', 'localhost'], ['127.0.0.1']), clientCaPem: world.control.clientCaPem },
    dnsAddress: undefined, clusterDomain: 'cluster.local', bind: '127.0.0.1', port: 0, clock: systemClock, log: silentLog,
  });
  await agent.start();
  const script = 'console.log("line one"); console.log("line two"); require("http").createServer((q, s) => s.end("pod says " + q.url)).listen(8080, process.env.HOST)';
  await world.call('POST', '/api/v1/namespaces/default/pods', { body: { metadata: { name: 'web' }, spec: { terminationGracePeriodSeconds: 1, containers: [{ name: 'app', image: 'process', command: [process.execPath, '-e', script], ports: [{ containerPort: 8080 }] }] } } });
  await until('the Pod to run', async () => (await world.call('GET', '/api/v1/namespaces/default/pods/web')).json.status.phase === 'Running', 15_000);
  await until('its log', async () => (await world.kubectl('logs web')).out.includes('line two'), 10_000);
});
afterAll(async () => {
  await agent.stop(500);
  await world.stop();
});

test('logs: whole, tail, timestamps; a wrong container is named', async () => {
  expect((await world.kubectl('logs web')).out).toBe('line one\nline two\n');
  expect((await world.kubectl('logs web --tail=1')).out).toBe('line two\n');
  expect((await world.kubectl('logs web --timestamps --tail=1')).out).toMatch(/^\d{4}-\d\d-\d\dT.* line two/);
  expect((await world.kubectl('logs web -c nope')).err).toContain('container nope is not valid for pod web');
  expect((await world.kubectl('get --raw /api/v1/namespaces/default/pods/web/log?tailLines=-1')).err).toContain('tailLines');
});

test('exec: output, exit code, input', async () => {
  expect((await world.kubectl('exec web -- echo hello')).out).toBe('hello\n');
  expect((await world.kubectl(['exec', 'web', '--', 'sh', '-c', 'exit 7'])).code).toBe(7);
  expect((await world.kubectl('exec -i web -- cat', { stdin: 'through and back' })).out).toBe('through and back');
});

test('exec over SPDY, as older clients do it', async () => {
  expect((await world.kubectl('exec web -- echo old', { env: { KUBECTL_REMOTE_COMMAND_WEBSOCKETS: 'false' } })).out).toBe('old\n');
});

test('exec needs the right to it', async () => {
  const kubeconfig = world.file('jane', world.control.kubeconfig('jane'));
  const result = await world.kubectl('exec web -- echo no', { kubeconfig });
  expect([result.code, result.err]).toEqual([1, expect.stringContaining('forbidden')]);
});

test('port-forward carries requests', async () => {
  const child = spawn('kubectl', ['port-forward', 'pod/web', ':8080', '--address=127.0.0.1'], { env: { ...process.env, KUBECONFIG: `${world.folder}/kubeconfig`, HOME: world.folder } });
  try {
    let printed = '';
    child.stdout.on('data', (chunk) => { printed += String(chunk); });
    child.stderr.on('data', (chunk) => { printed += String(chunk); });
    await until(`forwarding, but: ${printed}`, () => /127\.0\.0\.1:\d+ ->/.test(printed), 8_000);
    const port = /127\.0\.0\.1:(\d+) ->/.exec(printed)?.[1];
    const answer = await fetch(`http://127.0.0.1:${port}/x`);
    expect(await answer.text()).toBe('pod says /x');
  } finally {
    child.kill();
  }
});

test('a node that is not the one it says it is gets no connection', async () => {
  await world.call('POST', '/api/v1/nodes', { body: { metadata: { name: 'n2' } } });
  const { json } = await world.call('GET', '/api/v1/nodes/n1');
  await world.call('PATCH', '/api/v1/nodes/n2/status', { body: { status: { addresses: json.status.addresses, daemonEndpoints: json.status.daemonEndpoints } }, contentType: 'application/merge-patch+json' });
  await world.call('POST', '/api/v1/namespaces/default/pods', { body: { metadata: { name: 'stray' }, spec: { nodeName: 'n2', containers: [{ name: 'c', image: 'x' }] } } });
  const answer = await world.call('GET', '/api/v1/namespaces/default/pods/stray/log');
  expect([answer.status, answer.json.message]).toEqual([503, expect.stringContaining('cannot reach the agent of node "n2"')]);
});

test('delete waits for the grace time and the Pod is gone with its process', async () => {
  expect((await world.kubectl('delete pod web')).out).toContain('deleted');
  expect((await world.call('GET', '/api/v1/namespaces/default/pods/web')).status).toBe(404);
});
