// Fuzzed manifests, made from the kinds' own schemas with wrong turns mixed in: whatever comes, the answer is a 2xx or a
// 4xx Status, never a 500, and an object is stored whole or not at all.

import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { schemaFor } from '../../../control/schema/load.ts';
import type { Schema } from '../../../control/schema/schema.ts';
import { startWorld, type Answer, type World } from './harness.ts';

let world: World;
beforeAll(async () => { world = await startWorld({ isControllersOn: false }); });
afterAll(() => world.stop());

const runs = Number(process.env['NETLOOM_SOAK'] ?? 0) > 0 ? 3_000 : 120;
const words = fc.constantFrom('', 'a', 'web', 'http', 'TCP', 'ClusterIP', 'None', '10.96.0.9', '127.0.0.1', '::1', 'Bad Name', 'x'.repeat(64), '__proto__', 'é', '\u0000', '80', 'Cluster', 'Local', 'Prefix', '/', '*.example.com', 'IPv4', 'constructor');

/** A value for a schema node; now and then of another type. */
function valueOf(schema: Schema | undefined, depth: number): fc.Arbitrary<unknown> {
  const right = schema === undefined || depth > 5 ? fc.constant(undefined) : rightValue(schema, depth);
  return fc.oneof({ weight: 14, arbitrary: right }, { weight: 1, arbitrary: fc.oneof(fc.constant(null), fc.boolean(), fc.integer(), words, fc.constant([]), fc.constant({})) });
}

function rightValue(schema: Schema, depth: number): fc.Arbitrary<unknown> {
  switch (schema.type) {
    case 'object': {
      const fields = [...(schema.properties ?? [])];
      return fc.record(Object.fromEntries(fields.map(([name, child]) => [name, fc.option(valueOf(child, depth + 1), { nil: undefined, freq: schema.required.includes(name) ? 8 : 1 })])));
    }
    case 'map': return fc.dictionary(words, valueOf(schema.items, depth + 1), { maxKeys: 3 });
    case 'list': return fc.array(valueOf(schema.items, depth + 1), { maxLength: 3 });
    case 'bool': return fc.boolean();
    case 'int32': case 'int64': case 'double': return fc.constantFrom(0, 1, 80, 8080, 30_080, 65_535, 65_536, -1, 1.5, 2 ** 31, 1e300);
    case 'intstr': return fc.oneof(fc.constantFrom(80, -5, 70_000), words);
    case 'time': case 'microtime': return fc.constantFrom('2026-01-01T00:00:00Z', 'yesterday', '');
    default: return words;
  }
}

const kinds: [string, string, string][] = [
  ['v1', 'Service', '/api/v1/namespaces/default/services'], ['v1', 'Endpoints', '/api/v1/namespaces/default/endpoints'], ['discovery.k8s.io/v1', 'EndpointSlice', '/apis/discovery.k8s.io/v1/namespaces/default/endpointslices'],
  ['networking.k8s.io/v1', 'Ingress', '/apis/networking.k8s.io/v1/namespaces/default/ingresses'], ['networking.k8s.io/v1', 'IngressClass', '/apis/networking.k8s.io/v1/ingressclasses'], ['v1', 'Pod', '/api/v1/namespaces/default/pods'],
  ['v1', 'Secret', '/api/v1/namespaces/default/secrets'], ['v1', 'ConfigMap', '/api/v1/namespaces/default/configmaps'], ['v1', 'Node', '/api/v1/nodes'], ['coordination.k8s.io/v1', 'Lease', '/apis/coordination.k8s.io/v1/namespaces/default/leases'],
  ['v1', 'Event', '/api/v1/namespaces/default/events'], ['apps/v1', 'Deployment', '/apis/apps/v1/namespaces/default/deployments'], ['v1', 'Namespace', '/api/v1/namespaces'], ['rbac.authorization.k8s.io/v1', 'RoleBinding', '/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings'],
  ['batch/v1', 'CronJob', '/apis/batch/v1/namespaces/default/cronjobs'], ['apiextensions.k8s.io/v1', 'CustomResourceDefinition', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions'], ['autoscaling/v1', 'HorizontalPodAutoscaler', '/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers'],
  ['events.k8s.io/v1', 'Event', '/apis/events.k8s.io/v1/namespaces/default/events'], ['certificates.k8s.io/v1', 'CertificateSigningRequest', '/apis/certificates.k8s.io/v1/certificatesigningrequests'],
];

function checkAnswer(answer: Answer, sent: string): void {
  const isGood = answer.status < 500 && (answer.status < 400 || (answer.json?.kind === 'Status' && answer.json.code === answer.status && typeof answer.json.message === 'string'));
  if (!isGood) throw new Error(`${answer.status} ${answer.text.slice(0, 400)}\nfor ${sent.slice(0, 1_500)}`);
}

let next = 0;
describe('whatever is sent', () => {
  for (const [apiVersion, kind, path] of kinds) {
    test(`${apiVersion} ${kind}: created whole, refused with a Status, patched likewise`, async () => {
      const schema = schemaFor(apiVersion, kind);
      await fc.assert(fc.asyncProperty(valueOf(schema, 0), valueOf(schema, 0), fc.boolean(), async (first, second, hasName) => {
        const name = `f-${next++}`;
        const object = (typeof first === 'object' && first !== null ? first : {}) as Record<string, unknown>;
        const body = JSON.stringify({ ...object, apiVersion, kind, metadata: hasName ? { name } : { ...(typeof object['metadata'] === 'object' ? object['metadata'] : {}), name } });
        const made = await world.call('POST', path, { body });
        checkAnswer(made, body);
        const read = await world.call('GET', `${path}/${name}`);
        if (made.status === 201) expect(read.json).toEqual(made.json);
        else expect(read.status).toBe(404);
        if (made.status !== 201) return;
        const patch = JSON.stringify(second ?? {});
        for (const [contentType, query] of [['application/merge-patch+json', ''], ['application/strategic-merge-patch+json', ''], ['application/apply-patch+yaml', 'fieldManager=f&force=true']] as const) checkAnswer(await world.call('PATCH', `${path}/${name}`, { body: patch, contentType, query }), patch);
        const table = await world.call('GET', path, { headers: { accept: 'application/json;as=Table;v=v1;g=meta.k8s.io' } });
        expect(table.status).toBe(200);
        checkAnswer(await world.call('DELETE', `${path}/${name}`), name);
      }), { numRuns: runs, interruptAfterTimeLimit: 8_000 });
    });
  }
  test('bytes that are no manifest', async () => {
    const types = fc.constantFrom('application/json', 'application/yaml', 'application/vnd.kubernetes.protobuf', 'application/merge-patch+json', 'application/json-patch+json', 'application/apply-patch+yaml');
    await fc.assert(fc.asyncProperty(fc.oneof(fc.string({ maxLength: 200 }), fc.json()), types, async (text, contentType) => {
      checkAnswer(await world.call('POST', '/api/v1/namespaces/default/services', { body: text, contentType }), text);
      checkAnswer(await world.call('PATCH', '/api/v1/namespaces/default/services/kubernetes', { body: text, contentType, query: 'fieldManager=f' }), text);
      checkAnswer(await world.call('DELETE', '/api/v1/namespaces/default/services/none', { body: text, contentType }), text);
    }), { numRuns: runs * 3 });
  });
  test('query parameters and paths', async () => {
    const names = fc.constantFrom('labelSelector', 'fieldSelector', 'limit', 'continue', 'resourceVersion', 'resourceVersionMatch', 'timeoutSeconds', 'dryRun', 'fieldValidation', 'propagationPolicy', 'gracePeriodSeconds', 'pretty');
    await fc.assert(fc.asyncProperty(fc.dictionary(names, fc.oneof(words, fc.string({ maxLength: 40 })), { maxKeys: 4 }), fc.string({ maxLength: 30 }), async (query, tail) => {
      const text = new URLSearchParams(query).toString();
      checkAnswer(await world.call('GET', '/api/v1/configmaps', { query: text }), text);
      checkAnswer(await world.call('DELETE', '/api/v1/namespaces/default/configmaps/none', { query: text }), text);
      checkAnswer(await world.call('GET', `/apis/${encodeURI(tail).replaceAll('?', '')}`), tail);
    }), { numRuns: runs * 2 });
  });
});
