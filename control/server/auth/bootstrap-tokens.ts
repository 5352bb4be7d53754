// Tokens with which a new node introduces itself. Each is a Secret kube-system/bootstrap-token-ID of the type that
// kubeadm uses, but it holds only the hash of the secret half. What is handed out also carries the hash of the server's
// CA, so that a node can check the server before it sends anything: `ID.SECRET.CAHASH`.
// Source: kubernetes.io "Authenticating with Bootstrap Tokens".

import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { formatTime, type Clock } from '../../../api/clock.ts';
import type { KubeObject, Secret } from '../../../api/types.ts';
import type { Storage } from '../../storage/store.ts';
import { groupAuthenticated, groupBootstrappers, type UserInfo } from './user.ts';

const namespace = 'kube-system';
const namePrefix = 'bootstrap-token-';
const secretType = 'bootstrap.kubernetes.io/token';
export const joinTokenLifeMs = 24 * 3_600_000;

export interface JoinToken { id: string; token: string; expiresAt: string }

/** Makes and checks join tokens. */
export class BootstrapTokens {
  readonly #storage: Storage;
  readonly #clock: Clock;

  constructor(storage: Storage, clock: Clock) {
    this.#storage = storage;
    this.#clock = clock;
  }

  make(caHash: string, lifeMs: number = joinTokenLifeMs): { token: JoinToken; secret: KubeObject } { return makeJoinToken(caHash, this.#clock, lifeMs); }

  /** The identity behind a token; undefined when there is none, it is over, or it does not match. */
  userOf(token: string): UserInfo | undefined {
    const match = /^([a-z0-9]{6})\.([a-z0-9]{16,64})(?:\.[0-9a-f]{64})?$/.exec(token);
    if (match === null) return undefined;
    const [, id = '', half = ''] = match;
    const stored = this.#storage.get('secrets', `${namespace}/${namePrefix}${id}`)?.object as Secret | undefined;
    if (stored === undefined || stored.type !== secretType || stored.metadata.deletionTimestamp !== undefined) return undefined;
    const field = (name: string): string => Buffer.from(stored.data?.[name] ?? '', 'base64').toString('utf8');
    const plain = field('token-secret');
    const wanted = plain === '' ? field('token-secret-sha256') : hashOf(plain);
    if (wanted.length !== 64 || !timingSafeEqual(Buffer.from(hashOf(half)), Buffer.from(wanted))) return undefined;
    if (field('usage-bootstrap-authentication') !== 'true') return undefined;
    const expiration = field('expiration');
    if (expiration !== '' && !(Date.parse(expiration) > this.#clock.nowMs())) return undefined;
    const extra = field('auth-extra-groups').split(',').filter((name) => name.startsWith(`${groupBootstrappers}:`));
    return { username: `system:bootstrap:${id}`, groups: [groupBootstrappers, ...extra, groupAuthenticated], method: 'bootstrapToken' };
  }
}

/** The Secret of a new token and the text to hand out; 256 bits of secret, valid for `lifeMs`. */
export function makeJoinToken(caHash: string, clock: Clock, lifeMs: number = joinTokenLifeMs): { token: JoinToken; secret: KubeObject } {
  const id = randomBytes(3).toString('hex');
  const half = randomBytes(32).toString('hex');
  const expiresAt = formatTime(clock.nowMs() + lifeMs);
  const encode = (text: string): string => Buffer.from(text).toString('base64');
  const secret: Secret = {
    apiVersion: 'v1', kind: 'Secret', metadata: { name: `${namePrefix}${id}`, namespace }, type: secretType,
    data: { 'token-id': encode(id), 'token-secret-sha256': encode(hashOf(half)), expiration: encode(expiresAt), 'usage-bootstrap-authentication': encode('true'), description: encode('joins a node') },
  };
  return { token: { id, token: `${id}.${half}.${caHash}`, expiresAt }, secret };
}

function hashOf(text: string): string { return createHash('sha256').update(text).digest('hex'); }
