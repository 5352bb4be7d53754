// Micro benchmarks of control/: what the API server does with one object, from the bytes of a body to the bytes of an
// answer. The store's own pieces are in storage.bench.ts.

import type { KubeObject } from '../../../api/types.ts';
import { applyDefaults } from '../../../control/defaults/defaults.ts';
import { serverSideApply } from '../../../control/patch/apply/managers.ts';
import { mergePatch } from '../../../control/patch/merge-patch.ts';
import { strategicMerge } from '../../../control/patch/strategic.ts';
import { decodeBody } from '../../../control/schema/decode.ts';
import { schemaFor } from '../../../control/schema/load.ts';
import { makeStored, StoredChange } from '../../../control/storage/stored.ts';
import { validateCreate } from '../../../control/validation/validate.ts';
import type { MicroBench } from '../../lib/micro.ts';

const service = {
  apiVersion: 'v1', kind: 'Service', metadata: { name: 'web', namespace: 'shop', uid: '6f0c6f62-8a57-4f29-9d0f-2f0f7a1d7d11', creationTimestamp: '2026-01-01T00:00:00Z', labels: { app: 'web', tier: 'front' } },
  spec: { selector: { app: 'web' }, ports: [{ name: 'http', protocol: 'TCP', port: 80, targetPort: 8080 }, { name: 'admin', protocol: 'TCP', port: 9090, targetPort: 9090 }], type: 'ClusterIP' },
} as unknown as KubeObject;
const deployment = {
  apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'web', namespace: 'shop', labels: { app: 'web' } },
  spec: { replicas: 3, selector: { matchLabels: { app: 'web' } }, template: { metadata: { labels: { app: 'web' } }, spec: { containers: [{ name: 'web', image: 'web:1', command: ['node', 'web.js'], ports: [{ name: 'http', containerPort: 8080, protocol: 'TCP' }], env: [{ name: 'A', value: '1' }, { name: 'B', value: '2' }] }, { name: 'side', image: 'side:1' }] } } },
} as unknown as KubeObject;
const copy = (object: KubeObject): KubeObject => structuredClone(object);

export const benches: MicroBench[] = [
  { name: 'control/schema decode a Service body, strict', setup: () => {
    const bytes = Buffer.from(JSON.stringify(service));
    return () => Object.keys(decodeBody(bytes, 'application/json', { strict: 'Strict' }).object).length;
  } },
  { name: 'control/schema decode, default and validate a Service body', setup: () => {
    const bytes = Buffer.from(JSON.stringify(service));
    return () => {
      const problems = validateCreate(applyDefaults(decodeBody(bytes, 'application/json', { strict: 'Strict' }).object));
      if (problems.length > 0) throw new Error(`the Service is refused: ${JSON.stringify(problems[0])}`);
      return bytes.length;
    };
  } },
  { name: 'control/patch strategic merge of one container of two', setup: () => {
    const schema = schemaFor('apps/v1', 'Deployment');
    const patch = { spec: { template: { spec: { containers: [{ name: 'web', image: 'web:2' }] } } } };
    return () => ((strategicMerge(deployment, patch, schema) as { spec: { template: { spec: { containers: unknown[] } } } }).spec.template.spec.containers.length);
  } },
  { name: 'control/patch merge patch of one label', setup: () => () => Object.keys((mergePatch(service, { metadata: { labels: { version: '2' } } }) as KubeObject).metadata.labels ?? {}).length },
  { name: 'control/patch server-side apply over a live Deployment', setup: () => {
    const schema = schemaFor('apps/v1', 'Deployment');
    const common = { schema, manager: 'bench', now: '2026-01-01T00:00:00Z', force: false };
    const live = serverSideApply({ ...common, live: undefined, applied: copy(deployment) }).object;
    const applied = copy(deployment);
    (applied as unknown as { spec: { replicas: number } }).spec.replicas = 4;
    return () => Number(serverSideApply({ ...common, live, applied }).isChanged);
  } },
  { name: 'control/storage encode a watch event, first watcher', setup: () => {
    let revision = 1;
    return () => new StoredChange('MODIFIED', 'services', makeStored('shop/web', revision++, service, 1 << 20, false), undefined, 0).line().length;
  } },
  { name: 'control/storage hand a watch event to 1,000 watchers', setup: () => {
    const event = new StoredChange('MODIFIED', 'services', makeStored('shop/web', 1, service, 1 << 20, false), undefined, 0);
    return () => { let bytes = 0; for (let index = 0; index < 1_000; index++) bytes += event.line().length; return bytes; };
  } },
];
