// Pods of different nodes reach each other: straight over a common link, and through VXLAN when a router is between.

import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseCIDR } from '../../api/address.ts';
import type { Node } from '../../api/types.ts';
import { hardwareAddress, planPodRoutes } from '../../proxy/pod-routes.ts';
import { isRoot } from '../lib/command.ts';

const nodeObject = (number: number, podCIDR = `10.244.${number}.0/24`): Node => ({
  apiVersion: 'v1', kind: 'Node', metadata: { name: `n${number}` }, spec: { podCIDR }, status: { addresses: [{ type: 'InternalIP', address: nodeAddress(number) }] },
});
const nodeAddress = (number: number): string => (number === 3 ? '192.168.9.3' : `192.168.0.${number}`);
const clusterCIDRs = ['10.244.0.0/16'].map((text) => { const cidr = parseCIDR(text); if (cidr === undefined) throw new Error(text); return cidr; });

describe('plan of pod routes', () => {
  test('other nodes, not this one', () => {
    expect(planPodRoutes([nodeObject(1), nodeObject(2)], 'n1', clusterCIDRs)).toEqual([{ range: '10.244.2.0/24', nodeIP: '192.168.0.2' }]);
  });
  test('a Node that claims a range outside the Pod networks gets no route', () => {
    for (const range of ['0.0.0.0/0', '10.96.0.0/16', '10.244.0.0/15', 'nonsense', '']) expect(planPodRoutes([nodeObject(2, range)], 'n1', clusterCIDRs)).toEqual([]);
  });
  test('of two Nodes with one range the first has it', () => {
    expect(planPodRoutes([nodeObject(2), nodeObject(3, '10.244.2.0/24')], 'n1', clusterCIDRs)).toHaveLength(1);
  });
  test('hardware addresses are locally administered and differ by node', () => {
    expect(hardwareAddress('192.168.0.2')).toBe('0a:58:c0:a8:00:02');
  });
});

describe.skipIf(!isRoot)('pod routes in the kernel', () => {
  const prefix = `nl-test-${randomBytes(3).toString('hex')}`;
  const name = (what: string): string => `${prefix}-${what}`;
  const ip = (...args: string[]): string => execFileSync('ip', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  const namespaces = ['n1', 'n2', 'n3', 'router'];

  beforeAll(() => {
    for (const item of namespaces) { ip('netns', 'add', name(item)); ip('-n', name(item), 'link', 'set', 'lo', 'up'); }
    // n1 and n2 share a link with the router (a bridge in it); n3 is behind the router.
    ip('-n', name('router'), 'link', 'add', 'br0', 'type', 'bridge');
    for (const item of ['n1', 'n2', 'n3']) ip('link', 'add', item, 'netns', name('router'), 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name(item));
    for (const item of ['n1', 'n2']) ip('-n', name('router'), 'link', 'set', item, 'master', 'br0', 'up');
    ip('-n', name('router'), 'link', 'set', 'br0', 'up');
    ip('-n', name('router'), 'link', 'set', 'n3', 'up');
    ip('-n', name('router'), 'addr', 'add', '192.168.0.254/24', 'dev', 'br0');
    ip('-n', name('router'), 'addr', 'add', '192.168.9.254/24', 'dev', 'n3');
    for (const [item, number] of [['n1', 1], ['n2', 2], ['n3', 3]] as const) {
      ip('-n', name(item), 'addr', 'add', `${nodeAddress(number)}/24`, 'dev', 'eth0');
      ip('-n', name(item), 'link', 'set', 'eth0', 'up');
      ip('-n', name(item), 'route', 'add', 'default', 'via', number === 3 ? '192.168.9.254' : '192.168.0.254');
      ip('-n', name(item), 'addr', 'add', `10.244.${number}.2/32`, 'dev', 'lo');
    }
    for (const item of namespaces) execFileSync('ip', ['netns', 'exec', name(item), 'sysctl', '-qw', 'net.ipv4.ip_forward=1']);
  });
  afterAll(() => { for (const item of namespaces) try { ip('netns', 'delete', name(item)); } catch { /* never made */ } });

  /** Runs the reconciler inside a node's namespace until its routes stand, then `then`. */
  const reconcile = (number: number, others: number[], isCleanup = false): string => execFileSync('ip', ['netns', 'exec', name(`n${number}`), process.execPath, '--input-type=module-typescript', '-e', `
    const { PodRoutes } = await import('${import.meta.dirname}/../../proxy/pod-routes.ts');
    const { FakeInformer } = await import('${import.meta.dirname}/../lib/fake-informer.ts');
    const { systemClock } = await import('${import.meta.dirname}/../../api/clock.ts');
    const { silentLog } = await import('${import.meta.dirname}/../../api/log.ts');
    const { parseCIDR } = await import('${import.meta.dirname}/../../api/address.ts');
    const nodes = new FakeInformer();
    nodes.apply(...${JSON.stringify(others.map((item) => nodeObject(item)))});
    const routes = new PodRoutes({ nodes: nodes.informer, nodeName: 'n${number}', nodeIPs: ['${nodeAddress(number)}'], clusterCIDRs: [parseCIDR('10.244.0.0/16')], clock: systemClock, log: silentLog });
    await routes.start();
    console.log(routes.status().join('\\n'));
    await routes.stop(${isCleanup});
  `], { encoding: 'utf8' });
  /** A connect to a closed port: the refusal shows that packets pass both ways. */
  const ping = (from: number, to: number): boolean => execFileSync('ip', ['netns', 'exec', name(`n${from}`), process.execPath, '-e', `
    const socket = require('node:net').connect({ host: '10.244.${to}.2', port: 9, localAddress: '10.244.${from}.2', timeout: 2000 });
    socket.on('error', (error) => { console.log(error.code); }).on('timeout', () => { console.log('TIMEOUT'); socket.destroy(); });
  `], { encoding: 'utf8' }).trim() === 'ECONNREFUSED';

  test('nodes on one link: direct routes; a node behind a router: VXLAN; both ways', () => {
    expect(ping(1, 2)).toBe(false);
    expect(reconcile(1, [1, 2, 3])).toContain('10.244.2.0/24 via 192.168.0.2\n10.244.3.0/24 via 192.168.9.3 (vxlan)');
    reconcile(2, [1, 2, 3]);
    expect(reconcile(3, [1, 2, 3])).toContain('10.244.1.0/24 via 192.168.0.1 (vxlan)');
    for (const [from, to] of [[1, 2], [2, 1], [1, 3], [3, 2]] as const) expect(ping(from, to), `n${from} to n${to}`).toBe(true);
  });

  test('a node that leaves takes its route along, also when it left while nobody watched', () => {
    expect(reconcile(1, [1, 2])).not.toContain('10.244.3.0/24');
    expect(ip('-n', name('n1'), 'route', 'show', 'proto', '111')).not.toContain('10.244.3.0/24');
  });

  test('cleanup removes our routes and device and nothing else', () => {
    const before = ip('-n', name('n2'), 'route', 'show').split('\n').filter((line) => !line.includes('proto 111'));
    reconcile(2, [1, 2, 3], true);
    expect(ip('-n', name('n2'), 'route', 'show').split('\n')).toEqual(before);
    expect(ip('-n', name('n2'), 'link', 'show')).not.toContain('netloom-vxlan');
  });
});
