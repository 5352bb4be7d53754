// Bad input to the command: one line that says what to do, exit code 1 or 2, never a stack trace.

import { createServer, type AddressInfo } from 'node:net';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { NetloomProcess, root, runCommand, type CommandResult } from '../lib/command.ts';

const netloom = (...args: string[]): Promise<CommandResult> => runCommand(process.execPath, [join(root, 'bin/netloom.js'), ...args]);
const folder = mkdtempSync(join(tmpdir(), 'netloom-faults-'));
const free = ['--api-port', '0', '--http-port', '0', '--https-port', '0', '--dns-port', '0', '--admin-port', '0', '--proxy-mode', 'userspace'];
const noStack = (result: CommandResult): void => {
  expect(result.stderr).not.toMatch(/\n\s+at |node:internal|Error: /);
  expect(result.stdout).not.toMatch(/\n\s+at /);
};
afterAll(() => { rmSync(folder, { recursive: true, force: true }); });

describe('usage errors end with exit code 2', () => {
  test.each([
    ['an unknown flag', ['up', '--no-such-flag'], /unknown option '--no-such-flag'/],
    ['an unknown command', ['upp'], /unknown command 'upp'/],
    ['a port that is no port', ['up', '--api-port', '70000'], /port from 0/],
    ['a CIDR that is none', ['up', '--service-cidr', '10.96/16'], /CIDR/],
    ['an address that is none', ['up', '--bind', 'localhost'], /IP address/],
    ['an engine that does not exist', ['up', '--proxy-mode', 'ipvs'], /Allowed choices are auto, nftables, userspace/],
  ])('%s', async (_name, args, message) => {
    const result = await netloom(...args);
    expect(result.stderr).toMatch(message);
    expect(result.code).toBe(2);
    noStack(result);
  });
});

describe('what cannot be started ends with exit code 1 and says what to do', () => {
  let holder: ReturnType<typeof createServer>;
  let port = 0;
  beforeAll(async () => {
    holder = createServer();
    await new Promise<void>((resolve) => { holder.listen(0, '127.0.0.1', resolve); });
    port = (holder.address() as AddressInfo).port;
  });
  afterAll(() => { holder.close(); });

  test.each(['--api-port', '--http-port', '--admin-port', '--dns-port'])('%s in use names the port, its holder and the way out', async (flag) => {
    const dataDir = mkdtempSync(join(folder, 'data-'));
    const result = await netloom('up', '--data-dir', dataDir, ...free.map((item, index) => (free[index - 1] === flag ? String(port) : item)));
    expect(result.stderr).toMatch(new RegExp(`xx .*${port}.*\\(pid ${process.pid}\\).*PortInUse\\nfix: `));
    expect(result.code).toBe(1);
    noStack(result);
  });

  test('a manifest path that does not exist', async () => {
    const result = await netloom('up', '--data-dir', folder, '-f', join(folder, 'none.yaml'), ...free);
    expect(result.stderr).toMatch(/xx {2}cannot read .*none\.yaml.*\nfix: /);
    expect(result.code).toBe(1);
  });

  test('a data directory that cannot be made', async () => {
    const file = join(folder, 'file');
    writeFileSync(file, '');
    const result = await netloom('up', '--data-dir', join(file, 'x'), ...free);
    expect(result.stderr).toMatch(/xx {2}cannot make the data directory.*\nfix: /);
    expect(result.code).toBe(1);
    noStack(result);
  });

  test('commands that need a running netloom say so', async () => {
    const empty = mkdtempSync(join(folder, 'empty-'));
    expect((await netloom('status', '--data-dir', empty)).code).toBe(3);
    const result = await netloom('kubeconfig', '--data-dir', empty);
    expect(result.stderr).toMatch(/no netloom runs with data directory.*\nfix: start one with "netloom up"/);
    expect(result.code).toBe(3);
  });
});

describe('a running netloom', () => {
  let process: NetloomProcess | undefined;
  afterEach(() => { process?.remove(); process = undefined; });

  test('a broken document is named by file, line and number, and the others are applied', async () => {
    const file = join(folder, 'mixed.yaml');
    writeFileSync(file, [
      'apiVersion: v1', 'kind: Namespace', 'metadata: {name: good}', '---', 'apiVersion: v1', 'kind: ConfigMap', 'metadata: {name: broken, namespace: good', '---',
      'apiVersion: v1', 'kind: Nonsense', 'metadata: {name: x}', '---', 'apiVersion: v1', 'kind: Service', 'metadata: {name: bad, namespace: good}', 'spec: {ports: [{port: 99999}]}', '---',
      'apiVersion: v1', 'kind: ConfigMap', 'metadata: {name: fine, namespace: good}', 'data: {a: b}', ''].join('\n'));
    process = new NetloomProcess({ args: ['up', '-f', file, '--ephemeral', ...free, '--pod-network', 'loopback'] });
    await process.ready();
    expect(process.output).toMatch(/xx {2}.*mixed\.yaml:\d+: document 2: not valid YAML/);
    expect(process.output).toMatch(/xx {2}.*mixed\.yaml:9: document 3: no matches for kind "Nonsense"/);
    expect(process.output).toMatch(/xx {2}.*mixed\.yaml:13: document 4: .*spec\.ports\[0\]\.port/);
    expect(process.output).toMatch(/2 objects from/);
    expect(await process.stop()).toBe(1);
  });

  test('a second one on the same data directory is refused by name', async () => {
    process = new NetloomProcess({ args: ['up', ...free, '--pod-network', 'loopback'] });
    const ready = await process.ready();
    const second = await netloom('up', '--data-dir', process.dataDir, ...free);
    expect(second.stderr).toMatch(new RegExp(`another netloom \\(pid ${ready.pid}\\) uses .*\\nfix: `));
    expect(second.code).toBe(1);
    expect(await process.stop('SIGINT')).toBe(0);
  });
});
