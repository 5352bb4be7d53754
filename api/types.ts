// Kubernetes object types that more than one component uses, field for field in the API's own JSON spelling.
// Called by everything. Only the fields that netloom reads or writes are typed; the control plane stores and
// returns objects whole, so nothing here limits what a manifest may contain.
// Source: Kubernetes API 1.32 (core/v1, discovery/v1, networking/v1, coordination/v1, apps/v1).

/** A JSON object as the API carries it. */
export type Json = Record<string, unknown>;

export interface OwnerReference { apiVersion: string; kind: string; name: string; uid: string; controller?: boolean; blockOwnerDeletion?: boolean }

export interface ManagedFieldsEntry {
  manager?: string; operation?: 'Apply' | 'Update'; apiVersion?: string; time?: string;
  fieldsType?: string; fieldsV1?: Json; subresource?: string;
}

/** `resourceVersion` is a decimal string of the store revision of the last write; times are RFC 3339 UTC. */
export interface ObjectMeta {
  name: string; namespace?: string; generateName?: string; uid?: string; resourceVersion?: string; generation?: number;
  creationTimestamp?: string; deletionTimestamp?: string; deletionGracePeriodSeconds?: number;
  labels?: Record<string, string>; annotations?: Record<string, string>;
  ownerReferences?: OwnerReference[]; finalizers?: string[]; managedFields?: ManagedFieldsEntry[];
}

export interface KubeObject { apiVersion?: string; kind?: string; metadata: ObjectMeta }
export interface KubeList<T extends KubeObject = KubeObject> {
  apiVersion: string; kind: string;
  metadata: { resourceVersion?: string; continue?: string; remainingItemCount?: number };
  items: T[];
}
export interface Condition { type: string; status: 'True' | 'False' | 'Unknown'; reason?: string; message?: string; lastTransitionTime?: string; lastHeartbeatTime?: string; lastProbeTime?: string | null; lastUpdateTime?: string; observedGeneration?: number }
export interface LabelSelector { matchLabels?: Record<string, string>; matchExpressions?: { key: string; operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist'; values?: string[] }[] }
export interface ObjectReference { apiVersion?: string; kind?: string; name?: string; namespace?: string; uid?: string; fieldPath?: string; resourceVersion?: string }

export type Protocol = 'TCP' | 'UDP' | 'SCTP';
export type IPFamily = 'IPv4' | 'IPv6';

export interface Namespace extends KubeObject { spec?: { finalizers?: string[] }; status?: { phase?: 'Active' | 'Terminating'; conditions?: Condition[] } }

export interface ServicePortSpec { name?: string; protocol?: Protocol; appProtocol?: string; port: number; targetPort?: number | string; nodePort?: number }
export interface LoadBalancerIngress { ip?: string; hostname?: string; ipMode?: 'VIP' | 'Proxy'; ports?: { port: number; protocol: string; error?: string }[] }
export interface ServiceSpec {
  type?: 'ClusterIP' | 'NodePort' | 'LoadBalancer' | 'ExternalName';
  selector?: Record<string, string>; ports?: ServicePortSpec[];
  clusterIP?: string; clusterIPs?: string[]; ipFamilies?: IPFamily[]; ipFamilyPolicy?: 'SingleStack' | 'PreferDualStack' | 'RequireDualStack';
  externalIPs?: string[]; externalName?: string;
  sessionAffinity?: 'None' | 'ClientIP'; sessionAffinityConfig?: { clientIP?: { timeoutSeconds?: number } };
  internalTrafficPolicy?: 'Cluster' | 'Local'; externalTrafficPolicy?: 'Cluster' | 'Local'; trafficDistribution?: string;
  healthCheckNodePort?: number; publishNotReadyAddresses?: boolean;
  loadBalancerIP?: string; loadBalancerSourceRanges?: string[]; loadBalancerClass?: string; allocateLoadBalancerNodePorts?: boolean;
}
export interface Service extends KubeObject { spec?: ServiceSpec; status?: { loadBalancer?: { ingress?: LoadBalancerIngress[] }; conditions?: Condition[] } }

export interface SliceEndpoint {
  addresses: string[]; conditions?: { ready?: boolean | null; serving?: boolean | null; terminating?: boolean | null };
  hostname?: string; nodeName?: string; zone?: string; targetRef?: ObjectReference;
  hints?: { forZones?: { name: string }[]; forNodes?: { name: string }[] };
}
export interface SlicePort { name?: string | null; protocol?: Protocol | null; port?: number | null; appProtocol?: string }
export interface EndpointSlice extends KubeObject { addressType: 'IPv4' | 'IPv6' | 'FQDN'; endpoints?: SliceEndpoint[] | null; ports?: SlicePort[] | null }

export interface EndpointAddress { ip: string; hostname?: string; nodeName?: string; targetRef?: ObjectReference }
export interface EndpointSubset { addresses?: EndpointAddress[]; notReadyAddresses?: EndpointAddress[]; ports?: { name?: string; port: number; protocol?: Protocol; appProtocol?: string }[] }
export interface Endpoints extends KubeObject { subsets?: EndpointSubset[] }

export interface ContainerPort { name?: string; containerPort: number; hostPort?: number; hostIP?: string; protocol?: Protocol }
export interface EnvVar { name: string; value?: string; valueFrom?: { fieldRef?: { fieldPath: string }; configMapKeyRef?: { name?: string; key: string; optional?: boolean }; secretKeyRef?: { name?: string; key: string; optional?: boolean }; resourceFieldRef?: { resource: string } } }
export interface Probe {
  httpGet?: { path?: string; port: number | string; host?: string; scheme?: string; httpHeaders?: { name: string; value: string }[] };
  tcpSocket?: { port: number | string; host?: string }; exec?: { command?: string[] }; grpc?: { port: number; service?: string };
  initialDelaySeconds?: number; periodSeconds?: number; timeoutSeconds?: number; successThreshold?: number; failureThreshold?: number; terminationGracePeriodSeconds?: number;
}
export interface Container {
  name: string; image?: string; command?: string[]; args?: string[]; workingDir?: string; ports?: ContainerPort[];
  env?: EnvVar[]; envFrom?: { prefix?: string; configMapRef?: { name?: string; optional?: boolean }; secretRef?: { name?: string; optional?: boolean } }[];
  readinessProbe?: Probe; livenessProbe?: Probe; startupProbe?: Probe; restartPolicy?: string;
  lifecycle?: { preStop?: { exec?: { command?: string[] }; sleep?: { seconds: number }; httpGet?: Probe['httpGet'] }; postStart?: { exec?: { command?: string[] } } };
  terminationMessagePath?: string; stdin?: boolean; tty?: boolean; securityContext?: { runAsUser?: number; runAsGroup?: number };
}
export interface ContainerStatus {
  name: string; image: string; imageID: string; containerID?: string; ready: boolean; started?: boolean; restartCount: number;
  state?: ContainerState; lastState?: ContainerState;
}
export interface ContainerState {
  running?: { startedAt: string }; waiting?: { reason?: string; message?: string };
  terminated?: { exitCode: number; signal?: number; reason?: string; message?: string; startedAt?: string; finishedAt?: string; containerID?: string };
}
export interface PodSpec {
  nodeName?: string; hostname?: string; subdomain?: string; hostNetwork?: boolean; securityContext?: { runAsUser?: number; runAsGroup?: number }; restartPolicy?: 'Always' | 'OnFailure' | 'Never';
  containers: Container[]; initContainers?: Container[]; terminationGracePeriodSeconds?: number; activeDeadlineSeconds?: number;
  tolerations?: { key?: string; operator?: string; value?: string; effect?: string; tolerationSeconds?: number }[];
  nodeSelector?: Record<string, string>; serviceAccountName?: string; enableServiceLinks?: boolean; readinessGates?: { conditionType: string }[];
  dnsPolicy?: string; dnsConfig?: { nameservers?: string[]; searches?: string[]; options?: { name: string; value?: string }[] }; schedulerName?: string;
}
export interface PodStatus {
  phase?: 'Pending' | 'Running' | 'Succeeded' | 'Failed' | 'Unknown'; podIP?: string; podIPs?: { ip: string }[]; hostIP?: string; hostIPs?: { ip: string }[];
  conditions?: Condition[]; containerStatuses?: ContainerStatus[]; initContainerStatuses?: ContainerStatus[]; startTime?: string; reason?: string; message?: string; qosClass?: string;
}
export interface Pod extends KubeObject { spec?: PodSpec; status?: PodStatus }

export interface Node extends KubeObject {
  spec?: { podCIDR?: string; podCIDRs?: string[]; unschedulable?: boolean; taints?: { key: string; value?: string; effect: string; timeAdded?: string }[]; providerID?: string };
  status?: {
    addresses?: { type: string; address: string }[]; conditions?: Condition[]; daemonEndpoints?: { kubeletEndpoint?: { Port: number } };
    nodeInfo?: Record<string, string>; capacity?: Record<string, string>; allocatable?: Record<string, string>;
  };
}
export interface Lease extends KubeObject { spec?: { holderIdentity?: string; leaseDurationSeconds?: number; acquireTime?: string; renewTime?: string; leaseTransitions?: number } }

export interface IngressBackend { service?: { name: string; port?: { name?: string; number?: number } }; resource?: { apiGroup?: string; kind: string; name: string } }
export interface IngressPath { path?: string; pathType: 'Exact' | 'Prefix' | 'ImplementationSpecific'; backend: IngressBackend }
export interface IngressRule { host?: string; http?: { paths: IngressPath[] } }
export interface Ingress extends KubeObject {
  spec?: { ingressClassName?: string; defaultBackend?: IngressBackend; rules?: IngressRule[]; tls?: { hosts?: string[]; secretName?: string }[] };
  status?: { loadBalancer?: { ingress?: { ip?: string; hostname?: string; ports?: { port: number; protocol: string }[] }[] } };
}
export interface IngressClass extends KubeObject { spec?: { controller?: string; parameters?: { apiGroup?: string; kind: string; name: string; namespace?: string; scope?: string } } }

/** `data` values are base64. */
export interface Secret extends KubeObject { type?: string; data?: Record<string, string>; stringData?: Record<string, string>; immutable?: boolean }
export interface ConfigMap extends KubeObject { data?: Record<string, string>; binaryData?: Record<string, string>; immutable?: boolean }

export interface Event extends KubeObject {
  involvedObject: ObjectReference; reason?: string; message?: string; type?: string; action?: string;
  source?: { component?: string; host?: string }; reportingComponent?: string; reportingInstance?: string;
  firstTimestamp?: string | null; lastTimestamp?: string | null; eventTime?: string | null; count?: number; series?: { count: number; lastObservedTime: string };
}

/** Failure or success answer of the API (apimachinery meta/v1 Status). */
export interface Status {
  apiVersion: 'v1'; kind: 'Status'; metadata: Json; status: 'Success' | 'Failure'; message?: string; reason?: string; code: number;
  details?: { name?: string; group?: string; kind?: string; uid?: string; causes?: StatusCause[]; retryAfterSeconds?: number };
}
export interface StatusCause { reason?: string; message?: string; field?: string }

export type WatchEventType = 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK' | 'ERROR';
export interface WatchEvent<T = KubeObject> { type: WatchEventType; object: T }
