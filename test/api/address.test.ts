// Addresses have one strict reading.

import fc from 'fast-check';
import { isIP } from 'node:net';
import { expect, test } from 'vitest';
import { canonicalIP, formatIP, formatIPv4, isLinkLocal, isLoopback, isMulticast, isUnspecified, parseCIDR, parseIP, parseIPv4 } from '../../api/address.ts';

test('IPv4 text round-trips', () => {
  fc.assert(fc.property(fc.ipV4(), (text) => { expect(formatIPv4(parseIPv4(text) ?? -1)).toBe(text); }));
});

test.each(['', '1', '1.2.3', '1.2.3.4.5', '01.2.3.4', '1.2.3.256', '1.2.3.', '.1.2.3', '1..2.3', ' 1.2.3.4', '1.2.3.4 ', '0x7f.0.0.1', '2130706433', '1.2.3.a', '１.2.3.4'])('%s is not an IPv4 address', (text) => {
  expect(parseIP(text)).toBeUndefined();
});

test('IPv6 text is read as node reads it and printed in RFC 5952 form', () => {
  fc.assert(fc.property(fc.ipV6(), (text) => {
    const address = parseIP(text);
    expect(address !== undefined).toBe(isIP(text) === 6);
    if (address === undefined) return;
    const canonical = formatIP(address.bytes);
    expect(canonical.startsWith('::ffff:') ? canonical : new URL(`http://[${text}]/`).hostname.slice(1, -1)).toBe(canonical);
    expect(parseIP(canonical)?.bytes).toEqual(address.bytes);
  }));
});

test.each([['2001:DB8:0:0:0:0:0:1', '2001:db8::1'], ['::', '::'], ['::1', '::1'], ['1:0:0:2:0:0:0:3', '1:0:0:2::3'], ['::ffff:10.0.0.1', '::ffff:10.0.0.1'], ['fe80::1%eth0', undefined], ['1::2::3', undefined], [':1', undefined], ['1:2:3:4:5:6:7:8:9', undefined], ['::ffff:010.0.0.1', undefined]])('%s is %s', (text, canonical) => {
  expect(canonicalIP(text)).toBe(canonical);
});

test('a CIDR contains exactly the addresses of its prefix', () => {
  fc.assert(fc.property(fc.ipV4(), fc.ipV4(), fc.integer({ min: 0, max: 32 }), (base, other, length) => {
    const mask = length === 0 ? 0 : (0xffffffff << (32 - length)) >>> 0;
    const inside = (((parseIPv4(base) ?? 0) & mask) >>> 0) === (((parseIPv4(other) ?? 0) & mask) >>> 0);
    expect(parseCIDR(`${base}/${length}`)?.contains(other)).toBe(inside);
  }));
  expect(parseCIDR('2001:db8::/33')?.contains('2001:db8:8000::1')).toBe(false);
  expect(parseCIDR('10.1.2.3/16')?.toString()).toBe('10.1.0.0/16');
});

test.each(['10.0.0.0', '10.0.0.0/33', '10.0.0.0/-1', '10.0.0.0/08', '10.0.0/8', '::/129', '10.0.0.0/8 '])('%s is not a CIDR', (text) => { expect(parseCIDR(text)).toBeUndefined(); });

test('special ranges are known in both families', () => {
  expect([isLoopback('127.9.9.9'), isLoopback('::1'), isLoopback('::ffff:127.0.0.1'), isLoopback('128.0.0.1')]).toEqual([true, true, true, false]);
  expect([isLinkLocal('169.254.1.1'), isLinkLocal('fe80::1'), isLinkLocal('10.0.0.1')]).toEqual([true, true, false]);
  expect([isMulticast('224.0.0.1'), isMulticast('ff02::1'), isUnspecified('0.0.0.0'), isUnspecified('::'), isUnspecified('::1')]).toEqual([true, true, true, true, false]);
});
