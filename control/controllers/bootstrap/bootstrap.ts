// The objects that exist from the first second: namespaces, the Services of the API server and of DNS, the IngressClass,
// default roles. Called by control/start.ts before the server says that it is ready; safe to run at every start and by
// several servers at once.

import { parseCIDR } from '../../../api/address.ts';
import type { ApiClient } from '../../../api/client.ts';
import { isAlreadyExists, isConflict, isNotFound, NetloomError } from '../../../api/errors.ts';
import { annotations } from '../../../api/meta.ts';
import { resources, type ResourceRef } from '../../../api/resources.ts';
import type { IngressClass, KubeObject, Namespace, Service } from '../../../api/types.ts';
import { IPRange } from '../../admission/ip-range.ts';
import type { ControllersConfig } from '../config.ts';
import { clusterRoleBindings, clusterRoles, localRoles, type PolicyRule } from './roles.ts';

export const systemNamespaces: readonly string[] = Object.freeze(['default', 'kube-system', 'kube-public', 'kube-node-lease']);
export const ingressClassName = 'netloom';
export const ingressController = 'netloom.dev/ingress';

const rbac = (resource: string, kind: string, isNamespaced = false): ResourceRef => ({ group: 'rbac.authorization.k8s.io', version: 'v1', resource, kind, isNamespaced });
const autoupdate = { 'rbac.authorization.kubernetes.io/autoupdate': 'true' };
const bootstrapLabels = { 'kubernetes.io/bootstrapping': 'rbac-defaults' };

export type BootstrapConfig = Pick<ControllersConfig, 'serviceCIDRs' | 'dnsServiceIP' | 'apiPort'>;

/** First address of each Service range: the ClusterIPs of default/kubernetes. */
export function apiServiceIP(serviceCIDRs: readonly string[]): string { return addressAt(serviceCIDRs[0] ?? '', 0); }

/** Tenth address of the primary range (10.96.0.10), where resolv.conf files point; in a tiny range the last one. */
export function dnsServiceIP(config: Pick<ControllersConfig, 'serviceCIDRs' | 'dnsServiceIP'>): string {
  return config.dnsServiceIP !== '' ? config.dnsServiceIP : addressAt(config.serviceCIDRs[0] ?? '', 9);
}

function addressAt(text: string, offset: number): string {
  const cidr = parseCIDR(text);
  if (cidr === undefined) throw new NetloomError('ConfigInvalid', `"${text}" is not a Service range`, { source: 'config', hint: 'write it as 10.96.0.0/16' });
  const range = new IPRange(cidr);
  return range.at(Math.min(offset, range.size - 1));
}

/** Makes what is missing. Resolves when all of it is stored. */
export async function ensureBootstrapObjects(client: ApiClient, config: BootstrapConfig): Promise<void> {
  await Promise.all(systemNamespaces.map((name) => ensure<Namespace>(client, resources.namespaces, { metadata: { name } })));
  await Promise.all([
    ensure(client, resources.services, apiService(config)),
    ensure(client, resources.services, dnsService(config)),
    ensure<IngressClass>(client, resources.ingressclasses, {
      metadata: { name: ingressClassName, annotations: { [annotations.defaultIngressClass]: 'true' } }, spec: { controller: ingressController },
    }),
    ...roleObjects().map(([resource, object]) => ensureRole(client, resource, object)),
  ]);
}

function apiService(config: BootstrapConfig): Service {
  return {
    metadata: { name: 'kubernetes', namespace: 'default', labels: { component: 'apiserver', provider: 'kubernetes' } },
    spec: { type: 'ClusterIP', clusterIP: apiServiceIP(config.serviceCIDRs), sessionAffinity: 'None', ports: [{ name: 'https', protocol: 'TCP', port: 443, targetPort: config.apiPort }] },
  };
}

function dnsService(config: BootstrapConfig): Service {
  return {
    metadata: { name: 'kube-dns', namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns', 'kubernetes.io/cluster-service': 'true', 'kubernetes.io/name': 'netloom-dns' } },
    spec: { type: 'ClusterIP', clusterIP: dnsServiceIP(config), ports: [{ name: 'dns', protocol: 'UDP', port: 53, targetPort: 53 }, { name: 'dns-tcp', protocol: 'TCP', port: 53, targetPort: 53 }] },
  };
}

type RoleObject = KubeObject & { rules?: PolicyRule[]; roleRef?: object; subjects?: object[] };

function roleObjects(): [ResourceRef, RoleObject][] {
  const meta = (name: string, namespace?: string): RoleObject['metadata'] => ({ name, ...(namespace === undefined ? {} : { namespace }), labels: { ...bootstrapLabels }, annotations: { ...autoupdate } });
  const refTo = (kind: string, name: string): object => ({ apiGroup: 'rbac.authorization.k8s.io', kind, name });
  const withGroup = (subjects: readonly { kind: string }[]): object[] => subjects.map((subject) => (subject.kind === 'ServiceAccount' ? subject : { apiGroup: 'rbac.authorization.k8s.io', ...subject }));
  return [
    ...clusterRoles.map(({ name, rules }): [ResourceRef, RoleObject] => [rbac('clusterroles', 'ClusterRole'), { metadata: meta(name), rules }]),
    ...clusterRoleBindings.map(({ name, role, subjects }): [ResourceRef, RoleObject] => [rbac('clusterrolebindings', 'ClusterRoleBinding'), { metadata: meta(name), roleRef: refTo('ClusterRole', role), subjects: withGroup(subjects) }]),
    ...localRoles.flatMap(({ name, namespace, rules, subjects }): [ResourceRef, RoleObject][] => [
      [rbac('roles', 'Role', true), { metadata: meta(name, namespace), rules }],
      [rbac('rolebindings', 'RoleBinding', true), { metadata: meta(name, namespace), roleRef: refTo('Role', name), subjects: withGroup(subjects) }],
    ]),
  ];
}

/** Creates the object unless it is there; an existing one is left as it is. */
async function ensure<T extends KubeObject>(client: ApiClient, resource: ResourceRef, object: T): Promise<T> {
  const { name, namespace } = object.metadata;
  try {
    return await client.get<T>(resource, namespace, name);
  } catch (error) { if (!isNotFound(error)) throw error; }
  try {
    return await client.create<T>(resource, namespace, object);
  } catch (error) {
    if (!isAlreadyExists(error)) throw error;
    return client.get<T>(resource, namespace, name);
  }
}

/** Also restores missing rules and labels of a role that nobody took out of automatic updates. */
async function ensureRole(client: ApiClient, resource: ResourceRef, wanted: RoleObject): Promise<void> {
  const found = await ensure(client, resource, wanted);
  if (found.metadata.annotations?.['rbac.authorization.kubernetes.io/autoupdate'] !== 'true') return;
  const [have, want] = [JSON.stringify([found.rules, found.subjects]), JSON.stringify([wanted.rules, wanted.subjects])];
  if (have === want) return;
  try {
    await client.update<RoleObject>(resource, { ...found, ...(wanted.rules === undefined ? {} : { rules: wanted.rules }), ...(wanted.subjects === undefined ? {} : { subjects: wanted.subjects }) });
  } catch (error) { if (!isConflict(error)) throw error; }
}

