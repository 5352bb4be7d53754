// `netloom kubeconfig` and `netloom token create`: the credentials that people and nodes need next.

import { createHash, X509Certificate } from 'node:crypto';
import { systemClock } from '../api/clock.ts';
import { NetloomError } from '../api/errors.ts';
import { defaultKubeconfigPath, mergeKubeconfig, readKubeconfig, transportOptions } from '../api/kubeconfig.ts';
import { resources } from '../api/resources.ts';
import { makeJoinToken } from '../control/server/auth/bootstrap-tokens.ts';
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { clientOf, requireInstance } from './instance.ts';
import { print, say } from './output.ts';

export function kubeconfig(flags: Record<string, unknown>): void {
  const info = requireInstance(String(flags['dataDir']));
  if (flags['raw'] === true) { process.stdout.write(readFileSync(info.kubeconfig)); return; }
  if (flags['merge'] === true) {
    // $KUBECONFIG often is the very file that `up` told the person to export.
    const asked = defaultKubeconfigPath();
    const target = resolve(asked) === resolve(info.kubeconfig) ? join(homedir(), '.kube', 'config') : asked;
    mergeKubeconfig(target, readKubeconfig(info.kubeconfig));
    say(`ok  context "netloom" added to ${target} and made current`);
    return;
  }
  print(info.kubeconfig);
}

/** Asks the control plane for a new join token; it is shown once. */
export async function token(verb: string, flags: Record<string, unknown>): Promise<void> {
  if (verb !== 'create') throw new NetloomError('ConfigInvalid', `unknown verb "${verb}"`, { source: 'config', context: { exitCode: 2 }, hint: 'netloom token create' });
  const info = requireInstance(String(flags['dataDir']));
  const client = clientOf(info);
  try {
    const caPem = transportOptions(info.kubeconfig).caPem ?? '';
    const { token: made, secret } = makeJoinToken(createHash('sha256').update(new X509Certificate(caPem).raw).digest('hex'), systemClock);
    await client.create(resources.secrets, 'kube-system', secret);
    print(made.token);
    say(`--  valid until ${made.expiresAt}: netloom node --server https://THIS-HOST:${info.api?.port ?? 6443} --token TOKEN`);
  } finally { await client.transport.close(); }
}
