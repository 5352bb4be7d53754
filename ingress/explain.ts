// `netloom explain ingress URL`: the steps in which a request would be routed, from the state that the workers have.

import type { Ingress } from '../api/types.ts';
import type { HostSpec, UpdateMessage } from './protocol.ts';
import { RouteTable } from './table.ts';

export interface Explanation {
  readonly url: string; readonly host: string; readonly path: string;
  readonly steps: readonly { readonly step: string; readonly result: string }[];
  readonly object: string | undefined; readonly rule: string | undefined; readonly backend: string | undefined; readonly endpoints: readonly string[];
  readonly reason: string | undefined;
}

/** Routes a URL (scheme and port optional) through a table made from the snapshot. */
export function explainUrl(text: string, update: UpdateMessage, ingressOf: (key: string) => Ingress | undefined): Explanation {
  const match = /^(?:(https?):\/\/)?([^/?#:]*)(?::\d+)?(\/[^?#]*)?/i.exec(text);
  const host = (match?.[2] ?? '').toLowerCase();
  const path = match?.[3] ?? '/';
  const table = new RouteTable();
  table.apply({ ...update, isFull: true });
  const route = table.match(host, path);
  const steps: { step: string; result: string }[] = [];
  const entry = hostEntry(host, update.hosts);
  steps.push({ step: 'host', result: entry === undefined ? table.explainMiss(host, path).text : `rules of ${entry[0] === '' ? 'any host' : entry[0]}` });
  if (route === undefined) {
    if (entry !== undefined) steps.push({ step: 'path', result: 'no rule matches and there is no default backend: 404' });
    table.apply({ ...update, isFull: true, hosts: [], backends: [], fallback: null });
    return { url: text, host, path, steps, object: undefined, rule: undefined, backend: undefined, endpoints: [], reason: entry === undefined ? 'no-host-rule' : 'no-path-rule' };
  }
  steps.push({ step: 'path', result: `${route.rule} of Ingress ${route.object}${ingressOf(route.object) === undefined ? ' (just deleted)' : ''}` });
  const backend = route.backend;
  const endpoints = backend?.endpoints.map((endpoint) => endpoint.name) ?? [];
  if (route.policy !== undefined) steps.push({ step: 'policies', result: Object.keys(route.policy.spec).join(', ') });
  steps.push({ step: 'backend', result: backend === undefined ? `none (${route.reason ?? 'no-backend'}): 503` : `${backend.key} over ${backend.protocol}` });
  const reason = backend === undefined ? route.reason : endpoints.length === 0 ? backend.emptyReason : undefined;
  steps.push({ step: 'endpoints', result: endpoints.length === 0 ? `none (${reason ?? 'no-endpoints'}): 503` : endpoints.join(', ') });
  table.apply({ ...update, isFull: true, hosts: [], backends: [], fallback: null });
  return { url: text, host, path, steps, object: route.object, rule: route.rule, backend: backend?.key, endpoints, reason };
}

function hostEntry(host: string, hosts: UpdateMessage['hosts']): readonly [string, HostSpec | null] | undefined {
  const find = (name: string): readonly [string, HostSpec | null] | undefined => hosts.find(([key]) => key === name);
  const dot = host.indexOf('.');
  return find(host) ?? (dot > 0 ? find(`*${host.slice(dot)}`) : undefined) ?? find('');
}

