// The process that cleans up when the agent is killed with SIGKILL: a shell that reads a pipe from the agent and does
// nothing until the pipe ends without the word `quit`. Then it kills every process that carries the agent's mark and
// removes Pod networks. It leads its own session, so that a signal to the agent's group does not reach it; it costs
// one sleeping `sh`. On systems without /proc it does nothing, and process groups are all that is cleaned.

import { spawn, type ChildProcess } from 'node:child_process';
import type { Log } from '../../api/log.ts';
import { agentMark } from './process.ts';

const script = `
trap '' INT TERM HUP
while read -r word; do [ "$word" = quit ] && exit 0; done
for round in 1 2 3 4 5 6 7 8 9 10; do
  files=$(grep -lzsx "${agentMark}=$1" /proc/[0-9]*/environ)
  [ -z "$files" ] && break
  for file in $files; do pid=\${file#/proc/}; kill -9 "\${pid%%/*}" 2>/dev/null; done
done
`;

export class Reaper {
  readonly #child: ChildProcess;

  /** `cleanupScript` runs after the processes are dead. */
  constructor(options: { agentId: string; cleanupScript: string; log: Log }) {
    this.#child = spawn('sh', ['-c', `${script}\n${options.cleanupScript}`, 'netloom-reaper', options.agentId], {
      detached: true, stdio: ['pipe', 'ignore', 'ignore'], cwd: '/', env: { PATH: process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin' },
    });
    this.#child.on('error', (err) => options.log.warn('no reaper: processes may outlive a killed agent', { err }));
    this.#child.stdin?.on('error', () => {});
    this.#child.unref();
    (this.#child.stdin as unknown as { unref?: () => void } | null)?.unref?.();
  }

  get pid(): number | undefined { return this.#child.pid; }

  /** Ends the reaper without any clean-up; resolves when it is gone. */
  stop(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#child.exitCode !== null || this.#child.pid === undefined) return resolve();
      this.#child.ref();
      this.#child.once('exit', () => resolve());
      this.#child.stdin?.end('quit\n');
    });
  }
}
