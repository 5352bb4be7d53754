// Pods with a network of their own, on the real kernel. Everything happens inside a network and mount namespace that
// the test makes: `unshare` gives the agent an empty network and its own /run.

import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { afterEach, describe, expect, test } from 'vitest';
import { findMarked } from '../../agent/pods/process.ts';
import type { Pod } from '../../api/types.ts';
import { waitFor } from '../lib/wait-for.ts';

const isRoot = process.getuid?.() === 0;
const bridge = 'nltestbr';
const inNamespace = 'mount -t tmpfs tmpfs /run && ip link set lo up && exec "$@"';

interface World { child: ChildProcess; guard: ChildProcess; agentId: string; pod: Pod; dataDir: string; run(...argv: string[]): string }
let world: World | undefined;

/** Starts the agent in namespaces that a second process keeps open, so that the test can look after the agent died. */
async function startWorld(...scripts: string[]): Promise<World> {
  const dataDir = mkdtempSync(join(tmpdir(), 'netloom-netns-'));
  const guard = spawn('unshare', ['--net', '--mount', 'sh', '-c', inNamespace, 'sh', 'sh', '-c', 'echo up; exec sleep 600'], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(guard.stdout as Readable, 'data');
  const enter = ['-t', String(guard.pid), '--net', '--mount', '--'];
  const child = spawn('nsenter', [...enter, process.execPath, join(import.meta.dirname, 'agent-process.ts'), dataDir, 'netns', bridge, ...scripts], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = await once(child.stdout as Readable, 'data') as [Buffer];
  return { child, guard, dataDir, ...JSON.parse(line.toString()) as { agentId: string; pod: Pod }, run: (...argv) => execFileSync('nsenter', [...enter, ...argv], { encoding: 'utf8' }) };
}

afterEach(() => {
  world?.child.kill('SIGKILL');
  world?.guard.kill('SIGKILL');
  if (world !== undefined) rmSync(world.dataDir, { recursive: true, force: true });
  world = undefined;
});

const leftovers = (w: World): string => w.run('sh', '-c', `ip -o link show type veth; ip -o link show type bridge; ip route; ls /run/netns 2>/dev/null; true`);

describe.skipIf(!isRoot)('a Pod in its own network namespace', () => {
  test('has its address, host name and hosts file, can bind any port, and is reached from the host', async () => {
    world = await startWorld(`cat /etc/hosts; ip -o addr show eth0; exec "${process.execPath}" -e 'require("net").createServer(s => s.end(require("os").hostname())).listen(8080, "0.0.0.0")'`);
    const ip = world.pod.status?.podIP as string;
    expect(ip).toBe('10.244.77.2');
    const w = world;
    await waitFor(() => w.run(process.execPath, '-e', `require("net").connect(8080, "${ip}").on("data", (d) => process.stdout.write(d)).on("error", (e) => { console.error(e.message); process.exit(1); })`) === 'a');
    const log = readFileSync(join(w.dataDir, 'pods', `default_a_${w.pod.metadata.uid}`, 'main', '0.log'), 'utf8');
    expect(log).toContain(`${ip}\ta`);
    expect(log).toContain(`inet ${ip}/32`);
    expect(w.run('cat', '/proc/sys/net/ipv4/ip_forward').trim()).toBe('1');
  });

  test.skipIf(!existsSync('/usr/sbin/nft'))('a Pod reaches another Pod of its node through an address that the host translates', async () => {
    const server = `exec "${process.execPath}" -e 'require("net").createServer(s => s.end("from " + s.remoteAddress)).listen(8080)'`;
    const client = `exec "${process.execPath}" -e 'const go = () => require("net").connect(80, "10.96.0.50").on("data", (d) => console.log("answer " + d)).on("error", (e) => { console.log(e.code); setTimeout(go, 50); }); setTimeout(go, 200); setInterval(() => {}, 1000)'`;
    world = await startWorld(server, client);
    const w = world;
    w.run('nft', `add table ip t; add chain ip t pre { type nat hook prerouting priority -100; }; add rule ip t pre ip daddr 10.96.0.50 tcp dport 80 dnat to ${w.pod.status?.podIP}:8080`);
    // The server sees the Pod's own address, and the client's answer came back through the translation.
    const log = (): string => execFileSync('sh', ['-c', `cat ${w.dataDir}/pods/default_b_*/main/0.log`], { encoding: 'utf8' });
    await waitFor(() => /answer from (::ffff:)?10\.244\.77\.3/.test(log()));
  });

  test('nothing is left after the agent has stopped', async () => {
    world = await startWorld('exec sleep 1000');
    expect(leftovers(world)).toContain(bridge);
    world.child.kill('SIGTERM');
    await once(world.child, 'exit');
    expect(leftovers(world)).toBe('');
    expect(await findMarked('NETLOOM_AGENT_ID', world.agentId)).toEqual([]);
  });

  test('nothing is left after the agent was killed with SIGKILL', async () => {
    world = await startWorld('setsid sleep 1000 & exec sleep 1000');
    const w = world;
    w.child.kill('SIGKILL');
    await waitFor(async () => (await findMarked('NETLOOM_AGENT_ID', w.agentId)).length === 0);
    await waitFor(() => leftovers(w) === '');
  });
});
