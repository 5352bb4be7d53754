// Every flow of the table against the packet tracer: planned elements and program text, without a kernel.

import { beforeAll, describe, expect, test } from 'vitest';
import { TracerEngine } from '../lib/flow-engine.ts';
import type { Flow, FlowOutcome } from '../lib/flow-engine.ts';
import { endpointAddresses, flows, worlds } from './flows.cases.ts';

/** Letters of the table as the engine reports them: 'ip port'. */
function addressOf(letter: string): string {
  const [name = '', port = '8080'] = letter.split(':');
  return `${endpointAddresses[name]} ${port}`;
}

/** Compares one outcome with the table; shared with the kernel run. */
export function checkFlow(flow: Flow, outcome: FlowOutcome): void {
  const wanted = flow.expect;
  if (wanted.failure !== undefined) {
    expect({ failure: outcome.failure, reached: [...outcome.reached] }).toEqual({ failure: wanted.failure, reached: [] });
    return;
  }
  const allowed = (wanted.reach ?? []).map(addressOf).sort();
  expect(outcome.failure).toBeUndefined();
  if (wanted.isSticky === true) {
    expect(outcome.reached.size).toBe(1);
    expect(allowed).toContain([...outcome.reached][0]);
  } else expect([...outcome.reached].sort()).toEqual(allowed);
  if (wanted.source !== undefined) expect([...outcome.sources]).toEqual([wanted.source]);
}

test('the table has at least 120 flows with names of their own', () => {
  expect(flows.length).toBeGreaterThanOrEqual(120);
  expect(new Set(flows.map((flow) => flow.name)).size).toBe(flows.length);
});

for (const world of worlds) {
  describe(`tracer, ${world.name}`, () => {
    const engine = new TracerEngine();
    beforeAll(() => engine.start(world));
    for (const flow of flows.filter((item) => item.world === world.name)) {
      test(flow.name, async () => { checkFlow(flow, await engine.run(flow)); });
    }
  });
}
