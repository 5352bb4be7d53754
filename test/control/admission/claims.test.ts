// Claims on addresses and ports in a store that servers share: what the repair pass does about those that went astray.

import { afterEach, beforeEach, expect, test } from 'vitest';
import { systemClock } from '../../../api/clock.ts';
import { silentLog } from '../../../api/log.ts';
import type { KubeObject } from '../../../api/types.ts';
import { ClaimingWrites, ClaimRepair, claimStorage } from '../../../control/server/verbs/claims.ts';
import { openStorage } from '../../../control/storage/open.ts';
import type { Storage } from '../../../control/storage/store.ts';

let storage: Storage;
beforeEach(async () => { storage = await openStorage({ kind: 'memory', clock: systemClock, log: silentLog }); });
afterEach(() => storage.close());

const service = (name: string, clusterIP: string, nodePort: number): KubeObject =>
  ({ apiVersion: 'v1', kind: 'Service', metadata: { name, namespace: 'shop' }, spec: { clusterIPs: [clusterIP], ports: [{ port: 53, protocol: 'TCP', nodePort }, { port: 53, protocol: 'UDP', nodePort }] } }) as KubeObject;
const claims = (): string[] => storage.list(claimStorage).items.map((item) => item.key);

test('a Service and its claims are one transaction: made, moved and freed together', async () => {
  const writes = new ClaimingWrites(storage, true);
  const made = await writes.create('services', 'shop/a', service('a', '10.96.0.5', 30_053));
  expect(claims()).toEqual(['ip-10.96.0.5', 'port-30053']);
  await expect(writes.create('services', 'shop/b', service('b', '10.96.0.6', 30_053))).rejects.toMatchObject({ code: 'AlreadyExists', details: { kind: 'claims', name: 'port-30053' } });
  expect(storage.get('services', 'shop/b')).toBeUndefined();
  expect(claims()).toEqual(['ip-10.96.0.5', 'port-30053']);
  const moved = await writes.update('services', 'shop/a', service('a', '10.96.0.5', 30_054), made);
  expect(claims()).toEqual(['ip-10.96.0.5', 'port-30054']);
  await writes.delete('services', 'shop/a', moved, moved.object);
  expect(claims()).toEqual([]);
});
test('one server alone makes no claims', async () => {
  await new ClaimingWrites(storage, false).create('services', 'shop/a', service('a', '10.96.0.5', 30_053));
  expect(claims()).toEqual([]);
});
test('repair adds what is missing at once and frees what nobody has after three passes', async () => {
  await storage.create('services', 'shop/a', service('a', '10.96.0.5', 30_053));
  const stray = (name: string, owner: string): KubeObject => ({ apiVersion: 'netloom.dev/v1', kind: 'Claim', metadata: { name }, owner }) as KubeObject;
  await storage.create(claimStorage, 'ip-10.96.0.9', stray('ip-10.96.0.9', 'shop/a'));
  await storage.create(claimStorage, 'port-30100', stray('port-30100', 'shop/gone'));
  const repair = new ClaimRepair(storage);
  await repair.pass();
  await repair.pass();
  expect(claims()).toEqual(['ip-10.96.0.5', 'ip-10.96.0.9', 'port-30053', 'port-30100']);
  await repair.pass();
  expect(claims()).toEqual(['ip-10.96.0.5', 'port-30053']);
});
