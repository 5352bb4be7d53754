// Turns SQLite's and the file system's errors into ours: full disk, locked folder, damaged file, lost disk.
// Used by ./journal.ts and ./restore.ts.

import { readFileSync, statSync } from 'node:fs';
import { NetloomError } from '../../../api/errors.ts';

const busy = 5;
const readOnly = 8;
const ioError = 10;
const corrupt = 11;
const full = 13;
const cannotOpen = 14;
const notADatabase = 26;
/** SQLITE_IOERR_WRITE: also what a full disk or a quota can look like. */
const ioErrorWrite = ioError | (3 << 8);

/** Primary SQLite result code of an error, 0 when it has none. */
export function primaryCode(error: unknown): number {
  const code = (error as { errcode?: unknown }).errcode;
  return typeof code === 'number' ? code & 0xff : 0;
}

/** True when the disk only lacks room: nothing was kept, and writing may be tried again later. */
export function isDiskFull(error: unknown): boolean {
  return primaryCode(error) === full || (error as { errcode?: unknown }).errcode === ioErrorWrite;
}

/** The error of a failed open. */
export function openError(error: unknown, file: string): Error {
  if (error instanceof NetloomError) return error;
  const code = primaryCode(error);
  if (code === busy) return lockedError(file, lockHolder(file));
  if (code === corrupt || code === notADatabase) return corruptError(file, (error as Error).message, error);
  if (code === full || isNoSpace(error)) return new NetloomError('InsufficientStorage', `no space left for the store ${file}`, { cause: error, hint: 'free some disk space' });
  if (code === cannotOpen || code === readOnly || (error as { code?: unknown }).code === 'EACCES') {
    return new NetloomError('PermissionDenied', `cannot write the store ${file}: ${(error as Error).message}`, { cause: error, hint: 'give --data-dir a folder that this user may write' });
  }
  return new NetloomError('StoreCorrupt', `cannot open the store ${file}: ${(error as Error).message}`, { cause: error });
}

function isNoSpace(error: unknown): boolean { return (error as { code?: unknown }).code === 'ENOSPC'; }

/** The error of a failed commit: the disk is full, or it failed and nothing can be promised any more. */
export function writeError(error: unknown): NetloomError {
  if (error instanceof NetloomError) return error;
  if (isDiskFull(error)) return diskFullError((error as Error).message, error);
  if (primaryCode(error) === corrupt) return new NetloomError('StoreCorrupt', `the store is damaged: ${(error as Error).message}; reads go on`, { cause: error, hint: 'make a backup (netloom backup) and restore it' });
  return new NetloomError('StoreClosed', `the disk of the store failed: ${(error as Error).message}; reads go on, writes need a restart`, { cause: error, hint: 'look at the disk, then restart netloom' });
}

export function diskFullError(detail: string, cause?: unknown): NetloomError {
  return new NetloomError('InsufficientStorage', `the disk of the store is full: ${detail}`, { cause, hint: 'free some disk space; writes resume by themselves', details: { retryAfterSeconds: 5 } });
}

export function corruptError(file: string, detail: string, cause?: unknown): NetloomError {
  return new NetloomError('StoreCorrupt', `the store ${file} is damaged: ${detail}`, { cause, hint: 'restore a backup (netloom restore), or move the data directory away to begin anew' });
}

export function lockedError(file: string, pid: number | undefined): NetloomError {
  const holder = pid === undefined ? 'another process' : `another netloom (pid ${pid})`;
  return new NetloomError('StoreLocked', `${holder} uses the store ${file}`, { hint: 'stop it, or choose another folder with --data-dir', context: { pid } });
}

/** Process that holds a lock on the file, from /proc/locks; undefined when nobody does or the system has no such list. */
export function lockHolder(file: string): number | undefined {
  try {
    const { dev, ino } = statSync(file);
    const major = (dev >> 8) & 0xfff;
    const minor = (dev & 0xff) | ((dev >> 12) & 0xfff00);
    const wanted = `${hex(major)}:${hex(minor)}:${ino}`;
    for (const line of readFileSync('/proc/locks', 'utf8').split('\n')) {
      const fields = line.trim().split(/\s+/);
      // 1: POSIX ADVISORY WRITE 4711 08:01:1234 1073741824 1073742335. The pid is 0 for a process of another container.
      if (fields[3] === 'WRITE' && fields[5] === wanted && Number(fields[4]) > 0) return Number(fields[4]);
    }
  } catch {
    return undefined;
  }
  return undefined;
}

function hex(value: number): string { return value.toString(16).padStart(2, '0'); }
