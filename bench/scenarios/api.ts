// The control plane under load, over TLS with client certificates and the embedded durable store: creates and updates,
// a list of 10,000 Services, one write to 1,000 watchers, 10,000 Services with 30,000 endpoints through kubectl, memory
// with them, and the time until a restart serves them again.

import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ApiClient } from '../../api/client.ts';
import { resources, resourcePath } from '../../api/resources.ts';
import type { ConfigMap, KubeObject } from '../../api/types.ts';
import { makeHistogram, percentilesOf, record } from '../lib/histogram.ts';
import { findProgram } from '../lib/proc.ts';
import type { SystemContext, SystemRow } from '../system-rows.ts';
import { startServer, type ServerProcess } from './server-process.ts';

const clientCount = 32;

export const apiRow: SystemRow = {
  name: 'api', title: 'Control plane: writes, lists and watches (embedded store, durable)', isHeavy: true,
  goal: 'creates >= 3,000/s with 32 clients; list of 10,000 Services <= 150 ms; one write to 1,000 watchers p99 <= 50 ms; RSS <= 300 MB; ready with the data <= 2 s',
  missing: () => undefined,
  async measure(context: SystemContext) {
    const scale = context.isQuick ? 0.1 : 1;
    const values: Record<string, number | string> = {};
    let server = await startServer({ command: 'server', flags: ['--log-level', 'error'] });
    try {
      Object.assign(values, await writes(server, Math.round(20_000 * scale)));
      Object.assign(values, await watchers(server, Math.round(1_000 * scale)));
      Object.assign(values, await bulk(server, Math.round(10_000 * scale)));
      await server.stop(true);
      server = await startServer({ command: 'server', dataDir: restartDir(server), flags: ['--log-level', 'error'] });
      values['restart with the data: ready s'] = server.ready.readySeconds.toFixed(2);
      values['RSS MB after restart'] = server.rssMb().toFixed(0);
    } finally { await server.stop(); }
    return values;
  },
};

/** The ready file of the first run must not be taken for the second's. */
function restartDir(server: ServerProcess): string { execFileSync('rm', ['-f', join(server.dataDir, 'ready.json')]); return server.dataDir; }

async function writes(server: ServerProcess, count: number): Promise<Record<string, string>> {
  const clients = Array.from({ length: clientCount }, () => server.newClient());
  const creates = await together(clients, count, (client, index) => client.create<ConfigMap>(resources.configmaps, 'default', { metadata: { name: `bench-${index}` }, data: { key: 'x'.repeat(200) } } as ConfigMap));
  const updates = await together(clients, Math.round(count / 4), (client, index) => client.patch(resources.configmaps, 'default', `bench-${index}`, { data: { key: `y${index}` } }, { type: 'merge' }));
  return { 'creates/s, 32 clients': creates.perSecond.toFixed(0), 'create p99 ms': creates.p99.toFixed(2), 'updates/s, 32 clients': updates.perSecond.toFixed(0), 'update p99 ms': updates.p99.toFixed(2) };
}

async function together(clients: readonly ApiClient[], count: number, call: (client: ApiClient, index: number) => Promise<unknown>): Promise<{ perSecond: number; p99: number }> {
  const histogram = makeHistogram();
  let next = 0;
  const started = performance.now();
  await Promise.all(clients.map(async (client) => {
    for (let index = next++; index < count; index = next++) {
      const begun = performance.now();
      await call(client, index);
      record(histogram, performance.now() - begun);
    }
  }));
  return { perSecond: (count * 1_000) / (performance.now() - started), p99: percentilesOf(histogram).p99 };
}

/** One write at a time; the time until each of the watchers has its line. */
async function watchers(server: ServerProcess, count: number): Promise<Record<string, string>> {
  const abort = new AbortController();
  const histogram = makeHistogram();
  let sentMs = 0;
  let waiting = 0;
  let wake = (): void => {};
  const list = await server.client.list<ConfigMap>(resources.configmaps, 'kube-public', { limit: 1 });
  const clients = Array.from({ length: Math.ceil(count / 50) }, () => server.newClient());
  for (let index = 0; index < count; index++) {
    void (async () => {
      try {
        for await (const events of (clients[index % clients.length] as ApiClient).watch(resources.configmaps, 'kube-public', { resourceVersion: list.metadata.resourceVersion }, abort.signal)) {
          for (let item = 0; item < events.length; item++) { record(histogram, performance.now() - sentMs); waiting -= 1; if (waiting === 0) wake(); }
        }
      } catch { /* aborted */ }
    })();
  }
  await new Promise((resolve) => { setTimeout(resolve, 1_500); });
  for (let round = 0; round < 20; round++) {
    const all = new Promise<void>((resolve, reject) => { wake = resolve; setTimeout(() => reject(new Error(`${waiting} of ${count} watchers saw nothing within 10 s`)), 10_000).unref(); });
    waiting = count;
    sentMs = performance.now();
    await server.client.create(resources.configmaps, 'kube-public', { metadata: { name: `watched-${round}` } });
    await all;
  }
  abort.abort();
  const p = percentilesOf(histogram);
  return { [`write to ${count} watchers p50 ms`]: p.p50.toFixed(1), [`write to ${count} watchers p99 ms`]: p.p99.toFixed(1) };
}

async function bulk(server: ServerProcess, count: number): Promise<Record<string, string>> {
  const values: Record<string, string> = {};
  const kubectl = findProgram('kubectl');
  const objects = Array.from({ length: count }, (_, index) => [
    { apiVersion: 'v1', kind: 'Service', metadata: { name: `svc-${index}`, namespace: 'default' }, spec: { ports: [{ name: 'http', port: 80, targetPort: 8080 }] } },
    { apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', metadata: { name: `svc-${index}-1`, namespace: 'default', labels: { 'kubernetes.io/service-name': `svc-${index}` } }, addressType: 'IPv4', ports: [{ name: 'http', port: 8080, protocol: 'TCP' }], endpoints: [2, 3, 4].map((last) => ({ addresses: [`10.${(index >> 8) & 255}.${index & 255}.${last}`], conditions: { ready: true } })) },
  ]).flat();
  const viaKubectl = kubectl === undefined ? 0 : Math.min(objects.length, 1_000);
  if (viaKubectl > 0) {
    const file = join(server.dataDir, 'objects.json');
    writeFileSync(file, JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects.slice(0, viaKubectl) }));
    const started = performance.now();
    execFileSync(kubectl ?? '', ['--kubeconfig', server.ready.kubeconfig, 'apply', '-f', file], { env: { ...process.env, HOME: server.dataDir }, maxBuffer: 64 << 20, stdio: ['ignore', 'pipe', 'pipe'] });
    values['kubectl apply objects/s'] = ((viaKubectl * 1_000) / (performance.now() - started)).toFixed(0);
  }
  const rest = objects.slice(viaKubectl);
  const clients = Array.from({ length: clientCount }, () => server.newClient());
  const created = await together(clients, rest.length, (client, index) => {
    const object = rest[index] as unknown as KubeObject;
    return client.raw('POST', resourcePath(object.kind === 'Service' ? resources.services : resources.endpointslices, 'default'), object);
  });
  values['Services and slices created/s'] = created.perSecond.toFixed(0);
  const times: number[] = [];
  for (let round = 0; round < 5; round++) {
    const response = await server.client.transport.request({ method: 'GET', path: '/api/v1/services', headers: { accept: 'application/json' } });
    const started = performance.now();
    for await (const chunk of response.body) void chunk;
    times.push(performance.now() - started);
  }
  values[`list of ${count} Services ms`] = Math.min(...times).toFixed(0);
  values[`RSS MB with ${count} Services, ${count * 3} endpoints`] = server.rssMb().toFixed(0);
  return values;
}
