// Micro benchmarks of ingress/table: the route of a request among 1, 100 and 10,000 routes, which must cost the same, and
// the compilation of 10,000 routes.

import { RouteTable } from '../../../ingress/table.ts';
import type { HostSpec, RouteSpec } from '../../../ingress/protocol.ts';
import type { MicroBench } from '../../lib/micro.ts';

const routesPerHost = 10;

function update(count: number): Parameters<RouteTable['apply']>[0] {
  const hosts: [string, HostSpec][] = [];
  for (let host = 0; host * routesPerHost < count; host++) {
    const routes: RouteSpec[] = Array.from({ length: Math.min(routesPerHost, count - host * routesPerHost) }, (_, index) => (
      { object: `shop/ingress-${host}`, rule: `host-${host}.example/part-${index}`, path: `/part-${index}/items`, type: 'Prefix', row: 0, backend: 'shop/web:80' }));
    hosts.push([`host-${host}.example`, { routes, object: `shop/ingress-${host}` }]);
  }
  return { type: 'update', isFull: true, generation: 1, hosts, backends: [['shop/web:80', { protocol: 'http', endpoints: [{ ip: '10.0.0.1', port: 8080 }] }]], workerCount: 1 };
}

/** Asks for 256 host and path pairs spread over all routes, made before, so that neither branch nor cache is the same each time. */
function matches(count: number): MicroBench {
  return { name: `ingress/table match among ${count.toLocaleString('en')} routes`, setup: () => {
    const table = new RouteTable();
    table.apply(update(count));
    const questions = Array.from({ length: 256 }, (_, number) => {
      const route = (number * 7919) % count;
      return [`host-${Math.floor(route / routesPerHost)}.example`, `/part-${route % routesPerHost}/items/42`] as const;
    });
    let next = 0;
    return () => {
      const [host, path] = questions[next++ & 255] as readonly [string, string];
      const route = table.match(host, path);
      if (route === undefined) throw new Error(`no route for ${host}${path}`);
      return 1;
    };
  } };
}

export const benches: MicroBench[] = [
  matches(1), matches(100), matches(10_000),
  { name: 'ingress/table miss among 10,000 routes', setup: () => { const table = new RouteTable(); table.apply(update(10_000)); return () => Number(table.match('none.example', '/part-1/items') === undefined); } },
  { name: 'ingress/table compile 10,000 routes', setup: () => { const all = update(10_000); return () => { const table = new RouteTable(); table.apply(all); return table.hostCount; }; } },
];
