// The one table of Service flows that every engine must pass: who connects to what, whom it reaches, and which source
// the endpoint sees. This node is n1 in zone-a; endpoints a, b run on n1, c, d on n2, h is a host process of n1.
// Worlds hold the objects; within a world every Service has its own addresses, so that all flows share one set-up.

import type { Protocol, SliceEndpoint } from '../../api/types.ts';
import { service, slice } from '../lib/builders.ts';
import type { Flow, FlowClient, FlowConfig, FlowExpectation, FlowObject, FlowWorld } from '../lib/flow-engine.ts';

export const endpointAddresses: Readonly<Record<string, string>> = {
  a: '10.244.1.2', b: '10.244.1.3', c: '10.244.2.2', d: '10.244.2.3', h: '192.168.0.1', a6: 'fd00:244:1::2', c6: 'fd00:244:2::2',
};

type Letter = string | [letter: string, more: Partial<SliceEndpoint> | 'term' | 'unready' | 'dead'];

const states = {
  term: { ready: false, serving: true, terminating: true }, unready: { ready: false, serving: false, terminating: false }, dead: { ready: false, serving: false, terminating: true },
};

function endpointOf(letter: Letter): SliceEndpoint {
  const [name, more] = typeof letter === 'string' ? [letter, {}] : letter;
  const ip = endpointAddresses[name] ?? name;
  const isLocal = /^[abh]/.test(name) && name in endpointAddresses;
  const place = isLocal ? { nodeName: 'n1', zone: 'zone-a' } : { nodeName: 'n2', zone: 'zone-b' };
  return { addresses: [ip], ...place, conditions: typeof more === 'string' ? states[more] : { ready: true, serving: true, terminating: false }, ...(typeof more === 'string' ? {} : more) };
}

const zones = (...names: string[]): Partial<SliceEndpoint> => ({ hints: { forZones: names.map((name) => ({ name })) } });
const nodes = (...names: string[]): Partial<SliceEndpoint> => ({ hints: { forNodes: names.map((name) => ({ name })) } });

/** Service number n has ClusterIP 10.96.0.n, NodePort 30000 + n, external IP 198.51.100.n and VIP 198.51.101.n when it is external. */
function numbered(number: number, letters: readonly Letter[], more: { spec?: Parameters<typeof service>[1]; isExternal?: boolean; metadata?: Parameters<typeof service>[2] } = {}): FlowObject[] {
  const name = `s${number}`;
  const external = more.isExternal === true
    ? { type: 'LoadBalancer' as const, externalIPs: [`198.51.100.${number}`], ports: [{ name: '', port: 80, protocol: 'TCP' as Protocol, nodePort: 30_000 + number }] }
    : {};
  const object = service(`ns1/${name}`, { clusterIP: `10.96.0.${number}`, clusterIPs: [`10.96.0.${number}`], ...external, ...more.spec }, more.metadata);
  if (more.isExternal === true) object.status = { loadBalancer: { ingress: [{ ip: `198.51.101.${number}` }] } };
  return [object, ...(letters.length > 0 ? [slice(`ns1/${name}`, letters.map(endpointOf))] : [])];
}

const local = { externalTrafficPolicy: 'Local' as const };
const localOnly = { internalTrafficPolicy: 'Local' as const };
const sticky = { sessionAffinity: 'ClientIP' as const, sessionAffinityConfig: { clientIP: { timeoutSeconds: 600 } } };
const udp = { ports: [{ name: '', port: 53, protocol: 'UDP' as Protocol }] };

const mainObjects: FlowObject[] = [
  ...numbered(1, ['a', 'c'], { isExternal: true }),
  ...numbered(2, [], { isExternal: true }),
  ...numbered(3, ['a', 'c'], { isExternal: true, spec: local }),
  ...numbered(4, ['c', 'd'], { isExternal: true, spec: local }),
  ...numbered(5, ['a', 'c'], { spec: localOnly }),
  ...numbered(6, ['c'], { spec: localOnly }),
  ...numbered(7, ['a', 'c'], { isExternal: true, spec: { ...local, ...localOnly } }),
  ...numbered(8, [], { spec: localOnly }),
  ...numbered(9, ['c'], { isExternal: true, spec: localOnly }),
  ...numbered(10, [['a', 'term'], ['c', 'term']]),
  ...numbered(11, [['a', 'term'], 'c'], { isExternal: true, spec: local }),
  ...numbered(12, [['a', 'unready'], 'c']),
  ...numbered(13, [['a', 'unready']]),
  ...numbered(14, [['a', 'dead'], 'c']),
  ...numbered(15, [['a', zones('zone-a')], ['c', zones('zone-b')]]),
  ...numbered(16, [['a', zones('zone-a')], 'c']),
  ...numbered(17, [['a', zones('zone-c')], ['c', zones('zone-d')]]),
  ...numbered(18, [['a', { hints: { forNodes: [{ name: 'n1' }], forZones: [{ name: 'zone-b' }] } }], ['c', { hints: { forNodes: [{ name: 'n2' }], forZones: [{ name: 'zone-a' }] } }]]),
  ...numbered(19, [['a', { ...zones('zone-b'), conditions: states.term }], ['c', { ...zones('zone-a'), conditions: states.term }]]),
  ...numbered(20, ['a', 'c'], { isExternal: true, spec: { loadBalancerSourceRanges: ['203.0.113.2/32'] } }),
  ...numbered(21, ['a'], { isExternal: true, spec: { loadBalancerSourceRanges: [' 192.168.0.0/24 '] } }),
  ...numbered(22, ['a'], { isExternal: true, spec: { loadBalancerSourceRanges: ['10.244.0.0/16', '10.244.1.0/24', '203.0.113.3/32'] } }),
  ...numbered(24, ['a'], { spec: { ports: [{ name: 'http', port: 80, protocol: 'TCP' }, { name: 'https', port: 443, protocol: 'TCP' }, { name: 'none', port: 90, protocol: 'TCP' }] } }).slice(0, 1),
  slice('ns1/s24', [endpointOf('a')], { name: 's24-http', ports: [{ name: 'http', port: 8080, protocol: 'TCP' }] }),
  slice('ns1/s24', [endpointOf('c')], { name: 's24-https', ports: [{ name: 'https', port: 8443, protocol: 'TCP' }] }),
  ...numbered(25, [], { spec: { ports: [{ name: 'dns', port: 53, protocol: 'UDP' }, { name: 'dns-tcp', port: 53, protocol: 'TCP' }] } }),
  slice('ns1/s25', [endpointOf('a')], { name: 's25-udp', ports: [{ name: 'dns', port: 8080, protocol: 'UDP' }] }),
  slice('ns1/s25', [endpointOf('c')], { name: 's25-tcp', ports: [{ name: 'dns-tcp', port: 8080, protocol: 'TCP' }] }),
  ...numbered(26, [], { spec: udp }), slice('ns1/s26', ['a', 'c'].map(endpointOf), { ports: [{ name: '', port: 8080, protocol: 'UDP' }] }),
  ...numbered(27, [], { spec: udp }),
  ...numbered(28, ['a'], { spec: { type: 'ExternalName', externalName: 'example.org' } }),
  ...numbered(29, ['a'], { metadata: { labels: { 'service.kubernetes.io/service-proxy-name': 'other' } } }),
  ...numbered(30, ['a'], { metadata: { labels: { 'service.kubernetes.io/headless': '' } } }),
  ...numbered(31, ['a', 'c']), slice('ns1/s31', [endpointOf('a')], { name: 's31-2' }),
  ...numbered(32, []), slice('other/s32', [endpointOf('a')]),
  ...numbered(33, []), slice('ns1/s33', [{ addresses: ['a.example.org'] }], { addressType: 'FQDN' }),
  ...numbered(35, ['a', 'b', 'c', 'd'], { isExternal: true, spec: sticky }),
  ...numbered(36, ['a'], { isExternal: true }),
  ...numbered(37, ['h']),
  ...numbered(38, ['a', 'c'], { isExternal: true, spec: { ...sticky, ...local } }),
  ...numbered(39, ['a'], { metadata: { labels: { long: 'x'.repeat(63) } } }),
  ...numbered(40, ['a'], { isExternal: true }),
  ...numbered(41, ['a'], { isExternal: true, spec: { allocateLoadBalancerNodePorts: false, ports: [{ name: '', port: 80, protocol: 'TCP' }] } }),
  ...numbered(42, []), slice('ns1/s42', [endpointOf('a')], { ports: [{ name: '', protocol: 'TCP', port: null }] }),
  ...numbered(43, ['127.0.0.1']),
  ...numbered(44, ['169.254.7.7', 'a']),
  ...numbered(45, ['a', 'b', 'c', 'd']),
  ...numbered(46, [['a', 'term'], ['c', 'term']], { isExternal: true, spec: local }),
  ...numbered(47, [['c', 'term']], { isExternal: true, spec: local }),
  ...numbered(48, [['a', zones('zone-b')], ['c', zones('zone-a')]], { isExternal: true, spec: local }),
  ...numbered(49, [['a', nodes('n2')], ['c', nodes('n3')]]),
  ...numbered(50, ['a'], { spec: { ports: [{ name: '', port: 80, protocol: 'SCTP' }] } }).slice(0, 1), slice('ns1/s50', [endpointOf('a')], { ports: [{ name: '', port: 8080, protocol: 'SCTP' }] }),
  ...numbered(51, ['a', 'c'], { spec: { clusterIP: '010.096.000.051', clusterIPs: ['010.096.000.051'] } }),
  ...numbered(52, ['a', 'c'], { spec: { ...sticky, ...localOnly } }),
  ...numbered(53, [['a', 'term'], 'c'], { spec: localOnly }),
  ...numbered(54, ['a', 'c'], { isExternal: true, spec: { loadBalancerSourceRanges: ['nonsense'] } }),
  service('ns1/dual', { clusterIP: '10.96.0.60', clusterIPs: ['10.96.0.60', 'fd00:96::60'], type: 'NodePort', ports: [{ name: '', port: 80, protocol: 'TCP', nodePort: 30_060 }] }),
  slice('ns1/dual', ['a', 'c'].map(endpointOf)), slice('ns1/dual', ['a6', 'c6'].map(endpointOf), { name: 'dual-6', addressType: 'IPv6' }),
  service('ns1/six', { clusterIP: 'fd00:96::61', clusterIPs: ['fd00:96::61'], ...sticky }), slice('ns1/six', ['a6', 'c6'].map(endpointOf), { addressType: 'IPv6' }),
  service('ns1/six-none', { clusterIP: 'fd00:96::62', clusterIPs: ['fd00:96::62'] }),
  service('ns1/four', { clusterIP: '10.96.0.63', clusterIPs: ['10.96.0.63'] }), slice('ns1/four', [endpointOf('a6')], { addressType: 'IPv6' }),
  service('ns1/six-local', { clusterIP: 'fd00:96::64', clusterIPs: ['fd00:96::64'], type: 'NodePort', ...local, ports: [{ name: '', port: 80, protocol: 'TCP', nodePort: 30_064 }] }),
  slice('ns1/six-local', ['a6', 'c6'].map(endpointOf), { addressType: 'IPv6' }),
];

function proxyMode(objects: FlowObject[]): FlowObject[] {
  for (const object of objects) if (object.metadata.name === 's40' && 'status' in object) object.status = { loadBalancer: { ingress: [{ ip: '198.51.101.40', ipMode: 'Proxy' }] } };
  return objects;
}

const fewObjects = (): FlowObject[] => [...numbered(1, ['a', 'c'], { isExternal: true }), ...numbered(3, ['a', 'c'], { isExternal: true, spec: local }), ...numbered(5, ['a', 'c'], { spec: localOnly }), ...numbered(4, ['c'], { isExternal: true, spec: local })];

const world = (name: string, config: FlowConfig, objects: readonly FlowObject[]): FlowWorld => ({ name, config, objects });
export const worlds: readonly FlowWorld[] = [
  world('main', {}, proxyMode(mainObjects)),
  world('no detector', { hasLocalDetector: false }, fewObjects()),
  world('masquerade all', { isMasqueradeAll: true }, fewObjects()),
  world('bind loopback', { bind: '127.0.0.1' }, fewObjects()),
  world('bind address', { bind: '192.168.0.1' }, fewObjects()),
  world('primary', { nodePortAddresses: ['primary'] }, fewObjects()),
  world('listed', { nodePortAddresses: ['203.0.113.0/24'] }, fewObjects()),
];

export const flows: Flow[] = [];
const both = ['a', 'c'];
const refused: FlowExpectation = { failure: 'refused' };
const dropped: FlowExpectation = { failure: 'dropped' };
const unserved: FlowExpectation = { failure: 'unserved' };
const reach = (letters: readonly string[], source?: 'kept' | 'node', isSticky = false): FlowExpectation => ({ reach: letters, source, isSticky });

function add(name: string, from: FlowClient, to: string, expect: FlowExpectation, protocol: Protocol = 'TCP', inWorld = 'main'): void {
  flows.push({ name: inWorld === 'main' ? name : `${inWorld}: ${name}`, world: inWorld, from, to, protocol, expect });
}
const node = (number: number): string => `192.168.0.1:${30_000 + number}`;
const vip = (number: number): string => `198.51.101.${number}:80`;
const externalIP = (number: number): string => `198.51.100.${number}:80`;
const cluster = (number: number, port = 80): string => `10.96.0.${number}:${port}`;

// ClusterIP, policy Cluster
add('pod to ClusterIP: all ready endpoints, source kept', 'pod', cluster(1), reach(both, 'kept'));
add('host to ClusterIP: all ready endpoints, masqueraded', 'host', cluster(1), reach(both));
add('off-cluster to ClusterIP: masqueraded', 'ext', cluster(1), reach(both, 'node'));
add('four endpoints on two nodes: all of them', 'pod', cluster(45), reach(['a', 'b', 'c', 'd'], 'kept'));
add('pod to itself through its only Service: masqueraded', 'self', cluster(36), reach(['a'], 'node'));
add('pod to itself among others: reached, too', 'self', cluster(45), reach(['a', 'b', 'c', 'd']));
add('pod to a host-network endpoint: source kept', 'pod', cluster(37), reach(['h'], 'kept'));
add('host to a host-network endpoint', 'host', cluster(37), reach(['h']));
add('same ip:port in two slices counts once', 'pod', cluster(31), reach(both, 'kept'));
add('ClusterIP with leading zeros is read as decimal', 'pod', cluster(51), reach(both, 'kept'));
add('long label values do no harm', 'pod', cluster(39), reach(['a'], 'kept'));

// refusals
for (const from of ['pod', 'host', 'ext'] as const) {
  add(`${from} to ClusterIP without endpoints: refused`, from, cluster(2), refused);
  add(`${from} to NodePort without endpoints: refused`, from, node(2), refused);
  add(`${from} to external IP without endpoints: refused`, from, externalIP(2), refused);
  add(`${from} to load-balancer VIP without endpoints: refused`, from, vip(2), refused);
  add(`${from} to a port that the ClusterIP does not define: refused`, from, cluster(1, 81), refused);
  add(`${from} to an unallocated ClusterIP: dropped`, from, '10.96.77.7:80', dropped);
}
add('pod to UDP Service without endpoints: refused', 'pod', cluster(27, 53), refused, 'UDP');
add('pod by UDP to a TCP-only port: refused', 'pod', cluster(1), refused, 'UDP');
add('pod by TCP to a UDP-only port: refused', 'pod', cluster(26, 53), refused);
add('NodePort number on the ClusterIP: refused', 'pod', cluster(1, 30_001), refused);
add('only an unready endpoint: refused', 'pod', cluster(13), refused);
add('slice of another namespace is ignored', 'pod', cluster(32), refused);
add('FQDN slice is ignored', 'pod', cluster(33), refused);
add('slice port without number is ignored', 'pod', cluster(42), refused);
add('loopback endpoint is never used', 'pod', cluster(43), refused);
add('link-local endpoint is left out, the other serves', 'pod', cluster(44), reach(['a'], 'kept'));
add('ExternalName with a stale ClusterIP is not served', 'pod', cluster(28), dropped);
add('Service of another proxy is not served', 'pod', cluster(29), dropped);
add('Service labelled headless is not served', 'pod', cluster(30), dropped);

// readiness and termination
add('unready endpoint is left out', 'pod', cluster(12), reach(['c'], 'kept'));
add('terminating and not serving is left out', 'pod', cluster(14), reach(['c'], 'kept'));
add('only terminating ones serve: all of them are used', 'pod', cluster(10), reach(both, 'kept'));
add('terminating fallback for host processes', 'host', cluster(10), reach(both));
add('cluster traffic leaves a terminating endpoint while others are ready', 'pod', cluster(11), reach(['c'], 'kept'));
add('external, policy Local: last local terminating endpoint serves although others are ready', 'ext', node(11), reach(['a'], 'kept'));
add('external VIP, policy Local: terminating fallback', 'ext', vip(11), reach(['a'], 'kept'));
add('external, policy Local, all terminating: the local one', 'ext', node(46), reach(['a'], 'kept'));
add('pod, policy Local, all terminating: short circuit to all', 'pod', vip(46), reach(both, 'kept'));
add('external, policy Local, terminating only elsewhere: dropped', 'ext', node(47), dropped);
add('internal policy Local, local one terminating, others ready: the local one', 'pod', cluster(53), reach(['a'], 'kept'));

// topology hints
add('zone hints: only endpoints of this zone', 'pod', cluster(15), reach(['a'], 'kept'));
add('zone hints for host processes, too', 'host', cluster(15), reach(['a']));
add('one endpoint without hint switches zone hints off', 'pod', cluster(16), reach(both, 'kept'));
add('hints that name other zones only are ignored', 'pod', cluster(17), reach(both, 'kept'));
add('node hints win over zone hints', 'pod', cluster(18), reach(['a'], 'kept'));
add('node hints that name other nodes only are ignored', 'pod', cluster(49), reach(both, 'kept'));
add('hints do not apply to terminating fallback', 'pod', cluster(19), reach(both, 'kept'));
add('hints do not apply to the local set', 'ext', node(48), reach(['a'], 'kept'));
add('hints apply to the cluster set of the same Service', 'pod', cluster(48), reach(['c'], 'kept'));

// external paths, policy Cluster
for (const [what, target] of [['NodePort', node(1)], ['external IP', externalIP(1)], ['load-balancer VIP', vip(1)]] as const) {
  add(`off-cluster to ${what}: all endpoints, masqueraded`, 'ext', target, reach(both, 'node'));
  add(`pod to ${what}: all endpoints, masqueraded`, 'pod', target, reach(both, 'node'));
  add(`host to ${what}: all endpoints`, 'host', target, reach(both));
}
add('NodePort on the node address of the Pod network', 'pod', '10.244.1.1:30001', reach(both, 'node'));
add('NodePort on the address of another interface', 'ext', '203.0.113.1:30001', reach(both, 'node'));
add('no NodePort on 127.0.0.1', 'host', '127.0.0.1:30001', unserved);
add('pod to itself through NodePort: masqueraded', 'self', node(36), reach(['a'], 'node'));
add('VIP with ipMode Proxy is left alone', 'ext', vip(40), unserved);
add('NodePort of a VIP with ipMode Proxy is served', 'ext', node(40), reach(['a'], 'node'));
add('VIP without NodePorts is served', 'ext', vip(41), reach(['a'], 'node'));
add('no NodePort where none was allocated', 'ext', node(41), unserved);
add('NodePort of another protocol is not served', 'ext', node(1), unserved, 'UDP');

// external policy Local
for (const [what, here, elsewhere] of [['NodePort', node(3), node(4)], ['external IP', externalIP(3), externalIP(4)], ['load-balancer VIP', vip(3), vip(4)]] as const) {
  add(`off-cluster to ${what}, policy Local: local endpoints, source kept`, 'ext', here, reach(['a'], 'kept'));
  add(`off-cluster to ${what}, policy Local, none here: dropped`, 'ext', elsewhere, dropped);
  add(`pod to ${what}, policy Local: short circuit to all, source kept`, 'pod', here, reach(both, 'kept'));
  add(`pod to ${what}, policy Local, none here: short circuit`, 'pod', elsewhere, reach(['c', 'd'], 'kept'));
  add(`host to ${what}, policy Local: all endpoints`, 'host', here, reach(both));
  add(`host to ${what}, policy Local, none here: all endpoints`, 'host', elsewhere, reach(['c', 'd']));
}
add('ClusterIP of a Service with external policy Local: all', 'pod', cluster(3), reach(both, 'kept'));
add('off-cluster to ClusterIP of a Service with external policy Local: all, masqueraded', 'ext', cluster(3), reach(both, 'node'));

// internal policy Local
for (const from of ['pod', 'host', 'ext'] as const) {
  add(`${from} to ClusterIP, internal policy Local: local endpoints`, from, cluster(5), reach(['a'], from === 'pod' ? 'kept' : from === 'ext' ? 'node' : undefined));
  add(`${from} to ClusterIP, internal policy Local, none here: dropped`, from, cluster(6), dropped);
  add(`${from} to ClusterIP, internal policy Local, none anywhere: refused`, from, cluster(8), refused);
}
add('internal policy Local does not bind NodePorts', 'ext', node(9), reach(['c'], 'node'));
add('internal policy Local drops while NodePorts serve', 'pod', cluster(9), dropped);
add('both policies Local: ClusterIP uses the local set', 'pod', cluster(7), reach(['a'], 'kept'));
add('both policies Local: pod to VIP short circuits to all', 'pod', vip(7), reach(both, 'kept'));
add('both policies Local: off-cluster uses the local set', 'ext', vip(7), reach(['a'], 'kept'));

// source ranges
add('source range lets its client in', 'ext', vip(20), reach(both, 'node'));
add('source range keeps others out', 'ext2', vip(20), dropped);
add('source range keeps pods out', 'pod', vip(20), dropped);
add('source range keeps host processes out', 'host', vip(20), dropped);
add('source range does not bind NodePorts', 'ext2', node(20), reach(both, 'node'));
add('source range does not bind external IPs', 'ext2', externalIP(20), reach(both, 'node'));
add('source range does not bind ClusterIPs', 'pod', cluster(20), reach(both, 'kept'));
add('source range with blanks and the node address: host processes come in', 'host', vip(21), reach(['a']));
add('source range of the node keeps off-cluster out', 'ext', vip(21), dropped);
add('nested source ranges: pods come in', 'pod', vip(22), reach(['a'], 'node'));
add('second of several source ranges', 'ext2', vip(22), reach(['a'], 'node'));
add('not in any of several source ranges', 'ext', vip(22), dropped);
add('unreadable source range lets nobody in', 'ext', vip(54), dropped);

// ports and protocols
add('first of two ports has its own endpoints', 'pod', cluster(24), reach(['a'], 'kept'));
add('second port has its own endpoints and target port', 'pod', cluster(24, 443), reach(['c:8443'], 'kept'));
add('port without matching slice port: refused', 'pod', cluster(24, 90), refused);
add('same port number by UDP', 'pod', cluster(25, 53), reach(['a'], 'kept'), 'UDP');
add('same port number by TCP', 'pod', cluster(25, 53), reach(['c'], 'kept'), 'TCP');
add('UDP Service: all endpoints', 'pod', cluster(26, 53), reach(both, 'kept'), 'UDP');
add('UDP Service from the host', 'host', cluster(26, 53), reach(both), 'UDP');
add('SCTP Service', 'pod', cluster(50), reach(['a'], 'kept'), 'SCTP');
add('SCTP to a TCP port: refused', 'pod', cluster(1), refused, 'SCTP');

// session affinity
add('ClientIP affinity on the ClusterIP: one endpoint', 'pod', cluster(35), reach(['a', 'b', 'c', 'd'], 'kept', true));
add('ClientIP affinity on the NodePort: one endpoint', 'ext', node(35), reach(['a', 'b', 'c', 'd'], 'node', true));
add('ClientIP affinity on the VIP: one endpoint', 'ext2', vip(35), reach(['a', 'b', 'c', 'd'], 'node', true));
add('ClientIP affinity for host processes', 'host', cluster(35), reach(['a', 'b', 'c', 'd'], undefined, true));
add('affinity and external policy Local: the local endpoint', 'ext', node(38), reach(['a'], 'kept', true));
add('affinity and external policy Local from a pod: one of all', 'pod', vip(38), reach(both, 'kept', true));
add('affinity and internal policy Local: the local endpoint', 'pod', cluster(52), reach(['a'], 'kept', true));

// IPv6
add('IPv6 ClusterIP of a dual-stack Service', 'pod', '[fd00:96::60]:80', reach(['a6', 'c6'], 'kept'));
add('IPv4 ClusterIP of a dual-stack Service', 'pod', cluster(60), reach(both, 'kept'));
add('IPv6 from the host', 'host', '[fd00:96::60]:80', reach(['a6', 'c6']));
add('IPv6 NodePort', 'ext', '[fd00:192::1]:30060', reach(['a6', 'c6'], 'node'));
add('IPv4 NodePort of a dual-stack Service', 'ext', '192.168.0.1:30060', reach(both, 'node'));
add('IPv6 affinity', 'pod', '[fd00:96::61]:80', reach(['a6', 'c6'], 'kept', true));
add('IPv6 without endpoints: refused', 'pod', '[fd00:96::62]:80', refused);
add('IPv6 undefined port: refused', 'pod', '[fd00:96::60]:81', refused);
add('IPv6 unallocated address: dropped', 'pod', '[fd00:96::7777]:80', dropped);
add('IPv6 slice is not used for an IPv4-only Service', 'pod', cluster(63), refused);
add('IPv6 NodePort, policy Local: local endpoint, source kept', 'ext', '[fd00:192::1]:30064', reach(['a6'], 'kept'));
add('IPv6 hairpin', 'self', '[fd00:96::60]:80', reach(['a6', 'c6']));

// other configurations
add('pod to ClusterIP: source kept', 'pod', cluster(1), reach(both, 'kept'), 'TCP', 'no detector');
add('off-cluster to ClusterIP: source kept', 'ext', cluster(1), reach(both, 'kept'), 'TCP', 'no detector');
add('pod to VIP, policy Local: only the local set', 'pod', vip(3), reach(['a'], 'kept'), 'TCP', 'no detector');
add('off-cluster to NodePort, policy Cluster: masqueraded', 'ext', node(1), reach(both, 'node'), 'TCP', 'no detector');
add('host to VIP, policy Local: all', 'host', vip(3), reach(both), 'TCP', 'no detector');
add('pod to ClusterIP: masqueraded', 'pod', cluster(1), reach(both, 'node'), 'TCP', 'masquerade all');
add('pod to ClusterIP, internal policy Local: masqueraded', 'pod', cluster(5), reach(['a'], 'node'), 'TCP', 'masquerade all');
add('off-cluster to NodePort, policy Local: source kept all the same', 'ext', node(3), reach(['a'], 'kept'), 'TCP', 'masquerade all');
add('pod to ClusterIP: served', 'pod', cluster(1), reach(both, 'kept'), 'TCP', 'bind loopback');
add('host to VIP: served', 'host', vip(1), reach(both), 'TCP', 'bind loopback');
add('off-cluster to NodePort: nothing there', 'ext', node(1), unserved, 'TCP', 'bind loopback');
add('off-cluster to VIP: nothing there', 'ext', vip(1), unserved, 'TCP', 'bind loopback');
add('off-cluster to ClusterIP: dropped', 'ext', cluster(1), dropped, 'TCP', 'bind loopback');
add('pod to NodePort of the node: nothing there', 'pod', node(1), unserved, 'TCP', 'bind loopback');
add('NodePort on the bound address', 'ext', node(1), reach(both, 'node'), 'TCP', 'bind address');
add('no NodePort on another address', 'ext', '203.0.113.1:30001', unserved, 'TCP', 'bind address');
add('NodePort on the primary address', 'ext', node(3), reach(['a'], 'kept'), 'TCP', 'primary');
add('no NodePort on a secondary address', 'ext', '203.0.113.1:30001', unserved, 'TCP', 'primary');
add('NodePort inside the listed network', 'ext', '203.0.113.1:30001', reach(both, 'node'), 'TCP', 'listed');
add('no NodePort outside the listed network', 'ext', node(1), unserved, 'TCP', 'listed');
