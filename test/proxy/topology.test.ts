// Endpoint selection as a pure function: each rule of Kubernetes' topology.go by itself, then properties over all
// combinations of conditions, hints and policies.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { joinService, type Endpoint } from '../../api/services.ts';
import type { ServiceSpec } from '../../api/types.ts';
import { isExternallyAccessible, selectEndpoints } from '../../proxy/topology.ts';
import { endpoint, service } from '../lib/builders.ts';

const here = { name: 'n1', zone: 'zone-a' };
const build = (endpoints: Endpoint[], spec: Partial<ServiceSpec> = {}): [ReturnType<typeof joinService>, ReturnType<typeof joinService>['ports'][number]] => {
  const info = joinService('default/s', service('s', { clusterIP: '10.96.0.1', ...spec }), new Map());
  const port = info.ports[0];
  if (port === undefined) throw new Error('no port');
  return [info, { ...port, endpoints: { IPv4: endpoints, IPv6: [] } }];
};
const select = (endpoints: Endpoint[], spec: Partial<ServiceSpec> = {}, node: { name: string; zone?: string } = here): { cluster: string[]; local: string[]; hasAny: boolean; usesCluster: boolean; usesLocal: boolean; mode: string } => {
  const result = selectEndpoints(...build(endpoints, spec), 'IPv4', node);
  return { ...result, cluster: result.cluster.map((each) => each.ip), local: result.local.map((each) => each.ip) };
};
const nodePort: Partial<ServiceSpec> = { type: 'NodePort', ports: [{ name: '', port: 80, protocol: 'TCP', nodePort: 30_080 }] };
const unready = { ready: false, serving: false, terminating: false };
const terminating = { ready: false, serving: true, terminating: true };

describe('which sets a port needs', () => {
  test('ClusterIP only, policy Cluster: the cluster set', () => { expect(select([])).toMatchObject({ usesCluster: true, usesLocal: false }); });
  test('ClusterIP only, internal policy Local: the local set alone', () => { expect(select([], { internalTrafficPolicy: 'Local' })).toMatchObject({ usesCluster: false, usesLocal: true }); });
  test('external policy Local: both, for the short circuit', () => { expect(select([], { ...nodePort, externalTrafficPolicy: 'Local' })).toMatchObject({ usesCluster: true, usesLocal: true }); });
  test('both policies Local: both', () => { expect(select([], { ...nodePort, internalTrafficPolicy: 'Local', externalTrafficPolicy: 'Local' })).toMatchObject({ usesCluster: true, usesLocal: true }); });
  test('external addresses make a port externally accessible', () => {
    expect(isExternallyAccessible(...build([]))).toBe(false);
    expect(isExternallyAccessible(...build([], nodePort))).toBe(true);
    expect(isExternallyAccessible(...build([], { externalIPs: ['198.51.100.1'] }))).toBe(true);
  });
});

describe('conditions', () => {
  test('ready endpoints; unready ones never', () => { expect(select([endpoint('1.0.0.1'), endpoint('1.0.0.2', 80, unready)]).cluster).toEqual(['1.0.0.1']); });
  test('none ready: all that serve while terminating', () => { expect(select([endpoint('1.0.0.1', 80, terminating), endpoint('1.0.0.2', 80, unready)]).cluster).toEqual(['1.0.0.1']); });
  test('nothing usable: hasAny is false', () => { expect(select([endpoint('1.0.0.1', 80, unready)])).toMatchObject({ cluster: [], hasAny: false }); });
  test('local fallback is independent of remote readiness', () => {
    const result = select([endpoint('1.0.0.1', 80, { ...terminating, nodeName: 'n1' }), endpoint('1.0.0.2', 80, { nodeName: 'n2' })], { ...nodePort, externalTrafficPolicy: 'Local' });
    expect(result).toMatchObject({ cluster: ['1.0.0.2'], local: ['1.0.0.1'], hasAny: true });
  });
  test('an empty node name has no local endpoints', () => { expect(select([endpoint('1.0.0.1', 80, { nodeName: '' })], { internalTrafficPolicy: 'Local' }, { name: '' }).local).toEqual([]); });
  test('the local copy of an address wins over another', () => {
    expect(select([endpoint('1.0.0.1', 80, { nodeName: 'n2' }), endpoint('1.0.0.1', 80, { nodeName: 'n1' })], { internalTrafficPolicy: 'Local' }).local).toEqual(['1.0.0.1']);
  });
});

describe('hints', () => {
  const zone = (ip: string, ...names: string[]): Endpoint => endpoint(ip, 80, { hintZones: names });
  test('same zone', () => { expect(select([zone('1.0.0.1', 'zone-a'), zone('1.0.0.2', 'zone-b')])).toMatchObject({ cluster: ['1.0.0.1'], mode: 'same-zone' }); });
  test('one endpoint without a hint switches them off', () => { expect(select([zone('1.0.0.1', 'zone-a'), endpoint('1.0.0.2')])).toMatchObject({ cluster: ['1.0.0.1', '1.0.0.2'], mode: 'none' }); });
  test('no endpoint for this zone switches them off', () => { expect(select([zone('1.0.0.1', 'zone-c')]).mode).toBe('none'); });
  test('a node without a zone never has the same', () => { expect(select([zone('1.0.0.1', 'zone-a')], {}, { name: 'n1' }).mode).toBe('none'); });
  test('same node before same zone', () => {
    expect(select([endpoint('1.0.0.1', 80, { hintNodes: ['n1'], hintZones: ['zone-b'] }), endpoint('1.0.0.2', 80, { hintNodes: ['n2'], hintZones: ['zone-a'] })])).toMatchObject({ cluster: ['1.0.0.1'], mode: 'same-node' });
  });
  test('hints of endpoints that are not ready do not count', () => { expect(select([zone('1.0.0.1', 'zone-a'), endpoint('1.0.0.2', 80, terminating)])).toMatchObject({ cluster: ['1.0.0.1'], mode: 'same-zone' }); });
});

const anyEndpoint = fc.record({
  ip: fc.nat(6).map((number) => `1.0.0.${number}`), ready: fc.boolean(), serving: fc.boolean(), terminating: fc.boolean(), nodeName: fc.constantFrom('n1', 'n2', undefined),
  hintZones: fc.constantFrom(undefined, ['zone-a'], ['zone-b'], ['zone-a', 'zone-b']), hintNodes: fc.constantFrom(undefined, ['n1'], ['n2']),
}).map(({ ip, ...more }) => endpoint(ip, 80, more));

test('whatever the state: only usable endpoints, no address twice, locals are local, and none missing when some are ready', () => {
  fc.assert(fc.property(fc.array(anyEndpoint, { maxLength: 8 }), fc.boolean(), fc.boolean(), (endpoints, isInternalLocal, isExternalLocal) => {
    const info = build(endpoints, { ...nodePort, ...(isInternalLocal ? { internalTrafficPolicy: 'Local' as const } : {}), ...(isExternalLocal ? { externalTrafficPolicy: 'Local' as const } : {}) });
    const result = selectEndpoints(...info, 'IPv4', here);
    for (const each of [...result.cluster, ...result.local]) expect(each.ready || (each.serving && each.terminating)).toBe(true);
    for (const set of [result.cluster, result.local]) expect(new Set(set.map((each) => `${each.ip} ${each.port}`)).size).toBe(set.length);
    for (const each of result.local) expect(each.nodeName).toBe('n1');
    expect(result.cluster.length > 0).toBe(result.usesCluster && result.hasAny);
    if (result.cluster.some((each) => each.ready)) expect(result.cluster.every((each) => each.ready)).toBe(true);
  }), { numRuns: 500 });
});
