// Starts a control plane: store, admission, API server, controllers. Public entry of the package:
//   import { start } from 'netloom';
//   const control = await start({ ephemeral: true });
//   ... kubectl --kubeconfig with control.kubeconfig() ...
//   await control.stop();
// Several may run in one process. Nothing is shared between them.

import type { Registry as MetricsRegistry } from 'prom-client';
import type { ApiTransport } from '../api/client.ts';
import { ControlPlaneRunner } from './runner.ts';
import type { StartOptions } from './config.ts';
import type { KeyPair } from './certificates.ts';

export type { StartOptions } from './config.ts';

export interface Identity { user: string; groups: readonly string[] }
export interface NodeCredentials { certPem: string; keyPem: string; caPem: string }

export interface ControlPlane {
  readonly address: string;
  readonly port: number;
  /** `https://address:port`. */
  readonly url: string;
  /** Signs serving certificates: the API server's and the nodes'. */
  readonly caPem: string;
  /** Signs client certificates: what a node's own endpoint trusts. */
  readonly clientCaPem: string;
  /** Where the admin's kubeconfig was written; '' when nothing is written. */
  readonly kubeconfigPath: string;
  /** Text of a kubeconfig with a client certificate for this user. */
  kubeconfig(user?: string, groups?: readonly string[]): string;
  /** Calls from this process under an identity, without TLS, through the same handler chain. */
  transport(identity: Identity): ApiTransport;
  issueNodeCredentials(nodeName: string): NodeCredentials;
  /** A serving certificate for these names and addresses. */
  servingCertificate(names: readonly string[], ips?: readonly string[]): KeyPair;
  /** Serves on one more address of this machine, at the same port. Throws PortInUse. */
  listenOn(address: string): Promise<void>;
  /** A token with which one or more nodes may join during the next day. */
  createJoinToken(): Promise<string>;
  /** Resolves when controllers have seen the whole state. */
  whenReady(): Promise<void>;
  registerMetrics(registry: MetricsRegistry): void;
  health(): { ok: boolean; detail?: string };
  stop(): Promise<void>;
}

/** Starts and resolves when the API serves. Throws NetloomError (PortInUse, StoreLocked, ConfigInvalid, …) with advice. */
export async function start(options: StartOptions = {}): Promise<ControlPlane> {
  const runner = new ControlPlaneRunner(options);
  await runner.start();
  return runner;
}
