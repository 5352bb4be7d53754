// What a column is, and the registry of all columns by stored kind.

import type { KubeObject } from '../../../api/types.ts';

export interface Column {
  readonly name: string; readonly type: 'string' | 'integer' | 'number' | 'boolean' | 'date'; readonly format: string; readonly description: string;
  /** 0 is always shown, 1 only with -o wide. */
  readonly priority: number;
}

/** Objects are read loosely here: a cell must come out whatever an object lacks. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- printers read whole objects of many kinds by shape
export type Loose = any;
export interface CellContext { readonly nowMs: number }

export interface Printer {
  readonly columns: readonly Column[];
  cells(object: KubeObject & Loose, context: CellContext): unknown[];
  /** Conditions of a row (finished Pods). */
  conditions?(object: KubeObject & Loose): object[] | undefined;
}

const descriptions: Record<string, string> = {
  Name: 'Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names',
  Age: 'CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.',
};

/** Columns from words: `Name`, `Ready:integer`, `*IP` (only wide). */
export function columnsOf(text: string): readonly Column[] {
  return text.split(', ').map((word) => {
    const isWide = word.startsWith('*');
    const [name = '', type = 'string'] = word.replace('*', '').split(':');
    return { name, type: type as Column['type'], format: name === 'Name' ? 'name' : '', description: descriptions[name] ?? name, priority: isWide ? 1 : 0 };
  });
}

/** A printer from its columns in words and a function for the cells. */
export function printer(columns: string, cells: Printer['cells'], conditions?: NonNullable<Printer['conditions']>): Printer {
  return { columns: columnsOf(columns), cells, ...(conditions === undefined ? {} : { conditions }) };
}
