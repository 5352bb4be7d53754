// Columns of custom kinds, from additionalPrinterColumns of their definition; Name and Age when there are none.
// Source: Kubernetes CustomResourceDefinition "Additional printer columns".

import type { CompiledCrd } from '../../schema/crd.ts';
import { age } from './cells.ts';
import { columnsOf, type Column, type Printer } from './columns.ts';

const made = new WeakMap<CompiledCrd, Printer>();

/** The printer of one version of a custom kind. */
export function customPrinter(compiled: CompiledCrd): Printer {
  let printer = made.get(compiled);
  if (printer === undefined) made.set(compiled, printer = makePrinter(compiled));
  return printer;
}

function makePrinter(compiled: CompiledCrd): Printer {
  const columns = [...columnsOf('Name'), ...compiled.columns.map((column) => ({ ...column, type: column.type as Column['type'] }))];
  return {
    columns,
    cells: (object, { nowMs }) => [object.metadata.name, ...compiled.cells(object).map((value, index) => (compiled.columns[index]?.type === 'date' ? age(typeof value === 'string' ? value : undefined, nowMs) : value))],
  };
}
