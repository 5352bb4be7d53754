// Properties of plan and diff against a model: whatever the objects do, applying the operations of each sync to a plain
// map gives exactly the elements that the final state needs, endpoints keep their places, and nothing is written twice.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { silentLog } from '../../api/log.ts';
import { joinService } from '../../api/services.ts';
import type { EndpointSlice, Service } from '../../api/types.ts';
import type { ServicePlan } from '../../proxy/backend.ts';
import { FamilyEngine } from '../../proxy/nftables/engine.ts';
import { elementId, keepIndexes, planElements } from '../../proxy/nftables/elements.ts';
import { limits, markPart, marks, readMark, sets, setLayouts, tierOf, tiers } from '../../proxy/nftables/layout.ts';
import { Mirror, type Wanted } from '../../proxy/nftables/mirror.ts';
import type { KernelPort } from '../../proxy/nftables/port.ts';
import { planService } from '../../proxy/plan.ts';
import { endpoint, service, slice } from '../lib/builders.ts';

interface Spec { name: number; address: number; nodePort: number; isLocal: boolean; timeout: number; ranges: number; endpoints: number[]; age: number }
const specOf: fc.Arbitrary<Spec> = fc.record({
  name: fc.nat(5), address: fc.nat(4), nodePort: fc.constantFrom(0, 0, 1, 2), isLocal: fc.boolean(), timeout: fc.constantFrom(0, 0, 60, 600), ranges: fc.nat(2),
  endpoints: fc.uniqueArray(fc.nat(40), { maxLength: 25 }), age: fc.nat(3),
});
const step = fc.oneof({ weight: 4, arbitrary: fc.record({ put: specOf }) }, { weight: 1, arbitrary: fc.record({ drop: fc.nat(5) }) });
type Step = { put: Spec } | { drop: number };

function objectsOf(spec: Spec): { service: Service; slices: Map<string, EndpointSlice> } {
  const ports = [{ name: '', port: 80, protocol: 'TCP' as const, ...(spec.nodePort === 0 ? {} : { nodePort: 30_000 + spec.nodePort }) }];
  const object = service(`ns/s${spec.name}`, {
    clusterIP: `10.96.0.${spec.address}`, type: 'LoadBalancer', ports, externalTrafficPolicy: spec.isLocal ? 'Local' : 'Cluster',
    ...(spec.timeout === 0 ? {} : { sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: spec.timeout } } }),
    loadBalancerSourceRanges: Array.from({ length: spec.ranges }, (_unused, index) => `10.${index}.0.0/16`),
  }, { creationTimestamp: `2026-01-0${spec.age + 1}T00:00:00Z` });
  object.status = { loadBalancer: { ingress: [{ ip: `198.51.100.${spec.name}` }] } };
  const endpoints = spec.endpoints.map((number) => ({ addresses: [`10.244.0.${number + 1}`], nodeName: number % 2 === 0 ? 'n1' : 'n2', conditions: { ready: true } }));
  return { service: object, slices: new Map([['a', slice(`ns/s${spec.name}`, endpoints)]]) };
}

/** The production family engine over a map that stands for the kernel. */
class Model {
  readonly kernel = new Map<string, string>();
  readonly specs = new Map<string, Spec>();
  readonly engine: FamilyEngine;
  addCount = 0;
  #isStarted = false;

  constructor(kernel: ReadonlyMap<string, string> = new Map()) {
    for (const [id, data] of kernel) this.kernel.set(id, data);
    this.engine = new FamilyEngine({
      port: fakePort(this), ownership: 'none', nodeName: 'n1', nodeIPs: [], log: silentLog,
      program: { family: 'IPv4', serviceCIDRs: [], localClients: undefined, nodePorts: 'all', isMasqueradeAll: false, isExternalServed: true },
    });
  }

  planOf(key: string): ServicePlan | undefined {
    const spec = this.specs.get(key);
    if (spec === undefined) return undefined;
    const { service: object, slices } = objectsOf(spec);
    return planService(joinService(key, object, slices), { name: 'n1' }, ['IPv4']);
  }

  async sync(keys: readonly string[], isFull = false): Promise<number> {
    this.addCount = 0;
    if (!this.#isStarted) { this.#isStarted = true; await this.engine.start(); }
    await this.engine.sync({ isFull, services: new Map(keys.map((key) => [key, this.planOf(key)])), planOf: (key) => this.planOf(key) });
    return this.addCount;
  }
}

function fakePort(model: Model): KernelPort {
  return {
    mechanism: 'map', open: () => Promise.resolve({ isAdopted: true, ownership: 'none' }), load: () => Promise.resolve(), timeouts: () => Promise.resolve(new Map([[1, 60], [2, 600]])),
    generation: () => Promise.resolve(1), isIntact: () => Promise.resolve(true), counters: () => Promise.resolve([]), remove: () => Promise.resolve(), close: () => Promise.resolve(),
    dump: (set) => Promise.resolve([...model.kernel].filter(([id]) => id.charCodeAt(0) === set).map(([id, data]) => [id.slice(1), data])),
    apply: (groups) => {
      for (const group of groups) for (const { set, key, data } of group.deletes) {
        expect(model.kernel.get(elementId(set, key))).toBe(data);
        model.kernel.delete(elementId(set, key));
      }
      for (const group of groups) for (const { set, key, data } of group.adds) {
        expect(model.kernel.has(elementId(set, key))).toBe(false);
        model.kernel.set(elementId(set, key), data);
        model.addCount += 1;
      }
      return Promise.resolve({ isApplied: true, failed: [], reason: '' });
    },
  };
}

/** What the elements mean, without the freedom of order, pool numbers and slots. */
function meaningOf(elements: Iterable<readonly [string, string]>): string[] {
  const all = new Map(elements);
  const lines: string[] = [];
  const poolMembers = new Map<number, string[]>();
  for (const [id, data] of all) {
    if (id.charCodeAt(0) !== sets.affinityEndpoints) continue;
    const mark = readMark(id, 1);
    const pool = (mark & marks.poolMask) >>> marks.poolShift;
    poolMembers.set(pool, [...(poolMembers.get(pool) ?? []), `${(mark & marks.affinityLocal) === 0 ? 'cluster' : 'local'} ${hex(data)}`]);
  }
  for (const [id, data] of all) {
    const set = id.charCodeAt(0);
    if (set === sets.affinityEndpoints) continue;
    const name = setLayouts[set]?.name ?? '';
    if (set === sets.vipEndpoints || set === sets.nodeportEndpoints) lines.push(`${name} ${(readMark(id, 1) & marks.choiceLocal) === 0 ? 'cluster' : 'local'} ${hex(id.slice(5))} ${hex(data)}`);
    else if (set === sets.vipPicks || set === sets.nodeportPicks) {
      const mark = readMark(data, 0);
      const isLocal = (readMark(id, 1) & marks.choiceLocal) !== 0;
      lines.push(`${name} ${isLocal ? 'local' : 'cluster'} ${hex(id.slice(5))} ${hex(all.get(elementId(sets.affinityEndpoints, markPart((mark & ~marks.ours & ~marks.affinityLocal) | (isLocal ? marks.affinityLocal : 0)))) ?? 'missing')}`);
    } else if (set === sets.vipPools || set === sets.nodeportPools) lines.push(`${name} ${hex(id.slice(1))} ${(poolMembers.get((readMark(data, 0) & marks.poolMask) >>> marks.poolShift) ?? []).sort().join(',')}`);
    else lines.push(`${name} ${hex(id.slice(1))} ${hex(data)}`);
  }
  return lines.sort();
}
const hex = (text: string): string => Buffer.from(text, 'latin1').toString('hex');

function apply(model: Model, steps: readonly Step[]): string[] {
  return steps.map((item) => {
    if ('put' in item) { model.specs.set(`ns/s${item.put.name}`, item.put); return `ns/s${item.put.name}`; }
    model.specs.delete(`ns/s${item.drop}`);
    return `ns/s${item.drop}`;
  });
}

describe('plan and diff', () => {
  test('from any state to any state, in any batches, the kernel ends with exactly what a fresh start would write', async () => {
    await fc.assert(fc.asyncProperty(fc.array(fc.array(step, { minLength: 1, maxLength: 5 }), { maxLength: 12 }), async (batches) => {
      const model = new Model();
      for (const batch of batches) await model.sync(apply(model, batch));
      const fresh = new Model();
      for (const [key, spec] of model.specs) fresh.specs.set(key, spec);
      await fresh.sync([...fresh.specs.keys()].reverse());
      expect(meaningOf(model.kernel)).toEqual(meaningOf(fresh.kernel));
      expect([...model.kernel].sort()).toEqual([...model.engine.mirror.entries()].sort());
    }), { numRuns: 300 });
  });

  test('a full sync over an adopted table writes nothing when all is right, and repairs what is not', async () => {
    await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 12 }), fc.array(fc.nat(200), { maxLength: 5 }), async (steps, damage) => {
      const model = new Model();
      await model.sync(apply(model, steps));
      const restarted = new Model(model.kernel);
      for (const [key, spec] of model.specs) restarted.specs.set(key, spec);
      expect(await restarted.sync([...restarted.specs.keys()], true)).toBe(0);
      expect([...restarted.kernel].sort()).toEqual([...model.kernel].sort());
      const ids = [...model.kernel.keys()].filter((id) => id.charCodeAt(0) < sets.vipPools);
      const damaged = new Map(model.kernel);
      for (const index of damage) damaged.delete(ids[index % Math.max(1, ids.length)] ?? '');
      const repaired = new Model(damaged);
      for (const [key, spec] of model.specs) repaired.specs.set(key, spec);
      await repaired.sync([...repaired.specs.keys()], true);
      expect(meaningOf(repaired.kernel)).toEqual(meaningOf(model.kernel));
    }), { numRuns: 100 });
  });

  test('nothing left once every Service is gone', async () => {
    await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 10 }), async (steps) => {
      const model = new Model();
      await model.sync(apply(model, steps));
      const keys = [...model.specs.keys()];
      model.specs.clear();
      await model.sync(keys);
      expect(model.kernel.size).toBe(0);
    }), { numRuns: 100 });
  });

  test('a stage that was not committed leaves no trace', () => {
    const mirror = new Mirror();
    mirror.stage([{ key: 'a', elements: new Map([[elementId(0, 'key'), 'data']]) }], false);
    expect(mirror.size).toBe(0);
    expect(mirror.stage([{ key: 'a', elements: new Map([[elementId(0, 'key'), 'other']]) }], false).operationCount).toBe(1);
  });

  test('replacing one of a thousand endpoints changes one element per address', () => {
    const endpoints = (numbers: number[]): Wanted => {
      const cluster = numbers.map((number) => endpoint(`10.1.${number >> 8}.${number & 255}`));
      const port = { key: 'k', namespace: 'ns', name: 's', portName: '', family: 'IPv4' as const, protocol: 'TCP' as const, port: 80, nodePort: 0, appProtocol: undefined, clusterIP: '10.96.0.1', externalIPs: [], loadBalancerIPs: [], sourceRanges: [], isInternalLocal: false, isExternalLocal: false, affinityTimeoutSeconds: 0, cluster, local: [], hasAny: true, serving: [] };
      return { key: 'ns/s', elements: planElements([port], { family: 'IPv4', nodeName: 'n1', nodeIPs: [], previous: (id) => mirror.data(id), own: undefined, owns: () => true, poolOf: () => 0, timeoutClass: () => 1 }).elements };
    };
    const mirror = new Mirror();
    const numbers = Array.from({ length: 1000 }, (_unused, index) => index + 1);
    mirror.stage([endpoints(numbers)], false);
    mirror.commit();
    const stage = mirror.stage([endpoints([...numbers.slice(0, 500), 5000, ...numbers.slice(501)])], false);
    const names = stage.groups.flatMap((group) => [...group.deletes, ...group.adds]).map((operation) => setLayouts[operation.set]?.name);
    expect(names.filter((name) => name === 'vip-endpoints')).toHaveLength(2);
    expect(stage.operationCount).toBeLessThanOrEqual(4);
  });

  test('kept indexes: every survivor stays, the rest fills the holes', () => {
    fc.assert(fc.property(fc.uniqueArray(fc.string({ minLength: 1 }), { maxLength: 20 }), fc.uniqueArray(fc.string({ minLength: 1 }), { maxLength: 20 }), (before, after) => {
      const order = keepIndexes(after, (index) => before[index]);
      expect([...order].sort()).toEqual([...after].sort());
      for (const [index, value] of before.entries()) if (index < after.length && after.includes(value)) expect(order[index]).toBe(value);
    }));
  });

  test('tiers hold every count with at most an eighth to spare', () => {
    for (let count = 1; count <= limits.endpointsMax; count++) {
      const tier = tierOf(count);
      const modulus = tiers[tier] ?? 0;
      expect(modulus >= count && (tiers[tier - 1] ?? 0) < count && (count <= 16 || modulus <= count * 1.125)).toBe(true);
    }
  });
});
