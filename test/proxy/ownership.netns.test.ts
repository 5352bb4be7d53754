// Who may change the kernel table and how long it lives: vanishing and kept tables, SIGKILL, restart without a gap,
// a second instance, `nft flush ruleset` and hand-made changes by others.

import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { service, slice } from '../lib/builders.ts';
import { isRoot } from '../lib/command.ts';
import type { NetnsHost } from '../lib/netns-world.ts';
import { NetnsWorld } from '../lib/netns-world.ts';
import { waitFor } from '../lib/wait-for.ts';

const objects = [
  service('ns1/web', { clusterIP: '10.96.0.1', clusterIPs: ['10.96.0.1'] }), slice('ns1/web', ['10.244.1.2', '10.244.2.2']),
  service('ns1/sticky', { clusterIP: '10.96.0.2', clusterIPs: ['10.96.0.2'], sessionAffinity: 'ClientIP' }), slice('ns1/sticky', ['10.244.1.2', '10.244.2.2', '10.244.2.3']),
];
const options = { nodeName: 'n1', mode: 'nftables' as const, bind: '0.0.0.0', families: ['IPv4'] as const };

describe.skipIf(!isRoot)('the kernel table', () => {
  const world = new NetnsWorld();
  const { node, pod } = world.hosts;
  beforeAll(() => world.start());
  afterAll(() => world.stop());

  const startProxy = async (isOwnedTableVanishing: boolean, more: object = {}): Promise<void> => {
    await node.ask({ do: 'stop', isCleanup: false });
    await node.ask({ do: 'apply', objects });
    await node.ask({ do: 'proxy', options: { ...options, families: ['IPv4'], isOwnedTableVanishing, ...more } });
  };
  const reach = async (ip = '10.96.0.1', timeoutMs = 500): Promise<string> => {
    const [result] = await pod.connect([{ protocol: 'TCP', to: ip, port: 80, timeoutMs }]);
    return result?.error ?? result?.answer?.split(' ')[0] ?? '';
  };
  const tables = (): string => node.exec('nft', 'list', 'tables');
  const restartWorker = async (host: NetnsHost, signal: NodeJS.Signals): Promise<void> => {
    await host.kill(signal);
    await host.start();
    await host.ask({ do: 'listen', ip: '192.168.0.1', port: 8080, protocol: 'TCP' });
  };

  test('a table of `up` survives `nft flush ruleset` and cannot be deleted by others', async () => {
    await startProxy(true);
    node.exec('nft', 'flush', 'ruleset');
    expect(() => node.exec('nft', 'delete', 'table', 'ip', 'netloom')).toThrow(/not permitted|Operation/);
    expect(await reach()).toMatch(/^10\.244\./);
  });

  test('a second instance is refused with the name of the reason', async () => {
    const output = execFileSync('ip', ['netns', 'exec', node.namespace, process.execPath, '-e', `
      import('${import.meta.dirname}/../../proxy/nftables/ffi.ts').then(async ({ loadLibraries }) => {
        const { NetlinkPort } = await import('${import.meta.dirname}/../../proxy/nftables/kernel.ts');
        const port = new NetlinkPort(await loadLibraries(), 'IPv4');
        try { await port.open('vanish', 'x', ''); console.log('opened'); } catch (error) { console.log(error.code, error.message); }
      });`], { encoding: 'utf8' });
    expect(output).toMatch(/PermissionDenied another netloom process owns the nftables table ip netloom/);
  });

  test('SIGKILL of `up` leaves nothing behind', async () => {
    await restartWorker(node, 'SIGKILL');
    expect(tables()).not.toContain('netloom');
  });

  test('SIGKILL of `node` leaves rules that go on serving, and sticky clients stay', async () => {
    await startProxy(false);
    const first = await reach('10.96.0.2');
    expect(first).toMatch(/^10\.244\./);
    await restartWorker(node, 'SIGKILL');
    expect(tables()).toContain('netloom');
    expect(await reach()).toMatch(/^10\.244\./);
    expect(await reach('10.96.0.2')).toBe(first);
  });

  test('a restarted `node` adopts the table and changes nothing that is right', async () => {
    const listing = (): string => node.exec('nft', '-a', 'list', 'table', 'ip', 'netloom').split('\n').slice(2).join('\n').replace(/expires \S+/g, '');
    const before = listing();
    await startProxy(false);
    expect(listing()).toBe(before);
    expect(await reach('10.96.0.2')).toMatch(/^10\.244\./);
  });

  test('restart under load in kernel mode: no connection fails', async () => {
    await pod.ask({ do: 'load', requests: [{ protocol: 'TCP', to: '10.96.0.1', port: 80, timeoutMs: 3000 }], concurrency: 4 });
    await restartWorker(node, 'SIGKILL');
    await startProxy(false);
    const result = await pod.ask<{ count: number; errors: object }>({ do: 'load-end' });
    expect(result.errors).toEqual({});
    expect(result.count).toBeGreaterThan(20);
  });

  test('a new version of the program takes over under load: no connection fails', async () => {
    await pod.ask({ do: 'load', requests: [{ protocol: 'TCP', to: '10.96.0.1', port: 80, timeoutMs: 3000 }, { protocol: 'TCP', to: '10.96.0.2', port: 80, timeoutMs: 3000 }], concurrency: 4 });
    const handle = node.exec('nft', '-a', 'list', 'tables');
    for (const isMasqueradeAll of [true, false]) {
      await restartWorker(node, 'SIGKILL');
      await startProxy(false, { isMasqueradeAll });
      expect(await node.ask<number>({ do: 'differences' })).toBe(0);
    }
    expect(node.exec('nft', '-a', 'list', 'tables')).toBe(handle);
    const result = await pod.ask<{ count: number; errors: object }>({ do: 'load-end' });
    expect(result.errors).toEqual({});
    expect(result.count).toBeGreaterThan(20);
  });

  test('objects that went away while the process was down are removed at the next start, others are kept', async () => {
    await restartWorker(node, 'SIGKILL');
    await node.ask({ do: 'apply', objects: objects.slice(0, 2) });
    await node.ask({ do: 'proxy', options: { ...options, families: ['IPv4'], isOwnedTableVanishing: false } });
    expect(await reach('10.96.0.2', 300)).toBe('TIMEOUT');
    expect(await reach()).toMatch(/^10\.244\./);
  });

  test('kernel settings are raised and the service networks get a route; cleanup takes the route back', async () => {
    await startProxy(false, { isSysctlOn: true });
    expect(node.exec('sysctl', '-n', 'net.netfilter.nf_conntrack_tcp_timeout_close_wait').trim()).toBe('3600');
    expect(node.exec('sysctl', '-n', 'net.netfilter.nf_conntrack_tcp_timeout_established').trim()).toBe('86400');
    const route = (): string => node.exec('ip', 'route', 'show', 'table', 'local');
    expect(route()).toContain('local 10.96.0.0/16 dev lo');
    node.exec('ip', 'route', 'del', 'default');
    const [answer] = await node.connect([{ protocol: 'TCP', to: '10.96.0.1', port: 80, timeoutMs: 2000 }]);
    expect(answer?.answer).toMatch(/^10\.244\./);
    await node.ask({ do: 'stop', isCleanup: true });
    expect(route()).not.toContain('10.96.0.0/16');
  });

  test('stop without cleanup leaves the rules, cleanup removes exactly ours', async () => {
    node.exec('nft', 'add', 'table', 'ip', 'foreign');
    await startProxy(false);
    await node.ask({ do: 'stop', isCleanup: false });
    expect(tables()).toContain('netloom');
    await startProxy(false);
    await node.ask({ do: 'stop', isCleanup: true });
    expect(tables()).not.toContain('netloom');
    expect(tables()).toContain('table ip foreign');
  });
});

describe.skipIf(!isRoot)('a table that the kernel does not protect', () => {
  const world = new NetnsWorld();
  const { node, pod } = world.hosts;
  beforeAll(async () => {
    await world.start(['node', 'pod', 'self', 'other']);
    await node.ask({ do: 'apply', objects });
    await node.ask({ do: 'proxy', options: { ...options, families: ['IPv4'], isOwnedTableVanishing: false, ownership: 'none', driftPeriodMs: 50 } });
  });
  afterAll(() => world.stop());

  const served = async (): Promise<boolean> => {
    const [result] = await pod.connect([{ protocol: 'TCP', to: '10.96.0.1', port: 80, timeoutMs: 300 }]);
    return result?.answer !== undefined;
  };

  for (const [what, command] of [
    ['a flushed rule set', ['flush', 'ruleset']], ['a deleted table', ['delete', 'table', 'ip', 'netloom']], ['a flushed map', ['flush', 'map', 'ip', 'netloom', 'vips']],
    ['a flushed chain', ['flush', 'chain', 'ip', 'netloom', 'services']],
  ] as const) {
    test(`${what} is noticed and repaired within a second`, async () => {
      expect(await served()).toBe(true);
      const startedMs = performance.now();
      node.exec('nft', ...command);
      await waitFor(served, { timeoutMs: 5_000 });
      expect(performance.now() - startedMs).toBeLessThan(1_500);
    });
  }

  test('changes to foreign tables are nobody\'s business', async () => {
    node.exec('nft', 'add', 'table', 'ip', 'foreign');
    node.exec('nft', 'add', 'chain', 'ip', 'foreign', 'c');
    expect(await served()).toBe(true);
    expect(node.exec('nft', 'list', 'table', 'ip', 'foreign')).toContain('chain c');
  });
});
