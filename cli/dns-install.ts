// `netloom dns install|uninstall`: points this machine's resolver at the running netloom, and back.

import { spawnSync } from 'node:child_process';
import { installResolver, uninstallResolver } from '../dns/install.ts';
import { NetloomError } from '../api/errors.ts';
import { requireInstance } from './instance.ts';
import { say } from './output.ts';

const run = (command: string, args: readonly string[]): number => spawnSync(command, [...args], { stdio: 'ignore' }).status ?? 1;

export function dnsInstall(verb: 'install' | 'uninstall', flags: Record<string, unknown>): void {
  if (verb === 'uninstall') {
    say(uninstallResolver(run) ? 'ok  the resolver is as it was before' : 'nothing was installed');
    return;
  }
  const info = requireInstance(String(flags['dataDir']));
  if (info.dns === undefined) throw new NetloomError('ConfigInvalid', 'this netloom runs no DNS', { source: 'config', hint: 'start it without --no-dns' });
  const address = info.dns.address === '0.0.0.0' ? '127.0.0.1' : info.dns.address;
  const state = installResolver({
    address, port: info.dns.port, clusterDomain: info.clusterDomain ?? 'cluster.local',
    networks: [...(info.serviceCIDR ?? '').split(','), info.podCIDR ?? ''].filter((item) => item !== ''), run,
  });
  say(`ok  names of ${info.clusterDomain ?? 'cluster.local'} are answered by netloom through ${state.method} (${state.detail})`);
  say('undo: netloom dns uninstall');
}
