// Installs dependencies when they are missing. Plain JavaScript: it runs on the Node that the machine has
// (20 or newer) before the project's own Node 26 is there. `--dev` also wants what the tests and benches need.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cacheDir, servingFlags } from './tuning.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const isDev = process.argv.includes('--dev');
const has = (path) => existsSync(join(root, 'node_modules', path));
/** Without it the first start would take a second longer and the memory of the compiler. */
function warmCompileCache() {
  const node = join(root, 'node_modules', `node-${process.platform}-${process.arch}`, 'bin', 'node');
  spawnSync(existsSync(node) ? node : process.execPath, [...servingFlags('up'), join(root, 'bin', 'warm.js')], { cwd: root, stdio: 'ignore', timeout: 60_000 });
}

const isReady = has('undici/package.json') && (!isDev || has('vitest/package.json'));
if (!isReady) {
  const args = ['ci', '--ignore-scripts', ...(isDev ? [] : ['--omit=dev'])];
  process.stderr.write(`first run: installing dependencies (npm ${args.join(' ')}) ...\n`);
  const started = Date.now();
  const result = spawnSync('npm', args, { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] });
  if (result.error !== undefined || result.status !== 0) {
    process.stderr.write('xx  npm ci failed: see the lines above; check that the npm registry can be reached, then run the command again\n');
    process.exit(result.status ?? 1);
  }
  process.stderr.write(`installed in ${((Date.now() - started) / 1000).toFixed(0)} s\n`);
}
if (!existsSync(cacheDir(root))) warmCompileCache();
