// Compiles every module once, so that the first start is as quick and small as the later ones: what is not compiled yet
// costs 26 MB and a second. Run by bin/setup.js with Node 26 and the flags of a serving process.
import { enableCompileCache, flushCompileCache } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { cacheDir } from './tuning.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
// worker-main.ts throws outside a worker, but is compiled.
const modules = ['cli/main.ts', 'cli/up.ts', 'control/start.ts', 'agent/agent.ts', 'proxy/proxier.ts', 'dns/server.ts', 'ingress/controller.ts', 'dns/worker.ts', 'ingress/worker.ts', 'proxy/userspace/worker.ts', 'api/worker-main.ts'];

enableCompileCache(cacheDir(root));
for (const name of modules) await import(pathToFileURL(join(root, name)).href).catch(() => {});
flushCompileCache();
process.exit(0);
