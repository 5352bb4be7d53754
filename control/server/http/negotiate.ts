// Reads the Accept header: which of the answer forms that we have does the client like best. Protobuf is never
// produced; every client that asks for it also takes JSON.
// Source: Kubernetes API concepts "Receiving resources as Tables", apimachinery negotiation.

import { NetloomError } from '../../../api/errors.ts';

/** `object` as stored, `table` for humans, `metadata` = PartialObjectMetadata. */
export interface Negotiated { readonly form: 'object' | 'table' | 'metadata'; readonly version: 'v1' | 'v1beta1'; readonly mediaType: 'application/json' | 'application/yaml' }

const plain: Negotiated = Object.freeze({ form: 'object', version: 'v1', mediaType: 'application/json' });
const known = new Map<string, Negotiated>();
const knownMax = 256;

/** Throws NotAcceptable. Results are kept per header text, which are few. */
export function negotiate(accept: string | undefined): Negotiated {
  if (accept === undefined || accept === '' || accept === 'application/json' || accept === '*/*') return plain;
  const found = known.get(accept);
  if (found !== undefined) return found;
  const made = read(accept);
  if (known.size < knownMax) known.set(accept, made);
  return made;
}

function read(accept: string): Negotiated {
  const ranges = accept.split(',').map((part, index) => {
    const [type = '', ...parameters] = part.split(';').map((word) => word.trim());
    const fields = new Map(parameters.map((parameter) => { const at = parameter.indexOf('='); return [parameter.slice(0, at), parameter.slice(at + 1)] as const; }));
    return { type: type.toLowerCase(), fields, quality: Number(fields.get('q') ?? 1), index };
  });
  ranges.sort((a, b) => b.quality - a.quality || a.index - b.index);
  for (const { type, fields, quality } of ranges) {
    if (quality === 0) continue;
    const mediaType = type === 'application/yaml' ? 'application/yaml' : type === 'application/json' || type === '*/*' || type === 'application/*' ? 'application/json' : undefined;
    if (mediaType === undefined) continue;
    const as = fields.get('as');
    const version = fields.get('v') === 'v1beta1' ? 'v1beta1' : 'v1';
    if (as === undefined) return { form: 'object', version: 'v1', mediaType };
    if (as === 'Table') return { form: 'table', version, mediaType };
    if (as === 'PartialObjectMetadata' || as === 'PartialObjectMetadataList') return { form: 'metadata', version, mediaType };
  }
  throw new NetloomError('NotAcceptable', 'only the following media types are accepted: application/json, application/yaml', { source: 'downstream' });
}
