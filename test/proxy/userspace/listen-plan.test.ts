// Which addresses the userspace engine listens on: a pure function of plan, bind address and scope.

import { describe, expect, test } from 'vitest';
import type { PortPlan } from '../../../proxy/backend.ts';
import { planListeners, type ListenPlanOptions } from '../../../proxy/userspace/listen-plan.ts';
import { connectionsMaxOf, Limits } from '../../../proxy/userspace/limits.ts';
import { Peers } from '../../../proxy/userspace/peers.ts';
import { endpoint } from '../../lib/builders.ts';
import { plan } from './harness.ts';

const local: ListenPlanOptions = { scope: 'all', bind: '127.0.0.1', nodePorts: { kernel: [], loopback: ['127.0.0.1', '::1'] }, nodeName: 'n1', hostAddresses: ['127.0.0.1', '192.0.2.10', '198.51.100.4', '2001:db8::10'] };
const e = endpoint('10.244.0.5', 80, { nodeName: 'n1' });
const where = (port: Partial<PortPlan>, options: Partial<ListenPlanOptions> = {}): string[] => planListeners(plan('127.96.0.9', [e], port), { ...local, ...options }, 1).ports
  .flatMap((spec) => spec.listeners.map((each) => `${each.address}:${each.port} ${each.candidates}${each.isHostOnly ? ' host-only' : ''}`));

describe('addresses', () => {
  test('bound to loopback: ClusterIP, NodePort on loopback, external addresses for this host only', () => {
    expect(where({ nodePort: 30_080, externalIPs: ['203.0.113.1'], loadBalancerIPs: ['203.0.113.2'] })).toEqual(['127.96.0.9:8000 cluster host-only', '203.0.113.1:8000 cluster host-only', '203.0.113.2:8000 cluster host-only', '127.0.0.1:30080 cluster']);
  });
  test('bound to everything: one wildcard listener per family', () => {
    const open: Partial<ListenPlanOptions> = { bind: '0.0.0.0', nodePorts: { kernel: 'all', loopback: ['127.0.0.1', '::1'] } };
    expect(where({ nodePort: 30_080 }, open)).toContain('0.0.0.0:30080 cluster');
    expect(where({ nodePort: 30_080, family: 'IPv6', clusterIP: 'fd00::9' }, open)).toEqual(['fd00::9:8000 cluster', ':::30080 cluster']);
  });
  test('bound to listed networks: the addresses of this host inside them', () => {
    expect(where({ nodePort: 30_080 }, { bind: '192.0.2.10', nodePorts: { kernel: ['192.0.2.0/24'], loopback: [] } })).toEqual(['127.96.0.9:8000 cluster', '192.0.2.10:30080 cluster']);
  });
  test('beside the kernel engine: NodePorts on loopback and nothing else', () => {
    expect(where({ nodePort: 30_080, externalIPs: ['203.0.113.1'] }, { scope: 'loopbackNodePorts' })).toEqual(['127.0.0.1:30080 cluster']);
    expect(where({}, { scope: 'loopbackNodePorts' })).toEqual([]);
  });
});

describe('policies', () => {
  test('internal Local: the local set; external Local: decided per peer', () => {
    expect(where({ isInternalLocal: true, isExternalLocal: true, nodePort: 30_080 })).toEqual(['127.96.0.9:8000 local host-only', '127.0.0.1:30080 external']);
  });
  test('link-local and unspecified endpoints are never used', () => {
    expect(where({ cluster: [endpoint('169.254.169.254'), endpoint('0.0.0.0'), endpoint('fe80::1')], local: [] })).toEqual([]);
  });
  test('an empty candidate set has no listener', () => {
    expect(where({ cluster: [], local: [] })).toEqual([]);
    expect(where({ isInternalLocal: true, local: [] })).toEqual([]);
    expect(where({ isExternalLocal: true, nodePort: 30_080, cluster: [], local: [e] })).toEqual(['127.0.0.1:30080 external']);
  });
});

test('HTTP balancing needs an HTTP appProtocol, and gives way to affinity and PROXY headers', () => {
  const l7 = (port: Partial<PortPlan>, annotations: Record<string, string> = {}): unknown => planListeners(plan('127.96.0.9', [e], port, annotations), local, 1).ports[0]?.l7;
  expect([l7({}), l7({ appProtocol: 'http' }), l7({ appProtocol: 'kubernetes.io/h2c' }), l7({ appProtocol: 'grpc' }), l7({ appProtocol: 'https' })]).toEqual([undefined, 'http', 'h2c', 'h2c', undefined]);
  expect(l7({ appProtocol: 'http', affinityTimeoutSeconds: 5 })).toBeUndefined();
  expect(l7({ appProtocol: 'http' }, { 'netloom.dev/proxy-protocol': 'v2' })).toBeUndefined();
});

test('SCTP and wrong annotations are reported; the rest of the Service is served', () => {
  const made = planListeners(plan('127.96.0.9', [e], {}, { 'netloom.dev/proxy-protocol': 'v3', 'netloom.dev/accept-proxy-protocol-from': '10.0.0.0/8,nonsense', 'netloom.dev/max-connection-age-seconds': 'soon' }), local, 1);
  expect(made.problems).toHaveLength(3);
  expect(made.ports[0]).toMatchObject({ proxyProtocolOut: 0, proxyProtocolFrom: ['10.0.0.0/8'], connectionAgeMsMax: 0 });
  expect(planListeners(plan('127.96.0.9', [e], { protocol: 'SCTP' }), local, 1)).toMatchObject({ ports: [], problems: ['port 8000/SCTP needs the kernel engine'] });
});

test('peers: this host and Pods count as inside the cluster, others do not', () => {
  const peers = new Peers(['192.0.2.10'], ['10.244.0.0/16']);
  expect([peers.isOfCluster('127.0.0.1'), peers.isOfCluster('192.0.2.10'), peers.isOfCluster('10.244.7.1'), peers.isOfCluster('192.0.2.11')]).toEqual([true, true, true, false]);
  expect([peers.isOfHost('10.244.7.1'), peers.isOfHost('192.0.2.10')]).toEqual([false, true]);
});

test('limits: in all, and per source for other hosts', () => {
  const limits = new Limits(new Peers([], []), { countMax: 5, perSourceMax: 2 });
  expect([limits.enter('192.0.2.1'), limits.enter('192.0.2.1'), limits.enter('192.0.2.1')]).toEqual([true, true, false]);
  limits.leave('192.0.2.1');
  expect(limits.enter('192.0.2.1')).toBe(true);
  expect([limits.enter('127.0.0.1'), limits.enter('127.0.0.1'), limits.enter('127.0.0.1'), limits.enter('127.0.0.1')]).toEqual([true, true, true, false]);
  expect(limits.count).toBe(5);
  expect(connectionsMaxOf('Max open files            20000                20000                files     \n')).toBe(9_000);
});
