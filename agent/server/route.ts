// What a request to the agent's server is about, once it is authorised and its Pod was found.

import type { Clock } from '../../api/clock.ts';
import type { Log } from '../../api/log.ts';
import type { PodRunner } from '../pods/pod-runner.ts';

/** From `/<action>/<namespace>/<pod>[/<container>]`; `container` is '' when the path has none. */
export interface AgentRoute { readonly action: string; readonly runner: PodRunner; readonly container: string; readonly query: URLSearchParams }

export interface StreamOptions { readonly workingDir: string; readonly clock: Clock; readonly log: Log }

/** Reads a flag in the API server's spelling (`stdin=true`) or the kubelet's (`input=1`). */
export function isFlagSet(query: URLSearchParams, ...names: string[]): boolean {
  return names.some((name) => query.get(name) === 'true' || query.get(name) === '1');
}
