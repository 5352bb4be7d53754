// The JSONPath subset of printer columns, scale paths and selectable fields: `.a.b`, `['a.b']`, `\.` in names, `[0]`, `[*]`, `..name`,
// and filters `[?(@.type=="Ready")]`. Called by `crd` and by table printing. Pure; a path is parsed once.
// Source: client-go util/jsonpath (what CRDs may use).

import { isRecord } from '../schema.ts';

type Step =
  | { readonly type: 'field'; readonly name: string }
  | { readonly type: 'index'; readonly index: number }
  | { readonly type: 'all' }
  | { readonly type: 'deep'; readonly name: string }
  | { readonly type: 'filter'; readonly path: readonly Step[]; readonly operator: string; readonly value: unknown };

/** A parsed path; undefined text forms do not throw but match nothing. */
export type JsonPath = readonly Step[];

/** Parses `.spec.x`, `{.spec.x}` or `$.spec.x`. Undefined when the text is not of the subset. */
export function parseJsonPath(text: string): JsonPath | undefined {
  const bare = text.trim().replace(/^\{(.*)\}$/s, '$1').replace(/^\$/, '');
  const steps: Step[] = [];
  let at = 0;
  while (at < bare.length) {
    const found = readStep(bare.slice(at));
    if (found === undefined) return undefined;
    steps.push(found.step);
    at += found.length;
  }
  return steps;
}

function readStep(text: string): { step: Step; length: number } | undefined {
  const deep = /^\.\.((?:\\.|[^.[\]\s])+)/.exec(text);
  if (deep !== null) return { step: { type: 'deep', name: unescape(deep[1] ?? '') }, length: deep[0].length };
  const field = /^\.((?:\\.|[^.[\]\s\\])+)/.exec(text);
  if (field !== null) return { step: field[1] === '*' ? { type: 'all' } : { type: 'field', name: unescape(field[1] ?? '') }, length: field[0].length };
  const quoted = /^\.?\[\s*(?:'((?:\\.|[^'])*)'|"((?:\\.|[^"])*)")\s*\]/.exec(text);
  if (quoted !== null) return { step: { type: 'field', name: unescape(quoted[1] ?? quoted[2] ?? '') }, length: quoted[0].length };
  const index = /^\.?\[\s*(-?\d+)\s*\]/.exec(text);
  if (index !== null) return { step: { type: 'index', index: Number(index[1]) }, length: index[0].length };
  const all = /^\.?\[\s*\*\s*\]/.exec(text);
  if (all !== null) return { step: { type: 'all' }, length: all[0].length };
  const filter = /^\.?\[\?\(\s*@((?:\.[^=!<>\s)]+|\[[^\]]*\])*)\s*(?:(==|!=|<=|>=|<|>)\s*("[^"]*"|'[^']*'|[^)\s]+)\s*)?\)\]/.exec(text);
  if (filter === null) return undefined;
  const path = parseJsonPath(filter[1] ?? '');
  return path === undefined ? undefined : { step: { type: 'filter', path, operator: filter[2] ?? 'exists', value: literal(filter[3] ?? '') }, length: filter[0].length };
}

function unescape(text: string): string { return text.replaceAll(/\\(.)/g, '$1'); }

function literal(text: string): unknown {
  if (/^["']/.test(text)) return text.slice(1, -1);
  if (text === 'true' || text === 'false') return text === 'true';
  return text !== '' && !Number.isNaN(Number(text)) ? Number(text) : text;
}

/** All values at a path. */
export function findByJsonPath(root: unknown, path: JsonPath): unknown[] {
  let values: unknown[] = [root];
  for (const step of path) values = values.flatMap((value) => walk(value, step)).filter((value) => value !== undefined);
  return values;
}

function walk(value: unknown, step: Step): unknown[] {
  switch (step.type) {
    case 'field': return isRecord(value) && Object.hasOwn(value, step.name) ? [value[step.name]] : [];
    case 'index': return Array.isArray(value) ? [value.at(step.index) as unknown] : [];
    case 'all': return Array.isArray(value) ? value as unknown[] : isRecord(value) ? Object.values(value) : [];
    case 'deep': return deepValues(value, step.name);
    default: return (Array.isArray(value) ? value as unknown[] : []).filter((item) => matches(item, step));
  }
}

function deepValues(value: unknown, name: string): unknown[] {
  const own = isRecord(value) && Object.hasOwn(value, name) ? [value[name]] : [];
  const inner = Array.isArray(value) ? value as unknown[] : isRecord(value) ? Object.values(value) : [];
  return [...own, ...inner.flatMap((item) => deepValues(item, name))];
}

function matches(item: unknown, step: Extract<Step, { type: 'filter' }>): boolean {
  const [found] = findByJsonPath(item, step.path);
  switch (step.operator) {
    case 'exists': return found !== undefined;
    case '==': return found === step.value;
    case '!=': return found !== step.value;
    default: {
      if (typeof found !== typeof step.value || found === undefined) return false;
      const [a, b] = [found as number, step.value as number];
      return step.operator === '<' ? a < b : step.operator === '<=' ? a <= b : step.operator === '>' ? a > b : a >= b;
    }
  }
}
