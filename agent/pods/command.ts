// Pure: what a container runs. Kubernetes' $(VAR) expansion in command and args, and the order in which environment
// variables build on each other. Source: core/v1 Container, "Define Environment Variables", third_party/forked/golang/expansion.

import type { Container, Pod } from '../../api/types.ts';

/** Replaces `$(NAME)` by its value; unknown names stay as written; `$$` is a literal `$`. */
export function expand(text: string, variables: Readonly<Record<string, string>>): string {
  if (!text.includes('$')) return text;
  return text.replace(/\$(?:\$|\(([^()]*)\))/g, (whole, name: string | undefined) => {
    if (name === undefined) return '$';
    return Object.hasOwn(variables, name) ? variables[name] as string : whole;
  });
}

/** argv of a container: command and args, or args alone (`kubectl run NAME --image=x -- PROGRAM`); undefined when both are missing. */
export function commandOf(container: Container, variables: Readonly<Record<string, string>>): string[] | undefined {
  const argv = [...(container.command ?? []), ...(container.args ?? [])];
  return argv.length === 0 ? undefined : argv.map((part) => expand(part, variables));
}

/** The value of `fieldRef.fieldPath`, or undefined when the path is not supported. */
export function fieldValue(pod: Pod, fieldPath: string, addresses: { podIP: string; hostIP: string }): string | undefined {
  const keyed = /^metadata\.(labels|annotations)\['(.+)'\]$/.exec(fieldPath);
  if (keyed !== null) return pod.metadata[keyed[1] as 'labels' | 'annotations']?.[keyed[2] as string] ?? '';
  switch (fieldPath) {
    case 'metadata.name': return pod.metadata.name;
    case 'metadata.namespace': return pod.metadata.namespace ?? '';
    case 'metadata.uid': return pod.metadata.uid ?? '';
    case 'metadata.labels': return formatMap(pod.metadata.labels);
    case 'metadata.annotations': return formatMap(pod.metadata.annotations);
    case 'spec.nodeName': return pod.spec?.nodeName ?? '';
    case 'spec.serviceAccountName': return pod.spec?.serviceAccountName ?? 'default';
    case 'status.podIP': case 'status.podIPs': return addresses.podIP;
    case 'status.hostIP': case 'status.hostIPs': return addresses.hostIP;
    default: return undefined;
  }
}

function formatMap(map: Record<string, string> | undefined): string {
  return Object.entries(map ?? {}).map(([key, value]) => `${key}=${JSON.stringify(value)}`).join('\n');
}

/** The Pod's resolv.conf, or undefined when it uses the host's. Source: dnsPolicy and dnsConfig of core/v1 PodSpec. */
export function resolvConfOf(pod: Pod, dns: { dnsAddress: string | undefined; clusterDomain: string }): string | undefined {
  const spec = pod.spec;
  const policy = spec?.dnsPolicy ?? 'ClusterFirst';
  const isCluster = policy === 'ClusterFirstWithHostNet' || (policy === 'ClusterFirst' && spec?.hostNetwork !== true);
  if (policy !== 'None' && (!isCluster || dns.dnsAddress === undefined)) return undefined;
  const config = spec?.dnsConfig ?? {};
  const domain = dns.clusterDomain;
  const own = isCluster && dns.dnsAddress !== undefined;
  const servers = [...(own ? [dns.dnsAddress as string] : []), ...(config.nameservers ?? [])].slice(0, 3);
  const searches = [...(own ? [`${pod.metadata.namespace ?? 'default'}.svc.${domain}`, `svc.${domain}`, domain] : []), ...(config.searches ?? [])].slice(0, 32);
  const options = new Map<string, string>(own ? [['ndots', '5']] : []);
  for (const option of config.options ?? []) options.set(option.name, option.value ?? '');
  const lines = servers.map((server) => `nameserver ${server}`);
  if (searches.length > 0) lines.push(`search ${searches.join(' ')}`);
  if (options.size > 0) lines.push(`options ${[...options].map(([name, value]) => (value === '' ? name : `${name}:${value}`)).join(' ')}`);
  return `${lines.join('\n')}\n`;
}
