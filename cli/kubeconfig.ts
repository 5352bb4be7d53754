// `netloom kubeconfig` and `netloom token create`: the credentials that people and nodes need next.

import { NetloomError } from '../api/errors.ts';
import { defaultKubeconfigPath, mergeKubeconfig, readKubeconfig } from '../api/kubeconfig.ts';
import { readFileSync } from 'node:fs';
import { clientOf, requireInstance } from './instance.ts';
import { print, say } from './output.ts';

export function kubeconfig(flags: Record<string, unknown>): void {
  const info = requireInstance(String(flags['dataDir']));
  if (flags['raw'] === true) { process.stdout.write(readFileSync(info.kubeconfig)); return; }
  if (flags['merge'] === true) {
    const target = defaultKubeconfigPath();
    mergeKubeconfig(target, readKubeconfig(info.kubeconfig));
    say(`ok  context "netloom" added to ${target} and made current`);
    return;
  }
  print(info.kubeconfig);
}

/** Asks the control plane for a new join token; it is shown once. */
export async function token(verb: string, flags: Record<string, unknown>): Promise<void> {
  if (verb !== 'create') throw new NetloomError('ConfigInvalid', `unknown verb "${verb}"`, { source: 'config', hint: 'netloom token create' });
  const info = requireInstance(String(flags['dataDir']));
  const client = clientOf(info);
  try {
    const answer = await client.raw<{ status?: { token?: string } }>('POST', '/apis/netloom.dev/v1/jointokens', { apiVersion: 'netloom.dev/v1', kind: 'JoinToken', metadata: {} });
    print(answer.status?.token ?? '');
  } finally { await client.transport.close(); }
}
