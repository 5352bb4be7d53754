// Why a name answers what it answers: expands it as a Pod's resolver would, finds each candidate in the zone with the
// same code that answers queries, and says for people what was found, what is missing and what to do. Pure but for
// reading the view. Called by the cli (`netloom explain dns NAME [--from POD]`).

import type { ServiceView } from '../api/services.ts';
import { canonicalIP } from '../api/address.ts';
import { planService } from './feed/plan.ts';
import { readName } from './wire/response.ts';
import { AnswerBuilder, type Template } from './wire/builder.ts';
import { rrTypes, typeName } from './wire/constants.ts';
import { isWithin, labelsOf, nameKey, nameText } from './wire/names.ts';
import { skipName, word } from './wire/query.ts';
import { addRecords } from './zone/answer.ts';
import { addressOfReverseName, findNode, reasonText, reverseLabels, type Node } from './zone/find.ts';
import { Zone, type PodsMode, type ServiceZone } from './zone/zone.ts';

export interface ExplainInput {
  /** A name, an address (for its reverse name), or `service`, `service.namespace` as a Pod would write it. */
  readonly name: string;
  /** Default: A and AAAA, or PTR for an address. */
  readonly type?: string | undefined;
  /** Namespace of the asking Pod; its search list is applied. Undefined = the name is taken as complete. */
  readonly fromNamespace?: string | undefined;
  readonly view: ServiceView;
  readonly namespaceNames: Iterable<string>;
  /** `[namespace, name, addresses]` of Pods, for pod names. */
  readonly pods?: Iterable<readonly [string, string, readonly string[]]> | undefined;
  readonly clusterDomain?: string | undefined;
  readonly podsMode?: PodsMode | undefined;
  readonly hostSearch?: readonly string[] | undefined;
  readonly upstreams?: readonly string[] | undefined;
}

export type Rcode = 'NOERROR' | 'NXDOMAIN' | 'FORWARDED' | 'FORMERR';

/** One name that is tried. `records` are zone-file lines. */
export interface ExplainedName { readonly name: string; readonly result: Rcode; readonly reason: string; readonly records: readonly string[]; readonly hints: readonly string[] }

export interface Explanation {
  readonly question: string;
  /** In the order in which the resolver tries them; the last one decides. */
  readonly tried: readonly ExplainedName[];
  readonly queryCount: number;
  readonly advice: readonly string[];
}

const ndots = 5;

/** Explains one name. Cost: O(Services) to build the table. */
export function explainName(input: ExplainInput): Explanation {
  const domain = input.clusterDomain ?? 'cluster.local';
  const zone = buildZone(input, domain);
  const ip = canonicalIP(input.name);
  const types = typesOf(input.type, ip !== undefined);
  const candidates = ip === undefined ? expand(input, domain) : [`${reverseLabels(ip).join('.')}.`];
  const tried: ExplainedName[] = [];
  for (const candidate of candidates) {
    const item = explainOne(zone, candidate, types, input);
    tried.push(item);
    if (item.result !== 'NXDOMAIN') break;
  }
  return { question: input.name, tried, queryCount: tried.length * types.length, advice: adviceFor(input, tried, domain) };
}

/** Lines for a terminal. */
export function formatExplanation(explanation: Explanation): string[] {
  const lines: string[] = [];
  for (const [index, item] of explanation.tried.entries()) {
    lines.push(`${index + 1}. ${item.name}  ${item.result}  ${item.reason}`);
    for (const record of item.records) lines.push(`     ${record}`);
    for (const hint of item.hints) lines.push(`     ${hint}`);
  }
  for (const advice of explanation.advice) lines.push(`fix: ${advice}`);
  return lines;
}

function buildZone(input: ExplainInput, domain: string): Zone {
  const zoneKey = nameKey(domain) ?? '\0';
  const zone = new Zone({ zoneKey, ttlSeconds: 5, podsMode: input.podsMode ?? 'verified', isZonal: false, ownAddresses: [] });
  zone.apply({ type: 'namespaces', set: [...input.namespaceNames], gone: [] });
  zone.apply({ type: 'services', set: [...input.view.values()].map(planService).filter((records) => records !== undefined), gone: [] });
  zone.apply({ type: 'pods', set: [...(input.pods ?? [])], gone: [] });
  zone.apply({ type: 'state', isSynced: true, staleSinceMs: 0, serial: 0 });
  return zone;
}

function typesOf(type: string | undefined, isReverse: boolean): number[] {
  if (isReverse) return [rrTypes.PTR];
  if (type === undefined) return [rrTypes.A, rrTypes.AAAA];
  const upper = type.toUpperCase();
  return [Object.hasOwn(rrTypes, upper) ? rrTypes[upper as keyof typeof rrTypes] : rrTypes.A];
}

/** The names a resolver tries, in order (ndots:5). */
function expand(input: ExplainInput, domain: string): string[] {
  const { name, fromNamespace } = input;
  if (name.endsWith('.') || fromNamespace === undefined) return [name.endsWith('.') ? name : `${name}.`];
  const search = [`${fromNamespace}.svc.${domain}`, `svc.${domain}`, domain, ...(input.hostSearch ?? [])].map((suffix) => `${name}.${suffix}.`);
  const dots = name.split('.').length - 1;
  return dots >= ndots ? [`${name}.`, ...search] : [...search, `${name}.`];
}

function explainOne(zone: Zone, name: string, types: readonly number[], input: ExplainInput): ExplainedName {
  const key = nameKey(name);
  if (key === undefined) return { name, result: 'FORMERR', reason: 'not a legal name: a label is empty or over 63 octets, or the whole over 255', records: [], hints: [] };
  const { zoneKey } = zone.options;
  let node: Node | undefined;
  if (isWithin(key, zoneKey)) node = findNode(zone, labelsOf(`${key.slice(0, key.length - zoneKey.length)}\0`));
  else {
    const ip = addressOfReverseName(labelsOf(key));
    const services = ip === undefined ? [] : zone.ownersOf(ip);
    if (ip !== undefined && services.length > 0) node = { kind: 'reverse', ip, services };
  }
  if (node === undefined) {
    const reason = (input.upstreams?.length ?? 0) > 0 ? `not a cluster name: asked of ${input.upstreams?.join(', ')}` : 'not a cluster name: goes to the upstream resolvers';
    return { name, result: 'FORWARDED', reason, records: [], hints: [] };
  }
  if (node.kind === 'absent') return { name, result: 'NXDOMAIN', reason: reasonText(node), records: [], hints: hintsFor(node.service, input) };
  const records = types.flatMap((type) => recordLines(zone, node, key, type));
  const service = 'service' in node ? node.service : undefined;
  const reason = records.length > 0 ? describe(node) : `the name exists, but has no ${types.map(typeName).join(' or ')} record`;
  return { name, result: 'NOERROR', reason, records, hints: hintsFor(service, input) };
}

function describe(node: Node): string {
  switch (node.kind) {
    case 'service': return `${node.service.records.kind === 'cluster' ? 'ClusterIP' : node.service.records.kind === 'headless' ? 'headless' : 'ExternalName'} Service ${node.service.key}`;
    case 'endpoint': return `endpoint ${node.host} of Service ${node.service.key}`;
    case 'port': return `port ${node.port}/${node.protocol} of Service ${node.service.key}`;
    case 'pod': return `Pod address ${node.address}`;
    case 'reverse': return `address of ${node.services.map((service) => service.key).join(', ')}`;
    default: return 'belongs to the zone itself';
  }
}

/** Endpoint states behind a Service, and what keeps them from being ready. */
function hintsFor(service: ServiceZone | undefined, input: ExplainInput): string[] {
  if (service === undefined || service.records.kind === 'external') return [];
  const info = input.view.get(service.key);
  const hints: string[] = [];
  let readyCount = 0;
  for (const slice of info?.slices.values() ?? []) {
    for (const endpoint of slice.endpoints ?? []) {
      const { ready, terminating } = endpoint.conditions ?? {};
      if (ready !== false) { readyCount += 1; continue; }
      const pod = endpoint.targetRef?.name === undefined ? '' : ` (${endpoint.targetRef.kind ?? 'Pod'} ${endpoint.targetRef.name})`;
      hints.push(`endpoint ${endpoint.addresses[0] ?? '?'}${pod} is ${terminating === true ? 'terminating' : 'not ready'}`);
    }
  }
  const sliceCount = info?.slices.size ?? 0;
  return [`${readyCount} of ${service.records.endpointCount} endpoints ready in ${sliceCount} EndpointSlice${sliceCount === 1 ? '' : 's'}`, ...hints.slice(0, 10)];
}

function adviceFor(input: ExplainInput, tried: readonly ExplainedName[], domain: string): string[] {
  const last = tried.at(-1);
  const advice: string[] = [];
  if (last?.result === 'FORWARDED' && tried.length > 1) advice.push(`write "${input.name}." with a final dot to save ${tried.length - 1} lookups that cannot succeed`);
  if (last?.result !== 'NXDOMAIN') return advice;
  const [service = '', namespace] = input.name.split('.');
  const elsewhere = [...input.view.keys()].filter((key) => key.endsWith(`/${service}`));
  if (last.reason.includes('endpoints ready')) advice.push('see why the Pods are not ready: kubectl describe pod, or set publishNotReadyAddresses on the Service');
  else if (elsewhere.length > 0) advice.push(`there is a Service of that name elsewhere: ${elsewhere.slice(0, 3).map((key) => { const [ns = '', name = ''] = key.split('/'); return `${name}.${ns}.svc.${domain}`; }).join(', ')}`);
  else advice.push(`create it: kubectl -n ${namespace ?? input.fromNamespace ?? 'default'} get services shows what exists`);
  return advice;
}

/** The records as zone-file lines, decoded from the very bytes that would be sent. */
function recordLines(zone: Zone, node: Node, key: string, type: number): string[] {
  const builder = new AnswerBuilder();
  builder.begin(key);
  addRecords(zone, node, key, type, builder);
  return zoneLines(builder.finish(), key);
}

/** Zone-file lines of a template's answers (A, AAAA, CNAME, NS, PTR, SRV, TXT, SOA). */
export function zoneLines(template: Template, key: string): string[] {
  const questionEnd = 12 + key.length + 4;
  const message = Buffer.concat([Buffer.alloc(12), Buffer.from(key, 'latin1'), Buffer.alloc(4), template.body]);
  const lines: string[] = [];
  for (let index = 0; index < template.answerCount; index++) {
    const start = questionEnd + (index === 0 ? 0 : (template.ends[index - 1] ?? 0));
    const fixed = skipName(message, message.length, start);
    const type = word(message, fixed);
    lines.push(`${nameText(readName(message, start))} ${message.readUInt32BE(fixed + 4)} IN ${typeName(type)} ${dataText(message, type, fixed + 10, word(message, fixed + 8))}`);
  }
  return lines;
}

function dataText(message: Buffer, type: number, start: number, size: number): string {
  switch (type) {
    case rrTypes.A: return [...message.subarray(start, start + 4)].join('.');
    case rrTypes.AAAA: return canonicalIP(Array.from({ length: 8 }, (_, index) => message.readUInt16BE(start + index * 2).toString(16)).join(':')) ?? '';
    case rrTypes.CNAME: case rrTypes.NS: case rrTypes.PTR: return nameText(readName(message, start));
    case rrTypes.SRV: return `${word(message, start)} ${word(message, start + 2)} ${word(message, start + 4)} ${nameText(readName(message, start + 6))}`;
    case rrTypes.TXT: return JSON.stringify(message.toString('latin1', start + 1, start + size));
    case rrTypes.SOA: return `${nameText(readName(message, start))} ${nameText(readName(message, skipName(message, message.length, start)))}`;
    default: return `\\# ${size} ${message.toString('hex', start, start + size)}`;
  }
}
