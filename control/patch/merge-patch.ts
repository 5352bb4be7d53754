// JSON merge patch (RFC 7386), used for `application/merge-patch+json`. Called by the API server's PATCH. Pure: neither argument is
// changed; `__proto__` in a patch becomes an ordinary own key, which decoding then prunes or refuses.

import { cloneJson, isRecord, setKey } from '../schema/schema.ts';

/** The merged value. Null removes a key, lists are replaced whole. Cost O(size of both). */
export function mergePatch(original: unknown, patch: unknown): unknown {
  if (!isRecord(patch)) return cloneJson(patch);
  const source = isRecord(original) ? original : {};
  const out: Record<string, unknown> = {};
  for (const key of Object.keys(source)) if (!Object.hasOwn(patch, key)) setKey(out, key, cloneJson(source[key]));
    else if (patch[key] !== null) setKey(out, key, mergePatch(source[key], patch[key]));
  for (const key of Object.keys(patch)) if (!Object.hasOwn(source, key) && patch[key] !== null) setKey(out, key, mergePatch(undefined, patch[key]));
  return out;
}
