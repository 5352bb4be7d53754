// netloom itself, as users run it: the whole `up` process with one data worker, ephemeral store and userspace engine,
// given the backends as EndpointSlices and an Ingress through its own API.

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ApiClient, httpTransport } from '../../api/client.ts';
import { transportOptions } from '../../api/kubeconfig.ts';
import { resourcePath, resources, type ResourceRef } from '../../api/resources.ts';
import type { KubeObject, Service } from '../../api/types.ts';
import { launch } from '../lib/launch.ts';
import { backendPort, isTlsRow, makeFolder, removeFolder, type Bed, type Contender, type Running } from '../lib/contender.ts';
import { answersDns, dnsName } from './dns.ts';

export interface NetloomRunning extends Running { client: ApiClient; ready: ReadyFile; clusterIP: string }
interface ReadyFile { pid: number; kubeconfig: string; http: { port: number }; https: { port: number }; dns: { port: number }; admin: { port: number }; readySeconds: number }

/** Which of netloom's listeners a row is about. */
export function netloom(kind: 'ingress' | 'clusterip' | 'dns'): Contender {
  return {
    name: 'netloom',
    missing: () => undefined,
    async start(bed: Bed, row: string) {
      const running = await startNetloom(bed.contenderCore, bed.profileFolder === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${bed.profileFolder}`]);
      try {
        await addObjects(running, bed, row);
        if (kind === 'dns') return { ...running, port: running.ready.dns.port };
        if (kind === 'clusterip') return { ...running, host: running.clusterIP, port: 80 };
        return { ...running, port: isTlsRow(row) ? running.ready.https.port : running.ready.http.port, serverName: 'bench.example' };
      } catch (error) { await running.stop(); throw error; }
    },
  };
}

/** One fresh `netloom up`; resolves when it is ready. */
export async function startNetloom(core: number, nodeFlags: readonly string[] = [], flags: readonly string[] = []): Promise<NetloomRunning> {
  const dataDir = makeFolder();
  const readyFile = join(dataDir, 'ready.json');
  const started = await launch({
    core, file: process.execPath, port: 0, env: { HOME: dataDir },
    args: [...nodeFlags, join(import.meta.dirname, '../../bin/netloom.js'), 'up', '--ephemeral', '--data-dir', dataDir, '--ready-file', readyFile, '--proxy-mode', 'userspace', '--pod-network', 'loopback', '--no-agent', '--workers', '1',
      '--api-port', '0', '--http-port', '0', '--https-port', '0', '--dns-port', '0', '--admin-port', '0', ...flags],
    isUp: async () => existsSync(readyFile),
  });
  const ready = JSON.parse(readFileSync(readyFile, 'utf8')) as ReadyFile;
  const client = new ApiClient(httpTransport(transportOptions(ready.kubeconfig)));
  return {
    ...started, client, ready, clusterIP: '', pid: ready.pid,
    stop: async () => { await client.transport.close(); await started.stop(); removeFolder(dataDir); },
  };
}

async function put(client: ApiClient, resource: ResourceRef, object: KubeObject): Promise<KubeObject> {
  return client.raw<KubeObject>('POST', resourcePath(resource, object.metadata.namespace), object);
}

async function addObjects(running: NetloomRunning, bed: Bed, row: string): Promise<void> {
  const { client } = running;
  await put(client, resources.namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'bench' } });
  const backend = backendPort(bed, row);
  const service = await put(client, resources.services, { apiVersion: 'v1', kind: 'Service', metadata: { name: 'web', namespace: 'bench' }, spec: { ports: [{ name: 'http', port: 80, targetPort: backend, ...(row === 'grpc' ? { appProtocol: 'kubernetes.io/h2c' } : {}) }] } } as KubeObject) as Service;
  running.clusterIP = service.spec?.clusterIP ?? '';
  await put(client, resources.services, { apiVersion: 'v1', kind: 'Service', metadata: { name: 'direct', namespace: 'bench' }, spec: { clusterIP: 'None', ports: [{ name: 'http', port: 80 }] } } as KubeObject);
  const slice = (name: string, addresses: string[]): KubeObject => ({
    apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', metadata: { name: `${name}-1`, namespace: 'bench', labels: { 'kubernetes.io/service-name': name } },
    addressType: 'IPv4', ports: [{ name: 'http', port: backend, protocol: 'TCP', ...(row === 'grpc' ? { appProtocol: 'kubernetes.io/h2c' } : {}) }], endpoints: addresses.map((address) => ({ addresses: [address], conditions: { ready: true } })),
  } as unknown as KubeObject);
  await put(client, resources.endpointslices, slice('web', [bed.backendHost]));
  await put(client, resources.endpointslices, slice('direct', ['10.244.0.2', '10.244.0.3', '10.244.0.4']));
  await put(client, resources.secrets, { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'tls', namespace: 'bench' }, type: 'kubernetes.io/tls', data: { 'tls.crt': readFileSync(bed.certFile).toString('base64'), 'tls.key': readFileSync(bed.keyFile).toString('base64') } } as KubeObject);
  await put(client, resources.ingresses, { apiVersion: 'networking.k8s.io/v1', kind: 'Ingress', metadata: { name: 'web', namespace: 'bench' }, spec: { tls: [{ hosts: ['bench.example'], secretName: 'tls' }], rules: [{ host: 'bench.example', http: { paths: [{ path: '/', pathType: 'Prefix', backend: { service: { name: 'web', port: { number: 80 } } } }] } }] } } as KubeObject);
  const deadline = performance.now() + 5_000;
  while (!(await answersDns('127.0.0.1', running.ready.dns.port, dnsName)) && performance.now() < deadline) await new Promise((resolve) => { setTimeout(resolve, 10); });
}
