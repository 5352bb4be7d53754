// Who may do what: certificates, tokens, anonymous callers, RBAC, nodes, joining, signing requests.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { request as httpsRequest } from 'node:https';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { httpTransport, type ApiTransport } from '../../../api/client.ts';
import { configMap, pod, service, startWorld, until, type Answer, type World } from './harness.ts';
import { joinCluster } from './join-client.ts';

let world: World;
beforeAll(async () => { world = await startWorld({ nodePortRange: [30_000, 32_767] }); await world.control.whenReady(); });
afterAll(() => world.stop());

const tls = (options: object = {}): ApiTransport => httpTransport({ server: world.control.url, caPem: world.control.caPem, ...options });
async function over(transport: ApiTransport, method: string, path: string, options: object = {}): Promise<Answer> {
  try { return await world.call(method, path, options, transport); } finally { await transport.close(); }
}

describe('anonymous callers', () => {
  for (const path of ['/healthz', '/livez', '/readyz', '/version', '/cacerts']) {
    test(`may read ${path}`, async () => { expect((await over(tls(), 'GET', path)).status).toBe(200); });
  }
  for (const path of ['/api', '/apis', '/api/v1', '/openapi/v3', '/metrics', '/api/v1/namespaces', '/api/v1/pods?watch=true', '/', '/openid/v1/jwks', '/nothing']) {
    test(`get 401 for ${path}`, async () => {
      const answer = await over(tls(), 'GET', path);
      expect([answer.status, answer.json.reason, answer.json.kind]).toEqual([401, 'Unauthorized', 'Status']);
    });
  }
  test('cannot write', async () => { expect((await over(tls(), 'POST', '/api/v1/namespaces/default/configmaps', { body: configMap('x') })).status).toBe(401); });
});

describe('bearer tokens', () => {
  const call = (authorization: string): Promise<Answer> => over(tls(), 'GET', '/api/v1/namespaces', { headers: { authorization } });
  for (const [name, value] of [['garbage', 'Bearer abc'], ['Basic auth', 'Basic YWRtaW46YWRtaW4='], ['an empty token', 'Bearer '], ['two words', 'Bearer a b'], ['6 KB', `Bearer ${'a'.repeat(6_000)}`]] as const) {
    test(`${name}: 401`, async () => { expect((await call(value)).status).toBe(401); });
  }
  test('an unsigned web token is refused', async () => {
    const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
    expect((await call(`Bearer ${encode({ alg: 'none' })}.${encode({ sub: 'system:serviceaccount:kube-system:default', exp: 9e9 })}.`)).status).toBe(401);
  });
  test('a service account token names its account, and dies with it', async () => {
    await world.client.raw('POST', '/api/v1/namespaces/default/serviceaccounts', { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'robot' } });
    const answer = await world.call('POST', '/api/v1/namespaces/default/serviceaccounts/robot/token', { body: { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: { expirationSeconds: 600 } } });
    expect(answer.status).toBe(201);
    const { token } = answer.json.status as { token: string };
    const who = { apiVersion: 'authentication.k8s.io/v1', kind: 'SelfSubjectReview' };
    const review = await over(tls({ token }), 'POST', '/apis/authentication.k8s.io/v1/selfsubjectreviews', { body: who });
    expect(review.json.status.userInfo.username).toBe('system:serviceaccount:default:robot');
    expect(review.json.status.userInfo.groups).toContain('system:serviceaccounts:default');
    expect((await over(tls({ token }), 'GET', '/api/v1/secrets')).status).toBe(403);
    await world.call('DELETE', '/api/v1/namespaces/default/serviceaccounts/robot');
    expect((await over(tls({ token }), 'POST', '/apis/authentication.k8s.io/v1/selfsubjectreviews', { body: who })).status).toBe(401);
  });
  test('a token for another audience is no credential here', async () => {
    const answer = await world.call('POST', '/api/v1/namespaces/default/serviceaccounts/default/token', { body: { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: { audiences: ['vault'] } } });
    const { token } = answer.json.status as { token: string };
    expect((await call(`Bearer ${token}`)).status).toBe(401);
    const review = async (audiences: string[]): Promise<boolean> => (await world.call('POST', '/apis/authentication.k8s.io/v1/tokenreviews', { body: { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', spec: { token, audiences } } })).json.status.authenticated as boolean;
    expect([await review(['vault']), await review(['other']), await review([])]).toEqual([true, false, false]);
  });
});

describe('client certificates', () => {
  test('CN is the user and O the groups', async () => {
    const text = world.control.kubeconfig('jane', ['dev', 'ops']);
    const result = await world.kubectl('auth whoami -o json', { kubeconfig: world.file('jane', text) });
    expect(JSON.parse(result.out).status.userInfo).toMatchObject({ username: 'jane', groups: ['dev', 'ops', 'system:authenticated'] });
  });
  test('a certificate of the serving authority does not log in', async () => {
    const { certPem, keyPem } = world.control.servingCertificate(['system:masters'], ['127.0.0.1']);
    expect((await over(tls({ certPem, keyPem }), 'GET', '/api/v1/namespaces')).status).toBe(401);
  });
  test('identity headers of front proxies mean nothing', async () => {
    expect((await over(tls(), 'GET', '/api/v1/namespaces', { headers: { 'x-remote-user': 'admin', 'x-remote-group': 'system:masters' } })).status).toBe(401);
    expect((await over(tls(), 'GET', '/api/v1/namespaces', { headers: { 'impersonate-user': 'netloom-admin', 'impersonate-group': 'system:masters' } })).status).toBe(401);
  });
});

describe('browsers', () => {
  const raw = (headers: Record<string, string>): Promise<{ status: number; headers: Record<string, unknown> }> => new Promise((resolve, reject) => {
    httpsRequest({ host: '127.0.0.1', port: world.control.port, path: '/version', ca: world.control.caPem, headers, servername: 'localhost' }, (response) => { response.resume(); resolve({ status: response.statusCode ?? 0, headers: response.headers }); }).on('error', reject).end();
  });
  test('a foreign Host is refused: DNS rebinding', async () => { expect((await raw({ host: 'evil.example:6443' })).status).toBe(403); });
  test('a foreign Origin is refused and no CORS field is sent', async () => {
    const answer = await raw({ host: 'localhost', origin: 'https://evil.example' });
    expect(answer.status).toBe(403);
    expect(Object.keys(answer.headers).filter((name) => name.startsWith('access-control'))).toEqual([]);
  });
  test('own names and address literals pass', async () => {
    for (const host of ['localhost', '127.0.0.1:1', 'kubernetes.default.svc', '[::1]:6443']) expect((await raw({ host })).status).toBe(200);
  });
});

describe('RBAC', () => {
  const rules = (name: string, list: object[], kind = 'ClusterRole'): Promise<Answer> => world.call('POST', `/apis/rbac.authorization.k8s.io/v1/${kind === 'Role' ? 'namespaces/default/roles' : 'clusterroles'}`, { body: { apiVersion: 'rbac.authorization.k8s.io/v1', kind, metadata: { name }, rules: list } });
  const bind = (name: string, role: string, user: string, kind = 'ClusterRole', isCluster = false): Promise<Answer> => world.call('POST', `/apis/rbac.authorization.k8s.io/v1/${isCluster ? 'clusterrolebindings' : 'namespaces/default/rolebindings'}`, {
    body: { apiVersion: 'rbac.authorization.k8s.io/v1', kind: isCluster ? 'ClusterRoleBinding' : 'RoleBinding', metadata: { name }, roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind, name: role }, subjects: [{ kind: 'User', apiGroup: 'rbac.authorization.k8s.io', name: user }] },
  });
  test('nothing is allowed by default, and the refusal says what was asked', async () => {
    const answer = await world.call('GET', '/api/v1/namespaces/default/services/web', {}, world.as('nobody'));
    expect(answer.status).toBe(403);
    expect(answer.json.message).toBe('services "web" is forbidden: User "nobody" cannot get resource "services" in API group "" in the namespace "default"');
  });
  test('everybody who is known may discover and ask for own rights', async () => {
    const nobody = world.as('nobody');
    expect((await world.call('GET', '/api', {}, nobody)).status).toBe(200);
    const review = await world.call('POST', '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews', { body: { apiVersion: 'authorization.k8s.io/v1', kind: 'SelfSubjectAccessReview', spec: { resourceAttributes: { verb: 'get', resource: 'pods' } } } }, nobody);
    expect(review.json.status.allowed).toBe(false);
  });
  test('get alone gives neither list nor watch', async () => {
    await rules('only-get', [{ apiGroups: [''], resources: ['services'], verbs: ['get'] }]);
    await bind('only-get', 'only-get', 'getter');
    const getter = world.as('getter');
    expect((await world.call('GET', '/api/v1/namespaces/default/services/kubernetes', {}, getter)).status).toBe(200);
    expect((await world.call('GET', '/api/v1/namespaces/default/services', {}, getter)).status).toBe(403);
    expect((await world.call('GET', '/api/v1/namespaces/default/services?watch=true', {}, getter)).status).toBe(403);
    expect((await world.call('GET', '/api/v1/namespaces/kube-system/services/kube-dns', {}, getter)).status).toBe(403);
  });
  test('status and spec are separate rights', async () => {
    await rules('spec-only', [{ apiGroups: [''], resources: ['services'], verbs: ['*'] }]);
    await bind('spec-only', 'spec-only', 'speccer');
    const speccer = world.as('speccer');
    expect((await world.call('POST', '/api/v1/namespaces/default/services', { body: service('rbac-a') }, speccer)).status).toBe(201);
    expect((await world.call('PATCH', '/api/v1/namespaces/default/services/rbac-a/status', { body: { status: {} }, contentType: 'application/merge-patch+json' }, speccer)).status).toBe(403);
  });
  test('names narrow a rule, also for lists of one name', async () => {
    await rules('one-name', [{ apiGroups: [''], resources: ['configmaps'], resourceNames: ['mine'], verbs: ['get', 'list', 'watch'] }]);
    await bind('one-name', 'one-name', 'narrow');
    const narrow = world.as('narrow');
    expect((await world.call('GET', '/api/v1/namespaces/default/configmaps/other', {}, narrow)).status).toBe(403);
    expect((await world.call('GET', '/api/v1/namespaces/default/configmaps?fieldSelector=metadata.name%3Dmine', {}, narrow)).status).toBe(200);
    expect((await world.call('GET', '/api/v1/namespaces/default/configmaps', {}, narrow)).status).toBe(403);
  });
  test('a change of a binding takes effect at once', async () => {
    const late = world.as('late');
    expect((await world.call('GET', '/api/v1/namespaces/default/pods', {}, late)).status).toBe(403);
    await bind('late', 'view', 'late');
    expect((await world.call('GET', '/api/v1/namespaces/default/pods', {}, late)).status).toBe(200);
    await world.call('DELETE', '/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings/late');
    expect((await world.call('GET', '/api/v1/namespaces/default/pods', {}, late)).status).toBe(403);
  });
  test('view does not read Secrets, edit writes no EndpointSlices, admin makes roles', async () => {
    await bind('viewer', 'view', 'viewer');
    await bind('editor', 'edit', 'editor');
    await bind('admin', 'admin', 'local-admin');
    expect((await world.call('GET', '/api/v1/namespaces/default/secrets', {}, world.as('viewer'))).status).toBe(403);
    expect((await world.call('POST', '/apis/discovery.k8s.io/v1/namespaces/default/endpointslices', { body: { metadata: { name: 's' }, addressType: 'IPv4', endpoints: [] } }, world.as('editor'))).status).toBe(403);
    expect((await world.call('POST', '/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles', { body: { metadata: { name: 'r' }, rules: [] } }, world.as('local-admin'))).status).toBe(201);
  });
  test('nobody can hand out rights that they do not have', async () => {
    const admin = world.as('local-admin');
    const role = await world.call('POST', '/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles', { body: { metadata: { name: 'too-much' }, rules: [{ apiGroups: ['*'], resources: ['*'], verbs: ['*'] }] } }, admin);
    expect(role.status).toBe(403);
    const binding = await world.call('POST', '/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings', {
      body: { metadata: { name: 'too-much' }, roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'cluster-admin' }, subjects: [{ kind: 'User', name: 'local-admin' }] },
    }, admin);
    expect(binding.status).toBe(403);
  });
});

describe('nodes', () => {
  test('a node writes its own Node and Lease and no other', async () => {
    const a = world.as('system:node:a', ['system:nodes']);
    for (const name of ['a', 'b']) expect((await world.call('POST', '/api/v1/nodes', { body: { metadata: { name } } })).status).toBe(201);
    const patch = { body: { metadata: { labels: { x: 'y' } } }, contentType: 'application/merge-patch+json' };
    expect((await world.call('PATCH', '/api/v1/nodes/a', patch, a)).status).toBe(200);
    expect((await world.call('PATCH', '/api/v1/nodes/b', patch, a)).status).toBe(403);
    expect((await world.call('PATCH', '/api/v1/nodes/b/status', patch, a)).status).toBe(403);
  });
  test('a node reads only Secrets that its Pods or Ingresses name', async () => {
    const a = world.as('system:node:a', ['system:nodes']);
    await world.call('POST', '/api/v1/namespaces/default/secrets', { body: { metadata: { name: 'used' } } });
    await world.call('POST', '/api/v1/namespaces/default/secrets', { body: { metadata: { name: 'unrelated' } } });
    await world.call('POST', '/api/v1/namespaces/default/pods', { body: pod('on-a', { nodeName: 'a', volumes: [{ name: 'v', secret: { secretName: 'used' } }] }) });
    const read = async (name: string): Promise<number> => (await world.call('GET', `/api/v1/namespaces/default/secrets/${name}`, {}, a)).status;
    expect([await read('used'), await read('unrelated')]).toEqual([200, 403]);
    expect((await world.call('GET', '/api/v1/secrets', {}, a)).status).toBe(403);
  });
  test('a node cannot make Pods, change Services or act on Pods of others', async () => {
    const b = world.as('system:node:b', ['system:nodes']);
    expect((await world.call('POST', '/api/v1/namespaces/default/pods', { body: pod('by-b') }, b)).status).toBe(403);
    expect((await world.call('DELETE', '/api/v1/namespaces/default/services/kubernetes', {}, b)).status).toBe(403);
    expect((await world.call('PATCH', '/api/v1/namespaces/default/pods/on-a/status', { body: { status: { phase: 'Failed' } }, contentType: 'application/merge-patch+json' }, b)).status).toBe(403);
  });
  test('a node name without the group of nodes is an ordinary user', async () => {
    expect((await world.call('GET', '/api/v1/services', {}, world.as('system:node:a'))).status).toBe(403);
  });
});

describe('joining', () => {
  test('a token and the CA hash in it give a node its credentials', async () => {
    const token = await world.control.createJoinToken();
    const answer = await joinCluster({ server: world.control.url, token, nodeName: 'host-1', addresses: ['127.0.0.1'] });
    expect(answer.cluster.dnsServiceIP).toBe('10.96.0.10');
    const who = await over(tls({ certPem: answer.certPem, keyPem: answer.keyPem }), 'POST', '/apis/authentication.k8s.io/v1/selfsubjectreviews', { body: {} });
    expect(who.json.status.userInfo).toMatchObject({ username: 'system:node:host-1', groups: ['system:nodes', 'system:authenticated'] });
  });
  test('the token does nothing else, and its secret is stored as a hash only', async () => {
    const token = await world.control.createJoinToken();
    expect((await over(tls({ token }), 'GET', '/api/v1/namespaces')).status).toBe(403);
    const secrets = await world.call('GET', '/api/v1/namespaces/kube-system/secrets');
    expect(secrets.text).not.toContain(Buffer.from(token.split('.')[1] ?? '').toString('base64').slice(0, 40));
  });
  test('a wrong CA hash stops the node before it sends the token', async () => {
    const [id, half] = (await world.control.createJoinToken()).split('.');
    await expect(joinCluster({ server: world.control.url, token: `${id}.${half}.${'0'.repeat(64)}`, nodeName: 'x', addresses: [] })).rejects.toMatchObject({ code: 'ConfigInvalid' });
  });
  test('a deleted token is worth nothing', async () => {
    const token = await world.control.createJoinToken();
    await world.call('DELETE', `/api/v1/namespaces/kube-system/secrets/bootstrap-token-${token.split('.')[0]}`);
    await expect(joinCluster({ server: world.control.url, token, nodeName: 'x', addresses: [] })).rejects.toMatchObject({ code: 'Unauthorized' });
  });
  test('the name of a node that is alive is not given away', async () => {
    await world.call('POST', '/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases', { body: { metadata: { name: 'alive' }, spec: { holderIdentity: 'alive', leaseDurationSeconds: 40, renewTime: new Date().toISOString().replace('Z', '000Z') } } });
    await expect(joinCluster({ server: world.control.url, token: await world.control.createJoinToken(), nodeName: 'alive', addresses: [] })).rejects.toMatchObject({ code: 'Conflict' });
  });
});

describe('signing requests', () => {
  const csr = (subject: string): string => {
    execFileSync('openssl', ['req', '-new', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', `${world.folder}/csr.key`, '-out', `${world.folder}/csr.pem`, '-subj', subject], { stdio: 'ignore' });
    return execFileSync('base64', ['-w0', `${world.folder}/csr.pem`]).toString();
  };
  const make = (name: string, subject: string, signerName: string): Promise<Answer> => world.call('POST', '/apis/certificates.k8s.io/v1/certificatesigningrequests', { body: { metadata: { name }, spec: { request: csr(subject), signerName, usages: ['client auth'], username: 'forged' } } });
  test('an approved request gets a certificate that logs in', async () => {
    const made = await make('bob', '/CN=bob/O=dev', 'kubernetes.io/kube-apiserver-client');
    expect(made.json.spec.username).toBe('netloom-admin');
    expect((await world.kubectl('certificate approve bob')).code).toBe(0);
    let certificate = '';
    await until('a certificate', async () => { certificate = (await world.call('GET', '/apis/certificates.k8s.io/v1/certificatesigningrequests/bob')).json.status.certificate ?? ''; return certificate !== ''; });
    const who = await over(tls({ certPem: Buffer.from(certificate, 'base64').toString(), keyPem: readFileSync(`${world.folder}/csr.key`, 'utf8') }), 'POST', '/apis/authentication.k8s.io/v1/selfsubjectreviews', { body: {} });
    expect(who.json.status.userInfo.username).toBe('bob');
  });
  test('the group of masters is never signed', async () => {
    await make('root', '/CN=root/O=system:masters', 'kubernetes.io/kube-apiserver-client');
    await world.kubectl('certificate approve root');
    let status: { certificate?: string; conditions: { type: string }[] } = { conditions: [] };
    await until('a verdict', async () => { status = (await world.call('GET', '/apis/certificates.k8s.io/v1/certificatesigningrequests/root')).json.status; return status.conditions.length > 1; });
    expect(status.certificate).toBeUndefined();
    expect(status.conditions.map((condition) => condition.type)).toEqual(['Approved', 'Failed']);
  });
});
