// Rules of Services. Called by `validate` after defaulting and allocation. clusterIP and family rules: `service-ips`.
// Source: kubernetes pkg/apis/core/validation/validation.go ValidateService, ValidateServiceUpdate, ValidateLoadBalancerStatus.

import { parseIP } from '../../api/address.ts';
import type { Fields } from './fields.ts';
import { entries, maybePart, number, part, parts, text, texts } from './fields.ts';
import { validateLabels } from './metadata.ts';
import { checkCidr, checkDnsLabel, checkIP, checkNonSpecialIP, checkPortName, checkPortNumber, checkQualifiedName, checkSubdomain } from './names.ts';
import type { Problems } from './problems.ts';
import type { ServiceIPOptions } from './service-ips.ts';
import { validateServiceIPs, validateServiceIPsUpdate } from './service-ips.ts';

export const protocols: readonly string[] = ['TCP', 'UDP', 'SCTP'];
const serviceTypes = ['ClusterIP', 'NodePort', 'LoadBalancer', 'ExternalName'];
const distributions: readonly string[] = ['PreferClose', 'PreferSameZone', 'PreferSameNode'];
const sourceRangesAnnotation = 'service.beta.kubernetes.io/load-balancer-source-ranges';

/** Checks a Service as it would be stored. */
export function validateService(service: unknown, options: ServiceIPOptions, problems: Problems): void {
  const spec = part(service, 'spec');
  const type = text(spec, 'type');
  const isHeadless = text(spec, 'clusterIP') === 'None';
  const ports = parts(spec, 'ports');
  if (ports.length === 0 && !isHeadless && type !== 'ExternalName') problems.required('spec.ports');
  validateType(spec, type, isHeadless, problems);
  validatePorts(ports, type, problems);
  validateLabels(spec, 'selector', 'spec.selector', problems);
  validateAffinity(spec, problems);
  validateServiceIPs(spec, options, problems);
  texts(spec, 'externalIPs').forEach((ip, index) => {
    const complaints = checkIP(ip);
    problems.invalidEach(`spec.externalIPs[${index}]`, ip, complaints.length > 0 ? complaints : checkNonSpecialIP(ip));
  });
  if (type === '') problems.required('spec.type');
  else if (!serviceTypes.includes(type)) problems.notSupported('spec.type', type, serviceTypes);
  validateSourceRanges(service, spec, type, problems);
  validateLoadBalancerFields(spec, type, problems);
  validatePolicies(spec, type, problems);
}

function validateType(spec: Fields, type: string, isHeadless: boolean, problems: Problems): void {
  if (type === 'LoadBalancer') {
    parts(spec, 'ports').forEach((port, index) => {
      if (port['port'] === 10250) problems.invalid(`spec.ports[${index}]`, port['port'], 'may not expose port 10250 externally since it is used by kubelet');
    });
    if (isHeadless) problems.invalid('spec.clusterIPs[0]', 'None', "may not be set to 'None' for LoadBalancer services");
  }
  if (type === 'NodePort' && isHeadless) problems.invalid('spec.clusterIPs[0]', 'None', "may not be set to 'None' for NodePort services");
  if (type !== 'ExternalName') return;
  if (texts(spec, 'clusterIPs').length > 0 || text(spec, 'clusterIP') !== '') problems.forbidden('spec.clusterIPs', 'may not be set for ExternalName services');
  if (texts(spec, 'ipFamilies').length > 0) problems.forbidden('spec.ipFamilies', 'may not be set for ExternalName services');
  if (text(spec, 'ipFamilyPolicy') !== '') problems.forbidden('spec.ipFamilyPolicy', 'may not be set for ExternalName services');
  const target = text(spec, 'externalName').replace(/\.$/, '');
  if (target === '') problems.required('spec.externalName');
  else problems.invalidEach('spec.externalName', target, checkSubdomain(target));
}

function validatePorts(ports: readonly Fields[], type: string, problems: Problems): void {
  const names = new Set<string>();
  const nodePorts = new Set<string>();
  const numbers = new Set<string>();
  ports.forEach((port, index) => {
    const path = `spec.ports[${index}]`;
    validatePort(port, path, ports.length > 1, names, problems);
    const nodePort = number(port, 'nodePort') ?? 0;
    const protocol = text(port, 'protocol');
    if (nodePort !== 0 && type === 'ClusterIP') problems.forbidden(`${path}.nodePort`, "may not be used when `type` is 'ClusterIP'");
    if (nodePort !== 0) {
      if (nodePorts.has(`${protocol}/${nodePort}`)) problems.duplicate(`${path}.nodePort`, nodePort);
      nodePorts.add(`${protocol}/${nodePort}`);
    }
    if (numbers.has(`${protocol}/${String(port['port'])}`)) problems.duplicate(path, { port: port['port'], protocol });
    numbers.add(`${protocol}/${String(port['port'])}`);
  });
}

function validatePort(port: Fields, path: string, isNameRequired: boolean, names: Set<string>, problems: Problems): void {
  const name = text(port, 'name');
  if (name === '') { if (isNameRequired) problems.required(`${path}.name`); }
  else {
    problems.invalidEach(`${path}.name`, name, checkDnsLabel(name));
    if (names.has(name)) problems.duplicate(`${path}.name`, name);
    names.add(name);
  }
  const value = number(port, 'port') ?? 0;
  problems.invalidEach(`${path}.port`, value, checkPortNumber(value));
  validateProtocol(text(port, 'protocol'), `${path}.protocol`, problems);
  validatePortOrName(port['targetPort'], `${path}.targetPort`, problems);
  const appProtocol = port['appProtocol'];
  if (typeof appProtocol === 'string') problems.invalidEach(`${path}.appProtocol`, appProtocol, checkQualifiedName(appProtocol));
}

/** A protocol must be there and one of the three. */
export function validateProtocol(protocol: string, path: string, problems: Problems): void {
  if (protocol === '') problems.required(path);
  else if (!protocols.includes(protocol)) problems.notSupported(path, protocol, protocols);
}

/** A port number or a port name. */
export function validatePortOrName(value: unknown, path: string, problems: Problems): void {
  if (typeof value === 'number') problems.invalidEach(path, value, checkPortNumber(value));
  else if (typeof value === 'string') problems.invalidEach(path, value, checkPortName(value));
}

function validateAffinity(spec: Fields, problems: Problems): void {
  const affinity = text(spec, 'sessionAffinity');
  const path = 'spec.sessionAffinityConfig';
  const config = maybePart(spec, 'sessionAffinityConfig');
  if (affinity === '') problems.required('spec.sessionAffinity');
  else if (affinity !== 'ClientIP' && affinity !== 'None') problems.notSupported('spec.sessionAffinity', affinity, ['ClientIP', 'None']);
  if (affinity === 'None' && config !== undefined) problems.forbidden(path, 'must not be set when session affinity type is None');
  if (affinity !== 'ClientIP') return;
  const client = maybePart(config, 'clientIP');
  const seconds = number(client, 'timeoutSeconds');
  if (config === undefined) problems.required(path, 'when session affinity type is ClientIP');
  else if (client === undefined) problems.required(`${path}.clientIP`, 'when session affinity type is ClientIP');
  else if (seconds === undefined) problems.required(`${path}.clientIP.timeoutSeconds`, 'when session affinity type is ClientIP');
  else if (seconds <= 0 || seconds > 86400) problems.invalid(`${path}.clientIP.timeoutSeconds`, seconds, 'must be greater than 0 and less than 86400');
}

function validateSourceRanges(service: unknown, spec: Fields, type: string, problems: Problems): void {
  const ranges = texts(spec, 'loadBalancerSourceRanges');
  if (ranges.length > 0) {
    if (type !== 'LoadBalancer') problems.forbidden('spec.LoadBalancerSourceRanges', "may only be used when `type` is 'LoadBalancer'");
    ranges.forEach((range, index) => problems.invalidEach(`spec.LoadBalancerSourceRanges[${index}]`, range.trim(), checkCidr(range.trim())));
    return;
  }
  const annotated = entries(part(service, 'metadata'), 'annotations').find(([key]) => key === sourceRangesAnnotation)?.[1];
  if (typeof annotated !== 'string') return;
  const path = `metadata.annotations[${sourceRangesAnnotation}]`;
  if (type !== 'LoadBalancer') problems.forbidden(path, "may only be used when `type` is 'LoadBalancer'");
  else for (const range of annotated.split(',')) if (range.trim() !== '') problems.invalidEach(path, annotated, checkCidr(range.trim()));
}

function validateLoadBalancerFields(spec: Fields, type: string, problems: Problems): void {
  const isBalanced = type === 'LoadBalancer';
  if (isBalanced && spec['allocateLoadBalancerNodePorts'] === undefined) problems.required('spec.allocateLoadBalancerNodePorts');
  if (!isBalanced && spec['allocateLoadBalancerNodePorts'] !== undefined) problems.forbidden('spec.allocateLoadBalancerNodePorts', "may only be used when `type` is 'LoadBalancer'");
  const className = spec['loadBalancerClass'];
  if (typeof className !== 'string') return;
  if (!isBalanced) problems.forbidden('spec.loadBalancerClass', "may only be used when `type` is 'LoadBalancer'");
  problems.invalidEach('spec.loadBalancerClass', className, checkQualifiedName(className));
}

function validatePolicies(spec: Fields, type: string, problems: Problems): void {
  const external = text(spec, 'externalTrafficPolicy');
  const isExternal = type === 'LoadBalancer' || type === 'NodePort' || (type === 'ClusterIP' && texts(spec, 'externalIPs').length > 0);
  if (!isExternal) { if (external !== '') problems.invalid('spec.externalTrafficPolicy', external, 'may only be set for externally-accessible services'); }
  else if (external === '') problems.required('spec.externalTrafficPolicy');
  else if (external !== 'Cluster' && external !== 'Local') problems.notSupported('spec.externalTrafficPolicy', external, ['Cluster', 'Local']);
  const checkPort = number(spec, 'healthCheckNodePort') ?? 0;
  if (checkPort < 0 || checkPort > 65535) problems.invalidEach('spec.healthCheckNodePort', checkPort, checkPortNumber(checkPort));
  else if (checkPort !== 0 && !needsHealthCheckPort(spec)) problems.invalid('spec.healthCheckNodePort', checkPort, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'");
  const internal = text(spec, 'internalTrafficPolicy');
  if (internal === '') { if (type !== 'ExternalName' && serviceTypes.includes(type)) problems.required('spec.internalTrafficPolicy'); }
  else if (internal !== 'Cluster' && internal !== 'Local') problems.notSupported('spec.internalTrafficPolicy', internal, ['Cluster', 'Local']);
  const distribution = spec['trafficDistribution'];
  if (distribution !== undefined && !distributions.includes(String(distribution))) problems.notSupported('spec.trafficDistribution', distribution, distributions);
}

function needsHealthCheckPort(spec: Fields): boolean { return spec['type'] === 'LoadBalancer' && spec['externalTrafficPolicy'] === 'Local'; }

/** Checks what an update of a Service may not change. */
export function validateServiceUpdate(service: unknown, old: unknown, problems: Problems): void {
  const spec = part(service, 'spec');
  const before = part(old, 'spec');
  validateServiceIPsUpdate(spec, before, problems);
  if (spec['type'] === 'LoadBalancer' && before['type'] === 'LoadBalancer' && spec['loadBalancerClass'] !== before['loadBalancerClass']) {
    problems.invalid('spec.loadBalancerClass', spec['loadBalancerClass'], 'may not change once set');
  }
  const checkPort = number(before, 'healthCheckNodePort') ?? 0;
  if (checkPort !== 0 && needsHealthCheckPort(spec) && needsHealthCheckPort(before) && spec['healthCheckNodePort'] !== checkPort) {
    problems.invalid('spec.healthCheckNodePort', spec['healthCheckNodePort'], 'field is immutable');
  }
}

/** Checks the status subresource: addresses belong to LoadBalancers only. */
export function validateServiceStatus(service: unknown, problems: Problems): void {
  const ingress = parts(maybePart(part(service, 'status'), 'loadBalancer'), 'ingress');
  const path = 'status.loadBalancer.ingress';
  if (ingress.length > 0 && text(part(service, 'spec'), 'type') !== 'LoadBalancer') problems.forbidden(path, "may only be used when `spec.type` is LoadBalancer");
  else ingress.forEach((entry, index) => validateIngressPoint(entry, `${path}[${index}]`, true, problems));
}

/** Checks one address of a load balancer status; Ingress statuses have no ipMode. */
export function validateIngressPoint(entry: Fields, path: string, hasMode: boolean, problems: Problems): void {
  const ip = text(entry, 'ip');
  const mode = text(entry, 'ipMode');
  if (ip !== '') problems.invalidEach(`${path}.ip`, ip, checkIP(ip));
  if (hasMode && ip !== '' && mode === '') problems.required(`${path}.ipMode`, 'must be specified when `ip` is set');
  if (hasMode && ip === '' && mode !== '') problems.forbidden(`${path}.ipMode`, 'may not be specified when `ip` is not set');
  if (mode !== '' && mode !== 'VIP' && mode !== 'Proxy') problems.notSupported(`${path}.ipMode`, mode, ['VIP', 'Proxy']);
  const hostname = text(entry, 'hostname');
  if (hostname === '') return;
  problems.invalidEach(`${path}.hostname`, hostname, checkSubdomain(hostname));
  if (parseIP(hostname) !== undefined) problems.invalid(`${path}.hostname`, hostname, 'must be a DNS name, not an IP address');
}
