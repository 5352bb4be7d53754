// Errors of routing, in Kubernetes' words.

import { NetloomError } from '../../api/errors.ts';

/** 404 of a path that is nothing here. */
export function noSuchPath(): NetloomError {
  return new NetloomError('NotFound', 'the server could not find the requested resource', { source: 'downstream', details: {} });
}

/** 405 of a verb that the resource does not have. */
export function methodNotAllowed(info: { group: string; resource: string }): NetloomError {
  return new NetloomError('MethodNotAllowed', 'the server does not allow this method on the requested resource', { source: 'downstream', details: { group: info.group, kind: info.resource } });
}

/** 400 with the request's own fault. */
export function badRequest(message: string): NetloomError { return new NetloomError('BadRequest', message, { source: 'downstream' }); }
