// PROXY protocol v1 and v2 in front of a connection (haproxy.org proxy-protocol.txt): who the client behind a load
// balancer is. Only on listeners where it is switched on, and then required (rule 100). Called by ingress/worker.ts.

import { canonicalIP, formatIP } from '../../../api/address.ts';

const signature = Buffer.from('0d0a0d0a000d0a515549540a', 'hex');

/** `ip` undefined: the balancer speaks for itself (LOCAL, UNKNOWN). */
export interface ProxyHeader { readonly length: number; readonly ip: string | undefined; readonly destinationPort: number | undefined }

/** Reads the header at the start of `bytes`: 'more' when it is not whole, 'bad' when there is none. */
export function readProxyHeader(bytes: Buffer): ProxyHeader | 'more' | 'bad' {
  if (bytes[0] === 0x50) return readText(bytes);
  const length = Math.min(bytes.length, signature.length);
  if (!bytes.subarray(0, length).equals(signature.subarray(0, length))) return 'bad';
  return bytes.length < 16 ? 'more' : readBinary(bytes);
}

function readText(bytes: Buffer): ProxyHeader | 'more' | 'bad' {
  const end = bytes.subarray(0, 108).indexOf('\r\n');
  if (end < 0) return bytes.length >= 108 || !'PROXY '.startsWith(bytes.toString('latin1', 0, Math.min(6, bytes.length))) ? 'bad' : 'more';
  const match = /^PROXY (?:UNKNOWN(?: .*)?|(TCP4|TCP6) (\S+) (\S+) (\d{1,5}) (\d{1,5}))$/.exec(bytes.toString('latin1', 0, end));
  if (match === null) return 'bad';
  if (match[1] === undefined) return { length: end + 2, ip: undefined, destinationPort: undefined };
  const ip = canonicalIP(match[2]!);
  if (ip === undefined || canonicalIP(match[3]!) === undefined || ip.includes(':') !== (match[1] === 'TCP6') || Number(match[4]) > 65_535 || Number(match[5]) > 65_535) return 'bad';
  return { length: end + 2, ip, destinationPort: Number(match[5]) };
}

function readBinary(bytes: Buffer): ProxyHeader | 'more' | 'bad' {
  const command = bytes[12]!;
  const family = bytes[13]!;
  const length = 16 + bytes.readUInt16BE(14);
  if (command !== 0x20 && command !== 0x21) return 'bad';
  if (length > 4_096) return 'bad';
  if (bytes.length < length) return 'more';
  if (command === 0x20) return { length, ip: undefined, destinationPort: undefined };
  const size = family >> 4 === 1 ? 4 : family >> 4 === 2 ? 16 : 0;
  if (size === 0) return { length, ip: undefined, destinationPort: undefined };
  if (length < 16 + size * 2 + 4) return 'bad';
  return { length, ip: canonicalIP(formatIP(bytes.subarray(16, 16 + size))), destinationPort: bytes.readUInt16BE(16 + size * 2 + 2) };
}
