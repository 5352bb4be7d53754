// What every row needs once: the backends, pinned to the load's core, and a certificate.

import { execFileSync, type ChildProcess } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { makeFolder, removeFolder, stopChild, type Bed } from './contender.ts';
import { spawnPinned } from './proc.ts';

/** An address that the control plane takes as endpoint of a plain host (netloom's loopback Pod range). */
const backendHost = '127.64.200.1';

export async function makeBed(): Promise<{ bed: Bed; stop(): Promise<void> }> {
  const folder = makeFolder();
  const [certFile, keyFile, pemFile] = [join(folder, 'cert.pem'), join(folder, 'key.pem'), join(folder, 'both.pem')];
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-subj', '/CN=bench.example', '-addext', 'subjectAltName=DNS:bench.example,IP:127.0.0.1', '-keyout', keyFile, '-out', certFile], { stdio: 'ignore' });
  writeFileSync(pemFile, Buffer.concat([readFileSync(certFile), readFileSync(keyFile)]));
  const loadCore = availableParallelism() > 1 ? 1 : 0;
  const child: ChildProcess = spawnPinned(loadCore, process.execPath, [join(import.meta.dirname, '../peers/programs/backend.ts'), backendHost], { stdio: ['ignore', 'pipe', 'inherit'] });
  const line = await new Promise<string>((resolve, reject) => {
    child.stdout?.once('data', (chunk: Buffer) => resolve(chunk.toString('utf8')));
    child.once('exit', () => reject(new Error('the backends did not start')));
  });
  const ports = JSON.parse(line) as { http: number; big: number; tcp: number; websocket: number; grpc: number };
  const bed: Bed = { backendHost, httpPort: ports.http, bigPort: ports.big, tcpPort: ports.tcp, websocketPort: ports.websocket, grpcPort: ports.grpc, certFile, keyFile, pemFile, contenderCore: 0, loadCore, folder };
  return { bed, stop: async () => { await stopChild(child); removeFolder(folder); } };
}
