// The cache of outside names and the forwarder's use of it, in-process on a clock that the test can move.

import { afterEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../api/clock.ts';
import { silentLog } from '../../api/log.ts';
import { AnswerCache } from '../../dns/forward/cache.ts';
import { Forwarder, type ForwardResult } from '../../dns/forward/forwarder.ts';
import { nameKey } from '../../dns/wire/names.ts';
import type { UpstreamAnswer } from '../../dns/wire/response.ts';
import { FakeUpstream } from './fake-upstream.ts';

const answer = (ttlSeconds: number, isNegative = false, size = 100): UpstreamAnswer => ({
  template: { rcode: 0, isAuthoritative: false, body: Buffer.alloc(size), ends: new Uint32Array(), answerCount: 0, authorityCount: 0, additionalCount: 0, rotateSize: 0, soaStart: -1, error: undefined },
  isTruncated: false, ttlSeconds, isNegative, addresses: [],
});

describe('bounds', () => {
  test('entries: the one unused longest goes; denials never push out answers', () => {
    const cache = new AnswerCache({ positiveEntriesMax: 3, negativeEntriesMax: 3 });
    for (const key of ['a', 'b', 'c']) cache.set(key, answer(60), 0);
    cache.get('a', 1);
    cache.set('d', answer(60), 2);
    expect(['a', 'b', 'c', 'd'].map((key) => cache.get(key, 3) !== undefined)).toEqual([true, false, true, true]);
    for (let index = 0; index < 100; index++) cache.set(`x${index}`, answer(60, true), 4);
    expect([cache.positiveCount, cache.negativeCount]).toEqual([3, 3]);
    expect(cache.get('a', 5)).toBeDefined();
  });

  test('octets: large answers are evicted until the sum fits', () => {
    const cache = new AnswerCache({ bytesMax: 10_000 });
    for (let index = 0; index < 50; index++) cache.set(`k${index}`, answer(60, false, 1_000), 0);
    expect(cache.bytes).toBeLessThanOrEqual(10_000);
    expect(cache.get('k49', 1)).toBeDefined();
    cache.clear();
    expect(cache.bytes).toBe(0);
  });

  test('TTL 0 is not kept; an entry leaves when even stale it is too old; octets are given back', () => {
    const cache = new AnswerCache({ staleMsMax: 1_000 });
    cache.set('zero', answer(0), 0);
    expect(cache.get('zero', 0)).toBeUndefined();
    cache.set('a', answer(1), 0);
    expect(cache.get('a', 1_999)).toBeDefined();
    expect(cache.get('a', 2_001)).toBeUndefined();
    expect(cache.bytes).toBe(0);
  });

  test('an answer that turns from positive to negative moves over', () => {
    const cache = new AnswerCache();
    cache.set('a', answer(60), 0);
    cache.set('a', answer(60, true), 0);
    expect([cache.positiveCount, cache.negativeCount]).toEqual([0, 1]);
  });
});

describe('forwarder', () => {
  const open: { stop(): unknown }[] = [];
  afterEach(async () => { for (const item of open.splice(0)) await item.stop(); });

  async function make(ttl: number): Promise<{ upstream: FakeUpstream; forwarder: Forwarder; skip(ms: number): void; ask(): Promise<ForwardResult> }> {
    const upstream = await new FakeUpstream({ records: [{ name: 'a.test.', type: 'A', data: '192.0.2.1', ttl }] }).start();
    let skippedMs = 0;
    const clock = { ...systemClock, monotonicMs: () => performance.now() + skippedMs };
    const forwarder = new Forwarder({ upstreams: [{ address: '127.0.0.1', port: upstream.port }], stubDomains: new Map(), isStaleServed: true, isAddressBlocked: undefined, clock, log: silentLog });
    open.push(forwarder, upstream);
    const question = { key: nameKey('a.test') ?? '', qtype: 1, isDnssecOk: false, isCheckingDisabled: false };
    return { upstream, forwarder, skip: (ms) => { skippedMs += ms; }, ask: () => new Promise((resolve) => { const now = forwarder.resolve(question, resolve); if (now !== undefined) resolve(now); }) };
  }

  test('a popular answer is renewed in the last tenth of its life, while the old one is served at once', async () => {
    const { upstream, forwarder, skip, ask } = await make(100);
    await ask();
    await ask();
    skip(85_000);
    await ask();
    expect([upstream.asked.length, forwarder.prefetchCount]).toEqual([1, 0]);
    skip(8_000);
    expect((await ask()).ageSeconds).toBe(93);
    await ask();
    const deadline = performance.now() + 2_000;
    while (upstream.asked.length < 2 || forwarder.flightCount > 0) {
      expect(performance.now()).toBeLessThan(deadline);
      await new Promise<void>((resolve) => { systemClock.after(5, resolve, true); });
    }
    expect([upstream.asked.length, forwarder.prefetchCount, (await ask()).ageSeconds]).toEqual([2, 1, 0]);
  });

  test('an answer asked for once is not renewed', async () => {
    const { forwarder, skip, ask } = await make(100);
    await ask();
    skip(95_000);
    await ask();
    expect(forwarder.prefetchCount).toBe(0);
  });

  test('upstream silent: a stale answer after 1.8 s, not after the whole timeout', async () => {
    const { upstream, skip, ask } = await make(10);
    await ask();
    skip(20_000);
    upstream.isSilent = true;
    const started = performance.now();
    const result = await ask();
    expect(performance.now() - started).toBeLessThan(2_300);
    expect([result.fixedTtlSeconds, result.error?.code]).toEqual([30, 3]);
  });
});
