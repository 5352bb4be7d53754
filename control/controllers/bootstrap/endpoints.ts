// The API server's own address behind default/kubernetes: no Pod stands there, so the server writes it itself.
// Several API servers share default/kubernetes: each keeps a Lease, the ones with a live Lease are the endpoints.
// Source: kubernetes pkg/controlplane/reconcilers (lease reconciler).

import { familyOf } from '../../../api/address.ts';
import type { ApiClient } from '../../../api/client.ts';
import { formatMicroTime, type Clock } from '../../../api/clock.ts';
import { isAlreadyExists, isConflict, isNotFound } from '../../../api/errors.ts';
import { labels } from '../../../api/meta.ts';
import { resources, type ResourceRef } from '../../../api/resources.ts';
import type { Endpoints, EndpointSlice, KubeObject, Lease, SliceEndpoint, SlicePort } from '../../../api/types.ts';

const leaseNamespace = 'kube-system';
const leaseLabel = 'apiserver.netloom.dev/identity';
const leaseSeconds = 15;
const conflictTries = 5;

export interface ApiServerEndpoint { identity: string; address: string; port: number }

/** Renews this server's Lease and writes the endpoints of default/kubernetes. Call it at start and every few seconds. */
export async function publishApiServer(client: ApiClient, clock: Clock, own: ApiServerEndpoint): Promise<void> {
  await renewLease(client, clock, own);
  const leases = await client.list<Lease>(resources.leases, leaseNamespace, { labelSelector: leaseLabel });
  const alive = leases.items.filter((lease) => lease.metadata.name === leaseName(own) || clock.nowMs() - Date.parse(lease.spec?.renewTime ?? '') < leaseSeconds * 1000);
  const addresses = alive.map((lease) => lease.metadata.annotations?.[leaseLabel] ?? '').filter((text) => text !== '').map((text) => JSON.parse(text) as { address: string; port: number });
  await writeApiEndpoints(client, addresses.filter((each) => each.port === own.port).map((each) => each.address).sort(), own.port);
}

/** Ends this server's Lease, so that the others drop its address at their next renewal. */
export async function withdrawApiServer(client: ApiClient, own: ApiServerEndpoint): Promise<void> {
  try { await client.delete(resources.leases, leaseNamespace, leaseName(own)); } catch (error) { if (!isNotFound(error)) throw error; }
}

const leaseName = (own: ApiServerEndpoint): string => `apiserver-${own.identity}`;

async function renewLease(client: ApiClient, clock: Clock, own: ApiServerEndpoint): Promise<void> {
  await upsert<Lease>(client, resources.leases, leaseNamespace, leaseName(own), (old) => ({
    metadata: { ...old?.metadata, name: leaseName(own), namespace: leaseNamespace, labels: { [leaseLabel]: own.identity }, annotations: { [leaseLabel]: JSON.stringify({ address: own.address, port: own.port }) } },
    spec: { holderIdentity: own.identity, leaseDurationSeconds: leaseSeconds, renewTime: formatMicroTime(clock.nowMs()) },
  }));
}

async function writeApiEndpoints(client: ApiClient, addresses: readonly string[], port: number): Promise<void> {
  const family = familyOf(addresses[0] ?? '');
  const own = addresses.filter((address) => familyOf(address) === family);
  const endpoints = own.map((ip): SliceEndpoint => ({ addresses: [ip], conditions: { ready: true } }));
  const metadata = { name: 'kubernetes', namespace: 'default' };
  await writeSlice(client, 'default', 'kubernetes', { [labels.serviceName]: 'kubernetes' }, family, endpoints, [{ name: 'https', port, protocol: 'TCP' }]);
  await upsert<Endpoints>(client, resources.endpoints, 'default', 'kubernetes', (old) => ({
    metadata: { ...old?.metadata, ...metadata, labels: { [labels.skipMirror]: 'true' } }, subsets: [{ addresses: own.map((ip) => ({ ip })), ports: [{ name: 'https', port, protocol: 'TCP' }] }],
  }));
}

async function writeSlice(client: ApiClient, namespace: string, name: string, sliceLabels: Record<string, string>, addressType: 'IPv4' | 'IPv6', endpoints: SliceEndpoint[], ports: SlicePort[]): Promise<void> {
  const old = await getOrNone<EndpointSlice>(client, resources.endpointslices, namespace, name);
  if (old !== undefined && old.addressType !== addressType) await client.delete(resources.endpointslices, namespace, name);
  await upsert<EndpointSlice>(client, resources.endpointslices, namespace, name, (live) => ({ metadata: { ...live?.metadata, name, namespace, labels: sliceLabels }, addressType, endpoints, ports }));
}

async function getOrNone<T extends KubeObject>(client: ApiClient, resource: ResourceRef, namespace: string, name: string): Promise<T | undefined> {
  try { return await client.get<T>(resource, namespace, name); } catch (error) { if (isNotFound(error)) return undefined; throw error; }
}

/** Create or update; `make` gets the live object and returns the whole new one. */
async function upsert<T extends KubeObject>(client: ApiClient, resource: ResourceRef, namespace: string, name: string, make: (old: T | undefined) => T): Promise<void> {
  for (let tries = 1; ; tries++) {
    const old = await getOrNone<T>(client, resource, namespace, name);
    try {
      if (old === undefined) await client.create<T>(resource, namespace, make(undefined));
      else await client.update<T>(resource, make(old));
      return;
    } catch (error) { if (tries === conflictTries || !(isConflict(error) || isAlreadyExists(error) || isNotFound(error))) throw error; }
  }
}
