// `kubectl --as`: a caller who may `impersonate` acts as another user. Every identity that is asked for (user, each
// group, uid, each extra value) needs its own right; without all of them the request is refused, never served as the caller.
// Source: kubernetes.io "User impersonation"; apiserver pkg/endpoints/filters/impersonation.go.

import { NetloomError } from '../../../api/errors.ts';
import type { Headers } from '../http/exchange.ts';
import { forbidden, type Attributes, type Authorizer } from './authorizer.ts';
import { anonymous, groupAuthenticated, groupServiceAccounts, groupUnauthenticated, serviceAccountUserPrefix, type UserInfo } from './user.ts';

const extraPrefix = 'impersonate-extra-';
/** Groups and extra values asked for at once. */
const identitiesMax = 100;

/** The user as whom the request is served: the caller, or who they may act as. Throws Forbidden, BadRequest. */
export function impersonated(user: UserInfo, headers: Headers, authorizer: Authorizer): UserInfo {
  const username = headers['impersonate-user'];
  const groups = list(headers['impersonate-group']);
  const uid = headers['impersonate-uid'];
  const extraNames = Object.keys(headers).filter((name) => name.startsWith(extraPrefix));
  if (username === undefined || username === '') {
    if (headers['impersonate-group'] === undefined && uid === undefined && extraNames.length === 0 && username === undefined) return user;
    throw new NetloomError('BadRequest', 'groups, uid and extra values can only be impersonated together with a user', { source: 'downstream' });
  }
  const check = (resource: string, name: string, more: Partial<Attributes> = {}): void => {
    const attributes: Attributes = { isResource: true, path: '', verb: 'impersonate', group: '', resource, subresource: '', namespace: '', name, ...more };
    if (!authorizer.isAllowed(user, attributes)) throw forbidden(user, attributes);
  };
  const account = accountOf(username);
  if (account === undefined) check('users', username); else check('serviceaccounts', account.name, { namespace: account.namespace });
  for (const group of groups) check('groups', group);
  const authentication = { group: 'authentication.k8s.io' };
  if (uid !== undefined) check('uids', uid, authentication);
  const extra: Record<string, readonly string[]> = Object.create(null) as Record<string, readonly string[]>;
  let count = groups.length;
  for (const header of extraNames) {
    const key = decode(header.slice(extraPrefix.length));
    const values = list(headers[header]);
    count += values.length;
    for (const value of values) check('userextras', value, { ...authentication, subresource: key });
    extra[key] = values;
  }
  if (count > identitiesMax) throw new NetloomError('BadRequest', `more than ${identitiesMax} groups and extra values`, { source: 'downstream' });
  return {
    username, groups: allGroups(username, groups, account), ...(uid === undefined ? {} : { uid }), ...(extraNames.length === 0 ? {} : { extra }),
    method: user.method === 'inProcess' ? 'certificate' : user.method, impersonator: user,
  };
}

function allGroups(username: string, asked: readonly string[], account: { namespace: string } | undefined): readonly string[] {
  const groups = new Set(asked.length === 0 && account !== undefined ? [groupServiceAccounts, `${groupServiceAccounts}:${account.namespace}`] : asked);
  groups.add(username === anonymous.username ? groupUnauthenticated : groupAuthenticated);
  return [...groups];
}

function accountOf(username: string): { namespace: string; name: string } | undefined {
  if (!username.startsWith(serviceAccountUserPrefix)) return undefined;
  const [namespace, name, more] = username.slice(serviceAccountUserPrefix.length).split(':');
  return namespace === undefined || namespace === '' || name === undefined || name === '' || more !== undefined ? undefined : { namespace, name };
}

/** Fields that came several times arrive joined; every part is checked on its own, so that joining gives no right. */
function list(value: string | undefined): string[] {
  return value === undefined ? [] : value.split(',').map((item) => item.trim()).filter((item) => item !== '');
}

function decode(text: string): string { try { return decodeURIComponent(text); } catch { return text; } }
