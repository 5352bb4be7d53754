// Several hosts: a control plane and two nodes that joined by token, each host a network namespace of its own. Services
// reach Pods on the other host, the control plane may go away, and a host that dies takes its endpoints with it.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hasTool, isRoot, NetloomProcess, root, TestNamespace, type CommandResult, type Ready } from '../lib/command.ts';
import { waitFor } from '../lib/wait-for.ts';

const isPossible = isRoot && ['ip', 'kubectl', 'curl', 'nft'].every(hasTool);

describe.skipIf(!isPossible)('two nodes joined by token (needs root, ip, nft, kubectl, curl)', () => {
  const [hostA, hostB] = isPossible ? [new TestNamespace(), new TestNamespace()] : [undefined as never, undefined as never];
  const folder = mkdtempSync(join(tmpdir(), 'netloom-nodes-'));
  let server: NetloomProcess;
  let nodeA: NetloomProcess;
  let nodeB: NetloomProcess;
  let ready: Ready;
  const kubectl = (...args: string[]): Promise<CommandResult> => hostA.run('kubectl', ['--kubeconfig', ready.kubeconfig, ...args], { env: { HOME: folder } });
  const curl = (host: TestNamespace, url: string): Promise<CommandResult> => host.run('curl', ['-sS', '--max-time', '3', url]);

  beforeAll(async () => {
    const [a, b] = [`nl${hostA.name.slice(-6)}a`, `nl${hostA.name.slice(-6)}b`];
    execFileSync('ip', ['link', 'add', a, 'netns', hostA.name, 'type', 'veth', 'peer', 'name', b, 'netns', hostB.name]);
    for (const [host, link, address] of [[hostA, a, '192.0.2.1'], [hostB, b, '192.0.2.2']] as const) {
      execFileSync('ip', ['-n', host.name, 'addr', 'add', `${address}/24`, 'dev', link]);
      execFileSync('ip', ['-n', host.name, 'link', 'set', link, 'up']);
    }
    server = new NetloomProcess({ namespace: hostA, args: ['server', '--bind', '192.0.2.1', '--admin-port', '0'] });
    ready = await server.ready();
    const made = await hostA.run(process.execPath, [join(root, 'bin/netloom.js'), 'token', 'create', '--data-dir', server.dataDir]);
    const token = made.stdout.trim();
    const args = (name: string, address: string): string[] => ['node', '--server', 'https://192.0.2.1:6443', '--token', token, '--node-name', name, '--bind', address, '--admin-port', '0', '--healthz-port', '0'];
    nodeA = new NetloomProcess({ namespace: hostA, args: args('a', '192.0.2.1') });
    nodeB = new NetloomProcess({ namespace: hostB, args: args('b', '192.0.2.2') });
    await Promise.all([nodeA.ready(30_000), nodeB.ready(30_000)]);
    const shop = join(folder, 'shop.yaml');
    writeFileSync(shop, readFileSync(join(root, 'examples/shop/shop.yaml'), 'utf8').replaceAll('workingDir: .', `workingDir: ${join(root, 'examples/shop')}`));
    expect((await kubectl('apply', '-f', shop)).code).toBe(0);
    expect((await kubectl('rollout', 'status', 'deployment', '-n', 'shop', 'web', '--timeout=30s')).code).toBe(0);
    expect((await kubectl('rollout', 'status', 'deployment', '-n', 'shop', 'api', '--timeout=30s')).code).toBe(0);
  });
  afterAll(async () => {
    for (const one of [nodeA, nodeB, server]) { if (one?.exitCode === undefined) await one?.stop().catch(() => undefined); one?.remove(); }
    hostA?.remove();
    hostB?.remove();
    rmSync(folder, { recursive: true, force: true });
  });

  test('a wrong token is refused before it is sent, by the hash of the CA in it', async () => {
    const wrong = new NetloomProcess({ namespace: hostB, args: ['node', '--server', 'https://192.0.2.1:6443', '--token', `abcdef.${'0'.repeat(64)}.${'1'.repeat(64)}`, '--admin-port', '0'] });
    try {
      expect(await wrong.ended()).toBe(1);
      expect(wrong.output).toMatch(/xx {2}the server at https:\/\/192\.0\.2\.1:6443 is not the one that made this token.*\nfix: /);
    } finally { rmSync(wrong.dataDir, { recursive: true, force: true }); }
  });

  test('both nodes are ready, each with its own part of the Pod range', async () => {
    const nodes = (await kubectl('get', 'nodes', '-o', 'jsonpath={range .items[*]}{.metadata.name} {.spec.podCIDR} {.status.conditions[?(@.type=="Ready")].status}{"\\n"}{end}')).stdout.trim().split('\n').sort();
    expect(nodes[0]).toMatch(/^a 10\.244\.\d+\.0\/24 True$/);
    expect(nodes[1]).toMatch(/^b 10\.244\.\d+\.0\/24 True$/);
    expect(nodes[0]?.split(' ')[1]).not.toBe(nodes[1]?.split(' ')[1]);
  });

  test('a ClusterIP reaches the Pods of both hosts from both hosts, and a NodePort answers on each', async () => {
    const where = (await kubectl('get', 'pods', '-n', 'shop', '-l', 'app=web', '-o', 'jsonpath={range .items[*]}{.spec.nodeName} {end}')).stdout;
    expect(where).toContain('a');
    expect(where).toContain('b');
    const ip = (await kubectl('get', 'svc', 'web', '-n', 'shop', '-o', 'jsonpath={.spec.clusterIP}')).stdout;
    for (const host of [hostA, hostB]) {
      const seen = new Set<string>();
      await waitFor(async () => { seen.add((await curl(host, `http://${ip}:8080/`)).stdout.split(' (')[0] ?? ''); return seen.size >= 3; }, { what: 'all three Pods to answer' });
      for (const line of seen) expect(line).toMatch(/^hello from web-/);
    }
    expect((await curl(hostB, 'http://192.0.2.1:30080/')).stdout).toContain('servedBy');
    expect((await curl(hostA, 'http://192.0.2.2:30080/')).stdout).toContain('servedBy');
  });

  test('logs and exec reach Pods on either host through the API server', async () => {
    const names = (await kubectl('get', 'pods', '-n', 'shop', '-o', 'jsonpath={range .items[*]}{.metadata.name} {end}')).stdout.trim().split(' ');
    for (const name of names) expect((await kubectl('exec', '-n', 'shop', name, '--', 'sh', '-c', 'echo $POD_IP from $HOSTNAME')).stdout).toContain(name);
  });

  test('a node may not read other Secrets nor change the other node', async () => {
    await kubectl('create', 'secret', 'generic', 'private', '-n', 'shop', '--from-literal=a=b');
    const asNode = (...args: string[]): Promise<CommandResult> => hostB.run('kubectl', ['--kubeconfig', join(nodeB.dataDir, 'kubeconfig'), ...args], { env: { HOME: folder } });
    expect((await asNode('get', 'secret', 'private', '-n', 'shop')).stderr).toContain('Forbidden');
    expect((await asNode('get', 'secrets', '-A')).stderr).toContain('Forbidden');
    expect((await asNode('label', 'node', 'a', 'x=y')).stderr).toContain('Forbidden');
    expect((await asNode('label', 'node', 'b', 'example.com/x=y')).stdout).toContain('labeled');
  });

  test('with the control plane gone the nodes go on serving what they know, and it finds them again', async () => {
    const ip = (await kubectl('get', 'svc', 'web', '-n', 'shop', '-o', 'jsonpath={.spec.clusterIP}')).stdout;
    await server.stop('SIGKILL');
    for (let count = 0; count < 10; count++) expect((await curl(hostB, `http://${ip}:8080/`)).stdout).toMatch(/^hello from web-/);
    expect((await hostB.run('dig', ['+short', '+time=2', '@192.0.2.2', 'web.shop.svc.cluster.local'])).stdout.trim()).toBe(ip);
    const dataDir = server.dataDir;
    rmSync(join(dataDir, 'netloom.json'), { force: true });
    server = new NetloomProcess({ namespace: hostA, dataDir, args: ['server', '--bind', '192.0.2.1', '--admin-port', '0'] });
    await server.ready();
    await kubectl('scale', 'deployment', 'web', '-n', 'shop', '--replicas=4');
    await waitFor(async () => (await kubectl('get', 'endpointslices', '-n', 'shop', '-l', 'kubernetes.io/service-name=web', '-o', 'jsonpath={range .items[*].endpoints[?(@.conditions.ready==true)]}{.addresses[0]} {end}')).stdout.trim().split(' ').length === 4, { timeoutMs: 30_000, what: 'four endpoints' });
  });

  test('a stopped node leaves its kernel rules, and its restart adopts them', async () => {
    expect(await nodeB.stop()).toBe(0);
    expect((await hostB.run('nft', ['list', 'tables'])).stdout).toContain('table ip netloom');
    const dataDir = nodeB.dataDir;
    nodeB = new NetloomProcess({ namespace: hostB, dataDir, args: ['node', '--bind', '192.0.2.2', '--node-name', 'b', '--admin-port', '0', '--healthz-port', '0', '--cleanup'] });
    await nodeB.ready(30_000);
    expect(nodeB.output).toMatch(/isAdopted=true/);
    expect(await nodeB.stop()).toBe(0);
    expect((await hostB.run('nft', ['list', 'tables'])).stdout).not.toContain('netloom');
  });
});
