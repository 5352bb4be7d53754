// Rules of Ingress, IngressClass and NetworkPolicy. Called by `validate`.
// Source: kubernetes pkg/apis/networking/validation/validation.go.

import { parseIP } from '../../api/address.ts';
import type { Fields } from './fields.ts';
import { entries, maybePart, number, part, parts, text, texts } from './fields.ts';
import { immutable, validateLabelSelector } from './metadata.ts';
import { checkCidr, checkDns1035Label, checkDomainPath, checkPathSegment, checkPortName, checkPortNumber, checkSubdomain, checkWildcard } from './names.ts';
import type { Problems } from './problems.ts';
import { protocols, validateIngressPoint, validatePortOrName } from './service.ts';

const classAnnotation = 'kubernetes.io/ingress.class';
const pathSequences = ['//', '/./', '/../', '%2f', '%2F'];
const pathEndings = ['/..', '/.'];
const pathTypes = ['Exact', 'ImplementationSpecific', 'Prefix'];

/** Checks an Ingress; `isNew` adds the rule about class annotation and class field. */
export function validateIngress(ingress: unknown, isNew: boolean, problems: Problems): void {
  const spec = part(ingress, 'spec');
  const rules = parts(spec, 'rules');
  const defaultBackend = maybePart(spec, 'defaultBackend');
  if (rules.length === 0 && defaultBackend === undefined) problems.invalid('spec', rules, 'either `defaultBackend` or `rules` must be specified');
  if (defaultBackend !== undefined) validateBackend(defaultBackend, 'spec.defaultBackend', problems);
  rules.forEach((rule, index) => validateRule(rule, `spec.rules[${index}]`, problems));
  parts(spec, 'tls').forEach((tls, index) => {
    texts(tls, 'hosts').forEach((host, at) => problems.invalidEach(`spec.tls[${index}].hosts[${at}]`, host, host.includes('*') ? checkWildcard(host) : checkSubdomain(host)));
    const secretName = text(tls, 'secretName');
    if (secretName !== '') problems.invalidEach(`spec.tls[${index}].secretName`, secretName, checkSubdomain(secretName));
  });
  const className = spec['ingressClassName'];
  if (typeof className === 'string') problems.invalidEach('spec.ingressClassName', className, checkSubdomain(className));
  if (!isNew || typeof className !== 'string') return;
  const annotated = entries(part(ingress, 'metadata'), 'annotations').find(([key]) => key === classAnnotation)?.[1];
  if (annotated !== undefined) problems.invalid(`metadata.annotations[${classAnnotation}]`, annotated, 'can not be set when the class field is also set');
}

function validateRule(rule: Fields, path: string, problems: Problems): void {
  const host = text(rule, 'host');
  if (host !== '') {
    if (parseIP(host) !== undefined) problems.invalid(`${path}.host`, host, 'must be a DNS name, not an IP address');
    problems.invalidEach(`${path}.host`, host, host.includes('*') ? checkWildcard(host) : checkSubdomain(host));
  }
  const http = maybePart(rule, 'http');
  if (http === undefined) return;
  const paths = parts(http, 'paths');
  if (paths.length === 0) problems.required(`${path}.http.paths`);
  paths.forEach((entry, index) => validatePath(entry, `${path}.http.paths[${index}]`, problems));
}

function validatePath(entry: Fields, path: string, problems: Problems): void {
  const pathType = entry['pathType'];
  const value = text(entry, 'path');
  if (pathType === undefined) problems.required(`${path}.pathType`, 'pathType must be specified');
  else if (pathType === 'Exact' || pathType === 'Prefix') {
    if (!value.startsWith('/')) problems.invalid(`${path}.path`, value, 'must be an absolute path');
    for (const sequence of pathSequences) if (value.includes(sequence)) problems.invalid(`${path}.path`, value, `must not contain '${sequence}'`);
    for (const ending of pathEndings) if (value.endsWith(ending)) problems.invalid(`${path}.path`, value, `cannot end with '${ending}'`);
  } else if (pathType === 'ImplementationSpecific') {
    if (value !== '' && !value.startsWith('/')) problems.invalid(`${path}.path`, value, 'must be an absolute path');
  } else problems.notSupported(`${path}.pathType`, pathType, pathTypes);
  validateBackend(part(entry, 'backend'), `${path}.backend`, problems);
}

function validateBackend(backend: Fields, path: string, problems: Problems): void {
  const resource = maybePart(backend, 'resource');
  const service = maybePart(backend, 'service');
  if (resource !== undefined && service !== undefined) problems.invalid(path, '', 'cannot set both resource and service backends');
  else if (resource !== undefined) validateReference(resource, `${path}.resource`, problems);
  else if (service === undefined) problems.invalid(path, '', 'resource or service backend is required');
  else validateServiceBackend(service, path, problems);
}

function validateServiceBackend(service: Fields, path: string, problems: Problems): void {
  const name = text(service, 'name');
  if (name === '') problems.required(`${path}.service.name`);
  else problems.invalidEach(`${path}.service.name`, name, checkDns1035Label(name));
  const port = part(service, 'port');
  const portName = text(port, 'name');
  const portNumber = number(port, 'number') ?? 0;
  if (portName !== '' && portNumber !== 0) problems.invalid(path, '', 'cannot set both port name & port number');
  else if (portName !== '') problems.invalidEach(`${path}.service.port.name`, portName, checkPortName(portName));
  else if (portNumber !== 0) problems.invalidEach(`${path}.service.port.number`, portNumber, checkPortNumber(portNumber));
  else problems.required(path, 'port name or number is required');
}

function validateReference(reference: Fields, path: string, problems: Problems): void {
  const apiGroup = reference['apiGroup'];
  if (typeof apiGroup === 'string') problems.invalidEach(`${path}.apiGroup`, apiGroup, checkSubdomain(apiGroup));
  for (const field of ['kind', 'name']) {
    const value = text(reference, field);
    if (value === '') problems.required(`${path}.${field}`);
    else problems.invalidEach(`${path}.${field}`, value, checkPathSegment(value));
  }
}

/** Checks the status subresource of an Ingress. */
export function validateIngressStatus(ingress: unknown, problems: Problems): void {
  parts(maybePart(part(ingress, 'status'), 'loadBalancer'), 'ingress').forEach((entry, index) => validateIngressPoint(entry, `status.loadBalancer.ingress[${index}]`, false, problems));
}

/** Checks an IngressClass. */
export function validateIngressClass(object: unknown, problems: Problems): void {
  const spec = part(object, 'spec');
  const controller = text(spec, 'controller');
  if (controller === '') problems.required('spec.controller');
  else if (controller.length > 250) problems.tooLong('spec.controller', 250);
  else problems.invalidEach('spec.controller', controller, checkDomainPath(controller));
  const parameters = maybePart(spec, 'parameters');
  if (parameters === undefined) return;
  const path = 'spec.parameters';
  validateReference(parameters, path, problems);
  const scope = text(parameters, 'scope');
  const namespace = parameters['namespace'];
  if (scope === '') problems.required(`${path}.scope`);
  else if (scope !== 'Cluster' && scope !== 'Namespace') problems.notSupported(`${path}.scope`, scope, ['Cluster', 'Namespace']);
  else if (scope === 'Namespace' && (namespace === undefined || namespace === '')) problems.required(`${path}.namespace`, "`parameters.scope` is set to 'Namespace'");
  else if (scope === 'Cluster' && namespace !== undefined) problems.forbidden(`${path}.namespace`, "`parameters.scope` is set to 'Cluster'");
}

/** The controller of an IngressClass never changes. */
export function validateIngressClassUpdate(object: unknown, old: unknown, problems: Problems): void {
  immutable(text(part(object, 'spec'), 'controller'), text(part(old, 'spec'), 'controller'), 'spec.controller', problems);
}

/** Checks a NetworkPolicy: selectors, ports and address blocks. */
export function validateNetworkPolicy(object: unknown, problems: Problems): void {
  const spec = part(object, 'spec');
  validateLabelSelector(maybePart(spec, 'podSelector'), 'spec.podSelector', problems);
  for (const [field, peerField] of [['ingress', 'from'], ['egress', 'to']] as const) {
    parts(spec, field).forEach((rule, index) => {
      const path = `spec.${field}[${index}]`;
      parts(rule, 'ports').forEach((port, at) => {
        const protocol = text(port, 'protocol');
        if (protocol !== '' && !protocols.includes(protocol)) problems.notSupported(`${path}.ports[${at}].protocol`, protocol, protocols);
        validatePortOrName(port['port'], `${path}.ports[${at}].port`, problems);
      });
      parts(rule, peerField).forEach((peer, at) => validatePeer(peer, `${path}.${peerField}[${at}]`, problems));
    });
  }
  texts(spec, 'policyTypes').forEach((type, index) => { if (type !== 'Ingress' && type !== 'Egress') problems.notSupported(`spec.policyTypes[${index}]`, type, ['Egress', 'Ingress']); });
}

function validatePeer(peer: Fields, path: string, problems: Problems): void {
  const block = maybePart(peer, 'ipBlock');
  const selectors = ['podSelector', 'namespaceSelector'].filter((field) => maybePart(peer, field) !== undefined);
  for (const field of selectors) validateLabelSelector(maybePart(peer, field), `${path}.${field}`, problems);
  if (selectors.length === 0 && block === undefined) problems.required(path, 'must specify a peer');
  else if (selectors.length > 0 && block !== undefined) problems.forbidden(path, 'may not specify both ipBlock and another peer');
  if (block === undefined) return;
  const cidr = text(block, 'cidr');
  if (cidr === '') problems.required(`${path}.ipBlock.cidr`); else problems.invalidEach(`${path}.ipBlock.cidr`, cidr, checkCidr(cidr));
  texts(block, 'except').forEach((range, index) => problems.invalidEach(`${path}.ipBlock.except[${index}]`, range, checkCidr(range)));
}
