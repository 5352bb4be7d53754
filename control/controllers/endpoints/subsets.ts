// Subsets of an Endpoints object: Pods that have the same resolved ports together, ready and not ready apart, at most a
// thousand addresses. Pure.
// Source: kubernetes pkg/controller/endpoint/endpoints_controller.go, pkg/api/v1/endpoints/util.go (RepackSubsets).

import type { EndpointAddress, EndpointSubset, Pod, Service } from '../../../api/types.ts';
import { endpointPorts, familiesOf, hostnameIn, isPodReady, mayBeEndpoint, podIPOf, portsKey } from './pod-endpoint.ts';

interface Draft { ports: NonNullable<EndpointSubset['ports']>; addresses: EndpointAddress[]; notReadyAddresses: EndpointAddress[] }

export interface SubsetsResult { readonly subsets: EndpointSubset[]; readonly isTruncated: boolean }

/** What the Endpoints object of the Service should hold. */
export function makeSubsets(service: Service, pods: readonly Pod[], addressesMax: number, isUsable: (ip: string, pod: Pod) => boolean = () => true): SubsetsResult {
  const family = familiesOf(service)[0] ?? 'IPv4';
  const isAnyPublished = service.spec?.publishNotReadyAddresses === true;
  const drafts = new Map<string, Draft>();
  for (const pod of pods) {
    const ip = mayBeEndpoint(pod, isAnyPublished) ? podIPOf(pod, family) : undefined;
    if (ip === undefined || !isUsable(ip, pod)) continue;
    const ports = endpointPorts(service, pod);
    if (ports.length === 0 && (service.spec?.ports?.length ?? 0) > 0) continue;
    const key = portsKey(ports);
    let draft = drafts.get(key);
    if (draft === undefined) {
      const plain = ports.map((port) => ({ ...(port.name === undefined || port.name === null || port.name === '' ? {} : { name: port.name }), port: port.port ?? 0, protocol: port.protocol ?? ('TCP' as const), ...(port.appProtocol === undefined ? {} : { appProtocol: port.appProtocol }) }));
      drafts.set(key, draft = { ports: plain, addresses: [], notReadyAddresses: [] });
    }
    (isAnyPublished || isPodReady(pod) ? draft.addresses : draft.notReadyAddresses).push(addressOf(service, pod, ip));
  }
  const ordered = [...drafts.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, draft]) => draft);
  const isTruncated = truncate(ordered, addressesMax);
  return { subsets: ordered.filter((draft) => draft.addresses.length + draft.notReadyAddresses.length > 0).map(subsetOf), isTruncated };
}

function addressOf(service: Service, pod: Pod, ip: string): EndpointAddress {
  const { namespace, name, uid } = pod.metadata;
  const hostname = hostnameIn(service, pod);
  const nodeName = pod.spec?.nodeName;
  return {
    ip, ...(hostname === undefined ? {} : { hostname }), ...(nodeName === undefined || nodeName === '' ? {} : { nodeName }),
    targetRef: { kind: 'Pod', ...(namespace === undefined ? {} : { namespace }), name, ...(uid === undefined ? {} : { uid }) },
  };
}

function subsetOf(draft: Draft): EndpointSubset {
  const byIP = (a: EndpointAddress, b: EndpointAddress): number => (a.ip < b.ip ? -1 : a.ip > b.ip ? 1 : 0);
  return {
    ...(draft.addresses.length === 0 ? {} : { addresses: draft.addresses.sort(byIP) }),
    ...(draft.notReadyAddresses.length === 0 ? {} : { notReadyAddresses: draft.notReadyAddresses.sort(byIP) }),
    ...(draft.ports.length === 0 ? {} : { ports: draft.ports }),
  };
}

/** Ready addresses are kept before others; each subset loses its share. */
function truncate(drafts: readonly Draft[], max: number): boolean {
  let ready = 0;
  let others = 0;
  for (const draft of drafts) { ready += draft.addresses.length; others += draft.notReadyAddresses.length; }
  if (ready + others <= max) return false;
  const keepReady = Math.min(ready, max);
  const keepOthers = max - keepReady;
  cut(drafts.map((draft) => draft.addresses), ready, keepReady);
  cut(drafts.map((draft) => draft.notReadyAddresses), others, keepOthers);
  return true;
}

function cut(lists: readonly EndpointAddress[][], total: number, keep: number): void {
  let left = keep;
  let rest = total;
  for (const list of lists) {
    const share = rest === 0 ? 0 : Math.min(list.length, Math.round((list.length / rest) * left));
    rest -= list.length;
    list.length = share;
    left -= share;
  }
}
