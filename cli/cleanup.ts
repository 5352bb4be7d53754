// `netloom cleanup`: removes what a killed netloom may have left on this host: its kernel tables, its routes, its bridge
// and VXLAN device, and the processes and network namespaces of its Pods. Touches nothing that netloom did not make.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createLog } from '../api/log.ts';
import { NetloomError } from '../api/errors.ts';
import { NetnsNetwork } from '../agent/network/netns.ts';
import { agentMark, killMarked } from '../agent/pods/process.ts';
import type { AllFlags } from './flags.ts';
import { findInstance } from './instance.ts';
import { say } from './output.ts';
import { findTool, makeSettings } from './settings.ts';

/** Marks netloom's routes (proxy/nftables/host.ts). */
const routeProtocol = '111';

export async function cleanup(raw: Record<string, unknown>): Promise<void> {
  const flags = raw as unknown as AllFlags;
  const running = findInstance(flags.dataDir);
  if (running !== undefined) throw new NetloomError('ConfigInvalid', `netloom (pid ${running.pid}) is running`, { source: 'config', hint: `stop it first: kill ${running.pid}` });
  const settings = makeSettings({ ...flags, proxyMode: 'auto' }, 'node');
  const removed = [...(settings.isRoot ? removeKernelState() : []), ...await removePods(flags.dataDir, settings.podCIDR)];
  for (const line of removed) say(`ok  ${line}`);
  say(removed.length === 0 ? 'nothing was left behind' : `${removed.length} things removed`);
}

function run(tool: string, ...args: string[]): { isOk: boolean; output: string } {
  const path = findTool(tool);
  if (path === undefined) return { isOk: false, output: '' };
  const result = spawnSync(path, args, { encoding: 'utf8', timeout: 30_000 });
  return { isOk: result.status === 0, output: result.stdout ?? '' };
}

function removeKernelState(): string[] {
  const removed: string[] = [];
  for (const family of ['ip', 'ip6']) if (run('nft', 'delete', 'table', family, 'netloom').isOk) removed.push(`kernel table ${family} netloom`);
  for (const family of ['-4', '-6']) {
    const { output } = run('ip', family, 'route', 'show', 'table', 'all', 'proto', routeProtocol);
    if (output.trim() !== '' && run('ip', family, 'route', 'flush', 'table', 'all', 'proto', routeProtocol).isOk) removed.push(`${output.trim().split('\n').length} routes`);
  }
  if (run('ip', 'link', 'delete', 'netloom-vxlan').isOk) removed.push('device netloom-vxlan');
  return removed;
}

/** Pods of the agent that kept its id in this data directory. */
async function removePods(dataDir: string, podCIDR: string): Promise<string[]> {
  const removed: string[] = [];
  const idFile = join(dataDir, 'agent-id');
  if (!existsSync(idFile)) return removed;
  const agentId = readFileSync(idFile, 'utf8').trim();
  const killed = await killMarked(agentMark, agentId);
  if (killed > 0) removed.push(`${killed} processes of Pods`);
  if (process.getuid?.() !== 0) return removed;
  const before = run('ip', 'netns', 'list').output.split('\n').length;
  const prefix = `nl${createHash('sha256').update(agentId).digest('hex').slice(0, 4)}`;
  const network = new NetnsNetwork({ podCIDR, bridgeName: 'netloom0', prefix, dataDir, log: createLog({ level: 'error' }) });
  spawnSync('sh', ['-c', network.cleanupScript()], { stdio: 'ignore', timeout: 30_000 });
  const gone = before - run('ip', 'netns', 'list').output.split('\n').length;
  if (gone > 0) removed.push(`${gone} Pod network namespaces`);
  return removed;
}
