// The table of kinds: one row gives a kind its discovery entry, names, scope, storage name, write rules and the fields
// that can be selected on. A new kind is a row here, its schema, and its rules and columns where it has any.
// Read by routing, discovery, verbs, printing and authorization. Custom kinds get such a row made from their
// CustomResourceDefinition (server/registry.ts).
// Source: Kubernetes API 1.32, kubernetes/kubernetes pkg/registry/*/strategy.go.

/** One served kind. `storage` is the name of its collection in the store: 'services', 'deployments.apps'. */
export interface ResourceInfo {
  readonly group: string; readonly version: string; readonly resource: string; readonly kind: string; readonly singular: string;
  readonly isNamespaced: boolean;
  readonly shortNames: readonly string[]; readonly categories: readonly string[];
  readonly verbs: readonly string[];
  /** Subresource name → its discovery entry. */
  readonly subresources: Readonly<Record<string, SubresourceInfo>>;
  readonly storage: string;
  /** metadata.generation counts changes of everything but metadata and status. */
  readonly hasGeneration: boolean;
  readonly hasStatus: boolean;
  /** PUT to a name that does not exist creates it. */
  readonly mayCreateOnUpdate: boolean;
  /** PUT without metadata.resourceVersion is refused. */
  readonly needsVersionOnUpdate: boolean;
  /** Field label → path of the value; `metadata.name` and `metadata.namespace` are always there. */
  readonly fieldLabels: Readonly<Record<string, string>>;
  /** Set on custom kinds: name of the CustomResourceDefinition. */
  readonly crdName?: string;
}

export interface SubresourceInfo { readonly kind: string; readonly group?: string; readonly version?: string; readonly verbs: readonly string[] }

/** All verbs of an ordinary collection, in the order of Kubernetes' own discovery. */
export const allVerbs: readonly string[] = Object.freeze(['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch']);

/** 'v1' for core, else 'group/version'. */
export function groupVersion(info: { group: string; version: string }): string {
  return info.group === '' ? info.version : `${info.group}/${info.version}`;
}

/** 'services' or 'deployments.apps': how the resource is called in messages and in the store. */
export function qualifiedResource(info: { group: string; resource: string }): string {
  return info.group === '' ? info.resource : `${info.resource}.${info.group}`;
}

interface RowOptions {
  short?: string; all?: boolean; categories?: string[]; generation?: boolean; cluster?: boolean; storage?: string; createOnUpdate?: boolean; versioned?: boolean;
  verbs?: string[]; status?: boolean; scale?: boolean; sub?: Record<string, SubresourceInfo>; fields?: Record<string, string>; singular?: string;
}

const readWrite = ['get', 'patch', 'update'];
const scaleSubresource: SubresourceInfo = { kind: 'Scale', group: 'autoscaling', version: 'v1', verbs: readWrite };

function row(group: string, version: string, resource: string, kind: string, options: RowOptions = {}): ResourceInfo {
  const subresources: Record<string, SubresourceInfo> = { ...options.sub };
  if (options.status === true) subresources['status'] = { kind, verbs: readWrite };
  if (options.scale === true) subresources['scale'] = scaleSubresource;
  return Object.freeze({
    group, version, resource, kind, singular: options.singular ?? kind.toLowerCase(), isNamespaced: options.cluster !== true,
    shortNames: options.short?.split(' ') ?? [], categories: options.all === true ? ['all'] : (options.categories ?? []),
    verbs: options.verbs ?? allVerbs, subresources, storage: options.storage ?? qualifiedResource({ group, resource }),
    hasGeneration: options.generation === true, hasStatus: options.status === true,
    mayCreateOnUpdate: options.createOnUpdate === true, needsVersionOnUpdate: options.versioned === true, fieldLabels: options.fields ?? {},
  });
}

const connect = { verbs: ['create', 'get'] };
const proxyVerbs = ['create', 'delete', 'get', 'patch', 'update'];
const review = (resource: string, kind: string, group: string, isCluster = true): ResourceInfo => row(group, 'v1', resource, kind, { cluster: isCluster, verbs: ['create'] });

const eventFields = {
  'involvedObject.kind': 'involvedObject.kind', 'involvedObject.namespace': 'involvedObject.namespace', 'involvedObject.name': 'involvedObject.name', 'involvedObject.uid': 'involvedObject.uid',
  'involvedObject.apiVersion': 'involvedObject.apiVersion', 'involvedObject.resourceVersion': 'involvedObject.resourceVersion', 'involvedObject.fieldPath': 'involvedObject.fieldPath',
  reason: 'reason', reportingComponent: 'reportingComponent', source: 'source.component', type: 'type',
};
const regardingFields = Object.fromEntries(Object.entries(eventFields).map(([label, path]) => [label.replace('involvedObject', 'regarding').replace(/^reportingComponent$/, 'reportingController'), path]));
const same = (...labels: string[]): Record<string, string> => Object.fromEntries(labels.map((label) => [label, label]));

const core: readonly ResourceInfo[] = [
  row('', 'v1', 'bindings', 'Binding', { verbs: ['create'] }),
  row('', 'v1', 'configmaps', 'ConfigMap', { short: 'cm' }),
  row('', 'v1', 'endpoints', 'Endpoints', { short: 'ep', createOnUpdate: true }),
  row('', 'v1', 'events', 'Event', { short: 'ev', createOnUpdate: true, fields: eventFields }),
  row('', 'v1', 'limitranges', 'LimitRange', { short: 'limits', createOnUpdate: true }),
  row('', 'v1', 'namespaces', 'Namespace', {
    short: 'ns', cluster: true, status: true, fields: { 'status.phase': 'status.phase', name: 'metadata.name' },
    verbs: allVerbs.filter((verb) => verb !== 'deletecollection'), sub: { finalize: { kind: 'Namespace', verbs: ['update'] } },
  }),
  row('', 'v1', 'nodes', 'Node', { short: 'no', cluster: true, status: true, sub: { proxy: { kind: 'NodeProxyOptions', verbs: proxyVerbs } }, fields: same('spec.unschedulable') }),
  row('', 'v1', 'persistentvolumeclaims', 'PersistentVolumeClaim', { short: 'pvc', status: true }),
  row('', 'v1', 'persistentvolumes', 'PersistentVolume', { short: 'pv', cluster: true, status: true }),
  row('', 'v1', 'pods', 'Pod', {
    short: 'po', all: true, status: true,
    sub: {
      attach: { kind: 'PodAttachOptions', ...connect }, binding: { kind: 'Binding', verbs: ['create'] },
      ephemeralcontainers: { kind: 'Pod', verbs: readWrite }, eviction: { kind: 'Eviction', group: 'policy', version: 'v1', verbs: ['create'] },
      exec: { kind: 'PodExecOptions', ...connect }, log: { kind: 'Pod', verbs: ['get'] }, portforward: { kind: 'PodPortForwardOptions', ...connect },
      proxy: { kind: 'PodProxyOptions', verbs: proxyVerbs },
    },
    fields: same('spec.nodeName', 'spec.restartPolicy', 'spec.schedulerName', 'spec.serviceAccountName', 'spec.hostNetwork', 'status.phase', 'status.podIP', 'status.nominatedNodeName'),
  }),
  row('', 'v1', 'podtemplates', 'PodTemplate', { generation: true }),
  row('', 'v1', 'replicationcontrollers', 'ReplicationController', { short: 'rc', all: true, generation: true, status: true, scale: true, fields: same('status.replicas') }),
  row('', 'v1', 'resourcequotas', 'ResourceQuota', { short: 'quota', status: true, createOnUpdate: false }),
  row('', 'v1', 'secrets', 'Secret', { fields: same('type') }),
  row('', 'v1', 'serviceaccounts', 'ServiceAccount', { short: 'sa', sub: { token: { kind: 'TokenRequest', group: 'authentication.k8s.io', version: 'v1', verbs: ['create'] } } }),
  row('', 'v1', 'services', 'Service', { short: 'svc', all: true, status: true, createOnUpdate: true, sub: { proxy: { kind: 'ServiceProxyOptions', verbs: proxyVerbs } }, fields: same('spec.clusterIP', 'spec.type') }),
];

const workloads: readonly ResourceInfo[] = [
  row('apps', 'v1', 'controllerrevisions', 'ControllerRevision'),
  row('apps', 'v1', 'daemonsets', 'DaemonSet', { short: 'ds', all: true, generation: true, status: true }),
  row('apps', 'v1', 'deployments', 'Deployment', { short: 'deploy', all: true, generation: true, status: true, scale: true }),
  row('apps', 'v1', 'replicasets', 'ReplicaSet', { short: 'rs', all: true, generation: true, status: true, scale: true, fields: same('status.replicas') }),
  row('apps', 'v1', 'statefulsets', 'StatefulSet', { short: 'sts', all: true, generation: true, status: true, scale: true }),
  row('batch', 'v1', 'cronjobs', 'CronJob', { short: 'cj', all: true, generation: true, status: true }),
  row('batch', 'v1', 'jobs', 'Job', { all: true, generation: true, status: true, fields: same('status.successful') }),
  row('autoscaling', 'v2', 'horizontalpodautoscalers', 'HorizontalPodAutoscaler', { short: 'hpa', all: true, status: true }),
  row('autoscaling', 'v1', 'horizontalpodautoscalers', 'HorizontalPodAutoscaler', { short: 'hpa', all: true, status: true }),
  row('policy', 'v1', 'poddisruptionbudgets', 'PodDisruptionBudget', { short: 'pdb', generation: true, status: true, versioned: true }),
];

const networking: readonly ResourceInfo[] = [
  row('networking.k8s.io', 'v1', 'ingressclasses', 'IngressClass', { cluster: true, generation: true }),
  row('networking.k8s.io', 'v1', 'ingresses', 'Ingress', { short: 'ing', generation: true, status: true }),
  row('networking.k8s.io', 'v1', 'networkpolicies', 'NetworkPolicy', { short: 'netpol', generation: true }),
  row('discovery.k8s.io', 'v1', 'endpointslices', 'EndpointSlice', { generation: true }),
  row('coordination.k8s.io', 'v1', 'leases', 'Lease', { createOnUpdate: true, versioned: true }),
  row('events.k8s.io', 'v1', 'events', 'Event', { short: 'ev', storage: 'events', createOnUpdate: true, fields: regardingFields }),
];

const access: readonly ResourceInfo[] = [
  row('rbac.authorization.k8s.io', 'v1', 'clusterrolebindings', 'ClusterRoleBinding', { cluster: true, createOnUpdate: true }),
  row('rbac.authorization.k8s.io', 'v1', 'clusterroles', 'ClusterRole', { cluster: true, createOnUpdate: true }),
  row('rbac.authorization.k8s.io', 'v1', 'rolebindings', 'RoleBinding', { createOnUpdate: true }),
  row('rbac.authorization.k8s.io', 'v1', 'roles', 'Role', { createOnUpdate: true }),
  review('tokenreviews', 'TokenReview', 'authentication.k8s.io'),
  review('selfsubjectreviews', 'SelfSubjectReview', 'authentication.k8s.io'),
  review('localsubjectaccessreviews', 'LocalSubjectAccessReview', 'authorization.k8s.io', false),
  review('selfsubjectaccessreviews', 'SelfSubjectAccessReview', 'authorization.k8s.io'),
  review('selfsubjectrulesreviews', 'SelfSubjectRulesReview', 'authorization.k8s.io'),
  review('subjectaccessreviews', 'SubjectAccessReview', 'authorization.k8s.io'),
  row('certificates.k8s.io', 'v1', 'certificatesigningrequests', 'CertificateSigningRequest', {
    short: 'csr', cluster: true, status: true, sub: { approval: { kind: 'CertificateSigningRequest', verbs: readWrite } }, fields: same('spec.signerName'),
  }),
];

const others: readonly ResourceInfo[] = [
  row('storage.k8s.io', 'v1', 'csidrivers', 'CSIDriver', { cluster: true, versioned: true }),
  row('storage.k8s.io', 'v1', 'csinodes', 'CSINode', { cluster: true, versioned: true }),
  row('storage.k8s.io', 'v1', 'csistoragecapacities', 'CSIStorageCapacity', { versioned: true }),
  row('storage.k8s.io', 'v1', 'storageclasses', 'StorageClass', { short: 'sc', cluster: true }),
  row('storage.k8s.io', 'v1', 'volumeattachments', 'VolumeAttachment', { cluster: true, status: true, versioned: true }),
  row('scheduling.k8s.io', 'v1', 'priorityclasses', 'PriorityClass', { short: 'pc', cluster: true, generation: true }),
  row('admissionregistration.k8s.io', 'v1', 'mutatingwebhookconfigurations', 'MutatingWebhookConfiguration', { cluster: true, generation: true, versioned: true, categories: ['api-extensions'] }),
  row('admissionregistration.k8s.io', 'v1', 'validatingwebhookconfigurations', 'ValidatingWebhookConfiguration', { cluster: true, generation: true, versioned: true, categories: ['api-extensions'] }),
  row('admissionregistration.k8s.io', 'v1', 'validatingadmissionpolicies', 'ValidatingAdmissionPolicy', { cluster: true, generation: true, status: true, versioned: true, categories: ['api-extensions'] }),
  row('admissionregistration.k8s.io', 'v1', 'validatingadmissionpolicybindings', 'ValidatingAdmissionPolicyBinding', { cluster: true, generation: true, versioned: true, categories: ['api-extensions'] }),
  row('apiextensions.k8s.io', 'v1', 'customresourcedefinitions', 'CustomResourceDefinition', { short: 'crd crds', cluster: true, generation: true, status: true, versioned: true, categories: ['api-extensions'] }),
];

/** Every built-in kind; the order of groups and versions is the preference that discovery announces. */
export const builtInResources: readonly ResourceInfo[] = Object.freeze([...core, ...workloads, ...networking, ...access, ...others]);
