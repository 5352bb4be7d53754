// The choice of an endpoint: power of two choices, ejection, panic, and the hash choice of clients with affinity.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { balanceLimits, createEndpoint, hashText, noteFailure, noteSuccess, pickByHash, pickEndpoint, type BalancedEndpoint } from '../../proxy/balance.ts';

const make = (count: number): BalancedEndpoint[] => Array.from({ length: count }, (_, index) => createEndpoint(`10.0.0.${index + 1}`, 80));
/** A seeded generator of numbers in [0, 1). */
function seeded(seed: number): () => number {
  let state = seed;
  return () => { state = (Math.imul(state, 1664525) + 1013904223) >>> 0; return state / 2 ** 32; };
}

test('with equal load every endpoint gets its share, within 5 sigma of uniform', () => {
  const endpoints = make(5);
  const counts = new Map<BalancedEndpoint, number>();
  const random = seeded(7);
  for (let index = 0; index < 10_000; index++) {
    const picked = pickEndpoint(endpoints, undefined, 0, random) as BalancedEndpoint;
    counts.set(picked, (counts.get(picked) ?? 0) + 1);
  }
  for (const endpoint of endpoints) expect(Math.abs((counts.get(endpoint) ?? 0) - 2_000)).toBeLessThan(200);
});

test('the endpoint with more open work, or slower answers, gets less', () => {
  const [busy, free] = make(2) as [BalancedEndpoint, BalancedEndpoint];
  busy.outstanding = 5;
  expect(pickEndpoint([busy, free], undefined, 0, Math.random)).toBe(free);
  busy.outstanding = 0;
  noteSuccess(busy, 500);
  expect(pickEndpoint([busy, free], undefined, 0, Math.random)).toBe(free);
});

test('differences below the latency floor do not count', () => {
  const [a, b] = make(2) as [BalancedEndpoint, BalancedEndpoint];
  noteSuccess(a, 0.1);
  noteSuccess(b, 1.5);
  const random = seeded(3);
  expect(new Set(Array.from({ length: 50 }, () => pickEndpoint([a, b], undefined, 0, random))).size).toBe(2);
});

test('an endpoint that failed is avoided, for twice as long after each failure, and taken back after a success', () => {
  const [bad, good] = make(2) as [BalancedEndpoint, BalancedEndpoint];
  noteFailure(bad, 1_000);
  expect(bad.ejectedUntilMs).toBe(2_000);
  for (let index = 0; index < 20; index++) expect(pickEndpoint([bad, good], undefined, 1_500, Math.random)).toBe(good);
  noteFailure(bad, 2_000);
  expect(bad.ejectedUntilMs).toBe(4_000);
  for (let index = 0; index < 20; index++) noteFailure(bad, 5_000);
  expect(bad.ejectedUntilMs).toBe(5_000 + balanceLimits.ejectMsMax);
  noteSuccess(bad, 1);
  expect([bad.ejectedUntilMs, bad.failureCount]).toEqual([0, 0]);
});

test('when most endpoints are ejected, ejection is ignored (panic); a single endpoint is always used', () => {
  const endpoints = make(10);
  for (const endpoint of endpoints.slice(0, 8)) noteFailure(endpoint, 0);
  const picked = new Set(Array.from({ length: 200 }, () => pickEndpoint(endpoints, undefined, 100, Math.random)));
  expect([...picked].some((endpoint) => (endpoint?.failureCount ?? 0) > 0)).toBe(true);
  const [only] = make(1) as [BalancedEndpoint];
  noteFailure(only, 0);
  expect(pickEndpoint([only], undefined, 100, Math.random)).toBe(only);
});

test('what was tried is not tried again, and nothing is left when all were', () => {
  fc.assert(fc.property(fc.integer({ min: 0, max: 8 }), fc.integer(), fc.array(fc.boolean(), { maxLength: 8 }), (count, seed, ejected) => {
    const endpoints = make(count);
    endpoints.forEach((endpoint, index) => { if (ejected[index] === true) noteFailure(endpoint, 0); });
    const random = seeded(seed);
    const tried: BalancedEndpoint[] = [];
    for (let step = 0; step < count; step++) {
      const picked = pickEndpoint(endpoints, tried.length === 0 ? undefined : tried, 10, random);
      expect(picked).toBeDefined();
      expect(tried).not.toContain(picked);
      tried.push(picked as BalancedEndpoint);
    }
    expect(pickEndpoint(endpoints, tried, 10, random)).toBeUndefined();
  }));
});

test('the hash choice is the same everywhere, spreads evenly, and removing an endpoint moves only its own clients', () => {
  const endpoints = make(5);
  const clients = Array.from({ length: 2_000 }, (_, index) => `192.0.2.${index & 255}:${index >> 8}`);
  const first = new Map(clients.map((client) => [client, pickByHash(endpoints, client, 0)]));
  const again = new Map(clients.map((client) => [client, pickByHash([...endpoints].reverse(), client, 0)]));
  expect(again).toEqual(first);
  for (const endpoint of endpoints) expect(Math.abs([...first.values()].filter((each) => each === endpoint).length - 400)).toBeLessThan(100);
  const left = endpoints.slice(1);
  for (const client of clients) if (first.get(client) !== endpoints[0]) expect(pickByHash(left, client, 0)).toBe(first.get(client));
});

test('hashes of short texts differ in all bits', () => {
  const seen = new Set(Array.from({ length: 10_000 }, (_, index) => hashText(`10.0.0.${index}`, 1)));
  expect(seen.size).toBeGreaterThan(9_990);
});
