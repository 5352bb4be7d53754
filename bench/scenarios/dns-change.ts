// From an API write to the DNS answer that shows it, among 1,000 and 10,000 Services: the only endpoint of a headless
// Service gets another address, and its name is asked over one UDP socket until the answer has it.

import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { resources } from '../../api/resources.ts';
import type { KubeObject } from '../../api/types.ts';
import { encodeQuery } from '../lib/dns-client.ts';
import { makeHistogram, percentilesOf, record } from '../lib/histogram.ts';
import { runProgram } from '../lib/namespace.ts';
import type { SystemContext, SystemRow } from '../system-rows.ts';
import { fill, makeNamespaceObject } from './fill.ts';
import { startServer, type ServerProcess } from './server-process.ts';

const name = 'moving.bench.svc.cluster.local';

export const dnsChangeRow: SystemRow = {
  name: 'dns-change', title: 'API write to the new DNS answer', goal: 'p50 <= 5 ms, p99 <= 20 ms at 10,000 Services', isHeavy: false,
  missing: () => undefined,
  async measure(context: SystemContext) {
    const { isSmoke, isQuick } = context;
    const values: Record<string, string> = {};
    const server = await startServer({ command: 'up', flags: ['--ephemeral', '--no-agent', '--no-proxy', '--no-ingress', '--pod-network', 'loopback', '--log-level', 'error'] });
    const socket = createSocket('udp4');
    try {
      socket.bind(0, '127.0.0.1');
      await once(socket, 'listening');
      await makeNamespaceObject(server.client);
      await server.client.create(resources.services, 'bench', { metadata: { name: 'moving', namespace: 'bench' }, spec: { clusterIP: 'None', ports: [{ name: 'http', port: 80 }] } } as KubeObject);
      await server.client.create(resources.endpointslices, 'bench', { metadata: { name: 'moving-1', namespace: 'bench', labels: { 'kubernetes.io/service-name': 'moving' } }, addressType: 'IPv4', ports: [{ name: 'http', port: 80, protocol: 'TCP' }], endpoints: [{ addresses: ['10.200.0.1'], conditions: { ready: true } }] } as unknown as KubeObject);
      let present = 0;
      for (const count of isSmoke ? [20] : isQuick ? [1_000] : [1_000, 10_000]) {
        await fill(server, present, count);
        present = count;
        const p = await changes(server, socket, isSmoke ? 5 : isQuick ? 100 : 200);
        values[`${count.toLocaleString('en')} Services: p50 / p99 / max ms`] = `${p.p50.toFixed(2)} / ${p.p99.toFixed(2)} / ${p.max.toFixed(1)}`;
      }
    } finally { socket.close(); await server.stop(); }
    return values;
  },
};

async function changes(server: ServerProcess, socket: Socket, count: number): Promise<ReturnType<typeof percentilesOf>> {
  const histogram = makeHistogram();
  for (let round = 0; round < count; round++) {
    const address = [10, 201, round >> 8, round & 255];
    const started = performance.now();
    const written = server.client.patch(resources.endpointslices, 'bench', 'moving-1', { endpoints: [{ addresses: [address.join('.')], conditions: { ready: true } }] }, { type: 'merge' });
    await untilAnswered(server, socket, Buffer.from(address));
    record(histogram, performance.now() - started);
    await written;
    await untilAnswered(server, socket, Buffer.from(address));
    // Back again, so that every round begins with the same answer.
    await server.client.patch(resources.endpointslices, 'bench', 'moving-1', { endpoints: [{ addresses: ['10.200.0.1'], conditions: { ready: true } }] }, { type: 'merge' });
    await untilAnswered(server, socket, Buffer.from([10, 200, 0, 1]));
  }
  return percentilesOf(histogram);
}

async function untilAnswered(server: ServerProcess, socket: Socket, address: Buffer): Promise<void> {
  const started = performance.now();
  for (let id = 1; ; id = (id % 65_535) + 1) {
    const answer = await ask(socket, server.ready.dns?.port ?? 53, id);
    if (answer?.includes(address, 12) === true) return;
    if (performance.now() - started > 10_000) throw new Error('a change was not answered within 10 s');
    // Leaves the server's core alone for a moment in place of flooding it with questions.
    await new Promise((resolve) => { setImmediate(resolve); });
  }
}

function ask(socket: Socket, port: number, id: number): Promise<Buffer | undefined> {
  return new Promise((resolve) => {
    const finish = (answer: Buffer | undefined): void => { clearTimeout(timer); socket.off('message', onMessage); resolve(answer); };
    const onMessage = (answer: Buffer): void => { if (answer.readUInt16BE(0) === id) finish(answer); };
    const timer = setTimeout(() => finish(undefined), 500);
    socket.on('message', onMessage);
    socket.send(encodeQuery(name, 1, id), port, '127.0.0.1');
  });
}

interface Memory { freshMb: number; usedMb: number; startMs: number; rssMb: number; answered: number }

export const dnsMemoryRow: SystemRow = {
  name: 'dns-memory', title: 'Memory of the DNS thread', goal: '10,000 Services with 100,000 endpoints <= 200 MB', isHeavy: false,
  missing: () => undefined,
  async measure(context: SystemContext) {
    const [serviceCount, perService] = context.isSmoke ? [50, 3] : [10_000, 10];
    const memory = await runProgram<Memory>('dns-memory-probe.ts', { timeoutMs: 60_000, input: { serviceCount, perService } });
    return {
      [`${serviceCount.toLocaleString('en')} Services x ${perService}: thread heap MB`]: memory.freshMb.toFixed(0), [`after ${memory.answered.toLocaleString('en')} names were asked`]: memory.usedMb.toFixed(0),
      'whole process RSS MB, objects included': memory.rssMb.toFixed(0), 'start with all of them ms': memory.startMs.toFixed(0),
    };
  },
};
