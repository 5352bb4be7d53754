// Who calls: a verified client certificate, a bearer token (bootstrap token, service account token), or nobody.
// Identity headers of front proxies (X-Remote-User) mean nothing here; acting as somebody else is ./impersonation.ts.
// Source: kubernetes.io "Authenticating"; RFC 6750.

import { NetloomError } from '../../../api/errors.ts';
import type { Exchange } from '../http/exchange.ts';
import type { BootstrapTokens } from './bootstrap-tokens.ts';
import type { ServiceAccountTokens } from './service-account-tokens.ts';
import { groupAuthenticated, type UserInfo } from './user.ts';

/** Longer tokens are not looked at. */
const tokenLengthMax = 8_192;

export class Authenticator {
  readonly #bootstrap: BootstrapTokens;
  readonly #accounts: ServiceAccountTokens;

  constructor(bootstrap: BootstrapTokens, accounts: ServiceAccountTokens) {
    this.#bootstrap = bootstrap;
    this.#accounts = accounts;
  }

  /** The caller; undefined without credentials. Throws Unauthorized for credentials that do not hold. */
  async authenticate(exchange: Exchange): Promise<UserInfo | undefined> {
    const { certificate } = exchange.peer;
    if (certificate !== undefined && certificate.commonName !== '') {
      return { username: certificate.commonName, groups: [...certificate.organizations, groupAuthenticated], method: 'certificate' };
    }
    const header = exchange.headers['authorization'];
    if (header === undefined) return undefined;
    const token = /^Bearer ([A-Za-z0-9._~+/=-]+)$/i.exec(header)?.[1];
    const user = token === undefined || token.length > tokenLengthMax ? undefined : await this.byToken(token, []);
    if (user === undefined) throw new NetloomError('Unauthorized', 'Unauthorized', { source: 'downstream' });
    return user;
  }

  /** The owner of a token for one of the audiences (none = the API server's own); undefined when it does not hold. */
  async byToken(token: string, audiences: readonly string[]): Promise<UserInfo | undefined> {
    return this.#bootstrap.userOf(token) ?? await this.#accounts.userOf(token, audiences);
  }
}
