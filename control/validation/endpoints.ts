// Rules of EndpointSlices and Endpoints. Called by `validate`. Special addresses are refused here as in Kubernetes; the wider policy
// (service ranges, agent ports) is admission's.
// Source: kubernetes pkg/apis/discovery/validation, pkg/apis/core/validation ValidateEndpoints.

import { familyOf } from '../../api/address.ts';
import type { Fields } from './fields.ts';
import { maybePart, number, parts, text, texts } from './fields.ts';
import { immutable, validateLabels } from './metadata.ts';
import { checkDnsLabel, checkIP, checkLabelValue, checkNonSpecialIP, checkPortNumber, checkQualifiedName, checkSubdomain } from './names.ts';
import type { Problems } from './problems.ts';
import { validateProtocol } from './service.ts';

const addressTypes = ['FQDN', 'IPv4', 'IPv6'];
const endpointCountMax = 1000;
const addressCountMax = 100;
const portCountMax = 20_000;
const zoneHintCountMax = 8;
const topologyCountMax = 16;

/** What is allowed as an endpoint address. `allows` returns a reason when policy refuses an address (loopback Pod ranges: none). */
export interface EndpointOptions {
  /** True for addresses that are endpoints here although they are special: the loopback Pod range of rootless mode. */
  readonly isPodAddress?: (ip: string) => boolean;
}

/** Checks an EndpointSlice. */
export function validateSlice(slice: unknown, options: EndpointOptions, problems: Problems): void {
  const addressType = text(slice, 'addressType');
  if (addressType === '') problems.required('addressType');
  else if (!addressTypes.includes(addressType)) problems.notSupported('addressType', addressType, addressTypes);
  const endpoints = parts(slice, 'endpoints');
  if (endpoints.length > endpointCountMax) problems.tooMany('endpoints', endpoints.length, endpointCountMax);
  else endpoints.forEach((endpoint, index) => validateSliceEndpoint(endpoint, addressType, `endpoints[${index}]`, options, problems));
  validateSlicePorts(parts(slice, 'ports'), problems);
}

function validateSliceEndpoint(endpoint: Fields, addressType: string, path: string, options: EndpointOptions, problems: Problems): void {
  const addresses = texts(endpoint, 'addresses');
  if (addresses.length === 0) problems.required(`${path}.addresses`, 'must contain at least 1 address');
  else if (addresses.length > addressCountMax) problems.tooMany(`${path}.addresses`, addresses.length, addressCountMax);
  addresses.forEach((address, index) => problems.invalidEach(`${path}.addresses[${index}]`, address, checkSliceAddress(address, addressType, options)));
  const nodeName = endpoint['nodeName'];
  if (typeof nodeName === 'string') problems.invalidEach(`${path}.nodeName`, nodeName, checkSubdomain(nodeName));
  const topology = maybePart(endpoint, 'deprecatedTopology');
  if (topology !== undefined && Object.keys(topology).length > topologyCountMax) problems.tooMany(`${path}.deprecatedTopology`, Object.keys(topology).length, topologyCountMax);
  validateLabels(endpoint, 'deprecatedTopology', `${path}.deprecatedTopology`, problems);
  const hostname = endpoint['hostname'];
  if (typeof hostname === 'string') problems.invalidEach(`${path}.hostname`, hostname, checkDnsLabel(hostname));
  const hints = maybePart(endpoint, 'hints');
  if (hints === undefined) return;
  const zones = parts(hints, 'forZones');
  if (zones.length > zoneHintCountMax) { problems.tooMany(`${path}.hints.forZones`, zones.length, zoneHintCountMax); return; }
  const seen = new Set<string>();
  zones.forEach((zone, index) => {
    const name = text(zone, 'name');
    if (seen.has(name)) problems.duplicate(`${path}.hints.forZones[${index}].name`, name);
    seen.add(name);
    problems.invalidEach(`${path}.hints.forZones[${index}].name`, name, checkLabelValue(name));
  });
}

function checkSliceAddress(address: string, addressType: string, options: EndpointOptions): string[] {
  if (addressType === 'FQDN') {
    if (address === '') return ['Required value'];
    const labels = address.replace(/\.$/, '').split('.');
    if (labels.length < 2) return ['should be a domain with at least two segments separated by dots'];
    return checkSubdomain(address.replace(/\.$/, ''));
  }
  if (addressType !== 'IPv4' && addressType !== 'IPv6') return [];
  if (checkIP(address).length > 0 || familyOf(address) !== addressType) return [`must be a valid ${addressType} address`];
  return options.isPodAddress?.(address) === true ? [] : checkNonSpecialIP(address);
}

function validateSlicePorts(ports: readonly Fields[], problems: Problems): void {
  if (ports.length > portCountMax) { problems.tooMany('ports', ports.length, portCountMax); return; }
  const names = new Set<string>();
  ports.forEach((port, index) => {
    const path = `ports[${index}]`;
    const name = text(port, 'name');
    if (name !== '') problems.invalidEach(`${path}.name`, name, checkDnsLabel(name));
    if (names.has(name)) problems.duplicate(`${path}.name`, name);
    names.add(name);
    const value = number(port, 'port');
    if (value !== undefined) problems.invalidEach(`${path}.port`, value, checkPortNumber(value));
    validateProtocol(text(port, 'protocol'), `${path}.protocol`, problems);
    const appProtocol = port['appProtocol'];
    if (typeof appProtocol === 'string') problems.invalidEach(`${path}.appProtocol`, appProtocol, checkQualifiedName(appProtocol));
  });
}

/** addressType never changes. */
export function validateSliceUpdate(slice: unknown, old: unknown, problems: Problems): void {
  immutable(text(slice, 'addressType'), text(old, 'addressType'), 'addressType', problems);
}

/** Checks an Endpoints object. */
export function validateEndpoints(object: unknown, options: EndpointOptions, problems: Problems): void {
  parts(object, 'subsets').forEach((subset, index) => {
    const path = `subsets[${index}]`;
    const addresses = parts(subset, 'addresses');
    const notReady = parts(subset, 'notReadyAddresses');
    if (addresses.length === 0 && notReady.length === 0) problems.required(path, 'must specify `addresses` or `notReadyAddresses`');
    addresses.forEach((address, at) => validateEndpointAddress(address, `${path}.addresses[${at}]`, options, problems));
    notReady.forEach((address, at) => validateEndpointAddress(address, `${path}.notReadyAddresses[${at}]`, options, problems));
    const ports = parts(subset, 'ports');
    ports.forEach((port, at) => validateEndpointPort(port, `${path}.ports[${at}]`, ports.length > 1, problems));
  });
}

function validateEndpointAddress(address: Fields, path: string, options: EndpointOptions, problems: Problems): void {
  const ip = text(address, 'ip');
  const complaints = checkIP(ip);
  problems.invalidEach(`${path}.ip`, ip, complaints);
  const hostname = text(address, 'hostname');
  if (hostname !== '') problems.invalidEach(`${path}.hostname`, hostname, checkDnsLabel(hostname));
  const nodeName = address['nodeName'];
  if (typeof nodeName === 'string') problems.invalidEach(`${path}.nodeName`, nodeName, checkSubdomain(nodeName));
  if (complaints.length === 0 && options.isPodAddress?.(ip) !== true) problems.invalidEach(`${path}.ip`, ip, checkNonSpecialIP(ip));
}

function validateEndpointPort(port: Fields, path: string, isNameRequired: boolean, problems: Problems): void {
  const name = text(port, 'name');
  if (name !== '') problems.invalidEach(`${path}.name`, name, checkDnsLabel(name));
  else if (isNameRequired) problems.required(`${path}.name`);
  problems.invalidEach(`${path}.port`, port['port'] ?? 0, checkPortNumber(number(port, 'port') ?? 0));
  validateProtocol(text(port, 'protocol'), `${path}.protocol`, problems);
  const appProtocol = port['appProtocol'];
  if (typeof appProtocol === 'string') problems.invalidEach(`${path}.appProtocol`, appProtocol, checkQualifiedName(appProtocol));
}
