// The control plane's two certificate authorities and everything they sign: the serving certificate, the admin's client
// certificate, node credentials. One authority signs servers, another signs clients, so that a serving key can never be
// used to log in. Keys are EC P-256; files are 0600 in a 0700 folder and are reused on restart.
// Source: spec of Kubernetes client certificate authentication (CN = user, O = groups); RFC 5280.

import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, X509Certificate, type KeyObject } from 'node:crypto';
import { chmodSync, mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseIP } from '../api/address.ts';
import type { Clock } from '../api/clock.ts';
import { NetloomError } from '../api/errors.ts';
import { writeCertificate } from './der.ts';

export interface KeyPair { certPem: string; keyPem: string }

const yearMs = 365 * 86_400_000;
/** Life of authorities and leaf certificates, and how long before its end a leaf is made anew at start. */
const authorityLifeMs = 10 * yearMs;
const leafLifeMs = yearMs;
const renewBeforeMs = 30 * 86_400_000;
/** Certificates are valid from a little earlier, for peers whose clocks are behind. */
const backdateMs = 300_000;

/** One authority: its certificate and the right to sign with it. */
export class Authority {
  readonly certPem: string;
  readonly #key: KeyObject;
  readonly #publicKey: KeyObject;
  readonly #name: string;

  constructor(pair: KeyPair) {
    this.certPem = pair.certPem;
    this.#key = createPrivateKey(pair.keyPem);
    this.#publicKey = createPublicKey(pair.certPem);
    this.#name = /CN=(.*)/.exec(new X509Certificate(pair.certPem).subject)?.[1] ?? '';
  }

  /** SHA-256 over the DER form, hex: what a join token carries. */
  get fingerprint(): string { return fingerprintOf(this.certPem); }

  /** A certificate for a key that the caller holds. */
  sign(publicKey: KeyObject, options: { commonName: string; organizations?: readonly string[]; usages: readonly ('serverAuth' | 'clientAuth')[]; names?: readonly string[]; nowMs: number; lifeMs?: number }): string {
    const names = options.names ?? [];
    const addresses = names.flatMap((name) => { const ip = parseIP(name); return ip === undefined ? [] : [ip.bytes]; });
    return writeCertificate({
      subject: { commonName: options.commonName, organizations: options.organizations ?? [] }, issuer: { commonName: this.#name },
      publicKey, signingKey: this.#key, issuerPublicKey: this.#publicKey,
      notBeforeMs: options.nowMs - backdateMs, notAfterMs: options.nowMs + (options.lifeMs ?? leafLifeMs),
      usages: options.usages, dnsNames: names.filter((name) => parseIP(name) === undefined), addresses,
    });
  }

  /** A new key with its certificate. */
  issue(options: Parameters<Authority['sign']>[1]): KeyPair {
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    return { certPem: this.sign(publicKey, options), keyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string };
  }
}

/** Makes a self-signed authority. */
export function createAuthority(name: string, nowMs: number): KeyPair {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const certPem = writeCertificate({
    subject: { commonName: name }, issuer: { commonName: name }, publicKey, signingKey: privateKey, issuerPublicKey: publicKey,
    notBeforeMs: nowMs - backdateMs, notAfterMs: nowMs + authorityLifeMs, isAuthority: true,
  });
  return { certPem, keyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string };
}

export function fingerprintOf(certPem: string): string { return createHash('sha256').update(new X509Certificate(certPem).raw).digest('hex'); }

/** All key material of one control plane. */
export class Certificates {
  readonly serverAuthority: Authority;
  readonly clientAuthority: Authority;
  /** Signs service account tokens (ES256). */
  readonly tokenKeyPem: string;
  readonly #clock: Clock;
  readonly #files: PairFiles;

  constructor(options: { dataDir: string | undefined; clock: Clock; shared?: SharedKeys | undefined }) {
    this.#clock = options.clock;
    this.#files = new PairFiles(options.dataDir === undefined ? undefined : join(options.dataDir, 'pki'));
    const nowMs = options.clock.nowMs();
    this.serverAuthority = new Authority(this.#files.pair('ca', () => options.shared?.serverAuthority ?? createAuthority('netloom-ca', nowMs)));
    this.clientAuthority = new Authority(this.#files.pair('client-ca', () => options.shared?.clientAuthority ?? createAuthority('netloom-client-ca', nowMs)));
    this.tokenKeyPem = this.#files.key('service-account', () => options.shared?.tokenKeyPem ?? (generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ type: 'pkcs8', format: 'pem' }) as string));
  }

  /** The API server's own certificate, made anew when names were added or its end is near. */
  serving(names: readonly string[]): KeyPair {
    const wanted = [...new Set(names)].sort();
    const isFit = (pair: KeyPair): boolean => this.isFresh(pair) && this.#isSignedBy(pair, this.serverAuthority) && wanted.every((name) => covers(pair.certPem, name));
    return this.#files.pair('apiserver', () => this.serverAuthority.issue({ commonName: 'netloom-apiserver', usages: ['serverAuth'], names: wanted, nowMs: this.#clock.nowMs() }), isFit);
  }

  /** A client certificate kept in the data directory: the admin's, and the server's own towards nodes. */
  client(file: string, commonName: string, organizations: readonly string[]): KeyPair {
    const isFit = (pair: KeyPair): boolean => this.isFresh(pair) && this.#isSignedBy(pair, this.clientAuthority);
    return this.#files.pair(file, () => this.issueClient(commonName, organizations), isFit);
  }

  /** A client certificate that is only handed out. */
  issueClient(commonName: string, organizations: readonly string[]): KeyPair {
    return this.clientAuthority.issue({ commonName, organizations, usages: ['clientAuth'], nowMs: this.#clock.nowMs() });
  }

  /** A serving certificate for a node's own endpoint. */
  issueServing(commonName: string, names: readonly string[]): KeyPair {
    return this.serverAuthority.issue({ commonName, usages: ['serverAuth'], names, nowMs: this.#clock.nowMs() });
  }

  /** Signs a PKCS#10 request after `check` has accepted its subject. Throws when the request is broken or refused. */
  async signRequest(pem: string, options: { isServing: boolean; lifeMs: number; check: (subject: { commonName: string; organizations: readonly string[] }) => void }): Promise<string> {
    // Reading what strangers wrote is the library's job; it is loaded only here, since that takes 100 ms.
    await import('reflect-metadata');
    const { Pkcs10CertificateRequest, SubjectAlternativeNameExtension } = await import('@peculiar/x509');
    const request = new Pkcs10CertificateRequest(pem);
    if (!await request.verify()) throw new Error('the signature of the request does not hold');
    const subject = { commonName: request.subjectName.getField('CN')[0] ?? '', organizations: request.subjectName.getField('O') };
    options.check(subject);
    const alternative = request.extensions.find((extension) => extension instanceof SubjectAlternativeNameExtension);
    const names = alternative?.names.items.filter((item) => item.type === 'dns' || item.type === 'ip').map((item) => item.value) ?? [];
    const publicKey = createPublicKey({ key: Buffer.from(request.publicKey.rawData), format: 'der', type: 'spki' });
    const authority = options.isServing ? this.serverAuthority : this.clientAuthority;
    return authority.sign(publicKey, { ...subject, usages: [options.isServing ? 'serverAuth' : 'clientAuth'], names: options.isServing ? names : [], nowMs: this.#clock.nowMs(), lifeMs: options.lifeMs });
  }

  /** Whether a leaf still lasts long enough not to be made anew. */
  isFresh(pair: KeyPair): boolean { return Date.parse(new X509Certificate(pair.certPem).validTo) - this.#clock.nowMs() > renewBeforeMs; }

  #isSignedBy(pair: KeyPair, authority: Authority): boolean { return new X509Certificate(pair.certPem).verify(createPublicKey(authority.certPem)); }
}

/** Keys that several servers of one cluster share; kept in the common store. */
export interface SharedKeys { serverAuthority: KeyPair; clientAuthority: KeyPair; tokenKeyPem: string }

function covers(certPem: string, name: string): boolean {
  const certificate = new X509Certificate(certPem);
  return parseIP(name) === undefined ? certificate.checkHost(name) !== undefined : certificate.checkIP(name) !== undefined;
}

/** Pairs of files NAME.crt and NAME.key, or nothing on disk when there is no folder. */
class PairFiles {
  readonly #folder: string | undefined;

  constructor(folder: string | undefined) {
    this.#folder = folder;
    if (folder !== undefined) {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      chmodSync(folder, 0o700);
    }
  }

  pair(name: string, make: () => KeyPair, isFit: (pair: KeyPair) => boolean = () => true): KeyPair {
    const certPem = this.#read(`${name}.crt`);
    const keyPem = this.#read(`${name}.key`);
    if (certPem !== undefined && keyPem !== undefined && isFit({ certPem, keyPem })) return { certPem, keyPem };
    const made = make();
    this.#write(`${name}.key`, made.keyPem);
    this.#write(`${name}.crt`, made.certPem);
    return made;
  }

  key(name: string, make: () => string): string {
    const present = this.#read(`${name}.key`);
    if (present !== undefined) return present;
    const made = make();
    this.#write(`${name}.key`, made);
    return made;
  }

  #read(name: string): string | undefined {
    if (this.#folder === undefined) return undefined;
    const path = join(this.#folder, name);
    try {
      if ((statSync(path).mode & 0o077) !== 0 && name.endsWith('.key')) {
        throw new NetloomError('ConfigInvalid', `${path} can be read by other users`, { source: 'config', hint: `chmod 600 ${path}, or delete it to have it made anew` });
      }
      return readFileSync(path, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  }

  #write(name: string, text: string): void {
    if (this.#folder === undefined) return;
    const path = join(this.#folder, name);
    writeFileSync(`${path}.tmp`, text, { mode: 0o600 });
    renameSync(`${path}.tmp`, path);
  }
}
