// Subresource → handler. What is not here (or not in the kind's row) is 404.

import type { ChainParts } from '../api-server.ts';
import type { RequestContext } from '../context.ts';
import { methodNotAllowed, noSuchPath } from '../errors.ts';
import type { WritePart } from '../verbs/meta.ts';
import { patchObject } from '../verbs/patch.ts';
import { getObject } from '../verbs/read.ts';
import { updateObject } from '../verbs/write.ts';
import { createBinding, createEviction } from './binding.ts';
import { serveScale } from './scale.ts';

const parts: Readonly<Record<string, WritePart>> = { status: 'status', finalize: 'finalize', approval: 'approval', ephemeralcontainers: 'other' };

/** Serves a request to a subresource. */
export async function serveSubresource(context: RequestContext, chain: ChainParts): Promise<void> {
  const { info, resource } = context;
  const row = Object.hasOwn(resource.subresources, info.subresource) ? resource.subresources[info.subresource] : undefined;
  if (row === undefined || info.name === '') throw noSuchPath();
  const part = parts[info.subresource];
  if (part === 'approval') return servePart(context, part).then(() => chain.onApproval(info.name));
  if (part !== undefined) return servePart(context, part);
  switch (info.subresource) {
    case 'scale': return serveScale(context);
    case 'binding': return onlyCreate(context, createBinding);
    case 'eviction': return onlyCreate(context, createEviction);
    case 'token': return onlyCreate(context, chain.createToken);
    case 'log': case 'exec': case 'attach': case 'portforward': return chain.forwardToNode(context);
    case 'proxy': return chain.proxy(context);
    default: throw noSuchPath();
  }
}

function onlyCreate(context: RequestContext, handler: (context: RequestContext) => Promise<void>): Promise<void> {
  if (context.info.verb !== 'create') throw methodNotAllowed(context.info);
  return handler(context);
}

function servePart(context: RequestContext, part: WritePart): Promise<void> {
  switch (context.info.verb) {
    case 'get': return getObject(context);
    case 'update': return updateObject(context, part);
    case 'patch': return patchObject(context, part);
    default: throw methodNotAllowed(context.info);
  }
}
