// Reads V8 CPU profiles (--cpu-prof): which functions cost most, and the stacks as a tree for a flame graph. Time spent
// idle is left out, so that shares are of the work done.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

interface CallFrame { functionName: string; url: string; lineNumber: number }
interface ProfileNode { id: number; callFrame: CallFrame; children?: number[] }
interface CpuProfile { nodes: ProfileNode[]; samples: number[]; timeDeltas: number[] }

/** One function of the merged stacks; `micros` of itself and all below, `selfMicros` of itself. */
export interface StackNode { name: string; micros: number; selfMicros: number; children: Map<string, StackNode> }
export interface FunctionCost { name: string; share: number }

const notWork = new Set(['(idle)', '(root)']);

/** The profile of the thread that worked most, of all that a process left in a folder. */
export function busiestThread(folder: string): StackNode | undefined {
  const trees = readdirSync(folder).filter((name) => name.endsWith('.cpuprofile')).map((name) => treeOf(JSON.parse(readFileSync(join(folder, name), 'utf8')) as CpuProfile));
  return trees.sort((a, b) => b.micros - a.micros)[0];
}

export function treeOf(profile: CpuProfile): StackNode {
  const nodes = new Map(profile.nodes.map((node) => [node.id, node]));
  const parents = new Map<number, number>();
  for (const node of profile.nodes) for (const child of node.children ?? []) parents.set(child, node.id);
  const selfMicros = new Map<number, number>();
  profile.samples.forEach((id, index) => selfMicros.set(id, (selfMicros.get(id) ?? 0) + Math.max(0, profile.timeDeltas[index] ?? 0)));
  const root: StackNode = { name: 'all', micros: 0, selfMicros: 0, children: new Map() };
  for (const [id, micros] of selfMicros) {
    const stack: string[] = [];
    for (let at: number | undefined = id; at !== undefined; at = parents.get(at)) { const node = nodes.get(at); if (node !== undefined) stack.push(nameOf(node.callFrame)); }
    if (stack[0] === '(idle)') continue;
    let node = root;
    root.micros += micros;
    for (const name of stack.reverse()) {
      if (notWork.has(name)) continue;
      let child = node.children.get(name);
      if (child === undefined) { child = { name, micros: 0, selfMicros: 0, children: new Map() }; node.children.set(name, child); }
      child.micros += micros;
      node = child;
    }
    node.selfMicros += micros;
  }
  return root;
}

function nameOf(frame: CallFrame): string {
  const name = frame.functionName === '' ? '(anonymous)' : frame.functionName;
  if (frame.url === '') return name;
  const path = frame.url.startsWith('node:') ? frame.url : frame.url.replace(/^file:\/\//, '').split('/').slice(-3).join('/');
  return `${name} ${path}:${frame.lineNumber + 1}`;
}

/** Functions by their own time, the costliest first. "(program)" is native code such as the socket calls themselves. */
export function costliest(root: StackNode, count: number): FunctionCost[] {
  const own = new Map<string, number>();
  const visit = (node: StackNode): void => { own.set(node.name, (own.get(node.name) ?? 0) + node.selfMicros); for (const child of node.children.values()) visit(child); };
  visit(root);
  return [...own].filter(([, micros]) => micros > 0).sort((a, b) => b[1] - a[1]).slice(0, count).map(([name, micros]) => ({ name, share: micros / root.micros }));
}
