// Admission step of Endpoints and EndpointSlices: which addresses traffic may be sent to. Loopback, link-local,
// unspecified and multicast addresses are never endpoints, except the loopback range that Pods of a node without root
// live in; Service addresses are not endpoints either; an administrator may narrow the rest to a list of ranges.
// Source: kubernetes ValidateNonSpecialIP, CVE-2021-25737, CVE-2021-25740, CVE-2020-8558.

import { canonicalIP, isLinkLocal, isLoopback, isMulticast, isUnspecified, parseCIDR } from '../../api/address.ts';
import { invalid } from '../../api/errors.ts';
import type { Endpoints, EndpointSlice, StatusCause } from '../../api/types.ts';
import { isTrusted, type AdmissionContext, type AdmissionRequest, type AdmissionStep } from './types.ts';

export function endpointAddressesStep(context: AdmissionContext): AdmissionStep {
  const { config } = context;
  const cidrs = (texts: readonly string[]): { contains(ip: string): boolean }[] => texts.map((text) => parseCIDR(text)).filter((cidr) => cidr !== undefined);
  const [loopbackRanges, serviceRanges, allowedRanges] = [cidrs(config.loopbackEndpointRanges), cidrs(config.serviceCIDRs), cidrs(config.endpointRanges)];
  const objection = (ip: string): string | undefined => {
    if (canonicalIP(ip) === undefined) return undefined;
    if (loopbackRanges.some((cidr) => cidr.contains(ip))) return undefined;
    if (isUnspecified(ip)) return `may not be unspecified (${ip.includes(':') ? '::' : '0.0.0.0'})`;
    if (isLoopback(ip)) return 'may not be in the loopback range (127.0.0.0/8, ::1/128)';
    if (isLinkLocal(ip)) return 'may not be in the link-local range (169.254.0.0/16, fe80::/10)';
    if (isMulticast(ip)) return 'may not be in the multicast range (224.0.0.0/4, ff00::/8)';
    if (serviceRanges.some((cidr) => cidr.contains(ip))) return 'may not be in the Service range';
    if (allowedRanges.length > 0 && !allowedRanges.some((cidr) => cidr.contains(ip))) return 'is not in a range that endpoints may use here';
    return undefined;
  };
  return {
    name: 'EndpointAddresses',
    admit(request: AdmissionRequest): void {
      if (request.operation === 'delete' || request.subresource !== '' || isTrusted(request.userInfo)) return;
      const { group, resource, kind } = request.resource;
      const addresses = group === 'discovery.k8s.io' && resource === 'endpointslices' ? sliceAddresses(request.object as EndpointSlice)
        : group === '' && resource === 'endpoints' ? subsetAddresses(request.object as Endpoints) : [];
      const had = new Set(request.old === undefined ? [] : (resource === 'endpoints' ? subsetAddresses(request.old as Endpoints) : sliceAddresses(request.old as EndpointSlice)).map(([, ip]) => ip));
      const causes: StatusCause[] = [];
      for (const [field, ip] of addresses) {
        const why = had.has(ip) ? undefined : objection(ip);
        if (why !== undefined) causes.push({ reason: 'FieldValueInvalid', field, message: `Invalid value: ${JSON.stringify(ip)}: ${why}` });
      }
      if (causes.length > 0) throw invalid(kind, group, request.object.metadata.name, causes);
    },
  };
}

type Located = [field: string, ip: string];

function sliceAddresses(slice: EndpointSlice): Located[] {
  if (slice.addressType === 'FQDN') return [];
  return (slice.endpoints ?? []).flatMap((endpoint, index) => (endpoint.addresses ?? []).map((ip, each): Located => [`endpoints[${index}].addresses[${each}]`, ip]));
}

function subsetAddresses(endpoints: Endpoints): Located[] {
  return (endpoints.subsets ?? []).flatMap((subset, index) => (['addresses', 'notReadyAddresses'] as const).flatMap((list) => (subset[list] ?? []).map((address, each): Located => [`subsets[${index}].${list}[${each}].ip`, address.ip])));
}
