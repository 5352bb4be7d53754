// Allocation of cluster IPs and node ports: bands, explicit and automatic picks, transactions, type changes, families,
// repair. Rules from the Kubernetes API server's own behaviour.

import { expect, test } from 'vitest';
import fc from 'fast-check';
import { IPRange, staticBandOfIPs } from '../../../control/admission/ip-range.ts';
import { PortRange, staticBandOfPorts } from '../../../control/admission/port-range.ts';
import { ServiceAllocator } from '../../../control/admission/service-allocation.ts';
import { parseCIDR, type Cidr } from '../../../api/address.ts';
import { NetloomError } from '../../../api/errors.ts';
import type { Service, ServiceSpec } from '../../../api/types.ts';
import { service } from '../../lib/builders.ts';

const make = (more: Partial<ConstructorParameters<typeof ServiceAllocator>[0]> = {}): ServiceAllocator => new ServiceAllocator({ serviceCIDRs: ['10.96.0.0/16'], ...more });
const clone = (object: Service, spec: Partial<ServiceSpec> = {}): Service => { const copy = structuredClone(object); copy.spec = { ...copy.spec, ...spec }; return copy; };
const causes = (run: () => unknown): { field?: string; reason?: string; message?: string }[] => {
  try { run(); } catch (error) {
    if (error instanceof NetloomError) return error.details?.causes ?? [{ message: error.message }];
    throw error;
  }
  return [];
};

test('bands: 256 addresses of a /16, 16 of a /24, none of a /28; 86 node ports', () => {
  expect([65_534, 254, 14].map(staticBandOfIPs)).toEqual([256, 16, 0]);
  expect([2768, 64, 16].map(staticBandOfPorts)).toEqual([86, 16, 0]);
});

test('network and broadcast address are never given out', () => {
  const range = new IPRange(parseCIDR('10.0.0.0/29') as Cidr);
  const ips = new Set<string>();
  for (let offset = range.pick(); offset !== undefined; offset = range.pick()) { range.hold(offset, 'x'); ips.add(range.at(offset)); }
  expect([...ips].sort()).toEqual(['10.0.0.1', '10.0.0.2', '10.0.0.3', '10.0.0.4', '10.0.0.5', '10.0.0.6']);
  expect([range.offsetOf('10.0.0.0'), range.offsetOf('10.0.0.7'), range.offsetOf('10.0.1.1')]).toEqual([undefined, undefined, undefined]);
});

test('address and offset are inverse, in both families', () => {
  for (const text of ['10.96.0.0/16', '127.96.0.0/16', 'fd00:10:96::/112', 'fd00::/64']) {
    const range = new IPRange(parseCIDR(text) as Cidr);
    fc.assert(fc.property(fc.integer({ min: 0, max: range.size - 1 }), (offset) => range.offsetOf(range.at(offset)) === offset));
  }
});

test('dynamic picks use the upper band first and the static band only when that is full', () => {
  const range = new IPRange(parseCIDR('10.0.0.0/24') as Cidr);
  const picked: number[] = [];
  for (let count = 0; count < range.size; count++) { const offset = range.pick() as number; range.hold(offset, 'x'); picked.push(offset); }
  expect(picked.slice(0, 238).every((offset) => offset >= 16)).toBe(true);
  expect(picked.slice(238).every((offset) => offset < 16)).toBe(true);
  expect(range.pick()).toBeUndefined();
  const ports = new PortRange({ from: 30_000, to: 32_767 });
  for (let count = 0; count < 100; count++) { const port = ports.pick() as number; ports.hold(port, 'x'); expect(port).toBeGreaterThanOrEqual(30_086); }
});

test('an explicit clusterIP outside the range, on the network address or taken is refused alone on spec.clusterIPs', () => {
  const allocator = make();
  allocator.allocate(service('holder', { clusterIP: '10.96.0.77' }), undefined).commit();
  for (const [ip, words] of [['10.200.0.1', 'failed to allocate IP 10.200.0.1: the provided IP (10.200.0.1) is not in the valid range. The range of valid IPs is 10.96.0.0/16'], ['10.96.0.0', 'failed to allocate'], ['10.96.0.77', 'failed to allocate IP 10.96.0.77: provided IP is already allocated']] as const) {
    const found = causes(() => allocator.allocate(service('bad', { clusterIP: ip }), undefined));
    expect(found).toHaveLength(1);
    expect(found[0]).toMatchObject({ field: 'spec.clusterIPs', reason: 'FieldValueInvalid' });
    expect(found[0]?.message).toContain(words);
  }
});

test('an explicit node port that is taken or outside the range names its field', () => {
  const allocator = make();
  allocator.allocate(service('holder', { type: 'NodePort', ports: [{ port: 80, nodePort: 30_080 }] }), undefined).commit();
  expect(causes(() => allocator.allocate(service('a', { type: 'NodePort', ports: [{ name: 'x', port: 1 }, { name: 'y', port: 80, nodePort: 30_080 }] }), undefined))[0]).toMatchObject({ field: 'spec.ports[1].nodePort', message: 'Invalid value: 30080: provided port is already allocated' });
  expect(causes(() => allocator.allocate(service('b', { type: 'NodePort', ports: [{ port: 80, nodePort: 29_999 }] }), undefined))[0]).toMatchObject({ field: 'spec.ports[0].nodePort', message: 'Invalid value: 29999: provided port is not in the valid range. The range of valid ports is 30000-32767' });
  expect(allocator.ports.usedCount).toBe(1);
});

test('one port number over TCP and UDP gets one node port; equal explicit ones are allowed too', () => {
  const allocator = make();
  const auto = service('dns', { type: 'NodePort', ports: [{ name: 't', port: 53, protocol: 'TCP' }, { name: 'u', port: 53, protocol: 'UDP' }] });
  allocator.allocate(auto, undefined).commit();
  expect(auto.spec?.ports?.[0]?.nodePort).toBe(auto.spec?.ports?.[1]?.nodePort);
  allocator.allocate(service('two', { type: 'NodePort', ports: [{ name: 't', port: 53, protocol: 'TCP', nodePort: 30_053 }, { name: 'u', port: 53, protocol: 'UDP', nodePort: 30_053 }] }), undefined).commit();
  expect(allocator.ports.usedCount).toBe(2);
});

test('who gets what: types, headless, ExternalName, allocateLoadBalancerNodePorts, health check port', () => {
  const allocator = make();
  const given = (spec: Partial<ServiceSpec>): ServiceSpec => { const made = service(`s${allocator.ports.usedCount}${Math.random()}`, spec); allocator.allocate(made, undefined).commit(); return made.spec as ServiceSpec; };
  expect(given({}).clusterIP).toMatch(/^10\.96\./);
  expect(given({ clusterIP: 'None', selector: { a: 'b' } })).toMatchObject({ clusterIP: 'None', clusterIPs: ['None'], ipFamilies: ['IPv4'], ipFamilyPolicy: 'SingleStack' });
  expect(given({ clusterIP: 'None' })).toMatchObject({ ipFamilies: ['IPv4', 'IPv6'], ipFamilyPolicy: 'RequireDualStack' });
  expect(given({ type: 'ExternalName', externalName: 'a.example' }).clusterIP).toBeUndefined();
  expect(given({ type: 'LoadBalancer' }).ports?.[0]?.nodePort).toBeGreaterThan(30_000);
  expect(given({ type: 'LoadBalancer', allocateLoadBalancerNodePorts: false }).ports?.[0]?.nodePort).toBeUndefined();
  expect(given({ type: 'LoadBalancer', externalTrafficPolicy: 'Local' }).healthCheckNodePort).toBeGreaterThan(30_000);
});

test('type changes give up and take what the new type needs', () => {
  const allocator = make();
  const first = service('s', { type: 'NodePort', externalTrafficPolicy: 'Cluster' });
  allocator.allocate(first, undefined).commit();
  const nodePort = first.spec?.ports?.[0]?.nodePort;
  const balanced = clone(first, { type: 'LoadBalancer' });
  allocator.allocate(balanced, first).commit();
  expect(balanced.spec?.ports?.[0]?.nodePort).toBe(nodePort);
  const inner = clone(balanced, { type: 'ClusterIP' });
  allocator.allocate(inner, balanced).commit();
  expect(inner.spec?.ports?.[0]?.nodePort).toBeUndefined();
  expect(inner.spec?.externalTrafficPolicy).toBeUndefined();
  expect(allocator.ports.usedCount).toBe(0);
  const named = clone(inner, { type: 'ExternalName', externalName: 'a.example' });
  allocator.allocate(named, inner).commit();
  expect(named.spec?.clusterIP).toBeUndefined();
  expect(allocator.ranges.get('IPv4')?.usedCount).toBe(0);
  const back = clone(named, { type: 'ClusterIP' });
  allocator.allocate(back, named).commit();
  expect(back.spec?.clusterIP).toMatch(/^10\.96\./);
});

test('an update without clusterIP and node ports keeps those the Service has', () => {
  const allocator = make();
  const first = service('s', { type: 'NodePort', ports: [{ name: 'a', port: 80 }, { name: 'b', port: 81 }] });
  allocator.allocate(first, undefined).commit();
  const bare = { ...first, spec: { type: 'NodePort' as const, ports: [{ name: 'b', port: 8081 }, { name: 'a', port: 80 }] } };
  allocator.allocate(bare, first).commit();
  expect(bare.spec).toMatchObject({ clusterIP: first.spec?.clusterIP, clusterIPs: first.spec?.clusterIPs });
  expect(bare.spec.ports.map((port) => (port as { nodePort?: number }).nodePort)).toEqual([first.spec?.ports?.[1]?.nodePort, first.spec?.ports?.[0]?.nodePort]);
});

test('a released write gives back everything and leaves what was held before', () => {
  const allocator = make();
  const first = service('s', { type: 'NodePort' });
  allocator.allocate(first, undefined).commit();
  const before = [allocator.ranges.get('IPv4')?.usedCount, allocator.ports.usedCount];
  allocator.allocate(service('t', { type: 'LoadBalancer', externalTrafficPolicy: 'Local' }), undefined).release();
  allocator.allocate(clone(first, { ports: [{ name: 'x', port: 1 }, { name: 'y', port: 2 }] }), first).release();
  expect([allocator.ranges.get('IPv4')?.usedCount, allocator.ports.usedCount]).toEqual(before);
});

test('a full range is an internal error that says so, and the write before it holds nothing', () => {
  const allocator = make({ serviceCIDRs: ['10.0.0.0/30'] });
  allocator.allocate(service('a'), undefined).commit();
  allocator.allocate(service('b'), undefined).commit();
  expect(() => allocator.allocate(service('c'), undefined)).toThrow(/range is full/);
  const narrow = make({ nodePortRange: { from: 30_000, to: 30_001 } });
  expect(() => narrow.allocate(service('d', { type: 'NodePort', ports: [{ name: 'a', port: 1 }, { name: 'b', port: 2 }, { name: 'c', port: 3 }] }), undefined)).toThrow(/range is full/);
  expect([narrow.ports.usedCount, narrow.ranges.get('IPv4')?.usedCount]).toEqual([0, 0]);
});

test('single-stack cluster: what asks for more is refused on its field', () => {
  const allocator = make();
  const fieldOf = (spec: Partial<ServiceSpec>): string | undefined => causes(() => allocator.allocate(service('x', spec), undefined))[0]?.field;
  expect(fieldOf({ ipFamilyPolicy: 'RequireDualStack' })).toBe('spec.ipFamilyPolicy');
  expect(fieldOf({ ipFamilies: ['IPv6'] })).toBe('spec.ipFamilies[0]');
  expect(fieldOf({ ipFamilies: ['IPv4', 'IPv4'], ipFamilyPolicy: 'PreferDualStack' })).toBe('spec.ipFamilies[1]');
  expect(fieldOf({ clusterIP: '10.96.0.78', ipFamilies: ['IPv6'] })).toBe('spec.clusterIPs[0]');
  expect(fieldOf({ clusterIPs: ['10.96.0.78'] })).toBe('spec.clusterIPs');
  expect(fieldOf({ clusterIP: '10.96.0.78', clusterIPs: ['10.96.0.78', '10.96.0.79'], ipFamilyPolicy: 'PreferDualStack' })).toBe('spec.clusterIPs');
  expect(fieldOf({ ipFamilyPolicy: 'PreferDualStack' })).toBeUndefined();
});

test('dual stack: families in order, secondary address added and removed, primary kept', () => {
  const allocator = make({ serviceCIDRs: ['10.96.0.0/16', 'fd00:10:96::/112'] });
  const first = service('s');
  allocator.allocate(first, undefined).commit();
  expect(first.spec).toMatchObject({ ipFamilies: ['IPv4'], ipFamilyPolicy: 'SingleStack' });
  const both = clone(first, { ipFamilyPolicy: 'PreferDualStack' });
  allocator.allocate(both, first).commit();
  expect(both.spec?.ipFamilies).toEqual(['IPv4', 'IPv6']);
  expect(both.spec?.clusterIPs?.[0]).toBe(first.spec?.clusterIP);
  expect(both.spec?.clusterIPs?.[1]).toMatch(/^fd00:10:96::/);
  const single = clone(both, { ipFamilyPolicy: 'SingleStack' });
  allocator.allocate(single, both).commit();
  expect(single.spec).toMatchObject({ clusterIPs: [first.spec?.clusterIP], ipFamilies: ['IPv4'] });
  expect(allocator.ranges.get('IPv6')?.usedCount).toBe(0);
  const reversed = service('r', { ipFamilyPolicy: 'RequireDualStack', ipFamilies: ['IPv6', 'IPv4'] });
  allocator.allocate(reversed, undefined).commit();
  expect(reversed.spec?.clusterIP).toMatch(/^fd00/);
  expect(reversed.spec?.clusterIPs?.[1]).toMatch(/^10\.96/);
});

test('whatever happens in whatever order, what is held is exactly what the stored Services hold', () => {
  const steps = fc.array(fc.record({ slot: fc.integer({ min: 0, max: 5 }), type: fc.constantFrom('ClusterIP', 'NodePort', 'LoadBalancer', 'ExternalName', 'delete', 'headless'), port: fc.option(fc.integer({ min: 30_000, max: 30_004 }), { nil: undefined }), isCommitted: fc.boolean() }), { maxLength: 60 });
  fc.assert(fc.property(steps, (list) => {
    const allocator = make({ nodePortRange: { from: 30_000, to: 30_009 }, serviceCIDRs: ['10.0.0.0/28'] });
    const stored = new Map<number, Service>();
    for (const step of list) {
      const old = stored.get(step.slot);
      if (step.type === 'delete') { if (old !== undefined) { allocator.free(old); stored.delete(step.slot); } continue; }
      const type = step.type === 'headless' ? 'ClusterIP' : step.type;
      const ports = [{ name: '', port: 80, ...(step.port === undefined || type === 'ClusterIP' || type === 'ExternalName' ? {} : { nodePort: step.port }) }];
      const next = old === undefined ? service(`s${step.slot}`, { type, ports }) : clone(old, { type, ports });
      if (step.type === 'headless' && old === undefined) next.spec = { ...next.spec, clusterIP: 'None' };
      let reservation;
      try { reservation = allocator.allocate(next, old); } catch (error) { expect(error).toBeInstanceOf(NetloomError); continue; }
      if (step.isCommitted) { reservation.commit(); stored.set(step.slot, next); } else reservation.release();
    }
    const ips = [...stored.values()].flatMap((each) => (each.spec?.type === 'ExternalName' ? [] : (each.spec?.clusterIPs ?? []).filter((ip) => ip !== 'None')));
    const ports = [...stored.values()].flatMap((each) => (each.spec?.ports ?? []).flatMap((port) => (port.nodePort === undefined ? [] : [port.nodePort])));
    expect([...(allocator.ranges.get('IPv4')?.entries() ?? [])].map(([offset]) => allocator.ranges.get('IPv4')?.at(offset)).sort()).toEqual(ips.sort());
    expect([...allocator.ports.entries()].map(([port]) => port).sort()).toEqual(ports.sort());
  }), { numRuns: 300 });
});

test('ten thousand Services are allocated in well under a second', () => {
  const allocator = make();
  const services = Array.from({ length: 10_000 }, (_, index) => service(`s${index}`));
  const started = performance.now();
  for (const each of services) allocator.allocate(each, undefined).commit();
  expect(performance.now() - started).toBeLessThan(3_000);
  expect(new Set(services.map((each) => each.spec?.clusterIP)).size).toBe(10_000);
  expect(make().reserveFromExisting(services)).toEqual([]);
});

test('picks confined to a part of the range go on beyond it when it is full', () => {
  const allocator = make({ serviceCIDRs: ['10.0.0.0/24'], random: () => (3 + Math.random()) / 8 });
  const ips = Array.from({ length: 254 }, (_, index) => { const each = service(`s${index}`); allocator.allocate(each, undefined).commit(); return each.spec?.clusterIP ?? ''; });
  expect(new Set(ips).size).toBe(254);
  expect(ips.slice(0, 12).every((ip) => Number(ip.split('.')[3]) >= 100 && Number(ip.split('.')[3]) <= 140)).toBe(true);
});
