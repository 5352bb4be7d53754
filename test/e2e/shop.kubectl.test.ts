// The main job, as a new user does it: the real command, the example shop, real kubectl, curl and dig; once as root with
// kernel rules and Pod namespaces, once as the user nobody with userspace listeners on loopback. Each run has a network
// namespace of its own, so that well-known ports are free and nothing of the machine is touched.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hasTool, isRoot, NetloomProcess, TestNamespace, type CommandResult, type Ready } from '../lib/command.ts';
import { waitFor } from '../lib/wait-for.ts';

const isPossible = isRoot && ['ip', 'kubectl', 'curl', 'dig', 'setpriv'].every(hasTool);
const modes = [
  { mode: 'nftables', isNobody: false, serviceRange: /^10\.96\./, podRange: /^10\.244\./ },
  { mode: 'userspace', isNobody: true, serviceRange: /^127\.96\./, podRange: /^127\.64\./ },
] as const;

describe.skipIf(!isPossible).each(modes)('the example shop in $mode mode (needs root, ip, kubectl, curl, dig)', ({ mode, isNobody, serviceRange, podRange }) => {
  let namespace: TestNamespace;
  let netloom: NetloomProcess;
  let ready: Ready;
  const run = (file: string, ...args: string[]): Promise<CommandResult> => namespace.run(file, args);
  const kubectl = (...args: string[]): Promise<CommandResult> => namespace.run('kubectl', ['--kubeconfig', ready.kubeconfig, ...args], { env: { HOME: netloom.dataDir } });
  const curl = (...args: string[]): Promise<CommandResult> => run('curl', '-sS', '--max-time', '5', ...args);
  const dig = async (...args: string[]): Promise<string[]> => (await run('dig', '+short', '+time=2', '+tries=1', `@${ready.dns.address}`, '-p', String(ready.dns.port), ...args)).stdout.trim().split('\n').filter((line) => line !== '').sort();

  beforeAll(async () => {
    namespace = new TestNamespace();
    netloom = new NetloomProcess({ namespace, isNobody, args: ['up', '-f', 'examples/shop'].map((part) => part.replace('examples/shop', new URL('../../examples/shop', import.meta.url).pathname)) });
    ready = await netloom.ready();
  });
  afterAll(() => { netloom?.remove(); });

  test('it chooses the engine by what the user may do and says where everything is', () => {
    expect(ready.proxyMode).toBe(mode);
    expect(netloom.output).toContain('ready in');
    expect(netloom.output).toMatch(/curl http/);
    expect(netloom.output).not.toMatch(/^xx/m);
  });

  test('every printed curl, dig and kubectl line works when pasted', async () => {
    const lines = netloom.output.split('\n').map((line) => line.trim()).filter((line) => /^(curl|dig|kubectl) /.test(line)).map((line) => line.replace(/\s+#.*$/, ''));
    expect(lines.length).toBeGreaterThan(6);
    for (const line of lines) {
      const result = await namespace.run('sh', ['-c', line], { env: { HOME: netloom.dataDir } });
      expect(result.code, `${line}\n${result.stderr}`).toBe(0);
      expect(result.stdout.trim(), line).not.toBe('');
    }
  });

  test('kubectl shows the kinds with the columns that a user knows', async () => {
    const services = await kubectl('get', 'services', '-A');
    expect(services.stdout).toMatch(/^NAMESPACE\s+NAME\s+TYPE\s+CLUSTER-IP\s+EXTERNAL-IP\s+PORT\(S\)\s+AGE/);
    expect(services.stdout).toMatch(/shop\s+api\s+NodePort\s+\S+\s+<none>\s+8080:30080\/TCP/);
    expect(services.stdout).toMatch(/shop\s+web-direct\s+ClusterIP\s+None\s+<none>\s+8080\/TCP/);
    expect(services.stdout).toMatch(/default\s+kubernetes\s+ClusterIP/);
    expect((await kubectl('get', 'pods', '-n', 'shop')).stdout).toMatch(/^NAME\s+READY\s+STATUS\s+RESTARTS\s+AGE\nweb|^NAME\s+READY\s+STATUS\s+RESTARTS\s+AGE\napi/);
    expect((await kubectl('get', 'nodes')).stdout).toMatch(/^NAME\s+STATUS\s+ROLES\s+AGE\s+VERSION\n\S+\s+Ready/);
    for (const kind of ['namespaces', 'endpoints', 'endpointslices', 'ingresses', 'ingressclasses', 'secrets', 'configmaps', 'events', 'leases']) {
      const result = await kubectl('get', kind, '-A');
      expect(result.code, `${kind}: ${result.stderr}`).toBe(0);
    }
    expect((await kubectl('describe', 'service', 'web', '-n', 'shop')).stdout).toMatch(/Endpoints:\s+\d+\.\d+\.\d+\.\d+:8080/);
  });

  test('a ClusterIP reaches every ready process', async () => {
    const ip = (await kubectl('get', 'svc', 'web', '-n', 'shop', '-o', 'jsonpath={.spec.clusterIP}')).stdout;
    expect(ip).toMatch(serviceRange);
    const seen = new Set<string>();
    await waitFor(async () => { seen.add((await curl(`http://${ip}:8080/`)).stdout); return seen.size >= 3; }, { what: 'three different processes to answer' });
    for (const line of seen) expect(line).toMatch(/^hello from web-/);
  });

  test('a NodePort answers on the bind address', async () => {
    const result = await curl('http://127.0.0.1:30080/items');
    expect(JSON.parse(result.stdout)).toMatchObject({ path: '/items', servedBy: expect.stringMatching(/^api-/) });
  });

  test('the Ingress routes by host and path and answers 404 to an unknown host', async () => {
    const base = `http://127.0.0.1:${ready.http.port}`;
    expect((await curl('-H', 'Host: shop.example', `${base}/`)).stdout).toMatch(/^hello from web-/);
    expect(JSON.parse((await curl('-H', 'Host: shop.example', `${base}/api/items`)).stdout)).toMatchObject({ path: '/api/items' });
    expect(JSON.parse((await curl('-H', 'Host: api.example', `${base}/x`)).stdout)).toMatchObject({ path: '/x' });
    expect((await curl('-o', '/dev/null', '-w', '%{http_code}', '-H', 'Host: nobody.example', `${base}/`)).stdout).toBe('404');
  });

  test('dig answers A, SRV, PTR, CNAME and the processes behind a headless Service', async () => {
    const ip = (await kubectl('get', 'svc', 'web', '-n', 'shop', '-o', 'jsonpath={.spec.clusterIP}')).stdout;
    expect(await dig('web.shop.svc.cluster.local', 'A')).toEqual([ip]);
    expect(await dig('web.shop.svc.cluster.local', 'AAAA')).toEqual([]);
    expect(await dig('_http._tcp.web.shop.svc.cluster.local', 'SRV')).toEqual([expect.stringMatching(/^0 \d+ 8080 web\.shop\.svc\.cluster\.local\.$/)]);
    expect(await dig('-x', ip)).toEqual(['web.shop.svc.cluster.local.']);
    expect(await dig('payments.partners.svc.cluster.local', 'CNAME')).toEqual(['web.shop.svc.cluster.local.']);
    const direct = await dig('web-direct.shop.svc.cluster.local', 'A');
    expect(direct).toHaveLength(3);
    for (const address of direct) expect(address).toMatch(podRange);
    const none = await run('dig', `@${ready.dns.address}`, '-p', String(ready.dns.port), 'none.shop.svc.cluster.local');
    expect(none.stdout).toContain('status: NXDOMAIN');
    expect(none.stdout).toMatch(/SOA/);
  });

  test('kubectl logs shows what a process wrote', async () => {
    await kubectl('run', 'talker', '-n', 'shop', '--image=local', '--restart=Never', '--command', '--', 'sh', '-c', 'echo hello from the log; exec sleep 100');
    await waitFor(async () => (await kubectl('logs', '-n', 'shop', 'talker')).stdout.includes('hello from the log'), { what: 'the log line' });
    expect((await kubectl('delete', 'pod', 'talker', '-n', 'shop', '--now')).code).toBe(0);
  });

  test('scaling shows within a second or so, and a killed process is out of rotation and replaced', async () => {
    expect((await kubectl('scale', 'deployment', 'web', '-n', 'shop', '--replicas=5')).stdout).toContain('scaled');
    await waitFor(async () => (await dig('web-direct.shop.svc.cluster.local', 'A')).length === 5, { what: 'five addresses' });
    const name = (await kubectl('get', 'pods', '-n', 'shop', '-l', 'app=web', '-o', 'jsonpath={.items[0].metadata.name}')).stdout;
    const pid = /pid (\d+)/.exec((await kubectl('exec', '-n', 'shop', name, '--', 'sh', '-c', 'echo pid $PPID')).stdout)?.[1];
    expect(pid).toBeDefined();
    expect((await kubectl('delete', 'pod', name, '-n', 'shop', '--force', '--grace-period=0')).code).toBe(0);
    const ip = (await kubectl('get', 'svc', 'web', '-n', 'shop', '-o', 'jsonpath={.spec.clusterIP}')).stdout;
    await waitFor(async () => (await dig('web-direct.shop.svc.cluster.local', 'A')).length === 5, { what: 'five addresses again' });
    for (let count = 0; count < 20; count++) expect((await curl(`http://${ip}:8080/`)).stdout).toMatch(/^hello from web-/);
  });

  test('the admin port tells health and metrics', async () => {
    expect((await curl(`http://127.0.0.1:${ready.admin.port}/readyz`)).stdout).toBe('ok');
    const metrics = (await curl(`http://127.0.0.1:${ready.admin.port}/metrics`)).stdout;
    for (const name of ['kubeproxy_sync_proxy_rules_duration_seconds', 'process_cpu_seconds_total']) expect(metrics).toContain(name);
  });

  test('netloom check finds nothing wrong, and explain tells the path of a Service', async () => {
    const command = [new URL('../../bin/netloom.js', import.meta.url).pathname];
    const check = await namespace.run(process.execPath, [...command, 'check', '--data-dir', netloom.dataDir, '--wait', '5s']);
    expect(check.stdout, check.stdout).toMatch(/0 failed/);
    const explained = await namespace.run(process.execPath, [...command, 'explain', 'svc', 'web', '-n', 'shop', '--data-dir', netloom.dataDir]);
    expect(explained.stdout).toMatch(/5 of 5 endpoints ready/);
  });

  test('SIGTERM stops everything and leaves nothing behind', async () => {
    expect(await netloom.stop()).toBe(0);
    await waitFor(() => netloom.leftovers().length === 0, { what: 'all processes to be gone' });
    const links = (await run('ip', '-o', 'link')).stdout.split('\n').filter((line) => line !== '');
    expect(links.filter((line) => !/ lo:|sit0|ip6tnl0|tunl0|gre0|gretap0|erspan0|ip_vti0|ip6_vti0|ip6gre0/.test(line))).toEqual([]);
    expect((await run('nft', 'list', 'tables')).stdout).not.toContain('netloom');
    expect((await run('ip', 'addr', 'show', 'dev', 'lo')).stdout).not.toMatch(/10\.(96|244)\./);
  });
});
