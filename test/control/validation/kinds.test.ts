// Rules of the kinds beside Service, EndpointSlice and Ingress (those: manifests.test.ts): what is refused, with field and reason, what
// is accepted, and what an update may not change. Objects come as a client sends them and get their defaults first.

import { describe, expect, test } from 'vitest';
import type { KubeObject } from '../../../api/types.ts';
import { applyDefaults, initialStatus } from '../../../control/defaults/defaults.ts';
import { decodeBody } from '../../../control/schema/decode.ts';
import { validateCreate, validateUpdate } from '../../../control/validation/validate.ts';

type Json = Record<string, unknown>;
const clusterKinds = ['Namespace', 'Node', 'ClusterRole', 'ClusterRoleBinding', 'PriorityClass', 'StorageClass', 'IngressClass'];

/** Decodes with defaults, as the API server does. */
function make(apiVersion: string, kind: string, body: Json, metadata: Json = {}): KubeObject {
  const whole = { apiVersion, kind, metadata: { name: 'a', ...(clusterKinds.includes(kind) ? {} : { namespace: 'default' }), ...metadata }, ...body };
  return applyDefaults(decodeBody(Buffer.from(JSON.stringify(whole)), 'application/json', { strict: 'Strict' }).object);
}
const short = (reason: string | undefined): string => (reason ?? '').replace('FieldValue', '');
const causes = (object: KubeObject): string[] => validateCreate(object).map((cause) => `${short(cause.reason)} ${cause.field}`);
const changes = (before: KubeObject, after: KubeObject, subresource = ''): string[] => validateUpdate(after, before, { subresource }).map((cause) => `${short(cause.reason)} ${cause.field}`);

const container = (more: Json = {}): Json => ({ name: 'c', image: 'a:1', ...more });
const pod = (spec: Json): KubeObject => make('v1', 'Pod', { spec: { containers: [container()], ...spec } });

describe('Pod', () => {
  test('a plain one is accepted', () => { expect(causes(pod({}))).toEqual([]); });
  test.each<[string, Json, string[]]>([
    ['no containers', { containers: [] }, ['Required spec.containers']],
    ['a bad container name', { containers: [container({ name: 'A' })] }, ['Invalid spec.containers[0].name']],
    ['two of one name', { containers: [container(), container()] }, ['Duplicate spec.containers[1].name']],
    ['no image', { containers: [{ name: 'c' }] }, ['Required spec.containers[0].image']],
    ['a port beyond the range', { containers: [container({ ports: [{ containerPort: 70000 }] })] }, ['Invalid spec.containers[0].ports[0].containerPort']],
    ['a long port name', { containers: [container({ ports: [{ containerPort: 1, name: 'a-very-long-port-name' }] })] }, ['Invalid spec.containers[0].ports[0].name']],
    ['one host port twice', { containers: [container({ ports: [{ containerPort: 1, hostPort: 9 }] }), container({ name: 'd', ports: [{ containerPort: 1, hostPort: 9 }] })] }, ['Duplicate spec.containers[1].ports[0].hostPort']],
    ['value and valueFrom', { containers: [container({ env: [{ name: 'A', value: 'x', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } }] })] }, ['Invalid spec.containers[0].env[0].valueFrom']],
    ['an unknown field path', { containers: [container({ env: [{ name: 'A', valueFrom: { fieldRef: { fieldPath: 'spec.x' } } }] })] }, ['NotSupported spec.containers[0].env[0].valueFrom.fieldRef.fieldPath']],
    ['a variable without a name', { containers: [container({ env: [{ name: '' }] })] }, ['Required spec.containers[0].env[0].name']],
    ['a mount of no volume', { containers: [container({ volumeMounts: [{ name: 'v', mountPath: '/x' }] })] }, ['NotFound spec.containers[0].volumeMounts[0].name']],
    ['a probe without a handler', { containers: [container({ livenessProbe: {} })] }, ['Required spec.containers[0].livenessProbe']],
    ['a probe with two', { containers: [container({ livenessProbe: { exec: { command: ['x'] }, tcpSocket: { port: 1 } } })] }, ['Forbidden spec.containers[0].livenessProbe.tcpSocket']],
    ['liveness with successThreshold 2', { containers: [container({ livenessProbe: { tcpSocket: { port: 1 }, successThreshold: 2 } })] }, ['Invalid spec.containers[0].livenessProbe.successThreshold']],
    ['a request above the limit', { containers: [container({ resources: { limits: { cpu: '1' }, requests: { cpu: '2' } } })] }, ['Invalid spec.containers[0].resources.requests']],
    ['an unknown restart policy', { restartPolicy: 'Sometimes' }, ['NotSupported spec.restartPolicy']],
    ['dnsPolicy None without servers', { dnsPolicy: 'None' }, ['Required spec.dnsConfig']],
    ['a hostname with dots', { hostname: 'a.b' }, ['Invalid spec.hostname']],
    ['two volumes of one name', { volumes: [{ name: 'v', emptyDir: {} }, { name: 'v', emptyDir: {} }] }, ['Duplicate spec.volumes[1].name']],
    ['a volume with two sources', { volumes: [{ name: 'v', emptyDir: {}, hostPath: { path: '/x' } }] }, ['Forbidden spec.volumes[0].hostPath']],
    ['a host path with dot-dot', { volumes: [{ name: 'v', hostPath: { path: '/a/../b' } }] }, ['Invalid spec.volumes[0].hostPath.path']],
    ['a secret volume without a name', { volumes: [{ name: 'v', secret: {} }] }, ['Required spec.volumes[0].secret.secretName']],
    ['a toleration with an unknown effect', { tolerations: [{ key: 'a', operator: 'Exists', effect: 'Never' }] }, ['NotSupported spec.tolerations[0].effect']],
    ['an init container with a probe', { initContainers: [container({ name: 'i', readinessProbe: { tcpSocket: { port: 1 } } })] }, ['Forbidden spec.initContainers[0].readinessProbe']],
    ['a node selector that is no label', { nodeSelector: { 'a b': 'c' } }, ['Invalid spec.nodeSelector']],
  ])('%s', (_name, spec, expected) => { expect(causes(pod(spec))).toEqual(expected); });

  test('an update may change images and add tolerations, nothing else', () => {
    const before = pod({ tolerations: [{ key: 'a', operator: 'Exists' }] });
    const change = (spec: Json): KubeObject => pod({ tolerations: [{ key: 'a', operator: 'Exists' }], ...spec });
    expect(changes(before, change({ containers: [container({ image: 'b:2', imagePullPolicy: 'IfNotPresent' })] }))).toEqual([]);
    expect(changes(before, change({ tolerations: [{ key: 'a', operator: 'Exists' }, { key: 'b', operator: 'Exists' }] }))).toEqual([]);
    expect(changes(before, change({ tolerations: [] }))).toEqual(['Forbidden spec.tolerations']);
    expect(changes(before, change({ hostname: 'x' }))).toEqual(['Forbidden spec']);
    expect(changes(before, change({ containers: [container(), container({ name: 'd' })] }))).toContain('Forbidden spec.containers');
    expect(changes(before, change({ containers: [container({ image: ' ' })] }))).toContain('Invalid spec.containers[0].image');
  });
  test('its first status', () => {
    expect(initialStatus(pod({}))).toEqual({ phase: 'Pending', qosClass: 'BestEffort' });
    expect(initialStatus(pod({ containers: [container({ resources: { limits: { cpu: '1', memory: '1Gi' } } })] }))).toEqual({ phase: 'Pending', qosClass: 'Guaranteed' });
  });
});

const workload = (spec: Json = {}): Json => ({ spec: { selector: { matchLabels: { a: 'b' } }, template: { metadata: { labels: { a: 'b' } }, spec: { containers: [container()] } }, ...spec } });

describe('workloads', () => {
  test.each<[string, Json, string[]]>([
    ['fine', {}, []], ['negative replicas', { replicas: -1 }, ['Invalid spec.replicas']], ['no selector', { selector: undefined }, ['Required spec.selector']],
    ['an empty selector', { selector: {} }, ['Invalid spec.selector']], ['a selector that misses the template', { selector: { matchLabels: { x: 'y' } } }, ['Invalid spec.template.metadata.labels']],
    ['restartPolicy Never', { template: { metadata: { labels: { a: 'b' } }, spec: { restartPolicy: 'Never', containers: [container()] } } }, ['NotSupported spec.template.spec.restartPolicy']],
    ['Recreate with rollingUpdate', { strategy: { type: 'Recreate', rollingUpdate: { maxSurge: 1 } } }, ['Forbidden spec.strategy.rollingUpdate']],
    ['no surge and no unavailable', { strategy: { rollingUpdate: { maxSurge: 0, maxUnavailable: 0 } } }, ['Invalid spec.strategy.rollingUpdate.maxUnavailable']],
    ['a share that is none', { strategy: { rollingUpdate: { maxSurge: 'x' } } }, ['Invalid spec.strategy.rollingUpdate.maxSurge']],
    ['a deadline below minReadySeconds', { progressDeadlineSeconds: 5, minReadySeconds: 5 }, ['Invalid spec.progressDeadlineSeconds']],
  ])('Deployment: %s', (_name, spec, expected) => { expect(causes(make('apps/v1', 'Deployment', workload(spec)))).toEqual(expected); });
  test('the selector never changes', () => {
    const before = make('apps/v1', 'Deployment', workload());
    const after = make('apps/v1', 'Deployment', workload({ selector: { matchLabels: { c: 'd' } }, template: { metadata: { labels: { c: 'd' } }, spec: { containers: [container()] } } }));
    expect(changes(before, after)).toEqual(['Invalid spec.selector']);
  });
  test('Job and CronJob need a restart policy that ends', () => {
    const template = (restartPolicy: string): Json => ({ template: { spec: { restartPolicy, containers: [container()] } } });
    expect(causes(make('batch/v1', 'Job', { spec: template('Never') }))).toEqual([]);
    expect(causes(make('batch/v1', 'Job', { spec: template('Always') }))).toEqual(['Required spec.template.spec.restartPolicy']);
    expect(causes(make('batch/v1', 'CronJob', { spec: { schedule: '* * *', jobTemplate: { spec: template('Never') } } }))).toEqual(['Invalid spec.schedule']);
  });
  test('StatefulSet, DaemonSet, ReplicaSet and ReplicationController accept their least form', () => {
    for (const kind of ['StatefulSet', 'DaemonSet', 'ReplicaSet']) expect(causes(make('apps/v1', kind, workload())), kind).toEqual([]);
    expect(causes(make('v1', 'ReplicationController', { spec: { template: { metadata: { labels: { a: 'b' } }, spec: { containers: [container()] } } } }))).toEqual([]);
  });
});

describe('small kinds', () => {
  const data = (bytes: number): string => Buffer.alloc(bytes, 'x').toString('base64');
  test.each<[string, KubeObject, string[]]>([
    ['Secret with stringData', make('v1', 'Secret', { stringData: { a: 'b' } }), []], ['Secret with a bad key', make('v1', 'Secret', { data: { 'a b': '' } }), ['Invalid data[a b]']],
    ['Secret with the key __proto__', make('v1', 'Secret', JSON.parse('{"data":{"__proto__":"YQ=="}}') as Json), ['Invalid data[__proto__]']],
    ['Secret over a mebibyte', make('v1', 'Secret', { data: { a: data(1024 * 1024 + 1) } }), ['TooLong data']], ['tls Secret without key', make('v1', 'Secret', { type: 'kubernetes.io/tls', data: { 'tls.crt': '' } }), ['Required data[tls.key]']],
    ['docker Secret without JSON', make('v1', 'Secret', { type: 'kubernetes.io/dockerconfigjson', data: { '.dockerconfigjson': 'eA==' } }), ['Invalid data[.dockerconfigjson]']],
    ['basic-auth Secret without either', make('v1', 'Secret', { type: 'kubernetes.io/basic-auth' }), ['Required data[username]', 'Required data[password]']],
    ['token Secret without account', make('v1', 'Secret', { type: 'kubernetes.io/service-account-token' }), ['Required metadata.annotations[kubernetes.io/service-account.name]']],
    ['ConfigMap with one key in both', make('v1', 'ConfigMap', { data: { a: 'x' }, binaryData: { a: '' } }), ['Invalid data[a]']],
    ['ConfigMap over a mebibyte', make('v1', 'ConfigMap', { data: { a: 'x'.repeat(1024 * 1024 + 1) } }), ['TooLong ']],
    ['Lease of no length', make('coordination.k8s.io/v1', 'Lease', { spec: { leaseDurationSeconds: 0 } }), ['Invalid spec.leaseDurationSeconds']],
    ['Node with a bad taint', make('v1', 'Node', { spec: { taints: [{ key: 'a', effect: 'X' }] } }), ['NotSupported spec.taints[0].effect']],
    ['Node with a bad Pod range', make('v1', 'Node', { spec: { podCIDRs: ['10.0.0.0'] } }), ['Invalid spec.podCIDRs[0]']],
    ['Namespace with a dot', make('v1', 'Namespace', {}, { name: 'a.b' }), ['Invalid metadata.name']],
    ['Event of another namespace', make('v1', 'Event', { involvedObject: { kind: 'Pod', name: 'p', namespace: 'other' } }), ['Invalid involvedObject.namespace']],
    ['new Event without reporter', make('events.k8s.io/v1', 'Event', { eventTime: '2026-01-01T00:00:00.000000Z', regarding: { namespace: 'default' }, reason: 'R', action: 'A', reportingInstance: 'i', type: 'Normal' }), ['Required reportingController']],
    ['Role without verbs', make('rbac.authorization.k8s.io/v1', 'Role', { rules: [{ apiGroups: [''], resources: ['pods'], verbs: [] }] }), ['Required rules[0].verbs']],
    ['RoleBinding to a Pod', make('rbac.authorization.k8s.io/v1', 'RoleBinding', { roleRef: { kind: 'Pod', name: 'p' } }), ['NotSupported roleRef.kind']],
    ['NetworkPolicy peer of both sorts', make('networking.k8s.io/v1', 'NetworkPolicy', { spec: { ingress: [{ from: [{ podSelector: {}, ipBlock: { cidr: '10.0.0.0/8' } }] }] } }), ['Forbidden spec.ingress[0].from[0]']],
    ['PodDisruptionBudget with both', make('policy/v1', 'PodDisruptionBudget', { spec: { minAvailable: 1, maxUnavailable: 1 } }), ['Invalid spec']],
    ['StorageClass without provisioner', make('storage.k8s.io/v1', 'StorageClass', {}), ['Required provisioner']],
    ['HorizontalPodAutoscaler without target', make('autoscaling/v2', 'HorizontalPodAutoscaler', { spec: { maxReplicas: 1 } }), ['Required spec.scaleTargetRef']],
  ])('%s', (_name, object, expected) => { expect(causes(object)).toEqual(expected); });

  test('immutable data and types stay', () => {
    const before = make('v1', 'Secret', { data: { a: 'YQ==' }, immutable: true });
    expect(changes(before, make('v1', 'Secret', { data: { a: 'Yg==' }, immutable: true }))).toEqual(['Forbidden data']);
    expect(changes(before, make('v1', 'Secret', { data: { a: 'YQ==' } }))).toEqual(['Forbidden immutable']);
    expect(changes(make('v1', 'Secret', {}), make('v1', 'Secret', { type: 'x/y' }))).toEqual(['Invalid type']);
    expect(changes(make('v1', 'Node', { spec: { podCIDRs: ['10.0.0.0/24'] } }), make('v1', 'Node', { spec: { podCIDRs: ['10.0.1.0/24'] } }))).toEqual(['Forbidden spec.podCIDRs']);
  });
});

describe('metadata of every kind', () => {
  const map = (metadata: Json): KubeObject => make('v1', 'ConfigMap', {}, metadata);
  test.each<[string, Json, string[]]>([
    ['annotations over 256 KiB', { annotations: { a: 'x'.repeat(256 * 1024) } }, ['TooLong metadata.annotations']], ['an annotation key with capitals is fine', { annotations: { 'A.b/C': '' } }, []],
    ['two controllers', { ownerReferences: [1, 2].map((id) => ({ apiVersion: 'v1', kind: 'Pod', name: `p${id}`, uid: String(id), controller: true })) }, ['Invalid metadata.ownerReferences']],
    ['an Event as owner', { ownerReferences: [{ apiVersion: 'v1', kind: 'Event', name: 'e', uid: '1' }] }, ['Invalid metadata.ownerReferences']],
    ['orphan and foreground together', { finalizers: ['orphan', 'foregroundDeletion'] }, ['Invalid metadata.finalizers']], ['a finalizer without a domain', { finalizers: ['x'] }, ['Invalid metadata.finalizers']],
    ['generateName with capitals', { generateName: 'Ab-' }, ['Invalid metadata.generateName']], ['generateName that ends in a hyphen is fine', { generateName: 'a-' }, []],
    ['managedFields of an unknown operation', { managedFields: [{ manager: 'm', operation: 'Patch' }] }, ['Invalid metadata.managedFields[0].operation']],
  ])('%s', (_name, metadata, expected) => { expect(causes(map(metadata))).toEqual(expected); });
  test('a namespace where none belongs, none where one does', () => {
    expect(causes(make('v1', 'Namespace', {}, { namespace: 'x' }))).toContain('Forbidden metadata.namespace');
    expect(causes(make('v1', 'ConfigMap', {}, { namespace: undefined }))).toEqual(['Required metadata.namespace']);
  });
  test('no finalizer is added to an object that goes', () => {
    const going = map({ deletionTimestamp: '2026-01-01T00:00:00Z', finalizers: ['a.b/c'] });
    expect(changes(going, map({ deletionTimestamp: '2026-01-01T00:00:00Z', finalizers: ['a.b/c', 'a.b/d'] }))).toEqual(['Forbidden metadata.finalizers']);
    expect(changes(going, map({ deletionTimestamp: '2026-01-01T00:00:00Z' }))).toEqual([]);
  });
});
