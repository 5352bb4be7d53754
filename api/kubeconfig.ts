// Reads and writes kubeconfig files (kubectl's own format), so that netloom's commands and a node beside a real
// cluster use the credentials that kubectl uses. Errors name the file and what is missing in it.
// Source: kubernetes.io "Organizing Cluster Access Using kubeconfig Files".

import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { parse, stringify } from 'yaml';
import type { HttpTransportOptions } from './client.ts';
import { NetloomError } from './errors.ts';

interface NamedCluster { name: string; cluster: { server: string; 'certificate-authority'?: string; 'certificate-authority-data'?: string; 'insecure-skip-tls-verify'?: boolean; 'tls-server-name'?: string } }
interface NamedUser { name: string; user: { 'client-certificate'?: string; 'client-certificate-data'?: string; 'client-key'?: string; 'client-key-data'?: string; token?: string; tokenFile?: string; exec?: unknown } }
interface NamedContext { name: string; context: { cluster: string; user: string; namespace?: string } }
export interface Kubeconfig { apiVersion: 'v1'; kind: 'Config'; clusters: NamedCluster[]; users: NamedUser[]; contexts: NamedContext[]; 'current-context': string; preferences?: object }

export interface KubeconfigInput { server: string; caPem: string; certPem?: string; keyPem?: string; token?: string; user?: string; name?: string }

/** A kubeconfig with one cluster, user and context, all data inline. */
export function buildKubeconfig(input: KubeconfigInput): Kubeconfig {
  const name = input.name ?? 'netloom';
  const user = input.user ?? 'netloom-admin';
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  const credentials: NamedUser['user'] = {};
  if (input.certPem !== undefined) credentials['client-certificate-data'] = base64(input.certPem);
  if (input.keyPem !== undefined) credentials['client-key-data'] = base64(input.keyPem);
  if (input.token !== undefined) credentials.token = input.token;
  return {
    apiVersion: 'v1', kind: 'Config', preferences: {},
    clusters: [{ name, cluster: { server: input.server, 'certificate-authority-data': base64(input.caPem) } }],
    users: [{ name: user, user: credentials }],
    contexts: [{ name, context: { cluster: name, user } }],
    'current-context': name,
  };
}

/** Writes atomically with mode 0600. */
export function writeKubeconfig(path: string, config: Kubeconfig): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const temporary = `${path}.${process.pid}.tmp`;
  writeFileSync(temporary, stringify(config, { lineWidth: 0 }), { mode: 0o600 });
  renameSync(temporary, path);
}

export function readKubeconfig(path: string): Kubeconfig {
  let config: unknown;
  try {
    config = parse(readFileSync(path, 'utf8'));
  } catch (cause) {
    throw new NetloomError('ConfigInvalid', `cannot read kubeconfig ${path}: ${(cause as Error).message.split('\n')[0]}`, { source: 'config', cause });
  }
  const parsed = config as Partial<Kubeconfig> | null;
  if (parsed === null || typeof parsed !== 'object' || !Array.isArray(parsed.clusters) || !Array.isArray(parsed.contexts)) {
    throw new NetloomError('ConfigInvalid', `${path} is not a kubeconfig: clusters and contexts are missing`, { source: 'config' });
  }
  return { users: [], 'current-context': '', ...parsed } as Kubeconfig;
}

/** Options of httpTransport for the current (or named) context; relative file names are relative to the kubeconfig. */
export function transportOptions(path: string, contextName?: string): HttpTransportOptions & { namespace: string | undefined } {
  const config = readKubeconfig(path);
  const wanted = contextName ?? config['current-context'];
  const context = config.contexts.find((item) => item.name === wanted)?.context;
  if (context === undefined) throw new NetloomError('ConfigInvalid', `kubeconfig ${path} has no context "${wanted}"`, { source: 'config' });
  const cluster = config.clusters.find((item) => item.name === context.cluster)?.cluster;
  if (cluster === undefined) throw new NetloomError('ConfigInvalid', `kubeconfig ${path} has no cluster "${context.cluster}"`, { source: 'config' });
  const user = config.users.find((item) => item.name === context.user)?.user ?? {};
  if (user.exec !== undefined) throw new NetloomError('ConfigInvalid', `kubeconfig ${path} uses an exec credential plugin`, { source: 'config', hint: 'give a kubeconfig with a client certificate or token' });
  const file = (data: string | undefined, name: string | undefined): string | undefined => {
    if (data !== undefined) return Buffer.from(data, 'base64').toString('utf8');
    return name === undefined ? undefined : readFileSync(resolve(dirname(path), name), 'utf8');
  };
  return {
    server: cluster.server, namespace: context.namespace,
    caPem: file(cluster['certificate-authority-data'], cluster['certificate-authority']),
    certPem: file(user['client-certificate-data'], user['client-certificate']),
    keyPem: file(user['client-key-data'], user['client-key']),
    token: user.token, tokenFile: user.tokenFile,
    insecureSkipVerify: cluster['insecure-skip-tls-verify'], serverName: cluster['tls-server-name'],
  };
}

/** Adds or replaces netloom's entries in another kubeconfig and makes them current, as `kind` and `k3d` do. */
export function mergeKubeconfig(targetPath: string, added: Kubeconfig): void {
  let target: Kubeconfig;
  try { target = readKubeconfig(targetPath); } catch (error) {
    if (((error as Error).cause as { code?: string } | undefined)?.code !== 'ENOENT') throw error;
    target = { apiVersion: 'v1', kind: 'Config', clusters: [], users: [], contexts: [], 'current-context': '' };
  }
  const merge = <T extends { name: string }>(old: T[], fresh: T[]): T[] => [...old.filter((item) => !fresh.some((other) => other.name === item.name)), ...fresh];
  writeKubeconfig(targetPath, {
    ...target, clusters: merge(target.clusters, added.clusters), users: merge(target.users, added.users),
    contexts: merge(target.contexts, added.contexts), 'current-context': added['current-context'],
  });
}

/** The file kubectl would use: the first of $KUBECONFIG, else ~/.kube/config. */
export function defaultKubeconfigPath(): string {
  const first = process.env['KUBECONFIG']?.split(':').find((part) => part !== '');
  return first ?? join(homedir(), '.kube', 'config');
}
