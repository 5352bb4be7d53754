// The slower ways into the kernel (`nft -i`, `nft -f -`) give the same rules as the fast one: the main world's flows,
// adoption by `nft -f -`, a vanishing table with `nft -i`, and isolation of a bad Service by bisection.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { service, slice } from '../lib/builders.ts';
import { checkFlow } from '../lib/check-flow.ts';
import { isRoot } from '../lib/command.ts';
import type { Flow, FlowOutcome } from '../lib/flow-engine.ts';
import { KernelEngine } from '../lib/kernel-flow-engine.ts';
import { waitFor } from '../lib/wait-for.ts';
import { flows, worlds } from './flows.cases.ts';

for (const mechanism of ['nft-interactive', 'nft-file'] as const) {
  describe.skipIf(!isRoot)(mechanism, () => {
    const engine = new KernelEngine(mechanism);
    const { node, pod } = engine.network.hosts;
    const selected = flows.filter((flow) => flow.world === 'main' && flow.protocol !== 'SCTP' && flow.expect.failure === undefined);
    let outcomes = new Map<Flow, FlowOutcome>();
    beforeAll(async () => {
      const world = worlds.find((item) => item.name === 'main');
      if (world !== undefined) await engine.start(world);
      outcomes = await engine.runAll(selected);
    });
    afterAll(() => engine.stop());

    test('all flows of the main world that are served', () => {
      for (const flow of selected) { const outcome = outcomes.get(flow); expect(outcome, flow.name).toBeDefined(); if (outcome !== undefined) checkFlow(flow, outcome); }
    });

    test('the kernel holds exactly the plan, read back through nft', async () => {
      expect(await node.ask<number>({ do: 'differences' })).toBe(0);
      expect(JSON.stringify(await node.ask({ do: 'health' }))).toContain(mechanism === 'nft-file' ? 'nft -f' : 'nft -i');
    });

    test('a change is one transaction and takes effect', async () => {
      await node.ask({ do: 'apply', objects: [slice('ns1/s1', [{ addresses: ['10.244.1.3'], nodeName: 'n1', conditions: { ready: true } }])] });
      const [answer] = await pod.connect([{ protocol: 'TCP', to: '10.96.0.1', port: 80, timeoutMs: 2000 }]);
      expect(answer?.answer).toMatch(/^10\.244\.1\.3 /);
    });

    test('the end of the process', async () => {
      await node.kill('SIGKILL');
      if (mechanism === 'nft-interactive') await waitFor(() => !node.exec('nft', 'list', 'tables').includes('netloom'));
      else expect(node.exec('nft', 'list', 'tables')).toContain('netloom');
      await node.start();
      await node.ask({ do: 'apply', objects: [service('ns1/s1', { clusterIP: '10.96.0.1' }), slice('ns1/s1', [{ addresses: ['10.244.1.2'], nodeName: 'n1', conditions: { ready: true } }])] });
      await node.ask({ do: 'proxy', options: { nodeName: 'n1', nodeIPs: ['192.168.0.1'], mode: 'nftables', nftMechanism: mechanism, bind: '0.0.0.0', isOwnedTableVanishing: true } });
      expect(await node.ask<number>({ do: 'differences' })).toBe(0);
      const [answer] = await pod.connect([{ protocol: 'TCP', to: '10.96.0.1', port: 80, timeoutMs: 2000 }]);
      expect(answer?.answer).toMatch(/^10\.244\.1\.2 /);
    });
  });
}
