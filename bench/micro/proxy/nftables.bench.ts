// Micro benchmarks of proxy/nftables without a kernel: the elements of one Service, and plan + diff of one change and of
// 1,000 changes beside 10,000 Services. The kernel's port is a stand-in that counts the operations.

import { silentLog } from '../../../api/log.ts';
import { joinService } from '../../../api/services.ts';
import type { ServicePlan } from '../../../proxy/backend.ts';
import { planElements, type ElementContext } from '../../../proxy/nftables/elements.ts';
import { FamilyEngine } from '../../../proxy/nftables/engine.ts';
import type { KernelPort } from '../../../proxy/nftables/port.ts';
import { planService } from '../../../proxy/plan.ts';
import { endpointAddress, makeService, makeSlice } from '../../lib/world.ts';
import type { MicroBench } from '../../lib/micro.ts';

const serviceCount = 10_000;

function planOf(index: number, count: number, turn: number): ServicePlan {
  const addresses = Array.from({ length: count }, (_, number) => (number === 0 && turn % 2 === 1 ? endpointAddress(index, 15) : endpointAddress(index, number)));
  const plan = planService(joinService(`bench/svc-${index}`, makeService(index), new Map([['s', makeSlice(index, addresses)]])), { name: 'n1' }, ['IPv4']);
  if (plan === undefined) throw new Error('the Service is not proxied');
  return plan;
}

const context: ElementContext = { family: 'IPv4', nodeName: 'n1', nodeIPs: [], previous: () => undefined, own: undefined, owns: () => true, poolOf: () => 1, timeoutClass: () => 1 };

function plansElements(count: number): MicroBench {
  return { name: `proxy/nftables elements of a Service with ${count} endpoints`, setup: () => {
    const { ports } = planOf(1, count, 0);
    return () => planElements(ports, context).elements.size;
  } };
}

interface Filled { engine: FamilyEngine; operationCount(): number }

async function filledEngine(): Promise<Filled> {
  let operationCount = 0;
  const port = {
    mechanism: 'none', open: () => Promise.resolve({ isAdopted: false, ownership: 'none' }), load: () => Promise.resolve(), timeouts: () => Promise.resolve(new Map()), generation: () => Promise.resolve(1), isIntact: () => Promise.resolve(true),
    counters: () => Promise.resolve([]), dump: () => Promise.resolve([]), remove: () => Promise.resolve(), close: () => Promise.resolve(),
    apply: (groups: readonly { deletes: readonly unknown[]; adds: readonly unknown[] }[]) => { for (const group of groups) operationCount += group.deletes.length + group.adds.length; return Promise.resolve({ isApplied: true, failed: [], reason: '' }); },
  } as unknown as KernelPort;
  const engine = new FamilyEngine({ port, ownership: 'none', nodeName: 'n1', nodeIPs: [], log: silentLog, program: { family: 'IPv4', serviceCIDRs: [], localClients: undefined, nodePorts: 'all', isMasqueradeAll: false, isExternalServed: true } });
  await engine.start();
  await engine.sync({ isFull: true, services: new Map(Array.from({ length: serviceCount }, (_, index) => [`bench/svc-${index}`, planOf(index, 3, 0)])), planOf: () => undefined });
  return { engine, operationCount: () => operationCount };
}

/** One endpoint of `count` Services is replaced, from the raw objects to the operations. */
function syncs(count: number): MicroBench {
  return { name: `proxy/nftables plan and diff of ${count} changes of ${serviceCount}`, isAsync: true, setup: () => {
    let filled: Promise<Filled> | undefined;
    let turn = 0;
    return async () => {
      const { engine, operationCount } = await (filled ??= filledEngine());
      turn += 1;
      const before = operationCount();
      await engine.sync({ isFull: false, services: new Map(Array.from({ length: count }, (_, index) => [`bench/svc-${index}`, planOf(index, 3, turn)])), planOf: (key) => planOf(Number(key.slice(10)), 3, turn) });
      return operationCount() - before;
    };
  } };
}

export const benches: MicroBench[] = [plansElements(3), plansElements(100), syncs(1), syncs(1_000)];
