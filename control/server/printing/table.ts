// Tables for people: kubectl asks for them with Accept `as=Table`. Columns and cells come from the kind's printer, from a
// custom kind's definition, or are Name and Age.
// Source: apimachinery meta/v1 Table; kubernetes/apiserver pkg/endpoints/handlers/response.go.

import { NetloomError } from '../../../api/errors.ts';
import type { KubeObject } from '../../../api/types.ts';
import type { RequestContext } from '../context.ts';
import { toStored } from '../conversion.ts';
import { age } from './cells.ts';
import { columnsOf, type Loose, type Printer } from './columns.ts';
import { customPrinter } from './custom.ts';
import { corePrinters } from './core.ts';
import { networkPrinters } from './network.ts';
import { otherPrinters } from './others.ts';
import { podPrinters } from './pods.ts';
import { workloadPrinters } from './workloads.ts';

const printers: Readonly<Record<string, Printer>> = { ...corePrinters, ...networkPrinters, ...podPrinters, ...workloadPrinters, ...otherPrinters };

const plainPrinter: Printer = {
  columns: columnsOf('Name, Created At:date'),
  cells: (object) => [object.metadata.name, object.metadata.creationTimestamp ?? null],
};

export interface TableOptions {
  /** Later events of a watch go without column definitions. */
  hasNoColumns?: boolean;
  /** The objects are bookmarks: no cells. */
  isBare?: boolean;
}

/** The metadata of an object as its own kind. */
export function metadataOf(object: KubeObject, version: string): object {
  return { kind: 'PartialObjectMetadata', apiVersion: `meta.k8s.io/${version}`, metadata: object.metadata };
}

/** A Table with one row per object. Throws BadRequest for an unknown includeObject. */
export function tableOf(context: RequestContext, objects: readonly KubeObject[], metadata: object, options: TableOptions = {}): object {
  const { server, resource, exchange, negotiated } = context;
  const include = exchange.query.get('includeObject') ?? 'Metadata';
  if (include !== 'Metadata' && include !== 'Object' && include !== 'None' && include !== '') throw new NetloomError('BadRequest', `unrecognized includeObject value: ${JSON.stringify(include)}`, { source: 'downstream' });
  const compiled = server.registry.compiled(resource);
  const printer = compiled !== undefined ? customPrinter(compiled) : (printers[resource.storage] ?? plainPrinter);
  const cellContext = { nowMs: server.clock.nowMs() };
  const rows = objects.map((object) => {
    const conditions = options.isBare === true ? undefined : printer.conditions?.(object);
    return {
      // Printers know the stored form; a kind that is served in two shapes is printed from that one.
      cells: options.isBare === true ? printer.columns.map(() => null) : cellsOf(printer, resource.crdName === undefined ? toStored(object, resource, undefined) : object, cellContext),
      ...(conditions === undefined ? {} : { conditions }),
      ...(include === 'None' ? {} : { object: include === 'Object' ? object : metadataOf(object, negotiated.version) }),
    };
  });
  return { kind: 'Table', apiVersion: `meta.k8s.io/${negotiated.version}`, metadata, columnDefinitions: options.hasNoColumns === true ? null : printer.columns, rows };
}

/** One bad object must not take the table away from the others. */
function cellsOf(printer: Printer, object: KubeObject, context: { nowMs: number }): unknown[] {
  try {
    return printer.cells(object as KubeObject & Loose, context);
  } catch {
    return printer.columns.map((column) => (column.name === 'Name' ? object.metadata.name : column.name === 'Age' ? age(object.metadata.creationTimestamp, context.nowMs) : '<unknown>'));
  }
}
