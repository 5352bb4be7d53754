// One error class and one table of codes. HTTP status, Kubernetes reason and retry advice are derived from the code,
// so that nobody decides them twice. The README's error table is checked against `errorTable`.
// Source of reasons and codes: apimachinery meta/v1 StatusReason.

import type { Status, StatusCause } from './types.ts';

export type ErrorSource = 'downstream' | 'upstream' | 'kernel' | 'api' | 'config' | 'internal';
export type ErrorRetry = 'never' | 'always' | 'ifReused';
interface ErrorRow { httpStatus: number; reason: string; retry: ErrorRetry; meaning: string }

/** Every code that netloom raises. `reason` is the Kubernetes StatusReason where one exists. */
export const errorTable = {
  BadRequest: { httpStatus: 400, reason: 'BadRequest', retry: 'never', meaning: 'the request cannot be read' },
  Unauthorized: { httpStatus: 401, reason: 'Unauthorized', retry: 'never', meaning: 'no valid client certificate or token' },
  Forbidden: { httpStatus: 403, reason: 'Forbidden', retry: 'never', meaning: 'the caller may not do this' },
  NotFound: { httpStatus: 404, reason: 'NotFound', retry: 'never', meaning: 'no such object or path' },
  MethodNotAllowed: { httpStatus: 405, reason: 'MethodNotAllowed', retry: 'never', meaning: 'the resource does not support the verb' },
  NotAcceptable: { httpStatus: 406, reason: 'NotAcceptable', retry: 'never', meaning: 'no answer format that the client accepts' },
  AlreadyExists: { httpStatus: 409, reason: 'AlreadyExists', retry: 'never', meaning: 'an object of this name exists' },
  Conflict: { httpStatus: 409, reason: 'Conflict', retry: 'never', meaning: 'the object changed since it was read' },
  Expired: { httpStatus: 410, reason: 'Expired', retry: 'never', meaning: 'the revision was compacted away: list again' },
  RequestEntityTooLarge: { httpStatus: 413, reason: 'RequestEntityTooLarge', retry: 'never', meaning: 'the body is over the limit' },
  UnsupportedMediaType: { httpStatus: 415, reason: 'UnsupportedMediaType', retry: 'never', meaning: 'the body has a content type that is not understood' },
  Invalid: { httpStatus: 422, reason: 'Invalid', retry: 'never', meaning: 'the object breaks a rule of its kind' },
  TooManyRequests: { httpStatus: 429, reason: 'TooManyRequests', retry: 'always', meaning: 'a limit was hit: try later' },
  InternalError: { httpStatus: 500, reason: 'InternalError', retry: 'never', meaning: 'a fault in netloom itself' },
  ServiceUnavailable: { httpStatus: 503, reason: 'ServiceUnavailable', retry: 'always', meaning: 'not ready or shutting down' },
  Timeout: { httpStatus: 504, reason: 'Timeout', retry: 'always', meaning: 'it took too long' },
  InsufficientStorage: { httpStatus: 507, reason: 'InsufficientStorage', retry: 'always', meaning: 'the disk is full: reads go on, writes fail' },
  StoreClosed: { httpStatus: 503, reason: 'ServiceUnavailable', retry: 'always', meaning: 'the store is closed or was lost' },
  StoreLocked: { httpStatus: 503, reason: 'ServiceUnavailable', retry: 'never', meaning: 'another netloom uses the data directory' },
  StoreCorrupt: { httpStatus: 500, reason: 'InternalError', retry: 'never', meaning: 'the store file is damaged' },
  ConfigInvalid: { httpStatus: 400, reason: 'BadRequest', retry: 'never', meaning: 'a flag or manifest is wrong' },
  PortInUse: { httpStatus: 503, reason: 'ServiceUnavailable', retry: 'never', meaning: 'another process holds the port' },
  PermissionDenied: { httpStatus: 403, reason: 'Forbidden', retry: 'never', meaning: 'the operating system refused' },
  ToolMissing: { httpStatus: 503, reason: 'ServiceUnavailable', retry: 'never', meaning: 'a system tool or library is not installed' },
  KernelRejected: { httpStatus: 500, reason: 'InternalError', retry: 'always', meaning: 'the kernel refused a rule change' },
  ConnectFailed: { httpStatus: 502, reason: 'ServiceUnavailable', retry: 'always', meaning: 'the other side refused or could not be reached' },
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof errorTable;

export interface NetloomErrorOptions {
  source?: ErrorSource; cause?: unknown; context?: Record<string, unknown>;
  details?: Status['details']; hint?: string;
}

/** The project's one error class. `hint` says what a person can do next; it ends up after "fix:" on the terminal. */
export class NetloomError extends Error {
  readonly code: ErrorCode;
  readonly source: ErrorSource;
  readonly context: Record<string, unknown>;
  readonly details: Status['details'];
  readonly hint: string | undefined;

  constructor(code: ErrorCode, message: string, options: NetloomErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'NetloomError';
    this.code = code;
    this.source = options.source ?? 'internal';
    this.context = options.context ?? {};
    this.details = options.details;
    this.hint = options.hint;
  }

  get httpStatus(): number { return errorTable[this.code].httpStatus; }
  get retry(): ErrorRetry { return errorTable[this.code].retry; }
}

/** The Kubernetes Status object of any error; an unknown error becomes a 500 without stack or path. */
export function toStatus(error: unknown): Status {
  if (!(error instanceof NetloomError)) {
    return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message: 'an internal error occurred', reason: 'InternalError', code: 500 };
  }
  const row = errorTable[error.code];
  const status: Status = { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message: error.message, reason: row.reason, code: row.httpStatus };
  if (error.details !== undefined) status.details = error.details;
  return status;
}

/** Turns a Status received from an API server into an error; unknown reasons keep their HTTP code's meaning. */
export function fromStatus(status: Partial<Status>, httpCode: number): NetloomError {
  const code = codeOfReason(status.reason, status.code ?? httpCode);
  return new NetloomError(code, status.message ?? `the API server answered ${httpCode}`, {
    source: 'api', ...(status.details === undefined ? {} : { details: status.details }),
  });
}

function codeOfReason(reason: string | undefined, httpCode: number): ErrorCode {
  if (reason !== undefined && reason in errorTable) return reason as ErrorCode;
  for (const [code, row] of Object.entries(errorTable)) if (row.httpStatus === httpCode) return code as ErrorCode;
  return httpCode >= 500 ? 'InternalError' : 'BadRequest';
}

export function hasCode(error: unknown, code: ErrorCode): error is NetloomError {
  return error instanceof NetloomError && error.code === code;
}
export const isNotFound = (error: unknown): boolean => hasCode(error, 'NotFound');
export const isConflict = (error: unknown): boolean => hasCode(error, 'Conflict');
export const isAlreadyExists = (error: unknown): boolean => hasCode(error, 'AlreadyExists');
export const isExpired = (error: unknown): boolean => hasCode(error, 'Expired');

/** 422 Invalid with field causes, worded as the Kubernetes API server words it. */
export function invalid(kind: string, group: string, name: string, causes: StatusCause[]): NetloomError {
  const lines = causes.map((cause) => `${cause.field}: ${cause.message}`);
  const text = lines.length === 1 ? lines[0] : `[${lines.join(', ')}]`;
  return new NetloomError('Invalid', `${kind}${group === '' ? '' : `.${group}`} "${name}" is invalid: ${text}`, {
    source: 'downstream', details: { name, group, kind, causes },
  });
}
