// kubectl's commands that find out, generate and read, with the real program.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { bind, startConformanceWorld, webYaml } from './rows.ts';
import { until, type World } from '../server/harness.ts';

let world: World;
beforeAll(async () => { world = await startConformanceWorld(); });
afterAll(() => world.stop());
const { ok, rows } = bind(() => world);

describe('finding out', () => {
  rows('version, cluster-info, api-versions', [
    ['version', /Server Version: v1\.32\./], ['cluster-info', 'control plane'], ['api-versions', /discovery\.k8s\.io\/v1\n/],
  ]);
  rows('api-resources knows names, groups and verbs', [
    ['api-resources', /services +svc +v1 +true +Service/], ['api-resources --api-group=networking.k8s.io -o name', 'ingresses.networking.k8s.io'],
    ['api-resources --namespaced=false --verbs=list,get', /^nodes /m],
  ]);
  rows('explain, also recursive and of nested fields', [
    ['explain service.spec.ports.nodePort', /FIELD: nodePort <integer>/], ['explain ingress --recursive', /pathType\t<string> -required-/],
    ['explain deployments.spec.strategy', 'rollingUpdate'], ['explain endpointslice', 'addressType'], ['!explain service.nothing', 'does not exist'],
  ]);
  rows('auth', [
    ['auth whoami', 'netloom-admin'], ['auth can-i create services', 'yes'], ["!auth can-i create pods --as=nobody", /^no$/m], ['auth whoami --as=jane --as-group=dev --as-group=ops', /jane[\s\S]*\[dev ops system:authenticated\]/], ['!get pods --as=nobody', 'User "nobody" cannot list resource "pods"'], ['auth can-i --list', /\*\.\*/],
  ]);
  rows('get --raw', [['get --raw /readyz?verbose', /\[\+\]store ok/], ['get --raw /api/v1/namespaces/default', '"phase":"Active"'], ['!get --raw /nothing', 'could not find the requested resource']]);
  rows('config reads the kubeconfig that was written', [['config view --minify', 'netloom'], ['config current-context', 'netloom']]);
});

describe('create with generators', () => {
  rows('services of every type', [
    ['create service clusterip s1 --tcp=80:8080', 'service/s1 created'], ['create service nodeport s2 --tcp=80:8080 --node-port=30123', 'created'], ['create service loadbalancer s3 --tcp=443', 'created'],
    ['create service externalname s4 --external-name=example.com', 'created'], ['create service clusterip s5 --clusterip=None', 'created'],
    ['get svc s1 s2 s3 s4 s5', /s2 +NodePort +10\.96\.\d+\.\d+ +<none> +80:30123\/TCP/], ['get svc s3', /LoadBalancer +10\.96\.\d+\.\d+ +<pending>/], ['get svc s4', /ExternalName +<none> +example\.com/],
    ['!create service nodeport s6 --tcp=80 --node-port=30123', 'provided port is already allocated'],
  ]);
  rows('configmaps, secrets, namespaces, accounts, quotas', [
    ['create configmap c1 --from-literal=a=b --from-literal=c=d', 'configmap/c1 created'], ['create secret generic x1 --from-literal=p=q', 'secret/x1 created'],
    ['create secret docker-registry x2 --docker-username=u --docker-password=p --docker-server=s', 'created'], ['create namespace n1', 'namespace/n1 created'],
    ['create serviceaccount sa1', 'created'], ['create token sa1 --duration=10m', /^ey/], ['create quota q1 --hard=pods=2', 'created'], ['get secret x1 -o jsonpath={.data.p}', 'cQ=='], ['get cm c1', /c1 +2 +/],
  ]);
  rows('ingresses', [
    ['create ingress i1 --class=netloom --rule=shop.example/*=s1:80 --rule=shop.example/api=s2:80,tls=t', 'ingress.networking.k8s.io/i1 created'], ['get ing i1', /i1 +netloom +shop\.example +80, 443/],
    ['describe ing i1', /\/api +s2:80/],
  ]);
  rows('workloads, roles and the rest', [
    ['create deployment d1 --image=img --replicas=2', 'created'], ['create job j1 --image=img', 'created'], ["create cronjob cj1 --image=img --schedule='*/5 * * * *'", 'created'],
    ['create role r1 --verb=get --resource=pods', 'created'], ['create rolebinding rb1 --role=r1 --user=u', 'created'], ['create clusterrole cr1 --verb=get --resource=nodes', 'created'],
    ['create clusterrolebinding crb1 --clusterrole=cr1 --user=u', 'created'], ['create poddisruptionbudget pdb1 --selector=app=x --min-available=1', 'created'],
    ['create priorityclass pc1 --value=5', 'created'], ['run r1 --image=img --command -- sleep 1', 'pod/r1 created'], ['autoscale deployment d1 --max=3 --cpu-percent=50', 'autoscaled'],
    ['get deploy,job,cj,pdb,pc,hpa', /horizontalpodautoscaler\.autoscaling\/d1/],
  ]);
  rows('from files: every document counts, bad ones are named', [
    ['create -f -', 'service/web created', webYaml], ['!create -f -', 'already exists', webYaml],
    ['!create -f -', /strict decoding error: unknown field "spec\.portz"/, 'apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {portz: []}\n'],
    ['!create -f -', 'no matches for kind', 'apiVersion: v9\nkind: Nothing\nmetadata: {name: x}\n'],
    ['create --dry-run=server -o name -f -', 'service/web-2', webYaml.replace('name: web', 'name: web-2')],
  ]);
});

describe('reading', () => {
  rows('get in all output forms', [
    ['get svc web', /NAME +TYPE +CLUSTER-IP +EXTERNAL-IP +PORT\(S\) +AGE\nweb +ClusterIP/], ['get svc web -o wide', /SELECTOR/], ['get svc web -o yaml', 'apiVersion: v1'], ['get svc web -o json', '"kind": "Service"'],
    ['get svc web -o name', /^service\/web\n$/], ['get svc web -o jsonpath={.spec.ports[*].port}', '80 9090'], ['get svc -o custom-columns=N:.metadata.name,T:.spec.type', /web +ClusterIP/],
    ["get svc web -o go-template='{{.metadata.name}}'", 'web'], ['get svc web --show-labels', 'app=web'], ['get svc -L app', 'APP'], ['get svc --no-headers', /^kubernetes/m],
  ]);
  rows('selections and orders', [
    ['get svc -A', 'kube-dns'], ['get svc -l app=web -o name', /^service\/web\n$/], ["get svc -l 'app in (web,x)' -o name", 'service/web'], ['get svc --field-selector=metadata.name=web -o name', 'service/web'],
    ['get svc --sort-by=.metadata.name -o name', /service\/kubernetes[\s\S]*service\/web/], ['get svc --sort-by=.spec.clusterIP', 'web'], ['get svc,cm,secret', 'configmap/c1'], ['get all', 'deployment.apps/d1'],
    ['!get svc nope', 'Error from server (NotFound): services "nope" not found'], ['!get nothings', 'the server doesn\'t have a resource type "nothings"'], ['get svc nope --ignore-not-found', /^$/], ['get svc --chunk-size=2', 'web'],
  ]);
  rows('describe', [
    ['describe svc web', /TargetPort: +8080\/TCP/], ['describe ns default', 'Active'], ['describe cm c1', 'Data'], ['describe secret x1', 'bytes'], ['describe pod r1', 'Command'], ['describe deploy d1', 'StrategyType'],
    ['describe ingressclass netloom', 'netloom.dev/ingress'], ['describe endpointslice kubernetes', 'AddressType'], ['describe clusterrole view', 'pods'],
  ]);
  test('get -w prints what comes, with the kind of each event', async () => {
    const before = await watchCount();
    const watching = world.kubectl('get cm -w --output-watch-events --request-timeout=4s', { timeoutMs: 10_000 });
    await until('one more watch', async () => await watchCount() > before);
    await ok('create configmap w1');
    await ok('delete configmap w1');
    const { out } = await watching;
    expect(out).toMatch(/ADDED +w1/);
    expect(out).toMatch(/DELETED +w1/);
  });
});

async function watchCount(): Promise<number> { return Number(/netloom_control_watches (\d+)/.exec((await world.call('GET', '/metrics')).text)?.[1] ?? 0); }
