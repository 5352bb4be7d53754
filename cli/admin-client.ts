// Asks the admin port of a running netloom.

import { request } from 'undici';
import { NetloomError } from '../api/errors.ts';
import type { ReadyInfo } from './instance.ts';

/** JSON of an admin path. Throws ConnectFailed when the process does not answer within 5 s. */
export async function askAdmin<T>(info: ReadyInfo, path: string): Promise<T> {
  if (info.admin === undefined) throw new NetloomError('ConnectFailed', 'this netloom has no admin port', { source: 'config' });
  try {
    const response = await request(`http://127.0.0.1:${info.admin.port}${path}`, { headersTimeout: 5_000, bodyTimeout: 5_000 });
    if (response.statusCode >= 400) throw new Error(`HTTP ${response.statusCode}: ${(await response.body.text()).trim()}`);
    return (await response.body.json()) as T;
  } catch (cause) {
    throw new NetloomError('ConnectFailed', `the admin port ${info.admin.port} does not answer: ${(cause as Error).message}`, { source: 'config', cause, hint: 'netloom status' });
  }
}
