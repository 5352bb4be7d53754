// What Node users run today: http-proxy with a keep-alive agent, and undici's dispatch under node:http. Each is a
// program of its own (peers/programs/), started fresh and pinned.

import { join } from 'node:path';
import { launch } from '../lib/launch.ts';
import { backendPort, freePort, type Bed, type Contender } from '../lib/contender.ts';

function nodeProxy(name: string, program: string): Contender {
  return {
    name,
    missing: () => undefined,
    async start(bed: Bed, row: string) {
      const port = await freePort();
      const backend = backendPort(bed, row);
      return launch({ core: bed.contenderCore, file: process.execPath, args: ['--disable-warning=DEP0060', join(import.meta.dirname, 'programs', program), String(port), bed.backendHost, String(backend)], port });
    },
  };
}

export const httpProxy: Contender = nodeProxy('http-proxy', 'http-proxy.ts');
export const undiciProxy: Contender = nodeProxy('undici', 'undici.ts');
