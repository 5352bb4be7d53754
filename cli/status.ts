// `netloom status`: what runs with this data directory, where it listens, and how current it is.

import { request } from 'undici';
import { ExitCode } from './exit.ts';
import { findInstance } from './instance.ts';
import { print, say } from './output.ts';

/** Prints the live status of the admin port; exit code 3 when nothing runs. */
export async function status(flags: Record<string, unknown>): Promise<void> {
  const info = findInstance(String(flags['dataDir']));
  if (info === undefined) {
    if (flags['output'] === 'json') print('{"running":false}');
    else say(`--  no netloom runs with data directory ${String(flags['dataDir'])}`);
    throw new ExitCode(3);
  }
  let live: Record<string, unknown> = {};
  if (info.admin !== undefined) {
    try {
      const response = await request(`http://127.0.0.1:${info.admin.port}/status`, { headersTimeout: 2_000 });
      live = (await response.body.json()) as Record<string, unknown>;
    } catch (error) { live = { error: `the admin port does not answer: ${(error as Error).message}` }; }
  }
  if (flags['output'] === 'json') { print(JSON.stringify({ running: true, ...info, ...live })); return; }
  print(`netloom ${info.version}   pid ${info.pid}   node ${info.node}   mode ${info.proxyMode}   since ${info.startedAt}`);
  const address = (name: string, item: { address: string; port: number } | undefined, scheme: string): void => { if (item !== undefined) print(`  ${name.padEnd(9)} ${scheme}${item.address.includes(':') ? `[${item.address}]` : item.address}:${item.port}`); };
  address('api', info.api, 'https://'); address('ingress', info.http, 'http://'); address('', info.https, 'https://'); address('dns', info.dns, 'dns://'); address('admin', info.admin, 'http://');
  print(`  ${'config'.padEnd(9)} ${info.kubeconfig}`);
  for (const [name, value] of Object.entries(live)) print(`  ${name.padEnd(9)} ${typeof value === 'string' ? value : JSON.stringify(value)}`);
}
