// Rules of containers inside a Pod spec: names, images, ports, environment, mounts, probes, resources. Called by `pod`.
// Source: kubernetes pkg/apis/core/validation validateContainers, validateProbe, ValidateResourceRequirements.

import { quantityNanos } from '../schema/body/scalars.ts';
import type { Fields } from './fields.ts';
import { entries, maybePart, number, part, parts, text, texts } from './fields.ts';
import { checkDnsLabel, checkEnvName, checkPortName, checkPortNumber, checkQualifiedName, checkSubdomain } from './names.ts';
import type { Problems } from './problems.ts';
import { validatePortOrName, validateProtocol } from './service.ts';

const pullPolicies = ['Always', 'IfNotPresent', 'Never'];
const messagePolicies = ['FallbackToLogsOnError', 'File'];
const fieldPaths = ['metadata.name', 'metadata.namespace', 'metadata.uid', 'spec.nodeName', 'spec.serviceAccountName', 'status.hostIP', 'status.hostIPs', 'status.podIP', 'status.podIPs'];

/** Checks containers and initContainers of a Pod spec. `volumeNames` are the volumes that mounts may name. */
export function validateContainers(spec: Fields, path: string, volumeNames: ReadonlySet<string>, problems: Problems): void {
  const names = new Set<string>();
  const isHostNetwork = spec['hostNetwork'] === true;
  if (parts(spec, 'containers').length === 0) problems.required(`${path}.containers`);
  for (const field of ['containers', 'initContainers'] as const) {
    parts(spec, field).forEach((container, index) => {
      const at = `${path}.${field}[${index}]`;
      validateContainer(container, at, volumeNames, isHostNetwork, problems);
      const name = text(container, 'name');
      if (names.has(name)) problems.duplicate(`${at}.name`, name);
      names.add(name);
      const restart = text(container, 'restartPolicy');
      const mayProbe = field === 'containers' || restart === 'Always';
      if (restart !== '' && field === 'containers') problems.forbidden(`${at}.restartPolicy`, 'may not be set for non-init containers');
      if (restart !== '' && field === 'initContainers' && restart !== 'Always') problems.notSupported(`${at}.restartPolicy`, restart, ['Always']);
      if (!mayProbe) for (const probe of ['livenessProbe', 'readinessProbe', 'startupProbe', 'lifecycle']) if (maybePart(container, probe) !== undefined) problems.forbidden(`${at}.${probe}`, 'may not be set for init containers without restartPolicy=Always');
    });
  }
  validateHostPorts(spec, path, problems);
}

function validateContainer(container: Fields, path: string, volumeNames: ReadonlySet<string>, isHostNetwork: boolean, problems: Problems): void {
  const name = text(container, 'name');
  const image = text(container, 'image');
  if (name === '') problems.required(`${path}.name`); else problems.invalidEach(`${path}.name`, name, checkDnsLabel(name));
  if (image === '') problems.required(`${path}.image`);
  else if (image !== image.trim()) problems.invalid(`${path}.image`, image, 'must not have leading or trailing whitespace');
  const pull = text(container, 'imagePullPolicy');
  if (pull === '') problems.required(`${path}.imagePullPolicy`); else if (!pullPolicies.includes(pull)) problems.notSupported(`${path}.imagePullPolicy`, pull, pullPolicies);
  const messagePolicy = text(container, 'terminationMessagePolicy');
  if (messagePolicy === '') problems.required(`${path}.terminationMessagePolicy`);
  else if (!messagePolicies.includes(messagePolicy)) problems.notSupported(`${path}.terminationMessagePolicy`, messagePolicy, messagePolicies);
  validatePorts(parts(container, 'ports'), path, isHostNetwork, problems);
  validateEnv(container, path, problems);
  validateMounts(container, path, volumeNames, problems);
  for (const field of ['livenessProbe', 'readinessProbe', 'startupProbe']) validateProbe(maybePart(container, field), `${path}.${field}`, field === 'readinessProbe', problems);
  for (const field of ['postStart', 'preStop']) {
    const handler = maybePart(maybePart(container, 'lifecycle'), field);
    if (handler !== undefined) validateHandler(handler, ['exec', 'httpGet', 'sleep', 'tcpSocket'], `${path}.lifecycle.${field}`, problems);
  }
  validateResources(maybePart(container, 'resources'), `${path}.resources`, problems);
}

function validatePorts(ports: readonly Fields[], path: string, isHostNetwork: boolean, problems: Problems): void {
  const names = new Set<string>();
  ports.forEach((port, index) => {
    const at = `${path}.ports[${index}]`;
    const name = text(port, 'name');
    const value = number(port, 'containerPort') ?? 0;
    const hostPort = number(port, 'hostPort') ?? 0;
    if (name !== '') {
      const complaints = checkPortName(name);
      problems.invalidEach(`${at}.name`, name, complaints);
      if (complaints.length === 0 && names.has(name)) problems.duplicate(`${at}.name`, name);
      names.add(name);
    }
    if (value === 0) problems.required(`${at}.containerPort`); else problems.invalidEach(`${at}.containerPort`, value, checkPortNumber(value));
    if (hostPort !== 0) problems.invalidEach(`${at}.hostPort`, hostPort, checkPortNumber(hostPort));
    if (isHostNetwork && hostPort !== value) problems.invalid(`${at}.hostPort`, hostPort, 'must match `containerPort` when `hostNetwork` is true');
    validateProtocol(text(port, 'protocol'), `${at}.protocol`, problems);
  });
}

/** Two containers of one Pod cannot hold the same port of the host. */
function validateHostPorts(spec: Fields, path: string, problems: Problems): void {
  const seen = new Set<string>();
  parts(spec, 'containers').forEach((container, index) => parts(container, 'ports').forEach((port, at) => {
    const hostPort = number(port, 'hostPort') ?? 0;
    if (hostPort === 0) return;
    const key = `${text(port, 'protocol')}/${text(port, 'hostIP')}/${hostPort}`;
    if (seen.has(key)) problems.duplicate(`${path}.containers[${index}].ports[${at}].hostPort`, key);
    seen.add(key);
  }));
}

function validateEnv(container: Fields, path: string, problems: Problems): void {
  parts(container, 'env').forEach((variable, index) => {
    const at = `${path}.env[${index}]`;
    const name = text(variable, 'name');
    if (name === '') problems.required(`${at}.name`); else problems.invalidEach(`${at}.name`, name, checkEnvName(name));
    const from = maybePart(variable, 'valueFrom');
    if (from === undefined) return;
    const sources = ['fieldRef', 'resourceFieldRef', 'configMapKeyRef', 'secretKeyRef'].filter((field) => maybePart(from, field) !== undefined);
    if (text(variable, 'value') !== '') problems.invalid(`${at}.valueFrom`, '', 'may not be specified when `value` is not empty');
    if (sources.length === 0) problems.invalid(`${at}.valueFrom`, '', 'must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`');
    else if (sources.length > 1) problems.invalid(`${at}.valueFrom`, '', 'may not have more than one field specified at a time');
    for (const source of sources) validateEnvSource(part(from, source), source, `${at}.valueFrom.${source}`, problems);
  });
  parts(container, 'envFrom').forEach((source, index) => {
    const at = `${path}.envFrom[${index}]`;
    const kinds = ['configMapRef', 'secretRef'].filter((field) => maybePart(source, field) !== undefined);
    if (kinds.length !== 1) problems.invalid(at, '', kinds.length === 0 ? 'must specify one of: `configMapRef` or `secretRef`' : 'may not have more than one field specified at a time');
    for (const kind of kinds) if (text(part(source, kind), 'name') === '') problems.required(`${at}.${kind}.name`);
  });
}

function validateEnvSource(source: Fields, kind: string, path: string, problems: Problems): void {
  if (kind === 'fieldRef') {
    const fieldPath = text(source, 'fieldPath');
    if (fieldPath === '') problems.required(`${path}.fieldPath`);
    else if (!fieldPaths.includes(fieldPath) && !/^metadata\.(labels|annotations)\['.+'\]$/.test(fieldPath)) problems.notSupported(`${path}.fieldPath`, fieldPath, fieldPaths);
  } else if (kind === 'resourceFieldRef') {
    if (text(source, 'resource') === '') problems.required(`${path}.resource`);
  } else if (text(source, 'key') === '') problems.required(`${path}.key`);
}

function validateMounts(container: Fields, path: string, volumeNames: ReadonlySet<string>, problems: Problems): void {
  const places = new Set<string>();
  parts(container, 'volumeMounts').forEach((mount, index) => {
    const at = `${path}.volumeMounts[${index}]`;
    const name = text(mount, 'name');
    const place = text(mount, 'mountPath');
    if (name === '') problems.required(`${at}.name`);
    else if (!volumeNames.has(name)) problems.causes.push({ reason: 'FieldValueNotFound', message: `Not found: ${JSON.stringify(name)}`, field: `${at}.name` });
    if (place === '') problems.required(`${at}.mountPath`);
    else if (places.has(place)) problems.invalid(`${at}.mountPath`, place, 'must be unique');
    places.add(place);
    const subPath = text(mount, 'subPath');
    if (subPath.startsWith('/')) problems.invalid(`${at}.subPath`, subPath, 'must be a relative path');
    if (subPath.split('/').includes('..')) problems.invalid(`${at}.subPath`, subPath, "must not contain '..'");
  });
}

function validateProbe(probe: Fields | undefined, path: string, mayFailOften: boolean, problems: Problems): void {
  if (probe === undefined) return;
  validateHandler(probe, ['exec', 'grpc', 'httpGet', 'tcpSocket'], path, problems);
  for (const field of ['initialDelaySeconds', 'timeoutSeconds', 'periodSeconds', 'successThreshold', 'failureThreshold']) {
    const value = number(probe, field) ?? 0;
    if (value < 0) problems.invalid(`${path}.${field}`, value, 'must be greater than or equal to 0');
  }
  const successes = number(probe, 'successThreshold') ?? 1;
  if (!mayFailOften && successes !== 1) problems.invalid(`${path}.successThreshold`, successes, 'must be 1');
  const grace = number(probe, 'terminationGracePeriodSeconds');
  if (grace !== undefined && grace <= 0) problems.invalid(`${path}.terminationGracePeriodSeconds`, grace, 'must be greater than 0');
  if (grace !== undefined && mayFailOften) problems.invalid(`${path}.terminationGracePeriodSeconds`, grace, 'must not be set for readinessProbes');
}

function validateHandler(handler: Fields, kinds: readonly string[], path: string, problems: Problems): void {
  const set = kinds.filter((kind) => maybePart(handler, kind) !== undefined);
  if (set.length === 0) problems.required(path, 'must specify a handler type');
  set.slice(1).forEach((kind) => problems.forbidden(`${path}.${kind}`, 'may not specify more than 1 handler type'));
  const exec = maybePart(handler, 'exec');
  if (exec !== undefined && texts(exec, 'command').length === 0) problems.required(`${path}.exec.command`);
  const get = maybePart(handler, 'httpGet');
  if (get !== undefined) {
    if (text(get, 'path') === '') problems.required(`${path}.httpGet.path`);
    validatePortOrName(get['port'], `${path}.httpGet.port`, problems);
    const scheme = text(get, 'scheme');
    if (scheme !== 'HTTP' && scheme !== 'HTTPS') problems.notSupported(`${path}.httpGet.scheme`, scheme, ['HTTP', 'HTTPS']);
    parts(get, 'httpHeaders').forEach((header) => { if (!/^[-A-Za-z0-9]+$/.test(text(header, 'name'))) problems.invalid(`${path}.httpGet.httpHeaders`, text(header, 'name'), "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')"); });
  }
  const tcp = maybePart(handler, 'tcpSocket');
  if (tcp !== undefined) validatePortOrName(tcp['port'], `${path}.tcpSocket.port`, problems);
  const grpc = maybePart(handler, 'grpc');
  if (grpc !== undefined) problems.invalidEach(`${path}.grpc.port`, grpc['port'], checkPortNumber(number(grpc, 'port') ?? 0));
}

function validateResources(resources: Fields | undefined, path: string, problems: Problems): void {
  const limits = new Map(entries(resources, 'limits'));
  for (const [field, list] of [['limits', [...limits]], ['requests', entries(resources, 'requests')]] as const) {
    for (const [name, value] of list) {
      const at = `${path}.${field}[${name}]`;
      problems.invalidEach(at, name, checkQualifiedName(name));
      const nanos = quantityNanos(String(value)) ?? 0n;
      if (nanos < 0n) problems.invalid(at, value, 'must be greater than or equal to 0');
      const limit = field === 'requests' ? limits.get(name) : undefined;
      if (limit !== undefined && nanos > (quantityNanos(String(limit)) ?? 0n)) problems.invalid(`${path}.requests`, value, `must be less than or equal to ${name} limit of ${String(limit)}`);
    }
  }
}

/** A DNS subdomain or nothing, for names of referenced objects. */
export function validateObjectName(name: string, path: string, problems: Problems): void {
  if (name === '') problems.required(path); else problems.invalidEach(path, name, checkSubdomain(name));
}
