// The fast mechanism: static rules through libnftables in this process, elements as netlink batches on the socket that
// owns the table. Called by engine through the KernelPort interface; next on the path are netlink (octets) and ffi.

import { hasCode, NetloomError } from '../../api/errors.ts';
import type { IPFamily } from '../../api/types.ts';
import type { Libraries, NetlinkSocket } from './ffi.ts';
import { NftContext } from './ffi.ts';
import { commandsOf } from './element-text.ts';
import { familyWords, setLayouts, tableName } from './layout.ts';
import type { MessageError, TableInfo } from './netlink.ts';
import { BatchWriter, countRules, dumpCounters, dumpElements, listChains, listSets, messages, readGeneration, readTable, tableFlags } from './netlink.ts';
import type { ApplyResult, ElementOperation, KernelPort, OpenResult, OperationGroup, Ownership } from './port.ts';
import { timeoutProgram, timeoutsOfChains } from './program.ts';

const eperm = 1;
const unsupported = 95;

export class NetlinkPort implements KernelPort {
  readonly mechanism = 'libnftables + netlink';
  readonly #family: number;
  readonly #word: string;
  readonly #context: NftContext;
  readonly #socket: NetlinkSocket;
  readonly #writer: BatchWriter;
  #handle = 0n;
  #program = '';

  constructor(libraries: Libraries, family: IPFamily) {
    const words = familyWords(family);
    this.#family = words.number;
    this.#word = words.table;
    this.#context = new NftContext(libraries);
    this.#socket = this.#context.socket;
    this.#writer = new BatchWriter(words.number, tableName);
  }

  open(ownership: Ownership, version: string, program: string): Promise<OpenResult> {
    return Promise.resolve(this.#open(ownership, version, program));
  }

  #open(wanted: Ownership, version: string, program: string): OpenResult {
    const present = readTable(this.#socket, this.#family, tableName);
    const marker = `program-${version}`;
    this.#program = program;
    if (present !== undefined && this.#claim(wanted, present) && (this.#isCurrent(marker) || this.#replace(program, marker))) {
      this.#handle = present.handle;
      return { isAdopted: true, ownership: present.flags === 0 ? 'none' : wanted };
    }
    if (present !== undefined) this.#tableMessage(messages.deleteTable, undefined);
    const ownership = this.#create(wanted);
    this.#context.run(`${program}add chain ${this.#word} ${tableName} ${marker}\n`);
    this.#handle = readTable(this.#socket, this.#family, tableName)?.handle ?? 0n;
    return { isAdopted: false, ownership };
  }

  /** Takes a table that a former process left; false = it is of another kind and must be made anew. */
  #claim(ownership: Ownership, { flags, handle }: TableInfo): boolean {
    if (handle === this.#handle) return true;
    if ((flags & tableFlags.owner) !== 0) throw ownedByAnother(this.#word);
    if (ownership === 'vanish' || (ownership === 'none') !== (flags === 0)) return false;
    if (ownership === 'none') return true;
    return this.#tableMessage(messages.newTable, tableFlags.owner | tableFlags.persist) === 0;
  }

  /** Kernels before 6.9 have no persist, before 5.12 no owner: then an ordinary table, watched for changes by others. */
  #create(wanted: Ownership): Ownership {
    const flags = { vanish: tableFlags.owner, persist: tableFlags.owner | tableFlags.persist, none: 0 }[wanted];
    const errno = this.#tableMessage(messages.newTable, flags);
    if (errno === 0) return wanted;
    if (errno !== unsupported && errno !== 22) throw new NetloomError('KernelRejected', `cannot make table ${this.#word} ${tableName} (errno ${errno})`, { source: 'kernel' });
    this.#tableMessage(messages.newTable, 0);
    return 'none';
  }

  #tableMessage(type: number, flags: number | undefined): number {
    this.#writer.begin();
    this.#writer.table(type, flags);
    this.#writer.end();
    const errno = this.#writer.commit(this.#socket)[0]?.errno ?? 0;
    if (errno === eperm) throw readTable(this.#socket, this.#family, tableName) === undefined ? notPermitted() : ownedByAnother(this.#word);
    return errno;
  }

  #isCurrent(marker: string): boolean { return listChains(this.#socket, this.#family, tableName).includes(marker) && this.#isIntact(); }

  /**
   * Puts this program in the place of another in one transaction, elements included, so that a new version of netloom
   * starts without a gap. Sticky clients are forgotten. False = it did not work: make the table anew.
   */
  #replace(program: string, marker: string): boolean {
    const table = `${this.#word} ${tableName}`;
    try {
      const adds: ElementOperation[] = [];
      for (const [set, layout] of setLayouts.entries()) for (const [key, data] of this.#dump(layout.name, layout.isInterval)) adds.push({ isDelete: false, set, key, data });
      const lines = [`flush table ${table}`];
      for (const name of listSets(this.#socket, this.#family, tableName)) lines.push(`delete ${name.isMap ? 'map' : 'set'} ${table} ${name.name}`);
      const chains = listChains(this.#socket, this.#family, tableName);
      for (const chain of chains) lines.push(`delete chain ${table} ${chain}`);
      const family = this.#family === 2 ? 'IPv4' : 'IPv6';
      const timeouts = [...timeoutsOfChains(chains)].map(([timeoutClass, seconds]) => timeoutProgram(family, timeoutClass, seconds)).join('');
      this.#context.run(`${lines.join('\n')}\n${program}${timeouts}add chain ${table} ${marker}\n${commandsOf([{ deletes: [], adds }], family).join('\n')}\n`);
      return true;
    } catch {
      return false;
    }
  }

  /** Chains and rules that the program and the loaded affinity timeouts make, against what is there. */
  #isIntact(): boolean {
    const chains = listChains(this.#socket, this.#family, tableName);
    const timeoutCount = timeoutsOfChains(chains).size;
    const base = countLines(this.#program);
    const each = countLines(timeoutProgram(this.#family === 2 ? 'IPv4' : 'IPv6', 1, 1));
    return chains.length === base.chains + 1 + timeoutCount * each.chains && countRules(this.#socket, this.#family, tableName) === base.rules + timeoutCount * each.rules;
  }

  isIntact(): Promise<boolean> { return Promise.resolve(this.#isIntact()); }

  load(program: string): Promise<void> {
    this.#context.run(program);
    return Promise.resolve();
  }

  apply(groups: readonly OperationGroup[]): Promise<ApplyResult> {
    const writer = this.#writer;
    writer.begin();
    let count = 0;
    for (const [index, group] of groups.entries()) {
      if (group.deletes.length === 0) continue;
      writer.mark(index);
      for (const operation of group.deletes) this.#write(operation);
      count += group.deletes.length;
    }
    for (const [index, group] of groups.entries()) {
      if (group.adds.length === 0) continue;
      writer.mark(index);
      for (const operation of group.adds) this.#write(operation);
      count += group.adds.length;
    }
    if (count === 0) return Promise.resolve({ isApplied: true, failed: [], reason: '' });
    writer.end();
    const errors = this.#send();
    if (errors.length === 0) return Promise.resolve({ isApplied: true, failed: [], reason: '' });
    const failed = [...new Set(errors.map((error) => error.index).filter((index) => index >= 0))];
    return Promise.resolve({ isApplied: false, failed, reason: errors.map((error) => `errno ${error.errno}`).slice(0, 3).join(', ') });
  }

  /** A batch that the socket does not take (too large without CAP_NET_ADMIN in the first namespace) was refused like any other. */
  #send(): MessageError[] {
    try {
      return this.#writer.commit(this.#socket);
    } catch (error) {
      if (!hasCode(error, 'KernelRejected')) throw error;
      return [{ index: -1, errno: Number(error.context['errno'] ?? 90) }];
    }
  }

  #write(operation: ElementOperation): void {
    const layout = setLayouts[operation.set];
    if (layout === undefined) throw new NetloomError('InternalError', `no set ${operation.set}`);
    const type = operation.isDelete ? messages.deleteElements : messages.newElements;
    if (layout.isInterval) this.#writer.element(type, operation.set, layout.name, operation.key, '', operation.data);
    else this.#writer.element(type, operation.set, layout.name, operation.key, operation.isDelete ? '' : operation.data, '');
  }

  dump(set: number): Promise<[string, string][]> {
    const layout = setLayouts[set];
    if (layout === undefined) throw new NetloomError('InternalError', `no set ${set}`);
    return Promise.resolve(this.#dump(layout.name, layout.isInterval));
  }

  #dump(name: string, isInterval: boolean): [string, string][] {
    return dumpElements(this.#socket, this.#family, tableName, name).map(([key, data, keyEnd]) => [key, isInterval ? (keyEnd === '' ? key : keyEnd) : data]);
  }

  counters(set: number): Promise<[string, number][]> {
    return Promise.resolve(dumpCounters(this.#socket, this.#family, tableName, setLayouts[set]?.name ?? ''));
  }

  timeouts(): Promise<Map<number, number>> {
    return Promise.resolve(timeoutsOfChains(listChains(this.#socket, this.#family, tableName)));
  }

  generation(): Promise<number | undefined> {
    const table = readTable(this.#socket, this.#family, tableName);
    return Promise.resolve(table === undefined || table.handle !== this.#handle ? undefined : readGeneration(this.#socket));
  }

  remove(): Promise<void> {
    if (readTable(this.#socket, this.#family, tableName) !== undefined) this.#tableMessage(messages.deleteTable, undefined);
    return Promise.resolve();
  }

  close(): Promise<void> {
    this.#context.close();
    return Promise.resolve();
  }
}

function countLines(program: string): { chains: number; rules: number } {
  return { chains: program.match(/^add chain /gm)?.length ?? 0, rules: program.match(/^add rule /gm)?.length ?? 0 };
}

function ownedByAnother(word: string): NetloomError {
  return new NetloomError('PermissionDenied', `another netloom process owns the nftables table ${word} ${tableName}`, {
    source: 'kernel', hint: 'stop the other instance, or run this one in a network namespace of its own',
  });
}

function notPermitted(): NetloomError {
  return new NetloomError('PermissionDenied', 'the kernel does not let this process change nftables rules', {
    source: 'kernel', hint: 'run as root, or use --proxy-mode userspace',
  });
}
