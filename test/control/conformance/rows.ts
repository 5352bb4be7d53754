// Rows of kubectl commands: each runs, must succeed (or fail), and must print what it should. Shared by the conformance files.

import { expect, test } from 'vitest';
import type { StartOptions } from '../../../control/start.ts';
import { startWorld, until, type KubectlResult, type World } from '../server/harness.ts';

/** [command, what the output must match, stdin]; a leading `!` means that it must fail. */
export type Row = readonly [string, (RegExp | string)?, string?];

export const webYaml = `
apiVersion: v1
kind: Service
metadata: {name: web, labels: {app: web}}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}, {name: metrics, port: 9090}]}
`;

/** A world whose controllers have made what every namespace has. */
export async function startConformanceWorld(options: StartOptions = {}): Promise<World> {
  const world = await startWorld(options);
  await world.control.whenReady();
  await until('the default service account', async () => (await world.call('GET', '/api/v1/namespaces/default/serviceaccounts/default')).status === 200);
  return world;
}

/** The helpers of one file, bound to its world. */
export function bind(world: () => World): { ok: (args: string, stdin?: string) => Promise<string>; fails: (args: string, stdin?: string) => Promise<KubectlResult>; rows: (title: string, list: readonly Row[]) => void } {
  const ok = async (args: string, stdin?: string): Promise<string> => {
    const result = await world().kubectl(args, stdin === undefined ? {} : { stdin });
    expect(result.code, `kubectl ${args}\n${result.all}`).toBe(0);
    return result.all;
  };
  const fails = async (args: string, stdin?: string): Promise<KubectlResult> => {
    const result = await world().kubectl(args, stdin === undefined ? {} : { stdin });
    expect(result.code, `kubectl ${args} should fail\n${result.all}`).not.toBe(0);
    return result;
  };
  const rows = (title: string, list: readonly Row[]): void => {
    test(title, async () => {
      for (const [command, wanted, stdin] of list) {
        const out = command.startsWith('!') ? (await fails(command.slice(1), stdin)).all : await ok(command, stdin);
        if (wanted !== undefined) expect(out, `kubectl ${command}`).toMatch(wanted);
      }
    });
  };
  return { ok, fails, rows };
}
