// Pure: a Service port from the shared view → the addresses that requests may go to (rules 24–27). Ready endpoints;
// when none is ready, those that still serve while terminating (KEP-1669). One address family per Service, so that a
// dual-stack Pod is not counted twice. Called by controller.ts.

import type { Endpoint, ServiceInfo, ServicePort } from '../api/services.ts';
import type { BackendProtocol, BackendTls } from '../proxy/http/endpoints.ts';
import { externalNameFault } from '../proxy/http/external-names.ts';
import type { Secret } from '../api/types.ts';
import type { BackendNeed } from './plan.ts';
import type { BackendSpec } from './protocol.ts';

export interface BackendContext {
  readonly info: ServiceInfo | undefined;
  /** ExternalName Services may be reached: the workers resolve the name for each connection and check every address. */
  readonly mayUseNames?: boolean;
  readonly tls?: BackendTls | undefined;
}

/** Builds the target of one need. */
export function buildBackend(need: BackendNeed, context: BackendContext): BackendSpec {
  const { info } = context;
  if (info === undefined) return { protocol: 'http', endpoints: [], reason: 'service-not-found' };
  const port = findPort(info, need);
  const protocol = protocolOf(need.protocol, port?.appProtocol);
  const tls: { tls?: BackendTls } = protocol === 'https' || protocol === 'h2' ? { tls: context.tls ?? noTls } : {};
  if (info.isExternalName) {
    const name = (info.service.spec?.externalName ?? '').replace(/\.$/, '').toLowerCase();
    if (context.mayUseNames !== true || externalNameFault(name) !== undefined) return { protocol, endpoints: [], reason: 'external-name-refused' };
    const number = port?.port ?? need.port.number;
    if (number === undefined) return { protocol, endpoints: [], reason: 'port-not-found' };
    // The name is known, so certificates are checked against it unless the object says no.
    const nameTls = tls.tls === undefined ? {} : { tls: { ...tls.tls, serverName: need.annotations?.proxySsl.name ?? name, mayVerify: need.annotations?.proxySsl.verify !== false } };
    return { protocol, ...nameTls, endpoints: [{ ip: name, port: number }] };
  }
  if (port === undefined) return { protocol, endpoints: [], reason: 'port-not-found' };
  const all = port.endpoints.IPv4.length > 0 ? port.endpoints.IPv4 : port.endpoints.IPv6;
  let usable: readonly Endpoint[] = all.filter((endpoint) => endpoint.ready && !endpoint.terminating);
  if (usable.length === 0) usable = all.filter((endpoint) => endpoint.ready);
  if (usable.length === 0) usable = all.filter((endpoint) => endpoint.serving && endpoint.terminating);
  return { protocol, ...tls, endpoints: usable.map(({ ip, port: number }) => ({ ip, port: number })), ...(usable.length === 0 ? { reason: 'no-endpoints' } : {}) };
}

/** How a backend that speaks TLS is reached, from proxy-ssl-*: verified when a CA is known or `proxy-ssl-verify: on` asks for it, unless that says off (I-8). */
export function backendTls(need: BackendNeed, secretOf: (key: string) => Secret | undefined): BackendTls | undefined {
  const options = need.annotations?.proxySsl;
  if (options === undefined) return undefined;
  const data = options.secretKey === undefined ? undefined : secretOf(options.secretKey)?.data;
  const pem = (name: string): string | undefined => (data?.[name] === undefined ? undefined : Buffer.from(data[name], 'base64').toString('utf8'));
  const caPem = pem('ca.crt');
  const mayVerify = options.verify ?? caPem !== undefined;
  const [namespace = '', name = ''] = need.serviceKey.split('/');
  const serverName = options.name ?? (mayVerify ? `${name}.${namespace}.svc` : undefined);
  return { serverName, caPem, certPem: pem('tls.key') === undefined ? undefined : pem('tls.crt'), keyPem: pem('tls.key'), mayVerify };
}

/** Verification needs a name or a CA that the object gives; without either the certificate cannot be checked (ingress-nginx does not check it then). */
const noTls: BackendTls = Object.freeze({ serverName: undefined, caPem: undefined, certPem: undefined, keyPem: undefined, mayVerify: false });

function findPort(info: ServiceInfo, need: BackendNeed): ServicePort | undefined {
  return info.ports.find((port) => port.protocol === 'TCP' && (need.port.name !== undefined ? port.portName === need.port.name : need.port.number === undefined || port.port === need.port.number));
}

const appProtocols: Readonly<Record<string, BackendProtocol>> = Object.freeze({
  http: 'http', 'kubernetes.io/ws': 'http', ws: 'http', https: 'https', 'kubernetes.io/wss': 'https', wss: 'https', 'kubernetes.io/h2c': 'h2c', h2c: 'h2c', grpc: 'h2c', grpcs: 'h2', h2: 'h2',
});

/** The annotation decides before the port's appProtocol. */
function protocolOf(annotated: string | undefined, appProtocol: string | undefined): BackendProtocol {
  if (annotated !== undefined) return annotated as BackendProtocol;
  return (appProtocol === undefined ? undefined : appProtocols[appProtocol.toLowerCase()]) ?? 'http';
}
