// Micro benchmarks of api/: joining a Service, selectors, addresses.

import { canonicalIP, parseIPv4 } from '../../../api/address.ts';
import { selectorFromMap } from '../../../api/meta.ts';
import { joinService } from '../../../api/services.ts';
import type { EndpointSlice, Service } from '../../../api/types.ts';
import type { MicroBench } from '../../lib/micro.ts';

const service = { metadata: { name: 'web', namespace: 'shop' }, spec: { clusterIP: '10.96.0.9', clusterIPs: ['10.96.0.9'], ports: [{ name: 'http', port: 80, protocol: 'TCP' }] } } as Service;
const sliceOf = (count: number): ReadonlyMap<string, EndpointSlice> => new Map([['s', {
  metadata: { name: 's', namespace: 'shop', labels: { 'kubernetes.io/service-name': 'web' } }, addressType: 'IPv4', ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
  endpoints: Array.from({ length: count }, (_, index) => ({ addresses: [`10.0.0.${index + 1}`], conditions: { ready: true } })),
} as EndpointSlice]]);

export const benches: MicroBench[] = [
  { name: 'api/services join 3 endpoints', setup: () => { const slices = sliceOf(3); return () => joinService('shop/web', service, slices).ports.length; } },
  { name: 'api/services join 100 endpoints', setup: () => { const slices = sliceOf(100); return () => joinService('shop/web', service, slices).ports.length; } },
  { name: 'api/meta selector match', setup: () => { const selector = selectorFromMap({ app: 'web', tier: 'front' }); const labels = { app: 'web', tier: 'front', version: '1' }; return () => Number(selector.matches(labels)); } },
  { name: 'api/address parse IPv4', setup: () => () => parseIPv4('10.96.123.45') ?? 0 },
  { name: 'api/address canonical IPv6', setup: () => () => canonicalIP('2001:db8:0:0:0:0:0:1')?.length ?? 0 },
];
