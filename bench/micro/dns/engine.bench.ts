// Micro benchmarks of dns: reading a query, and query → reply for the shapes that clients ask most, from a zone of 1,000
// Services. Sockets are left out: the rows dns-* have them.

import { systemClock } from '../../../api/clock.ts';
import { silentLog } from '../../../api/log.ts';
import { Counters } from '../../../dns/counters.ts';
import { AddressList, defaultAllowFrom, RateLimiter } from '../../../dns/engine/access.ts';
import { Engine, type Origin } from '../../../dns/engine/engine.ts';
import { HostTable } from '../../../dns/engine/hosts.ts';
import { SlowPath } from '../../../dns/engine/slow-path.ts';
import { TopNames } from '../../../dns/engine/top-names.ts';
import { Transfer } from '../../../dns/engine/transfer.ts';
import { planService } from '../../../dns/feed/plan.ts';
import { Forwarder } from '../../../dns/forward/forwarder.ts';
import { CookieJar } from '../../../dns/wire/cookies.ts';
import { nameKey } from '../../../dns/wire/names.ts';
import { parseQuery, Query } from '../../../dns/wire/query.ts';
import { Zone } from '../../../dns/zone/zone.ts';
import { encodeQuery } from '../../lib/dns-client.ts';
import type { MicroBench } from '../../lib/micro.ts';
import { makeService, World } from '../../lib/world.ts';

const origin: Origin = { transport: 'udp', address: '127.0.0.1', port: 5353, reply: () => {}, hold: () => origin };

function makeEngine(): Engine {
  const world = new World(1_000);
  const headless = makeService(0, 'None');
  world.services.apply(headless);
  const zone = new Zone({ zoneKey: nameKey('cluster.local') ?? '', ttlSeconds: 5, podsMode: 'disabled', isZonal: false, ownAddresses: ['10.96.0.10'] });
  zone.apply({ type: 'namespaces', set: ['bench'], gone: [] });
  zone.apply({ type: 'services', set: [...world.view.values()].map(planService).filter((records) => records !== undefined), gone: [] });
  zone.apply({ type: 'state', isSynced: true, staleSinceMs: 0, serial: 1 });
  const forwarder = new Forwarder({ upstreams: [], stubDomains: new Map(), isStaleServed: true, clock: systemClock, log: silentLog, isAddressBlocked: undefined });
  const recursionFrom = new AddressList(defaultAllowFrom);
  const slowPath = new SlowPath({ zone, forwarder, hosts: new HostTable([]), recursionFrom, hostSearch: [], isAutopathOn: false, onSearchWaste: () => {}, onAutopath: () => {}, monotonicMs: () => systemClock.monotonicMs() });
  return new Engine({ zone, slowPath, transfer: new Transfer(zone, new AddressList([])), cookies: new CookieJar(new Uint8Array(16)), limiter: new RateLimiter(100), trusted: recursionFrom, counters: new Counters(), topNames: new TopNames(), isRecursive: false, clock: systemClock, log: silentLog });
}

function answers(name: string, question: string, type: number, rcode: number, records: number): MicroBench {
  return { name: `dns/engine ${name}`, setup: () => {
    const engine = makeEngine();
    const message = encodeQuery(question, type, 1);
    const first = engine.handle(message, origin);
    if (first === undefined || ((first[3] ?? 0) & 15) !== rcode || first.readUInt16BE(6) !== records) throw new Error(`${question} is answered wrongly: rcode ${(first?.[3] ?? 0) & 15}, ${first?.readUInt16BE(6)} records`);
    return () => engine.handle(message, origin)?.length ?? 0;
  } };
}

export const benches: MicroBench[] = [
  { name: 'dns/wire read a query', setup: () => {
    const message = encodeQuery('svc-7.bench.svc.cluster.local', 1, 1);
    const query = new Query();
    return () => { if (parseQuery(message, message.length, query) !== 0) throw new Error('the query was refused'); return query.qtype; };
  } },
  answers('A of a ClusterIP', 'svc-7.bench.svc.cluster.local', 1, 0, 1),
  answers('SRV of a named port', '_http._tcp.svc-7.bench.svc.cluster.local', 33, 0, 1),
  answers('A of a headless Service of 3', 'svc-0.bench.svc.cluster.local', 1, 0, 3),
  answers('NXDOMAIN', 'none.bench.svc.cluster.local', 1, 3, 0),
];
