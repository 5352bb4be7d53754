// Servers that share a store must share their authorities and token key, or a client of one is a stranger to the other.
// They are kept in the store beside the objects, in a collection that the API does not serve.

import { generateKeyPairSync } from 'node:crypto';
import type { Clock } from '../api/clock.ts';
import { isAlreadyExists } from '../api/errors.ts';
import type { KubeObject } from '../api/types.ts';
import { createAuthority, type SharedKeys } from './certificates.ts';
import type { Storage } from './storage/store.ts';

const collection = 'keys.netloom.dev';
const key = 'cluster';
interface StoredKeys extends KubeObject { keys: SharedKeys }

/** The cluster's keys; the first server makes them. */
export async function sharedKeys(storage: Storage, clock: Clock): Promise<SharedKeys> {
  const present = storage.get(collection, key)?.object as StoredKeys | undefined;
  if (present !== undefined) return present.keys;
  const nowMs = clock.nowMs();
  const keys: SharedKeys = {
    serverAuthority: createAuthority('netloom-ca', nowMs), clientAuthority: createAuthority('netloom-client-ca', nowMs),
    tokenKeyPem: generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
  };
  const object: StoredKeys = { apiVersion: 'netloom.dev/v1', kind: 'Keys', metadata: { name: key }, keys };
  try {
    await storage.create(collection, key, object);
    return keys;
  } catch (error) {
    if (!isAlreadyExists(error)) throw error;
    await storage.waitFor(await storage.consistentRevision(), 5_000);
    return (storage.get(collection, key)?.object as StoredKeys).keys;
  }
}
