// Query parameters of list, watch and deletecollection: read and checked in one place.
// Source: Kubernetes API concepts (resource versions), apimachinery pkg/apis/meta/internalversion/validation.

import { invalid, NetloomError } from '../../../api/errors.ts';
import { parseLabelSelector, type Selector } from '../../../api/meta.ts';
import type { KubeObject, StatusCause } from '../../../api/types.ts';
import type { ResourceInfo } from '../../resources.ts';
import { isTrue } from '../request-info.ts';

export interface FieldRequirement { readonly label: string; readonly path: readonly string[]; readonly value: string; readonly isNegated: boolean }

export interface ListOptions {
  readonly labels: Selector | undefined;
  readonly fields: readonly FieldRequirement[];
  readonly limit: number | undefined;
  readonly continueToken: string | undefined;
  /** undefined = most recent, 0 = any. */
  readonly revision: number | undefined;
  readonly match: 'Exact' | 'NotOlderThan' | undefined;
  readonly timeoutSeconds: number | undefined;
  readonly allowsBookmarks: boolean;
  readonly sendInitialEvents: boolean | undefined;
  readonly isWatch: boolean;
  /** Exact name that a field selector asks for. */
  readonly name: string | undefined;
}

/** Reads the options. Throws BadRequest, Invalid. */
export function readListOptions(query: URLSearchParams, resource: ResourceInfo): ListOptions {
  const labelText = query.get('labelSelector') ?? '';
  const fields = parseFieldSelector(query.get('fieldSelector') ?? '', resource);
  const labels = labelText.trim() === '' ? undefined : parseLabelSelector(labelText);
  const sendInitialEvents = query.has('sendInitialEvents') ? isTrue(query.get('sendInitialEvents')) : undefined;
  const options: ListOptions = {
    labels, fields, limit: integer(query, 'limit'), continueToken: query.get('continue') || undefined,
    revision: readRevision(query.get('resourceVersion') ?? ''), match: readMatch(query.get('resourceVersionMatch') ?? ''),
    timeoutSeconds: integer(query, 'timeoutSeconds'), allowsBookmarks: isTrue(query.get('allowWatchBookmarks')), sendInitialEvents,
    isWatch: isTrue(query.get('watch')), name: fields.find((field) => field.label === 'metadata.name' && !field.isNegated)?.value,
  };
  check(options);
  return options;
}

function integer(query: URLSearchParams, name: string): number | undefined {
  const text = query.get(name);
  if (text === null || text === '') return undefined;
  if (!/^-?\d{1,18}$/.test(text)) throw new NetloomError('BadRequest', `strconv.ParseInt: parsing "${text}": invalid syntax`, { source: 'downstream' });
  const value = Number(text);
  return value > 0 ? value : undefined;
}

function readRevision(text: string): number | undefined {
  if (text === '') return undefined;
  if (!/^\d{1,16}$/.test(text)) {
    throw invalidOptions([{ reason: 'FieldValueInvalid', message: `Invalid value: "${text}": strconv.ParseUint: parsing "${text}": invalid syntax`, field: 'resourceVersion' }]);
  }
  return Number(text);
}

function readMatch(text: string): ListOptions['match'] {
  if (text === '' || text === 'Exact' || text === 'NotOlderThan') return text === '' ? undefined : text;
  throw invalidOptions([{ reason: 'FieldValueNotSupported', message: `Unsupported value: "${text}": supported values: "Exact", "NotOlderThan", ""`, field: 'resourceVersionMatch' }]);
}

function check(options: ListOptions): void {
  const forbidden = (field: string, text: string): StatusCause => ({ reason: 'FieldValueForbidden', message: `Forbidden: ${text}`, field });
  const causes: StatusCause[] = [];
  const { match, sendInitialEvents, isWatch } = options;
  if (isWatch) {
    if (sendInitialEvents !== undefined) {
      if (match === undefined) causes.push(forbidden('resourceVersionMatch', 'sendInitialEvents requires setting resourceVersionMatch to NotOlderThan'));
      else if (match !== 'NotOlderThan') causes.push(forbidden('resourceVersionMatch', `sendInitialEvents requires setting resourceVersionMatch to NotOlderThan`));
    } else if (match !== undefined) causes.push(forbidden('resourceVersionMatch', 'resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided'));
  } else {
    if (sendInitialEvents !== undefined) causes.push(forbidden('sendInitialEvents', 'sendInitialEvents is forbidden for list'));
    if (match !== undefined && options.revision === undefined) causes.push(forbidden('resourceVersionMatch', 'resourceVersionMatch is forbidden unless resourceVersion is provided'));
    if (match !== undefined && options.continueToken !== undefined) causes.push(forbidden('resourceVersionMatch', 'resourceVersionMatch is forbidden when continue is provided'));
    if (match === 'Exact' && options.revision === 0) causes.push(forbidden('resourceVersionMatch', 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'));
  }
  if (causes.length > 0) throw invalidOptions(causes);
  if (!isWatch && options.continueToken !== undefined && options.revision !== undefined && options.revision !== 0) {
    throw new NetloomError('BadRequest', 'specifying resource version is not allowed when using continue', { source: 'downstream' });
  }
}

function invalidOptions(causes: StatusCause[]): NetloomError { return invalid('ListOptions', 'meta.k8s.io', '', causes); }

/** Terms joined by ','; `\` escapes. Throws BadRequest for a label that the kind does not know. */
export function parseFieldSelector(text: string, resource: ResourceInfo): FieldRequirement[] {
  if (text.trim() === '') return [];
  return splitTerms(text).filter((term) => term !== '').map((term) => {
    const match = /^(.*?)(!=|==|=)(.*)$/s.exec(term);
    if (match === null) throw new NetloomError('BadRequest', `invalid selector: '${text}'; can't understand '${term}'`, { source: 'downstream' });
    const label = (match[1] ?? '').trim();
    const path = label === 'metadata.name' || (label === 'metadata.namespace' && resource.isNamespaced) ? label : (Object.hasOwn(resource.fieldLabels, label) ? resource.fieldLabels[label] : undefined);
    if (path === undefined) throw new NetloomError('BadRequest', label === '' ? `invalid selector: '${text}'` : `field label not supported: ${label}`, { source: 'downstream' });
    return { label, path: path.split('.'), value: (match[3] ?? '').replaceAll(/\\(.)/g, '$1'), isNegated: match[2] === '!=' };
  });
}

function splitTerms(text: string): string[] {
  const terms: string[] = [];
  let term = '';
  for (let index = 0; index < text.length; index++) {
    const char = text[index] as string;
    if (char === '\\' && index + 1 < text.length) { term += char + (text[index + 1] as string); index += 1; } else if (char === ',') { terms.push(term); term = ''; } else term += char;
  }
  return [...terms, term];
}

/** What a selector compares with: the text of a scalar field, '' when it is absent (`false` for absent booleans in specs). */
function fieldText(object: KubeObject, path: readonly string[]): string {
  let value: unknown = object;
  for (const part of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, part)) { value = undefined; break; }
    value = (value as Record<string, unknown>)[part];
  }
  if (value === undefined || value === null) return path[1] === 'unschedulable' || path[1] === 'hostNetwork' ? 'false' : '';
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** Whether the object is in the selection. */
export function isSelected(object: KubeObject, options: Pick<ListOptions, 'labels' | 'fields'>): boolean {
  for (const field of options.fields) if ((fieldText(object, field.path) === field.value) === field.isNegated) return false;
  return options.labels === undefined || options.labels.matches(object.metadata.labels);
}

/** Whether anything but a whole collection is asked for. */
export function hasSelectors(options: Pick<ListOptions, 'labels' | 'fields'>): boolean {
  return options.fields.length > 0 || (options.labels !== undefined && !options.labels.isEmpty);
}

export interface ContinueToken { readonly revision: number; readonly after: string }

/** Opaque to clients: revision of the first page (-1 = most recent) and the last key shown. */
export function writeContinueToken(token: ContinueToken): string {
  return Buffer.from(JSON.stringify({ v: 'meta.k8s.io/v1', rv: token.revision, start: token.after })).toString('base64url');
}

/** Throws BadRequest for anything that was not made by `writeContinueToken`. */
export function readContinueToken(text: string): ContinueToken {
  try {
    const value = JSON.parse(Buffer.from(text, 'base64url').toString('utf8')) as { v?: unknown; rv?: unknown; start?: unknown };
    if (value.v === 'meta.k8s.io/v1' && Number.isSafeInteger(value.rv) && typeof value.start === 'string' && value.start.length <= 600) return { revision: value.rv as number, after: value.start };
  } catch { /* told below */ }
  throw new NetloomError('BadRequest', 'continue key is not valid: illegal base64 data or encoding', { source: 'downstream' });
}
