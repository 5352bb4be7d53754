// Packing of endpoints into slices: whatever the history, the slices hold exactly the wanted endpoints, none is over
// full, and no slice is written that did not have to be. Also hints and subsets, all pure.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { setHints, zoneShares } from '../../../control/controllers/endpoints/hints.ts';
import { portsKey } from '../../../control/controllers/endpoints/pod-endpoint.ts';
import { identityOf, planSlices, type EndpointGroup, type PlanInput } from '../../../control/controllers/endpoints/slice-plan.ts';
import { makeSubsets } from '../../../control/controllers/endpoints/subsets.ts';
import type { EndpointSlice, Node, Pod, SliceEndpoint } from '../../../api/types.ts';
import { service } from '../../lib/builders.ts';

const labels = { 'kubernetes.io/service-name': 'web' };
const endpoint = (index: number, isReady = true): SliceEndpoint => ({ addresses: [`10.0.${Math.floor(index / 250)}.${index % 250}`], conditions: { ready: isReady, serving: isReady, terminating: false }, targetRef: { kind: 'Pod', name: `p${index}`, uid: `u${index}` } });
const group = (endpoints: SliceEndpoint[], port = 80): EndpointGroup => ({ ports: [{ name: '', port, protocol: 'TCP' }], endpoints });

/** Slices as the API server would hold them, moved from plan to plan. */
class Shelf {
  slices: EndpointSlice[] = [];
  writes = 0;
  #count = 0;

  apply(groups: EndpointGroup[], endpointsMax: number, hasPlaceholder = true): { create: number; update: number; remove: number } {
    const input: PlanInput = { family: 'IPv4', groups, existing: this.slices, endpointsMax, labels, hasPlaceholder };
    const plan = planSlices(input);
    const replaced = new Map(plan.update.map((slice) => [slice.metadata.name, slice]));
    const removed = new Set(plan.remove.map((slice) => slice.metadata.name));
    this.slices = this.slices.filter((slice) => !removed.has(slice.metadata.name)).map((slice) => replaced.get(slice.metadata.name) ?? slice);
    for (const { addressType, ports, endpoints } of plan.create) this.slices.push({ metadata: { name: `s${this.#count++}`, labels: { ...labels } }, addressType, ports: [...ports], endpoints: [...endpoints] });
    this.writes += plan.create.length + plan.update.length + plan.remove.length;
    return { create: plan.create.length, update: plan.update.length, remove: plan.remove.length };
  }

  all(): string[] { return this.slices.flatMap((slice) => (slice.endpoints ?? []).map((each) => `${portsKey(slice.ports ?? [])} ${identityOf(each)} ${each.conditions?.ready}`)).sort(); }
}

const wanted = (groups: EndpointGroup[]): string[] => groups.flatMap((each) => each.endpoints.map((item) => `${portsKey(each.ports)} ${identityOf(item)} ${item.conditions?.ready}`)).sort();

test('after any sequence of changes the slices hold exactly what is wanted, no more than the limit each, and a second pass writes nothing', () => {
  const state = fc.array(fc.record({ index: fc.integer({ min: 0, max: 30 }), port: fc.constantFrom(80, 81), isReady: fc.boolean() }), { maxLength: 40 });
  fc.assert(fc.property(fc.array(state, { minLength: 1, maxLength: 12 }), fc.integer({ min: 1, max: 7 }), (states, max) => {
    const shelf = new Shelf();
    for (const list of states) {
      const unique = [...new Map(list.map((item) => [item.index, item])).values()];
      const groups = [80, 81].map((port) => group(unique.filter((item) => item.port === port).map((item) => endpoint(item.index, item.isReady)), port)).filter((each) => each.endpoints.length > 0);
      shelf.apply(groups, max);
      expect(shelf.all()).toEqual(wanted(groups));
      expect(shelf.slices.every((slice) => (slice.endpoints?.length ?? 0) <= max)).toBe(true);
      expect(shelf.slices.length).toBeGreaterThan(0);
      if (groups.length > 0) expect(shelf.slices.every((slice) => (slice.endpoints?.length ?? 0) > 0)).toBe(true);
      expect(shelf.apply(groups, max)).toEqual({ create: 0, update: 0, remove: 0 });
    }
  }), { numRuns: 300 });
});

test('an endpoint that stays never moves to another slice', () => {
  fc.assert(fc.property(fc.array(fc.uniqueArray(fc.integer({ min: 0, max: 40 }), { maxLength: 30 }), { minLength: 2, maxLength: 8 }), (states) => {
    const shelf = new Shelf();
    let homes = new Map<string, string>();
    for (const list of states) {
      shelf.apply([group(list.map((index) => endpoint(index)))], 5);
      const next = new Map(shelf.slices.flatMap((slice) => (slice.endpoints ?? []).map((each): [string, string] => [identityOf(each), slice.metadata.name])));
      for (const [identity, home] of next) if (homes.has(identity)) expect(home).toBe(homes.get(identity));
      homes = next;
    }
  }), { numRuns: 200 });
});

test('one endpoint more or less, or one flip, writes one slice however many there are', () => {
  const shelf = new Shelf();
  const list = Array.from({ length: 950 }, (_, index) => endpoint(index));
  expect(shelf.apply([group(list)], 100)).toEqual({ create: 10, update: 0, remove: 0 });
  expect(shelf.apply([group([...list, endpoint(2000)])], 100)).toEqual({ create: 0, update: 1, remove: 0 });
  const fewer = [...list.slice(0, 500), ...list.slice(501), endpoint(2000)];
  expect(shelf.apply([group(fewer)], 100)).toEqual({ create: 0, update: 1, remove: 0 });
  expect(shelf.apply([group(fewer.map((each) => (identityOf(each) === identityOf(endpoint(7)) ? endpoint(7, false) : each)))], 100)).toEqual({ create: 0, update: 1, remove: 0 });
});

test('replacing every Pod one by one costs one write each and leaves no holes that grow', () => {
  const shelf = new Shelf();
  let list = Array.from({ length: 300 }, (_, index) => endpoint(index));
  shelf.apply([group(list)], 100);
  shelf.writes = 0;
  for (let round = 0; round < 300; round++) {
    list = [...list.slice(1), endpoint(1000 + round)];
    shelf.apply([group(list)], 100);
  }
  expect(shelf.writes).toBe(300);
  expect(shelf.slices).toHaveLength(3);
});

test('new endpoints go into a slice that changes anyway, then into the fullest that takes them all, else into a new one', () => {
  const shelf = new Shelf();
  const range = (from: number, count: number): SliceEndpoint[] => Array.from({ length: count }, (_, index) => endpoint(from + index));
  shelf.slices = [[0, 6], [100, 8], [200, 3]].map(([from = 0, count = 0], index) => ({ metadata: { name: `x${index}`, labels: { ...labels } }, addressType: 'IPv4', ports: [{ name: '', port: 80, protocol: 'TCP' }], endpoints: range(from, count) }));
  const base = [...range(0, 6), ...range(100, 8), ...range(200, 3)];
  shelf.apply([group([...base, ...range(300, 2)])], 10);
  expect(shelf.slices.map((slice) => slice.endpoints?.length)).toEqual([6, 10, 3]);
  shelf.apply([group([...base, ...range(300, 2), ...range(400, 8)])], 10);
  expect(shelf.slices.map((slice) => slice.endpoints?.length)).toEqual([6, 10, 3, 8]);
  shelf.apply([group([...base.slice(1), ...range(300, 2), ...range(400, 8), ...range(500, 4)])], 10);
  expect(shelf.slices.map((slice) => slice.endpoints?.length)).toEqual([9, 10, 3, 8]);
});

test('a slice about to be deleted is reused for another port list; a slice over a lowered limit is split', () => {
  const shelf = new Shelf();
  shelf.apply([group([endpoint(1), endpoint(2), endpoint(3)], 80)], 10);
  expect(shelf.apply([group([endpoint(1), endpoint(2), endpoint(3)], 81)], 10)).toEqual({ create: 0, update: 1, remove: 0 });
  expect(shelf.apply([group([endpoint(1), endpoint(2), endpoint(3)], 81)], 2)).toEqual({ create: 1, update: 1, remove: 0 });
});

test('topology-mode Auto: shares follow CPU, every endpoint has one zone, and too few endpoints mean no hints at all', () => {
  const node = (zone: string, cpu: string): Node => ({ metadata: { name: `n-${zone}`, labels: { 'topology.kubernetes.io/zone': zone } }, status: { allocatable: { cpu }, conditions: [{ type: 'Ready', status: 'True' }] } });
  const auto = service('web', {}, { annotations: { 'service.kubernetes.io/topology-mode': 'Auto' } });
  const zones = zoneShares([node('a', '4'), node('b', '4'), node('c', '8000m')]);
  const make = (counts: Record<string, number>): SliceEndpoint[] => Object.entries(counts).flatMap(([zone, count]) => Array.from({ length: count }, (_, index): SliceEndpoint => ({ ...endpoint(index), addresses: [`10.${zone.charCodeAt(0)}.0.${index}`], zone })));
  const list = make({ a: 6, b: 3, c: 3 });
  expect(setHints(auto, list, () => zones)).toBe('');
  const counts: Record<string, number> = {};
  for (const each of list) counts[each.hints?.forZones?.[0]?.name ?? 'none'] = (counts[each.hints?.forZones?.[0]?.name ?? 'none'] ?? 0) + 1;
  expect(counts['none']).toBeUndefined();
  expect(counts['c']).toBeGreaterThanOrEqual(5);
  const few = make({ a: 1, b: 1 });
  expect(setHints(auto, few, () => zones)).toContain('fewer ready endpoints than zones');
  expect(few.every((each) => each.hints === undefined)).toBe(true);
  expect(zoneShares([node('a', '4')]).why).toContain('fewer than two zones');
});

test('trafficDistribution: own zone, own node as well for PreferSameNode, the annotation outranks it', () => {
  const list = (): SliceEndpoint[] => [{ ...endpoint(1), zone: 'a', nodeName: 'n1' }, { ...endpoint(2, false), zone: 'b', nodeName: 'n2' }];
  const none = (): { shares: undefined; why: string } => ({ shares: undefined, why: 'no zones' });
  for (const [distribution, hints] of [['PreferClose', { forZones: [{ name: 'a' }] }], ['PreferSameZone', { forZones: [{ name: 'a' }] }], ['PreferSameNode', { forZones: [{ name: 'a' }], forNodes: [{ name: 'n1' }] }], ['Other', undefined]] as const) {
    const own = list();
    setHints(service('web', { trafficDistribution: distribution }), own, none);
    expect(own.map((each) => each.hints)).toEqual([hints, undefined]);
  }
  const both = list();
  setHints(service('web', { trafficDistribution: 'PreferClose' }, { annotations: { 'service.kubernetes.io/topology-mode': 'Auto' } }), both, none);
  expect(both.every((each) => each.hints === undefined)).toBe(true);
});

test('an Endpoints object holds at most a thousand addresses, ready ones first', () => {
  const pod = (index: number, isReady: boolean): Pod => ({ metadata: { name: `p${index}`, namespace: 'default', uid: `u${index}` }, spec: { containers: [] }, status: { phase: 'Running', podIP: `10.1.${Math.floor(index / 250)}.${index % 250}`, conditions: [{ type: 'Ready', status: isReady ? 'True' : 'False' }] } });
  const { subsets, isTruncated } = makeSubsets(service('web'), Array.from({ length: 1_500 }, (_, index) => pod(index, index < 900)), 1_000);
  expect([isTruncated, subsets[0]?.addresses?.length, subsets[0]?.notReadyAddresses?.length]).toEqual([true, 900, 100]);
  const few = makeSubsets(service('web'), [pod(1, true)], 1_000);
  expect([few.isTruncated, few.subsets[0]?.addresses?.length]).toEqual([false, 1]);
});
