// `netloom cleanup`: removes what a killed netloom may have left on this host: its kernel tables, routes and
// addresses, and Pod network namespaces. Touches nothing that netloom did not make.

import { createLog } from '../api/log.ts';
import { systemClock } from '../api/clock.ts';
import { NetloomError } from '../api/errors.ts';
import { cleanupProxy } from '../proxy/cleanup.ts';
import { sweepLeftovers } from '../agent/pods/sweeper.ts';
import type { AllFlags } from './flags.ts';
import { findInstance } from './instance.ts';
import { say } from './output.ts';
import { makeSettings } from './settings.ts';

export async function cleanup(raw: Record<string, unknown>): Promise<void> {
  const flags = raw as unknown as AllFlags;
  const running = findInstance(flags.dataDir);
  if (running !== undefined) throw new NetloomError('ConfigInvalid', `netloom (pid ${running.pid}) is running`, { source: 'config', hint: `stop it first: kill ${running.pid}` });
  const settings = makeSettings(flags, 'node');
  const log = createLog({ level: settings.logLevel });
  const removed = [...await cleanupProxy({ serviceCIDRs: settings.serviceCIDRs, log, clock: systemClock }), ...await sweepLeftovers({ dataDir: settings.dataDir, log })];
  for (const line of removed) say(`ok  ${line}`);
  say(removed.length === 0 ? 'nothing was left behind' : `${removed.length} things removed`);
}
