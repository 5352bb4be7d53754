// Every annotation of ingress-nginx by name and what becomes of it here: honoured with its documented meaning,
// approximated (the note says how), ignored without harm, or refused. Read by annotations.ts (what to warn about) and by
// check.ts (`netloom check ingress`). The prefix is nginx.ingress.kubernetes.io/ or ingress.netloom.dev/.

export type AnnotationFate = 'honoured' | 'approximated' | 'ignored' | 'refused';
export interface AnnotationRow { readonly fate: AnnotationFate; readonly note: string }

export const annotationPrefixes: readonly string[] = Object.freeze(['nginx.ingress.kubernetes.io/', 'ingress.netloom.dev/']);

const rows: Record<string, AnnotationRow> = {};
const add = (fate: AnnotationFate, note: string, ...names: readonly string[]): void => { for (const name of names) rows[name] = { fate, note }; };

add('honoured', '', 'ssl-redirect', 'force-ssl-redirect', 'permanent-redirect', 'permanent-redirect-code', 'temporal-redirect', 'temporal-redirect-code', 'app-root', 'from-to-www-redirect', 'server-alias');
add('honoured', '', 'proxy-body-size', 'client-max-body-size', 'proxy-connect-timeout', 'proxy-read-timeout', 'backend-protocol', 'upstream-vhost', 'x-forwarded-prefix');
add('honoured', '', 'enable-cors', 'cors-allow-origin', 'cors-allow-methods', 'cors-allow-headers', 'cors-allow-credentials', 'cors-expose-headers', 'cors-max-age');
add('honoured', '', 'affinity', 'session-cookie-name', 'session-cookie-path', 'session-cookie-domain', 'session-cookie-max-age', 'session-cookie-secure', 'session-cookie-samesite', 'session-cookie-change-on-failure');
add('honoured', '', 'whitelist-source-range', 'allowlist-source-range', 'denylist-source-range', 'satisfy');
add('honoured', '', 'auth-type', 'auth-secret', 'auth-secret-type', 'auth-realm', 'auth-signin', 'auth-signin-redirect-param', 'auth-method', 'auth-response-headers');
add('honoured', '', 'canary', 'canary-by-header', 'canary-by-header-value', 'canary-by-header-pattern', 'canary-by-cookie', 'canary-weight', 'canary-weight-total');
add('honoured', '', 'auth-tls-secret', 'auth-tls-verify-client', 'auth-tls-error-page', 'auth-tls-pass-certificate-to-upstream', 'auth-tls-match-cn');
add('honoured', '', 'limit-burst-multiplier', 'limit-rps', 'limit-rpm', 'limit-whitelist', 'limit-allowlist', 'custom-http-errors', 'default-backend', 'mirror-host');
add('honoured', '', 'proxy-next-upstream-tries', 'proxy-ssl-secret', 'proxy-ssl-verify', 'proxy-ssl-name', 'proxy-ssl-server-name');
add('approximated', 'the expression must match the whole path and letter case counts; look-around and back-references are refused', 'use-regex', 'rewrite-target');
add('approximated', 'must be an in-cluster Service (http://NAME.NAMESPACE.svc…); a fixed list of request fields is passed on', 'auth-url');
add('approximated', 'must be an in-cluster Service; bodies up to 64 KiB are copied', 'mirror-target', 'mirror-request-body');
add('approximated', 'counted per data worker: the limit is divided by their number', 'limit-connections');
add('approximated', 'an endpoint that a cookie names is kept as long as it is ready', 'affinity-mode', 'affinity-canary-behavior');
add('approximated', 'becomes Max-Age', 'session-cookie-expires');
add('approximated', 'error, timeout, invalid_header, http_500, http_502, http_503, http_504, http_404, http_403, http_429, non_idempotent and off are understood; at most 20 % of requests are tried again', 'proxy-next-upstream', 'proxy-next-upstream-timeout');
add('approximated', 'the whole chain up to a trusted CA is checked by OpenSSL', 'auth-tls-verify-depth', 'proxy-ssl-verify-depth');
add('approximated', 'requests go to the endpoint with the least outstanding work', 'load-balance', 'upstream-hash-by', 'upstream-hash-by-subset', 'upstream-hash-by-subset-size', 'service-upstream');
add('approximated', 'the time without a byte of the request body is limited for the whole listener', 'proxy-send-timeout', 'client-body-timeout');
add('ignored', 'bodies are streamed in both directions with a fixed memory limit', 'proxy-buffering', 'proxy-buffers-number', 'proxy-buffer-size', 'proxy-busy-buffers-size', 'proxy-max-temp-file-size', 'proxy-request-buffering', 'client-body-buffer-size', 'proxy-http-version', 'connection-proxy-header', 'http2-push-preload');
add('ignored', 'switched for the whole controller', 'enable-access-log', 'enable-rewrite-log', 'enable-opentracing', 'enable-opentelemetry', 'opentelemetry-trust-incoming-span', 'opentelemetry-operation-name', 'opentracing-trust-incoming-span', 'ssl-ciphers', 'ssl-prefer-server-ciphers', 'proxy-ssl-ciphers', 'proxy-ssl-protocols', 'preserve-trailing-slash', 'auth-cache-key', 'auth-cache-duration', 'auth-keepalive', 'auth-keepalive-requests', 'auth-keepalive-timeout', 'auth-keepalive-share-vars', 'auth-always-set-cookie', 'auth-request-redirect', 'enable-global-auth', 'disable-proxy-intercept-errors', 'relative-redirects', 'session-cookie-conditional-samesite-none');
add('ignored', 'answers are not rewritten', 'proxy-cookie-domain', 'proxy-cookie-path', 'proxy-redirect-from', 'proxy-redirect-to', 'limit-rate', 'limit-rate-after', 'custom-headers', 'auth-proxy-set-headers');
add('refused', 'configuration text is never taken from an object', 'configuration-snippet', 'server-snippet', 'auth-snippet', 'stream-snippet', 'location-snippet', 'http-snippet', 'modsecurity-snippet');
add('refused', 'not supported', 'ssl-passthrough', 'enable-modsecurity', 'enable-owasp-core-rules', 'modsecurity-transaction-id', 'influxdb-host', 'enable-influxdb', 'fastcgi-index', 'fastcgi-params-configmap', 'global-rate-limit', 'global-rate-limit-window', 'global-rate-limit-key', 'global-rate-limit-ignored-cidrs', 'grpc-backend', 'secure-backends');

export const annotationTable: Readonly<Record<string, AnnotationRow>> = Object.freeze(rows);

/** The name without a prefix of ours, or undefined for annotations that are nobody's business here. */
export function ownName(annotation: string): string | undefined {
  for (const prefix of annotationPrefixes) if (annotation.startsWith(prefix)) return annotation.slice(prefix.length);
  return undefined;
}
