// Admission steps of Services: allocation, the policy on externalIPs, and who may write a load balancer's addresses.
// Source: kubernetes pkg/registry/core/service/storage, CVE-2020-8554 (externalIPs and status.loadBalancer.ingress).

import { parseCIDR } from '../../api/address.ts';
import { NetloomError } from '../../api/errors.ts';
import { objectKey, selectorFromMap } from '../../api/meta.ts';
import type { Pod, Service } from '../../api/types.ts';
import { cloneJson } from '../schema/schema.ts';
import { dropLoadBalancerStatus } from './service-fields.ts';
import type { ServiceAllocator } from './service-allocation.ts';
import { isTrusted, type AdmissionContext, type AdmissionOutcome, type AdmissionRequest, type AdmissionStep } from './types.ts';

const isService = (request: AdmissionRequest): boolean => request.resource.group === '' && request.resource.resource === 'services';

/** Takes addresses and ports; on deletion lets them go. */
export function serviceAllocationStep(context: AdmissionContext, allocator: ServiceAllocator): AdmissionStep {
  return {
    name: 'ServiceAllocation',
    admit(request: AdmissionRequest): AdmissionOutcome | void {
      if (!isService(request) || request.subresource !== '') return undefined;
      const old = request.old as Service | undefined;
      if (request.operation === 'delete') {
        const gone = old ?? (request.object as Service);
        return { reservation: { commit: () => { if (context.storage.get('services', objectKey(gone)) === undefined) allocator.free(gone); }, release: () => {} } };
      }
      const service = { ...request.object, spec: cloneJson((request.object as Service).spec ?? {}) } as Service;
      const reservation = allocator.allocate(service, old);
      request.object = old === undefined ? service : dropLoadBalancerStatus(service);
      const key = objectKey(service);
      return {
        reservation: {
          commit: reservation.commit,
          release: () => {
            reservation.release();
            // A write of the same Service that came between may hold what was just given back.
            const live = context.storage.get('services', key)?.object as Service | undefined;
            if (live !== undefined) allocator.reserve(live);
          },
        },
      };
    },
  };
}

/** externalIPs only from the allow-list of ranges; addresses that a Service already has stay. */
export function externalIPsStep(context: AdmissionContext): AdmissionStep {
  const ranges = context.config.externalIPRanges.map((text) => parseCIDR(text)).filter((cidr) => cidr !== undefined);
  return {
    name: 'ServiceExternalIPs',
    admit(request: AdmissionRequest): void {
      if (!isService(request) || request.operation === 'delete' || request.subresource !== '') return;
      const had = new Set((request.old as Service | undefined)?.spec?.externalIPs ?? []);
      for (const [index, ip] of ((request.object as Service).spec?.externalIPs ?? []).entries()) {
        if (had.has(ip)) continue;
        if (ranges.length > 0 && parseCIDR(`${ip}/32`) === undefined && parseCIDR(`${ip}/128`) === undefined) continue;
        if (ranges.some((cidr) => cidr.contains(ip))) continue;
        const name = request.object.metadata.name;
        const why = ranges.length === 0 ? 'no range of external addresses is allowed' : `not in the allowed ranges ${ranges.join(', ')}`;
        throw new NetloomError('Forbidden', `services "${name}" is forbidden: spec.externalIPs[${index}]: ${ip} may not be used: ${why}`, {
          source: 'downstream', hint: 'an administrator can allow ranges with --external-ip-range',
          details: { name, kind: 'services', causes: [{ reason: 'FieldValueForbidden', field: `spec.externalIPs[${index}]`, message: `${ip}: ${why}` }] },
        });
      }
    },
  };
}

/** Writing status.loadBalancer.ingress draws traffic of other people's addresses: it has a verb of its own. */
export function loadBalancerStatusStep(context: AdmissionContext): AdmissionStep {
  return {
    name: 'LoadBalancerStatus',
    admit(request: AdmissionRequest): void {
      if (!isService(request) || request.subresource !== 'status' || request.operation !== 'update') return;
      const now = (request.object as Service).status?.loadBalancer?.ingress ?? [];
      const before = (request.old as Service | undefined)?.status?.loadBalancer?.ingress ?? [];
      if (JSON.stringify(now) === JSON.stringify(before) || isTrusted(request.userInfo) || request.userInfo.groups.includes('system:masters')) return;
      const { name, namespace } = request.object.metadata;
      const attributes = { verb: 'assign-address', group: '', resource: 'services', subresource: 'status', name, ...(namespace === undefined ? {} : { namespace }) };
      if (context.mayDo?.(request.userInfo, attributes) === true) return;
      throw new NetloomError('Forbidden', `services "${name}" is forbidden: User "${request.userInfo.username}" cannot assign-address resource "services/status" in API group "": status.loadBalancer.ingress may only be written by a load balancer controller`, {
        source: 'downstream', details: { name, kind: 'services' },
      });
    },
  };
}

/** Pods looked at for the warning; beyond this the answer costs more than it helps. */
const podsScannedMax = 2_000;

/** Warns when an update points the selector at nothing. */
export function selectorWarningStep(context: AdmissionContext): AdmissionStep {
  return {
    name: 'SelectorWarning',
    admit(request: AdmissionRequest): AdmissionOutcome | void {
      if (!isService(request) || request.subresource !== '' || request.operation !== 'update') return undefined;
      const selector = (request.object as Service).spec?.selector ?? {};
      if (Object.keys(selector).length === 0 || JSON.stringify(selector) === JSON.stringify((request.old as Service | undefined)?.spec?.selector)) return undefined;
      const namespace = request.object.metadata.namespace ?? '';
      const page = context.storage.list('pods', { prefix: `${namespace}/`, limit: podsScannedMax });
      const matcher = selectorFromMap(selector);
      if (page.nextKey !== undefined || page.items.some((item) => matcher.matches((item.object as Pod).metadata.labels))) return undefined;
      return { warnings: [`Service ${objectKey(request.object)} selects no endpoints: no Pod in ${namespace} has the labels ${matcher.toString()}`] };
    },
  };
}
