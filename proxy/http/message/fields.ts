// Which header fields the engine knows by name, and the byte classes of RFC 9110/9112 that the strict parsers use.
// Called by request-head.ts and response-head.ts for each field line; unknown fields cost one length check.
// Names are compared with `_` read as `-`, so that look-alikes such as Transfer_Encoding are found and can be dropped.

declare global {
  // Present in every Node release, only missing in @types/node: one call less than toString('latin1').
  interface Buffer { latin1Slice(start?: number, end?: number): string; latin1Write(text: string, offset?: number): number }
}

/** Field numbers. Zero means: not one that the engine cares about. */
export const field = Object.freeze({
  other: 0, host: 1, connection: 2, contentLength: 3, transferEncoding: 4, expect: 5, upgrade: 6, te: 7, trailer: 8,
  /** Hop-by-hop fields that are dropped without being read. */
  hopByHop: 9,
  forwardedFor: 10, forwardedProto: 11, forwardedHost: 12, forwardedPort: 13, forwarded: 14, realIP: 15, requestID: 16,
  /** Other fields that only a trusted proxy may set: dropped or passed, never read. */
  forwardedOther: 17,
  via: 18, date: 19, keepAlive: 20, maxForwards: 21, authorization: 22, setCookie: 23, location: 24,
});

/** Added to the number when the name had a `_` where the real one has `-`. */
export const lookAlike = 64;

const requestNames: readonly (readonly [string, number])[] = [
  ['host', field.host], ['connection', field.connection], ['content-length', field.contentLength],
  ['transfer-encoding', field.transferEncoding], ['expect', field.expect], ['upgrade', field.upgrade], ['te', field.te],
  ['trailer', field.trailer], ['keep-alive', field.hopByHop], ['proxy-connection', field.hopByHop],
  ['proxy-authorization', field.hopByHop], ['http2-settings', field.hopByHop],
  ['x-forwarded-for', field.forwardedFor], ['x-forwarded-proto', field.forwardedProto], ['x-forwarded-host', field.forwardedHost],
  ['x-forwarded-port', field.forwardedPort], ['forwarded', field.forwarded], ['x-real-ip', field.realIP],
  ['x-request-id', field.requestID], ['x-forwarded-scheme', field.forwardedOther], ['x-scheme', field.forwardedOther],
  ['x-forwarded-ssl', field.forwardedOther], ['x-forwarded-prefix', field.forwardedOther], ['x-original-forwarded-for', field.forwardedOther],
  ['x-forwarded-server', field.forwardedOther], ['x-client-ip', field.forwardedOther], ['x-original-url', field.forwardedOther],
  ['x-rewrite-url', field.forwardedOther], ['via', field.via], ['max-forwards', field.maxForwards],
];

const responseNames: readonly (readonly [string, number])[] = [
  ['connection', field.connection], ['content-length', field.contentLength], ['transfer-encoding', field.transferEncoding],
  ['keep-alive', field.keepAlive], ['proxy-connection', field.hopByHop], ['proxy-authenticate', field.hopByHop],
  ['proxy-authentication-info', field.hopByHop], ['te', field.hopByHop], ['trailer', field.trailer],
  ['upgrade', field.upgrade], ['date', field.date], ['http2-settings', field.hopByHop], ['alt-svc', field.hopByHop],
];

interface KnownName { readonly bytes: Uint8Array; readonly code: number }
type NameTable = readonly (readonly KnownName[])[];

function nameTable(names: readonly (readonly [string, number])[]): NameTable {
  const table: KnownName[][] = Array.from({ length: 40 }, () => []);
  for (const [name, code] of names) table[name.length]!.push({ bytes: Buffer.from(name, 'latin1'), code });
  return table;
}

export const requestFieldNames: NameTable = nameTable(requestNames);
export const responseFieldNames: NameTable = nameTable(responseNames);

/** Finds the number of the field whose name is `bytes[start, end)`; the name must consist of token bytes. No allocation. */
export function classifyField(table: NameTable, bytes: Uint8Array, start: number, end: number): number {
  const length = end - start;
  const known = length < 40 ? table[length]! : undefined;
  if (known === undefined) return 0;
  const first = bytes[start]! | 32;
  for (let index = 0; index < known.length; index++) {
    const name = known[index]!;
    if (name.bytes[0] !== first) continue;
    const result = compareName(name.bytes, bytes, start, length);
    if (result >= 0) return name.code + result;
  }
  return 0;
}

function compareName(name: Uint8Array, bytes: Uint8Array, start: number, length: number): number {
  let like = 0;
  for (let index = 1; index < length; index++) {
    const byte = bytes[start + index]!;
    const want = name[index]!;
    if (byte === want || (byte | 32) === want && byte >= 65) continue;
    if (want === 45 && byte === 95) { like = lookAlike; continue; }
    return -1;
  }
  return like;
}

function byteTable(isMember: (byte: number) => boolean): Uint8Array {
  const table = new Uint8Array(256);
  for (let byte = 0; byte < 256; byte++) table[byte] = isMember(byte) ? 1 : 0;
  return table;
}

const isAlphanumeric = (byte: number): boolean => (byte >= 48 && byte <= 57) || (byte >= 65 && byte <= 90) || (byte >= 97 && byte <= 122);

/** tchar of RFC 9110 §5.6.2. */
export const tokenBytes: Uint8Array = byteTable((byte) => isAlphanumeric(byte) || "!#$%&'*+-.^_`|~".includes(String.fromCharCode(byte)));
/** field-vchar, SP, HTAB and obs-text: RFC 9110 §5.5. Neither CR, LF, NUL nor any other control byte. */
export const valueBytes: Uint8Array = byteTable((byte) => byte === 9 || (byte >= 32 && byte !== 127));
/** Visible ASCII: what may stand in a request target. */
export const targetBytes: Uint8Array = byteTable((byte) => byte > 32 && byte < 127);
/** Bytes of a host name that need no closer look: lower case, digits, dot, hyphen. */
export const plainHostBytes: Uint8Array = byteTable((byte) => (byte >= 97 && byte <= 122) || (byte >= 48 && byte <= 57) || byte === 45 || byte === 46);

/** Whether `text` consists of token characters and is not empty. */
export function isToken(text: string): boolean {
  for (let index = 0; index < text.length; index++) if (tokenBytes[text.charCodeAt(index)] !== 1) return false;
  return text.length > 0;
}
