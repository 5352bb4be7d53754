// Every flow of the table against the packet tracer: planned elements and program text, without a kernel.

import { beforeAll, describe, expect, test } from 'vitest';
import { TracerEngine } from '../lib/flow-engine.ts';
import { checkFlow } from '../lib/check-flow.ts';
import { flows, worlds } from './flows.cases.ts';

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
