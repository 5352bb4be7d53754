// Merge keys against the truth that kubectl carries: its three-way merge, built once from our OpenAPI document and once from its
// compiled-in Kubernetes types (strategic merge not advertised), must be the same patch. Also: explain reads every kind.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { applyDefaults } from '../../../control/defaults/defaults.ts';
import { decodeValue } from '../../../control/schema/decode.ts';
import { apiVersionOf, kindsOf, packages } from '../../../control/schema/kinds.ts';
import { strategicMerge } from '../../../control/patch/strategic.ts';
import { schemaFor, typeSchema } from '../../../control/schema/load.ts';
import type { Schema } from '../../../control/schema/schema.ts';
import { hasTool } from '../../lib/command.ts';
import type { FakeApi } from './fake-api.ts';
import { startFakeApi } from './fake-api.ts';

type Json = Record<string, unknown>;
interface Case { name: string; path: string; before: Json; after: Json }

const container = (name: string, more: Json = {}): Json => ({ name, image: 'a:1', ...more });
const podSpec = (items: number): Json => {
  const pick = (list: Json[]): Json[] => list.slice(0, items);
  const rich = {
    env: pick([{ name: 'A', value: '1' }, { name: 'B', value: '2' }]), ports: pick([{ containerPort: 80, protocol: 'TCP' }, { containerPort: 81, protocol: 'TCP' }]),
    volumeMounts: pick([{ name: 'v', mountPath: '/a' }, { name: 'v', mountPath: '/b' }]), volumeDevices: pick([{ name: 'v', devicePath: '/c' }, { name: 'v', devicePath: '/d' }]),
    envFrom: pick([{ prefix: 'A', configMapRef: { name: 'x' } }, { prefix: 'B', configMapRef: { name: 'x' } }]),
  };
  return {
    containers: [container('a', rich), ...pick([container('c'), container('b')]).slice(1)], initContainers: pick([container('i', rich), container('j')]),
    volumes: items > 1 ? [{ name: 'v', emptyDir: {} }, { name: 'w', emptyDir: {} }] : [{ name: 'v', hostPath: { path: '/x' } }],
    imagePullSecrets: pick([{ name: 'a' }, { name: 'b' }]), hostAliases: pick([{ ip: '10.0.0.1', hostnames: ['a'] }, { ip: '10.0.0.2', hostnames: ['b'] }]),
    schedulingGates: pick([{ name: 'a' }, { name: 'b' }]), tolerations: pick([{ key: 'a', operator: 'Exists' }, { key: 'b', operator: 'Exists' }]),
    topologySpreadConstraints: pick([{ topologyKey: 'a', maxSkew: 1, whenUnsatisfiable: 'DoNotSchedule' }, { topologyKey: 'b', maxSkew: 1, whenUnsatisfiable: 'DoNotSchedule' }]),
    readinessGates: pick([{ conditionType: 'a' }, { conditionType: 'b' }]), nodeSelector: items > 1 ? { a: 'b', c: 'd' } : { a: 'b' },
    resourceClaims: pick([{ name: 'a', resourceClaimName: 'x' }, { name: 'b', resourceClaimName: 'y' }]),
  };
};
const meta = (items: number): Json => ({
  name: 'x', namespace: 'default', labels: items > 1 ? { a: 'b', c: 'd' } : { a: 'b' }, finalizers: ['a.b/c', 'a.b/d'].slice(0, items),
  ownerReferences: [{ apiVersion: 'v1', kind: 'Pod', name: 'p', uid: '1' }, { apiVersion: 'v1', kind: 'Pod', name: 'q', uid: '2' }].slice(0, items),
});
const pair = (name: string, path: string, make: (items: number) => Json): Case => ({ name, path, before: make(2), after: make(1) });

/** The document without the strategic merge media type: kubectl then takes its own types. */
function withoutStrategicMerge(text: string): string {
  const less = text.replaceAll(/,?"application\/strategic-merge-patch\+json":\{"schema":\{"type":"object"\}\}/g, '');
  if (less === text || less.includes('strategic-merge-patch')) throw new Error('the document was not changed');
  return less;
}

const cases: Case[] = [
  pair('Pod', '/api/v1/namespaces/default/pods/x', (items) => ({ apiVersion: 'v1', kind: 'Pod', metadata: meta(items), spec: podSpec(items) })),
  pair('Service', '/api/v1/namespaces/default/services/x', (items) => ({
    apiVersion: 'v1', kind: 'Service', metadata: meta(items),
    spec: { ports: [{ name: 'a', port: 80 }, { name: 'b', port: 81 }].slice(0, items), selector: items > 1 ? { a: 'b', c: 'd' } : { a: 'b' }, externalIPs: ['192.0.2.1', '192.0.2.2'].slice(0, items), loadBalancerSourceRanges: ['10.0.0.0/8', '11.0.0.0/8'].slice(0, items) },
  })),
  pair('Deployment', '/apis/apps/v1/namespaces/default/deployments/x', (items) => ({
    apiVersion: 'apps/v1', kind: 'Deployment', metadata: meta(items),
    spec: { selector: { matchLabels: { a: 'b' } }, strategy: items > 1 ? { type: 'RollingUpdate', rollingUpdate: { maxSurge: 1 } } : { type: 'Recreate' }, template: { metadata: { labels: { a: 'b' } }, spec: podSpec(items) } },
  })),
  pair('Ingress', '/apis/networking.k8s.io/v1/namespaces/default/ingresses/x', (items) => ({
    apiVersion: 'networking.k8s.io/v1', kind: 'Ingress', metadata: meta(items),
    spec: { tls: [{ hosts: ['a'], secretName: 's' }, { hosts: ['b'] }].slice(0, items), rules: [{ host: 'a' }, { host: 'b' }].slice(0, items) },
  })),
  pair('Node', '/api/v1/nodes/x', (items) => ({ apiVersion: 'v1', kind: 'Node', metadata: { ...meta(items), namespace: undefined }, spec: { podCIDRs: ['10.0.0.0/24', 'fd00::/64'].slice(0, items), taints: [{ key: 'a', effect: 'NoSchedule' }, { key: 'b', effect: 'NoSchedule' }].slice(0, items) } })),
  pair('EndpointSlice', '/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/x', (items) => ({ apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', metadata: meta(items), addressType: 'IPv4', endpoints: [{ addresses: ['10.0.0.1'] }, { addresses: ['10.0.0.2'] }].slice(0, items), ports: [{ name: 'a', port: 1 }, { name: 'b', port: 2 }].slice(0, items) })),
  pair('ServiceAccount', '/api/v1/namespaces/default/serviceaccounts/x', (items) => ({ apiVersion: 'v1', kind: 'ServiceAccount', metadata: meta(items), secrets: [{ name: 'a' }, { name: 'b' }].slice(0, items), imagePullSecrets: [{ name: 'a' }, { name: 'b' }].slice(0, items) })),
  pair('NetworkPolicy', '/apis/networking.k8s.io/v1/namespaces/default/networkpolicies/x', (items) => ({ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: meta(items), spec: { podSelector: {}, policyTypes: ['Ingress', 'Egress'].slice(0, items), ingress: [{ from: [{ podSelector: {} }] }, {}].slice(0, items) } })),
];

/** Kinds that can be applied and that kubectl has types for. */
function everyKind(): { packageName: string; row: ReturnType<typeof kindsOf>[number] }[] {
  return packages.filter((name) => name !== 'meta/v1' && name !== 'apiextensions/v1').flatMap((packageName) => kindsOf(packageName).filter((row) => !row.isCreateOnly).map((row) => ({ packageName, row })));
}

/** A value with every field set and `items` entries in every list and map; objects below `depth` are left out. */
function filled(schema: Schema | undefined, items: number, depth: number, salt = 0): unknown {
  if (schema === undefined) return undefined;
  const indexes = Array.from({ length: items }, (_, index) => index);
  const inner = (index: number): unknown => filled(schema.items, items, depth - 1, index);
  switch (schema.type) {
    case 'object': return depth <= 0 ? undefined : Object.fromEntries([...(schema.properties ?? [])].map(([name, child]) => [name, filled(child, items, depth - 1, salt)]));
    case 'list': return inner(0) === undefined ? undefined : indexes.map(inner);
    // kubectl itself cannot patch a map of lists (CertificateSigningRequest.spec.extra).
    case 'map': return schema.items?.type === 'list' || inner(0) === undefined ? undefined : Object.fromEntries(indexes.map((index) => [`key${index}`, inner(index)]));
    case 'bool': return true;
    case 'int32': case 'int64': case 'double': case 'intstr': return salt + 1;
    case 'time': case 'microtime': return '2026-01-01T00:00:00Z';
    case 'any': return { a: 1 };
    default: return `text${salt}`;
  }
}

/** Paths at which two patches differ. */
function differences(a: unknown, b: unknown, path: string): string[] {
  if (JSON.stringify(a) === JSON.stringify(b)) return [];
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null || Array.isArray(a) !== Array.isArray(b)) return [`${path}: ${JSON.stringify(a)?.slice(0, 80)} is not ${JSON.stringify(b)?.slice(0, 80)}`];
  return [...new Set([...Object.keys(a), ...Object.keys(b)])].flatMap((key) => differences((a as Json)[key], (b as Json)[key], `${path}.${key}`)).slice(0, 3);
}

describe.skipIf(!hasTool('kubectl'))('kubectl builds the same patch from our document as from its own types', () => {
  let api: FakeApi;
  beforeAll(async () => { api = await startFakeApi('32'); });
  afterAll(async () => { await api.close(); });

  test.each(cases.map((entry) => [entry.name, entry] as const))('%s with one item less in each list', async (_name, { path, before, after }) => {
    const live = applyDefaults(decodeValue(JSON.parse(JSON.stringify(before))).object);
    live.metadata.annotations = { 'kubectl.kubernetes.io/last-applied-configuration': JSON.stringify(before) };
    live.metadata.uid = '1';
    live.metadata.resourceVersion = '7';
    api.objects.set(path, live);
    const patches: { type: string; patch: Json }[] = [];
    for (const edit of [(text: string) => text, withoutStrategicMerge]) {
      api.editDocument = edit;
      api.writes.length = 0;
      const result = await api.kubectl(['apply', '-f', '-'], JSON.stringify(after));
      const write = api.writes.find((entry) => entry.method === 'PATCH');
      expect(write, result.stderr).toBeDefined();
      patches.push({ type: write?.type ?? '', patch: JSON.parse(write?.body.toString() ?? '{}') as Json });
    }
    expect(patches[0]?.type).toBe('application/strategic-merge-patch+json');
    expect(patches[0]?.patch).toEqual(patches[1]?.patch);
    const merged = strategicMerge(live, patches[0]?.patch, schemaFor(live.apiVersion ?? '', live.kind ?? '')) as Json;
    const wanted = applyDefaults(decodeValue(JSON.parse(JSON.stringify(after))).object) as unknown as Json;
    const result = applyDefaults(decodeValue(merged).object) as unknown as Json;
    expect(result['spec'] ?? result['ports'] ?? result['secrets']).toEqual(wanted['spec'] ?? wanted['ports'] ?? wanted['secrets']);
    expect((result['metadata'] as Json)['finalizers']).toEqual((wanted['metadata'] as Json)['finalizers']);
  });

  test('every list and map of every kind: with all fields set and then one item less, both patches are equal and give the new object', async () => {
    const wholes = everyKind().map(({ packageName, row }) => {
      const schema = typeSchema(`${packageName}.${row.kind}`);
      // A Pod has every type of a Pod template; the workloads need not go down to the last of them again.
      const depth = row.kind === 'Pod' ? 9 : 6;
      const path = `${packageName === 'core/v1' ? '/api/v1' : `/apis/${apiVersionOf(packageName)}`}${row.isNamespaced ? '/namespaces/default' : ''}/${row.plural}/x`;
      const whole = (items: number): Json => ({ ...filled(schema, items, depth) as Json, apiVersion: apiVersionOf(packageName), kind: row.kind, metadata: { name: 'x', ...(row.isNamespaced ? { namespace: 'default' } : {}) } });
      const before = whole(2);
      const live = structuredClone(before);
      live['metadata'] = { ...live['metadata'] as Json, uid: '1', resourceVersion: '7', annotations: { 'kubectl.kubernetes.io/last-applied-configuration': JSON.stringify(before) } };
      api.objects.set(path, live);
      return { path, kind: row.kind, live, schema, after: JSON.stringify(whole(1)) };
    });
    const patches: Map<string, Json>[] = [];
    const failures: string[] = [];
    for (const edit of [(text: string) => text, withoutStrategicMerge]) {
      api.editDocument = edit;
      api.writes.length = 0;
      for (let index = 0; index < wholes.length; index += 3) await Promise.all(wholes.slice(index, index + 3).map(async ({ kind, path, after }) => {
        const result = await api.kubectl(['apply', '-f', '-'], after);
        if (!api.writes.some((entry) => entry.path === path)) failures.push(`${kind}: ${result.stderr.slice(0, 200)}`);
      }));
      patches.push(new Map(api.writes.map((entry) => [entry.path, JSON.parse(entry.body.toString()) as Json])));
    }
    const [ours, theirs] = patches;
    expect(failures).toEqual([]);
    expect(wholes.flatMap(({ path, kind }) => differences(ours?.get(path), theirs?.get(path), kind))).toEqual([]);
    for (const { path, kind, live, schema, after } of wholes) {
      const merged = strategicMerge(live, ours?.get(path), schema) as Json;
      expect({ ...merged, metadata: undefined }, kind).toEqual({ ...JSON.parse(after) as Json, metadata: undefined });
    }
    // Not empty: that many lists were merged by key.
    expect(JSON.stringify([...theirs?.values() ?? []]).split('$setElementOrder').length).toBeGreaterThan(100);
  });

  test('a document without merge keys would give another patch (the comparison above is not empty)', async () => {
    const { after } = cases[1] as Case;
    api.editDocument = (text) => text.replaceAll('x-kubernetes-patch-merge-key', 'x-none').replaceAll('x-kubernetes-patch-strategy', 'y-none');
    api.writes.length = 0;
    await api.kubectl(['apply', '-f', '-'], JSON.stringify(after));
    expect(api.writes.find((entry) => entry.method === 'PATCH')?.body.toString()).not.toContain('$setElementOrder/ports');
  });

  test('explain --recursive reads every kind and its API version', async () => {
    api.editDocument = (text) => text;
    const wanted = packages.filter((name) => name !== 'meta/v1').flatMap((name) => kindsOf(name).filter((row) => !row.isCreateOnly && row.kind !== 'Event').slice(0, 2).map((row) => row.plural));
    const failures = [];
    for (const plural of new Set(wanted)) {
      const result = await api.kubectl(['explain', plural, '--recursive']);
      if (result.code !== 0 || !result.stdout.includes('apiVersion')) failures.push(`${plural}: ${result.stderr}`);
    }
    expect(failures).toEqual([]);
  });
});
