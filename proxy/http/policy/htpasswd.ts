// Checks a password against the stored forms that htpasswd and openssl write: $apr1$ and $1$ (iterated MD5), {SHA},
// {SSHA}, $5$/$6$ are not run here (they cost tens of milliseconds of the traffic thread); bcrypt neither. Results are
// remembered in a bounded cache under a keyed hash, so a busy client costs one slow check. Called by auth.ts.

import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';

const cacheMax = 1_000;

/** Whether a stored hash has a form that can be checked; others are refused when the Secret is read. */
export function isSupportedHash(stored: string): boolean { return /^(\$apr1\$|\$1\$|\{SHA\}|\{SSHA\}|\{PLAIN\})/.test(stored); }

export class PasswordFile {
  readonly #users: ReadonlyMap<string, string>;
  readonly #cacheKey = randomBytes(32);
  readonly #good = new Set<string>();

  constructor(users: Readonly<Record<string, string>>) { this.#users = new Map(Object.entries(users)); }

  /** The user of an Authorization value, or undefined when it is not right. */
  check(authorization: string | undefined): string | undefined {
    const match = /^Basic +([A-Za-z0-9+/=_-]{1,1024})$/i.exec(authorization ?? '');
    if (match === null) return undefined;
    const [, user = '', password = ''] = /^([^:]*):([^]*)$/.exec(Buffer.from(match[1]!, 'base64').toString('utf8')) ?? [];
    const stored = this.#users.get(user);
    if (stored === undefined) return undefined;
    const id = createHmac('sha256', this.#cacheKey).update(`${user}:${password}`).digest('base64');
    if (this.#good.has(id)) return user;
    if (!isPassword(password, stored)) return undefined;
    if (this.#good.size >= cacheMax) this.#good.clear();
    this.#good.add(id);
    return user;
  }
}

function isPassword(password: string, stored: string): boolean {
  if (stored.startsWith('{SHA}')) return isEqual(createHash('sha1').update(password).digest('base64'), stored.slice(5));
  if (stored.startsWith('{PLAIN}')) return isEqual(password, stored.slice(7));
  if (stored.startsWith('{SSHA}')) {
    const bytes = Buffer.from(stored.slice(6), 'base64');
    return isEqual(createHash('sha1').update(password).update(bytes.subarray(20)).digest('base64'), bytes.subarray(0, 20).toString('base64'));
  }
  const match = /^\$(apr1|1)\$([^$]{1,8})\$/.exec(stored);
  return match !== null && isEqual(md5Crypt(password, match[2]!, `$${match[1]!}$`), stored);
}

function isEqual(a: string, b: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
}

const alphabet = './0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

/** The MD5-based crypt of FreeBSD (`$1$`) and Apache (`$apr1$`): 1,000 rounds. */
export function md5Crypt(password: string, salt: string, magic: string): string {
  const key = Buffer.from(password, 'utf8');
  const inner = createHash('md5').update(key).update(salt).update(key).digest();
  const first = createHash('md5').update(key).update(magic).update(salt);
  for (let left = key.length; left > 0; left -= 16) first.update(inner.subarray(0, Math.min(16, left)));
  for (let bits = key.length; bits > 0; bits >>= 1) first.update((bits & 1) === 1 ? Buffer.from([0]) : key.subarray(0, 1));
  let digest = first.digest();
  for (let round = 0; round < 1_000; round++) {
    const next = createHash('md5');
    next.update((round & 1) === 1 ? key : digest);
    if (round % 3 !== 0) next.update(salt);
    if (round % 7 !== 0) next.update(key);
    next.update((round & 1) === 1 ? digest : key);
    digest = next.digest();
  }
  let text = '';
  const encode = (a: number, b: number, c: number, count: number): void => {
    let value = (a << 16) | (b << 8) | c;
    for (let index = 0; index < count; index++) { text += alphabet[value & 63]; value >>= 6; }
  };
  for (const [a, b, c] of [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]] as const) encode(digest[a]!, digest[b]!, digest[c]!, 4);
  encode(0, 0, digest[11]!, 2);
  return `${magic}${salt}$${text}`;
}
