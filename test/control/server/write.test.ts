// create, update, patch, delete: what the server fills in, what it refuses, what it never does by halves.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { configMap, pod, service, startWorld, until, type Answer, type World } from './harness.ts';

let world: World;
beforeAll(async () => { world = await startWorld({ isControllersOn: false }); });
afterAll(() => world.stop());

const ns = '/api/v1/namespaces/default';
const create = (kind: string, body: unknown, query = ''): Promise<Answer> => world.call('POST', `${ns}/${kind}`, { body, query });
const get = (path: string): Promise<Answer> => world.call('GET', `${ns}/${path}`);
const patch = (path: string, body: unknown, type = 'merge-patch', query = ''): Promise<Answer> => world.call('PATCH', `${ns}/${path}`, { body, contentType: `application/${type}+${type === 'apply-patch' ? 'yaml' : 'json'}`, query });
const put = (path: string, body: unknown, query = ''): Promise<Answer> => world.call('PUT', `${ns}/${path}`, { body, query });
const remove = (path: string, body?: unknown, query = ''): Promise<Answer> => world.call('DELETE', `${ns}/${path}`, { ...(body === undefined ? {} : { body }), query });

describe('create', () => {
  test('fills in uid, time, revision and owner of fields; a Service has no generation', async () => {
    const { status, json } = await create('services', service('made', {}, { uid: 'mine', creationTimestamp: '2001-01-01T00:00:00Z', generation: 7, selfLink: '/x' }), 'fieldManager=tester');
    expect(status).toBe(201);
    expect(json.metadata.uid).toMatch(/^[0-9a-f-]{36}$/);
    expect(Date.parse(json.metadata.creationTimestamp)).toBeGreaterThan(Date.parse('2020-01-01'));
    expect([json.metadata.generation, json.metadata.selfLink]).toEqual([undefined, undefined]);
    expect(json.metadata.managedFields[0]).toMatchObject({ manager: 'tester', operation: 'Update', apiVersion: 'v1', fieldsType: 'FieldsV1' });
    expect(json.status).toEqual({ loadBalancer: {} });
  });
  test('kinds with a status start at generation 1 and grow with the spec only', async () => {
    const path = '/apis/apps/v1/namespaces/default/deployments';
    const spec = { selector: { matchLabels: { a: 'b' } }, template: { metadata: { labels: { a: 'b' } }, spec: { containers: [{ name: 'c', image: 'x' }] } } };
    expect((await world.call('POST', path, { body: { metadata: { name: 'gen' }, spec, status: { replicas: 9 } } })).json).toMatchObject({ metadata: { generation: 1 }, status: {} });
    const change = async (body: object, sub = ''): Promise<number> => (await world.call('PATCH', `${path}/gen${sub}`, { body, contentType: 'application/merge-patch+json' })).json.metadata.generation as number;
    expect(await change({ metadata: { labels: { x: 'y' } } })).toBe(1);
    expect(await change({ spec: { replicas: 4 } })).toBe(2);
    expect(await change({ status: { replicas: 3, observedGeneration: 2 }, spec: { replicas: 9 } }, '/status')).toBe(2);
    const { json } = await world.call('GET', `${path}/gen`);
    expect([json.spec.replicas, json.status.replicas]).toEqual([4, 3]);
  });
  test('generateName adds five letters; two in a row differ', async () => {
    const first = await create('configmaps', { metadata: { generateName: 'gen-' } });
    const second = await create('configmaps', { metadata: { generateName: 'gen-' } });
    expect(first.json.metadata.name).toMatch(/^gen-[bcdfghjklmnpqrstvwxz2456789]{5}$/);
    expect(second.json.metadata.name).not.toBe(first.json.metadata.name);
  });
  test('twice: 409 AlreadyExists with the name', async () => {
    await create('configmaps', configMap('twice'));
    const { status, json } = await create('configmaps', configMap('twice'));
    expect([status, json.reason, json.message, json.details]).toEqual([409, 'AlreadyExists', 'configmaps "twice" already exists', { name: 'twice', group: '', kind: 'configmaps' }]);
  });
  test('dry run checks all and stores nothing, and gives the address back', async () => {
    const answer = await create('services', service('dry', { clusterIP: '10.96.0.200' }), 'dryRun=All');
    expect([answer.status, answer.json.spec.clusterIP]).toEqual([201, '10.96.0.200']);
    expect((await get('services/dry')).status).toBe(404);
    expect((await create('services', service('wet', { clusterIP: '10.96.0.200' }))).status).toBe(201);
    expect((await create('services', service('wet'), 'dryRun=All')).status).toBe(409);
  });
  test('a Service that fails validation gives its address back', async () => {
    expect((await create('services', service('broken', { clusterIP: '10.96.0.201', ports: [{ port: 80, name: 'Bad_Name' }] }))).status).toBe(422);
    expect((await create('services', service('mended', { clusterIP: '10.96.0.201' }))).status).toBe(201);
  });
  test('Strict refuses unknown and duplicate fields, Warn tells, Ignore says nothing', async () => {
    const body = '{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"odd"},"dta":{},"data":{"a":"1","a":"2"}}';
    const send = (query: string): Promise<Answer> => world.call('POST', `${ns}/configmaps`, { body, query: `dryRun=All&${query}` });
    const strict = await send('fieldValidation=Strict');
    expect([strict.status, strict.json.message]).toEqual([400, 'ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "dta", duplicate field "data.a"']);
    expect((await send('')).headers['warning']).toContain('299 - "unknown field \\"dta\\""');
    expect((await send('fieldValidation=Ignore')).headers['warning']).toBeUndefined();
  });
  test('a body over 3 MiB is 413, a content type that nobody reads 415', async () => {
    expect((await world.call('POST', `${ns}/configmaps`, { body: `{"data":{"a":"${'x'.repeat(3_200_000)}"}}` })).status).toBe(413);
    expect((await world.call('POST', `${ns}/configmaps`, { body: 'x', contentType: 'text/plain' })).status).toBe(415);
  });
  test('64 creates of one name at once: one wins', async () => {
    const answers = await Promise.all(Array.from({ length: 64 }, () => create('configmaps', configMap('race'))));
    expect(answers.filter((answer) => answer.status === 201)).toHaveLength(1);
    expect(answers.filter((answer) => answer.status === 409)).toHaveLength(63);
  });
  test('generated names at once are all different', async () => {
    const answers = await Promise.all(Array.from({ length: 64 }, () => create('configmaps', { metadata: { generateName: 'many-' } })));
    expect(new Set(answers.map((answer) => answer.json.metadata.name)).size).toBe(64);
  });
});

describe('update', () => {
  test('an older resourceVersion is 409, none is unconditional, an unequal uid is 409', async () => {
    const { json: first } = await create('configmaps', configMap('put', { a: '1' }));
    const { json: second } = await put('configmaps/put', { ...first, data: { a: '2' } });
    expect(Number(second.metadata.resourceVersion)).toBeGreaterThan(Number(first.metadata.resourceVersion));
    const stale = await put('configmaps/put', { ...first, data: { a: '3' } });
    expect([stale.status, stale.json.reason]).toEqual([409, 'Conflict']);
    expect((await put('configmaps/put', configMap('put', { a: '4' }))).json.data).toEqual({ a: '4' });
    expect((await put('configmaps/put', configMap('put', {}, { uid: 'other' }))).status).toBe(409);
  });
  test('a write that changes nothing keeps the revision', async () => {
    const { json } = await create('configmaps', configMap('noop', { a: '1' }));
    const again = await put('configmaps/noop', json);
    expect(again.json.metadata.resourceVersion).toBe(json.metadata.resourceVersion);
    expect((await patch('configmaps/noop', { data: { a: '1' } })).json.metadata.resourceVersion).toBe(json.metadata.resourceVersion);
  });
  test('Lease and definitions need a resourceVersion, and PUT makes a Lease that is not there', async () => {
    const path = '/apis/coordination.k8s.io/v1/namespaces/default/leases/l';
    const body = { metadata: { name: 'l' }, spec: { holderIdentity: 'x' } };
    expect((await world.call('PUT', path, { body })).status).toBe(201);
    const answer = await world.call('PUT', path, { body });
    expect([answer.status, answer.json.details.causes[0].field]).toEqual([422, 'metadata.resourceVersion']);
  });
  test('PUT of a ConfigMap that is not there is 404', async () => { expect((await put('configmaps/absent', configMap('absent'))).status).toBe(404); });
  test('a name that is not the one in the URL is 400', async () => {
    await create('configmaps', configMap('right'));
    expect((await put('configmaps/right', configMap('wrong'))).status).toBe(400);
  });
  test('identity and times of an object cannot be changed', async () => {
    const { json } = await create('configmaps', configMap('fixed'));
    const answer = await put('configmaps/fixed', { ...json, metadata: { ...json.metadata, creationTimestamp: '2001-01-01T00:00:00Z', deletionTimestamp: '2001-01-01T00:00:00Z', generation: 5 } });
    expect(answer.json.metadata.creationTimestamp).toBe(json.metadata.creationTimestamp);
    expect(answer.json.metadata.deletionTimestamp).toBeUndefined();
  });
  test('unconditional writes at once: none fails, each counts', async () => {
    await create('configmaps', configMap('busy'));
    const answers = await Promise.all(Array.from({ length: 40 }, (_, index) => patch('configmaps/busy', { data: { [`k${index}`]: 'v' } })));
    expect(answers.map((answer) => answer.status).filter((status) => status !== 200)).toEqual([]);
    expect(Object.keys((await get('configmaps/busy')).json.data)).toHaveLength(40);
  });
  test('conditional writes at once: one wins, the others are told', async () => {
    const { json } = await create('configmaps', configMap('duel'));
    const answers = await Promise.all(Array.from({ length: 10 }, (_, index) => put('configmaps/duel', { ...json, data: { n: String(index) } })));
    expect(answers.filter((answer) => answer.status === 200)).toHaveLength(1);
    expect(answers.filter((answer) => answer.status === 409)).toHaveLength(9);
  });
});

describe('patch', () => {
  beforeAll(async () => { await create('services', service('p', { ports: [{ name: 'a', port: 80 }, { name: 'b', port: 81 }] })); });
  test('JSON patch: in order, tests first, 422 when it does not apply', async () => {
    expect((await patch('services/p', [{ op: 'test', path: '/spec/type', value: 'ClusterIP' }, { op: 'add', path: '/metadata/labels', value: { x: '1' } }], 'json-patch')).json.metadata.labels).toEqual({ x: '1' });
    const answer = await patch('services/p', [{ op: 'test', path: '/spec/type', value: 'NodePort' }], 'json-patch');
    expect([answer.status, answer.json.reason]).toEqual([422, 'Invalid']);
  });
  test('strategic merge: ports by port, deletes by directive', async () => {
    const { json } = await patch('services/p', { spec: { ports: [{ port: 81, $patch: 'delete' }, { port: 82, name: 'c' }] } }, 'strategic-merge-patch');
    expect(json.spec.ports.map((port: { port: number }) => port.port).sort()).toEqual([80, 82]);
  });
  test('merge patch: null deletes, lists are replaced', async () => {
    const { json } = await patch('services/p', { metadata: { labels: null }, spec: { ports: [{ port: 90 }] } });
    expect([json.metadata.labels, json.spec.ports.length]).toEqual([undefined, 1]);
  });
  test('a resourceVersion inside a patch is a precondition', async () => { expect((await patch('services/p', { metadata: { resourceVersion: '1', labels: { z: '1' } } })).status).toBe(409); });
  test('the name cannot be patched', async () => { expect((await patch('services/p', { metadata: { name: 'q' } })).status).toBe(400); });
  test('a patch of nothing is 404, of an unknown type 415', async () => {
    expect((await patch('services/none', {})).status).toBe(404);
    expect((await world.call('PATCH', `${ns}/services/p`, { body: {}, contentType: 'application/json' })).status).toBe(415);
  });
  test('__proto__ in a patch pollutes nothing', async () => {
    await world.call('PATCH', `${ns}/services/p`, { body: '{"metadata":{"annotations":{"__proto__":{"polluted":"yes"}}}}', contentType: 'application/merge-patch+json' });
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
    expect((await get('services/p')).status).toBe(200);
  });
});

describe('server-side apply', () => {
  const apply = (manager: string, spec: object, query = ''): Promise<Answer> => patch('services/ssa', { apiVersion: 'v1', kind: 'Service', metadata: { name: 'ssa' }, spec }, 'apply-patch', `fieldManager=${manager}&${query}`);
  test('creates with 201, then two managers each own their port', async () => {
    expect((await apply('one', { ports: [{ port: 80, protocol: 'TCP', name: 'a' }] })).status).toBe(201);
    const { status, json } = await apply('two', { ports: [{ port: 81, protocol: 'TCP', name: 'b' }] });
    expect([status, json.spec.ports.length]).toEqual([200, 2]);
  });
  test('another value for an owned field is 409 with cause and message; force takes it', async () => {
    const answer = await apply('two', { ports: [{ port: 80, protocol: 'TCP', targetPort: 9999, name: 'mine' }, { port: 81, protocol: 'TCP', name: 'b' }] });
    expect([answer.status, answer.json.details.causes[0].reason]).toEqual([409, 'FieldManagerConflict']);
    expect(answer.json.message).toContain('conflict with "one"');
    expect((await apply('two', { ports: [{ port: 80, protocol: 'TCP', name: 'mine' }, { port: 81, protocol: 'TCP', name: 'b' }] }, 'force=true')).status).toBe(200);
  });
  test('what a manager no longer applies and nobody else owns goes away', async () => {
    const { json } = await apply('two', { ports: [{ port: 80, protocol: 'TCP', name: 'mine' }] });
    expect(json.spec.ports.map((port: { port: number }) => port.port)).toEqual([80]);
  });
  test('needs a field manager', async () => { expect((await patch('services/ssa', { apiVersion: 'v1', kind: 'Service', metadata: { name: 'ssa' } }, 'apply-patch')).status).toBe(422); });
});

describe('delete', () => {
  test('answers Success with the uid; again is 404', async () => {
    const { json } = await create('configmaps', configMap('gone'));
    const answer = await remove('configmaps/gone', { kind: 'DeleteOptions', apiVersion: 'v1', propagationPolicy: 'Background' });
    expect(answer.json).toMatchObject({ kind: 'Status', status: 'Success', details: { name: 'gone', kind: 'configmaps', uid: json.metadata.uid } });
    expect((await remove('configmaps/gone')).status).toBe(404);
  });
  test('preconditions on uid and revision', async () => {
    await create('configmaps', configMap('pre'));
    expect((await remove('configmaps/pre', { preconditions: { uid: 'no' } })).status).toBe(409);
    expect((await remove('configmaps/pre', { preconditions: { resourceVersion: '1' } })).status).toBe(409);
    expect((await remove('configmaps/pre', {}, 'dryRun=All')).status).toBe(200);
    expect((await get('configmaps/pre')).status).toBe(200);
  });
  test('finalizers hold an object back until the last is gone', async () => {
    await create('configmaps', configMap('held', {}, { finalizers: ['example.com/a', 'example.com/b'] }));
    const first = await remove('configmaps/held');
    expect(first.json.metadata.deletionTimestamp).toBeDefined();
    expect(first.json.metadata.deletionGracePeriodSeconds).toBe(0);
    expect((await patch('configmaps/held', { metadata: { finalizers: ['example.com/b'] } })).json.metadata.finalizers).toEqual(['example.com/b']);
    expect((await patch('configmaps/held', { metadata: { finalizers: ['example.com/b', 'example.com/c'] } })).status).toBe(422);
    expect((await patch('configmaps/held', { metadata: { finalizers: null } })).status).toBe(200);
    expect((await get('configmaps/held')).status).toBe(404);
  });
  test('Foreground and Orphan leave their finalizers for the collector', async () => {
    for (const [policy, finalizer] of [['Foreground', 'foregroundDeletion'], ['Orphan', 'orphan']] as const) {
      await create('configmaps', configMap(`cascade-${finalizer.toLowerCase()}`));
      const { json } = await remove(`configmaps/cascade-${finalizer.toLowerCase()}`, { propagationPolicy: policy });
      expect(json.metadata.finalizers).toEqual([finalizer]);
    }
    expect((await remove('configmaps/twice', { propagationPolicy: 'Sideways' })).status).toBe(422);
  });
  test('a Pod on a node gets its grace time, shortened but not lengthened, and goes with grace 0', async () => {
    await create('pods', pod('graceful', { nodeName: 'n', terminationGracePeriodSeconds: 20 }));
    const first = await remove('pods/graceful');
    expect(first.json.metadata.deletionGracePeriodSeconds).toBe(20);
    expect((await remove('pods/graceful', { gracePeriodSeconds: 100 })).json.metadata.deletionGracePeriodSeconds).toBe(20);
    expect((await remove('pods/graceful', { gracePeriodSeconds: 5 })).json.metadata.deletionGracePeriodSeconds).toBe(5);
    expect((await remove('pods/graceful', { gracePeriodSeconds: 0 })).json.status).toBe('Success');
    expect((await get('pods/graceful')).status).toBe(404);
  });
  test('a Pod that no node has goes at once', async () => {
    await create('pods', pod('loose'));
    expect((await remove('pods/loose')).json.status).toBe('Success');
  });
  test('a collection by selector; the rest stays', async () => {
    for (const [name, app] of [['c1', 'x'], ['c2', 'x'], ['c3', 'y']] as const) await create('configmaps', configMap(name, {}, { labels: { coll: app } }));
    const answer = await remove('configmaps', undefined, 'labelSelector=coll%3Dx');
    expect(answer.json.items).toHaveLength(2);
    expect((await world.call('GET', `${ns}/configmaps`, { query: 'labelSelector=coll' })).json.items.map((item: { metadata: { name: string } }) => item.metadata.name)).toEqual(['c3']);
  });
  test('namespaces have no deletecollection; the ones that are needed cannot be deleted', async () => {
    expect((await world.call('DELETE', '/api/v1/namespaces')).status).toBe(405);
    expect((await world.call('DELETE', '/api/v1/namespaces/default')).status).toBe(403);
  });
});

describe('subresources', () => {
  test('scale: read, put, patch; selector as text', async () => {
    const path = '/apis/apps/v1/namespaces/default/deployments/gen/scale';
    expect((await world.call('GET', path)).json).toMatchObject({ kind: 'Scale', spec: { replicas: 4 }, status: { replicas: 3, selector: 'a=b' } });
    expect((await world.call('PATCH', path, { body: { spec: { replicas: 6 } }, contentType: 'application/merge-patch+json' })).json.spec.replicas).toBe(6);
    expect((await world.call('PUT', path, { body: { kind: 'Scale', apiVersion: 'autoscaling/v1', metadata: { name: 'gen' }, spec: { replicas: 2 } } })).json.spec.replicas).toBe(2);
    expect((await world.call('PUT', path, { body: { kind: 'Scale', apiVersion: 'autoscaling/v1', metadata: { name: 'gen' }, spec: { replicas: -1 } } })).status).toBe(422);
  });
  test('status of a Service belongs to LoadBalancers', async () => {
    expect((await patch('services/p/status', { status: { loadBalancer: { ingress: [{ ip: '192.0.2.1' }] } } })).status).toBe(422);
  });
  test('a binding places a Pod once', async () => {
    await create('pods', pod('place'));
    const bind = (): Promise<Answer> => world.call('POST', `${ns}/pods/place/binding`, { body: { metadata: { name: 'place' }, target: { kind: 'Node', name: 'n1' } } });
    expect((await bind()).status).toBe(201);
    expect((await get('pods/place')).json.spec.nodeName).toBe('n1');
    expect((await bind()).status).toBe(409);
  });
  test('an eviction that a budget forbids is 429 with Retry-After', async () => {
    await create('pods', pod('evict', {}, { labels: { app: 'guarded' } }));
    await patch('pods/evict/status', { status: { phase: 'Running' } });
    await world.call('POST', '/apis/policy/v1/namespaces/default/poddisruptionbudgets', { body: { metadata: { name: 'b' }, spec: { minAvailable: 1, selector: { matchLabels: { app: 'guarded' } } } } });
    const evict = (): Promise<Answer> => world.call('POST', `${ns}/pods/evict/eviction`, { body: { apiVersion: 'policy/v1', kind: 'Eviction', metadata: { name: 'evict' } } });
    const answer = await evict();
    expect([answer.status, answer.json.details.causes[0].reason, answer.headers['retry-after']]).toEqual([429, 'DisruptionBudget', '10']);
    await world.call('DELETE', '/apis/policy/v1/namespaces/default/poddisruptionbudgets/b');
    expect((await evict()).status).toBe(201);
    expect((await get('pods/evict')).status).toBe(404);
  });
  test('events of one collection are seen under both groups', async () => {
    await create('events', { metadata: { name: 'e1' }, involvedObject: { kind: 'Pod', name: 'x', namespace: 'default' }, reason: 'Tested', message: 'hello', type: 'Normal', source: { component: 'test' }, count: 2 });
    const { json } = await world.call('GET', '/apis/events.k8s.io/v1/namespaces/default/events/e1');
    expect(json).toMatchObject({ apiVersion: 'events.k8s.io/v1', regarding: { name: 'x' }, note: 'hello', deprecatedCount: 2 });
    expect((await world.call('GET', '/apis/events.k8s.io/v1/namespaces/default/events', { query: 'fieldSelector=regarding.name%3Dx' })).json.items).toHaveLength(1);
  });
  test('unknown subresources and verbs are 404 and 405', async () => {
    expect((await get('services/p/scale')).status).toBe(404);
    expect((await world.call('POST', `${ns}/services/p`, { body: service('p') })).status).toBe(405);
    expect((await world.call('PUT', `${ns}/services`, { body: service('p') })).status).toBe(405);
  });
  test('paths that hide another path are refused', async () => {
    for (const path of [`${ns}/configmaps/..%2f..%2fsecrets`, `${ns}/configmaps/%2e%2e`, `${ns}/configmaps/a%00b`, '/api/v1/namespaces/..%2fkube-system/secrets', `${ns}/configmaps/%zz`]) expect([400, 404], path).toContain((await world.call('GET', path)).status);
  });
});

describe('custom kinds', () => {
  const crd = (versions: object[]): object => ({ apiVersion: 'apiextensions.k8s.io/v1', kind: 'CustomResourceDefinition', metadata: { name: 'toys.example.com' }, spec: { group: 'example.com', scope: 'Namespaced', names: { plural: 'toys', kind: 'Toy' }, versions } });
  const schema = { openAPIV3Schema: { type: 'object', properties: { spec: { type: 'object', properties: { size: { type: 'integer', minimum: 1 }, color: { type: 'string', default: 'red' } } } } } };
  const toys = '/apis/example.com/v1/namespaces/default/toys';
  test('are served from the moment that the definition is stored', async () => {
    expect((await world.call('GET', toys)).status).toBe(404);
    expect((await world.call('POST', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions', { body: crd([{ name: 'v1', served: true, storage: true, schema, subresources: { status: {} } }, { name: 'v1beta1', served: true, storage: false, schema }]) })).status).toBe(201);
    expect((await world.call('GET', toys)).status).toBe(200);
    expect((await world.call('GET', '/apis/example.com/v1')).json.resources.map((item: { name: string }) => item.name)).toEqual(['toys', 'toys/status']);
  });
  test('are pruned, defaulted, checked and shown in every served version', async () => {
    const made = await world.call('POST', toys, { body: { apiVersion: 'example.com/v1', kind: 'Toy', metadata: { name: 't' }, spec: { size: 2, junk: 1 } } });
    expect(made.json.spec).toEqual({ size: 2, color: 'red' });
    expect(made.headers['warning']).toContain('unknown field');
    expect((await world.call('POST', toys, { body: { apiVersion: 'example.com/v1', kind: 'Toy', metadata: { name: 'u' }, spec: { size: 0 } } })).status).toBe(422);
    expect((await world.call('GET', '/apis/example.com/v1beta1/namespaces/default/toys/t')).json.apiVersion).toBe('example.com/v1beta1');
  });
  test('have no strategic merge', async () => { expect((await world.call('PATCH', `${toys}/t`, { body: {}, contentType: 'application/strategic-merge-patch+json' })).status).toBe(415); });
  test('go with their definition', async () => {
    expect((await world.call('DELETE', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions/toys.example.com')).status).toBe(200);
    await until('the definition to be gone', async () => (await world.call('GET', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions/toys.example.com')).status === 404);
    expect((await world.call('GET', toys)).status).toBe(404);
  });
});
