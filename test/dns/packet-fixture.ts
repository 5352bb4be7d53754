// The Services that data/packets.json asks about, as Kubernetes objects.

interface Port { name: string; port: number }

function service(namespace: string, name: string, spec: Record<string, unknown>): object {
  return { apiVersion: 'v1', kind: 'Service', metadata: { namespace, name }, spec };
}

function slice(namespace: string, name: string, endpoints: { ip: string; hostname?: string }[], ports: Port[]): object {
  return {
    apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', addressType: 'IPv4',
    metadata: { namespace, name: `${name}-1`, labels: { 'kubernetes.io/service-name': name } },
    endpoints: endpoints.map(({ ip, hostname }) => ({ addresses: [ip], conditions: { ready: true }, ...(hostname === undefined ? {} : { hostname }) })),
    ports: ports.map((port) => ({ ...port, protocol: 'TCP' })),
  };
}

export function packetFixture(): object[] {
  const big = Array.from({ length: 200 }, (_, index) => ({ ip: `10.1.0.${index + 1}` }));
  return [
    { kind: 'Namespace', metadata: { name: 'default' } },
    service('default', 'web', { clusterIP: '10.96.0.10', clusterIPs: ['10.96.0.10'], ports: [{ name: 'http', port: 80 }] }),
    service('default', 'kubernetes', { clusterIP: '10.96.0.1', clusterIPs: ['10.96.0.1'], ports: [{ name: 'https', port: 443 }] }),
    service('default', 'db', { clusterIP: 'None', clusterIPs: ['None'], ports: [{ name: 'pg', port: 5432 }] }),
    slice('default', 'db', [{ ip: '10.0.0.1', hostname: 'db-0' }, { ip: '10.0.0.2', hostname: 'db-1' }], [{ name: 'pg', port: 5432 }]),
    service('default', 'big', { clusterIP: 'None', clusterIPs: ['None'], ports: [{ name: 'p', port: 80 }] }),
    slice('default', 'big', big, [{ name: 'p', port: 80 }]),
    service('default', 'ext', { type: 'ExternalName', externalName: 'target.example' }),
  ];
}
