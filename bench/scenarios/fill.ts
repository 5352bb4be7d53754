// Thousands of Services with their EndpointSlices, written to a running netloom through its API.

import type { ApiClient } from '../../api/client.ts';
import { resourcePath, resources } from '../../api/resources.ts';
import type { KubeObject } from '../../api/types.ts';
import { endpointAddress, makeSlice } from '../lib/world.ts';
import type { ServerProcess } from './server-process.ts';

const clientCount = 16;

export async function makeNamespaceObject(client: ApiClient): Promise<void> { await client.raw('POST', resourcePath(resources.namespaces, undefined), { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'bench' } }); }

/** Services `from` to `to`, ClusterIPs given by the API server, each with one slice of `perService` endpoints. */
export async function fill(server: ServerProcess, from: number, to: number, perService = 3, addressOf: (index: number, number: number) => string = endpointAddress): Promise<void> {
  let next = from;
  await Promise.all(Array.from({ length: clientCount }, async () => {
    const client = server.newClient();
    for (let index = next++; index < to; index = next++) {
      await client.raw('POST', resourcePath(resources.services, 'bench'), { apiVersion: 'v1', kind: 'Service', metadata: { name: `svc-${index}`, namespace: 'bench' }, spec: { ports: [{ name: 'http', port: 80, targetPort: 8080 }] } });
      const slice: KubeObject = makeSlice(index, Array.from({ length: perService }, (_, number) => addressOf(index, number)));
      delete slice.metadata.resourceVersion;
      await client.raw('POST', resourcePath(resources.endpointslices, 'bench'), slice);
    }
  }));
}
