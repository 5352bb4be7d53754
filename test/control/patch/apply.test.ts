// Server-side apply: ownership, conflicts and their words, force, removal of given-up fields, update tracking, subresources, resets.

import { describe, expect, test } from 'vitest';
import { NetloomError } from '../../../api/errors.ts';
import type { KubeObject } from '../../../api/types.ts';
import { applyDefaults } from '../../../control/defaults/defaults.ts';
import { serverSideApply, trackUpdate } from '../../../control/patch/apply/managers.ts';
import { schemaFor } from '../../../control/schema/load.ts';

type Json = Record<string, unknown>;
const schema = schemaFor('v1', 'Service');
const now = '2026-01-01T00:00:00Z';
const later = '2026-01-02T00:00:00Z';
const service = (spec: Json, metadata: Json = {}): KubeObject => ({ apiVersion: 'v1', kind: 'Service', metadata: { name: 'web', namespace: 'default', ...metadata }, spec } as unknown as KubeObject);
const apply = (live: KubeObject | undefined, manager: string, applied: KubeObject, options: { force?: boolean; now?: string } = {}) => {
  const result = serverSideApply({ live, applied, manager, force: options.force ?? false, schema, now: options.now ?? now, ignore: ['status'] });
  return applyDefaults(structuredClone(result.object));
};
const update = (live: KubeObject | undefined, updated: KubeObject, manager = 'kubectl-edit', time = now) => trackUpdate({ live, updated, manager, schema, now: time, ignore: ['status'] });
const spec = (object: KubeObject): Json => (object as unknown as { spec: Json }).spec;
const entry = (object: KubeObject, manager: string) => object.metadata.managedFields?.find((one) => one.manager === manager);
function failure(run: () => unknown): NetloomError {
  try {
    run();
  } catch (error) {
    if (error instanceof NetloomError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

describe('apply', () => {
  const first = apply(undefined, 'one', service({ ports: [{ port: 80, name: 'http' }], selector: { app: 'x' } }, { labels: { a: '1' } }));

  test('creates, owning exactly what was sent', () => {
    expect(entry(first, 'one')).toEqual({
      manager: 'one', operation: 'Apply', apiVersion: 'v1', time: now, fieldsType: 'FieldsV1',
      fieldsV1: { 'f:metadata': { 'f:labels': { 'f:a': {} } }, 'f:spec': { 'f:ports': { 'k:{"port":80,"protocol":"TCP"}': { '.': {}, 'f:name': {}, 'f:port': {} } }, 'f:selector': {} } },
    });
  });
  test('the same again changes nothing, not even the time', () => {
    const again = serverSideApply({ live: first, applied: service({ ports: [{ port: 80, name: 'http' }], selector: { app: 'x' } }, { labels: { a: '1' } }), manager: 'one', force: false, schema, now: later });
    expect(again.isChanged).toBe(false);
  });
  test('another manager with another value conflicts, naming the field', () => {
    const error = failure(() => apply(first, 'two', service({ ports: [{ port: 80, name: 'web' }] })));
    expect(error.httpStatus).toBe(409);
    expect(error.message).toBe('Apply failed with 1 conflict: conflict with "one": .spec.ports[port=80,protocol="TCP"].name');
    expect(error.details?.causes).toEqual([{ reason: 'FieldManagerConflict', message: 'conflict with "one"', field: '.spec.ports[port=80,protocol="TCP"].name' }]);
  });
  test('several conflicts are listed per manager', () => {
    const edited = update(first, structuredClone({ ...first, spec: { ...spec(first), type: 'NodePort' } }) as KubeObject);
    expect(failure(() => apply(edited, 'two', service({ type: 'ClusterIP', selector: { app: 'y' } }))).message)
      .toBe('Apply failed with 2 conflicts: conflicts with "kubectl-edit" using v1:\n- .spec.type\nconflicts with "one":\n- .spec.selector');
  });
  test('the same value is shared without conflict', () => {
    const shared = apply(first, 'two', service({ selector: { app: 'x' } }));
    expect(JSON.stringify(entry(shared, 'one')?.fieldsV1)).toContain('f:selector');
    expect(JSON.stringify(entry(shared, 'two')?.fieldsV1)).toContain('f:selector');
  });
  test('force takes the field over', () => {
    const forced = apply(first, 'two', service({ selector: { app: 'y' } }), { force: true });
    expect(spec(forced)['selector']).toEqual({ app: 'y' });
    expect(JSON.stringify(entry(forced, 'one')?.fieldsV1)).not.toContain('f:selector');
  });
  test('two managers of one list each keep their items', () => {
    const both = apply(first, 'two', service({ ports: [{ port: 443, name: 'https', protocol: 'TCP' }] }));
    expect((spec(both)['ports'] as Json[]).map((port) => port['port'])).toEqual([80, 443]);
    const without = apply(both, 'two', service({ selector: { app: 'x' } }));
    expect((spec(without)['ports'] as Json[]).map((port) => port['port'])).toEqual([80]);
  });
  test('UDP and TCP on one port are two items', () => {
    const both = apply(first, 'two', service({ ports: [{ port: 80, protocol: 'UDP', name: 'udp' }] }));
    expect((spec(both)['ports'] as Json[]).map((port) => port['protocol'])).toEqual(['TCP', 'UDP']);
  });
  test('a field that is given up goes, one that another owns or nobody asked for stays', () => {
    const both = apply(first, 'two', service({ selector: { app: 'x' } }));
    const less = apply(both, 'one', service({ ports: [{ port: 80, name: 'http' }] }));
    expect(less.metadata.labels).toBeUndefined();
    expect(spec(less)['selector']).toEqual({ app: 'x' });
    expect(spec(less)['type']).toBe('ClusterIP');
    const none = apply(less, 'two', service({}));
    expect(spec(none)['selector']).toBeUndefined();
  });
  test('an object that was never tracked belongs to before-first-apply', () => {
    const { managedFields: _none, ...metadata } = first.metadata;
    const error = failure(() => apply({ ...first, metadata }, 'two', service({ selector: { app: 'z' } })));
    expect(error.message).toContain('conflict with "before-first-apply" using v1: .spec.selector');
  });
  test('managedFields in the configuration are a 400', () => {
    expect(failure(() => apply(undefined, 'one', service({}, { managedFields: [] }))).httpStatus).toBe(400);
  });
  test('a key twice in the configuration is a 400', () => {
    const error = failure(() => apply(first, 'two', service({ ports: [{ port: 90 }, { port: 90, protocol: 'TCP' }] })));
    expect(`${error.httpStatus} ${error.message}`).toBe('400 failed to create typed patch object: duplicate entries for key [port=90,protocol="TCP"]');
  });
  test('a key twice in the live object survives an apply that does not name it, and is seen when it changes', () => {
    const pod = (env: Json[]): KubeObject => ({ apiVersion: 'v1', kind: 'Pod', metadata: { name: 'p' }, spec: { containers: [{ name: 'c', env }] } } as unknown as KubeObject);
    const podSchema = schemaFor('v1', 'Pod');
    const double = [{ name: 'A', value: '1' }, { name: 'B', value: '2' }, { name: 'A', value: '3' }];
    const live = trackUpdate({ live: undefined, updated: pod(double), manager: 'create', schema: podSchema, now });
    const { object } = serverSideApply({ live, applied: pod([{ name: 'C', value: '4' }]), manager: 'two', force: false, schema: podSchema, now });
    expect(spec(object)['containers']).toEqual([{ name: 'c', env: [...double, { name: 'C', value: '4' }] }]);
    const untracked = { ...live, metadata: { name: 'p' } };
    expect(serverSideApply({ live: untracked, applied: pod([{ name: 'C', value: '4' }]), manager: 'two', force: false, schema: podSchema, now }).object.metadata.managedFields).toHaveLength(2);
    const edited = trackUpdate({ live, updated: { ...pod([{ name: 'A', value: '1' }, { name: 'B', value: '2' }, { name: 'A', value: '9' }]), metadata: live.metadata }, manager: 'edit', schema: podSchema, now });
    expect(JSON.stringify(entry(edited, 'edit')?.fieldsV1)).toContain('k:{\\"name\\":\\"A\\"}');
  });
  test('the live object is not changed', () => {
    const before = JSON.stringify(first);
    apply(first, 'two', service({ ports: [{ port: 80, targetPort: 1 }], selector: { app: 'q' } }), { force: true });
    expect(JSON.stringify(first)).toBe(before);
  });
});

describe('update', () => {
  const created = update(undefined, applyDefaults(service({ ports: [{ port: 80 }] }, { labels: { a: '1' } })), 'kubectl-create');

  test('create owns all that came, defaults too, and its containers', () => {
    expect(entry(created, 'kubectl-create')).toMatchObject({ operation: 'Update', fieldsV1: { 'f:metadata': { 'f:labels': { '.': {}, 'f:a': {} } }, 'f:spec': { 'f:type': {}, 'f:ports': { '.': {}, 'k:{"port":80,"protocol":"TCP"}': { '.': {}, 'f:port': {}, 'f:protocol': {}, 'f:targetPort': {} } } } } });
    expect(JSON.stringify(entry(created, 'kubectl-create'))).not.toContain('f:status');
  });
  test('an edit takes the changed field from its owner, silently', () => {
    const edited = update(created, { ...created, spec: { ...spec(created), type: 'NodePort' } } as unknown as KubeObject);
    expect(JSON.stringify(entry(edited, 'kubectl-create')?.fieldsV1)).not.toContain('f:type');
    expect(entry(edited, 'kubectl-edit')?.fieldsV1).toEqual({ 'f:spec': { 'f:type': {} } });
  });
  test('a removed field belongs to nobody', () => {
    const { labels: _gone, ...metadata } = created.metadata;
    const edited = update(created, { ...created, metadata });
    expect(JSON.stringify(edited.metadata.managedFields)).not.toContain('f:labels');
  });
  test('no change leaves the entries and their times alone', () => {
    expect(update(created, structuredClone(created), 'kubectl-create', later).metadata.managedFields).toEqual(created.metadata.managedFields);
  });
  test('a subresource has its own entry', () => {
    const changed = { ...created, status: { loadBalancer: { ingress: [{ ip: '192.0.2.1' }] } } } as unknown as KubeObject;
    const result = trackUpdate({ live: created, updated: changed, manager: 'lb', subresource: 'status', schema, now, ignore: ['spec'] });
    expect(entry(result, 'lb')).toMatchObject({ subresource: 'status', fieldsV1: { 'f:status': { 'f:loadBalancer': { 'f:ingress': {} } } } });
  });
  test('clients may write managedFields, [{}] resets them, [] does not lose them', () => {
    const swapped = update(created, { ...created, metadata: { ...created.metadata, managedFields: [{ manager: 'new', operation: 'Apply', apiVersion: 'v1', fieldsType: 'FieldsV1', fieldsV1: { 'f:spec': { 'f:type': {} } } }] } });
    expect(swapped.metadata.managedFields?.map((one) => one.manager)).toEqual(['new']);
    expect(update(created, { ...created, metadata: { ...created.metadata, managedFields: [{}] } }).metadata.managedFields).toBeUndefined();
    expect(update(created, { ...created, metadata: { ...created.metadata, managedFields: [] } }).metadata.managedFields).toEqual(created.metadata.managedFields);
  });
  test('more than ten Update managers share an entry for the oldest', () => {
    let object = created;
    for (let index = 0; index < 15; index++) {
      const labels = { ...object.metadata.labels, [`l${index}`]: 'x' };
      object = update(object, { ...object, metadata: { ...object.metadata, labels } }, `m${index}`, `2026-01-01T00:00:${10 + index}Z`);
    }
    expect(object.metadata.managedFields).toHaveLength(10);
    expect(entry(object, 'ancient-changes')).toBeDefined();
    expect(entry(object, 'm14')).toBeDefined();
  });
  test('broken fieldsV1 is ignored', () => {
    const odd = { ...created, metadata: { ...created.metadata, managedFields: [{ manager: 'x', operation: 'Update' as const, fieldsV1: { nonsense: 1 } }] } };
    expect(update(created, odd).metadata.managedFields).toEqual(created.metadata.managedFields);
  });
});

test('kinds without a schema: objects are granular, lists atomic', () => {
  const make = (more: Json): KubeObject => ({ apiVersion: 'x/v1', kind: 'X', metadata: { name: 'a' }, ...more }) as unknown as KubeObject;
  const one = serverSideApply({ live: undefined, applied: make({ spec: { a: 1, list: [1, 2] } }), manager: 'one', force: false, schema: undefined, now }).object;
  const two = serverSideApply({ live: one, applied: make({ spec: { b: 2 } }), manager: 'two', force: false, schema: undefined, now }).object;
  expect(two).toMatchObject({ spec: { a: 1, b: 2, list: [1, 2] } });
  expect(failure(() => serverSideApply({ live: two, applied: make({ spec: { list: [1] } }), manager: 'two', force: false, schema: undefined, now })).message).toContain('.spec.list');
});
