// kubectl 1.32 sends protobuf where 1.31 sends JSON for the same command: both bodies must decode to the same object. This checks the
// table of field numbers against real clients without any reference data.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { applyDefaults } from '../../../control/defaults/defaults.ts';
import { decodeBody } from '../../../control/schema/decode.ts';
import { hasTool } from '../../lib/command.ts';
import type { FakeApi } from './fake-api.ts';
import { startFakeApi } from './fake-api.ts';

const commands: string[][] = [
  ['create', 'service', 'clusterip', 'web', '--tcp=80:8080', '--tcp=443:https'],
  ['create', 'service', 'nodeport', 'web', '--tcp=80:8080', '--node-port=30080'],
  ['create', 'service', 'loadbalancer', 'web', '--tcp=80'],
  ['create', 'service', 'externalname', 'web', '--external-name=example.com'],
  ['create', 'service', 'clusterip', 'web', '--clusterip=None'],
  ['create', 'ingress', 'web', '--class=netloom', '--rule=a.test/x*=web:80,tls=secret', '--rule=/=web:http', '--annotation=a=b'],
  ['create', 'configmap', 'c', '--from-literal=a=1', '--from-literal=b='],
  ['create', 'secret', 'generic', 's', '--from-literal=a=1', '--type=x/y'],
  ['create', 'secret', 'docker-registry', 's', '--docker-username=u', '--docker-password=p', '--docker-server=r'],
  ['create', 'namespace', 'n'],
  ['create', 'deployment', 'd', '--image=a', '--image=b:1', '--replicas=0'],
  ['create', 'deployment', 'd', '--image=a', '--port=80', '--', 'sleep', '1'],
  ['create', 'serviceaccount', 'a'],
  ['create', 'token', 'a', '--duration=10m', '--audience=x'],
  ['create', 'role', 'r', '--verb=get,list', '--resource=pods,deployments.apps'],
  ['create', 'clusterrole', 'r', '--verb=get', '--non-resource-url=/x'],
  ['create', 'clusterrole', 'r', '--aggregation-rule=a=b'],
  ['create', 'rolebinding', 'r', '--role=x', '--user=u', '--serviceaccount=n:a'],
  ['create', 'clusterrolebinding', 'r', '--clusterrole=x', '--group=g'],
  ['create', 'job', 'j', '--image=a', '--', 'echo'],
  ['create', 'cronjob', 'j', '--image=a', '--schedule=*/5 * * * *', '--restart=Never'],
  ['create', 'quota', 'q', '--hard=cpu=1,pods=2', '--scopes=BestEffort'],
  ['create', 'poddisruptionbudget', 'p', '--selector=a=b', '--min-available=50%'],
  ['create', 'priorityclass', 'p', '--value=1000', '--description=x', '--preemption-policy=Never'],
  ['auth', 'can-i', 'get', 'pods', '-n', 'x'],
];

describe.skipIf(!hasTool('kubectl'))('protobuf bodies of kubectl 1.32 equal the JSON bodies of 1.31', () => {
  let older: FakeApi;
  let newer: FakeApi;
  beforeAll(async () => { [older, newer] = await Promise.all([startFakeApi('31'), startFakeApi('32')]); });
  afterAll(async () => { await Promise.all([older.close(), newer.close()]); });

  test.each(commands.map((command) => [command.join(' '), command] as const))('%s', async (_name, command) => {
    const bodies = [];
    for (const api of [older, newer]) {
      api.writes.length = 0;
      const result = await api.kubectl([...command]);
      const write = api.writes[0];
      expect(write, result.stderr).toBeDefined();
      if (write !== undefined) bodies.push({ type: write.type, object: applyDefaults(decodeBody(write.body, write.type, { strict: 'Strict' }).object) });
    }
    expect(bodies[1]?.type).toBe('application/vnd.kubernetes.protobuf');
    expect(bodies[1]?.object).toEqual(bodies[0]?.object);
  });
});
