// PROXY protocol headers, both versions, both directions, and hostile bytes.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseProxyHeader, proxyHeaderBytesMax, writeProxyHeader, type ProxyAddresses } from '../../proxy/proxy-protocol.ts';

const v4: ProxyAddresses = { sourceIP: '192.0.2.1', sourcePort: 40_000, destinationIP: '198.51.100.7', destinationPort: 80 };
const v6: ProxyAddresses = { sourceIP: '2001:db8::1', sourcePort: 1, destinationIP: '2001:db8::2', destinationPort: 65_535 };

describe.each([1, 2] as const)('version %i', (version) => {
  test.each([v4, v6])('what is written is read back: %o', (addresses) => {
    const header = writeProxyHeader(version, addresses);
    expect(parseProxyHeader(Buffer.concat([header, Buffer.from('GET /')]))).toEqual({ kind: 'done', length: header.length, addresses });
    for (let cut = 0; cut < header.length; cut++) expect(parseProxyHeader(header.subarray(0, cut))).toEqual({ kind: 'need' });
  });
  test('addresses of two families are not claimed', () => {
    const header = writeProxyHeader(version, { ...v4, destinationIP: '2001:db8::2' });
    expect(parseProxyHeader(header)).toEqual({ kind: 'done', length: header.length, addresses: undefined });
  });
});

test.each([
  'GET / HTTP/1.1\r\n', 'PROXY TCP4 192.0.2.1 198.51.100.7 1\r\n', 'PROXY TCP4 192.0.2.01 198.51.100.7 1 2\r\n', 'PROXY TCP4 192.0.2.1 198.51.100.7 1 65536\r\n',
  'PROXY TCP6 192.0.2.1 198.51.100.7 1 2\r\n', 'PROXY  TCP4 192.0.2.1 198.51.100.7 1 2\r\n', 'PROXY TCP4 192.0.2.1 198.51.100.7 01 2\r\n', 'PROXYTCP4\r\n', `PROXY UNKNOWN ${'x'.repeat(100)}\r\n`, `PROXY ${'x'.repeat(120)}`,
])('refused: %j', (text) => { expect(parseProxyHeader(Buffer.from(text))).toEqual({ kind: 'bad' }); });

test('UNKNOWN and LOCAL leave the connection its own addresses', () => {
  expect(parseProxyHeader(Buffer.from('PROXY UNKNOWN\r\n'))).toMatchObject({ kind: 'done', addresses: undefined });
  const local = Buffer.from('0d0a0d0a000d0a515549540a20000000', 'hex');
  expect(parseProxyHeader(local)).toEqual({ kind: 'done', length: 16, addresses: undefined });
});

test('version 2: wrong version, command, too short and too long address blocks are refused', () => {
  const header = writeProxyHeader(2, v4);
  const change = (index: number, value: number): Buffer => { const copy = Buffer.from(header); copy[index] = value; return copy; };
  expect(parseProxyHeader(change(12, 0x11)).kind).toBe('bad');
  expect(parseProxyHeader(change(12, 0x22)).kind).toBe('bad');
  expect(parseProxyHeader(change(15, 4)).kind).toBe('bad');
  expect(parseProxyHeader(change(14, 0xff)).kind).toBe('bad');
});

test('any bytes: an answer without a throw, and never more wanted than the limit', () => {
  const start = fc.constantFrom(Buffer.alloc(0), Buffer.from('PROXY '), Buffer.from('0d0a0d0a000d0a515549540a', 'hex'), Buffer.from('0d0a0d0a000d0a515549540a2111', 'hex'));
  fc.assert(fc.property(start, fc.uint8Array({ maxLength: 300 }), (prefix, rest) => {
    const result = parseProxyHeader(Buffer.concat([prefix, rest]));
    if (result.kind === 'done') expect(result.length).toBeLessThanOrEqual(prefix.length + rest.length);
  }), { numRuns: 2_000 });
  expect(parseProxyHeader(Buffer.concat([Buffer.from('0d0a0d0a000d0a515549540a', 'hex'), Buffer.alloc(proxyHeaderBytesMax, 0x21)])).kind).not.toBe('need');
});
