// Pure: the engine-neutral plan of a Service → what each data thread listens on. Decides which addresses are served
// where the engine is bound, and what the Service's annotations ask for.

import { isLinkLocal, isLoopback, isMulticast, isUnspecified, parseCIDR } from '../../api/address.ts';
import type { NodePortAddresses, PortPlan, ServicePlan, UserspaceBackendOptions } from '../backend.ts';
import type { EndpointSpec, ListenSpec, PortSpec } from './messages.ts';

/** Annotations of a Service that this engine reads. */
export const annotations = Object.freeze({
  /** `v1` or `v2`: send a PROXY protocol header to endpoints. */
  proxyProtocol: 'netloom.dev/proxy-protocol',
  /** CIDRs of peers that send a PROXY protocol header. */
  proxyProtocolFrom: 'netloom.dev/accept-proxy-protocol-from',
  /** Seconds after which a connection is closed, with 10 % jitter. */
  connectionAge: 'netloom.dev/max-connection-age-seconds',
});

export interface ListenPlanOptions extends Pick<UserspaceBackendOptions, 'scope' | 'bind' | 'nodePorts' | 'nodeName'> {
  /** Addresses that this host has now. */
  readonly hostAddresses: readonly string[];
}

export interface ListenPlan { readonly ports: readonly PortSpec[]; readonly problems: readonly string[] }

/** `rowOf` gives the counter row of a Service. SCTP is left out with a problem: there is no SCTP socket in Node. */
export function planListeners(plan: ServicePlan, options: ListenPlanOptions, row: number): ListenPlan {
  const problems: string[] = [];
  const settings = readAnnotations(plan, problems);
  const ports: PortSpec[] = [];
  for (const planned of plan.ports) {
    const port = { ...planned, cluster: planned.cluster.filter(isDialable), local: planned.local.filter(isDialable) };
    if (port.protocol === 'SCTP') {
      if (options.scope === 'all') problems.push(`port ${port.port}/SCTP needs the kernel engine`);
      continue;
    }
    const listeners = listenersOf(port, options);
    if (listeners.length === 0) continue;
    const l7 = settings.proxyProtocolOut !== 0 || settings.proxyProtocolFrom.length > 0 || port.affinityTimeoutSeconds > 0 ? undefined : l7Of(port);
    ports.push({
      key: `${port.key}/${port.family}`, portKey: port.key, service: plan.key, protocol: port.protocol, l7, listeners,
      cluster: port.cluster.map((each) => endpointSpec(each, options)), local: port.local.map((each) => endpointSpec(each, options)),
      serving: port.serving, affinityTimeoutSeconds: port.affinityTimeoutSeconds, row, ...settings,
    });
  }
  return { ports, problems };
}

/** Whoever wrote the slice: metadata addresses and the like are never connected to. Loopback is where rootless Pods live. */
function isDialable({ ip }: { ip: string }): boolean { return !isLinkLocal(ip) && !isUnspecified(ip) && !isMulticast(ip); }

function endpointSpec(endpoint: { ip: string; port: number; nodeName: string | undefined }, options: ListenPlanOptions): EndpointSpec {
  return { ip: endpoint.ip, port: endpoint.port, isSameHost: isLoopback(endpoint.ip) || (endpoint.nodeName !== undefined && endpoint.nodeName === options.nodeName) };
}

/** Where the addresses of one port are served. A candidate set that is empty gives no listener: the kernel then refuses. */
function listenersOf(port: PortPlan, options: ListenPlanOptions): ListenSpec[] {
  const listeners = new Map<string, ListenSpec>();
  const add = (address: string, number: number, candidates: ListenSpec['candidates'], sourceRanges: readonly string[] = [], isHostOnly = false): void => {
    if (candidates === 'local' ? port.local.length === 0 : port.cluster.length === 0 && (candidates !== 'external' || port.local.length === 0)) return;
    listeners.set(`${address} ${number}`, { address, port: number, candidates, sourceRanges, isHostOnly });
  };
  const external = port.isExternalLocal ? 'external' : 'cluster';
  if (options.scope === 'all') {
    const isHostOnly = isLoopback(options.bind);
    if (port.clusterIP !== undefined) add(port.clusterIP, port.port, port.isInternalLocal ? 'local' : 'cluster', [], isHostOnly);
    for (const ip of port.externalIPs) add(ip, port.port, external, [], isHostOnly);
    for (const ip of port.loadBalancerIPs) add(ip, port.port, external, port.sourceRanges, isHostOnly);
  }
  if (port.nodePort !== 0) for (const address of nodePortAddresses(port, options)) add(address, port.nodePort, external);
  return [...listeners.values()];
}

function nodePortAddresses(port: PortPlan, options: ListenPlanOptions): string[] {
  const isV6 = port.family === 'IPv6';
  const ofFamily = (addresses: readonly string[]): string[] => addresses.filter((address) => address.includes(':') === isV6);
  const loopback = ofFamily(options.nodePorts.loopback);
  if (options.scope === 'loopbackNodePorts') return loopback;
  const kernel: NodePortAddresses['kernel'] = options.nodePorts.kernel;
  if (kernel === 'all') return [isV6 ? '::' : '0.0.0.0'];
  const ranges = kernel.flatMap((text) => { const cidr = parseCIDR(text); return cidr === undefined ? [] : [cidr]; });
  const inside = ofFamily(options.hostAddresses).filter((address) => !isUnspecified(address) && ranges.some((range) => range.contains(address)));
  return [...new Set([...inside, ...loopback])];
}

function l7Of(port: PortPlan): PortSpec['l7'] {
  if (port.protocol !== 'TCP') return undefined;
  switch (port.appProtocol?.toLowerCase()) {
    case 'http': case 'kubernetes.io/ws': return 'http';
    case 'kubernetes.io/h2c': case 'h2c': case 'grpc': case 'http2': return 'h2c';
    default: return undefined;
  }
}

function readAnnotations(plan: ServicePlan, problems: string[]): Pick<PortSpec, 'proxyProtocolOut' | 'proxyProtocolFrom' | 'connectionAgeMsMax'> {
  const given = plan.info.service.metadata.annotations ?? {};
  const version = given[annotations.proxyProtocol];
  if (version !== undefined && version !== 'v1' && version !== 'v2') problems.push(`annotation ${annotations.proxyProtocol} must be v1 or v2, not ${JSON.stringify(version.slice(0, 40))}`);
  const from = (given[annotations.proxyProtocolFrom] ?? '').split(',').map((text) => text.trim()).filter((text) => text !== '');
  const wrong = from.filter((text) => parseCIDR(text) === undefined);
  if (wrong.length > 0) problems.push(`annotation ${annotations.proxyProtocolFrom}: ${JSON.stringify(wrong[0]?.slice(0, 60))} is not a CIDR`);
  const age = Number(given[annotations.connectionAge] ?? 0);
  if (!Number.isFinite(age) || age < 0) problems.push(`annotation ${annotations.connectionAge} must be a number of seconds`);
  return {
    proxyProtocolOut: version === 'v1' ? 1 : version === 'v2' ? 2 : 0, proxyProtocolFrom: from.filter((text) => !wrong.includes(text)),
    connectionAgeMsMax: Number.isFinite(age) && age > 0 ? age * 1000 : 0,
  };
}
