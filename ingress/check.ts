// `netloom check ingress -f FILE`: how the Ingress objects of existing manifests would be served: each annotation
// honoured, approximated, ignored or refused, each fault with its field. Pure: text in, report out. Called by cli/.

import { LineCounter, parseAllDocuments } from 'yaml';
import type { Ingress, KubeObject, Secret } from '../api/types.ts';
import { annotationTable, ownName, type AnnotationFate } from './annotation-table.ts';
import { planIngress } from './plan.ts';

export interface AnnotationReport { readonly name: string; readonly value: string; readonly fate: AnnotationFate | 'unknown'; readonly note: string }
export interface IngressReport { readonly key: string; readonly line: number; readonly annotations: readonly AnnotationReport[]; readonly faults: readonly { readonly reason: string; readonly field: string; readonly message: string }[] }
export interface ManifestReport { readonly ingresses: readonly IngressReport[]; readonly errors: readonly string[]; readonly counts: Readonly<Record<AnnotationFate | 'unknown', number>> }

/** Checks all Ingress objects of a YAML or JSON text (several documents and Lists allowed); other kinds are only read for Secrets. */
export function checkIngressManifests(text: string): ManifestReport {
  const errors: string[] = [];
  const objects: { object: KubeObject; line: number }[] = [];
  const lines = new LineCounter();
  for (const [index, document] of parseAllDocuments(text, { lineCounter: lines }).entries()) {
    if (!('contents' in document)) continue;
    for (const error of document.errors) errors.push(`document ${index + 1}, line ${error.linePos?.[0].line ?? 0}: ${error.message.split('\n')[0]}`);
    if (document.errors.length > 0) continue;
    const value = document.toJS({ maxAliasCount: 1_000 }) as (KubeObject & { items?: KubeObject[] }) | null;
    const line = lines.linePos(document.range?.[0] ?? 0).line;
    for (const object of value?.items ?? (value === null ? [] : [value])) if (typeof object === 'object' && object?.metadata?.name !== undefined) objects.push({ object, line });
  }
  const secrets = new Map(objects.filter(({ object }) => object.kind === 'Secret').map(({ object }) => [`${object.metadata.namespace ?? 'default'}/${object.metadata.name}`, object as Secret]));
  const counts = { honoured: 0, approximated: 0, ignored: 0, refused: 0, unknown: 0 };
  const ingresses: IngressReport[] = [];
  for (const { object, line } of objects) {
    if (object.kind !== 'Ingress') continue;
    ingresses.push(checkOne(object as Ingress, line, secrets, counts));
  }
  return { ingresses, errors, counts };
}

function checkOne(ingress: Ingress, line: number, secrets: ReadonlyMap<string, Secret>, counts: Record<AnnotationFate | 'unknown', number>): IngressReport {
  const annotations: AnnotationReport[] = [];
  for (const [name, value] of Object.entries(ingress.metadata.annotations ?? {})) {
    const own = ownName(name);
    if (own === undefined) continue;
    const row = annotationTable[own];
    const fate = row?.fate ?? 'unknown';
    counts[fate] += 1;
    annotations.push({ name, value: String(value).slice(0, 200), fate, note: row?.note ?? 'not an annotation of ingress-nginx that is known here: no effect' });
  }
  const plan = planIngress(ingress, (key) => secrets.get(key));
  const told = new Set(['AnnotationUnknown', 'AnnotationRefused']);
  // A Secret that stands in another file is not a fault of this one.
  const faults = plan.faults.filter((fault) => !told.has(fault.reason) && !/names a Secret (that does not exist|without ca\.crt)/.test(fault.message));
  const plain = faults.map(({ reason, field, message }) => ({ reason, field, message: message.startsWith(`${field}: `) ? message.slice(field.length + 2) : message }));
  return { key: plan.key, line, annotations, faults: plain };
}
