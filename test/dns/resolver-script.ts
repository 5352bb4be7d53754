// Runs inside a fresh network and mount namespace (glibc.netns.test.ts): serves the case objects on port 53, makes this
// the namespace's only resolver, runs each command given as an argument and prints the outputs as JSON.

import { spawn, execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { KubeObject } from '../../api/types.ts';
import { podResolvConf } from '../../dns/resolv-conf.ts';
import { makeWorld, startServer } from './lib.ts';

const { fixtures } = JSON.parse(readFileSync(new URL('./data/names.json', import.meta.url), 'utf8')) as { fixtures: KubeObject[] };
execFileSync('ip', ['link', 'set', 'lo', 'up']);
for (const address of ['10.96.0.10/32', '10.244.9.9/32', 'fd00::9/128']) execFileSync('ip', ['address', 'add', address, 'dev', 'lo']);
const directory = mkdtempSync(join(tmpdir(), 'netloom-glibc-'));
const path = join(directory, 'resolv.conf');
writeFileSync(path, podResolvConf({ nameserver: '10.96.0.10', namespace: 'shop', clusterDomain: 'cluster.local' }));
execFileSync('mount', ['--bind', path, '/etc/resolv.conf']);
const nsswitch = join(directory, 'nsswitch.conf');
writeFileSync(nsswitch, 'hosts: dns\n');
execFileSync('mount', ['--bind', nsswitch, '/etc/nsswitch.conf']);

// A wildcard address on purpose: replies must still come from the address that was asked.
const { server } = await startServer(makeWorld(fixtures), { listen: [{ address: '0.0.0.0', port: 53 }], podsMode: 'insecure' });
const outputs: { command: string; code: number; text: string }[] = [];
for (const command of process.argv.slice(2)) {
  const text: string[] = [];
  const child = spawn('sh', ['-c', command]);
  child.stdout.on('data', (chunk) => text.push(String(chunk)));
  child.stderr.on('data', (chunk) => text.push(String(chunk)));
  const code = await new Promise<number>((resolve) => { child.on('close', (value) => resolve(value ?? 1)); });
  outputs.push({ command, code, text: text.join('') });
}
await server.stop(0);
process.stdout.write(JSON.stringify(outputs));
