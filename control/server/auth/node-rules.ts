// What a node may do: its own Node, Lease, Pods and their status, the slices and Services that the data plane needs, and
// only those Secrets and ConfigMaps that its Pods or the Ingresses that it serves refer to. A node never acts for another.
// Source: kubernetes plugin/pkg/auth/authorizer/node, plugin/pkg/admission/noderestriction.

import { NetloomError } from '../../../api/errors.ts';
import type { EndpointSlice, Ingress, KubeObject, Pod } from '../../../api/types.ts';
import type { Storage } from '../../storage/store.ts';
import type { Attributes } from './authorizer.ts';
import { groupMasters, groupNodes, nodeUserPrefix, type UserInfo } from './user.ts';

/** Whether the user is a node's own identity. */
export function isNode(user: UserInfo): boolean { return user.username.startsWith(nodeUserPrefix) && user.groups.includes(groupNodes); }

/** Name of the node behind its identity. */
export function nodeNameOf(user: UserInfo): string { return user.username.slice(nodeUserPrefix.length); }

const reads = new Set(['get', 'list', 'watch']);
/** Kinds that every node reads whole: what proxy, DNS and Ingress are made from. */
const readable = new Set([
  'services', 'endpoints', 'namespaces', 'nodes', 'pods', 'endpointslices.discovery.k8s.io', 'ingresses.networking.k8s.io', 'ingressclasses.networking.k8s.io', 'networkpolicies.networking.k8s.io',
  'runtimeclasses.node.k8s.io', 'csidrivers.storage.k8s.io', 'servicecidrs.networking.k8s.io',
]);
const leaseNamespace = 'kube-node-lease';

/** The node's rights; reads are by kind, writes by object. */
export function nodeMay(user: UserInfo, attributes: Attributes, storage: Storage): boolean {
  if (!attributes.isResource) return attributes.verb === 'get' && /^\/(api|apis|openapi|version|healthz|livez|readyz)(\/|$)/.test(attributes.path);
  const node = nodeNameOf(user);
  const { verb, name, namespace, subresource } = attributes;
  const resource = attributes.group === '' ? attributes.resource : `${attributes.resource}.${attributes.group}`;
  if (subresource === '' && reads.has(verb) && readable.has(resource)) return true;
  switch (resource) {
    case 'nodes': return verb === 'create' || (name === node && (verb === 'update' || verb === 'patch' || (subresource === '' && verb === 'delete')));
    // Which slices is decided by what they hold: see restrictNode.
    case 'endpointslices.discovery.k8s.io': return subresource === '' && ['create', 'update', 'patch', 'delete'].includes(verb);
    case 'leases.coordination.k8s.io': return namespace === leaseNamespace && (verb === 'create' || (name === node && ['get', 'update', 'patch', 'delete', 'watch', 'list'].includes(verb)));
    case 'pods': return podMay(attributes, node, storage);
    case 'secrets': case 'configmaps': return reads.has(verb) && name !== '' && isReferenced(resource, namespace, name, node, storage);
    case 'serviceaccounts': return (subresource === 'token' && verb === 'create' && runsAs(namespace, name, node, storage)) || (subresource === '' && verb === 'get');
    case 'events': case 'events.events.k8s.io': return verb === 'create' || verb === 'patch' || verb === 'update';
    case 'ingresses.networking.k8s.io': return subresource === 'status' && (verb === 'update' || verb === 'patch');
    case 'certificatesigningrequests.certificates.k8s.io': return verb === 'create' || reads.has(verb);
    case 'selfsubjectreviews.authentication.k8s.io': case 'selfsubjectaccessreviews.authorization.k8s.io': case 'tokenreviews.authentication.k8s.io': case 'subjectaccessreviews.authorization.k8s.io': return verb === 'create';
    default: return false;
  }
}

/** Looks into what a node writes: only slices of its own endpoints, only its own Node and Lease. Throws Forbidden. */
export function restrictNode(user: UserInfo, resource: { readonly storage: string }, object: KubeObject, old: KubeObject | undefined): void {
  if (!isNode(user) || user.groups.includes(groupMasters)) return;
  const node = nodeNameOf(user);
  const refuse = (text: string): never => { throw new NetloomError('Forbidden', `node ${JSON.stringify(node)} ${text}`, { source: 'downstream', details: { name: object.metadata.name } }); };
  if (resource.storage === 'nodes' && object.metadata.name !== node) refuse('may write its own Node only');
  if (resource.storage === 'leases.coordination.k8s.io' && object.metadata.name !== node) refuse('may write its own Lease only');
  if (resource.storage !== 'endpointslices.discovery.k8s.io') return;
  for (const slice of [object, old] as (EndpointSlice | undefined)[]) {
    if (slice?.endpoints?.some((endpoint) => endpoint.nodeName !== node) === true) refuse('may write slices of its own endpoints only');
  }
}

function podMay({ verb, subresource, namespace, name }: Attributes, node: string, storage: Storage): boolean {
  const pod = storage.get('pods', `${namespace}/${name}`)?.object as Pod | undefined;
  if (pod === undefined) return name !== '' && (verb === 'delete' || verb === 'get' || subresource === 'status');
  const isOwn = pod.spec?.nodeName === node;
  if (subresource === 'status') return isOwn && (verb === 'update' || verb === 'patch' || verb === 'get');
  return isOwn && ((subresource === '' && verb === 'delete') || (subresource === 'eviction' && verb === 'create'));
}

function isReferenced(resource: string, namespace: string, name: string, node: string, storage: Storage): boolean {
  for (const { object } of storage.list('pods', { prefix: `${namespace}/` }).items) {
    if ((object as Pod).spec?.nodeName === node && refersTo(object, resource, name)) return true;
  }
  if (resource !== 'secrets') return false;
  return storage.list('ingresses.networking.k8s.io', { prefix: `${namespace}/` }).items.some(({ object }) => (object as Ingress).spec?.tls?.some((entry) => entry.secretName === name) === true);
}

/** Whether a Pod names the object in env, envFrom, volumes or imagePullSecrets. */
function refersTo(pod: KubeObject, resource: string, name: string): boolean {
  const isSecret = resource === 'secrets';
  let isFound = false;
  const visit = (value: unknown, key: string): void => {
    if (isFound || typeof value !== 'object' || value === null) return;
    if (Array.isArray(value)) { for (const item of value) visit(item, key); return; }
    const record = value as Record<string, unknown>;
    const isHere = isSecret ? ['secretRef', 'secretKeyRef', 'secret', 'imagePullSecrets'].includes(key) : ['configMapRef', 'configMapKeyRef', 'configMap'].includes(key);
    if (isHere && (record['name'] === name || record['secretName'] === name)) { isFound = true; return; }
    for (const [inner, child] of Object.entries(record)) visit(child, inner);
  };
  visit((pod as Pod).spec, '');
  return isFound;
}

function runsAs(namespace: string, account: string, node: string, storage: Storage): boolean {
  return storage.list('pods', { prefix: `${namespace}/` }).items.some(({ object }) => (object as Pod).spec?.nodeName === node && ((object as Pod).spec?.serviceAccountName ?? 'default') === account);
}
