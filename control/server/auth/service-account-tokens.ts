// Tokens of service accounts: JSON web tokens signed with the control plane's own EC key (ES256), bound to the account's
// uid, to audiences and an expiry, and optionally to one Pod or Secret. A token dies with what it is bound to.
// Source: kubernetes.io "Managing Service Accounts", KEP-1205 (bound tokens); RFC 7519, RFC 7515.

import { createPrivateKey, createPublicKey, randomUUID, sign, verify, type KeyObject } from 'node:crypto';
import type { Clock } from '../../../api/clock.ts';
import type { Storage } from '../../storage/store.ts';
import { keyIdOf, keySet } from '../paths.ts';
import { groupAuthenticated, groupServiceAccounts, serviceAccountUserPrefix, type UserInfo } from './user.ts';

export const tokenIssuer = 'https://kubernetes.default.svc.cluster.local';

interface Bound { name: string; uid: string }
interface Claims {
  aud: string[]; exp: number; iat: number; nbf: number; iss: string; jti: string; sub: string;
  'kubernetes.io': { namespace: string; serviceaccount: Bound; pod?: Bound; secret?: Bound; node?: Bound };
}
export interface TokenRequest { namespace: string; name: string; uid: string; audiences: readonly string[]; lifeSeconds: number; bound?: { kind: 'Pod' | 'Secret' | 'Node'; name: string; uid: string } | undefined }

/** Clocks may differ by this much. */
const leewayMs = 10_000;
/** Verified signatures that are kept, so that a busy client costs one verification. */
const verifiedMax = 1_000;

export class ServiceAccountTokens {
  readonly #storage: Storage;
  readonly #clock: Clock;
  readonly #privateKey: KeyObject;
  readonly #publicKey: KeyObject;
  readonly #keyId: string;
  readonly #verified = new Map<string, Claims>();

  constructor(storage: Storage, clock: Clock, keyPem: string) {
    this.#storage = storage;
    this.#clock = clock;
    this.#privateKey = createPrivateKey(keyPem);
    this.#publicKey = createPublicKey(keyPem);
    this.#keyId = keyIdOf(this.#publicKey.export({ type: 'spki', format: 'der' }));
  }

  /** The public half for /openid/v1/jwks. */
  keys(): object { return keySet(this.#publicKey.export({ format: 'jwk' }), this.#keyId); }

  issue(request: TokenRequest): { token: string; expiresMs: number } {
    const now = Math.floor(this.#clock.nowMs() / 1000);
    const { namespace, name, uid, bound } = request;
    const claims: Claims = {
      aud: request.audiences.length === 0 ? [tokenIssuer] : [...request.audiences], exp: now + request.lifeSeconds, iat: now, nbf: now, iss: tokenIssuer, jti: randomUUID(),
      sub: `${serviceAccountUserPrefix}${namespace}:${name}`,
      'kubernetes.io': { namespace, serviceaccount: { name, uid }, ...(bound === undefined ? {} : { [bound.kind.toLowerCase()]: { name: bound.name, uid: bound.uid } }) },
    };
    const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
    const text = `${encode({ alg: 'ES256', kid: this.#keyId })}.${encode(claims)}`;
    const signature = sign('sha256', Buffer.from(text), { key: this.#privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url');
    return { token: `${text}.${signature}`, expiresMs: claims.exp * 1000 };
  }

  /** The account behind a token; undefined when it does not hold for the audiences. */
  userOf(token: string, audiences: readonly string[]): UserInfo | undefined {
    const claims = this.#verified.get(token) ?? this.#verify(token);
    if (claims === undefined || !this.#isInForce(claims, audiences)) return undefined;
    const { namespace, serviceaccount, pod } = claims['kubernetes.io'];
    return {
      username: claims.sub, uid: serviceaccount.uid, groups: [groupServiceAccounts, `${groupServiceAccounts}:${namespace}`, groupAuthenticated], method: 'serviceAccount',
      extra: { 'authentication.kubernetes.io/credential-id': [`JTI=${claims.jti}`], ...(pod === undefined ? {} : { 'authentication.kubernetes.io/pod-name': [pod.name], 'authentication.kubernetes.io/pod-uid': [pod.uid] }) },
    };
  }

  #verify(token: string): Claims | undefined {
    const [header = '', body = '', signature = '', more] = token.split('.');
    if (more !== undefined || signature === '') return undefined;
    try {
      const { alg } = JSON.parse(Buffer.from(header, 'base64url').toString('utf8')) as { alg?: unknown };
      if (alg !== 'ES256') return undefined;
      if (!verify('sha256', Buffer.from(`${header}.${body}`), { key: this.#publicKey, dsaEncoding: 'ieee-p1363' }, Buffer.from(signature, 'base64url'))) return undefined;
      const claims = JSON.parse(Buffer.from(body, 'base64url').toString('utf8')) as Claims;
      if (this.#verified.size >= verifiedMax) this.#verified.delete(this.#verified.keys().next().value as string);
      this.#verified.set(token, claims);
      return claims;
    } catch {
      return undefined;
    }
  }

  #isInForce(claims: Claims, audiences: readonly string[]): boolean {
    const nowMs = this.#clock.nowMs();
    if (claims.iss !== tokenIssuer || nowMs >= claims.exp * 1000 + leewayMs || nowMs < claims.nbf * 1000 - leewayMs) return false;
    const wanted = audiences.length === 0 ? [tokenIssuer] : audiences;
    if (!claims.aud.some((audience) => wanted.includes(audience))) return false;
    const { namespace, serviceaccount, pod, secret } = claims['kubernetes.io'];
    if (!this.#isThere('serviceaccounts', namespace, serviceaccount)) return false;
    return (pod === undefined || this.#isThere('pods', namespace, pod)) && (secret === undefined || this.#isThere('secrets', namespace, secret));
  }

  #isThere(resource: string, namespace: string, bound: Bound): boolean {
    return this.#storage.get(resource, `${namespace}/${bound.name}`)?.object.metadata.uid === bound.uid;
  }
}
