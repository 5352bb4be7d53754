// An agent in a process of its own, for tests that kill it. argv: data directory, mode, bridge name. Runs one Pod `a`
// with the shell command in argv[5], and `b` with that in argv[6] if given; prints one JSON line once they are ready.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Agent } from '../../agent/agent.ts';
import { systemClock } from '../../api/clock.ts';
import { createLog } from '../../api/log.ts';
import { waitFor } from '../lib/wait-for.ts';
import { FakeApi } from './fake-api.ts';

const [dataDir, mode, bridgeName, script, second] = process.argv.slice(2) as [string, 'netns' | 'loopback', string, string, string | undefined];
const api = new FakeApi();
const agent = new Agent({
  client: api.client, nodeName: 'n1', nodeIPs: ['127.0.0.1'], podCIDR: mode === 'netns' ? '10.244.77.0/24' : '127.64.78.0/24', mode, dataDir, servingCert: undefined, bridgeName,
  dnsAddress: undefined, clusterDomain: 'cluster.local', bind: '127.0.0.1', port: 0, clock: systemClock, log: createLog(),
});
await agent.start();
api.addPod('a', 'n1', { containers: [{ name: 'main', command: ['sh', '-c', script] }] });
await waitFor(() => api.isReady('a'));
if (second !== undefined) {
  api.addPod('b', 'n1', { containers: [{ name: 'main', command: ['sh', '-c', second] }] });
  await waitFor(() => api.isReady('b'));
}
process.stdout.write(`${JSON.stringify({ agentId: readFileSync(join(dataDir, 'agent-id'), 'utf8').trim(), pod: api.pod('a') })}\n`);
process.on('SIGTERM', () => { void agent.stop(2_000).then(() => process.exit(0)); });
setInterval(() => {}, 1_000);
