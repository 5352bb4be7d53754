// Just enough DER to write an X.509 v3 certificate signed with ECDSA P-256: a fresh control plane needs four of them
// before it can listen, and writing them here takes about 2 ms where loading an X.509 library takes over 100 ms.
// Reading foreign requests (CSR) is left to that library, in ./certificates.ts.
// Source: ITU-T X.690 (DER), RFC 5280 (certificate fields), RFC 5758 (ecdsa-with-SHA256).

import { createHash, randomBytes, sign, type KeyObject } from 'node:crypto';

export interface CertificateInput {
  subject: { commonName: string; organizations?: readonly string[] };
  issuer: { commonName: string; organizations?: readonly string[] };
  publicKey: KeyObject;
  /** Key of the issuer; EC P-256. */
  signingKey: KeyObject;
  issuerPublicKey: KeyObject;
  notBeforeMs: number; notAfterMs: number;
  isAuthority?: boolean;
  usages?: readonly ('serverAuth' | 'clientAuth')[];
  dnsNames?: readonly string[];
  /** 4 or 16 octets each. */
  addresses?: readonly Uint8Array[];
}

const oids = {
  ecdsaSha256: '1.2.840.10045.4.3.2', commonName: '2.5.4.3', organization: '2.5.4.10', basicConstraints: '2.5.29.19', keyUsage: '2.5.29.15',
  extKeyUsage: '2.5.29.37', subjectAltName: '2.5.29.17', subjectKeyId: '2.5.29.14', authorityKeyId: '2.5.29.35', serverAuth: '1.3.6.1.5.5.7.3.1', clientAuth: '1.3.6.1.5.5.7.3.2',
};

/** A signed certificate as PEM. */
export function writeCertificate(input: CertificateInput): string {
  const algorithm = sequence(oid(oids.ecdsaSha256));
  const spki = input.publicKey.export({ type: 'spki', format: 'der' });
  const body = sequence(
    tagged(0xa0, integer(Buffer.from([2]))), integer(serial()), algorithm, distinguishedName(input.issuer),
    sequence(time(input.notBeforeMs), time(input.notAfterMs)), distinguishedName(input.subject), spki, tagged(0xa3, sequence(...extensions(input, spki))),
  );
  const der = sequence(body, algorithm, bitString(sign('sha256', body, input.signingKey)));
  const lines = der.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}

function extensions(input: CertificateInput, spki: Buffer): Buffer[] {
  const isAuthority = input.isAuthority === true;
  const list = [
    extension(oids.basicConstraints, isAuthority ? sequence(boolean(true)) : sequence(), true),
    // keyCertSign + cRLSign + digitalSignature for an authority, digitalSignature for everybody else.
    extension(oids.keyUsage, isAuthority ? Buffer.from([3, 2, 1, 0x86]) : Buffer.from([3, 2, 7, 0x80]), true),
    extension(oids.subjectKeyId, octets(keyId(spki))),
    extension(oids.authorityKeyId, sequence(tagged(0x80, keyId(input.issuerPublicKey.export({ type: 'spki', format: 'der' }))))),
  ];
  if (input.usages !== undefined) list.push(extension(oids.extKeyUsage, sequence(...input.usages.map((usage) => oid(oids[usage])))));
  const names = [...(input.dnsNames ?? []).map((name) => tagged(0x82, Buffer.from(name, 'ascii'))), ...(input.addresses ?? []).map((address) => tagged(0x87, Buffer.from(address)))];
  if (names.length > 0) list.push(extension(oids.subjectAltName, sequence(...names)));
  return list;
}

function serial(): Buffer {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return bytes;
}

function keyId(spki: Buffer): Buffer { return createHash('sha1').update(spki).digest(); }

function distinguishedName(name: { commonName: string; organizations?: readonly string[] }): Buffer {
  const part = (type: string, value: string): Buffer => tagged(0x31, sequence(oid(type), tagged(0x0c, Buffer.from(value, 'utf8'))));
  return sequence(...(name.organizations ?? []).map((organization) => part(oids.organization, organization)), part(oids.commonName, name.commonName));
}

function extension(type: string, value: Buffer, isCritical = false): Buffer {
  return sequence(oid(type), ...(isCritical ? [boolean(true)] : []), octets(value));
}

/** UTCTime to 2049, GeneralizedTime after (RFC 5280 §4.1.2.5). */
function time(ms: number): Buffer {
  const text = new Date(ms).toISOString().replace(/[-:T]|\.\d+/g, '');
  return Number(text.slice(0, 4)) < 2050 ? tagged(0x17, Buffer.from(text.slice(2))) : tagged(0x18, Buffer.from(text));
}

function tagged(tag: number, content: Buffer): Buffer {
  const { length } = content;
  const header = length < 128 ? [tag, length] : length < 256 ? [tag, 0x81, length] : [tag, 0x82, length >> 8, length & 255];
  return Buffer.concat([Buffer.from(header), content]);
}
function sequence(...parts: Buffer[]): Buffer { return tagged(0x30, Buffer.concat(parts)); }
function octets(content: Buffer): Buffer { return tagged(0x04, content); }
function bitString(content: Buffer): Buffer { return tagged(0x03, Buffer.concat([Buffer.from([0]), content])); }
function boolean(value: boolean): Buffer { return Buffer.from([1, 1, value ? 0xff : 0]); }
function integer(bytes: Buffer): Buffer { return tagged(0x02, bytes); }

function oid(text: string): Buffer {
  const [first = 0, second = 0, ...rest] = text.split('.').map(Number);
  const bytes = [first * 40 + second];
  for (const part of rest) {
    const groups = [part & 127];
    for (let value = part >>> 7; value > 0; value >>>= 7) groups.unshift((value & 127) | 128);
    bytes.push(...groups);
  }
  return tagged(0x06, Buffer.from(bytes));
}
