// Columns of custom kinds, from additionalPrinterColumns of their definition; Name and Age when there are none.
// Source: Kubernetes CustomResourceDefinition "Additional printer columns"; JSONPath subset of kubectl.

import type { CrdVersion } from '../registry.ts';
import { age } from './cells.ts';
import { columnsOf, type Column, type Loose, type Printer } from './columns.ts';

const made = new WeakMap<CrdVersion, Printer>();

/** The printer of one version of a custom kind. */
export function customPrinter(version: CrdVersion): Printer {
  let printer = made.get(version);
  if (printer === undefined) made.set(version, printer = makePrinter(version));
  return printer;
}

function makePrinter(version: CrdVersion): Printer {
  const given = version.additionalPrinterColumns;
  if (given === undefined || given.length === 0) {
    return { columns: columnsOf('Name, Age:date'), cells: (object, { nowMs }) => [object.metadata.name, age(object.metadata.creationTimestamp, nowMs)] };
  }
  const columns: Column[] = [...columnsOf('Name'), ...given.map((column) => ({
    name: column.name, type: column.type as Column['type'], format: column.format ?? '', description: column.description ?? `Custom resource definition column (in JSONPath format): ${column.jsonPath}`, priority: column.priority ?? 0,
  }))];
  const paths = given.map((column) => parsePath(column.jsonPath));
  return {
    columns,
    cells: (object, { nowMs }) => [object.metadata.name, ...given.map((column, index) => cell(evaluate(object, paths[index] ?? []), column.type, nowMs))],
  };
}

function cell(values: Loose[], type: string, nowMs: number): unknown {
  const value = values[0];
  if (value === undefined || value === null) return type === 'date' ? '<unknown>' : null;
  switch (type) {
    case 'date': return typeof value === 'string' ? age(value, nowMs) : '<invalid>';
    case 'integer': return typeof value === 'number' ? Math.trunc(value) : null;
    case 'number': return typeof value === 'number' ? value : null;
    case 'boolean': return typeof value === 'boolean' ? value : null;
    default: return values.length > 1 ? values.map(text).join(',') : text(value);
  }
}

function text(value: unknown): string { return typeof value === 'string' ? value : JSON.stringify(value); }

type Step = { field: string } | { index: number } | { all: true } | { filter: { path: Step[]; value: unknown } };

/** .a.b, ['a'], [0], [*], [?(@.type=="Ready")]. Anything else ends the path. */
export function parsePath(path: string): Step[] {
  const steps: Step[] = [];
  const pattern = /\.((?:\\.|[^.[\]\\])+)|\['((?:[^'])*)'\]|\[(\d+)\]|\[(\*)\]|\[\?\(@((?:\.[^=!<>\s)]+)+)\s*==\s*(?:"([^"]*)"|'([^']*)'|([^)\s]+))\s*\)\]/y;
  const trimmed = path.replace(/^\{|\}$/g, '').replace(/^\$/, '');
  while (pattern.lastIndex < trimmed.length) {
    const match = pattern.exec(trimmed);
    if (match === null) break;
    const [, field, quoted, index, star, filterPath, double, single, bare] = match;
    if (field !== undefined) steps.push(field === '*' ? { all: true } : { field: field.replaceAll(/\\(.)/g, '$1') });
    else if (quoted !== undefined) steps.push({ field: quoted });
    else if (index !== undefined) steps.push({ index: Number(index) });
    else if (star !== undefined) steps.push({ all: true });
    else if (filterPath !== undefined) steps.push({ filter: { path: parsePath(filterPath), value: double ?? single ?? parseBare(bare ?? '') } });
  }
  return steps;
}

function parseBare(word: string): unknown { try { return JSON.parse(word) as unknown; } catch { return word; } }

/** All values at the path. */
export function evaluate(object: unknown, steps: readonly Step[]): Loose[] {
  let values: Loose[] = [object];
  for (const step of steps) {
    values = values.flatMap((value: Loose) => {
      if (typeof value !== 'object' || value === null) return [];
      if ('field' in step) return !Array.isArray(value) && Object.hasOwn(value, step.field) ? [value[step.field]] : [];
      const items = Array.isArray(value) ? value : Object.values(value);
      if ('index' in step) return step.index < items.length ? [items[step.index]] : [];
      return 'all' in step ? items : items.filter((item) => evaluate(item, step.filter.path)[0] === step.filter.value);
    });
  }
  return values;
}
