// Further kubectl commands with the real program: everything that is served is explained and listed; TLS secrets, edits that
// fail, diffs of several objects, selectors, subresources, prune and force in their rarer forms.

import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { bind, startConformanceWorld, webYaml } from './rows.ts';
import type { World } from '../server/harness.ts';

let world: World;
beforeAll(async () => { world = await startConformanceWorld(); });
afterAll(() => world.stop());
const { ok, rows } = bind(() => world);
const map = (name: string, value: string, labels = ''): string => `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ${name}${labels}}\ndata: {a: "${value}"}\n`;

describe('every served kind', () => {
  test('is explained, also recursively', async () => {
    const names = (await ok('api-resources -o name --verbs=get,list')).trim().split('\n');
    expect(names.length).toBeGreaterThan(40);
    const failed: string[] = [];
    for (let from = 0; from < names.length; from += 8) {
      await Promise.all(names.slice(from, from + 8).map(async (name) => {
        // That name reads like a field path to kubectl.
        const words = name === 'events.events.k8s.io' ? 'events --api-version=events.k8s.io/v1' : name;
        const result = await world.kubectl(`explain ${words} --recursive`, { timeoutMs: 20_000 });
        if (result.code !== 0 || !/^ {2}apiVersion\t<string>/m.test(result.out) || !/^ {2}metadata\t<ObjectMeta>/m.test(result.out)) failed.push(`${name}: ${result.all.slice(0, 200)}`);
      }));
    }
    expect(failed).toEqual([]);
  });
  test('is listed by one command over all of them, in a table and as YAML', async () => {
    const names = (await ok('api-resources -o name --verbs=list')).trim().split('\n').join(',');
    expect(await ok(`get ${names} -A --ignore-not-found`)).toMatch(/service\/kubernetes/);
    expect(await ok(`get ${names} -A -o name`)).toContain('clusterrole.rbac.authorization.k8s.io/view');
  });
  test('has all columns in api-resources -o wide', async () => {
    const lines = (await ok('api-resources -o wide --no-headers')).trim().split('\n');
    for (const line of lines) expect(line).toMatch(/^\S+ +(\S+ +)?(\S+\/)?v\d\w* +(true|false) +[A-Z]\w+ +[a-z,]+/);
    expect(lines.find((line) => line.startsWith('services '))).toMatch(/services +svc +v1 +true +Service +create,delete,deletecollection,get,list,patch,update,watch +all/);
    expect(await ok('api-resources --sort-by=kind --cached -o name')).toContain('leases.coordination.k8s.io');
  });
});

describe('generators', () => {
  test('create secret tls takes a pair, and refuses one that does not match', async () => {
    const make = (name: string): string[] => {
      execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', `${world.folder}/${name}.key`, '-out', `${world.folder}/${name}.crt`, '-subj', `/CN=${name}`, '-days', '1'], { stdio: 'ignore' });
      return [`--cert=${world.folder}/${name}.crt`, `--key=${world.folder}/${name}.key`];
    };
    const [one, two] = [make('one'), make('two')];
    expect(await ok(`create secret tls shop ${one.join(' ')}`)).toContain('secret/shop created');
    expect(await ok('get secret shop')).toMatch(/shop +kubernetes\.io\/tls +2 /);
    expect((await world.kubectl(`create secret tls odd ${one[0]} ${two[1]}`)).code).not.toBe(0);
  });
  rows('services and ingresses in their further forms', [
    ['create service clusterip none --clusterip=None --tcp=80', 'created'], ['create service clusterip many --tcp=80:8080 --tcp=443', 'created'], ['get svc many -o jsonpath={.spec.ports[*].targetPort}', '8080 443'],
    ['create service loadbalancer lb --tcp=80:8080', 'created'], ['!create service externalname bad', 'external-name'], ['create service externalname ext --external-name=db.example --tcp=5432', 'created'],
    ['create ingress deflt --default-backend=many:80 --annotation a=b', 'created'], ['describe ing deflt', /Default backend: +many:80/], ['create ingress exact --rule=a.example/x=many:443,tls', 'created'], ['get ing exact -o jsonpath={.spec.rules[0].http.paths[0].pathType}', 'Exact'],
    ['create service clusterip dry --tcp=1 --dry-run=client -o yaml', 'port: 1'], ['create service clusterip dry --tcp=1 --dry-run=server', 'server dry run'], ['!get svc dry', 'NotFound'],
    ['create ingress bad --rule=a.example/*=many:80 --dry-run=server -o name', 'ingress.networking.k8s.io/bad'],
  ]);
});

describe('changing', () => {
  rows('label, annotate, taint: many at once, taken back, refused', [
    ['create -f -', 'created', webYaml], ['label svc --all team=net', 'service/web labeled'], ['label svc -l team=net tier=a --overwrite', 'service/web labeled'], ['label svc web --list', 'team=net'],
    ['!label svc web bad/key/name=x', /qualified name|name part must/], ['label svc web team=net --overwrite --resource-version=1 --dry-run=client', /labeled/], ['!label svc web team=x --overwrite --resource-version=1', /Conflict|modified/],
    ['annotate svc web a=1 b=2', 'annotated'], ['annotate svc web a=3 b- --overwrite', 'annotated'], ['get svc web -o jsonpath={.metadata.annotations}', /\{"a":"3"\}/],
    ['create -f -', 'created', 'apiVersion: v1\nkind: Node\nmetadata: {name: node-a}\n'], ['taint node node-a k=v:NoSchedule l=w:NoExecute', 'tainted'], ['taint node node-a k=x:NoSchedule --overwrite', 'modified'], ['get node node-a -o jsonpath={.spec.taints[*].value}', /x/], ['taint node node-a k:NoSchedule- l-', 'untainted'], ['!taint node node-a k=v:Never', 'invalid taint effect'],
  ]);
  test('edit: a change that is refused is kept for another try, no change is no write', async () => {
    await ok('create -f -', map('ed', '1'));
    expect((await world.kubectl('edit cm ed', { env: { KUBE_EDITOR: 'true' } })).all).toContain('no changes made');
    const refused = await world.kubectl('edit svc web', { env: { KUBE_EDITOR: 'sed -i s/port:.80$/port:\\ 99999/' } });
    expect(refused.code).not.toBe(0);
    expect(refused.all).toMatch(/spec\.ports\[0\]\.port: Invalid value: 99999|A copy of your changes/);
    expect(await ok('get svc web -o jsonpath={.spec.ports[0].port}')).toBe('80');
    expect((await world.kubectl('edit svc/web --subresource=status', { env: { KUBE_EDITOR: 'true' } })).all).toMatch(/no changes made|Edit cancelled/);
  });
  test('diff: of several objects, server-side, and of one that is not there yet', async () => {
    const two = `${map('ed', '2')}---\n${map('fresh', '1')}`;
    const plain = await world.kubectl('diff -f -', { stdin: two });
    expect([plain.code, /\+ {2}a: "2"/.test(plain.out), /\+ {2}name: fresh/.test(plain.out)]).toEqual([1, true, true]);
    const server = await world.kubectl('diff --server-side --force-conflicts -f -', { stdin: map('ed', '2') });
    expect([server.code, /\+ {2}a: "2"/.test(server.out)]).toEqual([1, true]);
    expect((await world.kubectl('get cm fresh')).code).not.toBe(0);
  });
  rows('prune by allow-list and by apply set; force and recreate', [
    ['apply --prune -l p=1 --prune-allowlist=core/v1/ConfigMap -f -', 'created', map('p1', '1', ', labels: {p: "1"}')], ['apply --prune -l p=1 --prune-allowlist=core/v1/ConfigMap -f -', 'configmap/p1 pruned', map('p2', '1', ', labels: {p: "1"}')],
    ['replace --force --grace-period=0 -f -', 'configmap/p2 replaced', map('p2', '2')], ['get cm p2 -o jsonpath={.data.a}', '2'], ['!apply -f -', 'immutable', 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: fixed}\nimmutable: true\ndata: {a: "1"}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: fixed}\nimmutable: true\ndata: {a: "2"}\n'],
    ['apply --force -f -', 'configmap/fixed configured', 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: fixed}\nimmutable: true\ndata: {a: "3"}\n'],
    ['create deployment d --image=img:1 --replicas=0', 'created'], ['set image deploy/d *=img:2', 'updated'], ['get deploy d -o jsonpath={.spec.template.spec.containers[0].image}', 'img:2'], ['set env deploy/d A=1 B=2', 'updated'], ['set env deploy/d --list', /A=1\nB=2/], ['set env deploy/d A-', 'updated'],
    ['set selector svc/web app=other,v=2', 'updated'], ['get svc web -o jsonpath={.spec.selector}', /"app":"other","v":"2"/], ['autoscale deploy d --min=1 --max=3', 'autoscaled'], ['get hpa d', /Deployment\/d/], ['scale --replicas=0 deploy --all', 'scaled'], ['rollout status deploy/d --timeout=5s', 'successfully rolled out'],
  ]);
});

describe('asking', () => {
  rows('rights, identity, configuration, cluster', [
    ['auth can-i --list --as=jane', /selfsubjectreviews\.authentication\.k8s\.io/], ['auth can-i delete nodes --subresource=status', 'yes'], ['!auth can-i get secrets --as=jane -q'], ['auth whoami -o jsonpath={.status.userInfo.groups}', 'system:masters'],
    ['auth reconcile -f -', 'reconciled', 'apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: rc, namespace: default}\nrules: [{apiGroups: [""], resources: [pods], verbs: [get]}]\n'],
    ['config view', /certificate-authority-data: DATA\+OMITTED/], ['config get-contexts -o name', 'netloom'], ['cluster-info', /control plane.* is running at/], ['options', 'request-timeout'], ['version -o json', '"serverVersion"'],
    ['events -A --types=Normal', /LAST SEEN|No events found/], ['get events -A --sort-by=.lastTimestamp'], ['get --raw /apis/discovery.k8s.io/v1', 'endpointslices'],
  ]);
  test('wait: several objects, any value of a path, a value that comes later', async () => {
    await ok('create -f -', map('slow', '1'));
    expect(await ok("wait --for=jsonpath='{.data.a}' cm/slow --timeout=5s")).toContain('condition met');
    const later = world.kubectl("wait --for=jsonpath='{.data.a}'=2 cm/slow --timeout=7s");
    await ok(['patch', 'cm', 'slow', '--type=merge', '-p', '\'{"data":{"a":"2"}}\''].join(' '));
    expect((await later).out).toContain('condition met');
    const created = world.kubectl('wait --for=create cm/to-come --timeout=7s');
    await ok('create cm to-come');
    expect((await created).code).toBe(0);
    const gone = world.kubectl('wait --for=delete cm/slow cm/to-come --timeout=7s');
    await ok('delete cm slow to-come');
    expect((await gone).code).toBe(0);
  });
});
