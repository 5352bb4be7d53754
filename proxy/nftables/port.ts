// The engine's port to the kernel: what every mechanism (netlink + libnftables, `nft -i`, `nft -f -`) can do. Two
// families are two ports. Called by engine; implemented by kernel and text-port.

/** One element change. `set` is a set number of layout; `data` is '' in plain sets and for deletions. */
export interface ElementOperation { readonly isDelete: boolean; readonly set: number; readonly key: string; readonly data: string }

/** All operations of one owner (a Service): applied whole or not at all. */
export interface OperationGroup { readonly deletes: readonly ElementOperation[]; readonly adds: readonly ElementOperation[] }

/** `failed` are indexes of groups that the kernel named; empty while `reason` is set = it did not say which. */
export interface ApplyResult { readonly isApplied: boolean; readonly failed: readonly number[]; readonly reason: string }

/**
 * How long the table lives: `vanish` with this process, even after SIGKILL; `persist` through restarts, protected while
 * we live; `none` = an ordinary table that anybody may change.
 */
export type Ownership = 'vanish' | 'persist' | 'none';

export interface OpenResult { readonly isAdopted: boolean; readonly ownership: Ownership }

export interface KernelPort {
  readonly mechanism: string;
  /** Makes or adopts the table so that it holds exactly this program; `version` names the program. */
  open(ownership: Ownership, version: string, program: string): Promise<OpenResult>;
  /** Adds static rules (affinity chains). */
  load(program: string): Promise<void>;
  /** One transaction: all groups or none; deletes of all groups come before adds. */
  apply(groups: readonly OperationGroup[]): Promise<ApplyResult>;
  /** Elements of a set as (key, data); an interval's data is its last key. */
  dump(set: number): Promise<[key: string, data: string][]>;
  /** Lookups of each element of a counted set since it was written; empty where the mechanism is too slow to ask. */
  counters(set: number): Promise<[key: string, count: number][]>;
  /** Affinity timeouts whose chains are loaded, by class. */
  timeouts(): Promise<Map<number, number>>;
  /** Changes with every transaction of anybody; undefined = the table is gone or not ours any more. */
  generation(): Promise<number | undefined>;
  /** Whether the static rules are as they were loaded (chains and rule count). */
  isIntact(): Promise<boolean>;
  /** Removes the table. */
  remove(): Promise<void>;
  close(): Promise<void>;
}
