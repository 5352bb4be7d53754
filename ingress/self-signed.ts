// A self-signed certificate for connections without a certificate of their own (the default certificate): ECDSA P-256,
// one year, written as DER by hand since node:crypto makes keys and signatures but no certificates (RFC 5280 §4.1).

import { createSign, generateKeyPairSync, randomBytes } from 'node:crypto';

const der = (tag: number, ...parts: readonly Uint8Array[]): Buffer => {
  const body = Buffer.concat(parts);
  const length = body.length < 128 ? Buffer.from([body.length]) : body.length < 256 ? Buffer.from([0x81, body.length]) : Buffer.from([0x82, body.length >> 8, body.length & 255]);
  return Buffer.concat([Buffer.from([tag]), length, body]);
};
const sequence = (...parts: readonly Uint8Array[]): Buffer => der(0x30, ...parts);
const utf8 = (text: string): Buffer => der(0x0c, Buffer.from(text));
const time = (ms: number): Buffer => der(0x17, Buffer.from(`${new Date(ms).toISOString().replace(/[-:T]/g, '').slice(2, 14)}Z`));

const ecdsaSha256 = sequence(Buffer.from('06082a8648ce3d040302', 'hex'));
const commonNameId = Buffer.from('0603550403', 'hex');
const subjectAltNameId = Buffer.from('0603551d11', 'hex');
const dayMs = 86_400_000;

/** Makes certificate and key (PEM) for the given DNS names; valid from a day ago for `days`. */
export function makeSelfSigned(names: readonly string[], nowMs: number, days = 365): { certPem: string; keyPem: string } {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const serial = randomBytes(16);
  serial[0] = (serial[0]! & 0x7f) | 0x40;
  const name = sequence(der(0x31, sequence(commonNameId, utf8(names[0] ?? 'netloom'))));
  const altNames = sequence(subjectAltNameId, der(0x04, sequence(...names.map((item) => der(0x82, Buffer.from(item, 'latin1'))))));
  const body = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))), der(0x02, serial), ecdsaSha256, name,
    sequence(time(nowMs - dayMs), time(nowMs + days * dayMs)), name,
    publicKey.export({ type: 'spki', format: 'der' }), der(0xa3, sequence(altNames)),
  );
  const signature = createSign('sha256').update(body).sign(privateKey);
  const certificate = sequence(body, ecdsaSha256, der(0x03, Buffer.from([0]), signature));
  const lines = certificate.toString('base64').match(/.{1,64}/g) ?? [];
  return { certPem: `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`, keyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string };
}
