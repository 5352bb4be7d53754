// The mechanisms without FFI: one long-lived `nft -i` fed through a pipe (about 0.5 ms a transaction), or a new
// `nft -f -` for each (about 4 ms, growing with the rule set). Same KernelPort as the fast one; called by engine when
// koffi or libnftables is missing. A table made by `nft -i` can vanish with it; none can be kept and owned.

import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { NetloomError } from '../../api/errors.ts';
import type { IPFamily } from '../../api/types.ts';
import { commandsOf, parseElements } from './element-text.ts';
import { familyWords, setLayouts, tableName } from './layout.ts';
import type { ApplyResult, KernelPort, OpenResult, OperationGroup, Ownership } from './port.ts';
import { timeoutsOfChains } from './program.ts';

const environment = { PATH: '/usr/sbin:/sbin:/usr/bin:/bin', LC_ALL: 'C' };
/** `list table` of this name fails at once with a known complaint: the fence that ends a transaction's output. */
const fence = 'netloom-fence';
const answerMsMax = 30_000;
const outputBytesMax = 512 * 1024 * 1024;

interface NftResult { readonly isOk: boolean; readonly output: string }

/** Runs `nft` once, with commands on its standard input. */
export function runNft(args: readonly string[], input = ''): Promise<NftResult> {
  return new Promise((resolve) => {
    const child = execFile('nft', [...args], { timeout: answerMsMax, maxBuffer: outputBytesMax, env: environment }, (error, stdout, stderr) => {
      resolve({ isOk: error === null, output: error === null ? stdout : stderr.trim() || error.message });
    });
    child.stdin?.on('error', () => { /* it ended before reading: its exit says why */ });
    child.stdin?.end(input);
  });
}

/** One `nft -i` and its queue of transactions; each is one line. */
export class InteractiveNft {
  readonly #child: ChildProcess;
  #errors = '';
  #waiting: ((errors: string) => void) | undefined;
  #hasEnded = false;

  constructor() {
    this.#child = spawn('nft', ['-i'], { stdio: ['pipe', 'ignore', 'pipe'], env: environment });
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#errors += text;
      const end = this.#errors.indexOf(fence);
      // The complaint about the fence ends with a line of carets under its name.
      if (end >= 0 && /\^+\n/.test(this.#errors.slice(end))) this.#settle(this.#errors.slice(0, this.#errors.lastIndexOf('Error:', end)));
    });
    this.#child.on('exit', () => { this.#hasEnded = true; this.#settle('nft -i ended'); });
    this.#child.on('error', () => { this.#hasEnded = true; this.#settle('nft cannot be started'); });
    this.#child.stdin?.on('error', () => { /* reported by exit */ });
  }

  /** One transaction; never call it again before it has resolved. */
  run(commands: readonly string[]): Promise<NftResult> {
    if (this.#hasEnded) return Promise.resolve({ isOk: false, output: 'nft -i ended' });
    return new Promise((resolve) => {
      this.#errors = '';
      this.#waiting = (errors) => { resolve({ isOk: errors.trim() === '', output: errors.trim() }); };
      this.#child.stdin?.write(`${commands.join('; ')}\nlist table ip ${fence}\n`);
    });
  }

  #settle(errors: string): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    this.#errors = '';
    waiting?.(errors);
  }

  close(): void { this.#child.stdin?.end(); }
}

export class TextPort implements KernelPort {
  readonly mechanism: string;
  readonly #family: IPFamily;
  readonly #table: string;
  readonly #interactive: InteractiveNft | undefined;

  constructor(family: IPFamily, interactive: InteractiveNft | undefined) {
    this.#family = family;
    this.#interactive = interactive;
    this.mechanism = interactive === undefined ? 'nft -f' : 'nft -i';
    this.#table = `${familyWords(family).table} ${tableName}`;
  }

  async #run(commands: readonly string[]): Promise<NftResult> {
    return this.#interactive === undefined ? runNft(['-f', '-'], `${commands.join('\n')}\n`) : this.#interactive.run(commands);
  }

  async #must(commands: readonly string[]): Promise<void> {
    const result = await this.#run(commands);
    if (result.isOk) return;
    if (/not permitted/.test(result.output)) throw new NetloomError('PermissionDenied', `the kernel does not let this process change table ${this.#table}`, { source: 'kernel', hint: 'run as root, stop another netloom on this host, or use --proxy-mode userspace' });
    throw new NetloomError('KernelRejected', `nft: ${result.output.split('\n').slice(0, 3).join(' | ')}`, { source: 'kernel' });
  }

  async open(wanted: Ownership, version: string, program: string): Promise<OpenResult> {
    const ownership: Ownership = wanted === 'vanish' && this.#interactive !== undefined ? 'vanish' : 'none';
    const chains = await this.#chains();
    if (ownership === 'none' && chains.includes(`program-${version}`)) return { isAdopted: true, ownership };
    const lines = program.split('\n').filter((line) => line !== '');
    await this.#must([
      ...(chains.length > 0 ? [`delete table ${this.#table}`] : []), `add table ${this.#table}${ownership === 'vanish' ? ' { flags owner; }' : ''}`,
      ...lines, `add chain ${this.#table} program-${version}`,
    ]);
    return { isAdopted: false, ownership };
  }

  async load(program: string): Promise<void> { await this.#must(program.split('\n').filter((line) => line !== '')); }

  async apply(groups: readonly OperationGroup[]): Promise<ApplyResult> {
    const commands = commandsOf(groups, this.#family);
    if (commands.length === 0) return { isApplied: true, failed: [], reason: '' };
    const result = await this.#run(commands);
    return { isApplied: result.isOk, failed: [], reason: result.isOk ? '' : result.output.split('\n')[0] ?? '' };
  }

  async dump(set: number): Promise<[string, string][]> {
    const layout = setLayouts[set];
    const result = await runNft(['-j', 'list', layout?.data === undefined ? 'set' : 'map', ...this.#table.split(' '), layout?.name ?? '']);
    if (!result.isOk) throw new NetloomError('KernelRejected', `cannot list ${layout?.name}: ${result.output}`, { source: 'kernel' });
    return parseElements(result.output, set);
  }

  counters(): Promise<[string, number][]> { return Promise.resolve([]); }

  async #chains(): Promise<string[]> {
    const result = await runNft(['-t', 'list', 'table', ...this.#table.split(' ')]);
    return result.isOk ? [...result.output.matchAll(/^\tchain (\S+) /gm)].map((match) => match[1] ?? '') : [];
  }

  async timeouts(): Promise<Map<number, number>> { return timeoutsOfChains(await this.#chains()); }

  async generation(): Promise<number | undefined> {
    const tables = await runNft(['list', 'tables']);
    return tables.output.split('\n').includes(`table ${this.#table}`) ? 1 : undefined;
  }

  isIntact(): Promise<boolean> { return Promise.resolve(true); }

  async remove(): Promise<void> { await this.#run([`add table ${this.#table}`, `delete table ${this.#table}`]); }

  close(): Promise<void> {
    this.#interactive?.close();
    return Promise.resolve();
  }
}
