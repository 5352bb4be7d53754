// Cookie affinity: the cookie names an endpoint by a keyed hash of its address (P-19: never an address, not to be made
// up), so any worker finds it again without a table of sessions; when the endpoint is gone another one is chosen and a
// new cookie set. Called by run.ts.

import { createHmac } from 'node:crypto';
import type { Backend, Endpoint } from '../endpoints.ts';
import type { CookieAffinitySpec } from './spec.ts';

export class CookieAffinity {
  readonly spec: CookieAffinitySpec;
  readonly #secret: string;
  #generation = -1;
  #backend: Backend | undefined;
  #byValue = new Map<string, Endpoint>();

  constructor(spec: CookieAffinitySpec, secret: string) {
    this.spec = spec;
    this.#secret = secret;
  }

  valueOf(endpoint: Endpoint): string {
    if (endpoint.cookie === '') endpoint.cookie = createHmac('sha256', this.#secret).update(`${endpoint.backend.key} ${endpoint.name}`).digest('hex').slice(0, 32);
    return endpoint.cookie;
  }

  /** The endpoint that a cookie value names, if it is still there. */
  find(backend: Backend, value: string | undefined): Endpoint | undefined {
    if (value === undefined) return undefined;
    if (this.#backend !== backend || this.#generation !== backend.generation) {
      this.#backend = backend;
      this.#generation = backend.generation;
      this.#byValue = new Map(backend.endpoints.map((endpoint) => [this.valueOf(endpoint), endpoint]));
    }
    return this.#byValue.get(value);
  }

  /** The Set-Cookie line for an endpoint. */
  line(endpoint: Endpoint, isTls: boolean): string {
    const { name, path, domain, maxAgeSeconds, sameSite, isSecure } = this.spec;
    return `Set-Cookie: ${name}=${this.valueOf(endpoint)}; Path=${path}${domain === '' ? '' : `; Domain=${domain}`}${maxAgeSeconds > 0 ? `; Max-Age=${maxAgeSeconds}` : ''}${isSecure || isTls ? '; Secure' : ''}; HttpOnly${sameSite === '' ? '' : `; SameSite=${sameSite}`}\r\n`;
  }
}
