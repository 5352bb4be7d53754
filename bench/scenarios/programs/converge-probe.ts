// Runs beside (or in the same namespace as) a fresh netloom: argv = mode, endpoint address, rounds. Switches a Service
// between two backends and prints how long each switch took to be routed, as JSON.

import { connect, createServer, type AddressInfo, type Server } from 'node:net';
import { once } from 'node:events';
import { resources } from '../../../api/resources.ts';
import type { EndpointSlice, Service } from '../../../api/types.ts';
import { startServer } from '../server-process.ts';

const [mode = 'userspace', endpointIP = '127.64.200.2', rounds = '50'] = process.argv.slice(2);

async function backend(name: string): Promise<{ server: Server; port: number }> {
  const server = createServer((socket) => { socket.on('error', () => {}); socket.end(name); });
  server.listen(0, endpointIP);
  await once(server, 'listening');
  return { server, port: (server.address() as AddressInfo).port };
}

function ask(host: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ host, port: 80 });
    let text = '';
    const timer = setTimeout(() => socket.destroy(), 1_000);
    socket.on('data', (chunk) => { text += chunk.toString(); });
    socket.on('error', () => {});
    socket.on('close', () => { clearTimeout(timer); resolve(text); });
  });
}

const a = await backend('a');
const b = await backend('b');
const server = await startServer({ command: 'up', flags: ['--ephemeral', '--no-agent', '--no-dns', '--no-ingress', '--proxy-mode', mode, '--pod-network', 'loopback', '--log-level', 'error', ...(mode === 'nftables' ? ['--pod-cidr', '10.244.0.0/16'] : [])] });
try {
  const service = await server.client.create<Service>(resources.services, 'default', { metadata: { name: 'web' }, spec: { ports: [{ name: 'http', port: 80, targetPort: 1 }] } } as Service);
  const ip = service.spec?.clusterIP ?? '';
  const slice = (port: number): EndpointSlice => ({
    metadata: { name: 'web-1', namespace: 'default', labels: { 'kubernetes.io/service-name': 'web' } }, addressType: 'IPv4', ports: [{ name: 'http', port, protocol: 'TCP' }],
    endpoints: [{ addresses: [endpointIP], conditions: { ready: true } }],
  } as unknown as EndpointSlice);
  await server.client.create(resources.endpointslices, 'default', slice(a.port));
  while (await ask(ip) !== 'a') await new Promise((resolve) => { setTimeout(resolve, 5); });
  const times: number[] = [];
  for (let round = 0; round < Number(rounds); round++) {
    const [name, port] = round % 2 === 0 ? ['b', b.port] : ['a', a.port];
    const started = performance.now();
    const written = server.client.patch(resources.endpointslices, 'default', 'web-1', { ports: [{ name: 'http', port, protocol: 'TCP' }] }, { type: 'merge' });
    while (await ask(ip) !== name) { if (performance.now() - started > 10_000) throw new Error('a change was not routed within 10 s'); }
    times.push(performance.now() - started);
    await written;
  }
  times.sort((x, y) => x - y);
  const at = (share: number): number => times[Math.min(times.length - 1, Math.floor(share * times.length))] ?? 0;
  process.stdout.write(`${JSON.stringify({ p50: at(0.5), p99: at(0.99), max: at(1), count: times.length })}\n`);
} finally {
  await server.stop();
  a.server.close();
  b.server.close();
}
