// Query parameters of create, update and patch.
// Source: apimachinery meta/v1 CreateOptions, UpdateOptions, PatchOptions and their validation.

import { invalid } from '../../../api/errors.ts';
import type { StatusCause } from '../../../api/types.ts';
import { isTrue } from '../request-info.ts';
import type { Exchange } from '../http/exchange.ts';

export interface WriteOptions {
  readonly isDryRun: boolean;
  readonly fieldManager: string;
  readonly fieldValidation: 'Strict' | 'Warn' | 'Ignore';
  readonly force: boolean | undefined;
}

const fieldManagerLengthMax = 128;

/** Reads the options of a write; the manager defaults to the user agent up to '/'. Throws Invalid. */
export function readWriteOptions(exchange: Exchange, optionsKind: 'CreateOptions' | 'UpdateOptions' | 'PatchOptions' | 'DeleteOptions'): WriteOptions {
  const { query } = exchange;
  const causes: StatusCause[] = [];
  const dryRun = query.getAll('dryRun').filter((value) => value !== '');
  for (const value of dryRun) if (value !== 'All') causes.push({ reason: 'FieldValueNotSupported', message: `Unsupported value: "${value}": supported values: "All"`, field: 'dryRun' });
  const manager = query.get('fieldManager') ?? '';
  if (manager.length > fieldManagerLengthMax) causes.push({ reason: 'FieldValueTooLong', message: 'Too long: may not be more than 128 bytes', field: 'fieldManager' });
  if (/[^\x20-\x7e\u00a0-\uffff]/.test(manager)) causes.push({ reason: 'FieldValueInvalid', message: `Invalid value: ${JSON.stringify(manager)}: should only contain printable characters`, field: 'fieldManager' });
  const validation = query.get('fieldValidation') ?? '';
  if (validation !== '' && validation !== 'Strict' && validation !== 'Warn' && validation !== 'Ignore') {
    causes.push({ reason: 'FieldValueNotSupported', message: `Unsupported value: "${validation}": supported values: "Ignore", "Strict", "Warn"`, field: 'fieldValidation' });
  }
  if (causes.length > 0) throw invalid(optionsKind, 'meta.k8s.io', '', causes);
  return {
    isDryRun: dryRun.length > 0, fieldManager: manager !== '' ? manager : agentName(exchange.headers['user-agent']),
    fieldValidation: validation === '' ? 'Warn' : validation as WriteOptions['fieldValidation'], force: query.has('force') ? isTrue(query.get('force')) : undefined,
  };
}

function agentName(agent: string | undefined): string {
  const name = (agent ?? '').split('/')[0]?.replaceAll(/[^\x20-\x7e]/g, '').slice(0, fieldManagerLengthMax) ?? '';
  return name === '' ? 'unknown' : name;
}
