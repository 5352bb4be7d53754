// `netloom backup` and `netloom restore`: a whole copy of the store, taken while the control plane runs or stands
// still, and put back while it stands still. Revisions jump ahead on restore, so that watchers list again.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { NetloomError } from '../api/errors.ts';
import { backupStore, restoreStore } from '../control/storage/backup.ts';
import { findInstance } from './instance.ts';
import { say } from './output.ts';

export async function backup(file: string, flags: Record<string, unknown>): Promise<void> {
  const dataDir = String(flags['dataDir']);
  if (existsSync(file)) throw new NetloomError('ConfigInvalid', `${file} exists`, { source: 'config', hint: 'name a new file' });
  await backupStore(dataDir, file);
  say(`ok  ${join(dataDir)} copied to ${file}`);
}

export async function restore(file: string, flags: Record<string, unknown>): Promise<void> {
  const dataDir = String(flags['dataDir']);
  const running = findInstance(dataDir);
  if (running !== undefined) throw new NetloomError('StoreLocked', `netloom (pid ${running.pid}) runs with ${dataDir}`, { source: 'config', hint: `stop it first: kill ${running.pid}` });
  await restoreStore(file, dataDir);
  say(`ok  ${file} restored to ${dataDir}; the replaced store is kept beside it`);
}
