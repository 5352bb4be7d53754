// PROXY protocol versions 1 and 2: reading the header in front of a connection (from listed peers only) and writing
// one towards an endpoint that asked for it. Source: haproxy.org proxy-protocol.txt, sections 2.1 and 2.2.

import { formatIPv4, parseIP } from '../api/address.ts';

export interface ProxyAddresses { readonly sourceIP: string; readonly sourcePort: number; readonly destinationIP: string; readonly destinationPort: number }

/**
 * `need`: more bytes are required. `done`: `length` header bytes; without addresses for LOCAL and UNKNOWN, where the
 * connection's own hold. `bad`: not a header, close the connection.
 */
export type ProxyHeader = { readonly kind: 'need' } | { readonly kind: 'bad' } | { readonly kind: 'done'; readonly length: number; readonly addresses: ProxyAddresses | undefined };

const signature = Buffer.from([0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]);
const textLengthMax = 107;
const binaryLengthMax = 2_048;
const need: ProxyHeader = Object.freeze({ kind: 'need' });
const bad: ProxyHeader = Object.freeze({ kind: 'bad' });

/** Bytes that a header can have at most; a reader never has to keep more. */
export const proxyHeaderBytesMax: number = 16 + binaryLengthMax;

export function parseProxyHeader(bytes: Buffer): ProxyHeader {
  if (bytes.length === 0) return need;
  if (bytes[0] === 0x50) return parseText(bytes);
  const common = Math.min(bytes.length, signature.length);
  if (bytes.compare(signature, 0, common, 0, common) !== 0) return bad;
  return bytes.length < 16 ? need : parseBinary(bytes);
}

function parseText(bytes: Buffer): ProxyHeader {
  const end = bytes.indexOf('\r\n');
  if (end < 0) {
    const isPrefix = bytes.length < 6 ? 'PROXY '.startsWith(bytes.toString('latin1')) : bytes.toString('latin1', 0, 6) === 'PROXY ';
    return isPrefix && bytes.length < textLengthMax ? need : bad;
  }
  if (end + 2 > textLengthMax) return bad;
  const parts = bytes.toString('latin1', 0, end).split(' ');
  if (parts[0] !== 'PROXY') return bad;
  if (parts[1] === 'UNKNOWN') return { kind: 'done', length: end + 2, addresses: undefined };
  const family = parts[1] === 'TCP4' ? 'IPv4' : parts[1] === 'TCP6' ? 'IPv6' : undefined;
  const source = parseIP(parts[2] ?? '');
  const destination = parseIP(parts[3] ?? '');
  const sourcePort = parsePort(parts[4]);
  const destinationPort = parsePort(parts[5]);
  if (parts.length !== 6 || family === undefined || source?.family !== family || destination?.family !== family || sourcePort === undefined || destinationPort === undefined) return bad;
  return { kind: 'done', length: end + 2, addresses: { sourceIP: parts[2] as string, sourcePort, destinationIP: parts[3] as string, destinationPort } };
}

function parsePort(text: string | undefined): number | undefined {
  if (text === undefined || !/^(0|[1-9]\d{0,4})$/.test(text)) return undefined;
  const port = Number(text);
  return port <= 65_535 ? port : undefined;
}

function parseBinary(bytes: Buffer): ProxyHeader {
  const version = (bytes[12] as number) >> 4;
  const command = (bytes[12] as number) & 15;
  const length = bytes.readUInt16BE(14);
  if (version !== 2 || command > 1 || length > binaryLengthMax) return bad;
  if (bytes.length < 16 + length) return need;
  const done = (addresses: ProxyAddresses | undefined): ProxyHeader => ({ kind: 'done', length: 16 + length, addresses });
  if (command === 0) return done(undefined);
  if (bytes[13] === 0x11) {
    if (length < 12) return bad;
    return done({ sourceIP: formatIPv4(bytes.readUInt32BE(16)), destinationIP: formatIPv4(bytes.readUInt32BE(20)), sourcePort: bytes.readUInt16BE(24), destinationPort: bytes.readUInt16BE(26) });
  }
  if (bytes[13] === 0x21) {
    if (length < 36) return bad;
    return done({ sourceIP: formatIPv6(bytes, 16), destinationIP: formatIPv6(bytes, 32), sourcePort: bytes.readUInt16BE(48), destinationPort: bytes.readUInt16BE(50) });
  }
  return done(undefined);
}

function formatIPv6(bytes: Buffer, offset: number): string {
  const groups: string[] = [];
  for (let index = 0; index < 16; index += 2) groups.push(bytes.readUInt16BE(offset + index).toString(16));
  return groups.join(':').replace(/(^|:)0(:0)+(:|$)/, '::');
}

/** The header to send in front of a connection. Addresses of two families, or not addresses, give UNKNOWN / LOCAL. */
export function writeProxyHeader(version: 1 | 2, addresses: ProxyAddresses): Buffer {
  const source = parseIP(addresses.sourceIP);
  const destination = parseIP(addresses.destinationIP);
  const isKnown = source !== undefined && destination !== undefined && source.family === destination.family;
  if (version === 1) {
    if (!isKnown) return Buffer.from('PROXY UNKNOWN\r\n');
    return Buffer.from(`PROXY ${source.family === 'IPv4' ? 'TCP4' : 'TCP6'} ${addresses.sourceIP} ${addresses.destinationIP} ${addresses.sourcePort} ${addresses.destinationPort}\r\n`);
  }
  if (!isKnown) return Buffer.concat([signature, Buffer.from([0x20, 0, 0, 0])]);
  const ports = Buffer.alloc(4);
  ports.writeUInt16BE(addresses.sourcePort, 0);
  ports.writeUInt16BE(addresses.destinationPort, 2);
  const isV4 = source.family === 'IPv4';
  return Buffer.concat([signature, Buffer.from([0x21, isV4 ? 0x11 : 0x21, 0, isV4 ? 12 : 36]), source.bytes, destination.bytes, ports]);
}
