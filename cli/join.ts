// How a node gets its credentials: from a kubeconfig of an existing cluster, from an earlier join kept in its data
// directory, or with a join token. The token carries the hash of the cluster's CA: the server proves itself by that hash
// before the token is sent to it.

import { createHash, X509Certificate } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ApiClient, httpTransport, readBody, type HttpTransportOptions } from '../api/client.ts';
import { sleep, systemClock } from '../api/clock.ts';
import { fromStatus, isAlreadyExists, isNotFound, NetloomError } from '../api/errors.ts';
import { buildKubeconfig, transportOptions, writeKubeconfig } from '../api/kubeconfig.ts';
import type { Log } from '../api/log.ts';
import { resources } from '../api/resources.ts';
import type { Node, Status } from '../api/types.ts';
import { writeJsonFile } from './instance.ts';
import { addressAt, type Settings } from './settings.ts';

export interface NodeCredentials {
  transport: HttpTransportOptions;
  /** The agent's HTTPS endpoint; absent beside a real cluster, which has its own node agent. */
  serving: { certPem: string; keyPem: string; clientCaPem: string } | undefined;
  kubeconfig: string;
  /** What the cluster says about itself; absent beside a real cluster. */
  cluster: { serviceCIDRs: string[]; podCIDR: string; clusterDomain: string; dnsServiceIP: string } | undefined;
}

interface JoinAnswer {
  nodeName: string; server: string; caPem: string; certPem: string; keyPem: string;
  serving: { certPem: string; keyPem: string; clientCaPem: string }; cluster: NonNullable<NodeCredentials['cluster']>;
}

const podCIDRWaitMs = 15_000;

export async function connectNode(settings: Settings, log: Log): Promise<NodeCredentials> {
  const { kubeconfig, context, server, token } = settings.flags;
  if (kubeconfig !== undefined) return { transport: transportOptions(kubeconfig, context), serving: undefined, kubeconfig, cluster: undefined };
  const kept = join(settings.dataDir, 'join.json');
  if (existsSync(kept) && (token === undefined || server === undefined || (JSON.parse(readFileSync(kept, 'utf8')) as JoinAnswer).server === server)) return useAnswer(settings, JSON.parse(readFileSync(kept, 'utf8')) as JoinAnswer);
  if (server === undefined || token === undefined) {
    throw new NetloomError('ConfigInvalid', 'netloom node needs a control plane to join', { source: 'config', hint: 'give --server URL and --token TOKEN (from "netloom token create"), or --kubeconfig FILE' });
  }
  const answer = await joinCluster(server, token, settings);
  mkdirSync(settings.dataDir, { recursive: true, mode: 0o700 });
  writeJsonFile(kept, answer);
  log.info('joined', { server, nodeName: answer.nodeName });
  return useAnswer(settings, answer);
}

function useAnswer(settings: Settings, answer: JoinAnswer): NodeCredentials {
  const kubeconfig = settings.kubeconfigOut;
  writeKubeconfig(kubeconfig, buildKubeconfig({ server: answer.server, caPem: answer.caPem, certPem: answer.certPem, keyPem: answer.keyPem, user: `system:node:${answer.nodeName}` }));
  return { transport: { server: answer.server, caPem: answer.caPem, certPem: answer.certPem, keyPem: answer.keyPem }, serving: answer.serving, kubeconfig, cluster: answer.cluster };
}

async function joinCluster(server: string, token: string, settings: Settings): Promise<JoinAnswer> {
  const hash = /^[a-z0-9]{6}\.[a-z0-9]{16,64}\.([0-9a-f]{64})$/.exec(token)?.[1];
  if (hash === undefined) throw new NetloomError('ConfigInvalid', 'this is not a join token', { source: 'config', hint: 'copy the whole line that "netloom token create" printed on the control plane' });
  if (!server.startsWith('https://')) throw new NetloomError('ConfigInvalid', `--server ${server} is not an https:// URL`, { source: 'config' });
  const unverified = httpTransport({ server, insecureSkipVerify: true });
  const caPem = await fetchText(unverified, '/cacerts').finally(() => unverified.close());
  let found = '';
  try { found = createHash('sha256').update(new X509Certificate(caPem).raw).digest('hex'); } catch { /* not a certificate: the hash stays empty */ }
  if (found !== hash) throw new NetloomError('Unauthorized', `the server at ${server} is not the one that made this token`, { source: 'api', hint: 'check --server, and that the token is from that control plane' });
  const verified = httpTransport({ server, caPem, token });
  try {
    const response = await verified.request({ method: 'POST', path: '/netloom/v1/join', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ nodeName: settings.nodeName, addresses: settings.nodeIPs }) });
    const text = (await readBody(response)).toString('utf8');
    if (response.status !== 200) throw fromStatus(JSON.parse(text) as Partial<Status>, response.status);
    return { ...(JSON.parse(text) as JoinAnswer), server };
  } finally { await verified.close(); }
}

async function fetchText(transport: ReturnType<typeof httpTransport>, path: string): Promise<string> {
  const response = await transport.request({ method: 'GET', path });
  const text = (await readBody(response)).toString('utf8');
  if (response.status !== 200) throw new NetloomError('ConnectFailed', `the server answered HTTP ${response.status} to ${path}`, { source: 'api', hint: 'is it a netloom control plane?' });
  return text;
}

/** The settings with what the cluster says in place of this machine's defaults; flags that were given stay. */
export async function adoptCluster(settings: Settings, credentials: NodeCredentials, client: ApiClient): Promise<void> {
  const { cluster } = credentials;
  if (cluster === undefined) return;
  settings.serviceCIDRs = cluster.serviceCIDRs;
  settings.podCIDR = cluster.podCIDR;
  settings.clusterDomain = cluster.clusterDomain;
  settings.dnsClusterIP = cluster.dnsServiceIP;
  if (!settings.has.agent) return;
  settings.nodePodCIDR = await awaitPodCIDR(client, settings.nodeName);
  settings.podGateway = addressAt(settings.nodePodCIDR, 1);
}

/** Makes the Node if it is new and waits until the control plane gave it its part of the Pod range. */
async function awaitPodCIDR(client: ApiClient, nodeName: string): Promise<string> {
  const deadline = systemClock.monotonicMs() + podCIDRWaitMs;
  while (systemClock.monotonicMs() < deadline) {
    try {
      const node = await client.get<Node>(resources.nodes, undefined, nodeName);
      if (node.spec?.podCIDR !== undefined && node.spec.podCIDR !== '') return node.spec.podCIDR;
    } catch (error) {
      if (!isNotFound(error)) throw error;
      await client.create<Node>(resources.nodes, undefined, { metadata: { name: nodeName } }).catch((failure: unknown) => { if (!isAlreadyExists(failure)) throw failure; });
    }
    await sleep(systemClock, 20);
  }
  throw new NetloomError('Timeout', `the control plane gave node ${nodeName} no Pod range`, { source: 'api', hint: 'is its Pod range used up? kubectl get nodes -o custom-columns=NAME:.metadata.name,CIDR:.spec.podCIDR' });
}
