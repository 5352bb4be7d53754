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
  await writeApiEndpoints(client, addresses);
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

/** Servers that listen on the same port share a slice; `kubernetes` is the one of the lowest port. */
async function writeApiEndpoints(client: ApiClient, servers: readonly { address: string; port: number }[]): Promise<void> {
  const family = familyOf(servers[0]?.address ?? '');
  const byPort = new Map<number, string[]>();
  for (const { address, port } of servers) if (familyOf(address) === family) byPort.set(port, [...(byPort.get(port) ?? []), address]);
  const groups = [...byPort].sort(([a], [b]) => a - b).map(([port, addresses]) => ({ port, addresses: [...new Set(addresses)].sort() }));
  const wanted = new Set<string>();
  for (const [index, { port, addresses }] of groups.entries()) {
    const name = index === 0 ? 'kubernetes' : `kubernetes-${port}`;
    wanted.add(name);
    const endpoints = addresses.map((ip): SliceEndpoint => ({ addresses: [ip], conditions: { ready: true } }));
    await writeSlice(client, 'default', name, { [labels.serviceName]: 'kubernetes' }, family, endpoints, [{ name: 'https', port, protocol: 'TCP' }]);
  }
  const existing = await client.list<EndpointSlice>(resources.endpointslices, 'default', { labelSelector: `${labels.serviceName}=kubernetes` });
  for (const { metadata } of existing.items) if (/^kubernetes-\d+$/.test(metadata.name) && !wanted.has(metadata.name)) await client.delete(resources.endpointslices, 'default', metadata.name).catch((error: unknown) => { if (!isNotFound(error)) throw error; });
  const subsets = groups.map(({ port, addresses }) => ({ addresses: addresses.map((ip) => ({ ip })), ports: [{ name: 'https', port, protocol: 'TCP' as const }] }));
  await upsert<Endpoints>(client, resources.endpoints, 'default', 'kubernetes', (old) => ({ metadata: { ...old?.metadata, name: 'kubernetes', namespace: 'default', labels: { [labels.skipMirror]: 'true' } }, subsets }));
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
