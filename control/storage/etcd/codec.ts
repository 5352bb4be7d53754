// Keys and values in etcd: '/registry/<resource>/<namespace>/<name>' and the object as JSON without resourceVersion, which
// is the mod_revision that etcd gives it. apiVersion, kind and metadata come first in the text, so that reading needs no
// parse: the resourceVersion is put in at a known place.
// Used by ./storage.ts.

import type { KubeObject } from '../../../api/types.ts';
import { StoredObject } from '../stored.ts';

const metadataMark = Buffer.from('"metadata":{');
/** What may stand before the metadata of an object for the mark to be its own and not some inner object's. */
const orderedStart = /^\{("apiVersion":"[^"\\]*",)?("kind":"[^"\\]*",)?$/;

/** Text of an object as it lies in etcd. */
export function encodeValue(object: KubeObject): Buffer {
  const { apiVersion, kind, metadata, ...rest } = object;
  const { resourceVersion: _revision, ...kept } = metadata;
  return Buffer.from(JSON.stringify({ apiVersion, kind, metadata: kept, ...rest }));
}

/** The version that etcd holds, with its revision as resourceVersion. */
export function decodeValue(key: string, revision: number, value: Buffer): StoredObject {
  const at = value.indexOf(metadataMark);
  if (at < 0 || value[at + metadataMark.length] === 0x7d || !orderedStart.test(value.toString('latin1', 0, at))) return decodeSlowly(key, revision, value);
  const cut = at + metadataMark.length;
  // Joined as bytes: a joined string would keep its parts alive beside the whole.
  const json = Buffer.concat([value.subarray(0, cut), Buffer.from(`"resourceVersion":"${revision}",`), value.subarray(cut)]).toString();
  return new StoredObject(key, revision, undefined, json);
}

function decodeSlowly(key: string, revision: number, value: Buffer): StoredObject {
  const { apiVersion, kind, metadata, ...rest } = JSON.parse(value.toString()) as KubeObject;
  const { resourceVersion: _revision, ...kept } = metadata;
  return new StoredObject(key, revision, undefined, JSON.stringify({ apiVersion, kind, metadata: { resourceVersion: String(revision), ...kept }, ...rest }));
}

export function base64(text: string): string { return Buffer.from(text).toString('base64'); }

/** End of the key range of everything that starts with this text: the text with its last byte plus one. */
export function rangeEnd(prefix: string): string {
  const bytes = Buffer.from(prefix);
  bytes[bytes.length - 1] = (bytes[bytes.length - 1] as number) + 1;
  return bytes.toString('base64');
}

/** Resource and key of an etcd key (base64) below `prefix` ('/registry/'); key is '' for our own marks. */
export function splitEtcdKey(encoded: string, prefix: string): { resource: string; key: string } {
  const path = Buffer.from(encoded, 'base64').toString().slice(prefix.length);
  const slash = path.indexOf('/');
  return slash < 0 ? { resource: path, key: '' } : { resource: path.slice(0, slash), key: path.slice(slash + 1) };
}
