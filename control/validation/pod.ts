// Rules of Pods and Pod templates. Called by `validate` and `workloads`. Containers: `container`; volumes: `volume`.
// Source: kubernetes pkg/apis/core/validation ValidatePodSpec, ValidatePodUpdate, ValidatePodStatusUpdate.

import { cloneJson, equalJson } from '../schema/schema.ts';
import { validateContainers } from './container.ts';
import type { Fields } from './fields.ts';
import { maybePart, number, part, parts, text, texts } from './fields.ts';
import { validateAnnotations, validateLabelSelector, validateLabels } from './metadata.ts';
import { checkDnsLabel, checkIP, checkLabelValue, checkQualifiedName, checkSubdomain } from './names.ts';
import type { Problems } from './problems.ts';
import { validateVolumes } from './volume.ts';

const restartPolicies = ['Always', 'Never', 'OnFailure'];
const dnsPolicies = ['ClusterFirst', 'ClusterFirstWithHostNet', 'Default', 'None'];
const taintEffects = ['NoExecute', 'NoSchedule', 'PreferNoSchedule'];

/** Checks a Pod spec at `path` (`spec`, `spec.template.spec`). */
export function validatePodSpec(spec: Fields, path: string, problems: Problems): void {
  const volumeNames = validateVolumes(parts(spec, 'volumes'), `${path}.volumes`, problems);
  validateContainers(spec, path, volumeNames, problems);
  const restart = text(spec, 'restartPolicy');
  if (restart === '') problems.required(`${path}.restartPolicy`);
  else if (!restartPolicies.includes(restart)) problems.notSupported(`${path}.restartPolicy`, restart, restartPolicies);
  validateDns(spec, path, problems);
  validateLabels(spec, 'nodeSelector', `${path}.nodeSelector`, problems);
  const accountName = text(spec, 'serviceAccountName');
  if (accountName !== '') problems.invalidEach(`${path}.serviceAccountName`, accountName, checkSubdomain(accountName));
  const nodeName = text(spec, 'nodeName');
  if (nodeName !== '') problems.invalidEach(`${path}.nodeName`, nodeName, checkSubdomain(nodeName));
  const deadline = number(spec, 'activeDeadlineSeconds');
  if (deadline !== undefined && (deadline < 1 || deadline > 2147483647)) problems.invalid(`${path}.activeDeadlineSeconds`, deadline, 'must be between 1 and 2147483647, inclusive');
  for (const field of ['hostname', 'subdomain']) if (text(spec, field) !== '') problems.invalidEach(`${path}.${field}`, text(spec, field), checkDnsLabel(text(spec, field)));
  const className = text(spec, 'priorityClassName');
  if (className !== '') problems.invalidEach(`${path}.priorityClassName`, className, checkSubdomain(className));
  const scheduler = text(spec, 'schedulerName');
  if (scheduler !== '') problems.invalidEach(`${path}.schedulerName`, scheduler, checkQualifiedName(scheduler));
  const grace = number(spec, 'terminationGracePeriodSeconds');
  if (grace !== undefined && grace < 0) problems.invalid(`${path}.terminationGracePeriodSeconds`, grace, 'must be greater than or equal to 0');
  validateTolerations(parts(spec, 'tolerations'), `${path}.tolerations`, problems);
  validateSpread(parts(spec, 'topologySpreadConstraints'), `${path}.topologySpreadConstraints`, problems);
  parts(spec, 'hostAliases').forEach((alias, index) => {
    problems.invalidEach(`${path}.hostAliases[${index}].ip`, text(alias, 'ip'), checkIP(text(alias, 'ip')));
    texts(alias, 'hostnames').forEach((name) => problems.invalidEach(`${path}.hostAliases[${index}].hostnames`, name, checkSubdomain(name)));
  });
  parts(spec, 'imagePullSecrets').forEach((secret, index) => { if (text(secret, 'name') === '') problems.required(`${path}.imagePullSecrets[${index}].name`); });
  parts(spec, 'readinessGates').forEach((gate, index) => problems.invalidEach(`${path}.readinessGates[${index}].conditionType`, text(gate, 'conditionType'), checkQualifiedName(text(gate, 'conditionType'))));
  const seenGates = new Set<string>();
  parts(spec, 'schedulingGates').forEach((gate, index) => {
    const name = text(gate, 'name');
    problems.invalidEach(`${path}.schedulingGates[${index}]`, name, checkQualifiedName(name));
    if (seenGates.has(name)) problems.duplicate(`${path}.schedulingGates[${index}]`, name);
    seenGates.add(name);
  });
}

function validateDns(spec: Fields, path: string, problems: Problems): void {
  const policy = text(spec, 'dnsPolicy');
  if (policy === '') problems.required(`${path}.dnsPolicy`);
  else if (!dnsPolicies.includes(policy)) problems.notSupported(`${path}.dnsPolicy`, policy, dnsPolicies);
  const config = maybePart(spec, 'dnsConfig');
  const servers = texts(config, 'nameservers');
  if (policy === 'None' && config === undefined) problems.required(`${path}.dnsConfig`, 'must provide `dnsConfig` when `dnsPolicy` is None');
  else if (policy === 'None' && servers.length === 0) problems.required(`${path}.dnsConfig.nameservers`, 'must provide at least one DNS nameserver when `dnsPolicy` is None');
  if (servers.length > 3) problems.invalid(`${path}.dnsConfig.nameservers`, servers, 'must not have more than 3 nameservers');
  servers.forEach((server, index) => problems.invalidEach(`${path}.dnsConfig.nameservers[${index}]`, server, checkIP(server)));
  const searches = texts(config, 'searches');
  if (searches.length > 32) problems.invalid(`${path}.dnsConfig.searches`, searches, 'must not have more than 32 search paths');
  searches.forEach((search, index) => problems.invalidEach(`${path}.dnsConfig.searches[${index}]`, search, search === '.' ? [] : checkSubdomain(search.replace(/\.$/, ''))));
  parts(config, 'options').forEach((option, index) => { if (text(option, 'name') === '') problems.required(`${path}.dnsConfig.options[${index}]`, 'must not be empty'); });
}

function validateTolerations(tolerations: readonly Fields[], path: string, problems: Problems): void {
  tolerations.forEach((toleration, index) => {
    const at = `${path}[${index}]`;
    const key = text(toleration, 'key');
    const operator = text(toleration, 'operator');
    const effect = text(toleration, 'effect');
    if (key !== '') problems.invalidEach(`${at}.key`, key, checkQualifiedName(key));
    if (key === '' && operator !== 'Exists') problems.invalid(`${at}.operator`, operator, "operator must be Exists when `key` is empty, which means \"match all values and all keys\"");
    if (toleration['tolerationSeconds'] !== undefined && effect !== 'NoExecute') problems.invalid(`${at}.effect`, effect, "effect must be 'NoExecute' when `tolerationSeconds` is set");
    if (operator === 'Exists') { if (text(toleration, 'value') !== '') problems.invalid(`${at}.operator`, toleration, "value must be empty when `operator` is 'Exists'"); }
    else if (operator === 'Equal' || operator === '') problems.invalidEach(`${at}.operator`, text(toleration, 'value'), checkLabelValue(text(toleration, 'value')));
    else problems.notSupported(`${at}.operator`, operator, ['Equal', 'Exists']);
    if (effect !== '' && !taintEffects.includes(effect)) problems.notSupported(`${at}.effect`, effect, taintEffects);
  });
}

function validateSpread(constraints: readonly Fields[], path: string, problems: Problems): void {
  constraints.forEach((constraint, index) => {
    const at = `${path}[${index}]`;
    const skew = number(constraint, 'maxSkew') ?? 0;
    if (skew <= 0) problems.invalid(`${at}.maxSkew`, skew, 'must be greater than zero');
    if (text(constraint, 'topologyKey') === '') problems.required(`${at}.topologyKey`, 'can not be empty');
    const action = text(constraint, 'whenUnsatisfiable');
    if (action !== 'DoNotSchedule' && action !== 'ScheduleAnyway') problems.notSupported(`${at}.whenUnsatisfiable`, action, ['DoNotSchedule', 'ScheduleAnyway']);
    validateLabelSelector(maybePart(constraint, 'labelSelector'), `${at}.labelSelector`, problems);
  });
}

/** Checks a Pod template: its metadata and spec. `path` is `spec.template`. */
export function validatePodTemplate(template: Fields, path: string, problems: Problems): void {
  const metadata = part(template, 'metadata');
  validateLabels(metadata, 'labels', `${path}.labels`, problems);
  validateAnnotations(metadata, `${path}.annotations`, problems);
  validatePodSpec(part(template, 'spec'), `${path}.spec`, problems);
}

/** The few fields of a Pod spec that may change after creation. */
export function validatePodUpdate(pod: unknown, old: unknown, problems: Problems): void {
  const spec = part(pod, 'spec');
  const before = part(old, 'spec');
  for (const field of ['containers', 'initContainers']) {
    if (parts(spec, field).length !== parts(before, field).length) { problems.forbidden(`spec.${field}`, 'pod updates may not add or remove containers'); return; }
  }
  const deadline = number(spec, 'activeDeadlineSeconds');
  const deadlineBefore = number(before, 'activeDeadlineSeconds');
  if (deadlineBefore !== undefined && (deadline === undefined || deadline > deadlineBefore)) problems.invalid('spec.activeDeadlineSeconds', deadline, deadline === undefined ? 'must not update from a positive integer to nil value' : 'must be less than or equal to previous value');
  const tolerations = parts(spec, 'tolerations');
  for (const toleration of parts(before, 'tolerations')) {
    if (!tolerations.some((other) => equalJson({ ...other, tolerationSeconds: null }, { ...toleration, tolerationSeconds: null }))) problems.forbidden('spec.tolerations', 'existing toleration can not be modified except its tolerationSeconds');
  }
  if (!equalJson(withoutMutable(spec, before), withoutMutable(before, before))) {
    problems.forbidden('spec', 'pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)');
  }
}

function withoutMutable(spec: Fields, before: Fields): Fields {
  const copy = cloneJson(spec);
  for (const field of ['containers', 'initContainers']) for (const container of parts(copy, field)) delete container['image'];
  for (const field of ['activeDeadlineSeconds', 'tolerations', 'ephemeralContainers', 'priority', 'priorityClassName']) delete copy[field];
  if ((number(before, 'terminationGracePeriodSeconds') ?? 0) < 0) delete copy['terminationGracePeriodSeconds'];
  if (parts(before, 'schedulingGates').length > 0) { delete copy['schedulingGates']; delete copy['nodeSelector']; delete copy['affinity']; }
  return copy;
}

/** Checks the status subresource of a Pod. */
export function validatePodStatus(pod: unknown, old: unknown, problems: Problems): void {
  const status = part(pod, 'status');
  const before = part(old, 'status');
  const nodeName = text(part(pod, 'spec'), 'nodeName');
  const nominated = text(status, 'nominatedNodeName');
  if (nominated !== '' && nominated !== text(before, 'nominatedNodeName') && nodeName === '') problems.invalidEach('status.nominatedNodeName', nominated, checkSubdomain(nominated));
  parts(status, 'podIPs').forEach((entry, index) => problems.invalidEach(`status.podIPs[${index}].ip`, text(entry, 'ip'), checkIP(text(entry, 'ip'))));
  parts(status, 'conditions').forEach((condition, index) => {
    const value = text(condition, 'status');
    if (!['True', 'False', 'Unknown'].includes(value)) problems.notSupported(`status.conditions[${index}].status`, value, ['False', 'True', 'Unknown']);
  });
}
