// Settings of the controllers; the composition root and control/start.ts fill them in.

export interface ControllersConfig {
  /** First is the primary range; its family is the default of new Services. */
  serviceCIDRs: readonly string[];
  /** Ranges that nodes get their podCIDR from; at most one per family. */
  podCIDRs: readonly string[];
  /** Prefix length of one node's podCIDR. */
  nodeCIDRMaskIPv4: number;
  nodeCIDRMaskIPv6: number;
  clusterDomain: string;
  /** Where the API server listens: endpoint of default/kubernetes. */
  apiAddress: string;
  apiPort: number;
  /** ClusterIP of kube-system/kube-dns; '' = tenth address of the primary range. */
  dnsServiceIP: string;
  /** Addresses for Services of type LoadBalancer: `10.0.0.5`, `10.0.0.0/28` or `10.0.0.5-10.0.0.9`; empty = none are given. */
  loadBalancerPool: readonly string[];
  /** Services of this loadBalancerClass are served besides those without one. */
  loadBalancerClass: string;
  /** PEM of the cluster's certificate authority for the kube-root-ca.crt ConfigMaps. */
  caPem: string;
  /** Endpoints in one EndpointSlice, at most 1000. */
  endpointsPerSliceMax: number;
  /** Addresses in one Endpoints object. */
  endpointsAddressesMax: number;
  /** A Node whose Lease was not renewed for this long counts as lost. */
  nodeGraceMs: number;
  /** Events older than this are removed. */
  eventTtlMs: number;
  /** Keys that one controller works on at a time. */
  concurrency: number;
}

export const defaultControllersConfig: Readonly<ControllersConfig> = Object.freeze({
  serviceCIDRs: ['10.96.0.0/16'], podCIDRs: ['10.244.0.0/16'], nodeCIDRMaskIPv4: 24, nodeCIDRMaskIPv6: 64, clusterDomain: 'cluster.local',
  apiAddress: '127.0.0.1', apiPort: 6443, dnsServiceIP: '', loadBalancerPool: [], loadBalancerClass: 'netloom.dev/pool', caPem: '',
  endpointsPerSliceMax: 100, endpointsAddressesMax: 1000, nodeGraceMs: 40_000, eventTtlMs: 3_600_000, concurrency: 8,
});
