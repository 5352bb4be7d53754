// What a flow case needs from an engine, and the engine that is a packet tracer. Real engines (kernel in namespaces,
// userspace) implement the same interface; flows.cases.ts is run against each of them.

import { parseCIDR } from '../../api/address.ts';
import type { EndpointSlice, IPFamily, Node, Protocol, Service } from '../../api/types.ts';
import { planElements } from '../../proxy/nftables/elements.ts';
import type { ElementMap } from '../../proxy/nftables/elements.ts';
import { resolveNodePortAddresses } from '../../proxy/config.ts';
import { staticProgram, timeoutProgram } from '../../proxy/nftables/program.ts';
import { planService } from '../../proxy/plan.ts';
import { FakeCluster } from './fake-informer.ts';
import { NftTracer } from './nft-tracer.ts';

export interface FlowConfig {
  readonly bind?: string; readonly nodePortAddresses?: readonly string[]; readonly isMasqueradeAll?: boolean; readonly hasLocalDetector?: boolean;
}
export type FlowObject = Service | EndpointSlice | Node;
export interface FlowWorld { readonly name: string; readonly config: FlowConfig; readonly objects: readonly FlowObject[] }

/** pod: 10.244.1.250 on this node; self: the endpoint 10.244.1.2; host: a process of the node; ext, ext2: off-cluster. */
export type FlowClient = 'pod' | 'self' | 'host' | 'ext' | 'ext2';
export interface Flow { readonly name: string; readonly world: string; readonly from: FlowClient; readonly to: string; readonly protocol: Protocol; readonly expect: FlowExpectation }

/**
 * `reach`: exactly these endpoints (by letter) answer; `source` what they see; `isSticky`: always the same one of them. `refused` fails fast,
 * `dropped` is silent, `unserved` = not touched by the proxy.
 */
export interface FlowExpectation { readonly reach?: readonly string[]; readonly source?: 'kept' | 'node' | undefined; readonly isSticky?: boolean; readonly failure?: 'refused' | 'dropped' | 'unserved' }
/** `reached` = endpoint address and port as the client or tracer saw them. */
export interface FlowOutcome { readonly reached: ReadonlySet<string>; readonly sources: ReadonlySet<'kept' | 'node'>; readonly failure: 'refused' | 'dropped' | 'unserved' | undefined }

export interface FlowEngine {
  readonly name: string;
  start(world: FlowWorld): Promise<void>;
  run(flow: Flow): Promise<FlowOutcome>;
  stop(): Promise<void>;
}

export const nodeName = 'n1';
export const nodeIPs: readonly string[] = ['192.168.0.1', 'fd00:192::1'];
export const hostAddresses: readonly string[] = [...nodeIPs, '10.244.1.1', 'fd00:244:1::1', '203.0.113.1', 'fd00:203::1', '127.0.0.1', '::1'];
export const clientAddresses: Readonly<Record<FlowClient, Readonly<Record<IPFamily, string>>>> = {
  pod: { IPv4: '10.244.1.250', IPv6: 'fd00:244:1::250' }, self: { IPv4: '10.244.1.2', IPv6: 'fd00:244:1::2' }, host: { IPv4: '192.168.0.1', IPv6: 'fd00:192::1' },
  ext: { IPv4: '203.0.113.2', IPv6: 'fd00:203::2' }, ext2: { IPv4: '203.0.113.3', IPv6: 'fd00:203::3' },
};
export const serviceCIDRs: readonly string[] = ['10.96.0.0/16', 'fd00:96::/112'];
export const clusterCIDRs: readonly string[] = ['10.244.0.0/16', 'fd00:244::/32'];

export function splitTarget(to: string): { ip: string; port: number } {
  const colon = to.lastIndexOf(':');
  return { ip: to.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(to.slice(colon + 1)) };
}

/** The in-memory engine: plans as production does and walks packets through the program's text. */
export class TracerEngine implements FlowEngine {
  readonly name = 'tracer';
  #tracers = new Map<IPFamily, NftTracer>();

  start(world: FlowWorld): Promise<void> {
    const cluster = new FakeCluster({ nodeName });
    cluster.apply(...world.objects);
    const families: IPFamily[] = ['IPv4', 'IPv6'];
    for (const family of families) {
      const tracer = new NftTracer(family);
      const ofFamily = (texts: readonly string[]): NonNullable<ReturnType<typeof parseCIDR>>[] => texts.flatMap((text) => { const cidr = parseCIDR(text); return cidr?.family === family ? [cidr] : []; });
      const nodePorts = resolveNodePortAddresses({ bind: world.config.bind ?? '0.0.0.0', nodePortAddresses: world.config.nodePortAddresses }, nodeIPs).kernel;
      tracer.load(staticProgram({
        family, serviceCIDRs: ofFamily(serviceCIDRs), localClients: world.config.hasLocalDetector === false ? undefined : ofFamily(clusterCIDRs),
        nodePorts: nodePorts === 'all' ? 'all' : ofFamily(nodePorts), isMasqueradeAll: world.config.isMasqueradeAll ?? false, isExternalServed: (world.config.bind ?? '0.0.0.0') !== '127.0.0.1',
      }));
      tracer.setElements(this.#elements(cluster, family, tracer));
      this.#tracers.set(family, tracer);
    }
    return Promise.resolve();
  }

  #elements(cluster: FakeCluster, family: IPFamily, tracer: NftTracer): ElementMap {
    const all: ElementMap = new Map();
    const timeouts = new Map<number, number>();
    let pool = 0;
    for (const info of cluster.view.values()) {
      const plan = planService(info, { name: nodeName, zone: 'zone-a' }, [family]);
      const { elements } = planElements(plan?.ports ?? [], {
        family, nodeName, nodeIPs, previous: () => undefined, own: undefined, owns: () => true, poolOf: () => pool++,
        timeoutClass: (seconds) => {
          if (!timeouts.has(seconds)) { timeouts.set(seconds, timeouts.size + 1); tracer.load(timeoutProgram(family, timeouts.size, seconds)); }
          return timeouts.get(seconds) ?? 0;
        },
      });
      for (const [id, data] of elements) all.set(id, data);
    }
    return all;
  }

  run(flow: Flow): Promise<FlowOutcome> {
    const { ip, port } = splitTarget(flow.to);
    const family: IPFamily = ip.includes(':') ? 'IPv6' : 'IPv4';
    const reached = new Set<string>();
    const sources = new Set<'kept' | 'node'>();
    let failure: FlowOutcome['failure'];
    for (let draw = 0; draw < 12; draw++) {
      const result = this.#tracers.get(family)?.trace(
        { source: clientAddresses[flow.from][family], destination: ip, protocol: flow.protocol, port, isFromHost: flow.from === 'host' },
        { isLocalAddress: (address) => hostAddresses.includes(address), random: (modulus) => draw % modulus, nowMs: draw },
      );
      if (result === undefined) throw new Error('not started');
      if (result.markAfter !== 0) throw new Error(`the mark of ${flow.name} is left at ${result.markAfter.toString(16)}`);
      if (result.verdict === 'drop') failure = 'dropped';
      else if (result.verdict !== 'accept') failure = 'refused';
      else if (result.endpoint === undefined) failure = 'unserved';
      else { reached.add(result.endpoint); sources.add(result.isMasqueraded ? 'node' : 'kept'); }
      if ((result.verdict === 'refuse-rst') !== (flow.protocol === 'TCP') && result.verdict.startsWith('refuse')) throw new Error('TCP is refused by RST, the rest by ICMP');
    }
    return Promise.resolve({ reached, sources, failure });
  }

  stop(): Promise<void> { return Promise.resolve(); }
}
