// Every flow of the table against the real kernel: the production proxier in a network namespace, clients and servers
// in others. Flows of one client run in parallel.

import { afterAll, beforeAll, describe, test } from 'vitest';
import { checkFlow } from '../lib/check-flow.ts';
import { isRoot } from '../lib/command.ts';
import type { Flow, FlowOutcome } from '../lib/flow-engine.ts';
import { KernelEngine } from '../lib/kernel-flow-engine.ts';
import { flows, worlds } from './flows.cases.ts';

/** Flows that this engine cannot show, with the reason. */
const deviations: Readonly<Record<string, string>> = {
  'SCTP Service': 'node:net has no SCTP sockets; shown by the tracer',
  'SCTP to a TCP port: refused': 'node:net has no SCTP sockets; shown by the tracer',
};

describe.skipIf(!isRoot)('kernel', () => {
  const engine = new KernelEngine();
  afterAll(() => engine.stop());
  for (const world of worlds) {
    describe(world.name, () => {
      let outcomes = new Map<Flow, FlowOutcome>();
      const selected = flows.filter((flow) => flow.world === world.name && !(flow.name in deviations));
      beforeAll(async () => {
        await engine.start(world);
        outcomes = await engine.runAll(selected);
      });
      for (const flow of selected) {
        test(flow.name, () => {
          const outcome = outcomes.get(flow);
          if (outcome === undefined) throw new Error('the flow did not run');
          checkFlow(flow, outcome);
        });
      }
    });
  }
});
