// The built-in kinds whose schemas netloom carries: one row each, with what an OpenAPI document has to say about them.
// Read by the generator (which types to follow), by `load` (apiVersion + kind → type) and by `openapi` (paths).
// A package is the short spelling of a group-version in all schema data: `core/v1`, `networking/v1`.
// Source: Kubernetes API 1.32.

/** One kind: `plural` is the resource name, `sub` its subresources, `isNamespaced` its scope. */
export interface KindRow { readonly kind: string; readonly plural: string; readonly isNamespaced: boolean; readonly sub: readonly string[]; readonly isCreateOnly: boolean }

/** Package → API group. The group of `core` is empty. */
export const packageGroups: Readonly<Record<string, string>> = {
  'core/v1': '', 'apps/v1': 'apps', 'batch/v1': 'batch', 'autoscaling/v1': 'autoscaling', 'autoscaling/v2': 'autoscaling',
  'policy/v1': 'policy', 'networking/v1': 'networking.k8s.io', 'discovery/v1': 'discovery.k8s.io', 'coordination/v1': 'coordination.k8s.io',
  'events/v1': 'events.k8s.io', 'rbac/v1': 'rbac.authorization.k8s.io', 'authentication/v1': 'authentication.k8s.io',
  'authorization/v1': 'authorization.k8s.io', 'certificates/v1': 'certificates.k8s.io', 'storage/v1': 'storage.k8s.io',
  'scheduling/v1': 'scheduling.k8s.io', 'admissionregistration/v1': 'admissionregistration.k8s.io', 'apiextensions/v1': 'apiextensions.k8s.io',
  'meta/v1': 'meta.k8s.io',
};

// A row is "Kind plural scope subresources…": scope N = namespaced, C = cluster, R = a review that can only be created,
// S = has no path of its own (a subresource's body).
const rows: Readonly<Record<string, readonly string[]>> = {
  'core/v1': [
    'Binding bindings S', 'ConfigMap configmaps N', 'Endpoints endpoints N', 'Event events N', 'LimitRange limitranges N', 'Namespace namespaces C status finalize',
    'Node nodes C status', 'PersistentVolume persistentvolumes C status', 'PersistentVolumeClaim persistentvolumeclaims N status',
    'Pod pods N status ephemeralcontainers', 'PodTemplate podtemplates N', 'ReplicationController replicationcontrollers N status scale',
    'ResourceQuota resourcequotas N status', 'Secret secrets N', 'Service services N status', 'ServiceAccount serviceaccounts N',
  ],
  'apps/v1': ['ControllerRevision controllerrevisions N', 'DaemonSet daemonsets N status', 'Deployment deployments N status scale', 'ReplicaSet replicasets N status scale', 'StatefulSet statefulsets N status scale'],
  'batch/v1': ['CronJob cronjobs N status', 'Job jobs N status'],
  'autoscaling/v1': ['HorizontalPodAutoscaler horizontalpodautoscalers N status', 'Scale scales S'],
  'autoscaling/v2': ['HorizontalPodAutoscaler horizontalpodautoscalers N status'],
  'policy/v1': ['PodDisruptionBudget poddisruptionbudgets N status', 'Eviction evictions S'],
  'networking/v1': ['Ingress ingresses N status', 'IngressClass ingressclasses C', 'NetworkPolicy networkpolicies N'],
  'discovery/v1': ['EndpointSlice endpointslices N'],
  'coordination/v1': ['Lease leases N'],
  'events/v1': ['Event events N'],
  'rbac/v1': ['ClusterRole clusterroles C', 'ClusterRoleBinding clusterrolebindings C', 'Role roles N', 'RoleBinding rolebindings N'],
  'authentication/v1': ['SelfSubjectReview selfsubjectreviews R', 'TokenRequest tokenrequests S', 'TokenReview tokenreviews R'],
  'authorization/v1': ['LocalSubjectAccessReview localsubjectaccessreviews R', 'SelfSubjectAccessReview selfsubjectaccessreviews R', 'SelfSubjectRulesReview selfsubjectrulesreviews R', 'SubjectAccessReview subjectaccessreviews R'],
  'certificates/v1': ['CertificateSigningRequest certificatesigningrequests C status approval'],
  'storage/v1': ['CSIDriver csidrivers C', 'CSINode csinodes C', 'CSIStorageCapacity csistoragecapacities N', 'StorageClass storageclasses C', 'VolumeAttachment volumeattachments C status'],
  'scheduling/v1': ['PriorityClass priorityclasses C'],
  'admissionregistration/v1': [
    'MutatingWebhookConfiguration mutatingwebhookconfigurations C', 'ValidatingWebhookConfiguration validatingwebhookconfigurations C',
    'ValidatingAdmissionPolicy validatingadmissionpolicies C status', 'ValidatingAdmissionPolicyBinding validatingadmissionpolicybindings C',
  ],
  'apiextensions/v1': ['CustomResourceDefinition customresourcedefinitions C status'],
  'meta/v1': ['Status statuses S', 'DeleteOptions deleteoptions S'],
};

const read = new Map<string, readonly KindRow[]>();

/** The kinds of a package, in discovery order; empty for an unknown package. */
export function kindsOf(packageName: string): readonly KindRow[] {
  let kinds = read.get(packageName);
  if (kinds === undefined) {
    kinds = (rows[packageName] ?? []).map(readRow);
    if (kinds.length > 0) read.set(packageName, kinds);
  }
  return kinds;
}

function readRow(row: string): KindRow {
  const [kind = '', plural = '', scope = '', ...sub] = row.split(' ');
  return { kind, plural, isNamespaced: scope === 'N' || kind === 'LocalSubjectAccessReview', sub, isCreateOnly: scope === 'R' || scope === 'S' };
}

/** True where the kind has no collection of its own (Scale, Eviction, Binding, …). */
export function isBodyOnly(packageName: string, kind: string): boolean {
  return (rows[packageName] ?? []).some((row) => row.startsWith(`${kind} `) && row.split(' ')[2] === 'S');
}

/** Every package, core first. */
export const packages: readonly string[] = Object.keys(rows);

const packageOfApiVersion: ReadonlyMap<string, string> = new Map(
  Object.entries(packageGroups).map(([name, group]) => [group === '' ? 'v1' : `${group}/${name.slice(name.indexOf('/') + 1)}`, name]),
);

/** `networking.k8s.io/v1` → `networking/v1`; undefined for a group-version that is not built in. */
export function packageOf(apiVersion: string): string | undefined { return packageOfApiVersion.get(apiVersion); }

/** `networking/v1` → `networking.k8s.io/v1`, `core/v1` → `v1`. */
export function apiVersionOf(packageName: string): string {
  const group = packageGroups[packageName] ?? packageName;
  const version = packageName.slice(packageName.indexOf('/') + 1);
  return group === '' ? version : `${group}/${version}`;
}

/** The OpenAPI component name of a type, as Kubernetes publishes it. */
export function componentName(typeName: string): string {
  const [pkg = '', name = ''] = typeName.split('.');
  const [folder = '', version = ''] = pkg.split('/');
  if (folder === 'meta') return `io.k8s.apimachinery.pkg.apis.meta.${version}.${name}`;
  if (folder === 'apiextensions') return `io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.${version}.${name}`;
  return `io.k8s.api.${folder}.${version}.${name}`;
}
