// What no published package says about the built-in types: strategic merge keys, server-side apply list and map types.
// Joined into the schemas by `load`; checked against real kubectl by test/control/schema/merge-facts.kubectl.test.ts.
// A fact is words: `merge=KEY` (strategic merge by key), `merge` (set of scalars), `retainKeys`, `replace` (an object taken whole), `map=KEY,KEY` (apply: list of
// keyed objects), `set`, `atomic` (apply: the map at this field is one value). A list without a fact is replaced as a whole by both.
// Source: Kubernetes 1.32 types (patchStrategy, patchMergeKey, listType, listMapKey, mapType, structType markers).

/** Type name → field → fact words. */
export const fieldFacts: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'meta/v1.ObjectMeta': { ownerReferences: 'merge=uid map=uid', finalizers: 'merge set' },
  'core/v1.PodSpec': {
    containers: 'merge=name map=name', initContainers: 'merge=name map=name', ephemeralContainers: 'merge=name map=name',
    imagePullSecrets: 'merge=name map=name', schedulingGates: 'merge=name map=name', volumes: 'merge=name map=name retainKeys',
    resourceClaims: 'merge=name map=name retainKeys', hostAliases: 'merge=ip map=ip',
    topologySpreadConstraints: 'merge=topologyKey map=topologyKey,whenUnsatisfiable', nodeSelector: 'atomic',
  },
  'core/v1.Container': { env: 'merge=name map=name', ports: 'merge=containerPort map=containerPort,protocol', volumeMounts: 'merge=mountPath map=mountPath', volumeDevices: 'merge=devicePath map=devicePath' },
  'core/v1.EphemeralContainer': { env: 'merge=name map=name', ports: 'merge=containerPort map=containerPort,protocol', volumeMounts: 'merge=mountPath map=mountPath', volumeDevices: 'merge=devicePath map=devicePath' },
  'core/v1.ContainerStatus': { allocatedResourcesStatus: 'merge=name map=name', volumeMounts: 'merge=mountPath map=mountPath' },
  'core/v1.ResourceStatus': { resources: 'map=resourceID' },
  'core/v1.ResourceRequirements': { claims: 'map=name' },
  'core/v1.PodStatus': { conditions: 'merge=type map=type', podIPs: 'merge=ip map=ip', hostIPs: 'merge=ip', resourceClaimStatuses: 'merge=name map=name retainKeys' },
  'core/v1.ServiceSpec': { ports: 'merge=port map=port,protocol', selector: 'atomic' },
  'core/v1.ServiceStatus': { conditions: 'merge=type map=type' },
  'core/v1.ServiceAccount': { secrets: 'merge=name map=name' },
  'core/v1.NamespaceStatus': { conditions: 'merge=type map=type' },
  'core/v1.NodeSpec': { podCIDRs: 'merge set' },
  'core/v1.NodeStatus': { conditions: 'merge=type map=type', addresses: 'merge=type map=type' },
  'core/v1.PersistentVolumeClaimStatus': { conditions: 'merge=type map=type' },
  'core/v1.ReplicationControllerSpec': { selector: 'atomic' },
  'core/v1.ReplicationControllerStatus': { conditions: 'merge=type map=type' },
  'apps/v1.DeploymentSpec': { strategy: 'retainKeys' },
  'apps/v1.DeploymentStatus': { conditions: 'merge=type map=type' },
  'apps/v1.ReplicaSetStatus': { conditions: 'merge=type map=type' },
  'apps/v1.DaemonSetStatus': { conditions: 'merge=type map=type' },
  'apps/v1.StatefulSetStatus': { conditions: 'merge=type map=type' },
  'batch/v1.JobStatus': { conditions: 'merge=type' },
  'batch/v1.PodFailurePolicyOnExitCodesRequirement': { values: 'set' },
  'batch/v1.UncountedTerminatedPods': { succeeded: 'set', failed: 'set' },
  'autoscaling/v2.HorizontalPodAutoscalerStatus': { conditions: 'merge=type map=type' },
  'policy/v1.PodDisruptionBudgetSpec': { selector: 'replace' },
  'policy/v1.PodDisruptionBudgetStatus': { conditions: 'merge=type map=type' },
  'discovery/v1.Endpoint': { addresses: 'set' },
  'certificates/v1.CertificateSigningRequestStatus': { conditions: 'map=type' },
  'storage/v1.CSINodeSpec': { drivers: 'merge=name map=name' },
  'storage/v1.CSIDriverSpec': { volumeLifecycleModes: 'set' },
  'apiextensions/v1.CustomResourceDefinitionStatus': { conditions: 'map=type' },
  'apiextensions/v1.JSONSchemaProps': { 'x-kubernetes-validations': 'merge=rule map=rule' },
  'admissionregistration/v1.MutatingWebhook': { matchConditions: 'merge=name map=name' },
  'admissionregistration/v1.ValidatingWebhook': { matchConditions: 'merge=name map=name' },
  'admissionregistration/v1.MutatingWebhookConfiguration': { webhooks: 'merge=name map=name' },
  'admissionregistration/v1.ValidatingWebhookConfiguration': { webhooks: 'merge=name map=name' },
  'admissionregistration/v1.ValidatingAdmissionPolicySpec': { matchConditions: 'merge=name map=name', variables: 'merge=name map=name' },
  'admissionregistration/v1.ValidatingAdmissionPolicyBindingSpec': { validationActions: 'set' },
  'admissionregistration/v1.ValidatingAdmissionPolicyStatus': { conditions: 'map=type' },
};

/** Objects of these types are one value for server-side apply, wherever they stand. */
export const atomicTypes: ReadonlySet<string> = new Set([
  'meta/v1.LabelSelector', 'core/v1.ObjectReference', 'core/v1.LocalObjectReference', 'core/v1.TypedLocalObjectReference', 'core/v1.SecretReference',
  'core/v1.SecretKeySelector', 'core/v1.ConfigMapKeySelector', 'core/v1.ObjectFieldSelector', 'core/v1.ResourceFieldSelector',
  'core/v1.NodeSelector', 'core/v1.NodeSelectorTerm', 'core/v1.TopologySelectorTerm', 'core/v1.ScopeSelector', 'core/v1.EndpointAddress', 'core/v1.EndpointPort',
  'discovery/v1.EndpointPort', 'networking/v1.ServiceBackendPort', 'rbac/v1.RoleRef', 'rbac/v1.Subject', 'apiextensions/v1.SelectableField',
  'admissionregistration/v1.MatchResources', 'admissionregistration/v1.NamedRuleWithOperations', 'admissionregistration/v1.ParamKind', 'admissionregistration/v1.ParamRef',
  'admissionregistration/v1.Variable', 'autoscaling/v1.CrossVersionObjectReference',
]);

/** Places where an atomic type is granular after all. */
export const granularFields: ReadonlySet<string> = new Set(['core/v1.PersistentVolumeSpec.claimRef']);

/** Defaults that take part in list keys and are published in OpenAPI. Type name → field → value. */
export const fieldDefaults: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  'core/v1.ServicePort': { protocol: 'TCP' },
  'core/v1.ContainerPort': { protocol: 'TCP' },
};
