// Micro benchmarks of proxy/balance and proxy/topology: the endpoint of one connection, and the candidates of a Service.

import { joinService } from '../../../api/services.ts';
import { createEndpoint, pickByHash, pickEndpoint, type BalancedEndpoint } from '../../../proxy/balance.ts';
import { selectEndpoints } from '../../../proxy/topology.ts';
import type { EndpointSlice } from '../../../api/types.ts';
import { makeService, makeSlice } from '../../lib/world.ts';
import type { MicroBench } from '../../lib/micro.ts';

const endpoints = (count: number): BalancedEndpoint[] => Array.from({ length: count }, (_, index) => createEndpoint(`10.0.${index >> 8}.${index & 255}`, 8080));

/** The same numbers in every run. */
function makeRandom(): () => number {
  let state = 1;
  return () => { state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0; return state / 4_294_967_296; };
}

function picks(count: number, more: (all: BalancedEndpoint[]) => void = () => {}): () => () => number {
  return () => {
    const all = endpoints(count);
    more(all);
    const random = makeRandom();
    return () => pickEndpoint(all, undefined, 0, random)?.port ?? 0;
  };
}

function selects(count: number, isHinted: boolean): () => () => number {
  return () => {
    const slice = makeSlice(1, Array.from({ length: count }, (_, index) => `10.1.${index >> 8}.${index & 255}`));
    if (isHinted) slice.endpoints = (slice.endpoints ?? []).map((item, index) => ({ ...item, hints: { forZones: [{ name: `z${index % 3}` }] } }));
    const info = joinService('bench/svc-1', makeService(1), new Map<string, EndpointSlice>([['s', slice]]));
    const port = info.ports[0];
    if (port === undefined) throw new Error('the Service has no port');
    return () => selectEndpoints(info, port, 'IPv4', { name: 'n1', zone: 'z1' }).cluster.length;
  };
}

export const benches: MicroBench[] = [
  { name: 'proxy/balance pick of 3', setup: picks(3) },
  { name: 'proxy/balance pick of 1,000', setup: picks(1_000) },
  { name: 'proxy/balance pick of 100, a tenth ejected', setup: picks(100, (all) => { for (let index = 0; index < 10; index++) (all[index] as BalancedEndpoint).ejectedUntilMs = 1; }) },
  { name: 'proxy/balance pick by client hash of 100', setup: () => { const all = endpoints(100); return () => pickByHash(all, '203.0.113.7', 0)?.port ?? 0; } },
  { name: 'proxy/topology select of 3', setup: selects(3, false) },
  { name: 'proxy/topology select of 1,000', setup: selects(1_000, false) },
  { name: 'proxy/topology select of 1,000 with zone hints', setup: selects(1_000, true) },
];
