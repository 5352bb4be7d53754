// Small file helpers of the embedded store: folders, fsync, sizes, PRAGMA values.

import { closeSync, fsyncSync, mkdirSync, openSync, statfsSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import type { DatabaseSync } from 'node:sqlite';

/** Makes the data directory, for its owner only. */
export function prepareFolder(folder: string): void {
  const made = mkdirSync(folder, { recursive: true, mode: 0o700 });
  if (made !== undefined) syncFolder(dirname(made));
}

/** Makes new names in a folder survive a power loss. */
export function syncFolder(folder: string): void { syncPath(folder, 'r'); }

/** Makes the content of a file survive a power loss. */
export function syncFile(file: string): void { syncPath(file, 'r+'); }

function syncPath(path: string, flags: string): void {
  const descriptor = openSync(path, flags);
  try { fsyncSync(descriptor); } finally { closeSync(descriptor); }
}

/** Free bytes on the disk of this file; Infinity when the system does not say. */
export function freeBytes(file: string): number {
  try {
    const info = statfsSync(dirname(file));
    return info.bavail * info.bsize;
  } catch {
    return Infinity;
  }
}

export function sizeOf(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.size ?? 0;
}

/** Value of a numeric PRAGMA. */
export function pragma(db: DatabaseSync, name: string): number {
  return Object.values(db.prepare(`PRAGMA ${name}`).get() ?? {})[0] as number;
}
