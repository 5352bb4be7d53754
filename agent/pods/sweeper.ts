// Finds and kills what left its process group: one pass over /proc serves all containers that ended at about the same
// time. Called by container.ts after each exit.

import { readdir, readFile } from 'node:fs/promises';
import { containerMark } from './process.ts';

const roundsMax = 5;

export class Sweeper {
  #waiting: { id: string; done: (count: number) => void }[] = [];
  #isRunning = false;

  /** Kills every process that carries this container mark; resolves with their number when none is left. */
  sweep(id: string): Promise<number> {
    return new Promise((done) => {
      this.#waiting.push({ id, done });
      if (!this.#isRunning) void this.#run();
    });
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    while (this.#waiting.length > 0) {
      const batch = this.#waiting;
      this.#waiting = [];
      const counts = new Map<string, number>(batch.map(({ id }) => [id, 0]));
      for (let round = 0; round < roundsMax; round++) {
        if (await killAll(counts) === 0) break;
      }
      for (const { id, done } of batch) done(counts.get(id) ?? 0);
    }
    this.#isRunning = false;
  }
}

async function killAll(counts: Map<string, number>): Promise<number> {
  let killed = 0;
  const names = await readdir('/proc').catch(() => []);
  await Promise.all(names.map(async (name) => {
    const code = name.charCodeAt(0);
    if (code < 48 || code > 57) return;
    const environment = await readFile(`/proc/${name}/environ`, 'latin1').catch(() => '');
    const id = markOf(environment);
    const count = id === undefined ? undefined : counts.get(id);
    if (id === undefined || count === undefined) return;
    try { process.kill(Number(name), 'SIGKILL'); } catch { return; }
    counts.set(id, count + 1);
    killed += 1;
  }));
  return killed;
}

function markOf(environment: string): string | undefined {
  const start = environment.startsWith(`${containerMark}=`) ? 0 : environment.indexOf(`\0${containerMark}=`) + 1;
  if (start === 0 && !environment.startsWith(`${containerMark}=`)) return undefined;
  const end = environment.indexOf('\0', start);
  return environment.slice(start + containerMark.length + 1, end < 0 ? undefined : end);
}
