// The running process's side of `netloom explain`: answers from the very snapshots that serve traffic.

import { NetloomError } from '../api/errors.ts';
import type { Stack } from './stack.ts';

/** `what` is svc, ingress or dns. Throws BadRequest for anything else. */
export function explainLive(stack: Stack, what: string, query: URLSearchParams): unknown {
  const name = query.get('name') ?? '';
  if (what === 'svc') return explainService(stack, query.get('namespace') ?? 'default', name);
  if (what === 'dns') {
    const dns = stack.dns as { explain?: (name: string, from?: string) => unknown } | undefined;
    return dns?.explain?.(name, query.get('from') ?? undefined) ?? { error: 'DNS does not run in this process' };
  }
  if (what === 'ingress') {
    const ingress = stack.ingress as { explain?: (url: string) => unknown } | undefined;
    return ingress?.explain?.(name) ?? { error: 'the Ingress controller does not run in this process' };
  }
  throw new NetloomError('BadRequest', `cannot explain "${what}"`, { source: 'downstream' });
}

function explainService(stack: Stack, namespace: string, name: string): unknown {
  const info = stack.view?.get(`${namespace}/${name}`);
  if (info === undefined) return { error: `no Service ${namespace}/${name}`, similar: nearest(`${namespace}/${name}`, [...(stack.view?.keys() ?? [])]) };
  const selector = info.service.spec?.selector;
  const pods = [...(stack.informers?.pods.store.values() ?? [])].filter((pod) => pod.metadata.namespace === namespace);
  const selected = selector === undefined ? [] : pods.filter((pod) => Object.entries(selector).every(([key, value]) => pod.metadata.labels?.[key] === value));
  return {
    service: info.key, type: info.service.spec?.type, externalName: info.service.spec?.externalName, clusterIPs: info.clusterIPs, selector, isProxied: info.isProxied,
    internalTrafficPolicy: info.internalPolicyLocal ? 'Local' : 'Cluster', externalTrafficPolicy: info.externalPolicyLocal ? 'Local' : 'Cluster',
    affinityTimeoutSeconds: info.affinityTimeoutSeconds,
    ports: info.ports.map((port) => ({ name: port.portName, protocol: port.protocol, port: port.port, nodePort: port.nodePort, targetPort: port.targetPort, endpoints: [...port.endpoints.IPv4, ...port.endpoints.IPv6] })),
    pods: selected.map((pod) => ({
      name: pod.metadata.name, phase: pod.status?.phase, ip: pod.status?.podIP,
      ready: pod.status?.conditions?.find((condition) => condition.type === 'Ready')?.status === 'True',
      reason: pod.status?.containerStatuses?.flatMap((status) => [status.state?.waiting?.reason ?? status.state?.terminated?.reason ?? []].flat()).join(', ') || (pod.status?.conditions?.find((condition) => condition.type === 'Ready')?.message ?? ''),
    })),
    similarPods: selected.length > 0 || selector === undefined ? [] : pods.filter((pod) => Object.keys(selector).some((key) => pod.metadata.labels?.[key] !== undefined)).map((pod) => `${pod.metadata.name} has ${Object.keys(selector).map((key) => `${key}=${pod.metadata.labels?.[key] ?? ''}`).join(',')}`).slice(0, 5),
  };
}

/** Up to three names within a small edit distance. */
export function nearest(wanted: string, names: readonly string[]): string[] {
  return names.map((name) => ({ name, distance: editDistance(wanted, name) })).filter((item) => item.distance <= Math.max(2, wanted.length / 4))
    .sort((a, b) => a.distance - b.distance).slice(0, 3).map((item) => item.name);
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) next[j] = Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1));
    row = next;
  }
  return row[b.length] ?? 0;
}
