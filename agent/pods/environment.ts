// Builds a container's environment: a few variables of the host that every program expects, service links, envFrom,
// env in order (each may use the ones before it), and netloom's own marks. ConfigMaps and Secrets are read when a
// container starts, so that a restart sees their present values, as with the kubelet.

import { dirname } from 'node:path';
import type { ApiClient } from '../../api/client.ts';
import { isNotFound, NetloomError } from '../../api/errors.ts';
import { resources } from '../../api/resources.ts';
import type { ConfigMap, Container, EnvVar, Pod, Secret, Service } from '../../api/types.ts';
import { expand, fieldValue } from './command.ts';

// Nothing else of the agent's own environment reaches a Pod: it may hold credentials.
const inheritedNames = ['PATH', 'HOME', 'USER', 'LOGNAME', 'SHELL', 'LANG', 'LC_ALL', 'LC_CTYPE', 'TZ', 'TMPDIR'];
const defaultPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export interface EnvironmentContext {
  client: ApiClient; podIP: string; hostIP: string; hostname: string;
  /** Services whose addresses are offered as NAME_SERVICE_HOST; empty switches that off. */
  services: Iterable<Service>;
  hostEnv: Readonly<Record<string, string | undefined>>;
}

/** Throws NotFound or Invalid with a message for the container's waiting state (CreateContainerConfigError). */
export async function buildEnvironment(pod: Pod, container: Container, context: EnvironmentContext): Promise<Record<string, string>> {
  const env: Record<string, string> = Object.create(null) as Record<string, string>;
  for (const name of inheritedNames) {
    const value = context.hostEnv[name];
    if (value !== undefined) env[name] = value;
  }
  // The runtime that came along with netloom is found last, so that a Pod may simply run `node`.
  env['PATH'] = `${env['PATH'] ?? defaultPath}:${dirname(process.execPath)}`;
  env['HOSTNAME'] = context.hostname;
  env['POD_IP'] = context.podIP;
  env['HOST'] = context.podIP;
  if (pod.spec?.enableServiceLinks !== false) addServiceLinks(env, pod.metadata.namespace ?? 'default', context.services);
  const reader = new ReferenceReader(context.client, pod.metadata.namespace ?? 'default');
  for (const source of container.envFrom ?? []) {
    const data = source.configMapRef !== undefined ? await reader.configMap(source.configMapRef.name ?? '', source.configMapRef.optional === true)
      : source.secretRef !== undefined ? await reader.secret(source.secretRef.name ?? '', source.secretRef.optional === true) : undefined;
    for (const [key, value] of Object.entries(data ?? {})) env[`${source.prefix ?? ''}${key}`] = value;
  }
  for (const variable of container.env ?? []) {
    const value = await valueOf(pod, variable, env, context, reader);
    if (value !== undefined) env[variable.name] = value;
  }
  return env;
}

async function valueOf(pod: Pod, variable: EnvVar, env: Record<string, string>, context: EnvironmentContext, reader: ReferenceReader): Promise<string | undefined> {
  const from = variable.valueFrom;
  if (from === undefined) return expand(variable.value ?? '', env);
  if (from.fieldRef !== undefined) {
    const value = fieldValue(pod, from.fieldRef.fieldPath, context);
    if (value === undefined) throw new NetloomError('Invalid', `env ${variable.name}: fieldPath ${from.fieldRef.fieldPath} is not supported`);
    return value;
  }
  const reference = from.configMapKeyRef ?? from.secretKeyRef;
  if (reference === undefined) return undefined;
  const isOptional = reference.optional === true;
  const kind = from.configMapKeyRef !== undefined ? 'configmap' : 'secret';
  const data = kind === 'configmap' ? await reader.configMap(reference.name ?? '', isOptional) : await reader.secret(reference.name ?? '', isOptional);
  const value = data?.[reference.key];
  if (value === undefined && !isOptional) throw new NetloomError('NotFound', `couldn't find key ${reference.key} in ${kind} ${pod.metadata.namespace}/${reference.name ?? ''}`);
  return value;
}

/** Reads each ConfigMap and Secret at most once per container start. */
class ReferenceReader {
  readonly #client: ApiClient;
  readonly #namespace: string;
  readonly #cache = new Map<string, Promise<Record<string, string> | undefined>>();

  constructor(client: ApiClient, namespace: string) {
    this.#client = client;
    this.#namespace = namespace;
  }

  configMap(name: string, isOptional: boolean): Promise<Record<string, string> | undefined> {
    return this.#read(`configmap "${name}"`, isOptional, async () => (await this.#client.get<ConfigMap>(resources.configmaps, this.#namespace, name)).data ?? {});
  }

  secret(name: string, isOptional: boolean): Promise<Record<string, string> | undefined> {
    return this.#read(`secret "${name}"`, isOptional, async () => {
      const secret = await this.#client.get<Secret>(resources.secrets, this.#namespace, name);
      return Object.fromEntries(Object.entries(secret.data ?? {}).map(([key, value]) => [key, Buffer.from(value, 'base64').toString('utf8')]));
    });
  }

  async #read(label: string, isOptional: boolean, load: () => Promise<Record<string, string>>): Promise<Record<string, string> | undefined> {
    let pending = this.#cache.get(label);
    if (pending === undefined) {
      pending = load().catch((error: unknown) => { if (isNotFound(error)) return undefined; throw error; });
      this.#cache.set(label, pending);
    }
    const data = await pending;
    if (data === undefined && !isOptional) throw new NetloomError('NotFound', `${label} not found`);
    return data;
  }
}

function addServiceLinks(env: Record<string, string>, namespace: string, services: Iterable<Service>): void {
  for (const service of services) {
    const isMaster = service.metadata.namespace === 'default' && service.metadata.name === 'kubernetes';
    if (service.metadata.namespace !== namespace && !isMaster) continue;
    const address = service.spec?.clusterIP;
    const port = service.spec?.ports?.[0];
    if (address === undefined || address === '' || address === 'None' || port === undefined) continue;
    const name = service.metadata.name.toUpperCase().replaceAll('-', '_');
    env[`${name}_SERVICE_HOST`] = address;
    env[`${name}_SERVICE_PORT`] = String(port.port);
    for (const each of service.spec?.ports ?? []) {
      if (each.name !== undefined && each.name !== '') env[`${name}_SERVICE_PORT_${each.name.toUpperCase().replaceAll('-', '_')}`] = String(each.port);
    }
  }
}
