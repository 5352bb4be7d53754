// The flow engine that is the real kernel: the production proxier in a namespace, real clients and servers around it.

import type { Flow, FlowEngine, FlowOutcome, FlowWorld } from './flow-engine.ts';
import { clientAddresses, clusterCIDRs, hostAddresses, nodeIPs, nodeName, serviceCIDRs, splitTarget } from './flow-engine.ts';
import type { ConnectAnswer, ConnectRequest } from './netns-worker.ts';
import { NetnsWorld, type Place } from './netns-world.ts';

const placeOf: Readonly<Record<Flow['from'], Place>> = { pod: 'pod', self: 'self', host: 'node', ext: 'ext', ext2: 'ext' };
/** Flows at a time: more only queue up in the clients' processes and on a busy machine run into timeouts. */
export const parallelFlows = 24;
/** Attempts of a flow that should answer: four endpoints are all seen within them but for 1 run in 20,000. */
const attempts = 40;
const attemptsOfFailure = 12;

export class KernelEngine implements FlowEngine {
  readonly name = 'kernel';
  readonly #mechanism: 'netlink' | 'nft-interactive' | 'nft-file';
  readonly network = new NetnsWorld();
  #objects: FlowWorld['objects'] = [];
  #isUp = false;

  constructor(mechanism: 'netlink' | 'nft-interactive' | 'nft-file' = 'netlink') { this.#mechanism = mechanism; }

  async start(world: FlowWorld): Promise<void> {
    if (!this.#isUp) await this.network.start();
    this.#isUp = true;
    const { node } = this.network.hosts;
    await node.ask({ do: 'stop', isCleanup: true });
    await node.ask({ do: 'apply', objects: [], removeServices: this.#objects.filter((object) => object.kind === 'Service').map(keyOf), removeSlices: this.#objects.filter((object) => object.kind === 'EndpointSlice').map(keyOf) });
    this.#objects = world.objects;
    await node.ask({ do: 'apply', objects: [...world.objects, { apiVersion: 'v1', kind: 'Node', metadata: { name: nodeName, labels: { 'topology.kubernetes.io/zone': 'zone-a' } } }] });
    await node.ask({
      do: 'proxy', options: {
        nodeName, nodeIPs, mode: 'nftables', nftMechanism: this.#mechanism, isOwnedTableVanishing: true, serviceCIDRs, clusterCIDRs: world.config.hasLocalDetector === false ? [] : clusterCIDRs,
        bind: world.config.bind ?? '0.0.0.0', isMasqueradeAll: world.config.isMasqueradeAll ?? false,
        ...(world.config.nodePortAddresses === undefined ? {} : { nodePortAddresses: world.config.nodePortAddresses }),
      },
    });
  }

  async run(flow: Flow): Promise<FlowOutcome> {
    const { ip, port } = splitTarget(flow.to);
    const client = clientAddresses[flow.from][ip.includes(':') ? 'IPv6' : 'IPv4'];
    const request: ConnectRequest = { protocol: flow.protocol === 'UDP' ? 'UDP' : 'TCP', to: ip, port, timeoutMs: flow.expect.failure === 'dropped' || flow.expect.failure === 'unserved' ? 300 : 20_000, ...(flow.from === 'host' ? {} : { from: client }) };
    const times = flow.expect.failure === undefined ? attempts : flow.expect.failure === 'refused' ? attemptsOfFailure : 2;
    const answers = await this.network.hosts[placeOf[flow.from]].connect(Array.from({ length: times }, () => request), 6);
    return judge(answers, client, flow.expect.failure);
  }

  /** Runs many flows, some at a time. */
  async runAll(flows: readonly Flow[]): Promise<Map<Flow, FlowOutcome>> {
    const outcomes = new Map<Flow, FlowOutcome>();
    const queue = flows.values();
    await Promise.all(Array.from({ length: parallelFlows }, async () => { for (const flow of queue) outcomes.set(flow, await this.run(flow)); }));
    return outcomes;
  }

  async stop(): Promise<void> { await this.network.stop(); }
}

function keyOf(object: { metadata: { name: string; namespace?: string } }): string { return `${object.metadata.namespace}/${object.metadata.name}`; }

/** What the answers of one flow amount to. */
export function judge(answers: readonly ConnectAnswer[], client: string, expected: FlowOutcome['failure']): FlowOutcome {
  const reached = new Set<string>();
  const sources = new Set<'kept' | 'node'>();
  const failures = new Set<string>();
  for (const { answer, error } of answers) {
    if (error !== undefined) { failures.add(error === 'ECONNREFUSED' ? 'refused' : error === 'TIMEOUT' ? 'dropped' : error); continue; }
    const [ip = '', port = '', source = ''] = (answer ?? '').split(' ');
    reached.add(`${ip} ${port}`);
    sources.add(source === client ? 'kept' : hostAddresses.includes(source) ? 'node' : 'kept');
  }
  if (failures.size === 0) return { reached, sources, failure: undefined };
  // Where nothing of ours is in the way the host itself answers in its own way; only that nobody was reached counts.
  if (expected === 'unserved' && reached.size === 0) return { reached, sources, failure: 'unserved' };
  const failure = failures.size === 1 ? [...failures][0] : [...failures].sort().join('+');
  return { reached, sources, failure: failure as FlowOutcome['failure'] };
}
