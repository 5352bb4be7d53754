// Reads the object in a request's body: limits, decoding, strictness, the version it is stored in.

import type { KubeObject } from '../../../api/types.ts';
import { groupVersion } from '../../resources.ts';
import { decodeBody } from '../../schema/decode.ts';
import type { RequestContext } from '../context.ts';
import { toStored } from '../conversion.ts';
import type { WriteOptions } from './write-options.ts';

/** Body of a request, before decoding (kube-apiserver's limit). */
export const bodyBytesMax = 3 * 1024 * 1024;

/** Decodes the body as the resource's kind; warnings about unknown fields go to the answer. */
export async function readObject(context: RequestContext, options: Pick<WriteOptions, 'fieldValidation'>, expect?: { apiVersion: string; kind: string }): Promise<KubeObject> {
  const { exchange, resource, server } = context;
  const bytes = await exchange.readBody(bodyBytesMax);
  const wanted = expect ?? { apiVersion: groupVersion(resource), kind: resource.kind };
  const { object, warnings } = decodeBody(bytes, exchange.headers['content-type'], {
    strict: options.fieldValidation, expect: wanted, ...(expect === undefined && resource.crdName !== undefined ? { schemaOf: () => server.hooks.schemaOf(resource) } : {}),
  });
  context.warnings.push(...warnings);
  return object;
}

/** The received object in the version in which its kind is stored. */
export function storedForm(context: Pick<RequestContext, 'server' | 'resource'>, object: KubeObject): KubeObject {
  const definition = context.server.registry.definition(context.resource);
  return toStored(object, context.resource, definition?.spec.versions.find((version) => version.storage)?.name);
}
