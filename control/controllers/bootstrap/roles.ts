// Default roles and bindings, as data. They are written at start where missing and brought up to date where they still
// carry the autoupdate annotation.
// What differs from Kubernetes on purpose: `edit` and `admin` may not write EndpointSlices or Endpoints (CVE-2021-25740).
// Source: kubernetes plugin/pkg/auth/authorizer/rbac/bootstrappolicy/policy.go.

export interface PolicyRule { apiGroups?: string[]; resources?: string[]; resourceNames?: string[]; nonResourceURLs?: string[]; verbs: string[] }
export interface RoleRow { name: string; rules: PolicyRule[] }
export interface BindingRow { name: string; role: string; subjects: { kind: 'User' | 'Group' | 'ServiceAccount'; name: string; namespace?: string }[] }
/** A Role with its binding in one namespace. */
export interface LocalRow extends RoleRow { namespace: string; subjects: BindingRow['subjects'] }

const read = ['get', 'list', 'watch'];
const write = ['create', 'delete', 'deletecollection', 'patch', 'update'];
const all = [...read, ...write];
const rule = (verbs: string[], group: string, resources: string): PolicyRule => ({ apiGroups: [group], resources: resources.split(' '), verbs });

const viewRules: PolicyRule[] = [
  rule(read, '', 'configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods pods/status pods/log replicationcontrollers replicationcontrollers/scale replicationcontrollers/status serviceaccounts services services/status bindings events limitranges namespaces namespaces/status resourcequotas resourcequotas/status'),
  rule(read, 'discovery.k8s.io', 'endpointslices'),
  rule(read, 'apps', 'controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status'),
  rule(read, 'batch', 'cronjobs cronjobs/status jobs jobs/status'),
  rule(read, 'autoscaling', 'horizontalpodautoscalers horizontalpodautoscalers/status'),
  rule(read, 'policy', 'poddisruptionbudgets poddisruptionbudgets/status'),
  rule(read, 'networking.k8s.io', 'ingresses ingresses/status networkpolicies'),
  rule(read, 'events.k8s.io', 'events'),
];

const editRules: PolicyRule[] = [
  ...viewRules,
  rule(read, '', 'pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy'),
  rule(['create'], '', 'pods/attach pods/exec pods/portforward pods/eviction serviceaccounts/token'),
  rule(['impersonate'], '', 'serviceaccounts'),
  rule(write, '', 'pods pods/proxy configmaps persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets serviceaccounts services services/proxy'),
  rule(write, '', 'events'),
  rule(write, 'apps', 'daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale statefulsets statefulsets/scale'),
  rule(write, 'batch', 'cronjobs jobs'),
  rule(write, 'autoscaling', 'horizontalpodautoscalers'),
  rule(write, 'policy', 'poddisruptionbudgets'),
  rule(write, 'networking.k8s.io', 'ingresses networkpolicies'),
  rule(all, 'coordination.k8s.io', 'leases'),
];

const adminRules: PolicyRule[] = [
  ...editRules,
  rule(['create'], 'authorization.k8s.io', 'localsubjectaccessreviews'),
  rule(all, 'rbac.authorization.k8s.io', 'roles rolebindings'),
];

/** What a node's agent, proxy, DNS and ingress need; its own objects only is the node restriction's job. */
const nodeRules: PolicyRule[] = [
  rule(['create'], 'authentication.k8s.io', 'tokenreviews'),
  rule(['create'], 'authorization.k8s.io', 'localsubjectaccessreviews subjectaccessreviews'),
  rule(read, '', 'services endpoints namespaces nodes pods configmaps secrets serviceaccounts'),
  rule(['create', 'update', 'patch', 'delete'], '', 'nodes'),
  rule(['update', 'patch'], '', 'nodes/status pods/status services/status'),
  rule(['create', 'delete'], '', 'pods'),
  rule(['create', 'update', 'patch'], '', 'events'),
  rule(['create', 'update', 'patch'], 'events.k8s.io', 'events'),
  rule(['create'], '', 'pods/eviction serviceaccounts/token'),
  rule([...read, 'create', 'update', 'patch', 'delete'], 'discovery.k8s.io', 'endpointslices'),
  rule([...read, 'create', 'update', 'patch', 'delete'], 'coordination.k8s.io', 'leases'),
  rule(read, 'networking.k8s.io', 'ingresses ingressclasses networkpolicies'),
  rule(['update', 'patch'], 'networking.k8s.io', 'ingresses/status'),
  rule([...read, 'create'], 'certificates.k8s.io', 'certificatesigningrequests'),
];

export const clusterRoles: readonly RoleRow[] = Object.freeze([
  { name: 'cluster-admin', rules: [{ apiGroups: ['*'], resources: ['*'], verbs: ['*'] }, { nonResourceURLs: ['*'], verbs: ['*'] }] },
  { name: 'admin', rules: adminRules },
  { name: 'edit', rules: editRules },
  { name: 'view', rules: viewRules },
  { name: 'system:discovery', rules: [{ nonResourceURLs: ['/api', '/api/*', '/apis', '/apis/*', '/healthz', '/livez', '/openapi', '/openapi/*', '/readyz', '/version', '/version/'], verbs: ['get'] }] },
  { name: 'system:public-info-viewer', rules: [{ nonResourceURLs: ['/healthz', '/livez', '/readyz', '/version', '/version/'], verbs: ['get'] }] },
  { name: 'system:basic-user', rules: [rule(['create'], 'authorization.k8s.io', 'selfsubjectaccessreviews selfsubjectrulesreviews'), rule(['create'], 'authentication.k8s.io', 'selfsubjectreviews')] },
  { name: 'system:monitoring', rules: [{ nonResourceURLs: ['/healthz', '/healthz/*', '/livez', '/livez/*', '/metrics', '/metrics/slis', '/readyz', '/readyz/*'], verbs: ['get'] }] },
  { name: 'system:node', rules: nodeRules },
  { name: 'system:node-bootstrapper', rules: [rule(['create', 'get', 'list', 'watch'], 'certificates.k8s.io', 'certificatesigningrequests')] },
  { name: 'system:node-proxier', rules: [rule(['list', 'watch'], '', 'services endpoints'), rule(read, '', 'nodes'), rule(['list', 'watch'], 'discovery.k8s.io', 'endpointslices'), rule(['create', 'patch', 'update'], '', 'events')] },
  { name: 'netloom:endpoints-writer', rules: [rule(all, '', 'endpoints'), rule(all, 'discovery.k8s.io', 'endpointslices')] },
  { name: 'netloom:load-balancer', rules: [rule(read, '', 'services nodes'), rule(['assign-address', 'update', 'patch'], '', 'services/status'), rule(['create', 'patch', 'update'], '', 'events')] },
]);

export const clusterRoleBindings: readonly BindingRow[] = Object.freeze([
  { name: 'cluster-admin', role: 'cluster-admin', subjects: [{ kind: 'Group', name: 'system:masters' }] },
  { name: 'system:discovery', role: 'system:discovery', subjects: [{ kind: 'Group', name: 'system:authenticated' }] },
  { name: 'system:public-info-viewer', role: 'system:public-info-viewer', subjects: [{ kind: 'Group', name: 'system:authenticated' }, { kind: 'Group', name: 'system:unauthenticated' }] },
  { name: 'system:basic-user', role: 'system:basic-user', subjects: [{ kind: 'Group', name: 'system:authenticated' }] },
  { name: 'system:monitoring', role: 'system:monitoring', subjects: [{ kind: 'Group', name: 'system:monitoring' }] },
  { name: 'system:node', role: 'system:node', subjects: [{ kind: 'Group', name: 'system:nodes' }] },
  { name: 'system:node-bootstrapper', role: 'system:node-bootstrapper', subjects: [{ kind: 'Group', name: 'system:bootstrappers' }] },
]);

export const localRoles: readonly LocalRow[] = Object.freeze([
  {
    name: 'netloom:public-info', namespace: 'kube-public', rules: [{ apiGroups: [''], resources: ['configmaps'], resourceNames: ['cluster-info'], verbs: ['get'] }],
    subjects: [{ kind: 'Group', name: 'system:authenticated' }],
  },
]);
