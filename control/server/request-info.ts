// What a request is about, read from its path and query: verb, group, version, resource, namespace, name, subresource.
// Authorization, routing, metrics and audit all use this one reading, so that they cannot disagree.
// Source: kubernetes/apiserver pkg/endpoints/request/requestinfo.go.

import { NetloomError } from '../../api/errors.ts';

export interface RequestInfo {
  readonly isResource: boolean;
  /** get list watch create update patch delete deletecollection; for other paths the lower-case method. */
  readonly verb: string;
  readonly group: string;
  readonly version: string;
  readonly resource: string;
  readonly subresource: string;
  readonly namespace: string;
  readonly name: string;
  /** Path segments after the subresource (proxy), raw and with a leading '/'; '' when there are none. */
  readonly rest: string;
  readonly path: string;
}

const namespaceSubresources = new Set(['status', 'finalize']);
const verbs: Record<string, string> = { POST: 'create', PUT: 'update', PATCH: 'patch', DELETE: 'delete', GET: 'get', HEAD: 'get' };

/** Reads a path such as /apis/apps/v1/namespaces/shop/deployments/web/scale. Throws BadRequest for names that hide a path. */
export function parseRequestInfo(method: string, path: string, query: URLSearchParams): RequestInfo {
  const parts = path.split('/').slice(1);
  if (parts.at(-1) === '') parts.pop();
  const plain = { group: '', version: '', resource: '', subresource: '', namespace: '', name: '', rest: '', path };
  const isLegacy = parts[0] === 'api' && parts.length >= 3;
  const isGroup = parts[0] === 'apis' && parts.length >= 4;
  if (!isLegacy && !isGroup) return { ...plain, isResource: false, verb: method.toLowerCase() };
  const group = isGroup ? segment(parts[1]) : '';
  const version = segment(parts[isGroup ? 2 : 1]);
  const rest = parts.slice(isGroup ? 3 : 2);
  let namespace = '';
  if (rest[0] === 'namespaces' && rest.length > 1) {
    namespace = segment(rest[1]);
    if (rest.length > 2 && !namespaceSubresources.has(rest[2] ?? '')) rest.splice(0, 2);
  }
  const resource = segment(rest[0]);
  const name = segment(rest[1]);
  const subresource = segment(rest[2]);
  const tail = rest.length > 3 ? `/${rest.slice(3).join('/')}${path.endsWith('/') ? '/' : ''}` : (rest.length === 3 && path.endsWith('/') ? '/' : '');
  const info = { isResource: true, group, version, resource, subresource, namespace, name, rest: tail, path };
  return { ...info, ...verbAndName(method, name, subresource, query) };
}

function verbAndName(method: string, name: string, subresource: string, query: URLSearchParams): { verb: string; name: string } {
  const verb = verbs[method] ?? method.toLowerCase();
  if (name !== '' || (verb !== 'get' && verb !== 'delete')) return { verb, name };
  if (verb === 'delete') return { verb: 'deletecollection', name };
  const isWatch = isTrue(query.get('watch'));
  return { verb: isWatch ? 'watch' : 'list', name: subresource === '' ? nameOfFieldSelector(query.get('fieldSelector')) : '' };
}

/** A selector on one name makes rights on that name enough for list and watch. */
function nameOfFieldSelector(text: string | null): string {
  if (text === null) return '';
  const match = /(?:^|,)metadata\.name={1,2}([^,!=]+)(?:,|$)/.exec(text);
  return match?.[1] ?? '';
}

/** Query booleans: absent, '0' and 'false' are false, all else is true (apimachinery conversion). */
export function isTrue(value: string | null): boolean {
  return value !== null && value !== '0' && value.toLowerCase() !== 'false';
}

/** One decoded path segment. What could turn into another key or path once decoded is refused. */
function segment(text: string | undefined): string {
  if (text === undefined || text === '') return '';
  let decoded: string;
  try { decoded = decodeURIComponent(text); } catch { throw badPath(); }
  if (decoded === '.' || decoded === '..' || /[/\\\0%]/.test(decoded)) throw badPath();
  return decoded;
}

function badPath(): NetloomError {
  return new NetloomError('BadRequest', 'the path holds a segment that cannot be a name: it may not be "." or ".." or contain "/", "\\", "%" or NUL', { source: 'downstream' });
}
