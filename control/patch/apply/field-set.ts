// Sets of field paths, as managedFields stores them (fieldsV1): a trie whose steps are `f:NAME` (field or map key), `k:{…}` (list item
// by keys), `v:VALUE` (item of a set). A node that is a member says "this field is owned"; `.` marks membership of a node with children.
// Used by `managers` and `walk`. Pure except for `insert`, which grows a set under construction.
// Source: KEP-555, sigs.k8s.io/structured-merge-diff fieldpath.

import { isRecord } from '../../schema/schema.ts';

/** One node of the trie. */
export interface FieldNode { isMember: boolean; readonly children: Map<string, FieldNode> }

/** Deepest path that is read from a stored or sent fieldsV1. */
const pathDepthMax = 200;

/** An empty set. */
export function newSet(): FieldNode { return { isMember: false, children: new Map() }; }

/** The child at a step, made when absent. */
export function childNode(node: FieldNode, step: string): FieldNode {
  let child = node.children.get(step);
  if (child === undefined) node.children.set(step, child = newSet());
  return child;
}

/** True when nothing is owned. */
export function isEmptySet(node: FieldNode | undefined): boolean {
  if (node === undefined) return true;
  if (node.isMember) return false;
  for (const child of node.children.values()) if (!isEmptySet(child)) return false;
  return true;
}

/** The same set without branches that hold no member. */
export function compactSet(node: FieldNode): FieldNode {
  const out: FieldNode = { isMember: node.isMember, children: new Map() };
  for (const [step, child] of node.children) {
    const less = compactSet(child);
    if (less.isMember || less.children.size > 0) out.children.set(step, less);
  }
  return out;
}

/** All members of both. */
export function unionSets(a: FieldNode, b: FieldNode): FieldNode {
  if (b.children.size === 0 && (a.isMember || !b.isMember)) return a;
  const out: FieldNode = { isMember: a.isMember || b.isMember, children: new Map() };
  for (const [step, child] of a.children) {
    const other = b.children.get(step);
    out.children.set(step, other === undefined ? child : unionSets(child, other));
  }
  for (const [step, child] of b.children) if (!a.children.has(step)) out.children.set(step, child);
  return out;
}

/** Members of `a` that are not members of `b`; `a` itself when nothing goes. */
export function differenceSets(a: FieldNode, b: FieldNode): FieldNode {
  const isMember = a.isMember && !b.isMember;
  let children: Map<string, FieldNode> | undefined;
  for (const [step, other] of b.children) {
    const child = a.children.get(step);
    if (child === undefined) continue;
    const rest = differenceSets(child, other);
    if (rest === child) continue;
    children ??= new Map(a.children);
    if (isEmptySet(rest)) children.delete(step); else children.set(step, rest);
  }
  if (children === undefined && isMember === a.isMember) return a;
  return { isMember, children: children ?? a.children };
}

/** Members of both. */
export function intersectSets(a: FieldNode, b: FieldNode): FieldNode {
  const out: FieldNode = { isMember: a.isMember && b.isMember, children: new Map() };
  for (const [step, child] of a.children) {
    const other = b.children.get(step);
    if (other === undefined) continue;
    const common = intersectSets(child, other);
    if (!isEmptySet(common)) out.children.set(step, common);
  }
  return out;
}

/** True when both have the same members. */
export function equalSets(a: FieldNode, b: FieldNode): boolean {
  return isEmptySet(differenceSets(a, b)) && isEmptySet(differenceSets(b, a));
}

/** The paths of all members, each as its steps, in insertion order. */
export function memberPaths(node: FieldNode, prefix: readonly string[] = []): string[][] {
  const out: string[][] = node.isMember && prefix.length > 0 ? [[...prefix]] : [];
  for (const [step, child] of node.children) out.push(...memberPaths(child, [...prefix, step]));
  return out;
}

/** The fieldsV1 object. Steps are sorted, so that equal sets give equal JSON. */
export function toFieldsV1(node: FieldNode): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  const steps: string[] = [];
  for (const [step, child] of node.children) if (child.isMember || child.children.size > 0) steps.push(step);
  steps.sort();
  if (node.isMember && steps.length > 0) out['.'] = {};
  for (const step of steps) out[step] = toFieldsV1(node.children.get(step) as FieldNode);
  return out;
}

/** Reads fieldsV1; undefined when it is not of that form. */
export function fromFieldsV1(value: unknown, depth = 0): FieldNode | undefined {
  if (!isRecord(value) || depth > pathDepthMax) return undefined;
  const out = newSet();
  const steps = Object.keys(value);
  if (steps.length === 0 && depth > 0) out.isMember = true;
  for (const step of steps) {
    if (step === '.') { out.isMember = true; continue; }
    if (!/^[fkvi]:/.test(step)) return undefined;
    const child = fromFieldsV1(value[step], depth + 1);
    if (child === undefined) return undefined;
    out.children.set(step, child);
  }
  return out;
}

/** A path in the words of conflict messages: `.spec.ports[port=80,protocol="TCP"].targetPort`. */
export function pathText(path: readonly string[]): string {
  return path.map((step) => {
    const rest = step.slice(2);
    if (step.startsWith('f:')) return `.${rest}`;
    if (step.startsWith('i:')) return `[${rest}]`;
    if (step.startsWith('v:')) return `[=${rest}]`;
    const keys = JSON.parse(rest) as Record<string, unknown>;
    return `[${Object.keys(keys).map((key) => `${key}=${JSON.stringify(keys[key])}`).join(',')}]`;
  }).join('');
}
