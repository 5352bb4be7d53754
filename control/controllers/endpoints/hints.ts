// Which zones and nodes should use which endpoint. trafficDistribution is simple: everyone prefers what is close to
// them. The older annotation topology-mode: Auto shares endpoints out by the CPU of each zone, and does so for all
// endpoints or for none. Pure.
// Source: kubernetes staging/src/k8s.io/endpointslice/{trafficdist,topologycache}, KEP-2433, KEP-4444, KEP-3015.

import { annotations, labels } from '../../../api/meta.ts';
import type { Node, Service, SliceEndpoint } from '../../../api/types.ts';
import { conditionOf } from './pod-endpoint.ts';

/** An endpoint may get at most this much more than its fair load. */
const overloadMax = 0.2;

/** Share of the cluster's CPU that each zone has, and why there are no shares when there are none. */
export interface ZoneShares { readonly shares: ReadonlyMap<string, number> | undefined; readonly why: string }

/** Whether the Service asks for hints by annotation; it outranks trafficDistribution. */
export function isTopologyAuto(service: Service): boolean {
  const mode = service.metadata.annotations?.[annotations.topologyMode] ?? service.metadata.annotations?.['service.kubernetes.io/topology-aware-hints'];
  return mode === 'Auto' || mode === 'auto';
}

/** Sets hints on the endpoints of one family. Returns why topology-mode could not be kept, or '' . */
export function setHints(service: Service, endpoints: readonly SliceEndpoint[], zones: () => ZoneShares): string {
  for (const endpoint of endpoints) delete endpoint.hints;
  if (isTopologyAuto(service)) return shareOut(endpoints, zones());
  const distribution = service.spec?.trafficDistribution;
  const isByNode = distribution === 'PreferSameNode';
  if (!isByNode && distribution !== 'PreferClose' && distribution !== 'PreferSameZone') return '';
  for (const endpoint of endpoints) {
    if (endpoint.conditions?.ready !== true) continue;
    const forZones = endpoint.zone === undefined ? undefined : [{ name: endpoint.zone }];
    const forNodes = isByNode && endpoint.nodeName !== undefined ? [{ name: endpoint.nodeName }] : undefined;
    if (forZones !== undefined || forNodes !== undefined) endpoint.hints = { ...(forZones === undefined ? {} : { forZones }), ...(forNodes === undefined ? {} : { forNodes }) };
  }
  return '';
}

/** CPU shares of the zones of ready nodes; needs every such node to have a zone and allocatable CPU, and two zones. */
export function zoneShares(nodes: Iterable<Node>): ZoneShares {
  const cpuByZone = new Map<string, number>();
  let total = 0;
  for (const node of nodes) {
    if (node.metadata.labels?.['node-role.kubernetes.io/control-plane'] !== undefined || conditionOf(node, 'Ready')?.status !== 'True') continue;
    const zone = node.metadata.labels?.[labels.zone];
    const cpu = parseCpu(node.status?.allocatable?.['cpu']);
    if (zone === undefined || zone === '') return { shares: undefined, why: `node ${node.metadata.name} has no zone` };
    if (cpu === 0) return { shares: undefined, why: `node ${node.metadata.name} has no allocatable CPU` };
    cpuByZone.set(zone, (cpuByZone.get(zone) ?? 0) + cpu);
    total += cpu;
  }
  if (cpuByZone.size < 2) return { shares: undefined, why: 'there are fewer than two zones' };
  return { shares: new Map([...cpuByZone].map(([zone, cpu]) => [zone, cpu / total])), why: '' };
}

/** Milli-CPUs of a quantity such as `4` or `3900m`. */
function parseCpu(text: string | undefined): number {
  if (text === undefined) return 0;
  const value = text.endsWith('m') ? Number(text.slice(0, -1)) : Number(text) * 1000;
  return Number.isFinite(value) && value > 0 ? value : 0;
}

function shareOut(endpoints: readonly SliceEndpoint[], { shares, why }: ZoneShares): string {
  if (shares === undefined) return why;
  const ready = endpoints.filter((endpoint) => endpoint.conditions?.ready === true);
  if (ready.length < shares.size) return 'there are fewer ready endpoints than zones';
  if (ready.some((endpoint) => endpoint.zone === undefined)) return 'an endpoint has no zone';
  const least = leastCounts(shares, ready.length);
  if (least === undefined) return 'endpoints are too few to be shared out by CPU';
  const byZone = new Map<string, SliceEndpoint[]>();
  for (const endpoint of ready) byZone.set(endpoint.zone as string, [...(byZone.get(endpoint.zone as string) ?? []), endpoint]);
  const spare: SliceEndpoint[] = [];
  for (const [zone, list] of byZone) if (!shares.has(zone)) spare.push(...list.splice(0));
  const short: string[] = [];
  for (const [zone, wanted] of least) {
    const list = byZone.get(zone) ?? [];
    list.forEach((endpoint, index) => {
      if (index < wanted) endpoint.hints = { forZones: [{ name: zone }] };
      else spare.push(endpoint);
    });
    for (let missing = list.length; missing < wanted; missing++) short.push(zone);
  }
  for (const zone of short) {
    const endpoint = spare.shift();
    if (endpoint !== undefined) endpoint.hints = { forZones: [{ name: zone }] };
  }
  for (const endpoint of spare) endpoint.hints = { forZones: [{ name: shares.has(endpoint.zone as string) ? endpoint.zone as string : shares.keys().next().value as string }] };
  return '';
}

/** Endpoints that each zone must have so that none of them is overloaded; undefined when that needs more than there are. */
function leastCounts(shares: ReadonlyMap<string, number>, count: number): Map<string, number> | undefined {
  const least = new Map<string, number>();
  let total = 0;
  for (const [zone, share] of shares) {
    const wanted = share * count;
    const needed = Math.max(1, Math.ceil(wanted / (1 + overloadMax)));
    least.set(zone, needed);
    total += needed;
  }
  return total > count ? undefined : least;
}
