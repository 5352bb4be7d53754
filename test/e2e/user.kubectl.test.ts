// What a user does to a running netloom besides the main job: kill it in the middle of a load, close its terminal, press
// Ctrl-C twice, replace a watched manifest, run commands that cannot start, ask for DNS by other ways.

import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { ApiClient, httpTransport } from '../../api/client.ts';
import { transportOptions } from '../../api/kubeconfig.ts';
import { resources } from '../../api/resources.ts';
import type { KubeObject } from '../../api/types.ts';
import { hasTool, NetloomProcess, root, runCommand, type CommandResult, type Ready } from '../lib/command.ts';
import { waitFor } from '../lib/wait-for.ts';

const folder = mkdtempSync(join(tmpdir(), 'netloom-user-'));
const free = ['--api-port', '0', '--http-port', '0', '--https-port', '0', '--dns-port', '0', '--admin-port', '0', '--pod-network', 'loopback', '--nodeport-addresses', '127.0.0.1/32'];
const writtenBeforeKill = 60;
let netloom: NetloomProcess | undefined;
afterEach(() => { netloom?.remove(); netloom = undefined; });
afterAll(() => { rmSync(folder, { recursive: true, force: true }); });

const command = (...args: string[]): Promise<CommandResult> => runCommand(process.execPath, [join(root, 'bin/netloom.js'), ...args, '--data-dir', netloom?.dataDir ?? folder]);
const kubectl = (ready: Ready, ...args: string[]): Promise<CommandResult> => runCommand('kubectl', ['--kubeconfig', ready.kubeconfig, ...args], { env: { HOME: folder } });
const clientOf = (ready: Ready): ApiClient => new ApiClient(httpTransport(transportOptions(ready.kubeconfig)));

describe('a killed netloom', () => {
  test('every acknowledged write is there after kill -9 in the middle of a load, with the same ClusterIPs, and no process is left', async () => {
    netloom = new NetloomProcess({ args: ['up', ...free] });
    const client = clientOf(await netloom.ready());
    const acknowledged = new Map<string, string>();
    let isDead = false;
    const writer = async (index: number): Promise<void> => {
      for (let count = 0; !isDead; count++) {
        const name = `w${index}-${count}`;
        try {
          const made = await client.create<KubeObject & { spec: { clusterIP: string } }>(resources.services, 'default', { apiVersion: 'v1', kind: 'Service', metadata: { name }, spec: { ports: [{ port: 80 }] } } as never);
          acknowledged.set(name, made.spec.clusterIP);
        } catch { return; }
      }
    };
    const writers = [0, 1, 2, 3].map(writer);
    await waitFor(() => acknowledged.size >= writtenBeforeKill, { what: 'enough acknowledged writes' });
    netloom.child.kill('SIGKILL');
    await netloom.ended();
    isDead = true;
    await Promise.all(writers);
    await client.transport.close();
    const { dataDir } = netloom;
    await waitFor(() => netloom?.leftovers().length === 0, { what: 'all processes to be gone' });

    netloom = new NetloomProcess({ args: ['up', ...free], dataDir });
    const again = clientOf(await netloom.ready());
    const kept = new Map((await again.list<KubeObject & { spec: { clusterIP: string } }>(resources.services, 'default')).items.map((item) => [item.metadata.name, item.spec.clusterIP]));
    expect([...acknowledged].filter(([name, ip]) => kept.get(name) !== ip)).toEqual([]);
    expect(new Set(kept.values()).size).toBe(kept.size);
    await again.transport.close();
    expect(await netloom.stop()).toBe(0);
  });
});

describe('signals', () => {
  test('Ctrl-C twice ends a drain at once with 130; a closed terminal (SIGHUP) stops as cleanly as SIGTERM', async () => {
    netloom = new NetloomProcess({ args: ['up', '--ephemeral', '--drain', '60s', ...free] });
    const ready = await netloom.ready();
    const held = connect(ready.http.port, '127.0.0.1', () => { held.write('POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n1'); });
    held.on('error', () => {});
    await new Promise((resolve) => { held.once('connect', resolve); });
    netloom.child.kill('SIGINT');
    await waitFor(() => netloom?.output.includes('stopping (SIGINT)') === true, { what: 'the stop to begin' });
    // The first half second belongs to the same key press, passed on by npm or the launcher: keep pressing.
    await waitFor(() => { netloom?.child.kill('SIGINT'); return netloom?.exitCode !== undefined; }, { what: 'the end' });
    held.destroy();
    expect([0, 130]).toContain(netloom.exitCode);
    netloom.remove();

    netloom = new NetloomProcess({ args: ['up', '--ephemeral', ...free] });
    await netloom.ready();
    expect(await netloom.stop('SIGHUP')).toBe(0);
    expect(netloom.output).toContain('stopped, nothing left behind');
  });

  test('a reader of the output that goes away does not end a serving process', async () => {
    netloom = new NetloomProcess({ args: ['up', '--ephemeral', '--log-level', 'debug', ...free] });
    const ready = await netloom.ready();
    netloom.child.stdout?.destroy();
    netloom.child.stderr?.destroy();
    const client = clientOf(ready);
    await client.create(resources.configmaps, 'default', { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'still' } } as never);
    await client.transport.close();
    expect(netloom.exitCode).toBeUndefined();
    expect(await netloom.stop()).toBe(0);
  });
});

describe.skipIf(!hasTool('kubectl'))('a running netloom (needs kubectl)', () => {
  test('says why things do not work, by event, text and exit code', async () => {
    const file = join(folder, 'watched.yaml');
    const configMap = (value: string): string => `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: watched}\ndata: {v: "${value}"}\n`;
    writeFileSync(file, configMap('1'));
    netloom = new NetloomProcess({ args: ['up', '-f', file, '--watch', '--ephemeral', '--dns-tls-port', '0', '--dns-host', '192.0.2.7=db.test', '--dns-stub-domain', 'corp.test=127.0.0.1:9', ...free] });
    const ready = await netloom.ready();
    expect(ready.proxyMode).toBe('userspace');
    expect(netloom.output).toMatch(/dns .*tls 127\.0\.0\.1:\d+/);

    for (const value of ['2', '3']) {
      writeFileSync(`${file}.new`, configMap(value));
      renameSync(`${file}.new`, file);
      await waitFor(async () => (await kubectl(ready, 'get', 'cm', 'watched', '-o', 'jsonpath={.data.v}')).stdout === value, { what: `the replaced file to be applied: ${value}` });
    }

    const pods = join(folder, 'pods.yaml');
    const pod = (name: string, container: string): string => `---\napiVersion: v1\nkind: Pod\nmetadata: {name: ${name}}\nspec: {containers: [{name: c, image: x, ${container}}]}\n`;
    writeFileSync(pods, pod('nothing', 'args: []') + pod('noperm', 'command: [/etc/passwd]') + pod('folder', 'command: [/tmp]') + pod('nodir', 'command: [sleep, "9"], workingDir: /no/such'));
    expect((await kubectl(ready, 'apply', '-f', pods)).code).toBe(0);
    const wanted: [string, string][] = [['nothing', 'Set spec.containers[].command'], ['noperm', 'not executable (chmod +x)'], ['folder', 'it is a directory'], ['nodir', 'workingDir /no/such does not exist']];
    for (const [name, text] of wanted) await waitFor(async () => (await kubectl(ready, 'get', 'events', '--field-selector', `type=Warning,involvedObject.name=${name}`, '-o', 'jsonpath={.items[*].message}')).stdout.includes(text), { what: `${name}: ${text}` });

    expect((await command('explain', 'ingress', 'http://none.example/')).code).toBe(5);
    expect((await command('explain', 'svc', 'none')).code).toBe(4);
    expect((await command('run', '--name', 'none', '--rm')).code).toBe(4);
    expect((await command('run', '--name', 'x')).code).toBe(2);
    const exposed = await command('expose', 'local', '--to', '127.0.0.1:9');
    expect(exposed.stderr).toMatch(/cannot stand behind a Service.*\nfix: /);
    expect((await kubectl(ready, 'get', 'svc', 'local')).stderr).toContain('not found');
    expect(await netloom.stop()).toBe(0);
  });
});
