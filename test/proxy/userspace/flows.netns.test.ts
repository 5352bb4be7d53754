// The flow table against the userspace engine, in network namespaces. What a process cannot do is left out for all
// flows: endpoints see the proxy's address instead of the client's, and a drop is a refusal.

import { afterAll, beforeAll, describe, test } from 'vitest';
import { checkFlow } from '../../lib/check-flow.ts';
import { isRoot } from '../../lib/command.ts';
import type { Flow, FlowOutcome } from '../../lib/flow-engine.ts';
import { UserspaceEngine } from '../../lib/userspace-flow-engine.ts';
import { flows, worlds } from '../flows.cases.ts';

/** Flows that this engine answers differently, with the reason. */
const deviations: Readonly<Record<string, string>> = {
  'SCTP Service': 'Node has no SCTP sockets',
  'SCTP to a TCP port: refused': 'Node has no SCTP sockets',
  'no NodePort on 127.0.0.1': 'a listener on all addresses includes loopback, as users of localhost wish',
  'loopback endpoint is never used': 'loopback is where rootless Pods and exposed listeners live',
};
const selectedWorlds = ['main', 'bind loopback', 'bind address', 'primary', 'listed'];

for (const world of worlds.filter((each) => selectedWorlds.includes(each.name))) {
  describe.skipIf(!isRoot)(`userspace, ${world.name}`, () => {
    const engine = new UserspaceEngine();
    const outcomes = new Map<Flow, FlowOutcome>();
    const selected = flows.filter((flow) => flow.world === world.name && !(flow.name in deviations));
    beforeAll(async () => {
      await engine.start(world);
      // A few at a time: all at once, a busy machine makes connects look like refusals.
      const queue = selected.values();
      await Promise.all(Array.from({ length: 8 }, async () => { for (const flow of queue) outcomes.set(flow, await engine.run(flow)); }));
    });
    afterAll(() => engine.stop());
    for (const flow of selected) {
      test(flow.name, () => {
        const outcome = outcomes.get(flow);
        if (outcome === undefined) throw new Error('the flow did not run');
        const { source: _source, ...wanted } = flow.expect;
        checkFlow({ ...flow, expect: wanted.failure === undefined ? wanted : { failure: 'unserved' } }, outcome);
      });
    }
  });
}
