// May this user do this? Deny unless something allows it: membership of system:masters, the node rules for nodes, or
// RBAC rules bound to the user or one of their groups. Compiled rules are kept per user until an RBAC object changes.
// Source: kubernetes plugin/pkg/auth/authorizer/rbac; kubernetes.io "Using RBAC Authorization".

import { NetloomError } from '../../../api/errors.ts';
import type { KubeObject } from '../../../api/types.ts';
import { qualifiedResource } from '../../resources.ts';
import type { Storage } from '../../storage/store.ts';
import type { RequestInfo } from '../request-info.ts';
import { isNode, nodeMay } from './node-rules.ts';
import { groupBootstrappers, groupMasters, serviceAccountUserPrefix, type UserInfo } from './user.ts';

export interface PolicyRule { verbs: string[]; apiGroups?: string[]; resources?: string[]; resourceNames?: string[]; nonResourceURLs?: string[] }
interface RoleRef { apiGroup?: string; kind: string; name: string }
interface Subject { kind: string; name: string; namespace?: string; apiGroup?: string }
interface Role extends KubeObject { rules?: PolicyRule[] | null; aggregationRule?: { clusterRoleSelectors?: { matchLabels?: Record<string, string> }[] } }
interface Binding extends KubeObject { subjects?: Subject[]; roleRef: RoleRef }

/** What is asked. `namespace` '' = cluster scope. */
export interface Attributes {
  readonly verb: string; readonly group: string; readonly resource: string; readonly subresource: string; readonly namespace: string; readonly name: string;
  readonly isResource: boolean; readonly path: string;
}

interface BoundRules { readonly namespace: string; readonly rules: readonly PolicyRule[] }

const group = 'rbac.authorization.k8s.io';
/** Collections whose changes change rights. */
export const rbacResources: readonly string[] = ['roles', 'clusterroles', 'rolebindings', 'clusterrolebindings'].map((resource) => `${resource}.${group}`);
/** The default role of the group of nodes. */
const nodeRole = 'system:node';
/** Where new nodes get their credentials, with a join token. */
const joinPath = '/netloom/v1/join';
/** Users whose compiled rules are kept. */
const cachedUsersMax = 1_000;

/** Decides by RBAC over the objects in the store. */
export class Authorizer {
  readonly #storage: Storage;
  readonly #cache = new Map<string, readonly BoundRules[]>();
  #cacheKey = '';

  constructor(storage: Storage) { this.#storage = storage; }

  /** Throws Forbidden with the reason in Kubernetes' words. */
  authorize(user: UserInfo, info: RequestInfo): void {
    if (!this.isAllowed(user, info)) throw forbidden(user, info);
  }

  isAllowed(user: UserInfo, attributes: Attributes): boolean {
    if (user.groups.includes(groupMasters)) return true;
    if (isNode(user) && nodeMay(user, attributes, this.#storage)) return true;
    if (!attributes.isResource && attributes.path === joinPath) return attributes.verb === 'post' && user.groups.includes(groupBootstrappers);
    for (const { namespace, rules } of this.#rulesOf(user)) {
      if (namespace !== '' && namespace !== attributes.namespace) continue;
      if (rules.some((rule) => ruleAllows(rule, attributes))) return true;
    }
    return false;
  }

  /** Every rule that holds for the user in a namespace (or at cluster scope). */
  rulesFor(user: UserInfo, namespace: string): PolicyRule[] {
    if (user.groups.includes(groupMasters)) return [{ verbs: ['*'], apiGroups: ['*'], resources: ['*'] }, { verbs: ['*'], nonResourceURLs: ['*'] }];
    return this.#rulesOf(user).filter((bound) => bound.namespace === '' || bound.namespace === namespace).flatMap((bound) => [...bound.rules]);
  }

  /** Whether the user holds every right that the rules give: nobody may hand out more than they have. */
  covers(user: UserInfo, rules: readonly PolicyRule[], namespace: string): boolean {
    const own = this.rulesFor(user, namespace);
    return rules.every((rule) => single(rule).every((one) => own.some((mine) => holds(mine, one))));
  }

  /** Refuses roles and bindings that would give more than the writer has, unless they may `escalate` or `bind`. Throws Forbidden. */
  checkGrant(user: UserInfo, resource: { readonly group: string; readonly resource: string }, object: KubeObject): void {
    if (resource.group !== group || user.groups.includes(groupMasters)) return;
    const namespace = object.metadata.namespace ?? '';
    const isBinding = resource.resource.endsWith('bindings');
    const ref = (object as Binding).roleRef;
    const rules = isBinding ? this.#roleRules(ref, namespace) : (object as Role).rules ?? [];
    const roles = isBinding ? (ref.kind === 'ClusterRole' ? 'clusterroles' : 'roles') : resource.resource;
    const name = isBinding ? ref.name : object.metadata.name;
    const may = this.isAllowed(user, { isResource: true, path: '', verb: isBinding ? 'bind' : 'escalate', group, resource: roles, subresource: '', namespace: roles === 'roles' ? namespace : '', name });
    if (may || this.covers(user, rules, namespace)) return;
    throw new NetloomError('Forbidden', `${qualifiedResource(resource)} "${object.metadata.name}" is forbidden: user "${user.username}" (groups=${JSON.stringify(user.groups)}) is attempting to grant RBAC permissions not currently held`, {
      source: 'downstream', details: { name: object.metadata.name, group, kind: resource.resource },
    });
  }

  #rulesOf(user: UserInfo): readonly BoundRules[] {
    const stamp = rbacResources.map((resource) => this.#stampOf(resource)).join();
    if (stamp !== this.#cacheKey || this.#cache.size > cachedUsersMax) {
      this.#cache.clear();
      this.#cacheKey = stamp;
    }
    const key = JSON.stringify([user.username, user.groups]);
    let bound = this.#cache.get(key);
    if (bound === undefined) this.#cache.set(key, bound = this.#collect(user));
    return bound;
  }

  readonly #stamps = new Map<string, number>();

  /** Called when an object of these kinds was written. */
  invalidate(resource: string): void { this.#stamps.set(resource, (this.#stamps.get(resource) ?? 0) + 1); }
  #stampOf(resource: string): number { return this.#stamps.get(resource) ?? 0; }

  #collect(user: UserInfo): BoundRules[] {
    const found: BoundRules[] = [];
    for (const resource of ['clusterrolebindings', 'rolebindings']) {
      for (const stored of this.#storage.list(`${resource}.${group}`).items) {
        const binding = stored.object as Binding;
        const namespace = binding.metadata.namespace ?? '';
        // That role names every kind that nodes touch; which objects of them is for the node rules alone to say.
        if (isNode(user) && binding.metadata.name === nodeRole) continue;
        if (binding.subjects?.some((subject) => isSubject(user, subject, namespace)) !== true) continue;
        found.push({ namespace, rules: this.#roleRules(binding.roleRef, namespace) });
      }
    }
    return found;
  }

  #roleRules(ref: RoleRef, namespace: string): readonly PolicyRule[] {
    const stored = ref.kind === 'ClusterRole' ? this.#storage.get(`clusterroles.${group}`, ref.name) : this.#storage.get(`roles.${group}`, `${namespace}/${ref.name}`);
    const role = stored?.object as Role | undefined;
    if (role === undefined) return [];
    const selectors = role.aggregationRule?.clusterRoleSelectors;
    if (selectors === undefined) return role.rules ?? [];
    const parts = this.#storage.list(`clusterroles.${group}`).items.map((item) => item.object as Role).filter((other) => other !== role && selectors.some((selector) => matches(selector.matchLabels, other.metadata.labels)));
    return [...(role.rules ?? []), ...parts.flatMap((part) => part.rules ?? [])];
  }
}

function matches(wanted: Record<string, string> | undefined, labels: Record<string, string> | undefined): boolean {
  return wanted !== undefined && Object.entries(wanted).every(([key, value]) => labels?.[key] === value);
}

function isSubject(user: UserInfo, subject: Subject, bindingNamespace: string): boolean {
  if (subject.kind === 'User') return subject.name === user.username;
  if (subject.kind === 'Group') return user.groups.includes(subject.name);
  return subject.kind === 'ServiceAccount' && user.username === `${serviceAccountUserPrefix}${subject.namespace ?? bindingNamespace}:${subject.name}`;
}

function ruleAllows(rule: PolicyRule, attributes: Attributes): boolean {
  if (!has(rule.verbs, attributes.verb)) return false;
  if (!attributes.isResource) return (rule.nonResourceURLs ?? []).some((url) => url === attributes.path || (url.endsWith('*') && attributes.path.startsWith(url.slice(0, -1))));
  if (!has(rule.apiGroups, attributes.group)) return false;
  const { resource, subresource } = attributes;
  const wanted = subresource === '' ? resource : `${resource}/${subresource}`;
  if (!(rule.resources ?? []).some((item) => item === '*' || item === wanted || (subresource !== '' && item === `*/${subresource}`))) return false;
  return rule.resourceNames === undefined || rule.resourceNames.length === 0 || (attributes.name !== '' && rule.resourceNames.includes(attributes.name));
}

function has(list: readonly string[] | undefined, wanted: string): boolean { return list !== undefined && (list.includes(wanted) || list.includes('*')); }

/** A rule as rules with one verb, group, resource and name each. */
function single(rule: PolicyRule): PolicyRule[] {
  if ((rule.nonResourceURLs?.length ?? 0) > 0) return rule.verbs.flatMap((verb) => (rule.nonResourceURLs ?? []).map((url) => ({ verbs: [verb], nonResourceURLs: [url] })));
  const names = rule.resourceNames === undefined || rule.resourceNames.length === 0 ? [undefined] : rule.resourceNames;
  return rule.verbs.flatMap((verb) => (rule.apiGroups ?? []).flatMap((apiGroup) => (rule.resources ?? []).flatMap((resource) => names.map((name) => ({
    verbs: [verb], apiGroups: [apiGroup], resources: [resource], ...(name === undefined ? {} : { resourceNames: [name] }),
  })))));
}

function holds(mine: PolicyRule, one: PolicyRule): boolean {
  const verb = one.verbs[0] as string;
  if (!mine.verbs.includes('*') && !mine.verbs.includes(verb)) return false;
  const url = one.nonResourceURLs?.[0];
  if (url !== undefined) return (mine.nonResourceURLs ?? []).some((item) => item === url || (item.endsWith('*') && url.startsWith(item.slice(0, -1))));
  const [apiGroup, resource, name] = [one.apiGroups?.[0] ?? '', one.resources?.[0] ?? '', one.resourceNames?.[0]];
  if (!has(mine.apiGroups, apiGroup)) return false;
  if (!(mine.resources ?? []).some((item) => item === '*' || item === resource || (item.startsWith('*/') && resource.endsWith(item.slice(1))))) return false;
  return mine.resourceNames === undefined || mine.resourceNames.length === 0 || (name !== undefined && mine.resourceNames.includes(name));
}

/** 403 in the words of kube-apiserver. */
export function forbidden(user: UserInfo, info: Attributes): NetloomError {
  if (!info.isResource) return new NetloomError('Forbidden', `forbidden: User "${user.username}" cannot ${info.verb} path "${info.path}"`, { source: 'downstream', details: {} });
  const resource = info.subresource === '' ? info.resource : `${info.resource}/${info.subresource}`;
  const scope = info.namespace === '' || (info.resource === 'namespaces' && info.group === '') ? (info.namespace === '' ? 'at the cluster scope' : `in the namespace "${info.namespace}"`) : `in the namespace "${info.namespace}"`;
  const subject = `${qualifiedResource(info)}${info.name === '' ? '' : ` "${info.name}"`}`;
  return new NetloomError('Forbidden', `${subject} is forbidden: User "${user.username}" cannot ${info.verb} resource "${resource}" in API group "${info.group}" ${scope}`, {
    source: 'downstream', details: { ...(info.name === '' ? {} : { name: info.name }), group: info.group, kind: info.resource },
  });
}
