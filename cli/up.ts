// `netloom up`, `server`, `node` and `dns`: starts the stack, applies manifests, tells the person what to do next,
// serves until a signal, drains and stops. Every failure ends in one line and exit code 1; nothing is left behind.

import { existsSync, mkdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { flushCompileCache } from 'node:module';
import { createLog } from '../api/log.ts';
import { sleep, systemClock } from '../api/clock.ts';
import { NetloomError } from '../api/errors.ts';
import { AdminServer, type Health } from './admin.ts';
import type { AllFlags } from './flags.ts';
import { explainLive } from './explain-live.ts';
import { findInstance, instancePath, removeInstance, writeJsonFile, type ReadyInfo } from './instance.ts';
import { applyManifests, KindFinder, listManifestFiles, loadManifests, watchFiles, type AppliedObject, type ManifestProblem } from './manifests.ts';
import { version } from './version.ts';
import { paint, print, printError, say, seconds } from './output.ts';
import { printNext } from './next-steps.ts';
import { describeMachine, makeSettings, portHolder, type RunKind, type Settings } from './settings.ts';
import { Stack, type Part } from './stack.ts';
import { waitForPods } from './wait-pods.ts';

/** What was started gets this long to stop when a later part could not start. */
const stopAfterFailureMs = 3_000;
/** So long after the start, when the first requests have had their turn. */
const giveBackDelayMs = 2_000;
const giveBackHeapBytesMax = 64 * 1024 * 1024;
const sameSignalMs = 500;

export async function up(raw: Record<string, unknown>, kind: RunKind): Promise<void> {
  const started = systemClock.monotonicMs();
  const flags = raw as unknown as AllFlags;
  const settings = makeSettings(flags, kind);
  const files = flags.file === undefined ? [] : listManifestFiles(flags.file);
  prepareDataDir(settings);
  const log = createLog({ level: settings.logLevel, format: settings.logFormat });
  const stopping = stopSignals(kind);
  // A reader that goes away (a closed terminal, `| head`) does not end a process that serves.
  for (const stream of [process.stdout, process.stderr]) stream.removeAllListeners('error').on('error', () => {});
  for (const event of ['uncaughtException', 'unhandledRejection'] as const) process.on(event, (error: unknown) => log.error('unexpected error, serving on', { err: error instanceof Error ? (error.stack ?? error.message).split('\n').slice(0, 3).join(' ') : String(error) }));
  say(`netloom ${version}   ${describeMachine()}   mode: ${settings.proxyMode} (${settings.proxyModeReason})`);
  say();
  const run = new Run(settings, new Stack(settings, log), started);
  try {
    // A signal during a start that waits for something ends the wait.
    await Promise.race([run.start(files, stopping), stopping.promise]);
  } catch (error) {
    await Promise.race([run.stop(0), sleep(systemClock, stopAfterFailureMs)]);
    printError(withHolder(error));
    process.exit(1);
  }
  flushCompileCache();
  systemClock.after(giveBackDelayMs, giveBackMemory);
  const signal = await stopping.promise;
  say(`\nstopping (${signal})${settings.drainMs > 0 && process.stdin.isTTY ? '; once more stops at once' : ''}`);
  stopAtOnceOnRepeat();
  await run.stop(settings.drainMs);
  say('stopped, nothing left behind');
  process.exitCode = run.hasProblems ? 1 : 0;
  process.exit();
}

/** What only the start needed goes back to the system, 13 of 167 MB with the example shop. A process with much state is left alone: it would stand still for long. */
function giveBackMemory(): void {
  if (process.memoryUsage().heapUsed < giveBackHeapBytesMax) globalThis.gc?.({ type: 'major', execution: 'sync', flavor: 'last-resort' });
}

/** One run: the stack plus admin port, manifests and ready file. */
class Run {
  readonly #settings: Settings;
  readonly #stack: Stack;
  readonly #startedMs: number;
  #admin: AdminServer | undefined;
  #isReady = false;
  #watcher: { close(): void } | undefined;
  #info: ReadyInfo | undefined;
  hasProblems = false;

  constructor(settings: Settings, stack: Stack, startedMs: number) {
    this.#settings = settings;
    this.#stack = stack;
    this.#startedMs = startedMs;
  }

  async start(files: readonly string[], stopping: { isAsked: boolean }): Promise<void> {
    const { flags } = this.#settings;
    await this.#startAdmin();
    await this.#stack.start((part) => { if (!stopping.isAsked) this.#report(part); });
    for (const part of this.#stack.parts) part.registerMetrics?.(this.#admin!.registry);
    if (stopping.isAsked) return;
    const applied = files.length === 0 ? [] : await this.#apply(files);
    this.#isReady = true;
    const info = this.#readyInfo();
    this.#info = info;
    writeJsonFile(instancePath(this.#settings.dataDir), info);
    if (flags.readyFile !== undefined) writeJsonFile(flags.readyFile, info);
    if (flags.watch === true) this.#watcher = watchFiles(flags.file ?? [], systemClock, () => { void this.#reapply(); });
    await printNext(info, this.#stack, applied);
    print(`ready in ${seconds(info.readySeconds * 1_000)}`);
  }

  async stop(drainMs: number): Promise<void> {
    this.#isReady = false;
    this.#watcher?.close();
    await this.#stack.stop(drainMs);
    await this.#admin?.stop();
    if (this.#info !== undefined) removeInstance(this.#settings.dataDir);
    if (this.#settings.flags.readyFile !== undefined) rmSync(this.#settings.flags.readyFile, { force: true });
  }

  async #startAdmin(): Promise<void> {
    this.#admin = new AdminServer({
      port: this.#settings.adminPort, isReady: () => this.#isReady, proxyMode: () => this.#settings.proxyMode,
      checks: () => this.#health(), status: () => this.#status(),
      explain: (what, query) => explainLive(this.#stack, what, query),
    });
    await this.#admin.start();
  }

  #health(): Record<string, Health> {
    return Object.fromEntries(this.#stack.parts.map((part) => [part.name.replaceAll(' ', '-'), part.health()]));
  }

  #status(): Record<string, unknown> {
    const proxy = this.#stack.proxier as { status?: () => unknown } | undefined;
    return { ready: this.#isReady, services: this.#stack.view?.size ?? 0, health: this.#health(), ...(proxy?.status === undefined ? {} : { proxy: proxy.status() }) };
  }

  #report(part: Part): void {
    if (part.where !== '') say(`  ${paint('ok')}  ${part.name.padEnd(14)} ${part.where.padEnd(58)} ${seconds(part.startMs)}`);
  }

  async #apply(files: readonly string[]): Promise<AppliedObject[]> {
    const started = systemClock.monotonicMs();
    const client = this.#stack.client ?? this.#stack.adminClient();
    const loaded = loadManifests(files);
    const result = await applyManifests(client, new KindFinder(client), loaded.objects);
    this.#reportProblems([...loaded.problems, ...result.problems]);
    const pods = this.#stack.agent === undefined ? undefined : await waitForPods(this.#stack, result.applied);
    const podText = pods === undefined || pods.wanted === 0 ? '' : `, ${pods.ready} of ${pods.wanted} Pods ready`;
    const mark = pods !== undefined && pods.ready < pods.wanted ? '!!' : 'ok';
    say(`  ${paint(mark)}  ${'manifests'.padEnd(14)} ${`${result.applied.length} objects from ${this.#settings.flags.file?.join(', ')}${podText}`.padEnd(58)} ${seconds(systemClock.monotonicMs() - started)}`);
    return result.applied;
  }

  async #reapply(): Promise<void> {
    try {
      const client = this.#stack.client ?? this.#stack.adminClient();
      const loaded = loadManifests(listManifestFiles(this.#settings.flags.file ?? []));
      const result = await applyManifests(client, new KindFinder(client), loaded.objects);
      this.#reportProblems([...loaded.problems, ...result.problems]);
      say(`${paint('ok')}  applied ${result.applied.length} objects again`);
    } catch (error) { say(`${paint('xx')}  ${(error as Error).message}`); }
  }

  #reportProblems(problems: readonly ManifestProblem[]): void {
    if (problems.length > 0) this.hasProblems = true;
    for (const problem of problems) say(`  ${paint('xx')}  ${problem.where}: ${problem.message.replace(/\s*\n\s*/g, '; ')}`);
  }

  #readyInfo(): ReadyInfo {
    const { settings, control, dns, ingress } = this.#stack;
    const first = dns?.addresses[0];
    return {
      pid: process.pid, version, node: settings.nodeName, proxyMode: settings.proxyMode,
      kubeconfig: control?.kubeconfigPath ?? this.#stack.kubeconfigPath ?? '',
      ...(control === undefined ? {} : { api: { address: control.address, port: control.port } }),
      ...(ingress === undefined ? {} : { http: { address: settings.bind, port: ingress.httpPort }, https: { address: settings.bind, port: ingress.httpsPort } }),
      ...(first === undefined ? {} : { dns: { address: first.address, port: first.port }, dnsClusterIP: settings.dnsClusterIP }),
      admin: { address: '127.0.0.1', port: this.#admin?.port ?? 0 },
      serviceCIDR: settings.serviceCIDRs.join(','), podCIDR: settings.podCIDR, clusterDomain: settings.clusterDomain,
      startedAt: new Date().toISOString(), readySeconds: (systemClock.monotonicMs() - this.#startedMs) / 1_000,
    };
  }
}

function prepareDataDir(settings: Settings): void {
  const running = findInstance(settings.dataDir);
  if (running !== undefined) {
    throw new NetloomError('StoreLocked', `another netloom (pid ${running.pid}) uses ${settings.dataDir}`, { source: 'config', hint: `stop it (kill ${running.pid}), or choose another --data-dir` });
  }
  try { mkdirSync(settings.dataDir, { recursive: true, mode: 0o700 }); } catch (cause) {
    throw new NetloomError('PermissionDenied', `cannot make the data directory ${settings.dataDir}: ${(cause as Error).message}`, { source: 'config', cause, hint: 'choose another with --data-dir' });
  }
  const owner = statSync(settings.dataDir).uid;
  if (process.getuid !== undefined && process.getuid() !== 0 && owner !== process.getuid()) {
    throw new NetloomError('PermissionDenied', `the data directory ${settings.dataDir} belongs to another user (uid ${owner})`, { source: 'config', hint: 'run as that user, or choose another with --data-dir' });
  }
  if (existsSync(instancePath(settings.dataDir))) removeInstance(settings.dataDir);
}

/** Adds who holds the port to "port in use" errors. */
function withHolder(error: unknown): unknown {
  if (!(error instanceof NetloomError) || error.code !== 'PortInUse') return error;
  const port = Number(error.context['port'] ?? /(?:port |:)(\d{2,5})(?![\d.\]]|:[\da-f:])/.exec(error.message)?.[1] ?? 0);
  const holder = port === 0 ? undefined : portHolder(port);
  return holder === undefined ? error : new NetloomError('PortInUse', `${error.message}, held by ${holder}`, { source: 'config', cause: error, ...(error.hint === undefined ? {} : { hint: error.hint }) });
}

/**
 * Resolves at the first signal that asks to stop. SIGHUP is one of them where a terminal can be closed (`up`, or any kind
 * with a terminal), unless it is ignored as under nohup; elsewhere it has no meaning and is swallowed.
 */
function stopSignals(kind: RunKind): { promise: Promise<NodeJS.Signals>; isAsked: boolean } {
  const state = { promise: Promise.resolve<NodeJS.Signals>('SIGTERM'), isAsked: false };
  const isHangupStop = kind === 'up' || process.stdin.isTTY;
  state.promise = new Promise((resolve) => {
    const stop = (signal: NodeJS.Signals): void => { state.isAsked = true; resolve(signal); };
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, stop);
    if (!isIgnored(1)) process.on('SIGHUP', isHangupStop ? stop : () => {});
  });
  return state;
}

/** A signal during the drain ends it. What comes within half a second of the first is that one again, passed on by npm or the launcher. */
function stopAtOnceOnRepeat(): void {
  const since = systemClock.monotonicMs();
  for (const [signal, code] of [['SIGINT', 130], ['SIGTERM', 143]] as const) {
    process.on(signal, () => {
      if (systemClock.monotonicMs() - since < sameSignalMs) return;
      say(`stopped at once (${signal}), open connections were cut`);
      process.exit(code);
    });
  }
}

/** Whether this process was started with the signal ignored (Linux; false elsewhere). */
function isIgnored(signal: number): boolean {
  try { return ((BigInt(`0x${/^SigIgn:\s*([0-9a-f]+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'}`) >> BigInt(signal - 1)) & 1n) === 1n; } catch { return false; }
}
