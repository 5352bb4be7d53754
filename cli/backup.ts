// `netloom backup` and `netloom restore`: a whole, verified copy of the store, taken from a running control plane through
// its API or from a stopped one, and put back while it stands still. Revisions jump ahead on restore, so that watchers
// list again.

import { createWriteStream, existsSync, renameSync, rmSync } from 'node:fs';
import { finished } from 'node:stream/promises';
import { systemClock } from '../api/clock.ts';
import { NetloomError } from '../api/errors.ts';
import { silentLog } from '../api/log.ts';
import { makeBackup, restoreBackup, verifyBackup } from '../control/storage/sqlite/copies.ts';
import { openStorage } from '../control/storage/open.ts';
import { clientOf, findInstance, type ReadyInfo } from './instance.ts';
import { say } from './output.ts';

export async function backup(file: string, flags: Record<string, unknown>): Promise<void> {
  const dataDir = String(flags['dataDir']);
  if (existsSync(file)) throw new NetloomError('AlreadyExists', `${file} exists`, { source: 'config', hint: 'name a new file' });
  const running = findInstance(dataDir);
  if (running === undefined) {
    const storage = await openStorage({ kind: 'sqlite', dataDir, clock: systemClock, log: silentLog });
    try { await makeBackup(file, storage); } finally { await storage.close(); }
  } else await fetchBackup(running, file);
  const { revision, objectCount } = await verifyBackup(file);
  say(`ok  ${objectCount} objects at revision ${revision} copied to ${file}`);
}

/** Streams the backup that the running control plane makes. */
async function fetchBackup(running: ReadyInfo, file: string): Promise<void> {
  const client = clientOf(running);
  const partial = `${file}.partial`;
  try {
    const response = await client.transport.request({ method: 'GET', path: '/netloom/v1/backup' });
    if (response.status !== 200) throw new NetloomError('ServiceUnavailable', `the control plane refused a backup: HTTP ${response.status}`, { source: 'api' });
    const out = createWriteStream(partial, { mode: 0o600 });
    for await (const chunk of response.body) out.write(chunk);
    out.end();
    await finished(out);
    renameSync(partial, file);
  } catch (error) {
    rmSync(partial, { force: true });
    throw error;
  } finally { await client.transport.close(); }
}

export async function restore(file: string, flags: Record<string, unknown>): Promise<void> {
  const dataDir = String(flags['dataDir']);
  const running = findInstance(dataDir);
  if (running !== undefined) throw new NetloomError('StoreLocked', `netloom (pid ${running.pid}) runs with ${dataDir}`, { source: 'config', hint: `stop it first: kill ${running.pid}` });
  const result = await restoreBackup(file, dataDir);
  say(`ok  ${result.objectCount} objects restored to ${dataDir}, now at revision ${result.revision}${result.previousStore === undefined ? '' : `; the replaced store is ${result.previousStore}`}`);
}
