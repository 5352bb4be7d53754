#!/usr/bin/env node
// Launcher of the `netloom` command. Plain JavaScript so that Node 20 can run it: it finds a Node that can run the
// sources (this one, or the Node 26 that comes along as an optional dependency) and starts cli/main.ts in it.
// When this Node is new enough no child process is made: what serves for long replaces this process by one with small
// pools of memory (bin/tuning.js), anything else runs right here.
import { spawn } from 'node:child_process';
import { accessSync, constants, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { cacheDir, isTuned, servingFlags, tunedEnvironment } from './tuning.js';

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '..');
const main = isFile(join(root, 'cli', 'main.ts')) ? join(root, 'cli', 'main.ts') : join(root, 'dist', 'cli', 'main.js');
const major = Number(process.versions.node.split('.')[0]);

const self = fileURLToPath(import.meta.url);
const flags = servingFlags(process.argv[2]);

if (major >= 26 && flags.length > 0 && !isTuned() && process.execve !== undefined && process.send === undefined) {
  process.execve(process.execPath, [process.execPath, ...process.execArgv, ...flags, self, ...process.argv.slice(2)], tunedEnvironment());
} else if (major >= 26) {
  delete process.env.MALLOC_ARENA_MAX;
  const { enableCompileCache } = await import('node:module');
  process.env.NETLOOM_COMPILE_CACHE ??= cacheDir(root);
  enableCompileCache(process.env.NETLOOM_COMPILE_CACHE);
  await import(pathToFileURL(main).href);
} else {
  const carried = findCarried();
  if (carried === undefined) {
    process.stderr.write(
      `xx  netloom needs Node 26; this is ${process.version} and the package node-${process.platform}-${process.arch} is not installed\n` +
        'fix: run "npm ci" in the netloom folder without --omit=optional, or put Node 26 first on PATH\n',
    );
    process.exit(69);
  }
  const child = spawn(carried, [...flags, self, ...process.argv.slice(2)], { stdio: 'inherit', env: flags.length > 0 ? tunedEnvironment() : process.env });
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR2']) process.on(signal, () => child.kill(signal));
  child.on('exit', (code, signal) => process.exit(code ?? { SIGKILL: 137, SIGTERM: 143, SIGINT: 130 }[signal] ?? 1));
  child.on('error', (error) => {
    process.stderr.write(`xx  the carried Node at ${carried} cannot run here: ${error.message}\n`);
    process.exit(69);
  });
}

function isFile(path) {
  try { return statSync(path).isFile(); } catch { return false; }
}

function findCarried() {
  for (const start of [root, join(root, '..', '..')]) {
    const path = join(start, 'node_modules', `node-${process.platform}-${process.arch}`, 'bin', 'node');
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {}
  }
  return undefined;
}
