// Main-thread side of TLS: which Secrets the Ingresses name, whether each is usable, which names each may serve (only
// those it covers, I-7), when it ends. A missing or broken Secret is an Event on the Ingress and harms no other host
// (rule 33). Called by controller.ts; the result goes to the workers (tls.ts).

import { createPrivateKey, X509Certificate } from 'node:crypto';
import type { Secret } from '../api/types.ts';
import type { IngressPlan, PlanFault } from './plan.ts';
import type { CertificateSpec } from './protocol.ts';

export interface LoadedCertificate { readonly certPem: string; readonly keyPem: string; readonly covers: readonly string[]; readonly notAfterMs: number }

const expiryWarningMs = 30 * 86_400_000;

/** Reads a kubernetes.io/tls Secret; a string says what is wrong with it. */
export function loadCertificate(secret: Secret | undefined, key: string): LoadedCertificate | string {
  if (secret === undefined) return `Secret ${key} does not exist`;
  if (secret.type !== 'kubernetes.io/tls') return `Secret ${key} has type ${secret.type ?? 'Opaque'}, not kubernetes.io/tls`;
  const certPem = decode(secret.data?.['tls.crt']);
  const keyPem = decode(secret.data?.['tls.key']);
  if (certPem === '' || keyPem === '') return `Secret ${key} lacks tls.crt or tls.key`;
  try {
    const certificate = new X509Certificate(certPem);
    const privateKey = createPrivateKey(keyPem);
    if (!certificate.checkPrivateKey(privateKey)) return `Secret ${key}: tls.key does not belong to tls.crt`;
    return { certPem, keyPem, covers: namesOf(certificate), notAfterMs: Date.parse(certificate.validTo) };
  } catch (error) { return `Secret ${key} cannot be read: ${(error as Error).message.replace(/\s+/g, ' ').slice(0, 120)}`; }
}

function decode(base64: string | undefined): string { return base64 === undefined ? '' : Buffer.from(base64, 'base64').toString('utf8'); }

function namesOf(certificate: X509Certificate): string[] {
  const names = [...(certificate.subjectAltName ?? '').matchAll(/DNS:"?([^",\s]+)/g)].map((match) => match[1]!.toLowerCase());
  if (names.length > 0) return names;
  const common = /(?:^|\n)CN=([^\n]+)/.exec(certificate.subject)?.[1];
  return common === undefined ? [] : [common.toLowerCase()];
}

function isCovered(host: string, covers: readonly string[]): boolean {
  if (covers.includes(host)) return true;
  const dot = host.indexOf('.');
  return dot > 0 && !host.startsWith('*') && covers.includes(`*${host.slice(dot)}`);
}

export interface CertificatePlan { readonly specs: readonly CertificateSpec[]; readonly expiries: ReadonlyMap<string, number> }

/** The certificates of all objects, oldest object first for each name. */
export function planCertificates(plans: Iterable<IngressPlan>, secretOf: (key: string) => Secret | undefined, nowMs: number, onFault: (key: string, fault: PlanFault) => void): CertificatePlan {
  const loaded = new Map<string, LoadedCertificate | string>();
  const byCertificate = new Map<string, { certificate: LoadedCertificate; names: string[] }>();
  const taken = new Set<string>();
  const expiries = new Map<string, number>();
  for (const plan of [...plans].sort((a, b) => (a.order < b.order ? -1 : 1))) {
    for (const { hosts, secretKey, field } of plan.tls) {
      let certificate = loaded.get(secretKey);
      if (certificate === undefined) loaded.set(secretKey, certificate = loadCertificate(secretOf(secretKey), secretKey));
      if (typeof certificate === 'string') {
        onFault(plan.key, { reason: 'SecretUnusable', field, message: `${field}: ${certificate}; the default certificate is served` });
        continue;
      }
      expiries.set(secretKey, certificate.notAfterMs);
      if (certificate.notAfterMs - nowMs < expiryWarningMs) onFault(plan.key, { reason: certificate.notAfterMs < nowMs ? 'CertificateExpired' : 'CertificateExpiring', field, message: `${field}: the certificate of Secret ${secretKey} ends at ${new Date(certificate.notAfterMs).toISOString().slice(0, 19)}Z` });
      const entry = byCertificate.get(secretKey) ?? { certificate, names: [] };
      byCertificate.set(secretKey, entry);
      for (const host of hosts) {
        if (!isCovered(host, certificate.covers)) onFault(plan.key, { reason: 'CertificateMismatch', field, message: `${field}: the certificate of Secret ${secretKey} does not cover ${host}; the default certificate is served for it` });
        else if (!taken.has(host)) { taken.add(host); entry.names.push(host); }
      }
    }
  }
  return { specs: [...byCertificate.values()].map(({ certificate, names }) => ({ certPem: certificate.certPem, keyPem: certificate.keyPem, names })), expiries };
}
