// Names, labels and selectors as Kubernetes defines them, plus the well-known label and annotation names that
// netloom reads or writes. Pure functions; called by every component.
// Source: kubernetes.io "Object Names and IDs", "Labels and Selectors"; apimachinery labels.Parse.

import { NetloomError } from './errors.ts';
import type { KubeObject, LabelSelector } from './types.ts';

export const labels = Object.freeze({
  serviceName: 'kubernetes.io/service-name',
  sliceManagedBy: 'endpointslice.kubernetes.io/managed-by',
  skipMirror: 'endpointslice.kubernetes.io/skip-mirror',
  headless: 'service.kubernetes.io/headless',
  proxyName: 'service.kubernetes.io/service-proxy-name',
  namespaceName: 'kubernetes.io/metadata.name',
  hostname: 'kubernetes.io/hostname',
  os: 'kubernetes.io/os',
  arch: 'kubernetes.io/arch',
  zone: 'topology.kubernetes.io/zone',
  region: 'topology.kubernetes.io/region',
  podTemplateHash: 'pod-template-hash',
});

export const annotations = Object.freeze({
  lastChangeTriggerTime: 'endpoints.kubernetes.io/last-change-trigger-time',
  overCapacity: 'endpoints.kubernetes.io/over-capacity',
  topologyMode: 'service.kubernetes.io/topology-mode',
  defaultIngressClass: 'ingressclass.kubernetes.io/is-default-class',
  ingressClass: 'kubernetes.io/ingress.class',
  lastApplied: 'kubectl.kubernetes.io/last-applied-configuration',
  revision: 'deployment.kubernetes.io/revision',
  leader: 'control-plane.alpha.kubernetes.io/leader',
});

/** 'namespace/name', or 'name' for cluster-scoped objects: the key of stores, queues and log fields. */
export function objectKey(object: { metadata: { name: string; namespace?: string } }): string {
  const { name, namespace } = object.metadata;
  return namespace === undefined || namespace === '' ? name : `${namespace}/${name}`;
}

/** The parts of an object key; `namespace` is '' for cluster-scoped objects. */
export function splitKey(key: string): { namespace: string; name: string } {
  const slash = key.indexOf('/');
  return slash < 0 ? { namespace: '', name: key } : { namespace: key.slice(0, slash), name: key.slice(slash + 1) };
}

const dnsLabel = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const dnsSubdomain = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const qualifiedPart = /^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$/;

/** RFC 1123 label, at most 63 characters. */
export function isDnsLabel(text: string): boolean { return text.length <= 63 && dnsLabel.test(text); }

/** RFC 1035 label (starts with a letter), at most 63 characters: names of Services. */
export function isDns1035Label(text: string): boolean { return text.length <= 63 && /^[a-z]([-a-z0-9]*[a-z0-9])?$/.test(text); }

/** RFC 1123 subdomain, at most 253 characters. */
export function isDnsSubdomain(text: string): boolean { return text.length <= 253 && dnsSubdomain.test(text); }

/** Label and annotation keys: an optional DNS subdomain prefix, '/', then up to 63 characters. */
export function isQualifiedName(text: string): boolean {
  const parts = text.split('/');
  if (parts.length > 2) return false;
  const name = parts[parts.length - 1] ?? '';
  if (parts.length === 2 && !isDnsSubdomain(parts[0] ?? '')) return false;
  return name.length <= 63 && qualifiedPart.test(name);
}

/** Label values: empty, or up to 63 characters that begin and end alphanumeric. */
export function isLabelValue(text: string): boolean { return text === '' || (text.length <= 63 && qualifiedPart.test(text)); }

type Operator = '=' | '!=' | 'in' | 'notin' | 'exists' | '!exists' | '>' | '<';
export interface Requirement { readonly key: string; readonly operator: Operator; readonly values: readonly string[] }

/** A conjunction of label requirements. An empty selector matches everything. */
export interface Selector {
  readonly requirements: readonly Requirement[];
  readonly isEmpty: boolean;
  matches(labels: Readonly<Record<string, string>> | undefined): boolean;
  toString(): string;
}

function makeSelector(requirements: readonly Requirement[]): Selector {
  return Object.freeze({
    requirements,
    isEmpty: requirements.length === 0,
    matches(labelMap: Readonly<Record<string, string>> | undefined): boolean {
      for (const requirement of requirements) if (!isMet(requirement, labelMap)) return false;
      return true;
    },
    toString: (): string => requirements.map(formatRequirement).join(','),
  });
}

function isMet(requirement: Requirement, labelMap: Readonly<Record<string, string>> | undefined): boolean {
  const value = labelMap !== undefined && Object.hasOwn(labelMap, requirement.key) ? labelMap[requirement.key] : undefined;
  switch (requirement.operator) {
    case '=': return value === requirement.values[0];
    case 'in': return value !== undefined && requirement.values.includes(value);
    case '!=': return value !== requirement.values[0];
    case 'notin': return value === undefined || !requirement.values.includes(value);
    case 'exists': return value !== undefined;
    case '!exists': return value === undefined;
    case '>': return value !== undefined && Number(value) > Number(requirement.values[0]);
    case '<': return value !== undefined && Number(value) < Number(requirement.values[0]);
  }
}

function formatRequirement({ key, operator, values }: Requirement): string {
  switch (operator) {
    case 'exists': return key;
    case '!exists': return `!${key}`;
    case 'in': case 'notin': return `${key} ${operator} (${values.join(',')})`;
    default: return `${key}${operator}${values[0]}`;
  }
}

/** Selects by exact labels, as Service.spec.selector does. */
export function selectorFromMap(map: Readonly<Record<string, string>>): Selector {
  return makeSelector(Object.entries(map).map(([key, value]) => ({ key, operator: '=', values: [value] })));
}

/** Selects by a LabelSelector object, as Deployment.spec.selector does. */
export function selectorFromLabelSelector(selector: LabelSelector): Selector {
  const requirements: Requirement[] = Object.entries(selector.matchLabels ?? {}).map(([key, value]) => ({ key, operator: '=', values: [value] }));
  const operators = { In: 'in', NotIn: 'notin', Exists: 'exists', DoesNotExist: '!exists' } as const;
  for (const { key, operator, values } of selector.matchExpressions ?? []) requirements.push({ key, operator: operators[operator], values: values ?? [] });
  return makeSelector(requirements);
}

const token = /\s*(?:(==|!=|=|!|,|\(|\)|>|<)|([^\s=!,()<>]+))/y;

/** Parses kubectl's `-l` syntax, set-based forms included. Throws BadRequest on anything else. */
export function parseLabelSelector(text: string): Selector {
  const tokens: string[] = [];
  token.lastIndex = 0;
  const trimmed = text.trim();
  while (token.lastIndex < trimmed.length) {
    const match = token.exec(trimmed);
    if (match === null) throw badSelector(text, 'unexpected character');
    tokens.push(match[1] ?? match[2] ?? '');
  }
  let position = 0;
  const next = (): string | undefined => tokens[position++];
  const requirements: Requirement[] = [];
  while (position < tokens.length) {
    requirements.push(parseRequirement(next, () => tokens[position], text));
    const separator = next();
    if (separator !== undefined && separator !== ',') throw badSelector(text, `found '${separator}', expected: ',' or 'end of string'`);
    if (separator === ',' && position === tokens.length) throw badSelector(text, "found '', expected: identifier after ','");
  }
  return makeSelector(requirements);
}

function parseRequirement(next: () => string | undefined, peek: () => string | undefined, text: string): Requirement {
  const first = next() ?? '';
  if (first === '!') return { key: checkKey(next(), text), operator: '!exists', values: [] };
  const key = checkKey(first, text);
  const operator = peek();
  if (operator === undefined || operator === ',') return { key, operator: 'exists', values: [] };
  next();
  if (operator === 'in' || operator === 'notin') return { key, operator, values: parseValues(next, text) };
  if (operator !== '=' && operator !== '==' && operator !== '!=' && operator !== '>' && operator !== '<') throw badSelector(text, `found '${operator}', expected: in, notin, =, ==, !=, gt, lt`);
  const following = peek();
  const value = following === undefined || following === ',' ? '' : (next() ?? '');
  if ((operator === '>' || operator === '<') && !/^-?\d+$/.test(value)) throw badSelector(text, `values: Invalid value: "${value}": for 'Gt', 'Lt' operators, the value must be an integer`);
  return { key, operator: operator === '==' ? '=' : operator, values: [checkValue(value, text)] };
}

function parseValues(next: () => string | undefined, text: string): string[] {
  if (next() !== '(') throw badSelector(text, "expected: '('");
  const values: string[] = [];
  for (let part = next(); ; part = next()) {
    if (part === ')') { values.push(''); return values; }
    if (part === undefined) throw badSelector(text, "found '', expected: ',', or ')'");
    if (part === ',') { values.push(''); continue; }
    values.push(checkValue(part, text));
    const separator = next();
    if (separator === ')') return values;
    if (separator !== ',') throw badSelector(text, `found '${separator ?? ''}', expected: ',', or ')'`);
  }
}

function checkKey(key: string | undefined, text: string): string {
  if (key === undefined || !isQualifiedName(key)) throw badSelector(text, `key: Invalid value: "${key ?? ''}": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character`);
  return key;
}

function checkValue(value: string, text: string): string {
  if (!isLabelValue(value)) throw badSelector(text, `values: Invalid value: "${value}": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.'`);
  return value;
}

function badSelector(text: string, reason: string): NetloomError {
  return new NetloomError('BadRequest', `unable to parse requirement: ${reason}`, { source: 'downstream', context: { selector: text } });
}

/** Whether the object carries the owner as its controller. */
export function isControlledBy(object: KubeObject, uid: string): boolean {
  return object.metadata.ownerReferences?.some((owner) => owner.controller === true && owner.uid === uid) ?? false;
}
