// Older and newer kubectl, and streaming lists: the daily commands with each program that is installed.

import { existsSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { World } from '../server/harness.ts';
import { startConformanceWorld, webYaml } from './rows.ts';

let world: World;
beforeAll(async () => { world = await startConformanceWorld(); });
afterAll(() => world.stop());

const installed = [27, 29, 31, 33].map((minor) => ({ minor, binary: `/usr/lib/google-cloud-sdk/bin/kubectl.1.${minor}` })).filter(({ binary }) => existsSync(binary));

describe.skipIf(installed.length === 0)('kubectl of other versions', () => {
  for (const { minor, binary } of installed) {
    test(`1.${minor}: create, apply, get, describe, patch, wait, delete`, async () => {
      const run = async (args: string, stdin?: string): Promise<string> => {
        const result = await world.kubectl(args, { binary, ...(stdin === undefined ? {} : { stdin }) });
        expect(result.code, `kubectl.1.${minor} ${args}\n${result.all}`).toBe(0);
        return result.out;
      };
      const yaml = webYaml.replaceAll('web', `web-${minor}`);
      expect(await run('apply -f -', yaml)).toContain('created');
      expect(await run('apply -f -', yaml)).toContain('unchanged');
      expect(await run(`create service clusterip other-${minor} --tcp=80`)).toContain('created');
      expect(await run(`get svc web-${minor}`)).toMatch(/ClusterIP +10\.96\./);
      expect(await run(`describe svc web-${minor}`)).toContain('TargetPort');
      expect(await run(`label svc web-${minor} v=1`)).toContain('labeled');
      expect(await run('wait --for=jsonpath={.status.phase}=Active ns/default --timeout=5s')).toContain('met');
      expect(await run(`delete svc web-${minor} other-${minor}`)).toContain('deleted');
    });
  }
});

test('streaming lists: informers inside kubectl take one request for two', async () => {
  const env = { KUBE_FEATURE_WatchListClient: 'true' };
  expect((await world.kubectl('create configmap streamed', { env })).code).toBe(0);
  const waiting = world.kubectl('wait --for=delete cm/streamed --timeout=8s', { env });
  expect((await world.kubectl('delete cm streamed', { env })).out).toContain('deleted');
  expect((await waiting).code).toBe(0);
});
