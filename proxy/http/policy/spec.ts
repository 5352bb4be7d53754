// The policies of a route as plain data: what ingress/annotations.ts reads out of an object, what travels to the workers,
// and what policy/compile.ts makes runnable. Typed values only; nothing here is ever text for a configuration (I-1).

export interface CorsSpec {
  readonly origins: readonly string[]; readonly methods: string; readonly headers: string; readonly exposeHeaders: string;
  readonly hasCredentials: boolean; readonly maxAgeSeconds: number;
}
export interface CookieAffinitySpec {
  readonly name: string; readonly path: string; readonly domain: string; readonly maxAgeSeconds: number; readonly sameSite: string;
  readonly isSecure: boolean; readonly changesOnFailure: boolean;
}
export interface LimitSpec { readonly perSecond: number; readonly perMinute: number; readonly connections: number; readonly burstMultiplier: number; readonly exempt: readonly string[] }
/** `users`: name → stored hash (htpasswd forms). */
export interface BasicAuthSpec { readonly realm: string; readonly users: Readonly<Record<string, string>> }
export interface ExternalAuthSpec {
  /** Key of the backend that decides; `host` and `path` are what it is asked for. */
  readonly backend: string; readonly host: string; readonly path: string; readonly method: string;
  readonly responseHeaders: readonly string[]; readonly signin: string; readonly signinRedirectParam: string;
}
export interface CanarySpec { readonly backend: string; readonly row: number; readonly weight: number; readonly weightTotal: number; readonly header: string; readonly headerValue: string; readonly headerPattern: string; readonly cookie: string }
export interface ErrorPagesSpec { readonly codes: readonly number[]; readonly backend: string; readonly fields: string }
export interface ClientAuthPolicySpec { readonly mode: 'on' | 'optional' | 'optional_no_ca'; readonly errorPage: string; readonly passesCertificate: boolean; readonly commonName: string }

export interface PolicySpec {
  readonly clientAuth?: ClientAuthPolicySpec;
  readonly sslRedirectCode?: number;
  /** The whole route only redirects: from-to-www (to the host) or permanent/temporal redirect (to the URL). */
  readonly redirect?: { readonly code: number; readonly url?: string; readonly host?: string };
  readonly appRoot?: string;
  readonly cors?: CorsSpec;
  readonly limits?: LimitSpec;
  readonly allow?: readonly string[];
  readonly deny?: readonly string[];
  readonly satisfiesAny?: boolean;
  readonly basicAuth?: BasicAuthSpec;
  readonly externalAuth?: ExternalAuthSpec;
  readonly bodyBytesMax?: number;
  /** `pattern`: source of the path expression with groups; absent = the whole path is replaced. */
  readonly rewrite?: { readonly target: string; readonly pattern?: string };
  readonly upstreamHost?: string;
  readonly forwardedPrefix?: string;
  readonly affinity?: CookieAffinitySpec;
  readonly canaries?: readonly CanarySpec[];
  readonly mirror?: { readonly backend: string; readonly host: string; readonly path: string; readonly hasBody: boolean };
  readonly errorPages?: ErrorPagesSpec;
  /** Takes requests while the Service has no endpoint. */
  readonly defaultBackend?: string;
}
