// What people do to workloads, nodes and namespaces with kubectl, against the controllers of a whole control plane.

import { afterAll, beforeAll, expect, test } from 'vitest';
import { resources } from '../../../api/resources.ts';
import type { Lease, Node } from '../../../api/types.ts';
import { FakeAgent } from '../../lib/fake-agent.ts';
import { bind, startConformanceWorld } from '../conformance/rows.ts';
import type { World } from '../server/harness.ts';

let world: World;
let agent: FakeAgent;
beforeAll(async () => {
  world = await startConformanceWorld();
  agent = new FakeAgent(world);
  const conditions = [{ type: 'Ready' as const, status: 'True' as const, reason: 'NodeReady', message: '' }];
  for (const name of ['n1', 'n2']) {
    await world.client.create<Node>(resources.nodes, undefined, { metadata: { name }, status: { conditions, capacity: { cpu: '4' }, allocatable: { cpu: '4' } } });
    await world.client.create<Lease>(resources.leases, 'kube-node-lease', { metadata: { name, namespace: 'kube-node-lease' }, spec: { holderIdentity: name, leaseDurationSeconds: 40, renewTime: '2026-01-01T00:00:00.000000Z' } });
  }
});
afterAll(async () => { agent.stop(); await world.stop(); });
const { ok, rows } = bind(() => world);

rows('create deployment, wait, rollout status, set image, history, undo, restart, pause and resume', [
  ['create deployment web --image=v1 --replicas=3', 'deployment.apps/web created'],
  ['rollout status deployment/web --timeout=7s', 'successfully rolled out'],
  ['wait --for=condition=Available deployment/web --timeout=7s', 'condition met'],
  ['get deployment web', /web +3\/3 +3 +3/],
  ["annotate deployment web 'kubernetes.io/change-cause=first'", 'annotated'],
  ['set image deployment/web v1=v2', 'image updated'],
  ['rollout status deployment/web --timeout=7s', 'successfully rolled out'],
  ['rollout history deployment/web', /1 .*\n2 /],
  ['rollout history deployment/web --revision=1', 'Image:\tv1'],
  ['rollout undo deployment/web', 'rolled back'],
  ['rollout status deployment/web --timeout=7s', 'successfully rolled out'],
  ['get deployment web -o jsonpath={.spec.template.spec.containers[0].image}', /^v1$/],
  ['rollout history deployment/web', /2 .*\n3 /],
  ['rollout restart deployment/web', 'restarted'],
  ['rollout status deployment/web --timeout=7s', 'successfully rolled out'],
  ['rollout pause deployment/web', 'paused'],
  ['set image deployment/web v1=v3', 'image updated'],
  ['rollout resume deployment/web', 'resumed'],
  ['rollout status deployment/web --timeout=7s', 'successfully rolled out'],
  ['get pods -l app=web -o jsonpath={.items[*].spec.containers[0].image}', /v3/],
  ['describe deployment web', /ScalingReplicaSet/],
]);

rows('scale, expose and look at endpoints', [
  ['scale deployment web --replicas=5', 'scaled'],
  ['rollout status deployment/web --timeout=7s', 'successfully rolled out'],
  ['expose deployment web --port=80 --target-port=8080', 'service/web exposed'],
  ["wait --for=jsonpath='{.subsets[0].addresses[4].ip}' endpoints/web --timeout=7s", 'condition met'],
  ['describe service web', /Endpoints: +10\.244\.\d+\.\d+:8080,.* \+ 2 more/],
  ['get endpointslices -l kubernetes.io/service-name=web', /web-\w{5} +IPv4 +8080 +10\.244\..* \+ 2 more/],
]);

rows('statefulset and daemonset rollouts', [
  ['apply -f -', 'created', 'apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: db}\nspec: {replicas: 2, serviceName: db, selector: {matchLabels: {app: db}}, template: {metadata: {labels: {app: db}}, spec: {containers: [{name: c, image: v1}]}}}\n'],
  ['rollout status statefulset/db --timeout=7s', /partitioned roll out complete|rolling update complete|successfully rolled out/],
  ['set image statefulset/db c=v2', 'image updated'],
  ['rollout status statefulset/db --timeout=7s', /complete/],
  ['rollout undo statefulset/db', 'rolled back'],
  ['rollout status statefulset/db --timeout=7s', /complete/],
  ['get pod db-0 -o jsonpath={.spec.containers[0].image}', /^v1$/],
  ['apply -f -', 'created', 'apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: ds}\nspec: {selector: {matchLabels: {app: ds}}, template: {metadata: {labels: {app: ds}}, spec: {containers: [{name: c, image: v1}]}}}\n'],
  ['rollout status daemonset/ds --timeout=7s', 'successfully rolled out'],
  ['set image daemonset/ds c=v2', 'image updated'],
  ['rollout status daemonset/ds --timeout=7s', 'successfully rolled out'],
  ['rollout history daemonset/ds', /1 .*\n2 /],
  ['get daemonset ds', /ds +2 +2 +2 +2 +2/],
]);

rows('jobs run to their end', [
  ['apply -f -', 'created', 'apiVersion: batch/v1\nkind: Job\nmetadata: {name: once}\nspec: {completions: 2, template: {spec: {restartPolicy: Never, containers: [{name: finish-ok, image: v1}]}}}\n'],
  ['wait --for=condition=Complete job/once --timeout=7s', 'condition met'],
  ['get job once', /once +Complete +2\/2/],
]);

rows('cordon, drain and uncordon a node', [
  ['cordon n1', 'cordoned'],
  ["wait --for=jsonpath='{.spec.taints[0].key}'=node.kubernetes.io/unschedulable node/n1 --timeout=7s", 'condition met'],
  ['get node n1', 'Ready,SchedulingDisabled'],
  ['drain n1 --ignore-daemonsets --delete-emptydir-data --force --timeout=7s', /drained/],
  ['get pods -l app=web -o jsonpath={.items[*].spec.nodeName}', /^(n2 ?)+$/],
  ['uncordon n1', 'uncordoned'],
]);

rows('taints drive Pods out', [
  ['taint node n2 maintenance=now:NoExecute', 'tainted'],
  ['rollout status deployment/web --timeout=7s', 'successfully rolled out'],
  ['taint node n2 maintenance-', 'untainted'],
]);

test('delete with each cascade mode', async () => {
  await ok('delete deployment web --cascade=orphan');
  expect(await ok('get rs -l app=web -o name')).toMatch(/replicaset/);
  await ok('delete rs -l app=web --cascade=foreground --timeout=7s');
  await ok('wait --for=delete pod -l app=web --timeout=7s');
  expect(await ok('get pods -l app=web -o name')).toBe('');
  await ok('delete daemonset ds');
  await ok('wait --for=delete pod -l app=ds --timeout=7s');
});

rows('a namespace goes with all that is in it', [
  ['create namespace shop', 'created'],
  ['create deployment web --image=v1 --replicas=2 -n shop', 'created'],
  ['rollout status deployment/web -n shop --timeout=7s', 'successfully rolled out'],
  ['delete namespace shop --timeout=7s', 'deleted'],
  ['!get namespace shop', 'not found'],
  ['!delete namespace default', 'this namespace may not be deleted'],
]);
