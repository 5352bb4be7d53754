// The kernel engine at 10 to 30,000 Services of three endpoints: full sync from cold, one change, new connections beside
// direct ones, and the same beside the layout with a chain per Service and endpoint. And churn: changes per second, with
// the kernel equal to the plan at the end. All in fresh network namespaces.

import { availableParallelism } from 'node:os';
import { missingKernel, runProgram } from '../lib/namespace.ts';
import type { SystemContext, SystemRow } from '../system-rows.ts';
import { endpointIP } from './programs/kernel-bed.ts';

interface Point { size: number; fullSyncMs: number; elements: number; bare: number; service: number; direct: number; changeP50: number; changeP99: number }
interface ChainPoint { size: number; loadMs: number; service: number; direct: number; changeP50: number }

export const kernelScaleRow: SystemRow = {
  name: 'kernel-scale', title: 'Kernel Services × 3 endpoints: sync, change, new connections', isHeavy: false,
  goal: 'full sync of 10,000 <= 2 s, of 30,000 <= 6 s; one change at 10,000 p99 <= 2 ms; new connections within 15 % of direct and flat from 1 to 30,000 Services',
  missing: missingKernel,
  async measure(context: SystemContext) {
    const { isSmoke, isQuick } = context;
    const input = { changeCount: isSmoke ? 3 : isQuick ? 50 : 150, connectMs: isSmoke ? 100 : isQuick ? 200 : 400, rounds: isSmoke ? 1 : isQuick ? 1 : 3, core: loadCore() };
    const values: Record<string, string> = {};
    const points = await runProgram<Point[]>('kernel-probe.ts', { addresses: [endpointIP], timeoutMs: 180_000, input: { ...input, sizes: isSmoke ? [20] : isQuick ? [10, 1_000, 10_000] : [10, 1_000, 10_000, 30_000] } });
    for (const point of points) {
      const name = point.size.toLocaleString('en');
      values[`${name}: full sync ms`] = point.fullSyncMs.toFixed(0);
      values[`${name}: one change p50 / p99 ms`] = `${point.changeP50.toFixed(2)} / ${point.changeP99.toFixed(2)}`;
      values[`${name}: new connections/s`] = shares(point.service, { direct: point.direct, 'no rules at all': point.bare });
    }
    const chains = await runProgram<ChainPoint[]>('chains-probe.ts', { addresses: [endpointIP], timeoutMs: 180_000, input: { ...input, changeCount: Math.min(10, input.changeCount), sizes: isSmoke ? [20] : isQuick ? [1_000] : [1_000, 4_000] } });
    for (const point of chains) {
      const name = `chain per Service and endpoint, ${point.size.toLocaleString('en')}`;
      values[`${name}: load ms`] = point.loadMs.toFixed(0);
      values[`${name}: one change by nft p50 ms`] = point.changeP50.toFixed(1);
      values[`${name}: new connections/s`] = shares(point.service, { direct: point.direct });
    }
    return values;
  },
};

function shares(rate: number, others: Record<string, number>): string {
  return [rate.toFixed(0), ...Object.entries(others).map(([name, other]) => `${((rate / other) * 100).toFixed(0)} % of ${name}`)].join(', ');
}

interface Churn { atRate: number; settleMs: number; flatOut: number; differences: number; failures: number; connectionsPerSecond: number }

export const churnRow: SystemRow = {
  name: 'churn', title: 'Kernel endpoint churn over 1,000 Services', isHeavy: false,
  goal: '500 changes per second applied, no failed connection, the kernel equal to the plan at the end',
  missing: missingKernel,
  async measure(context: SystemContext) {
    const seconds = context.isSmoke ? 0.5 : context.isQuick ? 2 : 6;
    const churn = await runProgram<Churn>('churn-probe.ts', { addresses: [endpointIP], timeoutMs: 60_000, input: { serviceCount: context.isSmoke ? 50 : 1_000, perSecond: 500, seconds, core: loadCore() } });
    if (churn.differences > 0 || churn.failures > 0) throw new Error(`${churn.differences} elements of the kernel differ from the plan, ${churn.failures} Services failed`);
    return { 'changes/s at a rate of 500': churn.atRate.toFixed(0), 'applied after the last ms': churn.settleMs.toFixed(1), 'changes/s flat out': churn.flatOut.toFixed(0), 'new connections/s meanwhile, none failed': churn.connectionsPerSecond.toFixed(0), 'elements that differ at the end': 0 };
  },
};

function loadCore(): number { return availableParallelism() > 1 ? 1 : 0; }
