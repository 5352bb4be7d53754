// Starts Debian's etcd for tests: one member or a cluster, in a temporary folder on free loopback ports.

import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { sleep, systemClock } from '../../../api/clock.ts';
import { silentLog } from '../../../api/log.ts';
import { openStorage } from '../../../control/storage/open.ts';
import { memoryDriver, sqliteDriver, temporaryFolder } from './drivers.ts';
import type { TestDriver } from './drivers.ts';

export const hasEtcd = spawnSync('etcd', ['--version']).status === 0;

/** A member that can be killed and started again with its data. */
export class EtcdMember {
  readonly endpoint: string;
  readonly peer: string;
  readonly name: string;
  readonly #folder: string;
  readonly #extraArguments: readonly string[];
  #process: ChildProcess | undefined;
  cluster: string;

  constructor(name: string, ports: readonly number[], folder: string, extraArguments: readonly string[] = [], scheme = 'http') {
    this.name = name;
    this.endpoint = `${scheme}://127.0.0.1:${ports[0]}`;
    this.peer = `http://127.0.0.1:${ports[1]}`;
    this.cluster = `${name}=${this.peer}`;
    this.#folder = folder;
    this.#extraArguments = extraArguments;
  }

  start(): void {
    this.#process = spawn('etcd', [
      '--name', this.name, '--data-dir', join(this.#folder, this.name), '--listen-client-urls', this.endpoint, '--advertise-client-urls', this.endpoint,
      '--listen-peer-urls', this.peer, '--initial-advertise-peer-urls', this.peer, '--initial-cluster', this.cluster, '--log-level', 'fatal',
      '--heartbeat-interval', '50', '--election-timeout', '500', ...this.#extraArguments,
    ], { stdio: 'ignore' });
  }

  /** Resolves once the member answers linearizable reads; behind TLS, once it listens. */
  async whenReady(): Promise<void> {
    if (this.endpoint.startsWith('https')) return this.#whenListening();
    for (let attempt = 0; attempt < 300; attempt++) {
      const answer = await fetch(`${this.endpoint}/v3/kv/range`, { method: 'POST', body: '{"key":"AA=="}' }).catch(() => undefined);
      if (answer?.ok === true) return;
      await sleep(systemClock, 30);
    }
    throw new Error(`etcd ${this.name} did not start`);
  }

  async #whenListening(): Promise<void> {
    const { hostname, port } = new URL(this.endpoint);
    for (let attempt = 0; attempt < 300; attempt++) {
      const isOpen = await new Promise<boolean>((resolve) => {
        const socket = connect(Number(port), hostname).once('connect', () => { socket.destroy(); resolve(true); }).once('error', () => resolve(false));
      });
      if (isOpen) return;
      await sleep(systemClock, 30);
    }
    throw new Error(`etcd ${this.name} did not start`);
  }

  /** Sends the signal and resolves once the process is gone. */
  async stop(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const running = this.#process;
    this.#process = undefined;
    if (running === undefined || running.exitCode !== null || running.signalCode !== null) return;
    const gone = new Promise((resolve) => { running.once('exit', resolve); });
    running.kill(signal);
    await gone;
  }

  /** Removes the data of a stopped member. */
  wipe(): void { rmSync(join(this.#folder, this.name), { recursive: true, force: true }); }

  /** Freezes or thaws the process, as a cut-off machine looks to others. */
  signal(signal: 'SIGSTOP' | 'SIGCONT'): void { this.#process?.kill(signal); }

  async status(): Promise<{ isLeader: boolean }> {
    const answer = await (await fetch(`${this.endpoint}/v3/maintenance/status`, { method: 'POST', body: '{}' })).json() as { header: { member_id: string }; leader: string };
    return { isLeader: answer.header.member_id === answer.leader };
  }
}

/** Starts `count` members that form one cluster. */
export async function startEtcd(count = 1, extraArguments: readonly string[] = [], scheme: 'http' | 'https' = 'http'): Promise<{ members: EtcdMember[]; dispose(): Promise<void> }> {
  const folder = temporaryFolder();
  const members: EtcdMember[] = [];
  for (let index = 0; index < count; index++) members.push(new EtcdMember(`m${index}`, await freePorts(), folder, extraArguments, scheme));
  const cluster = members.map((member) => `${member.name}=${member.peer}`).join(',');
  for (const member of members) {
    member.cluster = cluster;
    member.start();
  }
  await Promise.all(members.map((member) => member.whenReady()));
  return { members, dispose: async () => {
    await Promise.all(members.map((member) => member.stop()));
    rmSync(folder, { recursive: true, force: true });
  } };
}

async function freePorts(): Promise<number[]> {
  const servers = [createServer(), createServer()];
  const ports = await Promise.all(servers.map((server) => new Promise<number>((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port));
  })));
  await Promise.all(servers.map((server) => new Promise((resolve) => { server.close(resolve); })));
  return ports;
}

let shared: Promise<EtcdMember> | undefined;
let prefixCount = 0;

/** A store on an etcd that is shared by one test file, each under a prefix of its own. */
export async function etcdDriver(): Promise<TestDriver> {
  shared ??= startEtcd().then(({ members, dispose }) => {
    process.once('exit', () => { void members[0]?.stop(); });
    cleanups.push(dispose);
    return members[0] as EtcdMember;
  });
  const { endpoint } = await shared;
  const keyPrefix = `/registry-${prefixCount++}`;
  return {
    kind: 'etcd', isDurable: true,
    open: (limits = {}) => openStorage({ kind: 'etcd', endpoints: [endpoint], keyPrefix, clock: systemClock, log: silentLog, limits }),
    dispose: () => Promise.resolve(),
  };
}

const cleanups: (() => Promise<void>)[] = [];

/** Stops what `etcdDriver` started: call it after all tests of a file. */
export async function disposeEtcd(): Promise<void> { for (const cleanup of cleanups.splice(0)) await cleanup(); }

/** Every driver that can run on this machine. */
export const allDrivers: [string, () => TestDriver | Promise<TestDriver>][] = [
  ['memory', memoryDriver], ['sqlite', sqliteDriver], ...(hasEtcd ? [['etcd', etcdDriver] as [string, () => Promise<TestDriver>]] : []),
];
