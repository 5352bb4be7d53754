// Numbers of the DNS protocol with their mnemonics: record types, response codes, flags, Extended DNS Error codes.
// Used by the codec, the zone, the forwarder, explain and metrics.
// Source: IANA DNS parameters registry; RFC 1035, 2136, 6891, 7873, 8914.

export const rrTypes = Object.freeze({
  A: 1, NS: 2, CNAME: 5, SOA: 6, NULL: 10, PTR: 12, HINFO: 13, MX: 15, TXT: 16, AAAA: 28, SRV: 33, NAPTR: 35, OPT: 41, DS: 43,
  DNSKEY: 48, SVCB: 64, HTTPS: 65, TKEY: 249, TSIG: 250, IXFR: 251, AXFR: 252, MAILB: 253, MAILA: 254, ANY: 255, CAA: 257,
} as const);

export const rcodes = Object.freeze({
  NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5, NOTAUTH: 9, BADVERS: 16, BADCOOKIE: 23,
} as const);

/** Bits of the second header word. */
export const flags = Object.freeze({ QR: 0x8000, AA: 0x0400, TC: 0x0200, RD: 0x0100, RA: 0x0080, AD: 0x0020, CD: 0x0010 } as const);

/** EDNS option codes. */
export const ednsOptions = Object.freeze({ nsid: 3, clientSubnet: 8, cookie: 10, keepalive: 11, padding: 12, extendedError: 15 } as const);

/** INFO-CODEs of RFC 8914 that this server sends. */
export const extendedErrors = Object.freeze({
  other: 0, staleAnswer: 3, notReady: 14, blocked: 15, prohibited: 18, staleNxdomain: 19, notSupported: 21, noReachableAuthority: 22, networkError: 23, invalidData: 24,
} as const);

export const classIN = 1;

/** UDP reply limit of this server whatever the client offers (DNS flag day 2020). */
export const udpPayloadBytesMax = 1232;

const typeNames = new Map<number, string>(Object.entries(rrTypes).map(([name, value]) => [value, name]));
const rcodeNames = new Map<number, string>(Object.entries(rcodes).map(([name, value]) => [value, name]));

/** Mnemonic, or TYPE123 (RFC 3597 §5). */
export function typeName(type: number): string { return typeNames.get(type) ?? `TYPE${type}`; }

export function rcodeName(rcode: number): string { return rcodeNames.get(rcode) ?? `RCODE${rcode}`; }

/** Number of a mnemonic or TYPE123, either case; undefined when unknown. */
export function parseType(text: string): number | undefined {
  const upper = text.toUpperCase();
  if (Object.hasOwn(rrTypes, upper)) return rrTypes[upper as keyof typeof rrTypes];
  const match = /^TYPE(\d{1,5})$/.exec(upper);
  const value = match === null ? Number.NaN : Number(match[1]);
  return value <= 0xffff ? value : undefined;
}
