// What the machine and its Pods see: resolv.conf in and out, upstream addresses, installing and uninstalling the
// resolver on made-up files, and `explain`.

import { existsSync, lstatSync, mkdirSync, mkdtempSync, readFileSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { KubeObject } from '../../api/types.ts';
import { explainName, formatExplanation } from '../../dns/explain.ts';
import { dropInText, installResolver, installState, reverseZones, uninstallResolver, type InstallPaths } from '../../dns/install.ts';
import { parseResolvConf, parseUpstream, podResolvConf, systemUpstreams } from '../../dns/resolv-conf.ts';
import { makeWorld } from './lib.ts';

describe('resolv.conf', () => {
  test('is read as resolv.conf(5) says', () => {
    expect(parseResolvConf('# c\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver nonsense\nsearch a.test b.test ; x\noptions ndots:2 rotate\n')).toEqual({ nameservers: ['192.0.2.1', 'fe80::1%eth0'], search: ['a.test', 'b.test'], options: ['ndots:2', 'rotate'] });
  });

  test.each([['192.0.2.1', '192.0.2.1', 53], ['192.0.2.1:5353', '192.0.2.1', 5353], ['2001:db8::1', '2001:db8::1', 53], ['[2001:db8::1]:54', '2001:db8::1', 54]])('upstream %s', (text, address, port) => {
    expect(parseUpstream(text)).toEqual({ address, port });
  });
  test.each(['', 'example.com', '1.2.3', '1.2.3.4:0', '1.2.3.4:99999', '[::1', '1.2.3.4:x'])('upstream %j is refused with a hint', (text) => {
    expect(() => parseUpstream(text)).toThrowError(expect.objectContaining({ code: 'ConfigInvalid', hint: expect.stringContaining('--dns-upstream') }) as Error);
  });

  test('a Pod gets the cluster first, then the search domains of the host', () => {
    expect(podResolvConf({ nameserver: '10.96.0.10', namespace: 'shop', clusterDomain: 'cluster.local', hostText: 'search corp.test\nnameserver 192.0.2.1\n' }))
      .toBe('nameserver 10.96.0.10\nsearch shop.svc.cluster.local svc.cluster.local cluster.local corp.test\noptions ndots:5\n');
  });

  test('dnsPolicy None and Default, and dnsConfig on top', () => {
    const base = { nameserver: '10.96.0.10', namespace: 'shop', clusterDomain: 'cluster.local', hostText: 'nameserver 192.0.2.1\nsearch corp.test\n' };
    expect(podResolvConf({ ...base, dnsPolicy: 'Default' })).toBe('nameserver 192.0.2.1\nsearch corp.test\n');
    expect(podResolvConf({ ...base, dnsPolicy: 'None', dnsConfig: { nameservers: ['192.0.2.9'], searches: ['x.test'], options: [{ name: 'ndots', value: '2' }, { name: 'edns0' }] } }))
      .toBe('nameserver 192.0.2.9\nsearch x.test\noptions ndots:2 edns0\n');
    expect(podResolvConf({ ...base, dnsConfig: { options: [{ name: 'ndots', value: '2' }] } })).toContain('options ndots:2\n');
  });
});

describe('upstreams of the machine', () => {
  let directory: string;
  beforeEach(() => { directory = mkdtempSync(join(tmpdir(), 'netloom-dns-')); });
  afterEach(() => rmSync(directory, { recursive: true, force: true }));

  test('the first file with usable servers wins; our own address and our own file are left out', () => {
    const [first, second] = [join(directory, 'a'), join(directory, 'b')];
    writeFileSync(second, 'nameserver 127.0.0.1\nnameserver 192.0.2.2\n');
    expect(systemUpstreams([{ address: '127.0.0.1', port: 53 }], [first, second])).toEqual([{ address: '192.0.2.2', port: 53 }]);
    writeFileSync(first, '# written by netloom\nnameserver 192.0.2.77\n');
    expect(systemUpstreams([], [first, second]).length).toBe(2);
    writeFileSync(first, 'nameserver 192.0.2.3\n');
    expect(systemUpstreams([], [first, second])).toEqual([{ address: '192.0.2.3', port: 53 }]);
    expect(systemUpstreams([], [join(directory, 'none')])).toEqual([]);
  });
});

describe('install', () => {
  let directory: string;
  let paths: InstallPaths;
  const calls: string[] = [];
  const run = (command: string, args: readonly string[]): number => { calls.push(`${command} ${args.join(' ')}`); return 0; };
  const base = { address: '127.0.0.1', port: 53, clusterDomain: 'cluster.local', networks: ['10.96.0.0/16'], run };
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'netloom-dns-'));
    paths = { resolvConf: join(directory, 'etc/resolv.conf'), backup: join(directory, 'etc/resolv.conf.before-netloom'), resolvedRuntime: join(directory, 'run/resolv.conf'), dropIn: join(directory, 'etc/systemd/resolved.conf.d/netloom.conf') };
    mkdirSync(dirname(paths.resolvConf), { recursive: true });
    calls.length = 0;
  });
  afterEach(() => rmSync(directory, { recursive: true, force: true }));

  test('resolv.conf: rewritten with search and options kept, twice is once, and put back whole', () => {
    const old = 'search corp.test\noptions rotate\nnameserver 192.0.2.1\n';
    writeFileSync(paths.resolvConf, old);
    expect(installResolver({ ...base, paths }).method).toBe('resolv.conf');
    installResolver({ ...base, paths });
    expect(parseResolvConf(readFileSync(paths.resolvConf, 'utf8'))).toEqual({ nameservers: ['127.0.0.1'], search: ['corp.test'], options: ['rotate'] });
    expect(uninstallResolver(run, paths)).toBe(true);
    expect(readFileSync(paths.resolvConf, 'utf8')).toBe(old);
    expect(existsSync(paths.backup)).toBe(false);
    expect(uninstallResolver(run, paths)).toBe(false);
  });

  test('resolv.conf that is a symbolic link is one again afterwards', () => {
    symlinkSync('../run/elsewhere', paths.resolvConf);
    installResolver({ ...base, paths });
    expect(lstatSync(paths.resolvConf).isFile()).toBe(true);
    uninstallResolver(run, paths);
    expect(readlinkSync(paths.resolvConf)).toBe('../run/elsewhere');
  });

  test('systemd-resolved: a drop-in with routing domains, resolver reloaded, removed again', () => {
    mkdirSync(dirname(paths.resolvedRuntime), { recursive: true });
    writeFileSync(paths.resolvedRuntime, 'nameserver 192.0.2.1\n');
    expect(installResolver({ ...base, port: 1053, paths }).method).toBe('systemd-resolved');
    expect(readFileSync(paths.dropIn, 'utf8')).toContain('[Resolve]\nDNS=127.0.0.1:1053\nDomains=~cluster.local ~96.10.in-addr.arpa\n');
    uninstallResolver(run, paths);
    expect(installState(paths).method).toBe('none');
    expect(calls).toEqual(['systemctl reload-or-restart systemd-resolved', 'systemctl reload-or-restart systemd-resolved']);
  });

  test('resolv.conf cannot name a port: says so and changes nothing', () => {
    writeFileSync(paths.resolvConf, 'nameserver 192.0.2.1\n');
    expect(() => installResolver({ ...base, port: 1053, paths })).toThrow(/cannot name a port/);
    expect(readFileSync(paths.resolvConf, 'utf8')).toBe('nameserver 192.0.2.1\n');
  });

  test.each([['10.96.0.0/16', ['96.10.in-addr.arpa']], ['10.96.0.0/15', ['96.10.in-addr.arpa', '97.10.in-addr.arpa']], ['fd00:10:96::/112', ['0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa']]])('reverse zones of %s', (network, zones) => {
    expect(reverseZones(network)).toEqual(zones);
    expect(dropInText({ ...base, networks: [network] })).toContain(`~${zones[0]}`);
  });
});

describe('explain', () => {
  const service = (name: string, spec: Record<string, unknown>): KubeObject => ({ kind: 'Service', metadata: { name, namespace: 'shop' }, spec: { ports: [{ name: 'http', port: 80 }], ...spec } } as KubeObject);
  const world = makeWorld([
    service('web', { clusterIP: '10.96.0.5', clusterIPs: ['10.96.0.5'] }), service('db', { clusterIP: 'None' }),
    { kind: 'EndpointSlice', addressType: 'IPv4', metadata: { name: 'db-1', namespace: 'shop', labels: { 'kubernetes.io/service-name': 'db' } }, ports: [],
      endpoints: [1, 2, 3].map((each) => ({ addresses: [`10.1.0.${each}`], conditions: { ready: false }, targetRef: { kind: 'Pod', name: `db-${each}` } })) } as KubeObject,
  ]);
  const ask = (name: string, fromNamespace?: string) => explainName({ name, fromNamespace, view: world.view, namespaceNames: ['shop', 'other'], upstreams: ['192.0.2.1:53'] });

  test('a Service: found, with its records as zone-file lines', () => {
    const { tried } = ask('web', 'shop');
    expect(tried.length).toBe(1);
    expect(tried[0]).toMatchObject({ name: 'web.shop.svc.cluster.local.', result: 'NOERROR', reason: 'ClusterIP Service shop/web', records: ['web.shop.svc.cluster.local. 5 IN A 10.96.0.5'] });
  });

  test('no endpoint ready: counts them, names each Pod, says what to do', () => {
    const explanation = ask('db.shop.svc.cluster.local.');
    expect(explanation.tried[0]).toMatchObject({ result: 'NXDOMAIN', reason: 'Service shop/db exists, 0 of 3 endpoints ready' });
    expect(explanation.tried[0]?.hints).toContain('endpoint 10.1.0.2 (Pod db-2) is not ready');
    expect(formatExplanation(explanation).at(-1)).toMatch(/^fix: see why the Pods are not ready/);
  });

  test('a name from the wrong Namespace: says where it is', () => {
    const explanation = ask('web', 'other');
    expect(explanation.tried.map((item) => item.result)).toEqual(['NXDOMAIN', 'NXDOMAIN', 'NXDOMAIN', 'FORWARDED']);
    expect(explanation.queryCount).toBe(8);
    expect(explanation.tried[0]?.reason).toBe('no Service web in Namespace other');
    expect(ask('web.other.svc.cluster.local.').advice[0]).toContain('web.shop.svc.cluster.local');
  });

  test('an outside name from a Pod: eight lookups, and how to save them', () => {
    const explanation = ask('api.example.com', 'shop');
    expect(explanation.queryCount).toBe(8);
    expect(explanation.advice[0]).toContain('"api.example.com."');
  });

  test('an address: who has it', () => {
    expect(ask('10.96.0.5').tried[0]).toMatchObject({ result: 'NOERROR', reason: 'address of shop/web' });
    expect(ask('192.0.2.9').tried[0]?.result).toBe('FORWARDED');
  });
});
