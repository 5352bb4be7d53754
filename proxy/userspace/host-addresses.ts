// Addresses of this host: which it has, and adding ClusterIPs and VIPs to the loopback interface where they cannot be
// bound otherwise (root only; everything in 127.0.0.0/8 can be bound as it is). What was added is removed at stop.

import { spawn } from 'node:child_process';
import { networkInterfaces } from 'node:os';
import { isLoopback } from '../../api/address.ts';
import type { Log } from '../../api/log.ts';

export function listHostAddresses(): string[] {
  return Object.values(networkInterfaces()).flatMap((each) => each ?? []).map((each) => each.address.split('%')[0] as string);
}

export class HostAddresses {
  readonly #log: Log;
  readonly isAllowed: boolean;
  readonly #added = new Set<string>();
  #own: ReadonlySet<string> = new Set();

  constructor(options: { log: Log; isAllowed: boolean }) {
    this.#log = options.log;
    this.isAllowed = options.isAllowed;
  }

  /** Makes exactly these addresses bindable, as far as they are not already. One `ip` run per call that changes something. */
  async ensure(wanted: ReadonlySet<string>): Promise<void> {
    if (!this.isAllowed) return;
    this.#own = new Set(listHostAddresses());
    const lines: string[] = [];
    for (const address of wanted) {
      if (isLoopback(address) || this.#added.has(address) || this.#own.has(address)) continue;
      this.#added.add(address);
      lines.push(`addr add ${address}/${address.includes(':') ? '128 nodad' : '32'} dev lo`);
    }
    for (const address of this.#added) {
      if (wanted.has(address)) continue;
      this.#added.delete(address);
      lines.push(`addr del ${address}/${address.includes(':') ? 128 : 32} dev lo`);
    }
    if (lines.length > 0) await this.#run(lines);
  }

  async removeAll(): Promise<void> { await this.ensure(new Set()); }

  #run(lines: readonly string[]): Promise<void> {
    return new Promise((resolve) => {
      const child = spawn('ip', ['-force', '-batch', '-'], { stdio: ['pipe', 'ignore', 'pipe'] });
      let text = '';
      child.stderr.on('data', (data: Buffer) => { text += data.toString(); });
      child.stdin.on('error', () => {});
      child.on('error', (err) => { this.#log.warn('addresses not added: the ip tool is missing', { err }); resolve(); });
      child.on('close', (code) => {
        if (code !== 0) this.#log.warn('some addresses could not be changed on the loopback interface', { detail: text.trim().split('\n')[0] });
        resolve();
      });
      child.stdin.end(`${lines.join('\n')}\n`);
    });
  }
}
