// How endpoints are packed into EndpointSlices with as few writes as possible: endpoints stay in the slice they are in;
// new ones go first into slices that change anyway, then into the fullest unchanged slice that takes them all, else
// into a new one; a slice about to be deleted is reused instead of creating one. Never a global rebalancing. Pure.
// Source: kubernetes staging/src/k8s.io/endpointslice/reconciler.go (reconcileByPortMapping, finalize).

import type { EndpointSlice, IPFamily, SliceEndpoint, SlicePort } from '../../../api/types.ts';
import { portsKey } from './pod-endpoint.ts';

/** Endpoints that have the same resolved ports. */
export interface EndpointGroup { readonly ports: readonly SlicePort[]; readonly endpoints: readonly SliceEndpoint[] }

export interface PlanInput {
  readonly family: IPFamily;
  readonly groups: Iterable<EndpointGroup>;
  /** The slices of this family that the caller manages. */
  readonly existing: readonly EndpointSlice[];
  readonly endpointsMax: number;
  readonly labels: Readonly<Record<string, string>>;
  /** Whether an empty slice stands for a Service without endpoints. */
  readonly hasPlaceholder: boolean;
}

/** A slice to create; the caller adds metadata. */
export interface NewSlice { readonly addressType: IPFamily; readonly ports: readonly SlicePort[]; readonly endpoints: readonly SliceEndpoint[] }
export interface SlicePlan { create: NewSlice[]; update: EndpointSlice[]; remove: EndpointSlice[] }

interface Draft { slice: EndpointSlice | undefined; ports: readonly SlicePort[]; endpoints: SliceEndpoint[] }

/** The writes that lead from `existing` to `groups`. */
export function planSlices(input: PlanInput): SlicePlan {
  const byPorts = new Map<string, EndpointSlice[]>();
  for (const slice of input.existing) {
    const key = portsKey(slice.ports ?? []);
    const list = byPorts.get(key);
    if (list === undefined) byPorts.set(key, [slice]); else list.push(slice);
  }
  const changed: Draft[] = [];
  const remove: EndpointSlice[] = [];
  let keptCount = 0;
  for (const group of input.groups) {
    const key = portsKey(group.ports);
    const result = planGroup(group, byPorts.get(key) ?? [], input);
    byPorts.delete(key);
    changed.push(...result.changed);
    remove.push(...result.remove);
    keptCount += result.keptCount;
  }
  for (const slices of byPorts.values()) remove.push(...slices);
  if (input.hasPlaceholder && keptCount === 0 && changed.length === 0) keepPlaceholder(changed, remove, input);
  return finish(changed, remove, input);
}

function planGroup(group: EndpointGroup, existing: readonly EndpointSlice[], input: PlanInput): { changed: Draft[]; remove: EndpointSlice[]; keptCount: number } {
  const wanted = new Map(group.endpoints.map((endpoint) => [identityOf(endpoint), endpoint]));
  const changed: Draft[] = [];
  const unchanged: Draft[] = [];
  const remove: EndpointSlice[] = [];
  for (const slice of existing) {
    const { endpoints, isChanged } = keepWanted(slice, wanted);
    if (endpoints.length === 0) remove.push(slice);
    else (isChanged || endpoints.length > input.endpointsMax || !hasLabels(slice, input.labels) ? changed : unchanged).push({ slice, ports: slice.ports ?? [], endpoints });
  }
  for (const draft of changed) for (const endpoint of draft.endpoints.splice(input.endpointsMax)) wanted.set(identityOf(endpoint), endpoint);
  const left = [...wanted.values()];
  changed.sort((a, b) => b.endpoints.length - a.endpoints.length);
  for (const draft of changed) while (left.length > 0 && draft.endpoints.length < input.endpointsMax) draft.endpoints.push(left.shift() as SliceEndpoint);
  while (left.length > 0) {
    const fitting = left.length < input.endpointsMax ? fullestWithRoom(unchanged, left.length, input.endpointsMax) : undefined;
    const draft = fitting ?? { slice: undefined, ports: group.ports, endpoints: [] };
    if (fitting !== undefined) unchanged.splice(unchanged.indexOf(fitting), 1);
    draft.endpoints.push(...left.splice(0, input.endpointsMax - draft.endpoints.length));
    changed.push(draft);
  }
  return { changed, remove, keptCount: unchanged.length };
}

/** The endpoints of a slice that are still wanted, in their order and new state; takes them out of `wanted`. */
function keepWanted(slice: EndpointSlice, wanted: Map<string, SliceEndpoint>): { endpoints: SliceEndpoint[]; isChanged: boolean } {
  const endpoints: SliceEndpoint[] = [];
  let isChanged = false;
  for (const endpoint of slice.endpoints ?? []) {
    const identity = identityOf(endpoint);
    const next = wanted.get(identity);
    if (next === undefined) { isChanged = true; continue; }
    wanted.delete(identity);
    endpoints.push(next);
    if (!isSameEndpoint(next, endpoint)) isChanged = true;
  }
  return { endpoints, isChanged };
}

function fullestWithRoom(drafts: readonly Draft[], count: number, max: number): Draft | undefined {
  let best: Draft | undefined;
  for (const draft of drafts) if (draft.endpoints.length + count <= max && (best === undefined || draft.endpoints.length > best.endpoints.length)) best = draft;
  return best;
}

/** A Service without endpoints has one empty slice without ports, the one it has if possible. */
function keepPlaceholder(changed: Draft[], remove: EndpointSlice[], input: PlanInput): void {
  const index = remove.findIndex((slice) => (slice.endpoints?.length ?? 0) === 0 && (slice.ports?.length ?? 0) === 0);
  const [slice] = index < 0 ? [] : remove.splice(index, 1);
  if (slice === undefined || !hasLabels(slice, input.labels)) changed.push({ slice, ports: [], endpoints: [] });
}

/** Slices that would be deleted are given the content of slices that would be created. */
function finish(changed: readonly Draft[], remove: EndpointSlice[], input: PlanInput): SlicePlan {
  const plan: SlicePlan = { create: [], update: [], remove };
  for (const { slice, ports, endpoints } of changed) {
    const reused = slice ?? takeReusable(remove);
    if (reused === undefined) plan.create.push({ addressType: input.family, ports, endpoints });
    else plan.update.push({ ...reused, metadata: { ...reused.metadata, labels: { ...input.labels } }, ports: [...ports], endpoints });
  }
  return plan;
}

function takeReusable(remove: EndpointSlice[]): EndpointSlice | undefined {
  const index = remove.findIndex((slice) => slice.metadata.deletionTimestamp === undefined);
  return index < 0 ? undefined : remove.splice(index, 1)[0];
}

/** An endpoint keeps its place as long as address and Pod are the same. */
export function identityOf(endpoint: SliceEndpoint): string {
  return `${endpoint.addresses[0] ?? ''} ${endpoint.targetRef?.uid ?? endpoint.targetRef?.name ?? ''}`;
}

function isSameEndpoint(a: SliceEndpoint, b: SliceEndpoint): boolean {
  return a.nodeName === b.nodeName && a.zone === b.zone && a.hostname === b.hostname
    && (a.conditions?.ready ?? true) === (b.conditions?.ready ?? true) && a.conditions?.serving === b.conditions?.serving && a.conditions?.terminating === b.conditions?.terminating
    && a.targetRef?.name === b.targetRef?.name && isSameList(a.addresses, b.addresses) && hintsKey(a) === hintsKey(b);
}

function hintsKey(endpoint: SliceEndpoint): string {
  const { hints } = endpoint;
  return hints === undefined ? '' : `${hints.forZones?.map(({ name }) => name).join() ?? ''};${hints.forNodes?.map(({ name }) => name).join() ?? ''}`;
}

function isSameList(a: readonly string[], b: readonly string[]): boolean { return a.length === b.length && a.every((item, index) => item === b[index]); }

function hasLabels(slice: EndpointSlice, wanted: Readonly<Record<string, string>>): boolean {
  const have = slice.metadata.labels ?? {};
  const names = Object.keys(wanted);
  return names.length === Object.keys(have).length && names.every((name) => have[name] === wanted[name]);
}
