// Where the kinds that netloom itself reads and writes live in the API. The control plane's own table of kinds is
// control/resources.ts; this one is what clients need to build paths.

/** `group` is '' for core. */
export interface ResourceRef { readonly group: string; readonly version: string; readonly resource: string; readonly kind: string; readonly isNamespaced: boolean }

const ref = (group: string, version: string, resource: string, kind: string, isNamespaced = true): ResourceRef => Object.freeze({ group, version, resource, kind, isNamespaced });

export const resources = Object.freeze({
  namespaces: ref('', 'v1', 'namespaces', 'Namespace', false),
  nodes: ref('', 'v1', 'nodes', 'Node', false),
  pods: ref('', 'v1', 'pods', 'Pod'),
  services: ref('', 'v1', 'services', 'Service'),
  endpoints: ref('', 'v1', 'endpoints', 'Endpoints'),
  secrets: ref('', 'v1', 'secrets', 'Secret'),
  configmaps: ref('', 'v1', 'configmaps', 'ConfigMap'),
  serviceaccounts: ref('', 'v1', 'serviceaccounts', 'ServiceAccount'),
  events: ref('', 'v1', 'events', 'Event'),
  endpointslices: ref('discovery.k8s.io', 'v1', 'endpointslices', 'EndpointSlice'),
  ingresses: ref('networking.k8s.io', 'v1', 'ingresses', 'Ingress'),
  ingressclasses: ref('networking.k8s.io', 'v1', 'ingressclasses', 'IngressClass', false),
  leases: ref('coordination.k8s.io', 'v1', 'leases', 'Lease'),
  deployments: ref('apps', 'v1', 'deployments', 'Deployment'),
  replicasets: ref('apps', 'v1', 'replicasets', 'ReplicaSet'),
  statefulsets: ref('apps', 'v1', 'statefulsets', 'StatefulSet'),
  daemonsets: ref('apps', 'v1', 'daemonsets', 'DaemonSet'),
  jobs: ref('batch', 'v1', 'jobs', 'Job'),
  cronjobs: ref('batch', 'v1', 'cronjobs', 'CronJob'),
  certificatesigningrequests: ref('certificates.k8s.io', 'v1', 'certificatesigningrequests', 'CertificateSigningRequest', false),
  customresourcedefinitions: ref('apiextensions.k8s.io', 'v1', 'customresourcedefinitions', 'CustomResourceDefinition', false),
});

/** `v1` or `group/version`. */
export function apiVersionOf(resource: ResourceRef): string {
  return resource.group === '' ? resource.version : `${resource.group}/${resource.version}`;
}

/** The collection path, or the object's path when `name` is given. */
export function resourcePath(resource: ResourceRef, namespace?: string, name?: string, subresource?: string): string {
  let path = resource.group === '' ? `/api/${resource.version}` : `/apis/${resource.group}/${resource.version}`;
  if (resource.isNamespaced && namespace !== undefined && namespace !== '') path += `/namespaces/${encodeURIComponent(namespace)}`;
  path += `/${resource.resource}`;
  if (name !== undefined) path += `/${encodeURIComponent(name)}`;
  return subresource === undefined ? path : `${path}/${subresource}`;
}
