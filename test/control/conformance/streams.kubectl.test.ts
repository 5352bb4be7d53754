// kubectl's commands that stay open, against Pods of a real agent: logs -f, attach, port-forward of a Service, proxy, exec;
// and get -w across a restart of the server.

import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { Agent } from '../../../agent/agent.ts';
import { ApiClient } from '../../../api/client.ts';
import { systemClock } from '../../../api/clock.ts';
import { silentLog } from '../../../api/log.ts';
import { start } from '../../../control/start.ts';
import { startConformanceWorld } from './rows.ts';
import { configMap, until, words, World } from '../server/harness.ts';

let world: World;
let agent: Agent;
const pods = '/api/v1/namespaces/default/pods';
const script = `
let count = 0; setInterval(() => console.log('tick ' + ++count), 50);
process.stdin.on('data', (text) => console.log('heard ' + text));
require('http').createServer((q, s) => s.end('served ' + q.url)).listen(8080, process.env.HOST);
`;
beforeAll(async () => {
  world = await startConformanceWorld({ podCIDR: '127.64.0.0/16' });
  agent = new Agent({
    client: new ApiClient(world.as('system:node:n1', ['system:nodes'])), nodeName: 'n1', nodeIPs: ['127.0.0.1'], podCIDR: '127.64.79.0/24', mode: 'loopback', dataDir: world.folder,
    servingCert: { ...world.control.servingCertificate(['n1', 'localhost'], ['127.0.0.1']), clientCaPem: world.control.clientCaPem },
    dnsAddress: undefined, clusterDomain: 'cluster.local', bind: '127.0.0.1', port: 0, clock: systemClock, log: silentLog,
  });
  await agent.start();
  const container = { name: 'app', image: 'process', stdin: true, command: [process.execPath, '-e', script], ports: [{ containerPort: 8080, name: 'http' }] };
  await world.call('POST', pods, { body: { metadata: { name: 'web', labels: { app: 'web' } }, spec: { terminationGracePeriodSeconds: 1, containers: [container] } } });
  await world.call('POST', '/api/v1/namespaces/default/services', { body: { metadata: { name: 'web' }, spec: { selector: { app: 'web' }, ports: [{ port: 80, targetPort: 'http' }] } } });
  expect((await world.kubectl('wait --for=condition=Ready pod/web --timeout=15s', { timeoutMs: 20_000 })).out).toContain('condition met');
}, 30_000);
afterAll(async () => { await agent.stop(500); await world.stop(); });

const running: ChildProcess[] = [];
afterEach(() => { for (const child of running.splice(0)) child.kill(); });

interface Open { printed: () => string; input: (text: string) => void; end: () => void; exit: Promise<number | null> }
/** Starts kubectl and leaves it open. */
function open(args: string, kubeconfig = join(world.folder, 'kubeconfig')): Open {
  const child = spawn('kubectl', words(args), { env: { ...process.env, KUBECONFIG: kubeconfig, HOME: world.folder } });
  running.push(child);
  let printed = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => { printed += String(chunk); });
  child.stdin.on('error', () => {});
  return { printed: () => printed, input: (text) => child.stdin.write(text), end: () => child.stdin.end(), exit: new Promise((resolve) => { child.once('exit', resolve); }) };
}
const prints = (child: Open, wanted: RegExp, timeoutMs = 8_000): Promise<void> => until(`${wanted}`, () => wanted.test(child.printed()), timeoutMs).catch((error: Error) => { throw new Error(`${error.message}; it printed: ${child.printed().slice(-500)}`); });

describe('Pods', () => {
  test('logs -f goes on, by Pod and by Service, from the tail that was asked for', async () => {
    const follow = open('logs -f web --tail=1');
    const bySelector = open('logs -f -l app=web --tail=0 --prefix');
    await prints(follow, /tick (\d+)\n(?:.*\n)*tick \d+\n/);
    await prints(bySelector, /\[pod\/web\/app\] tick \d+\n/);
    const numbers = [...follow.printed().matchAll(/tick (\d+)/g)].map((match) => Number(match[1]));
    expect(numbers).toEqual(numbers.map((_, index) => (numbers[0] ?? 0) + index));
    expect((await world.kubectl('logs svc/web --tail=1')).out).toMatch(/^tick \d+\n$/);
    expect((await world.kubectl('logs web --since=1h --limit-bytes=5')).out).toBe('tick ');
  });
  test('attach shows what is printed and passes input on', async () => {
    const attached = open('attach -i web');
    await prints(attached, /tick \d+/);
    attached.input('hello\n');
    await prints(attached, /heard hello/);
  });
  test('exec: exit codes, both outputs apart, much input, by Service', async () => {
    for (const code of [0, 1, 42, 255]) expect((await world.kubectl(['exec', 'web', '--', 'sh', '-c', `exit ${code}`])).code, `exit ${code}`).toBe(code);
    const both = await world.kubectl(['exec', 'web', '--', 'sh', '-c', 'echo one; echo two >&2']);
    expect([both.out, both.err]).toEqual(['one\n', 'two\n']);
    const much = 'x'.repeat(300_000);
    expect((await world.kubectl('exec -i web -- wc -c', { stdin: much })).out.trim()).toBe('300000');
    expect((await world.kubectl('exec svc/web -c app -- echo by-service')).out).toBe('by-service\n');
    const absent = await world.kubectl('exec web -- no-such-program');
    expect(absent.code).not.toBe(0);
    expect((await world.kubectl('exec web -c nope -- true')).err).toContain('container');
  });
  test('port-forward of a Service and of a Pod by port name', async () => {
    for (const target of ['svc/web :80', 'pod/web :http']) {
      const child = open(`port-forward ${target} --address=127.0.0.1`);
      await prints(child, /127\.0\.0\.1:\d+ -> 8080/);
      const port = /127\.0\.0\.1:(\d+) ->/.exec(child.printed())?.[1];
      const answers = await Promise.all(['/a', '/b', '/c'].map(async (path) => (await fetch(`http://127.0.0.1:${port}${path}`)).text()));
      expect(answers).toEqual(['served /a', 'served /b', 'served /c']);
    }
    expect((await world.kubectl('port-forward svc/web :81')).err).toContain('does not have a service port 81');
  });
  test('proxy: plain HTTP to the API and through it to a Service', async () => {
    const child = open('proxy --port=0');
    await prints(child, /127\.0\.0\.1:\d+/);
    const address = /127\.0\.0\.1:\d+/.exec(child.printed())?.[0];
    const list = await (await fetch(`http://${address}/api/v1/namespaces/default/services`)).json() as { kind: string };
    expect(list.kind).toBe('ServiceList');
    expect(await (await fetch(`http://${address}/api/v1/namespaces/default/services/web:80/proxy/through`)).text()).toBe('served /through');
  });
  test('run --rm -i: a Pod for one command, gone afterwards', async () => {
    const result = await world.kubectl('run once --rm -i --restart=Never --image=process --command -- sh -c \'read word; echo got $word\'', { stdin: 'this\n', timeoutMs: 15_000 });
    expect(result.all).toMatch(/got this[\s\S]*pod "once" deleted/);
    expect((await world.call('GET', `${pods}/once`)).status).toBe(404);
  });
});

test('get -w goes on when asked again after a restart of the server, without repeating or losing anything', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'netloom-watch-'));
  let own = new World(await start({ dataDir: folder, isControllersOn: false }), folder);
  try {
    const { port } = own.control;
    const kubeconfig = join(folder, 'kubeconfig');
    const path = '/api/v1/namespaces/default/configmaps';
    const watching = open('get cm -w --output-watch-events --no-headers', kubeconfig);
    await until('the watch', async () => /netloom_control_watches [1-9]/.test((await own.call('GET', '/metrics')).text));
    await own.call('POST', path, { body: configMap('before') });
    await prints(watching, /ADDED +before/);
    await own.control.stop();
    // kubectl ends cleanly when the stream does; scripts call it again.
    expect(await watching.exit).toBe(0);
    own = new World(await start({ dataDir: folder, isControllersOn: false, port }), folder);
    const again = open('get cm -w --output-watch-events --no-headers', kubeconfig);
    await until('the watch', async () => /netloom_control_watches [1-9]/.test((await own.call('GET', '/metrics')).text));
    await own.call('POST', path, { body: configMap('after') });
    await own.call('DELETE', `${path}/before`);
    await prints(again, /DELETED +before/);
    expect([...again.printed().matchAll(/^(\w+) +(\w+)/gm)].map((match) => `${match[1]} ${match[2]}`)).toEqual(['ADDED before', 'ADDED after', 'DELETED before']);
  } finally {
    await own.control.stop();
    rmSync(folder, { recursive: true, force: true });
  }
});
