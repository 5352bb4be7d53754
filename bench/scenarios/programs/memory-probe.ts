// Runs in a network namespace: one netloom (`up`, or a `node` beside its server), its RSS empty and with the Services,
// once the kernel and DNS have the last of them. argv = { command, count }.

import { execFileSync } from 'node:child_process';
import { rssMbOf } from '../../lib/proc.ts';
import { answersDns } from '../../peers/dns.ts';
import { fill, makeNamespaceObject } from '../fill.ts';
import { startServer, type ServerProcess } from '../server-process.ts';
import { sleep } from './kernel-bed.ts';

const { command, count } = JSON.parse(process.argv[2] ?? '{}') as { command: 'up' | 'node'; count: number };
const nodeFlags = ['--no-agent', '--proxy-mode', 'nftables', '--pod-network', 'loopback', '--pod-cidr', '10.244.0.0/16', '--log-level', 'error'];
const server = await startServer(command === 'up' ? { command: 'up', flags: ['--ephemeral', ...nodeFlags] } : { command: 'server', flags: ['--ephemeral', '--log-level', 'error'] });
let node: ServerProcess | undefined;
try {
  await makeNamespaceObject(server.client);
  if (command === 'node') node = await startServer({ command: 'node', flags: ['--kubeconfig', server.ready.kubeconfig, '--node-name', 'n1', '--healthz-port', '0', ...nodeFlags] });
  const measured = node ?? server;
  await sleep(500);
  const empty = rssMbOf(measured.ready.pid);
  await fill(server, 0, count);
  await untilServed(measured);
  process.stdout.write(`${JSON.stringify({ empty, full: rssMbOf(measured.ready.pid) })}\n`);
} finally {
  await node?.stop();
  await server.stop();
}
process.exit(0);

/** The last Service has its name and its place in the kernel's table. */
async function untilServed(measured: ServerProcess): Promise<void> {
  const deadline = performance.now() + 30_000;
  const isDone = async (): Promise<boolean> => {
    if (!(await answersDns('127.0.0.1', measured.ready.dns?.port ?? 53, `svc-${count - 1}.bench.svc.cluster.local`))) return false;
    const text = execFileSync('nft', ['list', 'table', 'ip', 'netloom'], { maxBuffer: 256 << 20 }).toString();
    return (text.match(/10\.1(2[89]|[3-9]\d)\./g) ?? []).length >= count * 3;
  };
  while (!(await isDone())) {
    if (performance.now() > deadline) throw new Error('the last Service was not served within 30 s');
    await sleep(500);
  }
}
