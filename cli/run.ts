// `netloom run` and `netloom expose`: a plain process, or listeners that already run, behind a Service without YAML.

import { isIP } from 'node:net';
import { isLoopback, parseCIDR } from '../api/address.ts';
import type { ApiClient } from '../api/client.ts';
import { systemClock, sleep } from '../api/clock.ts';
import { isNotFound, NetloomError } from '../api/errors.ts';
import { resources, type ResourceRef } from '../api/resources.ts';
import type { KubeObject, Service } from '../api/types.ts';
import { ExitCode } from './exit.ts';
import { clientOf, requireInstance, type ReadyInfo } from './instance.ts';
import { print, say } from './output.ts';

interface RunFlags { dataDir: string; name: string; replicas: number; port: number; servicePort: number; namespace: string; env?: string[]; rm?: boolean }
interface ExposeFlags { dataDir: string; to: string; port: number; namespace: string }

const waitMs = 10_000;

/** Makes or changes a Deployment and a Service; waits until the Service has a ready endpoint. */
export async function run(command: string[], raw: Record<string, unknown>): Promise<void> {
  const flags = raw as unknown as RunFlags;
  const info = requireInstance(flags.dataDir);
  const client = clientOf(info);
  try {
    if (flags.rm === true) { await remove(client, flags); return; }
    if (command.length === 0) throw new NetloomError('ConfigInvalid', 'no command given', { source: 'config', context: { exitCode: 2 }, hint: 'netloom run --name web -- node app.js' });
    const env = (flags.env ?? []).map((pair) => ({ name: pair.split('=')[0] ?? '', value: pair.slice(pair.indexOf('=') + 1) }));
    const labels = { app: flags.name };
    await apply(client, resources.deployments, {
      apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: flags.name, namespace: flags.namespace, labels },
      spec: { replicas: flags.replicas, selector: { matchLabels: labels }, template: { metadata: { labels }, spec: {
        terminationGracePeriodSeconds: 5,
        containers: [{ name: 'main', image: 'local', command, workingDir: process.cwd(), env: [{ name: 'PORT', value: String(flags.port) }, ...env], ports: [{ name: 'main', containerPort: flags.port }], readinessProbe: { tcpSocket: { port: flags.port }, periodSeconds: 1 } }],
      } } },
    } as KubeObject);
    const service = await apply(client, resources.services, serviceOf(flags.name, flags.namespace, flags.servicePort, { selector: labels, targetPort: 'main' }));
    const isReady = await waitReady(client, flags);
    report(info, service as Service, flags.servicePort);
    if (!isReady) throw new ExitCode(1);
  } finally { await client.transport.close(); }
}

/** Makes a Service without selector and an EndpointSlice that names the given listeners. */
export async function expose(name: string, raw: Record<string, unknown>): Promise<void> {
  const flags = raw as unknown as ExposeFlags;
  const info = requireInstance(flags.dataDir);
  const targets = flags.to.split(',').map(parseTarget);
  const loopback = targets.find((target) => isLoopback(target.ip) && parseCIDR(info.podCIDR ?? '')?.contains(target.ip) !== true);
  if (loopback !== undefined) {
    throw new NetloomError('ConfigInvalid', `${loopback.ip} cannot stand behind a Service: loopback addresses mean another host to every client`, { source: 'config', hint: `let the process listen on 0.0.0.0 and name an address of this host, or start it with: netloom run --name ${name} --port ${loopback.port} -- COMMAND` });
  }
  const groups = new Set(targets.map((target) => `${target.port} ${isIP(target.ip)}`));
  const client = clientOf(info);
  try {
    const service = await apply(client, resources.services, serviceOf(name, flags.namespace, flags.port, { targetPort: targets[0]?.port ?? flags.port }));
    for (const group of groups) {
      const [port, family] = group.split(' ').map(Number) as [number, number];
      await apply(client, resources.endpointslices, {
        apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice',
        metadata: { name: `${name}-${port}${family === 6 ? '-v6' : ''}`, namespace: flags.namespace, labels: { 'kubernetes.io/service-name': name, 'endpointslice.kubernetes.io/managed-by': 'netloom-expose' } },
        addressType: `IPv${family}`, ports: [{ name: 'main', port, protocol: 'TCP' }],
        endpoints: targets.filter((target) => target.port === port && isIP(target.ip) === family).map((target) => ({ addresses: [target.ip], conditions: { ready: true } })),
      } as unknown as KubeObject);
    }
    report(info, service as Service, flags.port);
  } finally { await client.transport.close(); }
}

function parseTarget(text: string): { ip: string; port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text);
  const ip = match?.[1] ?? match?.[2] ?? '';
  if (match === null || isIP(ip) === 0) throw new NetloomError('ConfigInvalid', `"${text}" is not ip:port`, { source: 'config', context: { exitCode: 2 }, hint: 'for example --to 192.0.2.4:3000' });
  return { ip, port: Number(match[3]) };
}

function serviceOf(name: string, namespace: string, port: number, more: { selector?: Record<string, string>; targetPort: number | string }): KubeObject {
  const { targetPort, selector } = more;
  return { apiVersion: 'v1', kind: 'Service', metadata: { name, namespace }, spec: { ...(selector === undefined ? {} : { selector }), ports: [{ name: 'main', port, targetPort }] } } as KubeObject;
}

function apply(client: ApiClient, resource: ResourceRef, object: KubeObject): Promise<KubeObject> {
  return client.patch<KubeObject>(resource, object.metadata.namespace, object.metadata.name, object, { type: 'apply', fieldManager: 'netloom-run', force: true });
}

async function remove(client: ApiClient, flags: RunFlags): Promise<void> {
  let count = 0;
  for (const resource of [resources.deployments, resources.services]) {
    try { await client.delete(resource, flags.namespace, flags.name, { propagationPolicy: 'Background' }); count += 1; } catch (error) { if (!isNotFound(error)) throw error; }
  }
  if (count === 0) throw new NetloomError('NotFound', `nothing named ${flags.name} in namespace ${flags.namespace}`, { source: 'config', context: { exitCode: 4 }, hint: `kubectl get deployments,services -n ${flags.namespace}` });
  say(`ok  ${flags.namespace}/${flags.name} deleted`);
}

/** Whether all processes were ready in time; says what to look at when not. */
async function waitReady(client: ApiClient, flags: RunFlags): Promise<boolean> {
  const deadline = systemClock.monotonicMs() + waitMs;
  let ready = 0;
  while (systemClock.monotonicMs() < deadline) {
    const object = await client.get<KubeObject & { status?: { readyReplicas?: number } }>(resources.deployments, flags.namespace, flags.name);
    ready = object.status?.readyReplicas ?? 0;
    if (ready >= flags.replicas) { say(`ok  ${ready} of ${flags.replicas} processes ready`); return true; }
    await sleep(systemClock, 50);
  }
  say(`!!  ${ready} of ${flags.replicas} processes ready after ${waitMs / 1000} s`);
  say(`fix: netloom explain svc ${flags.name} -n ${flags.namespace}   or   kubectl logs -n ${flags.namespace} deploy/${flags.name}`);
  return false;
}

function report(info: ReadyInfo, service: Service, port: number): void {
  const { name, namespace } = service.metadata;
  print(`http://${service.spec?.clusterIP ?? ''}${port === 80 ? '' : `:${port}`}/   ${name}.${namespace}.svc.${info.clusterDomain ?? 'cluster.local'}`);
}
