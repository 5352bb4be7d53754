// Quantities, times, base64 and formats in their canonical forms.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { hasFormat } from '../../../control/schema/custom/formats.ts';
import { base64ByteLength, canonicalQuantity, canonicalTime, isBase64, quantityNanos } from '../../../control/schema/body/scalars.ts';

test.each([
  ['0.5', '500m'], ['1.5', '1500m'], ['1000m', '1'], ['1024Mi', '1Gi'], ['1Ki', '1Ki'], ['1023', '1023'], ['512Ki', '512Ki'], ['1e3', '1e3'], ['1E3', '1e3'], ['1.5e3', '1500'],
  ['1E', '1E'], ['0', '0'], ['0Mi', '0'], ['.5', '500m'], ['5.', '5'], ['+1', '1'], ['-1.5', '-1500m'], ['100k', '100k'], ['1000k', '1M'], ['0.1n', '1n'], ['1.5Gi', '1536Mi'], ['0.5Ki', '512'],
])('quantity %s is %s', (text, canonical) => {
  // An exponent form that is not a multiple of three falls back to the next smaller one.
  expect(canonicalQuantity(text)).toBe(text === '1.5e3' ? '1500' : canonical);
});

test.each(['', 'x', '1.2.3', '1 Gi', '1gi', '--1', '1e', 'e3', '1mi', 'NaN', 'Infinity', '1e99999'])('%j is no quantity', (text) => { expect(canonicalQuantity(text)).toBeUndefined(); });

test('a canonical quantity is a fixed point and keeps the value', () => {
  fc.assert(fc.property(fc.integer({ min: -1_000_000, max: 1_000_000 }), fc.constantFrom('', 'm', 'k', 'M', 'Ki', 'Mi', 'Gi', 'e3', 'e-3'), (number, suffix) => {
    const canonical = canonicalQuantity(`${number}${suffix}`) ?? 'none';
    expect(canonicalQuantity(canonical)).toBe(canonical);
    expect(quantityNanos(canonical)).toBe(quantityNanos(`${number}${suffix}`));
  }));
});

test.each([
  ['2026-02-28T23:59:59Z', '2026-02-28T23:59:59Z'], ['2026-01-01T00:00:00.123456789+02:00', '2025-12-31T22:00:00Z'],
])('time %s', (text, utc) => { expect(canonicalTime(text, 0)).toBe(utc); });
test('micro time keeps six digits', () => { expect(canonicalTime('2026-01-01T00:00:00.5Z', 6)).toBe('2026-01-01T00:00:00.500000Z'); });
test.each(['2026-02-30T00:00:00Z', '2026-01-01', '2026-01-01T00:00:00', '2026-13-01T00:00:00Z', 'x', '2026-01-01 00:00:00Z'])('%s is no time', (text) => { expect(canonicalTime(text, 0)).toBeUndefined(); });

test('base64 is what Buffer writes, and its length is counted without decoding', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 50 }), (bytes) => {
    const text = Buffer.from(bytes).toString('base64');
    expect(isBase64(text)).toBe(true);
    expect(base64ByteLength(text)).toBe(bytes.length);
  }));
  for (const text of ['a', 'ab', 'abc', 'a-b_', '====', 'YQ=']) expect(isBase64(text), text).toBe(false);
});

test.each([['ipv4', '10.0.0.1', '10.0.0.256'], ['ipv6', 'fd00::1', '10.0.0.1'], ['cidr', '10.0.0.0/8', '10.0.0.0'], ['date', '2026-01-01', '2026-1-1'], ['duration', '1h30m', '1x'], ['uuid', '123e4567-e89b-12d3-a456-426614174000', 'x'], ['hostname', 'a.b', '-a'], ['uri', 'http://a/b', 'a b'], ['email', 'a@b', 'a'], ['date-time', '2026-01-01T00:00:00Z', '2026-01-01']])('format %s takes %s and not %s', (format, good, bad) => {
  expect(hasFormat(good, format)).toBe(true);
  expect(hasFormat(bad, format)).toBe(false);
});
test('an unknown format takes everything', () => { expect(hasFormat('x', 'made-up')).toBe(true); });
