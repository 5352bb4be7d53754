// The one entry of the store: picks the driver. Called by control/start.ts and by the backup and restore commands.

import { NetloomError } from '../../api/errors.ts';
import { LocalStorage } from './local.ts';
import { memoryJournal } from './memory.ts';
import { sqliteJournal } from './sqlite/journal.ts';
import { defaultStorageLimits } from './store.ts';
import type { Storage, StorageOptions } from './store.ts';

/** Opens the store. Throws StoreLocked, StoreCorrupt, PermissionDenied, InsufficientStorage, ConnectFailed, ConfigInvalid. */
export async function openStorage(options: StorageOptions): Promise<Storage> {
  const limits = { ...defaultStorageLimits, ...options.limits };
  const { clock, log } = options;
  if (options.kind === 'etcd') {
    const { endpoints = [], keyPrefix = '/registry', tls, username, password } = options;
    const { openEtcd } = await import('./etcd/storage.ts');
    return openEtcd({ endpoints, keyPrefix, clock, log, limits, ...(tls === undefined ? {} : { tls }), ...(username === undefined ? {} : { username }), ...(password === undefined ? {} : { password }) });
  }
  if (options.kind === 'sqlite' && options.dataDir === undefined) throw new NetloomError('ConfigInvalid', 'the sqlite store needs a data directory', { hint: 'give --data-dir' });
  const journal = options.kind === 'memory' ? memoryJournal() : sqliteJournal({ dataDir: options.dataDir as string, clock, log, limits });
  return new LocalStorage({ clock, log, limits, journal, isFreezing: options.isFreezing ?? false });
}
