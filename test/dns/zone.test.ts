// The zone's table in-process: what a change takes back, addresses shared by Pods, and bounds of the compiled answers.

import { describe, expect, test } from 'vitest';
import { nameKey } from '../../dns/wire/names.ts';
import { AnswerBuilder } from '../../dns/wire/builder.ts';
import { addRecords } from '../../dns/zone/answer.ts';
import { addressOfReverseName, findNode, reverseLabels } from '../../dns/zone/find.ts';
import type { ServiceRecords } from '../../dns/zone/records.ts';
import { Zone } from '../../dns/zone/zone.ts';

function makeZone(): Zone {
  const zone = new Zone({ zoneKey: nameKey('cluster.local') ?? '', ttlSeconds: 5, podsMode: 'verified', isZonal: false, ownAddresses: [] });
  zone.apply({ type: 'namespaces', set: ['a', 'b'], gone: [] });
  zone.apply({ type: 'state', isSynced: true, staleSinceMs: 0, serial: 1 });
  return zone;
}
function headless(name: string, ips: readonly string[], namespace = 'a'): ServiceRecords {
  return { namespace, name, kind: 'headless', clusterIPs: [], externalName: '', ports: [], portSets: [[{ name: 'p', protocol: 'TCP', port: 1 }]], endpoints: ips.map((ip) => [ip, '', 0, '']), endpointCount: ips.length };
}
function compile(zone: Zone, name: string): void {
  const key = nameKey(`${name}.a.svc.cluster.local`) ?? '';
  const node = findNode(zone, [name, 'a', 'svc']);
  if (node.kind !== 'service') throw new Error(`no Service ${name}`);
  const builder = new AnswerBuilder();
  builder.begin(key);
  addRecords(zone, node, key, 1, builder);
  zone.remember(1, key, node.service, builder.finish(16));
}

describe('compiled answers', () => {
  test('a change takes back the answers of that Service and of no other', () => {
    const zone = makeZone();
    zone.apply({ type: 'services', set: [headless('x', ['10.0.0.1']), headless('y', ['10.0.0.2'])], gone: [] });
    compile(zone, 'x');
    compile(zone, 'y');
    zone.apply({ type: 'services', set: [headless('x', ['10.0.0.3'])], gone: [] });
    expect([...(zone.hot[1]?.keys() ?? [])]).toEqual([nameKey('y.a.svc.cluster.local')]);
    zone.apply({ type: 'services', set: [], gone: ['a/y'] });
    expect(zone.hotCount).toBe(0);
  });

  test('the table never holds more than its limit', () => {
    const zone = makeZone();
    zone.apply({ type: 'services', set: [headless('x', ['10.0.0.1'])], gone: [] });
    const node = findNode(zone, ['x', 'a', 'svc']);
    if (node.kind !== 'service') throw new Error('no Service');
    const builder = new AnswerBuilder();
    builder.begin('\0');
    const template = builder.finish();
    for (let index = 0; index < 70_000; index++) zone.remember(1, `k${index}`, node.service, template);
    expect(zone.hotCount).toBeLessThanOrEqual(65_536);
  });
});

describe('reverse index', () => {
  test('an address of several Services stays with those that still have it', () => {
    const zone = makeZone();
    zone.apply({ type: 'services', set: [headless('x', ['10.0.0.1']), headless('y', ['10.0.0.1', '10.0.0.1']), headless('z', ['10.0.0.1'])], gone: [] });
    expect(zone.ownersOf('10.0.0.1').map((service) => service.key)).toEqual(['a/x', 'a/y', 'a/z']);
    zone.apply({ type: 'services', set: [headless('y', [])], gone: ['a/x'] });
    expect(zone.ownersOf('10.0.0.1').map((service) => service.key)).toEqual(['a/z']);
    zone.apply({ type: 'services', set: [], gone: ['a/z'] });
    expect(zone.ownersOf('10.0.0.1')).toEqual([]);
  });

  test.each(['10.96.0.1', 'fd00:10:96::201', '::', '255.255.255.255'])('%s → reverse name → address', (ip) => { expect(addressOfReverseName(reverseLabels(ip))).toBe(ip); });
  test.each([[['1', '2', '3', 'in-addr', 'arpa']], [['01', '2', '3', '4', 'in-addr', 'arpa']], [['x', '2', '3', '4', 'in-addr', 'arpa']], [['0', '1', '2', '3', '4', 'in-addr', 'arpa']], [['1', 'ip6', 'arpa']]])('%j is no address', (labels) => { expect(addressOfReverseName(labels)).toBeUndefined(); });
});

describe('pods', () => {
  test('an address of two Pods keeps its name until both are gone; two Namespaces on one address have no search path', () => {
    const zone = makeZone();
    zone.apply({ type: 'pods', set: [['a', 'one', ['10.0.0.9']], ['a', 'two', ['10.0.0.9']]], gone: [] });
    expect(zone.namespaceAt('10.0.0.9')).toBe('a');
    zone.apply({ type: 'pods', set: [['b', 'three', ['10.0.0.9']]], gone: [] });
    expect(zone.namespaceAt('10.0.0.9')).toBeUndefined();
    zone.apply({ type: 'pods', set: [], gone: ['a/two', 'b/three'] });
    expect([zone.namespaceAt('10.0.0.9'), findNode(zone, ['10-0-0-9', 'a', 'pod']).kind, findNode(zone, ['10-0-0-9', 'b', 'pod']).kind]).toEqual(['a', 'pod', 'absent']);
    zone.apply({ type: 'pods', set: [], gone: ['a/one'] });
    expect(findNode(zone, ['10-0-0-9', 'a', 'pod']).kind).toBe('absent');
    zone.apply({ type: 'pods', set: [['a', 'one', ['10.0.0.8']]], gone: [] });
    zone.apply({ type: 'pods', set: [['a', 'one', ['10.0.0.7']]], gone: [] });
    expect([zone.namespaceAt('10.0.0.8'), zone.namespaceAt('10.0.0.7')]).toEqual([undefined, 'a']);
  });
});
