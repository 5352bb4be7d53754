// kubectl's commands that change, wait and delete, with the real program.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { bind, startConformanceWorld, webYaml } from './rows.ts';
import type { World } from '../server/harness.ts';

let world: World;
beforeAll(async () => { world = await startConformanceWorld(); });
afterAll(() => world.stop());
const { ok, rows } = bind(() => world);

beforeAll(async () => {
  await ok('create deployment d1 --image=img --replicas=2');
  await ok('run r1 --image=img --command -- sleep 1');
  await ok('create serviceaccount sa1');
  await ok('create service clusterip s1 --tcp=80');
  await ok('apply -f -', webYaml);
});

describe('changing', () => {
  rows('apply: created, unchanged, configured; removed list items go', [
    ['apply -f -', 'configmap/ap created', 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ap}\ndata: {a: "1", b: "2"}\n'],
    ['apply -f -', 'configmap/ap unchanged', 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ap}\ndata: {a: "1", b: "2"}\n'],
    ['apply -f -', 'configmap/ap configured', 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ap}\ndata: {a: "3"}\n'],
    ['get cm ap -o jsonpath={.data}', /^\{"a":"3"\}$/],
    ['apply -f -', 'service/ap created', 'apiVersion: v1\nkind: Service\nmetadata: {name: ap}\nspec: {ports: [{name: a, port: 1}, {name: b, port: 2}]}\n'],
    ['apply -f -', 'service/ap configured', 'apiVersion: v1\nkind: Service\nmetadata: {name: ap}\nspec: {ports: [{name: b, port: 2}]}\n'],
    ['get svc ap -o jsonpath={.spec.ports[*].port}', /^2$/], ['apply view-last-applied svc ap', 'port: 2'],
  ]);
  rows('apply --server-side: conflicts are told, force takes', [
    ['apply --server-side --field-manager=one -f -', 'serverside-applied', 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ssa}\ndata: {a: "1"}\n'],
    ['!apply --server-side --field-manager=two -f -', /conflict with "one": \.data\.a/, 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ssa}\ndata: {a: "2"}\n'],
    ['apply --server-side --field-manager=two --force-conflicts -f -', 'serverside-applied', 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ssa}\ndata: {a: "2"}\n'],
    ['get cm ssa --show-managed-fields -o yaml', /manager: two/],
  ]);
  rows('apply --prune removes what the files no longer name', [
    ['apply --prune -l prune=me -f -', 'configmap/pr2 created', 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: pr1, labels: {prune: me}}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: pr2, labels: {prune: me}}\n'],
    ['apply --prune -l prune=me -f -', 'configmap/pr2 pruned', 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: pr1, labels: {prune: me}}\n'],
  ]);
  test('diff exits 1 and shows the change, 0 when there is none', async () => {
    const same = 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ap}\ndata: {a: "3"}\n';
    await ok('diff -f -', same);
    const result = await world.kubectl('diff -f -', { stdin: same.replace('3', '4') });
    expect([result.code, /\+ {2}a: "4"/.test(result.out)]).toEqual([1, true]);
  });
  test('edit saves what the editor made', async () => {
    const result = await world.kubectl('edit cm ap', { env: { KUBE_EDITOR: 'sed -i s/\\"3\\"/\\"5\\"/' } });
    expect(result.all).toContain('configmap/ap edited');
    expect(await ok('get cm ap -o jsonpath={.data.a}')).toBe('5');
  });
  rows('patch of all types', [
    [`patch svc web -p '{"spec":{"ports":[{"port":80,"nodePort":null}]}}'`, 'no change'], [`patch svc web --type=merge -p '{"metadata":{"labels":{"m":"1"}}}'`, 'patched'],
    [`patch svc web --type=json -p '[{"op":"remove","path":"/metadata/labels/m"}]'`, 'patched'], [`!patch svc web --type=json -p '[{"op":"remove","path":"/metadata/labels/m"}]'`, /invalid|request is invalid|nable/],
    [`patch deploy d1 --subresource=status --type=merge -p '{"status":{"observedGeneration":1}}'`, 'patched'], ['patch svc web -p {}', 'no change'],
  ]);
  rows('label and annotate', [
    ['label svc web tier=front', 'labeled'], ['!label svc web tier=back', 'overwrite'], ['label svc web tier=back --overwrite', 'labeled'], ['label svc web tier-', 'unlabeled'], ['annotate svc web note=hello', 'annotated'], ['annotate svc web note-', 'annotated'],
    ['label cm --all batch=1', 'labeled'],
  ]);
  rows('replace, also with --force', [
    ['replace -f -', 'service/web replaced', webYaml.replace('9090', '9091')], ['replace --force -f -', 'service/web replaced', webYaml], ['!replace -f -', 'NotFound', 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: absent}\n'], ['replace -f -', 'service/fresh replaced', webYaml.replace('name: web', 'name: fresh')],
  ]);
  rows('expose, set, scale, rollout', [
    ['expose deployment d1 --port=80 --target-port=8080 --name=exposed', 'service/exposed exposed'], ['get svc exposed -o jsonpath={.spec.selector.app}', 'd1'], ['expose pod r1 --port=80', 'exposed'],
    ['set image deploy/d1 img=img:2', 'image updated'], ['set env deploy/d1 A=b', 'env updated'], ['set selector svc exposed app=other', 'selector updated'], ['set serviceaccount deploy d1 sa1', 'serviceaccount updated'], ['set resources deploy d1 --limits=cpu=1', 'resource requirements updated'],
    ['scale deploy d1 --replicas=4', 'scaled'], ['scale deploy d1 --replicas=1 --current-replicas=4', 'scaled'], ['!scale deploy d1 --replicas=1 --current-replicas=9', 'xpected'],
    ['rollout restart deploy d1', 'restarted'], ['rollout pause deploy d1', 'paused'], ['rollout resume deploy d1', 'resumed'], ['rollout history deploy d1', /REVISION|No rollout history/],
  ]);
  rows('nodes: cordon, taint, drain', [
    ['create -f -', 'node/node-1 created', 'apiVersion: v1\nkind: Node\nmetadata: {name: node-1}\n'], ['cordon node-1', 'cordoned'], ['get node node-1', 'SchedulingDisabled'], ['uncordon node-1', 'uncordoned'],
    ['taint node node-1 k=v:NoSchedule', 'tainted'], ['taint node node-1 k-', 'untainted'], ['drain node-1 --ignore-daemonsets --force', 'drained'], ['describe node node-1', 'Unschedulable'],
  ]);
});

describe('waiting and deleting', () => {
  rows('wait for a condition, a JSON path, a deletion', [
    ['wait --for=jsonpath={.status.phase}=Active ns/default --timeout=5s', 'condition met'], [`patch node node-1 --subresource=status --type=merge -p '{"status":{"conditions":[{"type":"Ready","status":"True"}]}}'`, 'patched'],
    ['wait --for=condition=Ready node/node-1 --timeout=5s', 'condition met'], ['!wait --for=condition=Ready pod/r1 --timeout=1s', 'timed out'],
  ]);
  test('wait --for=delete ends when the object goes', async () => {
    await ok('create configmap waited');
    const waiting = world.kubectl('wait --for=delete cm/waited --timeout=10s');
    await ok('delete cm waited');
    expect((await waiting).code).toBe(0);
  });
  rows('delete: by name, selector, file, now, cascade', [
    ['create configmap del1'], ['delete cm del1', 'configmap "del1" deleted'], ['!delete cm del1', 'NotFound'], ['delete cm del1 --ignore-not-found'], ['delete svc -l app=web', 'service "web" deleted'],
    ['delete pod r1 --now', 'deleted'], ['create configmap del2'], ['delete cm del2 --cascade=orphan --wait=false', 'deleted'], ['create configmap del3'], ['delete cm/del3 --grace-period=0 --force', 'force deleted'], ['delete -f - --wait=false', 'deleted', 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ap}\n'],
    ['create ns n1', 'created'], ['delete ns n1', 'namespace "n1" deleted'], ['!get ns n1', 'NotFound'], ['delete deploy --all', 'deleted'],
  ]);
  rows('events: list, for an object, under both groups', [
    ['create -f -', 'event/ev1 created', 'apiVersion: v1\nkind: Event\nmetadata: {name: ev1}\ninvolvedObject: {apiVersion: v1, kind: Service, name: s1, namespace: default}\nreason: Tested\nmessage: all is well\ntype: Normal\nlastTimestamp: "2026-01-01T00:00:00Z"\n'],
    ['get events', /Normal +Tested +service\/s1 +all is well/], ['events --for=service/s1', 'Tested'], ['get events.events.k8s.io', 'all is well'], ['get ev --field-selector=reason=Tested -o name', 'event/ev1'],
  ]);
  rows('cluster-info dump', [['cluster-info dump', '"kind": "PodList"']]);
});
