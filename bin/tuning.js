// How a netloom process that serves for long is run: flags of the engine, environment and the folder of compiled code.
// Used by bin/netloom.js, and by bin/setup.js to prepare compiled code, which holds for one set of flags only. Plain
// JavaScript for Node 20.
import { join } from 'node:path';

const servingCommands = new Set(['up', 'server', 'node', 'dns']);
/**
 * `--expose-gc`: cli/up.ts gives back what only the start needed. The regular expressions without backtracking that the
 * Ingress uses are on from the start: a flag that is set later makes the engine refuse code compiled before. Half spaces
 * of 4 MB for young objects instead of 16: 25 MB less in the main thread, and the same cost per request (18 us through
 * the Ingress with both).
 */
const flags = ['--expose-gc', '--enable-experimental-regexp-engine', '--max-semi-space-size=4'];

/** Flags of node for this subcommand; none for commands that end soon. */
export function servingFlags(command) { return servingCommands.has(command) ? flags : []; }

/** Whether this process has such a flag already, ours or another size that somebody chose. */
export function isTuned() { return [...process.execArgv, process.env.NODE_OPTIONS ?? ''].some((text) => text.includes('semi-space-size')); }

/** Threads share two arenas of malloc: each of its own would keep what start-up needed (10 MB). */
export function tunedEnvironment() { return { ...process.env, MALLOC_ARENA_MAX: process.env.MALLOC_ARENA_MAX ?? '2' }; }

/** Compiled code is kept in the project's own folder: one below /tmp could be prepared by somebody else. */
export function cacheDir(root) { return join(root, 'node_modules', '.cache', 'netloom'); }
