// The annotations that protect something: addresses, Basic credentials, external auth, client certificates. A value that
// cannot be read closes the route (401, 403, 503) and tells so in an Event. Called by annotations.ts.

import type { PolicySpec } from '../proxy/http/policy/spec.ts';
import { isSupportedHash } from '../proxy/http/policy/htpasswd.ts';
import type { AnnotationReader } from './annotations.ts';
import type { ClientAuthSpec } from './protocol.ts';

/** Reads the protecting annotations into a policy. */
export function parseAuthAnnotations(reader: AnnotationReader): { policy: PolicySpec; clientAuth: ClientAuthSpec | undefined } {
  const allow = reader.cidrs('whitelist-source-range') ?? reader.cidrs('allowlist-source-range');
  const deny = reader.cidrs('denylist-source-range');
  const basicAuth = readBasic(reader);
  const externalAuth = readExternal(reader);
  const client = readClientAuth(reader);
  return {
    policy: {
      ...(allow === undefined ? {} : { allow }), ...(deny === undefined ? {} : { deny }), ...(basicAuth === undefined ? {} : { basicAuth }), ...(externalAuth === undefined ? {} : { externalAuth }),
      ...(reader.text('satisfy') === 'any' ? { satisfiesAny: true } : {}), ...client?.policy,
    },
    clientAuth: client?.spec,
  };
}

function readBasic(reader: AnnotationReader): PolicySpec['basicAuth'] {
  const type = reader.text('auth-type');
  if (type === undefined) return undefined;
  const realm = reader.plain('auth-realm', /^[\x20\x21\x23-\x5b\x5d-\x7e]+$/) ?? 'Authentication Required';
  if (type !== 'basic') { reader.bad('auth-type', 'only basic is supported: every request is refused'); return { realm, users: {} }; }
  const name = reader.text('auth-secret');
  const key = name === undefined ? undefined : name.includes('/') ? name : `${reader.namespace}/${name}`;
  if (key === undefined || !key.startsWith(`${reader.namespace}/`)) { reader.bad('auth-secret', 'must name a Secret of the same namespace: every request is refused'); return { realm, users: {} }; }
  const secret = reader.secret(key);
  if (secret === undefined) { reader.bad('auth-secret', 'names a Secret that does not exist: every request is refused'); return { realm, users: {} }; }
  return { realm, users: readUsers(reader, secret.data ?? {}, secret.stringData ?? {}) };
}

function readUsers(reader: AnnotationReader, data: Readonly<Record<string, string>>, plain: Readonly<Record<string, string>>): Record<string, string> {
  const decoded: Record<string, string> = { ...plain };
  for (const [key, value] of Object.entries(data)) decoded[key] = Buffer.from(value, 'base64').toString('utf8');
  const users: Record<string, string> = {};
  const take = (user: string, stored: string): void => {
    if (isSupportedHash(stored)) users[user] = stored;
    else reader.bad('auth-secret', `has an entry for ${JSON.stringify(user.slice(0, 40))} whose hash is not supported (use htpasswd -m or {SHA})`);
  };
  if (reader.text('auth-secret-type') === 'auth-map') { for (const [user, stored] of Object.entries(decoded)) take(user, stored.trim()); return users; }
  for (const line of (decoded['auth'] ?? '').split('\n')) {
    const colon = line.indexOf(':');
    if (colon > 0 && !line.startsWith('#')) take(line.slice(0, colon).trim(), line.slice(colon + 1).trim());
  }
  if (Object.keys(users).length === 0) reader.bad('auth-secret', 'names a Secret without usable entries under "auth": every request is refused');
  return users;
}

function readExternal(reader: AnnotationReader): PolicySpec['externalAuth'] {
  if (reader.text('auth-url') === undefined) return undefined;
  const url = reader.clusterUrl('auth-url');
  const signin = reader.plain('auth-signin', /^(https?:\/\/|\/(?!\/))[\x21-\x7e]*$/);
  return {
    // An unusable URL closes the route: there is no backend of that name.
    backend: url?.backend ?? '', host: url?.host ?? '', path: url?.path ?? '/', method: reader.plain('auth-method', /^[A-Z]{3,10}$/) ?? 'GET',
    responseHeaders: (reader.list('auth-response-headers') ?? []).filter((name) => /^[A-Za-z0-9_-]+$/.test(name)),
    signin: (signin ?? '').replace(/\?rd=\$escaped_request_uri$|\?rd=\$scheme:\/\/\$host\$escaped_request_uri$/, ''), signinRedirectParam: reader.plain('auth-signin-redirect-param', /^[A-Za-z0-9_-]+$/) ?? 'rd',
  };
}

function readClientAuth(reader: AnnotationReader): { policy: PolicySpec; spec: ClientAuthSpec | undefined } | undefined {
  const name = reader.text('auth-tls-secret');
  const verify = reader.text('auth-tls-verify-client') ?? 'on';
  if (name === undefined || verify === 'off') return undefined;
  const mode = verify === 'optional' || verify === 'optional_no_ca' ? verify : 'on';
  const policy: PolicySpec = { clientAuth: {
    mode, errorPage: reader.plain('auth-tls-error-page') ?? '', passesCertificate: reader.isTrue('auth-tls-pass-certificate-to-upstream'), commonName: reader.plain('auth-tls-match-cn', /^[\x20-\x7e]+$/) ?? '',
  } };
  const key = name.includes('/') ? name : `${reader.namespace}/${name}`;
  if (!key.startsWith(`${reader.namespace}/`)) { reader.bad('auth-tls-secret', 'must name a Secret of the same namespace: every request is refused'); return { policy, spec: undefined }; }
  const secret = reader.secret(key);
  const caPem = Buffer.from(secret?.data?.['ca.crt'] ?? '', 'base64').toString('utf8');
  if (!caPem.includes('BEGIN CERTIFICATE')) { reader.bad('auth-tls-secret', 'names a Secret without ca.crt: every request is refused'); return { policy, spec: undefined }; }
  return { policy, spec: { caPem, mode } };
}
