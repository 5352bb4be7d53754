// The flow engine that is the userspace proxy: the production proxier with data threads in a namespace, real clients
// and servers around it.

import type { Flow, FlowEngine, FlowOutcome, FlowWorld } from './flow-engine.ts';
import { clientAddresses, clusterCIDRs, nodeIPs, nodeName, serviceCIDRs, splitTarget } from './flow-engine.ts';
import { judge } from './kernel-flow-engine.ts';
import type { ConnectRequest } from './netns-worker.ts';
import { NetnsWorld, type Place } from './netns-world.ts';

const placeOf: Readonly<Record<Flow['from'], Place>> = { pod: 'pod', self: 'self', host: 'node', ext: 'ext', ext2: 'ext' };
const attempts = 40;

export class UserspaceEngine implements FlowEngine {
  readonly name = 'userspace';
  readonly network = new NetnsWorld();

  async start(world: FlowWorld): Promise<void> {
    await this.network.start();
    const { node } = this.network.hosts;
    await node.ask({ do: 'apply', objects: [...world.objects, { apiVersion: 'v1', kind: 'Node', metadata: { name: nodeName, labels: { 'topology.kubernetes.io/zone': 'zone-a' } } }] });
    await node.ask({
      do: 'proxy', hasWorkers: true, options: {
        nodeName, nodeIPs, mode: 'userspace', isOwnedTableVanishing: true, serviceCIDRs, clusterCIDRs, bind: world.config.bind ?? '0.0.0.0',
        ...(world.config.nodePortAddresses === undefined ? {} : { nodePortAddresses: world.config.nodePortAddresses }),
      },
    });
  }

  async run(flow: Flow): Promise<FlowOutcome> {
    const { ip, port } = splitTarget(flow.to);
    const client = clientAddresses[flow.from][ip.includes(':') ? 'IPv6' : 'IPv4'];
    const request: ConnectRequest = { protocol: flow.protocol === 'UDP' ? 'UDP' : 'TCP', to: ip, port, timeoutMs: flow.expect.failure === undefined ? 3_000 : 300, ...(flow.from === 'host' ? {} : { from: client }) };
    const answers = await this.network.hosts[placeOf[flow.from]].connect(Array.from({ length: flow.expect.failure === undefined ? attempts : 2 }, () => request), 6);
    // A proxy that is a process cannot drop: whatever is not served fails in one way or another.
    return judge(answers, client, flow.expect.failure === undefined ? undefined : 'unserved');
  }

  async stop(): Promise<void> { await this.network.stop(); }
}
